//! Two Chromium without a window, each with a page that makes the call.
//!
//! Their signals take the profile's way and are never lost, which is in their favour: a server of signals is none of Chromium's.
//! Candidates are sent as they come. Chromium reads the words as its microphone; what it plays is written down by the page from
//! the track itself, and so is the first part of the microphone, by which it is known when the file began.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::mpsc,
    time::Duration,
};

use serde_json::{Value, json};

use super::{
    Pair, Played, Recording, SetUp, World, now,
    page::{Page, Said},
    way,
};
use crate::{
    Error, Process,
    sound::{self, Ear},
};

/// What a start or a connection may take, as with the other.
const PATIENCE: f64 = 20.0;
/// Orders are carried out so soon, and sound is sent.
const ANSWER: f64 = 10.0;

/// Sound without a click, the addresses as they are, and no network but the lab's.
const OPTIONS: &[&str] = &[
    "--headless=new",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
    "--disable-features=WebRtcHideLocalIpsWithMdns",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-default-browser-check",
    // Its sandbox does not work for root; it opens nothing but the page of the lab.
    "--no-sandbox",
];

/// One of the two.
struct Side {
    process: Process,
    page: Page,
    profile: PathBuf,
    /// What is added to times of the page.
    skew: f64,
    /// Everything that it has said but signals, with times corrected.
    told: Vec<Value>,
    sound: Vec<Vec<u8>>,
}

struct Browsers {
    sides: Vec<Side>,
    said: mpsc::Receiver<(usize, Said)>,
    /// Signals on their way: when they arrive, where, and what.
    travelling: Vec<(f64, usize, Value)>,
    /// How long they take.
    way: f64,
    files: [PathBuf; 2],
    ears: [PathBuf; 2],
    /// Unix time at which both microphones were open.
    open: f64,
    stopped: bool,
}

/// The first host calls the second, which accepts at once.
pub(super) fn call(world: &World<'_>) -> Result<(SetUp, Box<dyn Pair>), Error> {
    let (sender, said) = mpsc::channel();
    let mut browsers = Browsers {
        sides: Vec::new(),
        said,
        travelling: Vec::new(),
        way: way(&world.profile.conditions),
        files: world.words.files.clone(),
        ears: [0, 1].map(|side| world.file(side, ".wav")),
        open: 0.0,
        stopped: false,
    };
    for side in [0, 1] {
        let page = Page::serve(&world.hosts[side], side, sender.clone())?;
        let profile = world.lab.directory().join(format!("browser-{side}"));
        fs::create_dir_all(&profile).map_err(Error::io("a profile"))?;
        let mut arguments: Vec<String> = vec![format!("HOME={}", profile.display()), "chromium".into()];
        arguments.extend(OPTIONS.iter().map(|option| (*option).to_owned()));
        let words = world.words.files[side].display();
        arguments.push(format!("--use-file-for-fake-audio-capture={words}%noloop"));
        arguments.push(format!("--user-data-dir={}", profile.display()));
        arguments.push(page.url().to_owned());
        let process = world.hosts[side].spawn(Path::new("env"), &arguments, &world.file(side, ".log"))?;
        let (told, sound) = (Vec::new(), Vec::new());
        browsers.sides.push(Side { process, page, profile, skew: 0.0, told, sound });
    }
    browsers.both("hello", PATIENCE)?;
    for side in &mut browsers.sides {
        let hello = side.told.iter().find(|told| told["event"] == "hello");
        side.skew = hello.and_then(|hello| hello["skew"].as_f64()).unwrap_or_default();
        side.page.tell(&json!({"do": "open"}))?;
    }
    let opened = browsers.both("open", ANSWER)?;
    browsers.open = opened[0].max(opened[1]);
    browsers.sides[0].page.tell(&json!({"do": "offer"}))?;
    let heard = browsers.both("heard", PATIENCE)?;
    let offer = browsers.wait(0, "offering", ANSWER)?;
    let accept = browsers.wait(1, "accepted", ANSWER)?;
    Ok((SetUp { offer, accept, heard, ..SetUp::default() }, Box::new(browsers)))
}

impl Browsers {
    /// Carries signals and takes what pages say, until a moment or until something comes.
    fn step(&mut self, until: f64) -> Result<(), Error> {
        let first = self.travelling.iter().map(|(arrives, ..)| *arrives).fold(until, f64::min);
        let wait = Duration::from_secs_f64((first - now()).max(0.0));
        match self.said.recv_timeout(wait) {
            Ok((side, Said::Sound(bytes))) => self.sides[side].sound.push(bytes),
            Ok((side, Said::Message(message))) if message["event"] == "signal" => {
                let order = json!({"do": "signal", "signal": message["signal"]});
                self.travelling.push((now() + self.way, 1 - side, order));
            }
            Ok((_, Said::Message(message))) if message["event"] == "failed" => {
                return Err(Error::Program(format!("the page has failed: {}", message["cause"])));
            }
            Ok((side, Said::Message(message))) => self.sides[side].told.push(message),
            // We hold a sender ourselves in each page, so this is a time-out.
            Err(_) => {}
        }
        let (arrived, rest) = self.travelling.drain(..).partition(|(arrives, ..)| *arrives <= now());
        self.travelling = rest;
        for (_, side, order) in arrived {
            self.sides[side].page.tell(&order)?;
        }
        Ok(())
    }

    /// Ends both. They leave nothing that anybody needs.
    fn close(&mut self) {
        for side in &mut self.sides {
            side.process.end(Duration::ZERO);
            let _ = fs::remove_dir_all(&side.profile);
        }
    }

    /// Waits for this event of a page, and returns its time on our clock.
    fn wait(&mut self, side: usize, event: &str, patience: f64) -> Result<f64, Error> {
        self.event(side, event, patience).map(|(at, _)| at)
    }

    fn event(&mut self, side: usize, event: &str, patience: f64) -> Result<(f64, Value), Error> {
        let until = now() + patience;
        loop {
            let Side { told, skew, .. } = &self.sides[side];
            if let Some(told) = told.iter().find(|told| told["event"] == event) {
                return Ok((told["at"].as_f64().unwrap_or_default() + skew, told.clone()));
            }
            if now() >= until {
                let told: Vec<_> = told.iter().map(|told| told["event"].to_string()).collect();
                return Err(Error::Program(format!(
                    "no `{event}` of Chromium {side} after {}",
                    told.join(", ")
                )));
            }
            self.step(until)?;
        }
    }

    fn both(&mut self, event: &str, patience: f64) -> Result<[f64; 2], Error> {
        Ok([self.wait(0, event, patience)?, self.wait(1, event, patience)?])
    }

    /// What a page has recorded: its samples, their rate, and when each piece began.
    fn recorded(&mut self, side: usize, name: &str) -> Result<(Vec<i16>, u32, Vec<Piece>), Error> {
        let told = &self.sides[side].told;
        let recorded: Vec<_> = told.iter().filter(|told| told["event"] == "recorded").collect();
        let place = recorded.iter().position(|told| told["name"] == name);
        let sound = place.and_then(|place| Some((recorded[place], self.sides[side].sound.get(place)?)));
        let (recorded, bytes) =
            sound.ok_or_else(|| Error::Program(format!("Chromium {side} has sent no `{name}`")))?;
        let samples = bytes.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect();
        let rate = recorded["rate"].as_u64().and_then(|rate| u32::try_from(rate).ok()).unwrap_or_default();
        let pieces = recorded["times"].as_array().into_iter().flatten().map(|row| {
            let number = |k: usize| row[k].as_f64().unwrap_or_default();
            Piece { first: number(0) as usize, at: number(1), came: number(2) + self.sides[side].skew }
        });
        Ok((samples, rate, pieces.collect()))
    }
}

/// A piece of a recording: its first sample, its time on the clock of the audio, and when it came.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Piece {
    first: usize,
    at: f64,
    came: f64,
}

/// How far the clock of the audio is behind ours: the page is late at times and never early, so it is the least that was
/// seen, but for the odd one in fifty.
fn offset(pieces: &[Piece]) -> f64 {
    let mut apart: Vec<_> = pieces.iter().map(|piece| piece.came - piece.at).collect();
    apart.sort_by(f64::total_cmp);
    apart.get(apart.len() / 50).copied().unwrap_or_default()
}

/// Puts pieces where their times say: what is missing is silence. Small differences are the clock's.
fn lay(samples: &[i16], rate: u32, pieces: &[Piece]) -> Vec<i16> {
    const CLOCK: usize = 50;
    let tolerance = rate as usize / CLOCK;
    let begin = pieces.first().map_or(0.0, |piece| piece.at);
    let mut out: Vec<i16> = Vec::with_capacity(samples.len());
    for (k, piece) in pieces.iter().enumerate() {
        let end = pieces.get(k + 1).map_or(samples.len(), |next| next.first).min(samples.len());
        let place = ((piece.at - begin).max(0.0) * f64::from(rate)) as usize;
        if place > out.len() + tolerance {
            out.resize(place, 0);
        }
        out.extend(&samples[piece.first.min(end)..end]);
    }
    out
}

impl Pair for Browsers {
    fn began(&self) -> f64 {
        self.open
    }

    fn played(&mut self) -> Result<[Played; 2], Error> {
        let mut all = [Played::default(); 2];
        for side in &mut self.sides {
            side.told.retain(|told| told["event"] != "stats");
            side.page.tell(&json!({"do": "stats"}))?;
        }
        for (side, played) in all.iter_mut().enumerate() {
            let (_, stats) = self.event(side, "stats", ANSWER)?;
            let number = |field: &str| stats[field].as_f64().unwrap_or_default();
            *played = Played { concealed: number("concealed"), all: number("all") };
        }
        Ok(all)
    }

    fn stop_recording(&mut self) -> Result<(), Error> {
        if std::mem::replace(&mut self.stopped, true) {
            return Ok(());
        }
        for side in &self.sides {
            side.page.tell(&json!({"do": "stop"}))?;
        }
        let until = now() + ANSWER;
        let recorded = |side: &Side| side.told.iter().filter(|told| told["event"] == "recorded").count();
        while self.sides.iter().any(|side| recorded(side) < 2) {
            if now() >= until {
                return Err(Error::Program("Chromium has not sent what it recorded".into()));
            }
            self.step(until)?;
        }
        Ok(())
    }

    fn processes(&self) -> [u32; 2] {
        [0, 1].map(|side| self.sides[side].process.id())
    }

    fn leave(mut self: Box<Self>) -> Result<(), Error> {
        self.close();
        Ok(())
    }

    fn hang_up(mut self: Box<Self>) -> Result<[Recording; 2], Error> {
        self.stop_recording()?;
        let mut all = Vec::new();
        for side in [0, 1] {
            let (samples, rate, pieces) = self.recorded(side, "mouth")?;
            let floats: Vec<f32> = samples.iter().map(|sample| f32::from(*sample) / 32_768.0).collect();
            let tapped = pieces.first().map_or(0.0, |piece| piece.at) + offset(&pieces);
            let mouth = began(&sound::read(&self.files[side])?, &sound::narrow(&floats, 1, rate), tapped)?;
            let (samples, rate, pieces) = self.recorded(side, "ear")?;
            let from = pieces.first().map_or(0.0, |piece| piece.at) + offset(&pieces);
            let file = self.ears[side].clone();
            sound::write_raw(&file, rate, &lay(&samples, rate, &pieces))?;
            all.push(Recording { file, from, mouth });
        }
        self.close();
        match <[Recording; 2]>::try_from(all) {
            Ok(recordings) => Ok(recordings),
            Err(_) => Err(Error::Program("two sides have recordings".into())),
        }
    }
}

/// When a file began of which `heard` is a part, whose sample 0 was at `tapped`: on the clock of that.
fn began(file: &[f32], heard: &[f32], tapped: f64) -> Result<f64, Error> {
    // Certainly before it did, and by less than what the ear searches.
    let guess = tapped - 2.0;
    let moments = Ear::PEOPLE.recognise(file, guess, heard, tapped);
    let shift = sound::delay(&moments, f64::MIN, f64::MAX);
    shift
        .map(|shift| guess + shift)
        .ok_or_else(|| Error::Program("Chromium's microphone does not say what is in its file".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_lie_where_their_times_say() {
        let piece = |first: usize, at: f64| Piece { first, at, came: at + 5.0 };
        // Half a millisecond late is the clock, 100 ms late is a hole.
        let pieces = [piece(0, 1.0), piece(10, 1.0105), piece(20, 1.12)];
        let out = lay(&[1; 30], 1000, &pieces);
        assert_eq!(out.iter().filter(|sample| **sample == 1).count(), 30);
        assert_eq!((out.len(), &out[..20], out[20], out[119], out[120]), (130, &[1; 20][..], 0, 0, 1));
        assert_eq!(lay(&[], 1000, &[]), [0_i16; 0]);
    }

    #[test]
    fn the_clock_of_the_audio_is_known_by_pieces_that_came_in_time() {
        let pieces: Vec<_> = (0..200)
            .map(|k| {
                let at = f64::from(k) * 0.01;
                Piece { first: 0, at, came: at + 100.0 + if k % 2 == 0 { 0.0 } else { 0.03 } }
            })
            .collect();
        assert!((offset(&pieces) - 100.0).abs() < 1e-9);
        assert_eq!(offset(&[]), 0.0);
    }

    #[test]
    fn the_beginning_of_a_file_is_found_in_a_part_of_it() {
        let file = sound::speech(3, 8);
        let found = began(&file, &file[1200..40_000], 500.0).expect("it is there");
        assert!((found - 499.85).abs() < 0.001, "{found}");
        assert!(began(&file, &sound::speech(4, 1), 500.0).is_err());
    }
}
