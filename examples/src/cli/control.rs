//! `--control`: JSON commands from standard input, one a line, each answered by `done` or `refused`.

use std::{
    io::{self, BufRead, Read},
    thread,
};

use serde::Deserialize;
use serde_json::Value;
use tokio::sync::mpsc;
use warp_blink::{
    Blink, Other,
    audio::{Processing, SinkSpec, SourceSpec},
    id::{CallId, PublicKey},
};

use super::{
    calls::{Calls, Stage, Which},
    failure::one_line,
    line::Line,
};

/// A longer line is refused: the longest command has a call, a peer and a path.
const MAX_LINE: usize = 16 * 1024;

/// Lines that wait; a writer that is faster waits in its pipe.
const MAX_WAITING: usize = 16;

/// What can be done.
const COMMANDS: &str = "accept, decline, cancel, hangup, leave, rejoin, invite, remove, hold, unhold, resume, mute, unmute, \
                        deafen, undeafen, camera, screen, recording, gain, record, stop-record, play, stop-play, input, output, processing, automute and snapshot";

/// A line of standard input, or why there is none.
pub(super) type Input = Result<String, String>;

/// Starts to read standard input. Ends with it; the program goes on.
pub(super) fn read() -> io::Result<mpsc::Receiver<Input>> {
    let (lines, queue) = mpsc::channel(MAX_WAITING);
    // A thread of its own: a read from a terminal cannot be interrupted, and must not keep the program from ending.
    thread::Builder::new().name("control".to_owned()).spawn(move || {
        let mut input = io::stdin().lock();
        while let Some(line) = next(&mut input).transpose() {
            let last = line.is_err();
            if lines.blocking_send(line.unwrap_or_else(|e| Err(e.to_string()))).is_err() || last {
                return;
            }
        }
    })?;
    Ok(queue)
}

/// The next line, `None` at the end of the input.
fn next(input: &mut impl BufRead) -> io::Result<Option<Input>> {
    let mut line = Vec::new();
    if input.by_ref().take(MAX_LINE as u64).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    if line.len() == MAX_LINE && !line.ends_with(b"\n") {
        input.skip_until(b'\n')?;
        return Ok(Some(Err(format!("the line is longer than {MAX_LINE} bytes"))));
    }
    Ok(Some(String::from_utf8(line).map_err(|_| "the line is not UTF-8".to_owned())))
}

#[derive(Debug, Deserialize)]
struct Command {
    #[serde(rename = "do")]
    what: String,
    call: Option<String>,
    peer: Option<String>,
    value: Option<Value>,
}

/// What a command was about, for its answer.
#[derive(Debug, Default)]
struct About {
    call: Option<CallId>,
    peer: Option<PublicKey>,
    snapshot: bool,
}

/// Carries a line out. `None`: it was empty.
pub(super) async fn perform(input: Input, blink: &Blink, calls: &Calls) -> Option<Line> {
    let text = match input {
        Ok(text) if text.trim().is_empty() => return None,
        Ok(text) => text,
        Err(reason) => return Some(Line::Refused { what: None, reason }),
    };
    let command: Command = match serde_json::from_str(&text) {
        Ok(command) => command,
        Err(error) => {
            let reason = format!("not a command, which looks like {{\"do\":\"hangup\"}}: {error}");
            return Some(Line::Refused { what: None, reason: one_line(&reason) });
        }
    };
    Some(match run(&command, blink, calls).await {
        Ok(About { call, peer, snapshot }) => {
            let snapshot = snapshot.then(|| Box::new((*blink.snapshot()).clone()));
            Line::Done { what: command.what, call, peer, snapshot }
        }
        Err(reason) => Line::Refused { what: Some(command.what), reason: one_line(&reason) },
    })
}

async fn run(command: &Command, blink: &Blink, calls: &Calls) -> Result<About, String> {
    let mut about = About::default();
    let result = match command.what.as_str() {
        "accept" => {
            let call = *about.call.insert(command.call(calls, Which::At(Stage::Incoming))?);
            match command.other()? {
                Other::Hold => blink.answer_holding(call).await,
                Other::End => blink.answer(call).await,
            }
        }
        "decline" => {
            let call = *about.call.insert(command.call(calls, Which::At(Stage::Incoming))?);
            blink.decline(call).await
        }
        "cancel" => {
            let call = *about.call.insert(command.call(calls, Which::At(Stage::Outgoing))?);
            blink.cancel(call).await
        }
        "hangup" => {
            let call = *about.call.insert(command.call(calls, Which::Any)?);
            blink.hang_up(call).await
        }
        "leave" => {
            let call = *about.call.insert(command.call(calls, Which::Running)?);
            blink.leave(call).await
        }
        "rejoin" => {
            let call = *about.call.insert(command.call(calls, Which::At(Stage::Left))?);
            blink.rejoin(call, command.other()?).await
        }
        "invite" => {
            let call = *about.call.insert(command.call(calls, Which::Any)?);
            let peer = command.named_peer()?.ok_or("name a peer: whom to bring into the call")?;
            blink.invite(call, [*about.peer.insert(peer)]).await
        }
        "remove" => {
            let call = *about.call.insert(command.call(calls, Which::Any)?);
            let peer = *about.peer.insert(command.peer(calls, Some(call))?);
            blink.remove(call, peer).await
        }
        "hold" => {
            let call = *about.call.insert(command.call(calls, Which::Running)?);
            blink.hold(call).await
        }
        "unhold" => {
            let call = *about.call.insert(command.call(calls, Which::Held)?);
            blink.unhold(call, command.other()?).await
        }
        "resume" => {
            let call = *about.call.insert(command.resumable(blink)?);
            blink.resume(call, command.other()?).await
        }
        "mute" => blink.set_muted(true).await,
        "unmute" => blink.set_muted(false).await,
        "deafen" => blink.set_deafened(true).await,
        "undeafen" => blink.set_deafened(false).await,
        "camera" => blink.set_camera(command.on()?).await,
        "screen" => blink.set_screen(command.on()?).await,
        "recording" => blink.set_recording(command.on()?).await,
        "gain" => {
            let peer = *about.peer.insert(command.peer(calls, None)?);
            blink.set_gain(peer, command.gain()?).await
        }
        "snapshot" => {
            about.snapshot = true;
            Ok(())
        }
        "record" => {
            let folder = command.text("the folder to record into")?;
            let call = *about.call.insert(command.call(calls, Which::Running)?);
            blink.record(call, folder).await
        }
        "stop-record" => {
            let call = *about.call.insert(command.call(calls, Which::Running)?);
            blink.stop_recording(call).await
        }
        "play" => {
            let file = command.text("the file to play")?;
            let call = *about.call.insert(command.call(calls, Which::Running)?);
            blink.play(call, file).await
        }
        "stop-play" => {
            let call = *about.call.insert(command.call(calls, Which::Running)?);
            blink.stop_playing(call).await
        }
        "input" => {
            let source = command.text("a microphone, as --mic")?.parse::<SourceSpec>();
            blink.set_microphone(source.map_err(|e| e.to_string())?).await
        }
        "output" => {
            let sink = command.text("a speaker, as --speaker")?.parse::<SinkSpec>();
            blink.set_speaker(sink.map_err(|e| e.to_string())?).await
        }
        "processing" if command.on()? => blink.set_processing(Processing::on()).await,
        "processing" => blink.set_processing(Processing::off()).await,
        "automute" => blink.set_automute(command.on()?).await,
        _ => return Err(format!("there is no such command: {COMMANDS} are")),
    };
    result.map(|()| about).map_err(|e| e.to_string())
}

impl Command {
    /// The call that is named, or the one that can be meant.
    fn call(&self, calls: &Calls, which: Which) -> Result<CallId, String> {
        match self.named_call()? {
            Some(call) => Ok(call),
            None => calls.only(which),
        }
    }

    fn named_call(&self) -> Result<Option<CallId>, String> {
        let call = self.call.as_ref();
        call.map(|call| call.parse().map_err(|e| format!("call {call:?}: {e}"))).transpose()
    }

    /// The call of an earlier run that is named, or the only one.
    fn resumable(&self, blink: &Blink) -> Result<CallId, String> {
        match (self.named_call()?, blink.snapshot().resumable.as_slice()) {
            (Some(call), _) => Ok(call),
            (None, [call]) => Ok(call.id),
            (None, []) => Err("there is no call of an earlier run".to_owned()),
            (None, _) => Err("there are several calls of earlier runs; name one as call".to_owned()),
        }
    }

    /// The peer that is named, or the only one.
    fn peer(&self, calls: &Calls, call: Option<CallId>) -> Result<PublicKey, String> {
        match self.named_peer()? {
            Some(peer) => Ok(peer),
            None => calls.only_peer(call),
        }
    }

    fn named_peer(&self) -> Result<Option<PublicKey>, String> {
        let peer = self.peer.as_ref();
        peer.map(|peer| peer.parse().map_err(|e| format!("peer {peer:?}: {e}"))).transpose()
    }

    /// What becomes of a call that runs.
    fn other(&self) -> Result<Other, String> {
        match self.value.as_ref().map(Value::as_str) {
            None | Some(Some("end")) => Ok(Other::End),
            Some(Some("hold")) => Ok(Other::Hold),
            Some(_) => Err("value says what becomes of a call that runs: \"end\" or \"hold\"".to_owned()),
        }
    }

    fn on(&self) -> Result<bool, String> {
        match &self.value {
            None => Ok(true),
            Some(Value::Bool(on)) => Ok(*on),
            Some(_) => Err("value must be true or false".to_owned()),
        }
    }

    fn text(&self, what: &str) -> Result<&str, String> {
        match &self.value {
            Some(Value::String(text)) if !text.is_empty() => Ok(text),
            _ => Err(format!("value must be a text: {what}")),
        }
    }

    fn gain(&self) -> Result<f32, String> {
        match self.value.as_ref().and_then(Value::as_f64) {
            Some(gain) if (0.0..=4.0).contains(&gain) => Ok(gain as f32),
            _ => Err("value must be a number from 0 (silent) over 1 (unchanged) to 4".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_and_are_bounded() {
        let long = "x".repeat(3 * MAX_LINE);
        let text = format!("{{}}\n\n{long}\nafter\nlast");
        let mut input = io::Cursor::new(text);
        let mut lines = Vec::new();
        while let Some(line) = next(&mut input).unwrap() {
            lines.push(line.map(|l| l.trim_end().to_owned()).map_err(|_| ()));
        }
        assert_eq!(lines, [Ok("{}"), Ok(""), Err(()), Ok("after"), Ok("last")].map(|l| l.map(str::to_owned)));
    }

    #[test]
    fn a_line_of_exactly_the_bound_passes_with_its_end() {
        let text = format!("{}\nb\n", "x".repeat(MAX_LINE - 1));
        let mut input = io::Cursor::new(text);
        assert_eq!(next(&mut input).unwrap().unwrap().unwrap().len(), MAX_LINE);
        assert_eq!(next(&mut input).unwrap().unwrap().unwrap(), "b\n");
        assert!(next(&mut input).unwrap().is_none());
    }

    #[test]
    fn bytes_that_are_no_text_are_refused_and_the_next_line_is_read() {
        let mut input = io::Cursor::new(b"\xff\xfe\n{}\n".to_vec());
        assert!(next(&mut input).unwrap().unwrap().is_err());
        assert!(next(&mut input).unwrap().unwrap().is_ok());
    }
}
