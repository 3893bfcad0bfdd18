//! The bytes of protocol version 1, frozen.
//!
//! If a test here fails, builds of before and after cannot call each other: that needs a new protocol version, not
//! a new file. `WARP_BLINK_BLESS=1` writes the files anew; it is for the day a version is born.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod wire_common;

use std::{fmt::Write, fs, path::PathBuf, time::Duration};

use warp_blink::{
    id::{Identity, Signature},
    proto::signal::{
        Announce, Body, CallBody, Description, DescriptionKind, MAX_DESCRIPTION, MayInvite, Packet, Record,
        RecordKind, RollHash, Sync,
    },
    time::UnixTime,
    wire::{
        Attachment, CallKey, ContactToken, Door, Initiator, NodePlace, Record as NodeRecord, Responder,
        Session, Topic, TurnPass, decode_saved, encode_saved, open_call, open_record, record_key, roll_hash,
        seal_call, seal_record,
    },
};
use wire_common::*;

/// Named byte strings in one file: `name`, then lines of hexadecimal digits, then an empty line.
struct Golden {
    path: PathBuf,
    made: Vec<(String, Vec<u8>)>,
}

impl Golden {
    fn of(name: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
        Self { path, made: Vec::new() }
    }

    fn has(mut self, name: impl Into<String>, bytes: &[u8]) -> Self {
        self.add(name, bytes);
        self
    }

    fn add(&mut self, name: impl Into<String>, bytes: &[u8]) {
        self.made.push((name.into(), bytes.to_vec()));
    }

    /// Compares with the file, and gives the file's bytes, so that what is opened below are the frozen bytes.
    fn check(self) -> Vec<Vec<u8>> {
        if std::env::var_os("WARP_BLINK_BLESS").is_some() {
            let mut text = String::new();
            for (name, bytes) in &self.made {
                writeln!(text, "{name}").unwrap();
                for line in bytes.chunks(48) {
                    line.iter().for_each(|b| write!(text, "{b:02x}").unwrap());
                    text.push('\n');
                }
                text.push('\n');
            }
            fs::write(&self.path, text).unwrap();
        }
        let text = fs::read_to_string(&self.path).unwrap();
        let found: Vec<(String, Vec<u8>)> = text
            .split_terminator("\n\n")
            .map(|entry| {
                let (name, digits) = entry.split_once('\n').unwrap();
                let digits = digits.replace('\n', "");
                let bytes = digits
                    .as_bytes()
                    .chunks(2)
                    .map(|d| u8::from_str_radix(str::from_utf8(d).unwrap(), 16).unwrap());
                (name.to_owned(), bytes.collect())
            })
            .collect();
        let names =
            |entries: &[(String, Vec<u8>)]| entries.iter().map(|(n, _)| n.clone()).collect::<Vec<_>>();
        assert_eq!(names(&found), names(&self.made));
        for ((name, found), (_, made)) in found.iter().zip(&self.made) {
            let at = found.iter().zip(made).position(|(a, b)| a != b);
            assert!(found == made, "{name} differs from {} at byte {at:?}", self.path.display());
        }
        found.into_iter().map(|(_, bytes)| bytes).collect()
    }
}

#[test]
fn topics() {
    Golden::of("topics.txt")
        .has("inbox of the identity with seed a1", Topic::inbox(&alice().public()).as_bytes())
        .has("peer topic of seed 51", Topic::peer(&hello_secrets().peer_seed).as_bytes())
        .has("call topic of key 54, epoch 0", Topic::call(&CallKey::from_bytes([0x54; 32]), 0).as_bytes())
        .has("call topic of key 54, epoch 1", room().topic().as_bytes())
        .has(
            "contacts' inbox of the identity with seed b0 and token 55",
            Topic::contacts(&bob().public(), &token()).as_bytes(),
        )
        .check();
}

#[test]
fn records() {
    let least = NodeRecord { nodes: vec![place_of(&alice())], kem: None, ..node_record() };
    let frozen = Golden::of("record.txt")
        .has("record of the identity with seed a1", &seal_record(&alice(), &node_record()).unwrap())
        .has("record that says least", &seal_record(&alice(), &least).unwrap())
        .has("key of these records", &record_key(&alice().public()))
        .check();
    let now = UnixTime::from_millis(1_700_000_000_000);
    for (bytes, record) in frozen.iter().zip([node_record(), least]) {
        assert_eq!(open_record(bytes, &alice().public(), now), Ok(record));
    }
}

fn place_of(identity: &Identity) -> NodePlace {
    NodePlace { node: identity.public().into(), until: UnixTime::from_millis(0), addresses: Vec::new() }
}

#[test]
fn handshake() {
    let mut initiator = start();
    let (_, answer) = respond(&initiator.frame([1; 8]));
    let frozen = Golden::of("handshake.txt")
        .has("message 1", &initiator.frame([1; 8]))
        .has("message 1, resent", &initiator.frame([2; 8]))
        .has("message 2", &answer.frame([3; 8]))
        .has("message 2, repeated", &answer.frame([4; 8]))
        .check();
    for frame in &frozen[..2] {
        let opened = Responder::open(&bob(), kem(), &Door::Strangers, frame).unwrap();
        assert_eq!((opened.hello, opened.secrets, opened.id), (hello(), hello_secrets(), initiator.id()));
    }
    let (_, read, secrets) = initiator.finish(&frozen[3]).unwrap();
    assert_eq!((read, secrets), (welcome(), welcome_secrets()));
}

/// Each door in each suite: both messages, their name, and the names of the sessions behind them.
#[test]
fn handshakes_by_each_way() {
    let mut golden =
        Golden::of("ways.txt").has("ML-KEM key of the identity with seed b0", kem().public().as_bytes());
    let mut opening: Vec<(Option<ContactToken>, Initiator, Session, Session)> = Vec::new();
    each_way(|door, key| {
        let initiator = start_by(door, key);
        let (theirs, answer) = respond_by(door, &initiator.frame([5; 8]));
        let (ours, ..) = start_by(door, key).finish(&answer.frame([6; 8])).unwrap();
        let way = format!("{:?}, suite {}", door.lane(), initiator.suite());
        golden.add(format!("{way}: topic"), door.topic(&bob().public()).as_bytes());
        golden.add(format!("{way}: message 1"), &initiator.frame([5; 8]));
        golden.add(format!("{way}: handshake id"), initiator.id().as_bytes());
        golden.add(format!("{way}: message 2"), &answer.frame([6; 8]));
        golden.add(format!("{way}: id of the caller's session"), ours.id().as_bytes());
        golden.add(format!("{way}: id of the callee's session"), theirs.id().as_bytes());
        let token = matches!(door, Door::Contacts(_)).then(token);
        opening.push((token, initiator, ours, theirs));
    });
    let frozen = golden.check();
    for ((token, mut initiator, ours, theirs), frozen) in opening.into_iter().zip(frozen[1..].chunks(6)) {
        let door = token.as_ref().map_or(Door::Strangers, Door::Contacts);
        let opened = Responder::open(&bob(), kem(), &door, &frozen[1]).unwrap();
        assert_eq!((&opened.hello, &opened.secrets), (&modern_hello(), &hello_secrets()));
        assert_eq!(opened.id.as_bytes()[..], frozen[2]);
        let (session, read, secrets) = initiator.finish(&frozen[3]).unwrap();
        assert_eq!((read.suite, secrets), (initiator.suite(), welcome_secrets()));
        assert_eq!((session.id(), &theirs.id().as_bytes()[..]), (ours.id(), &frozen[5][..]));
    }
}

/// Every attachment, and every bucket filled to its last byte.
#[test]
fn attachments_and_buckets() {
    let (mut ours, mut theirs) = confirmed();
    let description =
        |len| Body::Description(Description { kind: DescriptionKind::Answer, text: "x".repeat(len) });
    // What stands around the text: 30 bytes, and the length of the contents.
    let around = 32;
    let key = CallKey::from_bytes([0x99; 32]);
    let mut said: Vec<(String, Packet)> =
        [("CallKey", Body::CallKey(epoch(2, &key, &[]))), ("Token", Body::Token), ("KemKey", Body::KemKey)]
            .map(|(name, body)| (name.into(), packet(9, body)))
            .into();
    for bucket in [512, 1024, 2048, 4096, 8192] {
        let fits = bucket - around;
        said.push((format!("the last byte of bucket {bucket}"), packet(10, description(fits))));
        let beyond = theirs.seal(&packet(10, description(fits + 1)), None).unwrap();
        assert_eq!(beyond.len(), 34 + 2 * bucket);
    }
    said.push(("the longest description".into(), packet(11, description(MAX_DESCRIPTION))));
    let mut golden = Golden::of("buckets.txt");
    for (name, packet) in &said {
        let attachment = attachment(&packet.body, [0x99; 32]);
        golden.add(name, &ours.seal(packet, attachment.as_ref()).unwrap());
    }
    let frozen = golden.check();
    let lengths: Vec<usize> = frozen.iter().map(|frame| frame.len() - 34).collect();
    assert_eq!(lengths, [512, 512, 2048, 512, 1024, 2048, 4096, 8192, 16384]);
    for (frame, (_, packet)) in frozen.iter().zip(said) {
        let attachment = attachment(&packet.body, [0x99; 32]);
        assert_eq!(theirs.open(frame), Ok((packet, attachment)));
    }
}

#[test]
fn transport() {
    let (mut ours, mut theirs) = confirmed();
    let text = "v=0\r\n".repeat(150);
    let bodies = [
        Body::Ringing,
        Body::Accept(media()),
        Body::Description(Description { kind: DescriptionKind::Offer, text }),
    ];
    let key = CallKey::from_bytes([0x54; 32]);
    let call_key = Body::CallKey(epoch(1, &key, &[]));
    let golden = bodies
        .iter()
        .zip(["ringing", "accept", "description of 750 bytes"])
        .fold(Golden::of("transport.txt"), |golden, (body, name)| {
            golden.has(name, &theirs.seal(&packet(7, body.clone()), None).unwrap())
        });
    let frozen = golden
        .has(
            "call key of epoch 1",
            &theirs.seal(&packet(8, call_key.clone()), Some(&Attachment::CallKey(key.clone()))).unwrap(),
        )
        .has("hang up, the caller's second frame", &ours.seal(&packet(2, Body::HangUp), None).unwrap())
        .check();
    for (frame, body) in frozen.iter().zip(bodies) {
        assert_eq!(ours.open(frame), Ok((packet(7, body), None)));
    }
    assert_eq!(ours.open(&frozen[3]), Ok((packet(8, call_key), Some(Attachment::CallKey(key)))));
    assert_eq!(theirs.open(&frozen[4]), Ok((packet(2, Body::HangUp), None)));
}

/// A place on a friend's TURN server: in a session that was opened for it, and nothing else of a call.
#[test]
fn turn() {
    let addresses = ["203.0.114.7:3478", "[2a00::7]:3478"].map(|a| a.parse().unwrap());
    let life = Duration::from_secs(600);
    let (name, password) = ("1700000600:0011223344556677", "CMkKvH4ErBQzYbdFQVfiwl9wLOw=");
    let both = TurnPass::new(addresses, name, password, life).unwrap();
    let one = TurnPass::new([addresses[0]], "n", "p", Duration::from_secs(1)).unwrap();
    let said = [("a place with two addresses, ten minutes", both), ("the smallest, a second", one)];
    let (_, mut theirs) = confirmed();
    let mut golden = Golden::of("turn.txt");
    for (seq, (name, pass)) in (1..).zip(&said) {
        let attachment = Attachment::Turn(pass.clone());
        golden.add(*name, &theirs.seal(&packet(seq, Body::Turn), Some(&attachment)).unwrap());
    }
    let (mut ours, _) = confirmed();
    for (seq, (frame, (_, pass))) in (1..).zip(golden.check().iter().zip(said)) {
        assert_eq!(frame.len(), 546, "no larger than what else is said");
        assert_eq!(ours.open(frame), Ok((packet(seq, Body::Turn), Some(Attachment::Turn(pass)))));
    }
}

#[test]
fn call_messages() {
    let mut announce = Announce::default();
    (announce.version, announce.joined, announce.muted) = (3, true, true);
    let mut whole = Announce::default();
    (whole.version, whole.joined, whole.muted, whole.deafened) = (u64::MAX, true, true, true);
    (whole.camera, whole.screen, whole.recording, whole.speaking) = (true, true, true, true);
    (whole.held, whole.roll) = (true, RollHash([0x77; 16]));
    let said = [
        ("announce", 3, CallBody::Announce(announce)),
        ("leave", 4, CallBody::Leave),
        ("announce of everything", u64::MAX, CallBody::Announce(whole)),
    ];
    let mut golden = Golden::of("call.txt");
    for ((name, version, body), nonce) in said.iter().zip(9..) {
        golden.add(*name, &seal_call(&alice(), &room(), *version, body, [nonce; 24]).unwrap());
    }
    for (frame, (_, version, body)) in golden.check().iter().zip(said) {
        let opened = open_call(&room(), &bob().public(), frame).unwrap();
        assert_eq!((opened.from, opened.version, opened.body), (alice().public(), version, body));
    }
}

/// What is signed of a call, what names it, and how it travels and is kept.
#[test]
fn groups() {
    use RecordKind::{Add, Leave, Remove};
    let two = Group::of_two();
    let words = [(2, 1, Add, 1), (3, 300, Leave, 3), (4, u32::MAX, Remove, 1)];
    let all = Group::of(1, MayInvite::Creator, 16, &words);
    let full = Group::full();
    let key = CallKey::from_bytes([0x54; 32]);
    let mut golden = Golden::of("groups.txt")
        .has("signature of a create: random c7, members may invite, 2", two.signatures[0].as_bytes())
        .has("call id of the first", two.call.as_bytes())
        .has("signature of a create: random c7, the creator may invite, 16", all.signatures[0].as_bytes())
        .has("call id of the second", all.call.as_bytes());
    for (word, name) in words.iter().zip(["2 added by 1", "3 left, number 300", "4 removed by 1"]) {
        let record = Group::of(1, MayInvite::Creator, 16, &[*word]).roll.records[0];
        golden.add(format!("signature of a record: {name}"), signature_of(&all, &record).as_bytes());
    }
    golden.add("roll hash of two people", &roll_hash(two.call, &two.roll).0);
    golden.add("roll hash of these records", &roll_hash(all.call, &all.roll).0);
    golden.add("roll hash of the largest roll", &roll_hash(full.call, &full.roll).0);
    golden.add("key hash of key 54", &key.hash().0);
    let saved = [&two, &all].map(|group| encode_saved(&group.roll, &group.signatures, media()));
    golden.add("two people, saved", &saved[0]);
    golden.add("these records, saved", &saved[1]);

    let (mut ours, mut theirs) = confirmed();
    let sync = Sync { roll: roll_hash(two.call, &two.roll), epoch: epoch_id(1, &key), generation: 3 };
    let gone = Body::CallKey(epoch(3, &key, &[7, 8, 9]));
    let said = [
        ("a roll of two people", two.packet(1), Some(two.attachment())),
        ("a roll of these records", all.packet(2), Some(all.attachment())),
        ("the largest roll", full.packet(u32::MAX), Some(full.attachment())),
        ("call key of epoch 3, three are gone", packet(4, gone), Some(Attachment::CallKey(key))),
        ("sync", packet(5, Body::Sync(sync)), None),
        ("removed", packet(6, Body::Removed), None),
        ("here", packet(7, Body::Here), None),
    ];
    for (name, packet, attachment) in &said {
        golden.add(*name, &ours.seal(packet, attachment.as_ref()).unwrap());
    }
    let frozen = golden.check();
    let (before, frames) = frozen.split_at(frozen.len() - said.len());
    let lengths: Vec<usize> = frames.iter().map(|frame| frame.len() - 34).collect();
    assert_eq!(lengths, [512, 1024, 16384, 512, 512, 512, 512]);
    for (frame, (_, packet, attachment)) in frames.iter().zip(said) {
        assert_eq!(theirs.open(frame), Ok((packet, attachment)));
    }
    for (saved, group) in before[before.len() - 2..].iter().zip([two, all]) {
        assert_eq!(decode_saved(group.call, saved), Some((group.roll, group.signatures, media())));
    }
}

/// The signature of this record.
fn signature_of(group: &Group, record: &Record) -> Signature {
    let at = group.roll.records.iter().position(|found| found == record).unwrap();
    group.signatures[1 + at]
}
