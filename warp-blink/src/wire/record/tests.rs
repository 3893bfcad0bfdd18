use super::*;
use crate::{
    id::NodeKey,
    wire::{KemSecret, kem::KemKey},
};

fn alice() -> Identity {
    Identity::from_seed([0xa1; 32])
}

fn node(n: u8) -> NodeId {
    NodeKey::from_seed([n; 32]).node_id()
}

/// Places at these nodes, in their order, each with so many addresses.
fn places(count: u8, addresses: usize) -> Vec<NodePlace> {
    let mut nodes: Vec<NodeId> = (0..count).map(node).collect();
    nodes.sort();
    let address = |n: usize| format!("/ip4/203.0.113.{n}/tcp/4001");
    let until = UnixTime::from_millis(1_001);
    let of = |node| NodePlace { node, until, addresses: (0..addresses).map(address).collect() };
    nodes.into_iter().map(of).collect()
}

fn record() -> Record {
    Record {
        sequence: 7,
        expires: UnixTime::from_millis(2_000),
        nodes: places(1, 2),
        versions: vec![1],
        suites: vec![2, 1],
        kem: Some(KemHash([9; 32])),
    }
}

const NOW: UnixTime = UnixTime::from_millis(1_000);

fn open(bytes: &[u8]) -> Result<Record, RecordError> {
    open_record(bytes, &alice().public(), NOW)
}

/// Whatever these contents are, signed by their owner.
fn signed(contents: &[u8]) -> Vec<u8> {
    let signature = alice().sign(Label::NodeRecord, contents);
    [&[VERSION], &alice().public().as_bytes()[..], signature.as_bytes(), contents].concat()
}

/// What somebody writes who checks nothing.
fn careless(record: &Record) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(record, &mut Encoder::new(&mut bytes)).unwrap();
    bytes
}

#[test]
fn a_record_comes_back_with_each_field_at_its_bounds() {
    type Change = fn(&mut Record);
    let good: [Change; 14] = [
        |_| {},
        |r| r.sequence = 0,
        |r| r.sequence = u64::MAX,
        |r| r.expires = UnixTime::from_millis(1_001),
        |r| r.expires = UnixTime::from_millis(u64::MAX),
        |r| r.nodes = places(1, 0),
        |r| r.nodes = places(4, 8),
        |r| r.nodes[0].until = UnixTime::from_millis(0),
        |r| r.nodes[0].until = r.expires,
        |r| r.nodes[0].addresses = vec!["/".to_owned() + &"x".repeat(MAX_ADDRESS_BYTES - 1)],
        |r| r.versions = vec![7; 8],
        |r| r.suites = vec![0],
        |r| r.suites = vec![255; 8],
        |r| r.kem = None,
    ];
    for (number, change) in good.into_iter().enumerate() {
        let mut record = record();
        change(&mut record);
        let bytes = seal_record(&alice(), &record).unwrap_or_else(|error| panic!("{number}: {error}"));
        assert_eq!(open(&bytes), Ok(record.clone()), "{number}");
        assert_eq!(read_record(&bytes), Ok((alice().public(), record)), "{number}");
    }
}

#[test]
fn one_beyond_its_bounds_is_neither_signed_nor_read() {
    type Change = fn(&mut Record);
    let bad: [Change; 15] = [
        |r| r.nodes.clear(),
        |r| r.nodes = places(5, 0),
        |r| r.nodes = places(1, 9),
        |r| r.nodes[0].until = UnixTime::from_millis(2_001),
        |r| {
            r.nodes = places(2, 1);
            r.nodes.reverse();
        },
        |r| {
            let twice = r.nodes[0].clone();
            r.nodes.push(twice);
        },
        |r| r.nodes[0].addresses = vec![String::new()],
        |r| r.nodes[0].addresses = vec!["x".repeat(MAX_ADDRESS_BYTES + 1)],
        |r| r.nodes[0].addresses = vec!["/ip4/\n".to_owned()],
        |r| r.nodes[0].addresses = vec!["/dns4/ä".to_owned()],
        |r| r.nodes[0].addresses = vec!["/a".to_owned(), "/a".to_owned()],
        |r| r.versions.clear(),
        |r| r.versions = vec![1; 9],
        |r| r.suites.clear(),
        |r| r.suites = vec![1; 9],
    ];
    for (number, change) in bad.into_iter().enumerate() {
        let mut record = record();
        change(&mut record);
        let sealed = seal_record(&alice(), &record);
        let refused = matches!(sealed, Err(SealError::TooLong { .. } | SealError::Record(_)));
        assert!(refused, "{number}: {sealed:?}");
        assert_eq!(open(&signed(&careless(&record))), Err(RecordError::Decode), "{number}");
    }
    // The whole is bounded as well.
    let mut long = record();
    long.nodes = places(4, 8);
    for address in long.nodes.iter_mut().flat_map(|place| &mut place.addresses) {
        *address += &"x".repeat(200);
    }
    assert!(matches!(seal_record(&alice(), &long), Err(SealError::TooLong { what: "record", .. })));
    assert_eq!(open(&signed(&careless(&long))), Err(RecordError::Size));
}

#[test]
fn a_forged_record_is_refused() {
    let bytes = seal_record(&alice(), &record()).unwrap();
    let mallory = Identity::from_seed([0xee; 32]);
    // Somebody else's, whoever it says that it is of.
    let theirs = seal_record(&mallory, &record()).unwrap();
    assert_eq!(open(&theirs), Err(RecordError::OtherIdentity));
    let mut claimed = theirs.clone();
    claimed[1..33].copy_from_slice(alice().public().as_bytes());
    assert_eq!(open(&claimed), Err(RecordError::Signature));
    assert_eq!(read_record(&claimed), Err(RecordError::Signature));
    // Any byte changed, anywhere.
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 0x40;
        assert!(open(&changed).is_err() && read_record(&changed) != Ok((alice().public(), record())), "{at}");
    }
    // A signature of the same bytes for another purpose.
    for label in [Label::Record, Label::Create, Label::CallMessage] {
        let contents = encoded(&record()).unwrap();
        let mut other = bytes.clone();
        other[33..HEADER].copy_from_slice(alice().sign(label, &contents).as_bytes());
        assert_eq!(open(&other), Err(RecordError::Signature), "{label:?}");
    }
    // A key that nobody can have.
    let mut nobody = bytes.clone();
    nobody[1..33].copy_from_slice(&[1; 32]);
    nobody[1] = 2;
    assert!(open(&nobody) == Err(RecordError::OtherIdentity));
    nobody[1..33].fill(0);
    nobody[1] = 1;
    assert!(matches!(read_record(&nobody), Err(RecordError::Identity(_))));
}

#[test]
fn size_version_time_and_trailing_bytes_are_looked_at() {
    let bytes = seal_record(&alice(), &record()).unwrap();
    for cut in 0..bytes.len() {
        assert!(open(&bytes[..cut]).is_err(), "{cut}");
    }
    for cut in 0..HEADER {
        assert_eq!(read_record(&bytes[..cut]), Err(RecordError::Size), "{cut}");
    }
    assert_eq!(open(&[&bytes[..], &[0]].concat()), Err(RecordError::Signature));
    let contents = &bytes[HEADER..];
    assert_eq!(open(&signed(&[contents, &[0]].concat())), Err(RecordError::Decode), "signed trailing bytes");
    assert_eq!(read_record(&vec![1; MAX_RECORD + 1]), Err(RecordError::Size));
    let mut later = bytes.clone();
    later[0] = 2;
    assert_eq!(open(&later), Err(RecordError::Version(2)));
    // It holds until it expires, for whom that matters.
    let at = |ms| open_record(&bytes, &alice().public(), UnixTime::from_millis(ms));
    assert_eq!(at(1_999), Ok(record()));
    assert_eq!(at(2_000), Err(RecordError::Expired));
    assert_eq!(at(u64::MAX), Err(RecordError::Expired));
    assert!(read_record(&bytes).is_ok());
}

#[test]
fn contents_have_one_encoding() {
    let contents = encoded(&record()).unwrap();
    assert_eq!(contents[..2], [0x86, 0x07]);
    // The same number, written longer.
    let long = [&[0x86, 0x18, 0x07], &contents[2..]].concat();
    // A list that does not say its length, and one that says a large one.
    let open_list = [&[0x9f], &contents[1..], &[0xff]].concat();
    let huge = [0x86, 0x07, 0x07, 0x9b, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00];
    let more = [&[0x87], &contents[1..], &[0x00]].concat();
    for hostile in [&long[..], &open_list, &huge, &more, &[], &[0x86], b"text"] {
        assert_eq!(open(&signed(hostile)), Err(RecordError::Decode), "{hostile:02x?}");
    }
}

#[test]
fn the_highest_number_counts() {
    let of = |sequence| Record { sequence, ..record() };
    assert!(of(8).replaces(&of(7)));
    assert!(!of(7).replaces(&of(7)) && !of(6).replaces(&of(7)));
}

#[test]
fn the_key_of_a_record_is_the_identity_s_and_no_topic() {
    let (a, b) = (alice().public(), Identity::from_seed([2; 32]).public());
    assert_ne!(record_key(&a), record_key(&b));
    assert_ne!(&record_key(&a), crate::wire::Topic::inbox(&a).as_bytes());
    assert_ne!(&record_key(&a), a.as_bytes());
}

#[test]
fn the_hash_of_an_ml_kem_key_names_it() {
    let key = |n| KemSecret::of(&Identity::from_seed([n; 32])).public();
    let (one, two): (KemKey, KemKey) = (key(1), key(2));
    assert_eq!(one.hash(), key(1).hash());
    assert_ne!(one.hash(), two.hash());
}

#[test]
fn debug_shows_no_address() {
    assert!(!format!("{:?}", record()).contains("203.0.113"));
}
