//! One long call over a network that loses packets, between clocks that differ.

use std::{
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    ops::RangeInclusive,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use blink_tests::{
    e2e::Proxy,
    soak::{
        marks::{self, Clock},
        trend::{Bound, median},
    },
};
use serde_json::{Value, json};

use crate::{
    child::{Child, multiaddr},
    linux::Arguments,
    pair,
    report::{Luck, Report},
};

/// What each side's network loses.
const LOSS: f64 = 0.05;
/// What the receivers must see of it: packets that were never there, and those that were sent again and came after later
/// ones, which on loopback are nearly all. Else nothing was tested.
const SEEN: RangeInclusive<f64> = 0.025..=0.08;
/// Between two looks.
const LOOK: Duration = Duration::from_secs(2);
/// Between two things that go wrong, at most twice as much: often enough that minutes have some, and seldom enough that most
/// of an hour is quiet.
const QUIET: f64 = 30.0;
/// A process stands still for no longer than this.
const STOP: Duration = Duration::from_secs(5);
/// For so long after one the delay may be larger: what was held back is played, and shortened away.
const HEALING: Duration = Duration::from_secs(15);
/// The piece of a file that is listened to: two chirps at least.
const PIECE: usize = 3 * marks::RATE as usize;
/// The header of a WAV file with whole numbers.
const HEADER: u64 = 44;
/// The first fifth is for warming up: the jitter buffer learns the network, and the allocator what a call needs.
const WARM: f64 = 0.2;

/// One direction: what is said here is heard there.
struct Direction {
    name: &'static str,
    heard: PathBuf,
    saying: Clock,
    hearing: Clock,
}

pub(crate) fn run(arguments: &Arguments, time: Duration, report: &mut Report) -> Result<(), String> {
    let mut luck = Luck::new(arguments.seed.wrapping_add(1));
    let folder = tempfile::tempdir().map_err(|error| format!("a directory: {error}"))?;
    let mut callee = Child::start("the callee", 2, luck.number(), arguments.drift, &[])?;
    let proxy = Proxy::new(callee.address).map_err(|error| format!("a proxy: {error}"))?;
    let theirs = multiaddr(2, proxy.port());
    let mut caller = Child::start("the caller", 1, luck.number(), 0, &[theirs])?;

    let said = folder.path().join("said.wav");
    let length = usize::try_from(time.as_secs()).unwrap_or(usize::MAX).saturating_add(120);
    marks::write(&said, length).map_err(|error| format!("{}: {error}", said.display()))?;
    let heard = ["caller.wav", "callee.wav"].map(|name| folder.path().join(name));
    for (phone, heard) in [&mut caller, &mut callee].into_iter().zip(&heard) {
        phone.tell(&json!({"do": "files", "said": said, "heard": heard}))?;
        phone.tell(&json!({"do": "lose", "share": LOSS}))?;
    }
    pair::call(&mut caller, &callee)?;
    let directions = directions([&caller, &callee], heard, arguments.drift)?;

    let start = Instant::now();
    let mut next = luck.seconds(QUIET, 2.0 * QUIET);
    let mut quiet_from = start + HEALING;
    let (mut losses, mut before) = (Vec::new(), [None; 2]);
    // Nothing goes wrong so shortly before the end that it has not healed.
    while start.elapsed() < time {
        thread::sleep(LOOK);
        if start.elapsed() >= next && start.elapsed() + 2 * HEALING < time {
            let time = luck.seconds(3.0, 9.0);
            match luck.below(3) {
                0 => pair::stop(&mut caller, &mut callee, time.min(STOP)).map(drop)?,
                1 => pair::stop(&mut callee, &mut caller, time.min(STOP)).map(drop)?,
                _ => pair::cut([&mut caller, &mut callee], &proxy, time).map(drop)?,
            }
            report.count("in the long call");
            next = start.elapsed() + luck.seconds(QUIET, 2.0 * QUIET);
            quiet_from = Instant::now() + HEALING;
        }
        for phone in [&mut caller, &mut callee] {
            report.figures("long call", phone)?;
        }
        if Instant::now() < quiet_from {
            // What a cut or a stop has lost is not what the network loses.
            before = [None; 2];
            continue;
        }
        let sides = [&mut callee, &mut caller].into_iter().zip(&directions).zip(&mut before);
        for ((phone, direction), before) in sides {
            let sample = phone.sample()?;
            let counts = counts(&sample["sound"]);
            losses.extend(seen(std::mem::replace(before, counts), counts));
            if let Some(buffer) = sample["jitter_buffer_ms"].as_f64() {
                report.figure("long call", phone.name, BUFFER.0, buffer, BUFFER.1);
            }
            if let Some(delay) = delay(direction)? {
                report.figure("long call", direction.name, DELAY.0, delay, DELAY.1);
                if let Some(target) = sample["sound"]["jitter_target_ms"].as_f64() {
                    report.figure("long call", direction.name, BEYOND.0, delay - target, BEYOND.1);
                }
            }
        }
        if start.elapsed().as_secs() % 600 < LOOK.as_secs() {
            eprintln!("the long call has lasted {:.0} s", start.elapsed().as_secs_f64());
        }
    }
    report.tell("seconds of the long call", start.elapsed().as_secs_f64());
    pair::hang_up(&mut caller, &callee)?;
    report.judge("long call", WARM);
    let loss = median(&losses).ok_or("nobody has told how much is lost")?;
    report.tell("loss seen in the long call, %", loss * 100.0);
    if !SEEN.contains(&loss) {
        return Err(format!("{loss} of all packets were lost, not about {LOSS}"));
    }
    Ok(())
}

/// A frame and a half: the buffer moves in frames of 20 ms, to and fro. Clocks that differ by 500 millionths collect 60 ms
/// between the thirds of a call of three minutes if nobody makes up for it.
const DELAY: (&str, Bound) = ("mouth to ear, ms", Bound { least: 30.0, share: 0.0 });
/// The buffer aims at the delay that the jitter needs, which grows on a machine that has become busy. What lies beyond that is
/// nobody's wish, whatever the machine does.
const BEYOND: (&str, Bound) = ("beyond the buffer's aim, ms", Bound { least: 30.0, share: 0.0 });
const BUFFER: (&str, Bound) = ("jitter buffer, ms", Bound { least: 30.0, share: 0.0 });

/// What the network lost so far, as the receiver saw it, and how many packets there were. `None`: nothing has come yet.
fn counts(sound: &Value) -> Option<[f64; 2]> {
    let number = |field: &str| sound[field].as_f64();
    let lost = number("lost")?;
    Some([lost + number("reordered")?, number("received")? + lost])
}

/// The share of the packets between two looks that the network lost.
fn seen(before: Option<[f64; 2]>, now: Option<[f64; 2]>) -> Option<f64> {
    let ([lost, of], [lost_now, of_now]) = (before?, now?);
    Some((lost_now - lost) / (of_now - of)).filter(|share| share.is_finite())
}

/// What the caller says and the callee hears, and the other way round.
fn directions(phones: [&Child; 2], heard: [PathBuf; 2], drift: i32) -> Result<[Direction; 2], String> {
    let [caller, callee] = phones.map(|phone| phone.wait("media_started"));
    let (caller, callee) = (caller?, callee?);
    let clock = |line: &Value, field: &str, pace: f64| {
        let us = line[field].as_f64().ok_or_else(|| format!("no {field} in {line}"))?;
        Ok::<_, String>(Clock { from: us / 1e6, pace })
    };
    // As the thread of the sound ticks (host-media, `engine/thread.rs`).
    let fast = 1.0 - f64::from(drift) / 1e6;
    let [at_caller, at_callee] = heard;
    Ok([
        Direction {
            name: "caller to callee",
            heard: at_callee,
            saying: clock(&caller, "mic_us", 1.0)?,
            hearing: clock(&callee, "speaker_us", fast)?,
        },
        Direction {
            name: "callee to caller",
            heard: at_caller,
            saying: clock(&callee, "mic_us", fast)?,
            hearing: clock(&caller, "speaker_us", 1.0)?,
        },
    ])
}

/// The delay of what was heard last, in milliseconds. `None`: no chirp was recognised.
fn delay(direction: &Direction) -> Result<Option<f64>, String> {
    let (first, piece) =
        last(&direction.heard).map_err(|error| format!("{}: {error}", direction.heard.display()))?;
    let delays = marks::delays(&piece, first, direction.hearing, direction.saying);
    Ok(median(&delays).map(|delay| delay * 1000.0))
}

/// The end of a WAV file that is still being written, and the number of its first sample.
fn last(path: &Path) -> std::io::Result<(usize, Vec<f32>)> {
    let mut file = File::open(path)?;
    let samples = usize::try_from(file.metadata()?.len().saturating_sub(HEADER) / 2).unwrap_or(usize::MAX);
    let first = samples.saturating_sub(PIECE);
    file.seek(SeekFrom::Start(HEADER + 2 * first as u64))?;
    let mut bytes = Vec::with_capacity(2 * PIECE);
    file.take(2 * (samples - first) as u64).read_to_end(&mut bytes)?;
    let sample = |pair: &[u8]| f32::from(i16::from_le_bytes([pair[0], pair[1]])) / 32_768.0;
    Ok((first, bytes.chunks_exact(2).map(sample).collect()))
}
