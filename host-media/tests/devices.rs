//! Real devices: the null sinks of a PulseAudio server, which `scripts/devices.sh` (`make test-devices`) sets up. No
//! delay is asserted, since the machine may be busy with anything; they are printed.

#![cfg(all(feature = "devices", target_os = "linux"))]
// A test program's helpers may panic as its tests do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::{
    process::Command,
    sync::{
        atomic::{AtomicBool, AtomicU32, Ordering},
        mpsc::{self, Receiver},
    },
    time::{Duration, Instant, SystemTime},
};

use common::speech;
use host_media::{
    ChangeReason, Direction, Engine, Event, MemorySink, MemorySource, Packet, PayloadKind, PeerId,
    Processing, SinkSpec, SourceSpec, devices, measure,
};

/// Long enough for any machine; only a failure waits for it.
const PATIENCE: Duration = Duration::from_secs(60);
/// So much is left out at the beginning: a ring reaches its fill with a time constant of 5 s, by bending the rate a little,
/// which nobody hears and the correlation does.
const SETTLING: f64 = 15.0;
const SECONDS: f64 = 25.0;
const ME: PeerId = PeerId(1);

fn pactl(arguments: &[&str]) -> String {
    let run = Command::new("pactl").args(arguments).output().expect("scripts/devices.sh has installed pactl");
    assert!(run.status.success(), "pactl {arguments:?}: {}", String::from_utf8_lossy(&run.stderr));
    String::from_utf8(run.stdout).unwrap()
}

/// The server is the one that the script has started, and no other.
fn own_server() {
    let server = std::env::var("PULSE_SERVER").unwrap_or_default();
    assert!(
        server.ends_with("/native") && pactl(&["list", "short", "sinks"]).contains("s441"),
        "run scripts/devices.sh"
    );
}

struct Running {
    engine: Engine,
    events: Receiver<Event>,
}

/// An engine that sends to itself: what its source gives is encoded, goes through a jitter buffer and to its sink.
fn start(source: SourceSpec, sink: SinkSpec) -> Running {
    let (told, events) = mpsc::channel();
    let (made, frames) = mpsc::channel();
    let engine = Engine::builder()
        .source(source)
        .sink(sink)
        .bitrate(128_000)
        // What comes back is compared with what was said.
        .processing(Processing::off())
        .on_frame(move |frame| made.send((frame, Instant::now())).unwrap_or_default())
        .on_event(move |event| told.send(event).unwrap_or_default())
        .start()
        .unwrap();
    let input = engine.add_peer(ME).unwrap();
    std::thread::spawn(move || {
        for (sequence, (frame, at)) in frames.iter().enumerate() {
            input.push(
                Packet {
                    sequence: sequence as u16,
                    timestamp: frame.timestamp,
                    payload: frame.payload,
                    kind: PayloadKind::Opus,
                },
                at,
            );
        }
    });
    Running { engine, events }
}

impl Running {
    fn wait<T>(&self, what: &str, wanted: impl Fn(&Event) -> Option<T>) -> T {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.events.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(event) => {
                    if !matches!(event, Event::Speaking { .. }) {
                        println!("    {event:?}");
                    }
                    if let Some(found) = wanted(&event) {
                        return found;
                    }
                }
                Err(e) => panic!("{what}: {e}"),
            }
        }
    }

    fn started(&self) -> (Option<SystemTime>, Option<SystemTime>) {
        self.wait("it starts", |event| match event {
            Event::Started { microphone, speaker } => Some((*microphone, *speaker)),
            _ => None,
        })
    }

    fn source_changed(&self, wanted: ChangeReason) -> String {
        self.wait("another source", |event| match event {
            Event::SourceChanged { id, reason, .. } if *reason == wanted => Some(id.clone()),
            _ => None,
        })
    }

    fn sink_changed(&self, wanted: ChangeReason) -> String {
        self.wait("another sink", |event| match event {
            Event::SinkChanged { id, reason, .. } if *reason == wanted => Some(id.clone()),
            _ => None,
        })
    }
}

/// Speech out through one device and in through another; the result is its correlation.
fn there_and_back(speaker: &str, microphone: &str) -> f32 {
    let spoken = speech(SECONDS, 48_000);
    let heard = MemorySink::new();
    let hears = start(SourceSpec::Device(microphone.to_owned()), SinkSpec::Memory(heard.clone()));
    let (_, heard_from) = hears.started();
    let says =
        start(SourceSpec::Memory(MemorySource::new(spoken.clone())), SinkSpec::Device(speaker.to_owned()));
    let (spoken_from, _) = says.started();
    says.wait("the end of the speech", |event| (*event == Event::SourceEnded).then_some(()));
    let (out, back) = (says.engine.stats(), hears.engine.stats());
    let (peer_out, peer_back) = (says.engine.peer_stats(ME).unwrap(), hears.engine.peer_stats(ME).unwrap());
    // What is under way still arrives.
    std::thread::sleep(Duration::from_millis(500));
    says.engine.stop().unwrap();
    hears.engine.stop().unwrap();
    let skip = (SETTLING * 48_000.0) as usize;
    // The two begin at different times: the part of what was heard that begins with the speech.
    let offset = spoken_from.unwrap().duration_since(heard_from.unwrap()).unwrap_or_default();
    let heard = heard.samples();
    let from = ((offset.as_secs_f64() * 48_000.0) as usize + skip).min(heard.len());
    let (correlation, delay) = compare(&spoken[skip..], &heard[from..]);
    let total = delay as f64 / 48.0;
    let own = out.latency.mouth_to_ear(&peer_out) + back.latency.mouth_to_ear(&peer_back);
    println!(
        "{speaker} -> {microphone}: correlation {correlation:.4}, median delay {total:.0} ms of which told {:.0} ms; \
         xruns {}+{}, skipped ticks {}+{}, concealed {:?}+{:?}, raised {}",
        own.as_secs_f64() * 1000.0,
        out.playout_xruns,
        back.capture_xruns,
        out.skipped_ticks,
        back.skipped_ticks,
        peer_out.concealed,
        peer_back.concealed,
        out.raised_priority,
    );
    println!("    speaker {:?}\n    microphone {:?}", out.latency, back.latency);
    correlation
}

/// Correlation, weighted by energy, and median delay of pieces of 100 ms: short enough for the rate to be bent by a clock,
/// within 100 ms of the delay of the whole.
fn compare(spoken: &[f32], heard: &[f32]) -> (f32, i64) {
    let pieces = measure::segments(spoken, heard, 48_000, 4_800, 4_800);
    let energy: f32 = pieces.iter().map(|p| p.rms * p.rms).sum();
    let like: f32 = pieces.iter().map(|p| p.rms * p.rms * p.alignment.correlation).sum();
    let mut delays: Vec<_> = pieces.iter().map(|p| p.alignment.delay_samples).collect();
    delays.sort_unstable();
    (like / energy, delays[delays.len() / 2])
}

/// The best of three: what a busy machine does to one is no fault of ours.
fn best(speaker: &str, microphone: &str) {
    let mut best = 0.0;
    for _ in 0..3 {
        best = there_and_back(speaker, microphone).max(best);
        if best > 0.95 {
            return;
        }
    }
    panic!("{speaker} -> {microphone}: correlation {best}");
}

#[test]
#[ignore = "needs the server of scripts/devices.sh"]
fn every_device_is_listed_and_one_is_the_default() {
    own_server();
    let listed = devices().unwrap();
    for direction in [Direction::Microphone, Direction::Speaker] {
        assert_eq!(listed.iter().filter(|d| d.direction == direction && d.default).count(), 1, "{listed:?}");
    }
    for name in ["s48", "s441", "s16", "s96"] {
        let there = |id: String, direction| listed.iter().any(|d| d.id == id && d.direction == direction);
        assert!(there(format!("pulseaudio:{name}"), Direction::Speaker), "{listed:?}");
        assert!(there(format!("pulseaudio:{name}.monitor"), Direction::Microphone), "{listed:?}");
    }
}

fn comes_back(name: &str) {
    own_server();
    best(&format!("pulseaudio:{name}"), &format!("pulseaudio:{name}.monitor"));
}

#[test]
#[ignore = "needs the server of scripts/devices.sh"]
fn speech_comes_back_at_48_khz() {
    comes_back("s48");
}

#[test]
#[ignore = "needs the server of scripts/devices.sh"]
fn speech_comes_back_at_44_1_khz_in_16_bit_stereo() {
    comes_back("s441");
}

#[test]
#[ignore = "needs the server of scripts/devices.sh"]
fn speech_comes_back_at_16_khz_mono() {
    comes_back("s16");
}

#[test]
#[ignore = "needs the server of scripts/devices.sh"]
fn speech_comes_back_at_96_khz() {
    comes_back("s96");
}

#[test]
#[ignore = "needs the server of scripts/devices.sh"]
fn speech_comes_back_through_alsa() {
    own_server();
    pactl(&["set-default-sink", "s48"]);
    pactl(&["set-default-source", "s48.monitor"]);
    best("alsa:pulse", "alsa:pulse");
    pactl(&["set-default-sink", "s441"]);
    pactl(&["set-default-source", "mic441"]);
}

/// The devices of one null sink that comes and goes.
struct Removable {
    modules: Vec<String>,
}

impl Removable {
    fn plug() -> Self {
        let load = |arguments: &[&str]| pactl(arguments).trim().to_owned();
        let sink = ["load-module", "module-null-sink", "sink_name=usb", "rate=48000", "norewinds=1"];
        let source = ["load-module", "module-remap-source", "source_name=usbmic", "master=usb.monitor"];
        Self { modules: vec![load(&sink), load(&source)] }
    }

    fn unplug(&mut self) {
        for module in self.modules.drain(..).rev() {
            pactl(&["unload-module", &module]);
        }
    }
}

impl Drop for Removable {
    fn drop(&mut self) {
        for module in self.modules.drain(..).rev() {
            let _ = Command::new("pactl").args(["unload-module", &module]).status();
        }
    }
}

/// The server moves the streams of a device that goes to another one, and tells nobody.
#[test]
#[ignore = "needs the server of scripts/devices.sh"]
fn devices_that_are_removed_are_replaced_and_come_back() {
    own_server();
    let mut usb = Removable::plug();
    let source = SourceSpec::Device("pulseaudio:usbmic".to_owned());
    let sink = SinkSpec::Device("pulseaudio:usb".to_owned());
    let running = start(source, sink);
    running.started();
    let frames = running.engine.stats().frames;
    usb.unplug();
    // Two events in any order.
    let seen = AtomicBool::new(false);
    running.wait("both are replaced", |event| match event {
        Event::SourceChanged { id, reason: ChangeReason::Fallback, .. } => {
            assert_eq!(id, "pulseaudio:mic441");
            seen.swap(true, Ordering::Relaxed).then_some(())
        }
        Event::SinkChanged { id, reason: ChangeReason::Fallback, .. } => {
            assert_eq!(id, "pulseaudio:s441");
            seen.swap(true, Ordering::Relaxed).then_some(())
        }
        _ => None,
    });
    let mut usb = Removable::plug();
    let seen = AtomicBool::new(false);
    running.wait("both are back", |event| match event {
        Event::SourceChanged { id, reason: ChangeReason::Returned, .. } => {
            assert_eq!(id, "pulseaudio:usbmic");
            seen.swap(true, Ordering::Relaxed).then_some(())
        }
        Event::SinkChanged { id, reason: ChangeReason::Returned, .. } => {
            assert_eq!(id, "pulseaudio:usb");
            seen.swap(true, Ordering::Relaxed).then_some(())
        }
        _ => None,
    });
    assert!(running.engine.stats().frames > frames && running.engine.stats().has_sink);
    running.engine.stop().unwrap();
    usb.unplug();
}

/// When no device is left the server ends the streams.
#[test]
#[ignore = "needs the server of scripts/devices.sh"]
fn without_any_device_left_there_is_silence_until_they_return() {
    own_server();
    let running = start(SourceSpec::Default, SinkSpec::Default);
    running.started();
    let listed = pactl(&["list", "short", "modules"]);
    let modules: Vec<Vec<&str>> = listed
        .lines()
        .map(|line| line.split('\t').collect::<Vec<_>>())
        .filter(|module| module[1] == "module-null-sink" || module[1] == "module-remap-source")
        .collect();
    for module in modules.iter().rev() {
        pactl(&["unload-module", module[0]]);
    }
    let count = AtomicU32::new(0);
    running.wait("both are lost, and nothing is left", |event| match event {
        Event::DeviceLost { .. } | Event::ListenOnly { .. } | Event::NoSpeaker { .. } => {
            (count.fetch_add(1, Ordering::Relaxed) == 3).then_some(())
        }
        _ => None,
    });
    for module in &modules {
        let arguments: Vec<&str> = module[2].split_whitespace().collect();
        pactl(&[&["load-module", module[1]], arguments.as_slice()].concat());
    }
    pactl(&["set-default-sink", "s441"]);
    pactl(&["set-default-source", "mic441"]);
    let count = AtomicU32::new(0);
    running.wait("both are back", |event| match event {
        Event::SourceChanged { .. } | Event::SinkChanged { .. } => {
            (count.fetch_add(1, Ordering::Relaxed) == 1).then_some(())
        }
        _ => None,
    });
    running.engine.stop().unwrap();
}

#[test]
#[ignore = "needs the server of scripts/devices.sh"]
fn the_default_is_followed_and_a_switch_is_made() {
    own_server();
    let running = start(SourceSpec::Default, SinkSpec::Default);
    running.started();
    pactl(&["set-default-sink", "s16"]);
    assert_eq!(running.sink_changed(ChangeReason::DefaultMoved), "pulseaudio:s16");
    pactl(&["set-default-sink", "s441"]);
    assert_eq!(running.sink_changed(ChangeReason::DefaultMoved), "pulseaudio:s441");
    running.engine.set_source(SourceSpec::Device("s96.monitor".to_owned()));
    assert_eq!(running.source_changed(ChangeReason::Requested), "pulseaudio:s96.monitor");
    running.engine.stop().unwrap();
}
