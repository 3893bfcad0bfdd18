//! `--control`: JSON commands from standard input, one a line, each answered by `done` or `refused`.

use std::{
    io::{self, BufRead, Read},
    thread,
};

use serde::Deserialize;
use serde_json::Value;
use tokio::sync::mpsc;
use warp_blink::{
    Blink,
    id::{CallId, PublicKey},
};

use super::{
    calls::{Calls, Stage},
    failure::one_line,
    line::Line,
};

/// A longer line is refused: the longest command has a call, a peer and a path.
const MAX_LINE: usize = 16 * 1024;

/// Lines that wait; a writer that is faster waits in its pipe.
const MAX_WAITING: usize = 16;

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
            let call = *about.call.insert(command.call(calls, Some(Stage::Incoming))?);
            blink.answer(call).await
        }
        "decline" => {
            let call = *about.call.insert(command.call(calls, Some(Stage::Incoming))?);
            blink.decline(call).await
        }
        "hangup" => {
            let call = *about.call.insert(command.call(calls, None)?);
            blink.hang_up(call).await
        }
        "mute" => blink.set_muted(true).await,
        "unmute" => blink.set_muted(false).await,
        "deafen" => blink.set_deafened(true).await,
        "undeafen" => blink.set_deafened(false).await,
        "gain" => {
            let peer = *about.peer.insert(command.peer(calls)?);
            blink.set_gain(peer, command.gain()?).await
        }
        "snapshot" => {
            about.snapshot = true;
            Ok(())
        }
        "leave" | "rejoin" | "invite" | "remove" | "record" | "stop-record" | "input" | "output" => {
            return Err(format!("{} is not built yet", command.what));
        }
        _ => {
            return Err("there is no such command: accept, decline, hangup, mute, unmute, deafen, undeafen, gain and \
                        snapshot are"
                .to_owned());
        }
    };
    result.map(|()| about).map_err(|e| e.to_string())
}

impl Command {
    /// The call that is named, or the one that can be meant.
    fn call(&self, calls: &Calls, stage: Option<Stage>) -> Result<CallId, String> {
        match &self.call {
            Some(call) => call.parse().map_err(|e| format!("call {call:?}: {e}")),
            None => calls.only(stage),
        }
    }

    /// The peer that is named, or the only one.
    fn peer(&self, calls: &Calls) -> Result<PublicKey, String> {
        match &self.peer {
            Some(peer) => peer.parse().map_err(|e| format!("peer {peer:?}: {e}")),
            None => calls.only_peer(),
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
