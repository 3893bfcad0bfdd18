//! What an engine sends: frame lengths, silence, redundancy, and what the network's advice makes of them.

// `expect` and `unwrap` are how a test fails.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime},
};

use host_media::{
    Builder, Controls, Core, EncodedFrame, Engine, Format, FrameLength, MemorySource, PathAdvice, PeerId,
    SinkSpec, SourceSpec, TICK,
};

mod common;

/// An engine that only sends, on a clock of its own.
struct Sender {
    core: Core,
    controls: Controls,
    now: Instant,
    frames: Arc<Mutex<Vec<EncodedFrame>>>,
}

impl Sender {
    fn new(samples: Vec<f32>, build: impl FnOnce(Builder) -> Builder) -> Self {
        let frames: Arc<Mutex<Vec<_>>> = Arc::default();
        let kept = Arc::clone(&frames);
        let builder = Engine::builder()
            .source(SourceSpec::Memory(MemorySource::new(samples)))
            .sink(SinkSpec::Null)
            .on_frame(move |frame| kept.lock().unwrap().push(frame));
        let now = Instant::now();
        let core = build(builder).build(now, SystemTime::UNIX_EPOCH).unwrap();
        Self { controls: core.controls(), core, now, frames }
    }

    /// Works for so long, and tells the frames that came of it.
    fn run(&mut self, time: Duration) -> Vec<EncodedFrame> {
        for _ in 0..time.as_millis() / TICK.as_millis() {
            self.now += TICK;
            self.core.tick(self.now);
        }
        std::mem::take(&mut self.frames.lock().unwrap())
    }
}

const SECOND: Duration = Duration::from_secs(1);

fn noise(seconds: f64, level: f32) -> Vec<f32> {
    let mut seed = 1_u32;
    (0..(seconds * 48_000.0) as usize)
        .map(|_| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            level * (seed as f32 / u32::MAX as f32 - 0.5)
        })
        .collect()
}

#[test]
fn frames_change_their_length_in_mid_call_and_timestamps_stay_right() {
    let mut sender = Sender::new(common::speech(10.0, 48_000), |b| b);
    let mut next = 0;
    for frame in
        [FrameLength::Ms20, FrameLength::Ms60, FrameLength::Ms10, FrameLength::Ms40, FrameLength::Ms20]
    {
        sender.controls.set_frame(frame);
        let frames = sender.run(SECOND);
        // One or two of the old length may still come.
        assert!(frames.iter().skip(2).all(|f| f.samples as usize == frame.samples()), "{frame:?}");
        for frame in frames {
            assert_eq!(frame.timestamp, next, "no gap and no overlap");
            next += frame.samples;
        }
        assert_eq!(sender.controls.stats().frame, frame);
    }
    assert!(next >= 48_000 * 5 - 2_880);
}

#[test]
fn stereo_packets_are_made_where_the_format_allows_them() {
    let stereo_of = |channels: u8, on: bool| {
        let format = Format::default().channels(channels);
        let mut sender = Sender::new(common::speech(2.0, 48_000), |b| b.format(format).stereo(on));
        let frames = sender.run(SECOND);
        // The bit of the first byte that says so (RFC 6716 section 3.1).
        frames.iter().filter(|f| f.payload[0] & 4 != 0).count()
    };
    assert_eq!((stereo_of(2, true), stereo_of(1, true), stereo_of(2, false)), (50, 0, 0));
}

#[test]
fn silence_is_left_out_and_its_time_runs_on() {
    let mut sound = common::speech(2.0, 48_000);
    sound.extend(noise(6.0, 0.002));
    sound.extend(common::speech(2.0, 48_000));
    let mut sender = Sender::new(sound.clone(), |b| b.dtx(true));
    let talking = sender.run(2 * SECOND);
    let quiet = sender.run(6 * SECOND);
    let again = sender.run(2 * SECOND);
    println!("{} {} {} frames", talking.len(), quiet.len(), again.len());
    assert!(talking.len() >= 80 && again.len() >= 80, "{} {}", talking.len(), again.len());
    // When the encoder has learnt that it is noise: one packet of it in 400 ms, each followed by one without content,
    // as is the last one before the first pause.
    assert!((28..80).contains(&quiet.len()), "{}", quiet.len());
    let rests: Vec<bool> = quiet.iter().map(|frame| frame.payload.len() <= 2).collect();
    assert!(rests.iter().filter(|rest| **rest).count() >= 10);
    assert!(rests.windows(2).all(|two| two != [true, true]), "announced once: {rests:?}");
    for pair in quiet.windows(2) {
        let gap = pair[1].timestamp - pair[0].timestamp;
        assert!(gap.is_multiple_of(960) && gap <= 48 * 440, "{gap}");
    }
    assert_eq!(again[0].timestamp, 8 * 48_000, "speech begins with the frame in which it begins");
    let stats = sender.controls.stats();
    assert_eq!(stats.frames + stats.silent_frames, 500);
    let mut plain = Sender::new(sound, |b| b);
    assert_eq!(plain.run(10 * SECOND).len(), 500, "off unless it is asked for");
    // Switched on during the call.
    plain.controls.set_dtx(true);
    assert!(plain.run(4 * SECOND).len() < 50);
}

#[test]
fn redundant_payloads_hold_the_frames_that_went_before() {
    let mut sender = Sender::new(common::speech(4.0, 48_000), |b| b.red(2, 2));
    let frames = sender.run(2 * SECOND);
    assert_eq!(frames.iter().filter(|f| f.red.is_some()).count(), 98, "all but the first two");
    for (n, frame) in frames.iter().enumerate().skip(4) {
        let red = frame.red.as_ref().unwrap();
        let wanted: Vec<u8> =
            [n - 4, n - 2, n].iter().flat_map(|&n| frames[n].payload.iter().copied()).collect();
        assert_eq!(red[9..], wanted, "frame {n}");
    }
    sender.controls.set_red(0, 0);
    assert!(sender.run(SECOND).iter().skip(1).all(|f| f.red.is_none()));
}

#[test]
fn advice_of_the_network_changes_what_is_sent() {
    let mut sender = Sender::new(common::speech(60.0, 48_000), |b| b.bitrate(32_000));
    let (alice, bob) = (PeerId(1), PeerId(2));
    let lossy = PathAdvice::default().loss(0.1).burst_ratio(1.0);
    assert!(!sender.controls.advise(alice, Some(lossy)), "she is not there");
    for peer in [alice, bob] {
        sender.controls.add_peer(peer).unwrap();
    }
    sender.run(SECOND);
    let before = sender.controls.stats();
    assert_eq!((before.bitrate, before.fec, before.red_copies), (32_000, true, 0));

    assert!(sender.controls.advise(alice, Some(lossy.red(true))));
    assert!(sender.controls.advise(bob, Some(PathAdvice::default().loss(0.0))));
    let frames = sender.run(SECOND);
    assert!(frames.iter().skip(2).all(|f| f.red.is_some()), "copies for Alice");
    let bytes: usize = frames.iter().skip(2).map(|f| f.red.as_ref().unwrap().len() + 66).sum();
    assert!(bytes * 8 < 80_000, "{} bit/s on the wire", bytes * 8);
    assert_eq!(sender.controls.stats().red_copies, 1);

    // Somebody who does not read them, and loses more.
    assert!(sender.controls.advise(bob, Some(lossy.loss(0.12))));
    sender.run(SECOND);
    let stats = sender.controls.stats();
    assert!(stats.red_copies == 0 && stats.fec && stats.bitrate >= 40_000, "{stats:?}");

    sender.controls.set_adaptive(false);
    sender.run(SECOND);
    let held = sender.controls.stats();
    assert_eq!((held.bitrate, held.fec, held.red_copies), (32_000, true, 0), "as the application said");
    sender.controls.set_adaptive(true);

    // Bob leaves, and with him what he said; Alice takes back what she said.
    sender.controls.remove_peer(bob);
    sender.run(SECOND);
    sender.controls.advise(alice, None);
    sender.run(SECOND);
    assert_eq!(sender.controls.stats().bitrate, 32_000);
    assert!(sender.run(SECOND).iter().all(|f| f.red.is_none()));

    // A narrow path: longer frames, fewer bits, and the format's cap in any case.
    sender.controls.advise(alice, Some(PathAdvice::default().loss(0.0).bitrate(20_000)));
    let frames = sender.run(2 * SECOND);
    assert!(frames.iter().skip(3).all(|f| f.samples == 1_920));
    let bytes: usize = frames.iter().skip(3).map(|f| f.payload.len() + 24).sum();
    let seconds = (frames.len() - 3) as f64 * 0.04;
    assert!(bytes as f64 * 8.0 / seconds < 21_000.0, "{} in {seconds} s", bytes * 8);
}

#[test]
fn a_packet_never_outgrows_a_datagram() {
    let loud = noise(3.0, 0.9);
    for frame in [FrameLength::Ms10, FrameLength::Ms20, FrameLength::Ms40, FrameLength::Ms60] {
        let mut sender =
            Sender::new(loud.clone(), |b| b.format(Format::new(frame)).bitrate(510_000).red(2, 1));
        let frames = sender.run(SECOND);
        let longest = frames.iter().map(|f| f.payload.len()).max().unwrap();
        assert!(longest <= 1_275, "{frame:?}: {longest}");
        assert!(frames.iter().filter_map(|f| f.red.as_ref()).all(|red| red.len() <= 1_200));
    }
}
