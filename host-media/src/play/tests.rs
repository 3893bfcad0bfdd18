//! Files that are played into a call, on a virtual clock.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant, UNIX_EPOCH},
};

use super::{
    PlaySpec,
    ahead::{Ahead, Pull},
    sum,
};
use crate::{
    BLOCK, Block, Controls, Core, Engine, Error, Event, MemorySink, MemorySource, SILENT, SinkSpec,
    SourceSpec, TICK,
    codec::{Decoder, packet::MAX_SAMPLES},
    container::Writer,
    format::{EncodedFrame, Format, FrameLength},
    source::{Read, Source},
};

fn sweep(i: usize) -> f32 {
    0.3 * (i as f32 * (0.02 + i as f32 * 1e-7)).sin()
}

fn said(seconds: usize) -> Vec<f32> {
    (0..seconds * 48_000).map(sweep).collect()
}

/// A second of a sweep, as WAV and as Ogg Opus.
fn files(dir: &std::path::Path) -> [PathBuf; 2] {
    let [wav, opus] = ["a.wav", "a.opus"].map(|name| dir.join(name));
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 48_000,
        bits_per_sample: 32,
        sample_format: hound::SampleFormat::Float,
    };
    let mut writer = hound::WavWriter::create(&wav, spec).unwrap();
    said(1).iter().for_each(|s| writer.write_sample(*s).unwrap());
    writer.finalize().unwrap();
    let mut writer = Writer::begin(std::fs::File::create(&opus).unwrap(), 1, 64_000, 0, &[]).unwrap();
    for block in said(1).as_chunks::<BLOCK>().0 {
        writer.push(block).unwrap();
    }
    writer.finish().unwrap();
    [wav, opus]
}

struct Call {
    core: Core,
    controls: Controls,
    epoch: Instant,
    ticks: u32,
    heard: MemorySink,
    frames: Arc<Mutex<Vec<EncodedFrame>>>,
    events: Arc<Mutex<Vec<Event>>>,
}

fn call(source: SourceSpec) -> Call {
    let (frames, events) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
    let (frame, event) = (Arc::clone(&frames), Arc::clone(&events));
    let heard = MemorySink::new();
    let epoch = Instant::now();
    let core = Engine::builder()
        .source(source)
        .sink(SinkSpec::Memory(heard.clone()))
        .format(Format::new(FrameLength::Ms10))
        .bitrate(64_000)
        .on_frame(move |f| frame.lock().unwrap().push(f))
        .on_event(move |e| event.lock().unwrap().push(e))
        .build(epoch, UNIX_EPOCH)
        .unwrap();
    Call { controls: core.controls(), core, epoch, ticks: 0, heard, frames, events }
}

impl Call {
    fn run(&mut self, ticks: u32) {
        for _ in 0..ticks {
            self.core.tick(self.epoch + TICK * self.ticks);
            self.ticks += 1;
        }
    }

    /// What was sent, decoded.
    fn sent(&self) -> Vec<f32> {
        let mut decoder = Decoder::new().unwrap();
        let (mut all, mut out) = (Vec::new(), vec![0.0; MAX_SAMPLES]);
        for frame in self.frames.lock().unwrap().iter() {
            let n = decoder.decode(&frame.payload, &mut out).unwrap();
            all.extend_from_slice(&out[..n]);
        }
        all
    }

    fn ended(&self) -> Vec<(PathBuf, Option<String>)> {
        let events = self.events.lock().unwrap();
        let ended = events.iter().filter_map(|event| match event {
            Event::PlayingEnded { file, cause } => Some((file.clone(), cause.clone())),
            _ => None,
        });
        ended.collect()
    }
}

fn loudness(sound: &[f32]) -> f32 {
    (sound.iter().map(|s| s * s).sum::<f32>() / sound.len() as f32).sqrt()
}

#[test]
fn a_file_is_sent_also_while_muted_and_tells_its_end() {
    let dir = tempfile::tempdir().unwrap();
    for file in files(dir.path()) {
        let mut call = call(SourceSpec::Tone);
        call.controls.set_muted(true);
        call.run(50);
        assert_eq!(call.controls.playing(), None);
        call.controls.play(&PlaySpec::new(&file).lockstep(true)).unwrap();
        call.run(60);
        assert_eq!(call.controls.playing(), Some(Duration::from_millis(600)));
        call.run(90);
        assert_eq!(call.controls.playing(), None);
        assert_eq!(call.ended(), [(file.clone(), None)]);
        let sent = call.sent();
        // It begins where it was begun, behind what the codec looks ahead.
        let found = crate::measure::align(&said(1), &sent[24_000 + 312..], 48_000);
        assert!(found.delay_samples.abs() < 48 && found.correlation > 0.97, "{file:?}: {found:?}");
        assert!(loudness(&sent[4_800..23_000]) < 1e-3 && loudness(&sent[76_000..]) < 1e-3);
        assert!(loudness(&call.heard.take()) < 1e-6, "it is not played here unasked");
    }
}

#[test]
fn it_is_added_to_the_own_voice_at_its_gain() {
    let dir = tempfile::tempdir().unwrap();
    let [wav, _] = files(dir.path());
    let mut call = call(SourceSpec::Tone);
    call.controls.play(&PlaySpec::new(&wav).gain(0.0).lockstep(true)).unwrap();
    call.run(50);
    call.controls.set_playing_gain(0.5);
    call.run(50);
    let sent = call.sent();
    let (tone, both) = (loudness(&sent[4_800..24_000]), loudness(&sent[25_000..48_000]));
    assert!((tone - 0.1).abs() < 0.01, "the tone alone: {tone}");
    let expected = (0.01 + 0.106_f32.powi(2)).sqrt();
    assert!((both - expected).abs() < 0.02, "{both} instead of {expected}");
}

#[test]
fn it_is_heard_here_if_asked() {
    let dir = tempfile::tempdir().unwrap();
    let [wav, _] = files(dir.path());
    let mut call = call(SourceSpec::Silence);
    call.controls.play(&PlaySpec::new(&wav).monitor(true).lockstep(true)).unwrap();
    call.run(20);
    let heard = call.heard.take();
    let heard = &heard[crate::mixer::Mixer::DELAY..];
    assert_eq!(heard[..], said(1)[..heard.len()], "to the sample");
    call.controls.set_playing_monitor(false);
    call.run(20);
    assert!(loudness(&call.heard.take()[2 * BLOCK..]) < 1e-6);
    call.controls.set_playing_monitor(true);
    call.controls.set_deafened(true);
    call.run(20);
    assert!(loudness(&call.heard.take()[2 * BLOCK..]) < 1e-6, "deaf is deaf");
}

#[test]
fn another_one_takes_its_place_and_stop_stops() {
    let dir = tempfile::tempdir().unwrap();
    let [wav, opus] = files(dir.path());
    let mut call = call(SourceSpec::Silence);
    call.controls.play(&PlaySpec::new(&wav).lockstep(true)).unwrap();
    call.run(10);
    call.controls.play(&PlaySpec::new(&opus).lockstep(true)).unwrap();
    call.run(1);
    assert_eq!(call.ended(), [(wav.clone(), None)]);
    assert_eq!(call.controls.playing(), Some(Duration::from_millis(10)));
    assert!(call.controls.stop_playing());
    call.run(10);
    assert_eq!(call.ended(), [(wav.clone(), None), (opus, None)]);
    call.frames.lock().unwrap().clear();
    call.run(20);
    assert!(loudness(&call.sent()[4_800..]) < 1e-3);
    assert!(!call.controls.stop_playing(), "none is played");
    call.run(1);
    assert_eq!(call.ended().len(), 2);
    // One that no tick has begun is one, and one that has come to its end is none.
    call.controls.play(&PlaySpec::new(&wav).lockstep(true)).unwrap();
    assert!(call.controls.stop_playing());
    call.run(1);
    assert!(!call.controls.stop_playing());
    call.controls.play(&PlaySpec::new(&wav).lockstep(true)).unwrap();
    call.run(150);
    assert_eq!(call.ended().len(), 4);
    assert!(!call.controls.stop_playing());
}

#[test]
fn a_file_that_cannot_be_played_is_refused_and_one_that_breaks_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let [_, opus] = files(dir.path());
    let mut call = call(SourceSpec::Silence);
    let missing = call.controls.play(&PlaySpec::new(dir.path().join("none.opus"))).unwrap_err();
    assert!(matches!(missing, Error::Opus { .. }) && missing.to_string().contains("none.opus"));
    let text = dir.path().join("text.wav");
    std::fs::write(&text, b"no sound").unwrap();
    assert!(matches!(call.controls.play(&PlaySpec::new(&text)), Err(Error::Wav { .. })));
    let broken = dir.path().join("broken.ogg");
    // Behind a whole file, so that the break is not found when it is opened.
    let mut chain = std::fs::read(&opus).unwrap();
    let mut second = Vec::new();
    let mut writer = Writer::begin(&mut second, 2, 64_000, 0, &[]).unwrap();
    said(1).as_chunks::<BLOCK>().0.iter().for_each(|block| writer.push(block).unwrap());
    writer.finish().unwrap();
    let n = second.len();
    second[n - 5] ^= 0x55;
    chain.extend_from_slice(&second);
    std::fs::write(&broken, &chain).unwrap();
    call.controls.play(&PlaySpec::new(&broken).lockstep(true)).unwrap();
    call.run(300);
    let ended = call.ended();
    assert!(ended.len() == 1 && ended[0].1.as_ref().is_some_and(|c| c.contains("checksum")), "{ended:?}");
}

#[test]
fn an_opus_file_is_a_source_like_any_other() {
    let dir = tempfile::tempdir().unwrap();
    let [_, opus] = files(dir.path());
    let mut call = call(opus.to_str().unwrap().parse().unwrap());
    call.run(120);
    assert!(call.events.lock().unwrap().contains(&Event::SourceEnded));
    let found = crate::measure::align(&said(1), &call.sent()[312..], 48_000);
    assert!(found.delay_samples.abs() < 48 && found.correlation > 0.97, "{found:?}");
    // A standstill leaves its sound out.
    let mut source = Ahead::open(&opus, true).unwrap();
    let (mut block, mut whole) = (SILENT, Ahead::open(&opus, true).unwrap());
    source.skip(40);
    source.read(&mut block);
    let mut expected = SILENT;
    (0..41).for_each(|_| drop(whole.read(&mut expected)));
    assert_eq!(block, expected);
    source.skip(u64::MAX);
    assert_eq!(source.read(&mut block), Read::Ended);
}

/// A disk that has no block ready when one is wanted.
struct Slow(u32);

impl Source for Slow {
    fn read(&mut self, out: &mut Block) -> Read {
        std::thread::sleep(std::time::Duration::from_millis(2));
        out.fill(0.5);
        self.0 -= 1;
        if self.0 == 0 { Read::Ended } else { Read::Sound }
    }

    fn skip(&mut self, _ticks: u64) {}
}

#[test]
fn the_end_of_a_file_is_not_skipped_on_a_slow_disk() {
    let mut source = Ahead::read(Box::new(Slow(5)), true).unwrap();
    source.skip(u64::MAX);
    assert_eq!(source.read(&mut [0.0; BLOCK]), Read::Ended);
}

/// A disk that stands still at a block until it is let go.
struct Stuck {
    at: u32,
    until: u32,
    go: std::sync::mpsc::Receiver<()>,
}

impl Source for Stuck {
    fn read(&mut self, out: &mut Block) -> Read {
        out.fill(self.at as f32);
        self.at += 1;
        if self.at > self.until {
            // The test has ended.
            let Ok(()) = self.go.recv() else { return Read::Ended };
        }
        Read::Sound
    }

    fn skip(&mut self, _ticks: u64) {}
}

#[test]
fn a_slow_disk_makes_a_gap_and_leaves_nothing_out() {
    let (go, stuck) = std::sync::mpsc::channel();
    let mut ahead = Ahead::read(Box::new(Stuck { at: 0, until: 15, go: stuck }), false).unwrap();
    let mut block = SILENT;
    // Nothing is read by a thread at once: this waits for it, however long it takes.
    while ahead.pull(&mut block) == Pull::Waiting {
        std::thread::yield_now();
    }
    assert_eq!(block[0], 0.0);
    for n in 1..15 {
        while ahead.pull(&mut block) == Pull::Waiting {
            std::thread::yield_now();
        }
        assert_eq!(block[0], n as f32);
    }
    assert_eq!((ahead.pull(&mut block), block[0]), (Pull::Waiting, 0.0), "the disk stands still");
    // A single block is not enough to go on with.
    (0..9).for_each(|_| go.send(()).unwrap());
    assert_eq!(ahead.pull(&mut block), Pull::Waiting);
    (0..9).for_each(|_| go.send(()).unwrap());
    while ahead.pull(&mut block) == Pull::Waiting {
        std::thread::yield_now();
    }
    assert_eq!(block[0], 15.0, "it goes on where it was");
}

#[test]
fn sums_are_exact_below_the_knee_and_never_above_full_scale() {
    assert_eq!(sum(0.3, 0.5), 0.8);
    assert_eq!(sum(0.25, -0.5), -0.25);
    let mut last = 0.0;
    for i in 0..800 {
        let sum = sum(i as f32 * 0.01, 0.0);
        assert!(sum >= last && sum <= 1.0, "{sum} after {last}");
        last = sum;
    }
    assert_eq!(sum(-8.0, 0.0), -1.0);
}

#[test]
fn without_a_microphone_a_file_is_still_sent() {
    let dir = tempfile::tempdir().unwrap();
    let [wav, _] = files(dir.path());
    let mut call = call(SourceSpec::Memory(MemorySource::new(vec![0.0; 480])));
    call.core.drop_source();
    call.run(50);
    assert!(call.frames.lock().unwrap().is_empty());
    call.controls.play(&PlaySpec::new(&wav).lockstep(true)).unwrap();
    call.run(150);
    let frames = call.frames.lock().unwrap().len();
    assert!((100..=101).contains(&frames), "{frames} frames of a second");
    assert_eq!(call.frames.lock().unwrap()[0].timestamp, 24_000, "its time has gone on");
}

#[test]
fn each_play_ends_once_whatever_comes_between() {
    let dir = tempfile::tempdir().unwrap();
    let [a, b] = files(dir.path());
    let mut call = call(SourceSpec::Silence);
    let play = |file: &PathBuf| call.controls.play(&PlaySpec::new(file).lockstep(true));
    // Replaced before any tick.
    play(&a).unwrap();
    play(&b).unwrap();
    play(&a).unwrap();
    call.run(1);
    assert_eq!(call.ended(), [(a.clone(), None), (b.clone(), None)]);
    assert_eq!(call.controls.playing(), Some(Duration::from_millis(10)));
    // Stopped before any tick, together with the one that is played.
    let play = |file: &PathBuf| call.controls.play(&PlaySpec::new(file).lockstep(true));
    play(&b).unwrap();
    call.controls.stop_playing();
    call.run(1);
    assert_eq!(call.ended()[2..], [(a.clone(), None), (b.clone(), None)]);
    // As many as are asked for, within reason.
    let play = |file: &PathBuf| call.controls.play(&PlaySpec::new(file).lockstep(true));
    let played = (0..100).take_while(|_| play(&a).is_ok()).count();
    assert_eq!(played, super::MAX_PASSED + 1);
    assert!(matches!(play(&a), Err(Error::Standstill)));
    call.run(1);
    assert_eq!(call.ended().len(), 4 + super::MAX_PASSED);
    // The end of the engine: of one that is played and of one that waits.
    let play = |file: &PathBuf| call.controls.play(&PlaySpec::new(file).lockstep(true));
    play(&b).unwrap();
    call.core.finish().unwrap();
    assert_eq!(call.ended()[4 + super::MAX_PASSED..], [(a.clone(), None), (b.clone(), None)]);
    assert_eq!(call.controls.playing(), None);
    assert!(matches!(call.controls.play(&PlaySpec::new(&a)), Err(Error::Stopped)));
    call.controls.stop_playing();
    call.core.finish().unwrap();
    assert_eq!(call.ended().len(), 6 + super::MAX_PASSED);
}

#[test]
fn a_source_waits_where_it_is_opened_and_not_in_the_ticks() {
    let dir = tempfile::tempdir().unwrap();
    let [_, opus] = files(dir.path());
    // It begins at once, with the first sample.
    let (mut source, mut whole) = (Ahead::source(&opus, false).unwrap(), Ahead::open(&opus, true).unwrap());
    let (mut block, mut expected) = (SILENT, SILENT);
    assert_eq!((source.read(&mut block), whole.read(&mut expected)), (Read::Sound, Read::Sound));
    assert_eq!(block, expected);
    // A standstill leaves its sound out, as soon as the disk has brought it: here 9 of 20 blocks are there.
    let (go, stuck) = std::sync::mpsc::channel();
    let mut slow = Ahead::read(Box::new(Stuck { at: 0, until: 10, go: stuck }), false).unwrap();
    slow.wait(Duration::from_secs(60));
    assert_eq!((slow.read(&mut block), block[0]), (Read::Sound, 0.0));
    slow.skip(20);
    assert_eq!((slow.read(&mut block), block[0]), (Read::Sound, 0.0), "nothing is there, and nobody waits");
    (0..40).for_each(|_| go.send(()).unwrap());
    while block[0] == 0.0 {
        assert_eq!(slow.read(&mut block), Read::Sound);
        std::thread::yield_now();
    }
    assert_eq!(block[0], 21.0);
}

/// A pipe is a disk that stands still as long as nobody writes.
#[cfg(unix)]
#[test]
fn a_slow_disk_holds_up_no_tick_of_an_engine_on_the_clock() {
    use std::io::Write as _;

    let dir = tempfile::tempdir().unwrap();
    let [_, opus] = files(dir.path());
    let pipe = dir.path().join("pipe.opus");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let writer = std::thread::spawn({
        let pipe = pipe.clone();
        move || {
            let bytes = std::fs::read(opus).unwrap();
            let last = bytes.windows(4).rposition(|w| w == b"OggS").unwrap();
            let mut out = std::fs::OpenOptions::new().write(true).open(pipe).unwrap();
            out.write_all(&bytes[..last]).unwrap();
            // As long as the test looks.
            let _ = ended.recv();
            out.write_all(&bytes[last..]).unwrap_or_default();
        }
    });
    let engine = Engine::builder().source(SourceSpec::Opus(pipe)).sink(SinkSpec::Null).start().unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    while engine.stats().ticks < 150 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(10));
    }
    let ticks = engine.stats().ticks;
    drop(end);
    engine.stop().unwrap();
    writer.join().unwrap();
    assert!(ticks >= 150, "{ticks} ticks, and the file has 100");
}
