use minicbor::Encode;

use super::*;
use crate::{
    id::{PublicKey, SignatureError},
    proto::signal::{Body, EpochId, Gone, Packet},
    wire::{Attachment, codec::encode_packet},
};

pub(in crate::wire) fn person(n: u8) -> Identity {
    Identity::from_seed([n; 32])
}

fn key(n: u8) -> PublicKey {
    person(n).public()
}

pub(in crate::wire) fn record(subject: u8, number: u32, kind: RecordKind, by: u8) -> Record {
    Record { subject: key(subject), number, kind, by: key(by) }
}

/// A call that person 0 made, and what is said of it, which need not be right.
#[derive(Clone)]
pub(in crate::wire) struct Group {
    pub(in crate::wire) call: CallId,
    pub(in crate::wire) roll: Roll,
    pub(in crate::wire) signatures: Vec<Signature>,
}

impl Group {
    pub(in crate::wire) fn of(records: &[Record]) -> Self {
        let create = Create { creator: key(0), random: [7; 16], may_invite: MayInvite::Members, most: 16 };
        let signature = sign_create(&person(0), &create);
        let roll = Roll { create, records: Vec::new() };
        let mut group = Self { call: call_id(&create, &signature), roll, signatures: vec![signature] };
        let mut records = records.to_vec();
        records.sort_unstable();
        records.iter().for_each(|record| group.say(*record));
        group
    }

    /// Says this last, signed by one of the first hundred people.
    pub(in crate::wire) fn say(&mut self, record: Record) {
        let by = (0..100).map(person).find(|person| person.public() == record.by).unwrap();
        self.signatures.push(sign_record(&by, self.call, &record));
        self.roll.records.push(record);
    }

    pub(in crate::wire) fn of_two() -> Self {
        Self::of(&[record(1, 1, RecordKind::Add, 0)])
    }

    /// As many records as there may be, with the longest numbers.
    pub(in crate::wire) fn full() -> Self {
        let records: Vec<Record> = (1..=96).map(|n| record(n, u32::MAX, RecordKind::Leave, n)).collect();
        assert_eq!(records.len(), MAX_RECORDS);
        Self::of(&records)
    }

    fn verify(&self) -> Result<(), OpenError> {
        verify_roll(self.call, &self.roll, &self.signatures)
    }

    pub(in crate::wire) fn body(&self) -> Body {
        Body::Roll(self.roll.clone())
    }

    pub(in crate::wire) fn attachment(&self) -> Attachment {
        Attachment::Signatures(self.signatures.clone())
    }

    /// The length of the largest packet that says it.
    fn packet_len(&self) -> usize {
        let most = u32::MAX;
        let packet = Packet {
            seq: most,
            ack: most,
            ack_bits: most,
            call: self.call,
            generation: most,
            body: self.body(),
        };
        encode_packet(&packet, Some(&self.attachment())).unwrap().len()
    }
}

#[test]
fn rolls_fit_their_buckets() {
    let added = |n: u8| record(n, u32::MAX, RecordKind::Add, 0);
    let bucket = |group: &Group| {
        assert_eq!(group.verify(), Ok(()));
        TRANSPORT_BUCKETS.into_iter().find(|bucket| group.packet_len() + 2 <= *bucket)
    };
    // The initiator's first message looks like a confirmation, and so it does where two are called at once.
    assert_eq!(Group::of(&[added(1)]).packet_len(), 302);
    assert_eq!(bucket(&Group::of(&[added(1)])), Some(512));
    assert_eq!(bucket(&Group::of(&[added(1), added(2)])), Some(512));
    assert_eq!(bucket(&Group::of(&[added(1), added(2), added(3)])), Some(1024));
    assert_eq!(Group::full().packet_len(), 13_509);
    assert_eq!(bucket(&Group::full()), Some(16_384));
    let full = Group::full();
    let media = MediaFormat { frame_ms: u8::MAX, channels: u8::MAX, max_bitrate: u32::MAX };
    let saved = encode_saved(&full.roll, &full.signatures, media);
    assert_eq!(saved.len(), 13_479);
    assert_eq!(decode_saved(full.call, &saved), Some((full.roll, full.signatures, media)));
}

/// Every field of what is signed and named counts, and no two texts of one length are one text with its bytes moved.
#[test]
fn every_field_is_signed_and_named() {
    let Group { call, roll, signatures } = Group::of_two();
    let Roll { create, records } = &roll;
    let creates = [
        *create,
        Create { creator: key(1), ..*create },
        Create { random: [8; 16], ..*create },
        Create { may_invite: MayInvite::Creator, ..*create },
        Create { most: 15, ..*create },
    ];
    let word = records[0];
    let words = [
        word,
        Record { subject: key(2), ..word },
        Record { number: 2, ..word },
        Record { number: 1 << 24, ..word },
        Record { kind: RecordKind::Leave, ..word },
        Record { kind: RecordKind::Remove, ..word },
        Record { by: key(2), ..word },
        Record { subject: word.by, by: word.subject, ..word },
    ];
    let other = CallId::from_bytes([9; 16]);
    for (at, changed) in creates.iter().enumerate() {
        let verified = key(0).verify(Label::Create, &create_bytes(changed), &signatures[0]);
        assert_eq!(verified.is_ok(), at == 0, "{changed:?}");
        assert_eq!(call_id(changed, &signatures[0]) == call, at == 0, "{changed:?}");
    }
    assert_ne!(call_id(create, &signatures[1]), call);
    for (at, changed) in words.iter().enumerate() {
        let verified = key(0).verify(Label::Record, &signed_record(call, changed), &signatures[1]);
        assert_eq!(verified.is_ok(), at == 0, "{changed:?}");
    }
    assert_eq!(
        key(0).verify(Label::Record, &signed_record(other, &word), &signatures[1]),
        Err(SignatureError)
    );

    let of = |create: Create, records: Vec<Record>| Roll { create, records };
    let mut names: Vec<RollHash> = creates.iter().map(|c| roll_hash(call, &of(*c, vec![word]))).collect();
    names.extend(words[1..].iter().map(|word| roll_hash(call, &of(*create, vec![*word]))));
    names.push(roll_hash(call, &of(*create, vec![])));
    names.push(roll_hash(call, &of(*create, vec![words[1], words[2]])));
    names.push(roll_hash(call, &of(*create, vec![words[2], words[1]])));
    names.push(roll_hash(other, &roll));
    for (at, name) in names.iter().enumerate() {
        assert!(!names[..at].contains(name), "{at}");
    }
}

#[test]
fn keys_are_named_by_half_of_a_hash() {
    let key = CallKey::from_bytes([5; 32]);
    assert_eq!(key.hash(), key.clone().hash());
    assert_ne!(key.hash(), CallKey::from_bytes([6; 32]).hash());
    let whole = labelled_hash(b"warp-blink/1 key-hash\0", &[&[5; 32]]);
    assert_eq!(key.hash().0, whole[..16]);
}

/// One byte string, in which a signature begins where the one before ends.
#[test]
fn hostile_saved_bytes_are_refused() {
    let good = Group::of(&[record(1, 1, RecordKind::Add, 0), record(2, 1, RecordKind::Add, 1)]);
    let media = MediaFormat::default();
    let saved = encode_saved(&good.roll, &good.signatures, media);
    assert!(decode_saved(good.call, &saved).is_some());
    let refused = |what: &str, bytes: &[u8]| {
        assert!(read_saved(bytes).is_none(), "{what}");
        assert!(decode_saved(good.call, bytes).is_none(), "{what}");
    };
    for cut in 0..saved.len() {
        refused("cut", &saved[..cut]);
    }
    refused("trailing", &[&saved[..], &[0]].concat());
    refused("one item more", &[&[0x84][..], &saved[1..], &[0]].concat());
    refused("long head", &[&[0x98, 3][..], &saved[1..]].concat());
    refused("indefinite", &[&[0x9f][..], &saved[1..], &[0xff]].concat());
    refused("deep", &[0x81; 10_000]);
    refused("too long", &vec![0; MAX_SAVED + 1]);
    let with = |roll: &Roll, signatures: &[Signature]| encode_saved(roll, signatures, media);
    refused("a signature too few", &with(&good.roll, &good.signatures[1..]));
    refused("a signature too many", &with(&good.roll, &[good.signatures[0]; 4]));
    let mut unsorted = good.clone();
    unsorted.roll.records.reverse();
    unsorted.signatures[1..].reverse();
    refused("unsorted", &with(&unsorted.roll, &unsorted.signatures));
    let mut many = Group::full();
    many.say(record(97, 1, RecordKind::Add, 0));
    refused("too many", &with(&many.roll, &many.signatures));

    // One bit anywhere: refused, by its shape or by a signature. The media format is signed by nobody.
    let format = minicbor::to_vec(media).unwrap().len();
    for bit in 0..(saved.len() - format) * 8 {
        let mut flipped = saved.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(decode_saved(good.call, &flipped).is_none(), "bit {bit}");
    }
}

/// Lists that are too long are refused before one of their keys is looked at: none here is a key.
#[test]
fn hostile_lists_are_counted_first() {
    let list = |create: &[u8], items: usize, item: &[u8]| {
        let items = [&[0x99, (items >> 8) as u8, items as u8][..], &item.repeat(items)].concat();
        [&[0x82][..], create, &items].concat()
    };
    for items in [MAX_RECORDS, MAX_RECORDS + 1, 4000] {
        let bytes = list(&[0x80], items, &[0x84, 0, 0, 0, 0]);
        let counted = few(&mut Decoder::new(&bytes), MAX_RECORDS);
        assert_eq!(counted.is_ok(), items == MAX_RECORDS, "{items}");
    }
    // An array that announces more than there is, and one of no length.
    assert!(few(&mut Decoder::new(&[0x82, 0, 0x9b, 255, 255, 255, 255, 255, 255, 255, 255]), 96).is_err());
    assert!(few(&mut Decoder::new(&[0x82, 0, 0x9f, 0xff]), 96).is_err());
}

/// The numbers by which a list is found before its body is decoded.
#[test]
fn bodies_with_lists_have_the_numbers_that_are_looked_for() {
    fn number(body: impl Encode<()>) -> u8 {
        minicbor::to_vec(body).unwrap()[1]
    }
    let gone = vec![Gone { subject: key(1), number: 1 }];
    assert_eq!(u32::from(number(Body::CallKey(Epoch { id: EpochId::default(), gone }))), codec::CALL_KEY);
    assert_eq!(u32::from(number(Group::of_two().body())), codec::ROLL);
}
