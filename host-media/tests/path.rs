//! From one engine's source to another one's sink over paths of all kinds, on a virtual clock.

mod common;

use std::time::{Duration, Instant, SystemTime};

use common::{Log, PEER, World, listener, ms, speaker_of, speech, talk};
use host_media::{
    Engine, Event, Format, FrameLength, MemorySink, MemorySource, Packet, SinkSpec, SourceSpec, TICK,
    WavFormat, WavSample, measure,
};

/// The share of windows that are heard as they were said, and the delays of all of them, in ms.
fn compare(said: &[f32], heard: &[f32]) -> (f32, Vec<f64>) {
    let segments = measure::segments(said, heard, 48_000, 24_000, 24_000);
    let good = segments.iter().filter(|s| s.alignment.correlation > 0.9).count();
    let delays = segments.iter().map(|s| s.alignment.delay_samples as f64 / 48.0).collect();
    (good as f32 / segments.len() as f32, delays)
}

#[test]
fn a_clean_path_is_heard_whole_and_soon() {
    for phase in [0, 3, 9] {
        let said = speech(8.0, 48_000);
        let heard = MemorySink::new();
        let mut world = World::with_phase(speaker_of(&said), listener(&heard), ms(phase));
        world.run(ms(8_200));
        let stats = world.stats();
        assert_eq!((stats.lost, stats.late, stats.concealed_frames), (0, 0, 0), "{stats:?}");
        let heard = heard.take();
        let found = measure::compare(&said, &heard, 48_000);
        assert!(found.correlation > 0.95 && found.gaps == 0, "{found:?}");
        // Once the buffer has learnt that the path is clean.
        let late = measure::align(&said[96_000..], &heard[96_000..], 48_000);
        let delay = world.mouth_to_ear(late.delay_samples);
        println!("phase {phase} ms: mouth to ear {delay:.1} ms, correlation {:.3}", late.correlation);
        // 20 ms of frame, 6.5 ms of codec, 10 ms of jitter buffer and at most one tick of waiting for the next tick.
        assert!((26.5..=49.0).contains(&delay), "{delay}");
        assert!(late.correlation > 0.97, "{late:?}");
    }
}

#[test]
fn each_frame_length_is_heard() {
    for frame in [FrameLength::Ms10, FrameLength::Ms20, FrameLength::Ms40, FrameLength::Ms60] {
        let said = speech(4.0, 48_000);
        let heard = MemorySink::new();
        let mut world = World::new(speaker_of(&said).format(Format::new(frame)), listener(&heard));
        world.run(ms(4_300));
        assert_eq!(world.stats().concealed_frames, 0);
        let found = measure::compare(&said, &heard.take(), 48_000);
        assert!(found.correlation > 0.93, "{frame:?}: {found:?}");
    }
}

#[test]
fn files_of_any_rate_are_heard_in_files_of_any_rate() {
    let dir = tempfile::tempdir().unwrap();
    for (i, (from, channels, to, sample)) in [
        (44_100, 2, 16_000, WavSample::F32),
        (48_000, 1, 48_000, WavSample::I16),
        (16_000, 1, 44_100, WavSample::I16),
        (8_000, 1, 96_000, WavSample::F32),
    ]
    .into_iter()
    .enumerate()
    {
        let (source, sink) = (dir.path().join(format!("in{i}.wav")), dir.path().join(format!("out{i}.wav")));
        let said = speech(5.0, from);
        let spec = hound::WavSpec {
            channels,
            sample_rate: from,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let mut writer = hound::WavWriter::create(&source, spec).unwrap();
        for s in &said {
            for _ in 0..channels {
                writer.write_sample((s * 32_767.0) as i16).unwrap();
            }
        }
        writer.finalize().unwrap();
        let a = Engine::builder().source(SourceSpec::Wav(source)).sink(SinkSpec::Null);
        let b = Engine::builder()
            .source(SourceSpec::Silence)
            .sink(SinkSpec::Wav(sink.clone(), WavFormat::new(to, 1, sample)));
        let mut world = World::new(a, b);
        world.run(ms(5_300));
        world.finish();
        assert!(world.log_a.events.lock().unwrap().contains(&Event::SourceEnded));
        let mut reader = hound::WavReader::open(&sink).unwrap();
        assert_eq!((reader.spec().sample_rate, reader.duration()), (to, to * 53 / 10));
        let heard: Vec<f32> = match sample {
            WavSample::I16 => reader.samples::<i16>().map(|s| f32::from(s.unwrap()) / 32_768.0).collect(),
            _ => reader.samples::<f32>().map(|s| s.unwrap()).collect(),
        };
        // The same speech at the rate of the file that was heard, to compare with.
        let found = measure::compare(&speech(5.0, to), &heard, to);
        assert!(found.correlation > 0.95, "{from} Hz to {to} Hz: {found:?}");
    }
}

#[test]
fn one_lost_packet_costs_at_most_one_frame_and_no_delay() {
    for lost in [150, 151, 163, 177, 190] {
        let (mut world, said, heard) = talk(8.0);
        world.network = Box::new(move |n, flight| if n == lost { vec![] } else { vec![flight] });
        world.run(ms(2_900));
        let before = world.stats();
        world.run(ms(5_300));
        let after = world.stats();
        assert_eq!((before.concealed_frames, after.lost), (0, 1));
        assert!(after.concealed <= ms(20), "{:?}", after.concealed);
        assert_eq!(after.jitter_buffer, before.jitter_buffer, "no lasting delay");
        let (good, delays) = compare(&said, &heard.take());
        assert!(good > 0.9, "{good}");
        let (first, last) = (delays[5], delays[delays.len() - 1]);
        assert!((first - last).abs() < 1.0, "{delays:?}");
    }
}

#[test]
fn with_a_frame_of_reserve_a_lost_packet_is_recovered_from_the_next() {
    let said = speech(6.0, 48_000);
    let heard = MemorySink::new();
    let jitter = host_media::JitterConfig::default().min(ms(40));
    let mut world = World::new(speaker_of(&said).expected_loss(20), listener(&heard).jitter(jitter));
    world.network = Box::new(|n, flight| if n % 25 == 24 { vec![] } else { vec![flight] });
    world.run(ms(6_200));
    let stats = world.stats();
    println!(
        "4 % loss: {} lost, {} recovered, {:?} concealed",
        stats.lost, stats.fec_recovered, stats.concealed
    );
    assert!((11..=13).contains(&stats.lost), "{stats:?}");
    assert!(stats.fec_recovered * 2 >= stats.lost, "{stats:?}");
    let found = measure::compare(&said, &heard.take(), 48_000);
    assert!(found.correlation > 0.9, "{found:?}");
}

#[test]
fn steady_loss_makes_the_buffer_wait_for_redundancy() {
    let (mut world, _said, _heard) = talk(20.0);
    world.network = Box::new(|n, flight| if n % 20 == 19 { vec![] } else { vec![flight] });
    world.run(ms(5_000));
    let early = world.stats();
    world.run(ms(15_000));
    let late = world.stats();
    assert!(late.jitter_target >= ms(20), "a frame: {:?}", late.jitter_target);
    let share = |lost: u64, recovered: u64| recovered as f64 / lost as f64;
    assert!(
        share(late.lost - early.lost, late.fec_recovered - early.fec_recovered) > 0.5,
        "{early:?} {late:?}"
    );
}

#[test]
fn reordered_and_repeated_packets_are_put_right() {
    let (mut world, said, heard) = talk(8.0);
    world.network = Box::new(|n, mut flight| {
        // Every third one overtakes its predecessor; every fifth comes twice.
        if n % 3 == 1 {
            flight.arrives += ms(25);
        }
        match n % 5 {
            0 => vec![flight.clone(), flight],
            _ => vec![flight],
        }
    });
    world.run(ms(8_200));
    let stats = world.stats();
    assert!(stats.reordered > 100 && stats.duplicates > 70, "{stats:?}");
    // Until the buffer has learnt that this path reorders, some come too late.
    assert!(stats.lost == 0 && stats.late <= 5, "{stats:?}");
    assert!(stats.concealed <= ms(120), "{:?}", stats.concealed);
    assert!(measure::compare(&said, &heard.take(), 48_000).correlation > 0.93);
}

#[test]
fn a_burst_of_delay_is_gone_within_two_seconds() {
    for silent in [false, true] {
        let mut said = speech(10.0, 48_000);
        if !silent {
            // Without any pause, which is the hard case.
            for (i, s) in said.iter_mut().enumerate() {
                *s += 0.05 * (i as f32 * 0.021).sin();
            }
        }
        let heard = MemorySink::new();
        let mut world = World::new(speaker_of(&said), listener(&heard));
        world.network = Box::new(|_, mut flight| {
            // Everything that is sent within 300 ms comes together at their end.
            if (3_000..3_300).contains(&flight.sent.as_millis()) {
                flight.arrives = ms(3_300);
            }
            vec![flight]
        });
        world.run(ms(3_000));
        let before = world.stats();
        world.run(ms(350));
        let during = world.stats();
        assert!(during.jitter_buffer > ms(200), "{:?}", during.jitter_buffer);
        world.run(ms(1_950));
        let after = world.stats();
        println!(
            "{:?} before, {:?} during, {:?} after",
            before.jitter_buffer, during.jitter_buffer, after.jitter_buffer
        );
        assert!(after.jitter_buffer <= before.jitter_buffer + ms(40), "{:?}", after.jitter_buffer);
        assert_eq!((after.lost, after.late), (0, 0), "nothing of it was thrown away: {after:?}");
        world.run(ms(4_700));
        let stats = world.stats();
        assert!(stats.jitter_buffer <= before.jitter_buffer + ms(12), "{:?}", stats.jitter_buffer);
        let (_, delays) = compare(&said, &heard.take());
        assert!(delays[delays.len() - 1] - delays[4] < 13.0, "{delays:?}");
    }
}

#[test]
fn an_outage_longer_than_the_bound_ends_without_delay() {
    let (mut world, _said, heard) = talk(12.0);
    world.network = Box::new(|_, mut flight| {
        if (3_000..4_000).contains(&flight.sent.as_millis()) {
            flight.arrives = ms(4_000);
        }
        vec![flight]
    });
    world.run(ms(3_000));
    let before = world.stats();
    world.run(ms(4_000));
    let after = world.stats();
    assert!(after.jitter_buffer <= before.jitter_buffer + ms(40), "{after:?}");
    assert!(after.concealed <= ms(450), "a pause is not concealed for ever: {:?}", after.concealed);
    assert!(heard.take().iter().all(|s| s.is_finite()));
}

#[test]
fn steady_jitter_is_ridden_out() {
    let (mut world, said, heard) = talk(20.0);
    let mut seed = 1_u32;
    world.network = Box::new(move |_, mut flight| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        flight.arrives += Duration::from_micros(u64::from(seed >> 16) * 40_000 / 65_536);
        vec![flight]
    });
    world.run(ms(5_000));
    let early = world.stats();
    world.run(ms(15_200));
    let late = world.stats();
    let concealed = late.concealed - early.concealed;
    println!("40 ms of jitter: target {:?}, {concealed:?} concealed in 15 s", late.jitter_target);
    assert!(concealed < ms(300), "below 2 %: {concealed:?}");
    assert!(late.jitter_target <= ms(70), "{:?}", late.jitter_target);
    assert!(compare(&said, &heard.take()).0 > 0.8);
}

#[test]
fn a_new_stream_and_a_sequence_jump_are_followed() {
    let (mut world, said, heard) = talk(9.0);
    world.network = Box::new(|n, mut flight| {
        // As if the sender had started anew twice, once with another clock and once with other numbers only.
        if n >= 150 {
            flight.packet.sequence = flight.packet.sequence.wrapping_add(20_000);
            flight.packet.timestamp = flight.packet.timestamp.wrapping_add(1_234_567_890);
        }
        if n >= 300 {
            flight.packet.sequence = flight.packet.sequence.wrapping_add(9_000);
        }
        vec![flight]
    });
    world.run(ms(9_200));
    let stats = world.stats();
    assert_eq!(stats.resets, 2, "{stats:?}");
    assert!(stats.concealed <= ms(200), "{stats:?}");
    let (good, _) = compare(&said, &heard.take());
    assert!(good > 0.8, "{good}");
}

#[test]
fn a_sender_whose_clock_differs_is_followed_for_minutes() {
    for ppm in [-200.0, 200.0] {
        let long: Vec<f32> = speech(3.0, 48_000).iter().copied().cycle().take(48_000 * 60).collect();
        let heard = MemorySink::new();
        let mut world = World::new(speaker_of(&long), listener(&heard));
        world.drift = ppm * 1e-6;
        world.run(ms(60_000));
        let stats = world.stats();
        assert!(stats.jitter_buffer <= ms(40), "{stats:?}");
        assert!(stats.concealed <= ms(60), "{stats:?}");
        assert_eq!((stats.lost, stats.late), (0, 0));
    }
}

#[test]
fn a_muted_source_keeps_the_stream_and_a_deafened_sink_is_silent() {
    let (mut world, _said, heard) = talk(6.0);
    world.run(ms(1_000));
    world.controls_a.set_muted(true);
    world.run(ms(500));
    let _ = heard.take();
    world.run(ms(1_000));
    assert!(measure::level(&heard.take()) > 70, "silence is sent");
    assert_eq!(world.stats().concealed_frames, 0, "but packets go on");
    world.controls_a.set_muted(false);
    world.controls_b.set_deafened(true);
    world.run(ms(500));
    let _ = heard.take();
    world.run(ms(1_000));
    assert_eq!(measure::level(&heard.take()), 127);
    assert!(world.stats().level < 60, "the peer's level still shows");
    world.controls_b.set_deafened(false);
    assert_eq!(world.controls_b.set_gain(PEER, 0.0), Some(0.0));
    world.run(ms(500));
    let _ = heard.take();
    world.run(ms(500));
    assert_eq!(measure::level(&heard.take()), 127);
    assert_eq!(world.controls_b.set_gain(PEER, 99.0), Some(4.0));
    assert_eq!(world.controls_b.set_gain(PEER, f32::NAN), Some(1.0));
    assert_eq!(world.controls_b.set_gain(host_media::PeerId(9), 1.0), None);
    let frames = world.log_a.frames.lock().unwrap();
    assert!(frames.windows(2).all(|w| w[1].timestamp - w[0].timestamp == 960));
}

#[test]
fn events_come_once_and_in_order() {
    let (mut world, _said, _heard) = talk(2.0);
    world.run(ms(4_000));
    let (microphone, speaker) = world.log_b.started();
    assert_eq!(speaker.unwrap().duration_since(microphone.unwrap()).unwrap(), ms(10));
    let events = world.log_b.events.lock().unwrap();
    let first: Vec<_> =
        events.iter().filter(|e| matches!(e, Event::FirstAudio { peer } if *peer == PEER)).collect();
    assert_eq!(first.len(), 1);
    let speaking: Vec<_> = events
        .iter()
        .filter_map(|e| match e {
            Event::Speaking { who: host_media::Speaker::Peer(p), speaking } if *p == PEER => Some(*speaking),
            _ => None,
        })
        .collect();
    assert!(speaking.len() >= 2 && speaking.len() % 2 == 0, "{speaking:?}");
    assert!(speaking.chunks(2).all(|c| c == [true, false]), "each start has its end: {speaking:?}");
}

#[test]
fn a_standstill_of_the_machine_keeps_every_clock() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.wav");
    let log = Log::default();
    let builder = Engine::builder()
        .source(SourceSpec::Memory(MemorySource::new(speech(2.0, 48_000))))
        .sink(SinkSpec::Wav(path.clone(), WavFormat::default()));
    let start = Instant::now();
    let mut core = log.attach(builder).build(start, SystemTime::UNIX_EPOCH).unwrap();
    for tick in (0..50).chain(90..300) {
        if tick == 90 {
            core.skip(40);
        }
        core.tick(start + TICK * tick);
    }
    core.finish().unwrap();
    assert_eq!(
        hound::WavReader::open(&path).unwrap().duration(),
        3 * 48_000,
        "the file is as long as the call"
    );
    let frames = log.frames.lock().unwrap();
    assert_eq!(frames[25].timestamp - frames[24].timestamp, 960 + 40 * 480);
    assert_eq!(core.controls().stats().skipped_ticks, 40);
    assert!(log.events.lock().unwrap().contains(&Event::SourceEnded), "the source went on meanwhile");
}

#[test]
fn peers_are_mixed_and_leave() {
    let (mut world, said, heard) = talk(4.0);
    let other = world.controls_b.add_peer(host_media::PeerId(2)).unwrap();
    world.run(ms(500));
    assert_eq!(world.controls_b.peers(), [PEER, host_media::PeerId(2)]);
    assert_eq!(world.controls_b.peer_stats(host_media::PeerId(2)).unwrap().received, 0);
    assert!(world.controls_b.remove_peer(host_media::PeerId(2)));
    assert!(!world.controls_b.remove_peer(host_media::PeerId(2)));
    let packet = Packet::new(0, 0, bytes::Bytes::from_static(&[0xf8, 0]));
    other.push(packet, std::time::Instant::now());
    world.run(ms(3_700));
    assert!(measure::compare(&said, &heard.take(), 48_000).correlation > 0.95);
    for i in 0..host_media::MAX_PEERS as u64 + 10 {
        let added = world.controls_b.add_peer(host_media::PeerId(i));
        assert_eq!(added.is_ok(), i < host_media::MAX_PEERS as u64, "{i}");
    }
}
