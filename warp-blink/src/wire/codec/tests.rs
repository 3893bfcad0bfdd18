use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::{
    id::Identity,
    proto::signal::{
        Announce, Candidate, Description, DescriptionKind, Epoch, EpochId, Gone, HelloKind, MediaFormat,
        RecordKind, RollHash, Status, Sync,
    },
    wire::{
        KemSecret, fuzz,
        roll::tests::{Group, person, record},
    },
};

fn hello() -> (Hello, HelloSecrets) {
    let from = Identity::from_seed([1; 32]).public();
    let hello = Hello {
        kind: HelloKind::Offer,
        from,
        node: NodeId::from(from),
        call: CallId::from_bytes([2; 16]),
        sent_at: UnixTime::from_millis(u64::MAX),
        ring_ms: u32::MAX,
        versions: vec![255; MAX_LISTED],
        suites: vec![255; MAX_LISTED],
        media: MediaFormat::default(),
        app_data: AppData::new(vec![3; MAX_APP_DATA]).unwrap(),
    };
    let secrets =
        HelloSecrets { peer_seed: PeerSeed::from_bytes([4; 32]), call_key: CallKey::from_bytes([5; 32]) };
    (hello, secrets)
}

/// Three people.
fn group() -> Group {
    Group::of(&[record(1, 1, RecordKind::Add, 0), record(2, 300, RecordKind::Add, 1)])
}

/// An epoch that so many have left, with its key.
fn epoch(gone: u8) -> (Epoch, CallKey) {
    let key = CallKey::from_bytes([6; 32]);
    let of = |n| Gone { subject: person(n).public(), number: u32::MAX };
    let mut gone: Vec<Gone> = (0..gone).map(of).collect();
    gone.sort_unstable();
    (Epoch { id: EpochId { n: u32::MAX, key: key.hash() }, gone }, key)
}

fn packet(body: Body) -> Packet {
    Packet { seq: 1, ack: 2, ack_bits: 3, call: group().call, generation: 5, body }
}

#[test]
fn the_largest_contents_fit_their_buckets() {
    let (mut hello, secrets) = hello();
    hello.node = NodeId::from_bytes(&[&[0, 42][..], &[1; 42]].concat()).unwrap();
    hello.media = MediaFormat { frame_ms: u8::MAX, channels: u8::MAX, max_bitrate: u32::MAX };
    let bytes = encode_hello(&hello, &secrets).unwrap();
    // The figures are those that stand beside the buckets.
    assert_eq!(bytes.len(), 1236);
    assert!(pad(&bytes, &[crate::wire::frame::HELLO_BUCKET], "hello").is_ok());
    let welcome = Welcome { node: hello.node, version: 255, suite: 255, status: Status::Cancelled };
    let secrets = WelcomeSecrets { peer_seed: PeerSeed::from_bytes([1; 32]) };
    let bytes = encode_welcome(&welcome, &secrets).unwrap();
    assert_eq!(bytes.len(), 86);
    assert!(pad(&bytes, &[crate::wire::frame::WELCOME_BUCKET], "welcome").is_ok());
    let text = "x".repeat(MAX_DESCRIPTION);
    let body = Body::Description(Description { kind: DescriptionKind::Answer, text });
    let bytes = encode_packet(&packet(body), None).unwrap();
    assert!(pad(&bytes, &TRANSPORT_BUCKETS, "packet").is_ok());
    let text = "x".repeat(MAX_CANDIDATE);
    let bytes = encode_packet(&packet(Body::Candidate(Candidate { text })), None).unwrap();
    assert_eq!(pad(&bytes, &TRANSPORT_BUCKETS, "packet").unwrap().len(), 2048);
    for ((body, attachment), bucket) in attachments().into_iter().zip([512, 512, 512, 2048, 512]) {
        let bytes = encode_packet(&packet(body), Some(&attachment)).unwrap();
        assert_eq!(pad(&bytes, &TRANSPORT_BUCKETS, "packet").unwrap().len(), bucket);
    }
    // A call key looks like most other messages until eleven people have gone; and the longest epoch fits.
    for (gone, bucket) in [(10, 512), (11, 1024), (MAX_SUBJECTS, 2048)] {
        let (epoch, key) = epoch(u8::try_from(gone).unwrap());
        let bytes = encode_packet(&packet(Body::CallKey(epoch)), Some(&Attachment::CallKey(key))).unwrap();
        assert_eq!(pad(&bytes, &TRANSPORT_BUCKETS, "packet").unwrap().len(), bucket, "{gone} are gone");
    }
    let bytes = encode_packet(&packet(Body::Sync(Sync { epoch: epoch(0).0.id, ..Sync::default() })), None);
    assert_eq!(pad(&bytes.unwrap(), &TRANSPORT_BUCKETS, "packet").unwrap().len(), 512);
}

/// Whatever it says, an announce has one length for each length of its version, and the longest one fits.
#[test]
fn announces_fit_their_bucket() {
    let from = Identity::from_seed([1; 32]).public();
    for flags in 0..=u8::MAX {
        let flag = |n: u8| flags >> n & 1 == 1;
        let mut announce = Announce {
            version: u64::MAX,
            joined: flag(0),
            muted: flag(1),
            deafened: flag(2),
            camera: flag(3),
            screen: flag(4),
            recording: flag(5),
            speaking: flag(6),
            held: flag(7),
            roll: RollHash([flags; 16]),
        };
        let bytes = encode_call(&from, u64::MAX, &CallBody::Announce(announce)).unwrap();
        assert_eq!(bytes.len(), 82);
        assert_eq!(decode_call(&bytes), Ok((from, u64::MAX, CallBody::Announce(announce))));
        let signed = [&[0; SIGNATURE_LEN], &bytes[..]].concat();
        assert!(pad(&signed, &[crate::wire::frame::CALL_BUCKET], "call").is_ok());
        announce.version = 0;
        let bytes = encode_call(&from, 0, &CallBody::Announce(announce)).unwrap();
        assert_eq!(bytes.len(), 66);
    }
}

#[test]
fn what_is_too_long_is_not_encoded() {
    let (mut hello, secrets) = hello();
    hello.versions.push(1);
    assert!(matches!(encode_hello(&hello, &secrets), Err(SealError::TooLong { len: 9, max: 8, .. })));
    let text = "x".repeat(MAX_DESCRIPTION + 1);
    let body = Body::Description(Description { kind: DescriptionKind::Offer, text });
    assert!(matches!(encode_packet(&packet(body), None), Err(SealError::TooLong { .. })));
    assert!(pad(&[0; 511], &[512], "x").is_err() && pad(&[0; 510], &[512], "x").is_ok());
}

#[test]
fn hostile_second_encodings_are_refused() {
    let bytes = encode_packet(&packet(Body::Ringing), None).unwrap();
    assert!(decode_packet(&bytes).is_ok());
    let refused = |what: &str, bytes: &[u8]| {
        assert_eq!(decode_packet(bytes).err(), Some(OpenError::Decode), "{what}: {bytes:02x?}");
    };
    refused("trailing", &[&bytes[..], &[0]].concat());
    refused("one item more", &[&[0x87][..], &bytes[1..], &[0]].concat());
    refused("one item less", &[&[0x85][..], &bytes[1..]].concat());
    refused("indefinite", &[&[0x9f][..], &bytes[1..], &[0xff]].concat());
    refused("long array head", &[&[0x98, 6][..], &bytes[1..]].concat());
    refused("long integer", &[&[0x86, 0x18, 1][..], &bytes[2..]].concat());
    refused("a map", &[&[0xa6][..], &bytes[1..]].concat());
    for cut in 0..bytes.len() {
        refused("cut", &bytes[..cut]);
    }
    // An array head that announces 2^64 - 1 items, and a text of 2^63 bytes, in a few bytes.
    refused("huge array", &[0x9b, 255, 255, 255, 255, 255, 255, 255, 255]);
    refused("huge bytes", &[&bytes[..4], &[0x5b, 127, 255, 255, 255, 255, 255, 255, 255]].concat());
}

/// A good encoding of each message that is read from a peer.
fn one_of_each() -> Vec<SecretBytes> {
    let (hello, secrets) = hello();
    let welcome = Welcome { node: hello.node, version: 1, suite: 2, status: Status::Suite };
    let welcome_secrets = WelcomeSecrets { peer_seed: secrets.peer_seed.clone() };
    let text = "candidate".repeat(20);
    let mut all = vec![
        encode_hello(&hello, &secrets).unwrap(),
        encode_welcome(&welcome, &welcome_secrets).unwrap(),
        encode_packet(&packet(Body::Accept(MediaFormat::default())), None).unwrap(),
        encode_packet(&packet(Body::Description(Description { kind: DescriptionKind::Offer, text })), None)
            .unwrap(),
        encode_packet(&packet(Body::Sync(Sync::default())), None).unwrap(),
        encode_packet(&packet(Body::Removed), None).unwrap(),
        encode_packet(&packet(Body::Here), None).unwrap(),
        encode_call(&hello.from, 3, &CallBody::Leave).unwrap(),
        encode_call(&hello.from, 0, &CallBody::Announce(Announce::default())).unwrap(),
    ];
    for (body, attachment) in attachments() {
        all.push(encode_packet(&packet(body), Some(&attachment)).unwrap());
    }
    all
}

/// How many of the four decoders take these bytes. What decodes has this one encoding, or the doors of the fuzzer panic.
fn takers(bytes: &[u8]) -> usize {
    fuzz::hello_contents(bytes);
    fuzz::welcome_contents(bytes);
    fuzz::packet_contents(bytes);
    fuzz::call_contents(bytes);
    fuzz::padding(bytes);
    usize::from(decode_hello(bytes).is_ok())
        + usize::from(decode_welcome(bytes).is_ok())
        + usize::from(decode_packet(bytes).is_ok())
        + usize::from(decode_call(bytes).is_ok())
}

#[test]
fn each_message_is_taken_by_one_decoder() {
    for bytes in one_of_each() {
        assert_eq!(takers(&bytes), 1);
    }
}

/// Ten thousand levels, or pieces without a length, in place of every byte of every message.
#[test]
fn hostile_nesting_and_indefinite_lengths() {
    const LEVELS: usize = 10_000;
    let fill = |with: &[u8], end: &[u8]| [&with.repeat(LEVELS), end].concat();
    let bombs = [
        // Arrays of one, maps of one, tags: closed by a zero, or left open.
        fill(&[0x81], &[0]),
        fill(&[0x81], &[]),
        fill(&[0xa1, 0], &[0]),
        fill(&[0xc1], &[0]),
        // Of indefinite length: arrays, maps, byte strings, texts, closed or left open.
        [vec![0x9f; LEVELS], vec![0xff; LEVELS]].concat(),
        fill(&[0x9f], &[]),
        [vec![0xbf, 0], fill(&[0x9f], &[0xff])].concat(),
        [&[0x5f][..], &fill(&[0x41, 0], &[0xff])].concat(),
        [&[0x7f][..], &fill(&[0x61, b'x'], &[0xff])].concat(),
        // Two arrays, of which the first has no end: where a decoder begins to keep a stack.
        fill(&[0x82, 0x9f], &[]),
        // A stop without a start, and reserved heads.
        fill(&[0xff], &[]),
        fill(&[0x1c], &[]),
    ];
    for good in one_of_each() {
        // Of a long run of one byte, one place is like the next.
        let places = (0..good.len()).filter(|at| *at < 2 || good[*at - 2..=*at] != [good[*at]; 3]);
        for at in places {
            for bomb in &bombs {
                for skipped in [0, 1] {
                    let bytes = [&good[..at], bomb, &good[at + skipped..]].concat();
                    assert_eq!(takers(&bytes), 0, "{:02x?} at {at}", &bomb[..2]);
                }
            }
        }
    }
}

#[test]
fn messages_nest_no_deeper_than_the_bound() {
    let nested = |levels: usize| [vec![0x81; levels], vec![0]].concat();
    assert_eq!(shallow(&nested(MAX_DEPTH)), Ok(()));
    assert_eq!(shallow(&nested(MAX_DEPTH + 1)), Err(OpenError::Decode));
    // Breadth is no depth: the length of the message bounds it.
    let broad = [&[0x99, 0x10, 0][..], &[0x80; 0x1000]].concat();
    assert_eq!(shallow(&broad), Ok(()));
    assert_eq!(shallow(&broad[..broad.len() - 1]), Err(OpenError::Decode));
    // The list of a group fills the bound to its last level; all else leaves one or two to a later build.
    let under = |levels: usize, bytes: &[u8]| shallow(&[&vec![0x81; levels][..], bytes].concat());
    let deepest = |bytes: &SecretBytes| (0..=MAX_DEPTH).rev().find(|levels| under(*levels, bytes) == Ok(()));
    let left: Vec<usize> = one_of_each().iter().filter_map(deepest).collect();
    assert_eq!(left, [4, 5, 2, 2, 1, 3, 3, 3, 2, 1, 0, 3, 3, 0, 3, 3]);
}

/// A record with one level more inside is refused before it is decoded.
#[test]
fn hostile_records_that_nest() {
    let group = group();
    let bytes = encode_packet(&packet(group.body()), Some(&group.attachment())).unwrap();
    assert!(decode_packet(&bytes).is_ok() && shallow(&bytes) == Ok(()));
    let number = bytes.windows(3).position(|w| w == [0x19, 0x01, 0x2c]).unwrap();
    let nested = |with: &[u8]| [&bytes[..number], with, &bytes[number + 3..]].concat();
    assert_eq!(shallow(&nested(&[0])), Ok(()));
    for deeper in [&[0x80][..], &[0xa0], &[0xc1, 0]] {
        assert_eq!(shallow(&nested(deeper)), Err(OpenError::Decode));
        assert_eq!(decode_packet(&nested(deeper)).err(), Some(OpenError::Decode));
    }
}

#[test]
fn unknown_kinds_are_told_from_malformed_ones() {
    let bytes = encode_packet(&packet(Body::Ringing), None).unwrap();
    // The body is the last item: an array of the variant's number and of an array of its fields.
    assert_eq!(bytes[bytes.len() - 3..], [0x82, 0x01, 0x80]);
    let mut unknown = bytes.to_vec();
    let at = unknown.len() - 2;
    unknown.splice(at..=at, [0x18, 25]);
    assert_eq!(decode_packet(&unknown), Err(OpenError::Unknown));
    let (hello, secrets) = hello();
    let mut unknown = encode_hello(&hello, &secrets).unwrap().to_vec();
    assert_eq!(unknown[1], 0);
    unknown[1] = 9;
    assert_eq!(decode_hello(&unknown).err(), Some(OpenError::Unknown));
}

fn attachments() -> [(Body, Attachment); 7] {
    let key = KemSecret::of(&Identity::from_seed([7; 32])).public();
    let (first, call_key) = epoch(0);
    let somebody = Identity::from_seed([8; 32]).public();
    let server = "203.0.114.7:3478".parse().unwrap();
    let pass = TurnPass::new([server], "1700000600:alice", "password", Duration::from_secs(600)).unwrap();
    [
        (Body::CallKey(first), Attachment::CallKey(call_key.clone())),
        (Body::CallKey(epoch(2).0), Attachment::CallKey(call_key)),
        (Body::Token, Attachment::Token(ContactToken::from_bytes([8; 32]))),
        (Body::KemKey, Attachment::KemKey(key)),
        (group().body(), group().attachment()),
        (
            Body::Where(somebody),
            Attachment::Where(Whereabouts::new(somebody.into(), ["/ip4/192.0.2.7/tcp/4001".to_owned()])),
        ),
        (Body::Turn, Attachment::Turn(pass)),
    ]
}

/// The length of what is attached.
fn attached(attachment: &Attachment) -> usize {
    match attachment {
        Attachment::CallKey(_) | Attachment::Token(_) => 32,
        Attachment::KemKey(_) => 1184,
        Attachment::Signatures(signatures) => 64 * signatures.len(),
        Attachment::Where(place) => place.encode().unwrap().len(),
        Attachment::Turn(pass) => pass.encode().unwrap().len(),
    }
}

#[test]
fn an_attachment_travels_with_its_body_only() {
    for (body, attachment) in attachments() {
        let packet = packet(body);
        let bytes = encode_packet(&packet, Some(&attachment)).unwrap();
        assert_eq!(decode_packet(&bytes), Ok((packet.clone(), Some(attachment.clone()))));
        assert_eq!(encode_packet(&packet, None), Err(SealError::Attachment));
        assert_eq!(encode_packet(&self::packet(Body::Ack), Some(&attachment)), Err(SealError::Attachment));
        let kind = std::mem::discriminant(&packet.body);
        for (other, _) in attachments().into_iter().filter(|(b, _)| std::mem::discriminant(b) != kind) {
            assert_eq!(encode_packet(&self::packet(other), Some(&attachment)), Err(SealError::Attachment));
        }
        // Without it, and with one more. The head before it has two bytes, or three for a long one.
        let head = if attached(&attachment) < 256 { 2 } else { 3 };
        let end = bytes.len() - attached(&attachment) - head;
        assert!([0x58, 0x59].contains(&bytes[end]));
        assert_eq!(decode_packet(&bytes[..end]).err(), Some(OpenError::Decode));
        let twice = [&[0x88][..], &bytes[1..], &bytes[end..]].concat();
        assert_eq!(decode_packet(&twice).err(), Some(OpenError::Decode));
        let none = [&[0x86][..], &bytes[1..end]].concat();
        assert_eq!(decode_packet(&none).err(), Some(OpenError::Decode));
    }
}

#[test]
fn hostile_padding_is_refused() {
    let padded = pad(b"abc", &[16], "x").unwrap();
    assert_eq!(unpad(&padded), Ok(&b"abc"[..]));
    for at in 5..16 {
        let mut bad = padded.clone();
        bad[at] = 1;
        assert_eq!(unpad(&bad), Err(OpenError::Padding));
    }
    assert_eq!(unpad(&[0, 15, 0]), Err(OpenError::Padding));
    assert_eq!(unpad(&[255, 255]), Err(OpenError::Padding));
    assert_eq!(unpad(&[0]), Err(OpenError::Padding));
    assert_eq!(unpad(&[]), Err(OpenError::Padding));
}

proptest! {
    /// Whatever the bytes, nothing panics; and what decodes has this one encoding.
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        takers(&bytes);
    }

    /// Near misses: a good encoding with a few bytes changed, which reach deeper into the decoders.
    #[test]
    fn changed_bytes_never_panic(changes in proptest::collection::vec((any::<u16>(), any::<u8>()), 1..4)) {
        for good in one_of_each() {
            let mut bytes = good.to_vec();
            for (at, value) in &changes {
                let at = usize::from(*at) % bytes.len();
                bytes[at] = *value;
            }
            takers(&bytes);
        }
    }

    /// The same with pieces of one message in another.
    #[test]
    fn spliced_bytes_never_panic(picks in any::<[u16; 4]>()) {
        let all = one_of_each();
        let [a, b, x, y] = picks.map(usize::from);
        let (a, b) = (&all[a % all.len()], &all[b % all.len()]);
        takers(&[&a[..x % a.len()], &b[y % b.len()..]].concat());
    }
}
