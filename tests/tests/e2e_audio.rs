//! Whole calls with nothing faked, and what was heard compared with what was said: real gossip and real WebRTC on
//! loopback, recorded speech as microphones, files as speakers.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    ffi::OsStr,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    time::Duration,
};

use blink_examples::demo::{
    compare::{Comparison, compare},
    result::{CALLEE, CALLER, Outcome, Side, Sounds, median},
    sound::Clip,
};
use blink_tests::e2e::{HoldUps, Process, Speech, Watch, measured, one_at_a_time, write_wav};
use warp_blink::{
    Audio, Blink, Event, Events, Identity,
    audio::{SinkSpec, SourceSpec, WavFormat, WavSample},
};

/// Both recordings and their way to the other side: 9.4 s and some tenths.
const SECONDS: &str = "10";

/// A call between two processes in which `mics` play, and what came of it. Caller first.
fn call_between_processes(folder: &Path, mics: [&Path; 2]) -> Outcome {
    let speakers = ["alice", "bob"].map(|name| folder.join(format!("{name}-heard.wav")));
    let sound = |side: usize| {
        let (mic, speaker) = (mics[side].as_os_str(), speakers[side].as_os_str());
        [OsStr::new("--mic"), mic, OsStr::new("--speaker"), speaker]
    };
    let [caller, callee] = [sound(CALLER), sound(CALLEE)];

    let answer = ["answer", "--once"].map(OsStr::new);
    let mut bob = Process::start("bob", folder, &[&answer[..], &callee[..]].concat());
    let ready = bob.until("ready");
    let key = ready.text("did").to_owned();
    let address = ready.body["addresses"][0].as_str().unwrap().to_owned();
    let call = ["call", &key, "--peer", &address, "--duration", SECONDS].map(OsStr::new);
    let alice = Process::start("alice", folder, &[&call[..], &caller[..]].concat());

    let (code, of_alice) = alice.end();
    let (code_of_bob, of_bob) = bob.end();
    assert_eq!((code, code_of_bob), (0, 0));
    let did = of_alice.first("ready").unwrap().text("did").to_owned();
    for record in [&of_alice, &of_bob] {
        let ended = record.first("ended").unwrap();
        assert_eq!((ended.text("reason"), ended.text("by")), ("hung_up", &*did), "the caller hangs up");
    }
    let sides = [Side { name: "Alice", record: of_alice }, Side { name: "Bob", record: of_bob }];
    let [to_bob, to_alice] = [(CALLER, CALLEE), (CALLEE, CALLER)]
        .map(|(from, to)| Sounds { said: mics[from].to_owned(), heard: speakers[to].clone() });
    Outcome::new(sides, Vec::new(), Some([to_bob, to_alice])).unwrap()
}

/// What the requirement says: a correlation above 0.95, and no gap, over the whole recording. Says what is otherwise.
fn heard(what: &str, found: &Comparison) -> Result<(), String> {
    let said = format!(
        "{what}: correlation {:.4} ({:.4} with one delay for all), gaps {:?} in {:.1} s, volume {:+.1} dB",
        found.correlation, found.rigid_correlation, found.gaps, found.covered_s, found.gain_db
    );
    println!("{said}");
    let fine = found.correlation > 0.95
        && found.gaps.is_empty()
        && found.covered_s > 9.0
        && found.gain_db.abs() < 2.0;
    if fine { Ok(()) } else { Err(said) }
}

fn all_heard(outcome: &Outcome) -> Result<(), String> {
    let ms = |value: Option<f64>| value.map_or_else(|| "unknown".to_owned(), |v| format!("{v:.1} ms"));
    println!("offer to ring: {}", ms(outcome.offer_to_ring()));
    for (side, name) in [(CALLER, "caller"), (CALLEE, "callee")] {
        println!("accept to first audio at the {name}: {}", ms(outcome.accept_to_audio(side)));
    }
    assert_eq!(outcome.directions.len(), 2);
    for direction in &outcome.directions {
        let names = [direction.from, direction.to].map(|s| outcome.sides[s].name);
        let what = names.join(" to ");
        heard(&what, &direction.found)?;
        let delays = || direction.mouth_to_ear.iter().map(|p| p.1);
        println!("{what}: mouth to ear {}", ms(median(delays())));
        // Times of different meaning would show as nonsense: nothing is heard before it is said, or seconds later.
        assert!(delays().all(|d| (0.0..1000.0).contains(&d)), "{what}: {:?}", direction.mouth_to_ear);
    }
    // Every step has a name and a time, and they are in order.
    for side in &outcome.sides {
        let steps = side.record.steps();
        let names: Vec<&str> = steps.iter().map(|s| s.name.as_str()).collect();
        for step in ["started", "ringing", "checking", "securing", "connected", "accepted", "media_started"] {
            assert!(names.contains(&step), "{}: no {step} in {names:?}", side.name);
        }
        assert_eq!(names.last(), Some(&"first_audio"), "{}", side.name);
    }
    Ok(())
}

/// What `call` says of a call that begins and ends in it, in a folder of its own, and what the machine did meanwhile.
fn watched(call: impl FnOnce(&Path) -> Result<(), String>) -> (Result<(), String>, HoldUps) {
    let folder = tempfile::tempdir().unwrap();
    let watch = Watch::start();
    let found = call(folder.path());
    (found, watch.end())
}

#[test]
fn speech_is_heard_both_ways_between_two_processes() {
    let _alone = one_at_a_time();
    let [a, b] = [Speech::A.path(), Speech::B.path()];
    measured(|| watched(|folder| all_heard(&call_between_processes(folder, [&a, &b]))));
}

#[test]
fn microphones_of_other_rates_and_formats_are_heard_as_well() {
    let _alone = one_at_a_time();
    measured(|| {
        watched(|folder| {
            let [a, b] = other_formats(folder);
            all_heard(&call_between_processes(folder, [&a, &b]))
        })
    });
}

/// The recordings as 44.1 kHz stereo of 16 bits, and as 16 kHz mono of floats.
fn other_formats(folder: &Path) -> [PathBuf; 2] {
    let paths = ["44100-stereo-i16.wav", "16000-mono-f32.wav"].map(|name| folder.join(name));
    write_wav(&paths[0], &Clip::read(&Speech::A.path()).unwrap(), 44_100, 2, false);
    write_wav(&paths[1], &Clip::read(&Speech::B.path()).unwrap(), 16_000, 1, true);
    paths
}

/// The command writes speaker files in one format only; the library writes any.
#[test]
fn speakers_of_other_rates_and_formats_hear_as_well() {
    let _alone = one_at_a_time();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    measured(|| watched(|folder| runtime.block_on(call_in_one_process(folder))));
}

async fn call_in_one_process(folder: &Path) -> Result<(), String> {
    let [a, b] = other_formats(folder);
    let files = ["alice.wav", "bob.wav"].map(|name| folder.join(name));
    let formats = [WavFormat::new(44_100, 2, WavSample::I16), WavFormat::new(16_000, 1, WavSample::F32)];

    let bob = phone(2, &b, &files[1], formats[1], None).await;
    let alice = phone(1, &a, &files[0], formats[0], Some(&bob)).await;
    let (mut at_alice, mut at_bob) = (alice.events(), bob.events());
    let call = alice.offer([bob.public_key()]).await.unwrap();
    wait(&mut at_bob, |e| matches!(e, Event::Incoming { .. })).await;
    bob.answer(call).await.unwrap();
    for events in [&mut at_alice, &mut at_bob] {
        wait(events, |e| matches!(e, Event::FirstAudio { .. })).await;
    }
    // The recording plays in real time: this is its length, not a wait for luck.
    tokio::time::sleep(Duration::from_secs(10)).await;
    alice.hang_up(call).await.unwrap();
    for events in [&mut at_alice, &mut at_bob] {
        wait(events, |e| matches!(e, Event::Ended { .. })).await;
    }
    // The files are closed when the phones are gone.
    alice.shutdown().await;
    bob.shutdown().await;
    for (what, said, file, format) in
        [("Alice to Bob", &a, &files[1], formats[1]), ("Bob to Alice", &b, &files[0], formats[0])]
    {
        let spec = hound::WavReader::open(file).unwrap().spec();
        assert_eq!((spec.sample_rate, spec.channels), (format.rate, format.channels));
        assert_eq!(spec.sample_format == hound::SampleFormat::Float, format.sample == WavSample::F32);
        heard(what, &compare(&Clip::read(said).unwrap(), &Clip::read(file).unwrap()))?;
    }
    Ok(())
}

async fn phone(seed: u8, mic: &Path, speaker: &Path, format: WavFormat, peer: Option<&Blink>) -> Blink {
    let audio = Audio::new(SourceSpec::Wav(mic.to_owned()), SinkSpec::Wav(speaker.to_owned(), format));
    let mut builder = Blink::builder(Identity::from_seed([seed; 32]))
        .media(audio)
        .listen("/ip4/127.0.0.1/tcp/0")
        .ice_address(IpAddr::V4(Ipv4Addr::LOCALHOST));
    if let Some(peer) = peer {
        builder = builder.peer(peer.snapshot().addresses[0].clone());
    }
    let blink = builder.spawn().await.unwrap();
    blink.snapshots().wait_for(|s| !s.addresses.is_empty()).await.unwrap();
    blink
}

async fn wait(events: &mut Events, wanted: impl Fn(&Event) -> bool) {
    let mut seen = Vec::new();
    let found = tokio::time::timeout(Duration::from_secs(60), async {
        while let Some(event) = events.next().await {
            if wanted(&event) {
                return true;
            }
            seen.push(event);
        }
        false
    });
    assert!(found.await == Ok(true), "the event did not come; seen: {seen:#?}");
}
