//! Attacks of somebody whom we have a session with, on who belongs to a call and on its keys.

use super::*;
use crate::{
    id::{Label, Signature},
    proto::signal::{Create, Epoch, EpochId, Gone, MayInvite, Record, RecordKind},
    wire::roll::tests::{Group, person, record},
};

use RecordKind::{Add, Leave, Remove};

/// A packet of any body and attached bytes, whatever our own encoder thinks of them.
fn forged(call: CallId, body: &Body, attached: &[u8]) -> Vec<u8> {
    let mut e = minicbor::Encoder::new(Vec::new());
    e.array(7).unwrap().u32(1).unwrap().u32(0).unwrap().u32(0).unwrap();
    e.bytes(call.as_bytes()).unwrap().u32(0).unwrap().encode(body).unwrap().bytes(attached).unwrap();
    e.into_writer()
}

/// What the other side makes of such packets, which all go through one session.
struct Receiver {
    ours: Session,
    theirs: Session,
}

impl Receiver {
    fn new() -> Self {
        let (ours, theirs) = sessions();
        Self { ours, theirs }
    }

    fn open(&mut self, contents: &[u8]) -> Result<(Packet, Option<Attachment>), OpenError> {
        let padded = codec::pad(contents, &TRANSPORT_BUCKETS, "packet").unwrap();
        let frame = self.ours.seal_padded(&padded).unwrap();
        let opened = self.theirs.open(&frame);
        // Whatever is inside, the frame has arrived, and the session goes on.
        assert_eq!(self.theirs.open(&frame), Err(OpenError::Replay));
        let next = self.ours.seal(&packet(), None).unwrap();
        assert_eq!(self.theirs.open(&next), Ok((packet(), None)));
        opened
    }

    /// Opens the roll as part of a packet, and judges it alone: both say the same.
    fn roll(&mut self, group: &Group) -> Result<(), OpenError> {
        let attached: Vec<u8> = group.signatures.iter().flat_map(|s| *s.as_bytes()).collect();
        let opened = self.open(&forged(group.call, &group.body(), &attached));
        assert_eq!(
            opened.as_ref().err(),
            verify_roll(group.call, &group.roll, &group.signatures).as_ref().err()
        );
        if let Ok((packet, attachment)) = &opened {
            assert_eq!((&packet.body, attachment), (&group.body(), &Some(group.attachment())));
        }
        opened.map(drop)
    }

    fn key(&mut self, epoch: Epoch, key: &CallKey) -> Result<(), OpenError> {
        let call = CallId::from_bytes([3; 16]);
        self.open(&forged(call, &Body::CallKey(epoch), key.expose())).map(drop)
    }
}

/// Person 0 made it, and called 1 and 2; 2 left.
fn group() -> Group {
    Group::of(&[record(1, 1, Add, 0), record(2, 1, Add, 1), record(2, 2, Leave, 2)])
}

fn changed(change: impl FnOnce(&mut Group)) -> Group {
    let mut group = group();
    change(&mut group);
    group
}

/// Where the word stands that this subject is added.
fn added(group: &Group, subject: u8) -> usize {
    let is = |r: &Record| r.subject == person(subject).public() && r.kind == Add;
    group.roll.records.iter().position(is).unwrap()
}

/// What is wrong, and how a good group gets so.
type Forgery<'a> = (&'a str, &'a dyn Fn(&mut Group));

/// Puts the words in order, each with its signature.
fn sort(group: &mut Group) {
    let mut both: Vec<_> = group.roll.records.drain(..).zip(group.signatures.drain(1..)).collect();
    both.sort_by_key(|(record, _)| *record);
    for (record, signature) in both {
        group.roll.records.push(record);
        group.signatures.push(signature);
    }
}

#[test]
fn honest_rolls_open() {
    let mut receiver = Receiver::new();
    let removed = Group::of(&[record(1, 1, Add, 0), record(1, 2, Remove, 0), record(0, 1, Leave, 0)]);
    for group in [group(), Group::of(&[]), Group::of_two(), Group::full(), removed] {
        assert_eq!(receiver.roll(&group), Ok(()));
    }
}

#[test]
fn hostile_words_that_nobody_signed() {
    let mut receiver = Receiver::new();
    let forgeries: [Forgery<'_>; 9] = [
        ("the number is another", &|g| g.roll.records[2].number = 3),
        ("the kind is another", &|g| {
            // Who was added by the creator was removed by it.
            let at = added(g, 1);
            g.roll.records[at].kind = Remove;
        }),
        ("the subject is another", &|g| {
            let at = added(g, 1);
            g.roll.records[at].subject = person(3).public();
            sort(g);
        }),
        ("signed by another than it says", &|g| {
            let at = added(g, 1);
            g.signatures[1 + at] = sign_record(&person(66), g.call, &g.roll.records[at]);
        }),
        ("says that another said it", &|g| {
            let at = added(g, 1);
            g.roll.records[at].by = person(1).public();
        }),
        ("signed for another call", &|g| {
            let at = added(g, 1);
            let other = CallId::from_bytes([9; 16]);
            g.signatures[1 + at] = sign_record(&person(0), other, &g.roll.records[at]);
        }),
        ("two signatures changed places", &|g| g.signatures.swap(1, 2)),
        ("nobody's signature", &|g| g.signatures[2] = Signature::from_bytes([0; 64])),
        ("the create's signature in its place", &|g| g.signatures[2] = g.signatures[0]),
    ];
    for (what, forge) in forgeries {
        assert_eq!(receiver.roll(&changed(forge)), Err(OpenError::Signature), "{what}");
    }
}

/// A signature of the same text under another purpose.
#[test]
fn hostile_words_under_another_label() {
    let mut receiver = Receiver::new();
    let relabelled = changed(|group| {
        let at = added(group, 1);
        let record = group.roll.records[at];
        let text = [
            &group.call.as_bytes()[..],
            record.subject.as_bytes(),
            &record.number.to_be_bytes(),
            &[0],
            record.by.as_bytes(),
        ]
        .concat();
        // The same text under its own label is the signature that was there.
        assert_eq!(person(0).sign(Label::Record, &text), group.signatures[1 + at]);
        group.signatures[1 + at] = person(0).sign(Label::CallMessage, &text);
    });
    assert_eq!(receiver.roll(&relabelled), Err(OpenError::Signature));
}

#[test]
fn hostile_words_of_those_who_may_not_say_them() {
    let mut receiver = Receiver::new();
    for (what, word) in [
        ("a member removes another", record(1, 3, Remove, 2)),
        ("a member removes itself", record(1, 3, Remove, 1)),
        ("the creator is removed by a member", record(0, 3, Remove, 1)),
        ("the creator is removed by itself", record(0, 3, Remove, 0)),
        ("somebody leaves for another", record(1, 3, Leave, 2)),
        ("the creator leaves for another", record(1, 3, Leave, 0)),
    ] {
        // Signed well, by whom it names.
        assert_eq!(receiver.roll(&Group::of(&[word])), Err(OpenError::Decode), "{what}");
    }
    // Whether somebody may add is not for bytes to say.
    assert_eq!(receiver.roll(&Group::of(&[record(1, 3, Add, 66)])), Ok(()));
}

#[test]
fn hostile_creates() {
    let mut receiver = Receiver::new();
    // Another call of the same creator, whole and well signed: not the one that the packet speaks of.
    let other = |change: &dyn Fn(&mut Create)| {
        let mut group = Group::of(&[]);
        change(&mut group.roll.create);
        group.signatures = vec![sign_create(&person(0), &group.roll.create)];
        group
    };
    let mut its_own = other(&|create| create.random = [8; 16]);
    assert_eq!(receiver.roll(&its_own), Err(OpenError::Signature));
    its_own.call = call_id(&its_own.roll.create, &its_own.signatures[0]);
    assert_eq!(receiver.roll(&its_own), Ok(()), "in its own packet it is good");

    for change in [
        &(|create: &mut Create| create.may_invite = MayInvite::Creator) as &dyn Fn(&mut Create),
        &|create| create.most = 3,
        &|create| create.creator = person(66).public(),
    ] {
        // The text alone, and signed anew: no call has two ways in which it came to be.
        assert_eq!(receiver.roll(&changed(|g| change(&mut g.roll.create))), Err(OpenError::Signature));
        assert_eq!(receiver.roll(&other(change)), Err(OpenError::Signature));
    }
    // A call id that was made of a signature which is not the creator's.
    let mut stolen = Group::of(&[]);
    stolen.signatures = vec![sign_create(&person(66), &stolen.roll.create)];
    stolen.call = call_id(&stolen.roll.create, &stolen.signatures[0]);
    assert_eq!(receiver.roll(&stolen), Err(OpenError::Signature));

    for most in [0, 1, 17, 255] {
        let mut group = other(&|create| create.most = most);
        group.call = call_id(&group.roll.create, &group.signatures[0]);
        assert_eq!(receiver.roll(&group), Err(OpenError::Decode), "{most}");
    }
}

/// A signature that anybody can make of another (RFC 8032, section 8.4) would give one create two calls.
#[test]
fn hostile_second_form_of_a_signature() {
    // The order of the group, little-endian.
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut group = Group::of(&[]);
    let mut bytes = *group.signatures[0].as_bytes();
    let mut carry = 0;
    for (byte, order) in bytes[32..].iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        (*byte, carry) = (sum as u8, sum >> 8);
    }
    group.signatures[0] = Signature::from_bytes(bytes);
    assert_ne!(call_id(&group.roll.create, &group.signatures[0]), group.call);
    group.call = call_id(&group.roll.create, &group.signatures[0]);
    assert_eq!(Receiver::new().roll(&group), Err(OpenError::Signature));
}

#[test]
fn hostile_rolls_out_of_shape() {
    let mut receiver = Receiver::new();
    let shapes: [Forgery<'_>; 5] = [
        ("unsorted", &|g| {
            g.roll.records.swap(0, 2);
            g.signatures.swap(1, 3);
        }),
        ("twice", &|g| {
            let (record, signature) = (g.roll.records[2], g.signatures[3]);
            g.roll.records.push(record);
            g.signatures.push(signature);
        }),
        ("a signature missing", &|g| g.signatures.truncate(3)),
        ("a signature too many", &|g| g.signatures.push(g.signatures[3])),
        ("no signature", &|g| g.signatures.clear()),
    ];
    for (what, shape) in shapes {
        assert_eq!(receiver.roll(&changed(shape)), Err(OpenError::Decode), "{what}");
    }
    // One record more than there may be, signed as well as the others.
    let mut many = Group::full();
    many.say(record(97, 1, Add, 0));
    sort(&mut many);
    assert_eq!((many.roll.records.len(), many.signatures.len()), (97, 98));
    assert_eq!(receiver.roll(&many), Err(OpenError::Decode));

    // Attached bytes that are no signatures.
    let good = group();
    let attached: Vec<u8> = good.signatures.iter().flat_map(|s| *s.as_bytes()).collect();
    for bad in [&attached[1..], &[&attached[..], &[0]].concat(), &[]] {
        assert_eq!(receiver.open(&forged(good.call, &good.body(), bad)).err(), Some(OpenError::Decode));
    }
    // With a body that has none, and as an array.
    assert_eq!(receiver.open(&forged(good.call, &Body::Here, &attached)).err(), Some(OpenError::Decode));
    let mut array = forged(good.call, &good.body(), &[]);
    array.pop();
    array.extend(
        [&[0x84][..], &attached.chunks(64).flat_map(|s| [&[0x58, 64], s].concat()).collect::<Vec<_>>()]
            .concat(),
    );
    assert_eq!(receiver.open(&array).err(), Some(OpenError::Decode));
}

/// What is no public key is none here either.
#[test]
fn hostile_keys_in_rolls() {
    let mut receiver = Receiver::new();
    let good = group();
    let attached: Vec<u8> = good.signatures.iter().flat_map(|s| *s.as_bytes()).collect();
    let bytes = forged(good.call, &good.body(), &attached);
    let mut torsion = [0; 32];
    torsion.copy_from_slice(&EIGHT_TORSION[1].compress().0);
    for person in [0, 1, 2].map(|n| person(n).public()) {
        for bad in [[0; 32], [0xff; 32], torsion] {
            let at = bytes.windows(32).position(|w| w == person.as_bytes()).unwrap();
            let mut bytes = bytes.clone();
            bytes[at..at + 32].copy_from_slice(&bad);
            assert_eq!(receiver.open(&bytes).err(), Some(OpenError::Decode));
        }
    }
}

/// A later build may let others invite, or say other words: that is unknown, and not malformed.
#[test]
fn later_words_are_unknown() {
    let mut receiver = Receiver::new();
    let good = Group::of_two();
    let attached: Vec<u8> = good.signatures.iter().flat_map(|s| *s.as_bytes()).collect();
    let bytes = forged(good.call, &good.body(), &attached);
    let at = bytes.windows(16).position(|w| w == [7; 16]).unwrap() + 16;
    assert_eq!(bytes[at..at + 3], [0, 16, 0x81]);
    let mut later = bytes.clone();
    later[at] = 2;
    assert_eq!(receiver.open(&later).err(), Some(OpenError::Unknown));
    let at = at + 3 + 1 + 34 + 1;
    assert_eq!(bytes[at - 1..at + 2], [1, 0, 0x58]);
    let mut later = bytes;
    later[at] = 3;
    assert_eq!(receiver.open(&later).err(), Some(OpenError::Unknown));
}

#[test]
fn hostile_epochs() {
    let mut receiver = Receiver::new();
    let key = CallKey::from_bytes([5; 32]);
    let mut people: Vec<PublicKey> = (0..33).map(|n| person(n).public()).collect();
    people.sort_unstable();
    let gone: Vec<Gone> = people.iter().map(|subject| Gone { subject: *subject, number: 4 }).collect();
    let epoch =
        |n, key: &CallKey, gone: &[Gone]| Epoch { id: EpochId { n, key: key.hash() }, gone: gone.to_vec() };
    for good in [epoch(1, &key, &[]), epoch(u32::MAX, &key, &gone[..32])] {
        assert_eq!(receiver.key(good, &key), Ok(()));
    }
    let other = CallKey::from_bytes([6; 32]);
    let twice = [gone[0], Gone { number: 5, ..gone[0] }];
    for (what, bad) in [
        ("the hash of another key", epoch(1, &other, &[])),
        ("no hash", Epoch { id: EpochId { n: 1, ..EpochId::default() }, gone: vec![] }),
        ("the epoch of ringing", epoch(0, &key, &[])),
        ("unsorted", epoch(1, &key, &[gone[1], gone[0]])),
        ("somebody twice", epoch(1, &key, &twice)),
        ("the same twice", epoch(1, &key, &[gone[0], gone[0]])),
        ("too many", epoch(1, &key, &gone)),
    ] {
        assert_eq!(receiver.key(bad, &key), Err(OpenError::Decode), "{what}");
    }
}
