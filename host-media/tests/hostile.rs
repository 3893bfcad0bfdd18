//! Whatever comes from the network, nothing panics and what is heard stays within full scale.

use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use host_media::{Engine, MemorySink, Packet, PayloadKind, PeerId, SinkSpec, SourceSpec, TICK};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Ticks(u8),
    Packet {
        sequence: u16,
        timestamp: u32,
        payload: Vec<u8>,
        early: u16,
        red: bool,
    },
    /// A well-formed silent packet that goes on from the last one by these steps.
    Follow {
        by: u16,
        time: u32,
    },
    /// One with copies of others in it, or what claims to be such.
    Redundant {
        by: u16,
        ago: u32,
        length: u16,
        frame: u8,
    },
    NewStream,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1..25_u8).prop_map(Step::Ticks),
        (any::<u16>(), any::<u32>(), prop::collection::vec(any::<u8>(), 0..80), any::<u16>(), any::<bool>())
            .prop_map(|(sequence, timestamp, payload, early, red)| Step::Packet {
                sequence,
                timestamp,
                payload,
                early,
                red
            }),
        (0..5_u16, prop_oneof![Just(960_u32), 0..20_000_u32])
            .prop_map(|(by, time)| Step::Follow { by, time }),
        (0..5_u16, 0..16_384_u32, 0..8_u16, any::<u8>())
            .prop_map(|(by, ago, length, frame)| Step::Redundant { by, ago, length, frame }),
        Just(Step::NewStream),
        (any::<u16>(), any::<u32>()).prop_map(|(by, time)| Step::Follow { by, time }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_packets_do_no_harm(steps in prop::collection::vec(step(), 1..120)) {
        let start = Instant::now() + Duration::from_secs(100);
        let heard = MemorySink::new();
        let mut core = Engine::builder()
            .source(SourceSpec::Silence)
            .sink(SinkSpec::Memory(heard.clone()))
            .build(start, SystemTime::UNIX_EPOCH)
            .unwrap();
        let input = core.controls().add_peer(PeerId(1)).unwrap();
        let (mut now, mut sequence, mut timestamp, mut packets) = (start, 0_u16, 0_u32, 0_u64);
        for step in steps {
            match step {
                Step::Ticks(n) => {
                    for _ in 0..n {
                        core.tick(now);
                        now += TICK;
                    }
                }
                Step::Packet { sequence, timestamp, payload, early, red } => {
                    packets += 1;
                    let arrival = now - Duration::from_millis(u64::from(early));
                    let kind = if red { PayloadKind::Red } else { PayloadKind::Opus };
                    input.push(Packet::new(sequence, timestamp, payload).kind(kind), arrival);
                }
                Step::Follow { by, time } => {
                    packets += 1;
                    (sequence, timestamp) = (sequence.wrapping_add(by), timestamp.wrapping_add(time));
                    let payload = Bytes::from_static(&[0xf8, 0xff, 0xfe]);
                    input.push(Packet::new(sequence, timestamp, payload), now);
                }
                Step::Redundant { by, ago, length, frame } => {
                    packets += 1;
                    (sequence, timestamp) = (sequence.wrapping_add(by), timestamp.wrapping_add(960 * u32::from(by)));
                    let mut payload = (1 << 31 | 111 << 24 | ago << 10 | u32::from(length)).to_be_bytes().to_vec();
                    payload.extend_from_slice(&[111, frame, 0xff, 0xfe, 0xf8, 0xff, 0xfe]);
                    input.push(Packet::new(sequence, timestamp, payload).kind(PayloadKind::Red), now);
                }
                Step::NewStream => input.new_stream(),
            }
        }
        core.tick(now);
        let heard = heard.take();
        prop_assert!(heard.iter().all(|s| s.abs() <= 1.0));
        let stats = core.controls().peer_stats(PeerId(1)).unwrap();
        prop_assert!(stats.received + stats.duplicates + stats.malformed <= packets + stats.malformed);
        prop_assert!(stats.concealed <= stats.played + Duration::from_millis(120));
    }
}
