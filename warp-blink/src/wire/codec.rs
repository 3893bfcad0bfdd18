//! The inside of messages: CBOR (RFC 8949) in one encoding only, and padding.
//!
//! What is decoded is encoded again and must give the same bytes. That refuses, in one place, what a lenient decoder
//! lets through: trailing bytes, unknown fields, integers and lengths written long, pieces of indefinite length.

use minicbor::{Decoder, Encoder, decode, encode};
use zeroize::Zeroizing;

use super::{
    CallKey, HelloSecrets, OpenError, PeerSeed, SealError, WelcomeSecrets, frame::TRANSPORT_BUCKETS,
};
use crate::{
    id::{CallId, NodeId, PublicKey},
    proto::signal::{
        AppData, Body, CallBody, Hello, MAX_APP_DATA, MAX_CANDIDATE, MAX_DESCRIPTION, Packet, Welcome,
    },
    time::UnixTime,
};

/// The most versions, and the most suites, that a hello lists.
const MAX_LISTED: usize = 8;

/// The length field before padded contents.
const LEN: usize = 2;

/// Bytes that hold secrets and are overwritten when dropped.
pub(super) type SecretBytes = Zeroizing<Vec<u8>>;

/// Puts `contents` into the first of `buckets` that holds them: length, contents, zeros.
pub(super) fn pad(contents: &[u8], buckets: &[usize], what: &'static str) -> Result<SecretBytes, SealError> {
    let too_long = || SealError::TooLong {
        what,
        len: contents.len(),
        max: buckets.last().map_or(0, |largest| largest - LEN),
    };
    let bucket = *buckets.iter().find(|bucket| contents.len() + LEN <= **bucket).ok_or_else(too_long)?;
    let len = u16::try_from(contents.len()).map_err(|_| too_long())?;
    let mut padded = Zeroizing::new(Vec::with_capacity(bucket));
    padded.extend_from_slice(&len.to_be_bytes());
    padded.extend_from_slice(contents);
    padded.resize(bucket, 0);
    Ok(padded)
}

/// Takes the contents out of their bucket.
pub(super) fn unpad(padded: &[u8]) -> Result<&[u8], OpenError> {
    let (len, rest) = padded.split_first_chunk().ok_or(OpenError::Padding)?;
    let (contents, zeros) =
        rest.split_at_checked(u16::from_be_bytes(*len).into()).ok_or(OpenError::Padding)?;
    if zeros.iter().all(|zero| *zero == 0) { Ok(contents) } else { Err(OpenError::Padding) }
}

pub(super) fn encode_hello(hello: &Hello, secrets: &HelloSecrets) -> Result<SecretBytes, SealError> {
    at_most("list of versions", hello.versions.len(), MAX_LISTED)?;
    at_most("list of suites", hello.suites.len(), MAX_LISTED)?;
    written(|e| {
        e.array(12)?.encode(hello.kind)?.bytes(hello.from.as_bytes())?.bytes(hello.node.as_bytes())?;
        e.bytes(hello.call.as_bytes())?.u64(hello.sent_at.as_millis())?.u32(hello.ring_ms)?;
        e.bytes(&hello.versions)?.bytes(&hello.suites)?.encode(hello.media)?;
        e.bytes(hello.app_data.as_bytes())?;
        e.bytes(secrets.peer_seed.expose())?.bytes(secrets.call_key.expose())?;
        Ok(())
    })
}

pub(super) fn decode_hello(bytes: &[u8]) -> Result<(Hello, HelloSecrets), OpenError> {
    let mut d = Decoder::new(bytes);
    items(&mut d, 12)?;
    let hello = Hello {
        kind: d.decode().map_err(fault)?,
        from: public_key(&mut d)?,
        node: node_id(&mut d)?,
        call: CallId::from_bytes(exactly(&mut d)?),
        sent_at: UnixTime::from_millis(d.u64().map_err(fault)?),
        ring_ms: d.u32().map_err(fault)?,
        versions: bounded(&mut d, MAX_LISTED)?.to_vec(),
        suites: bounded(&mut d, MAX_LISTED)?.to_vec(),
        media: d.decode().map_err(fault)?,
        app_data: AppData::new(bounded(&mut d, MAX_APP_DATA)?).map_err(|_| OpenError::Decode)?,
    };
    let secrets = HelloSecrets {
        peer_seed: PeerSeed::from_bytes(exactly(&mut d)?),
        call_key: CallKey::from_bytes(exactly(&mut d)?),
    };
    same_again(bytes, encode_hello(&hello, &secrets))?;
    Ok((hello, secrets))
}

pub(super) fn encode_welcome(welcome: &Welcome, secrets: &WelcomeSecrets) -> Result<SecretBytes, SealError> {
    written(|e| {
        e.array(5)?.bytes(welcome.node.as_bytes())?.u8(welcome.version)?.u8(welcome.suite)?;
        e.encode(welcome.status)?.bytes(secrets.peer_seed.expose())?;
        Ok(())
    })
}

pub(super) fn decode_welcome(bytes: &[u8]) -> Result<(Welcome, WelcomeSecrets), OpenError> {
    let mut d = Decoder::new(bytes);
    items(&mut d, 5)?;
    let welcome = Welcome {
        node: node_id(&mut d)?,
        version: d.u8().map_err(fault)?,
        suite: d.u8().map_err(fault)?,
        status: d.decode().map_err(fault)?,
    };
    let secrets = WelcomeSecrets { peer_seed: PeerSeed::from_bytes(exactly(&mut d)?) };
    same_again(bytes, encode_welcome(&welcome, &secrets))?;
    Ok((welcome, secrets))
}

pub(super) fn encode_packet(packet: &Packet, key: Option<&CallKey>) -> Result<SecretBytes, SealError> {
    if key.is_some() != matches!(packet.body, Body::CallKey(_)) {
        return Err(SealError::CallKey);
    }
    match &packet.body {
        Body::Description(description) => at_most("description", description.text.len(), MAX_DESCRIPTION)?,
        Body::Candidate(candidate) => at_most("candidate", candidate.text.len(), MAX_CANDIDATE)?,
        _ => {}
    }
    written(|e| {
        e.array(6 + u64::from(key.is_some()))?.u32(packet.seq)?.u32(packet.ack)?.u32(packet.ack_bits)?;
        e.bytes(packet.call.as_bytes())?.u32(packet.generation)?.encode(&packet.body)?;
        if let Some(key) = key {
            e.bytes(key.expose())?;
        }
        Ok(())
    })
}

pub(super) fn decode_packet(bytes: &[u8]) -> Result<(Packet, Option<CallKey>), OpenError> {
    let mut d = Decoder::new(bytes);
    d.array().map_err(fault)?;
    let packet = Packet {
        seq: d.u32().map_err(fault)?,
        ack: d.u32().map_err(fault)?,
        ack_bits: d.u32().map_err(fault)?,
        call: CallId::from_bytes(exactly(&mut d)?),
        generation: d.u32().map_err(fault)?,
        // Its texts are no longer than the frame; their own bounds are checked by encoding again.
        body: d.decode().map_err(fault)?,
    };
    let key = match packet.body {
        Body::CallKey(_) => Some(CallKey::from_bytes(exactly(&mut d)?)),
        _ => None,
    };
    same_again(bytes, encode_packet(&packet, key.as_ref()))?;
    Ok((packet, key))
}

pub(super) fn encode_call(from: &PublicKey, version: u64, body: &CallBody) -> Result<SecretBytes, SealError> {
    if let CallBody::Announce(announce) = body
        && announce.version != version
    {
        return Err(SealError::Version { announce: announce.version, envelope: version });
    }
    written(|e| {
        e.array(3)?.bytes(from.as_bytes())?.u64(version)?.encode(body)?;
        Ok(())
    })
}

pub(super) fn decode_call(bytes: &[u8]) -> Result<(PublicKey, u64, CallBody), OpenError> {
    let mut d = Decoder::new(bytes);
    items(&mut d, 3)?;
    let (from, version) = (public_key(&mut d)?, d.u64().map_err(fault)?);
    let body = d.decode().map_err(fault)?;
    same_again(bytes, encode_call(&from, version, &body))?;
    Ok((from, version, body))
}

type Written = Result<(), encode::Error<core::convert::Infallible>>;

/// Encodes into a buffer that is large enough from the start, so that growth leaves no copy of a secret behind.
fn written(write: impl FnOnce(&mut Encoder<&mut Vec<u8>>) -> Written) -> Result<SecretBytes, SealError> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(TRANSPORT_BUCKETS[5]));
    // Writing into memory cannot fail, and no type here refuses to be encoded.
    write(&mut Encoder::new(&mut *bytes)).map_err(|_| SealError::Engine)?;
    Ok(bytes)
}

fn at_most(what: &'static str, len: usize, max: usize) -> Result<(), SealError> {
    if len <= max { Ok(()) } else { Err(SealError::TooLong { what, len, max }) }
}

fn same_again(bytes: &[u8], again: Result<SecretBytes, SealError>) -> Result<(), OpenError> {
    match again {
        Ok(again) if *again == bytes => Ok(()),
        _ => Err(OpenError::Decode),
    }
}

fn fault(error: decode::Error) -> OpenError {
    if error.is_unknown_variant() { OpenError::Unknown } else { OpenError::Decode }
}

fn items(d: &mut Decoder<'_>, expected: u64) -> Result<(), OpenError> {
    if d.array().map_err(fault)? == Some(expected) { Ok(()) } else { Err(OpenError::Decode) }
}

fn bounded<'b>(d: &mut Decoder<'b>, max: usize) -> Result<&'b [u8], OpenError> {
    let bytes = d.bytes().map_err(fault)?;
    if bytes.len() <= max { Ok(bytes) } else { Err(OpenError::Decode) }
}

fn exactly<const N: usize>(d: &mut Decoder<'_>) -> Result<[u8; N], OpenError> {
    d.bytes().map_err(fault)?.try_into().map_err(|_| OpenError::Decode)
}

fn public_key(d: &mut Decoder<'_>) -> Result<PublicKey, OpenError> {
    PublicKey::from_bytes(exactly(d)?).map_err(OpenError::Identity)
}

fn node_id(d: &mut Decoder<'_>) -> Result<NodeId, OpenError> {
    NodeId::from_bytes(d.bytes().map_err(fault)?).map_err(|_| OpenError::Decode)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        id::Identity,
        proto::signal::{Announce, Description, DescriptionKind, HelloKind, MediaFormat, Status},
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

    fn packet(body: Body) -> Packet {
        Packet { seq: 1, ack: 2, ack_bits: 3, call: CallId::from_bytes([4; 16]), generation: 5, body }
    }

    #[test]
    fn the_largest_contents_fit_their_buckets() {
        let (hello, secrets) = hello();
        let bytes = encode_hello(&hello, &secrets).unwrap();
        assert!(pad(&bytes, &[super::super::frame::HELLO_BUCKET], "hello").is_ok(), "{} bytes", bytes.len());
        let welcome = Welcome {
            node: NodeId::from_bytes(&[&[0, 42][..], &[1; 42]].concat()).unwrap(),
            version: 255,
            suite: 255,
            status: Status::Cancelled,
        };
        let secrets = WelcomeSecrets { peer_seed: PeerSeed::from_bytes([1; 32]) };
        let bytes = encode_welcome(&welcome, &secrets).unwrap();
        assert!(pad(&bytes, &[super::super::frame::WELCOME_BUCKET], "welcome").is_ok());
        let text = "x".repeat(MAX_DESCRIPTION);
        let body = Body::Description(Description { kind: DescriptionKind::Answer, text });
        let bytes = encode_packet(&packet(body), None).unwrap();
        assert!(pad(&bytes, &TRANSPORT_BUCKETS, "packet").is_ok());
        let announce = Announce { version: u64::MAX, ..Announce::default() };
        let bytes = encode_call(&hello.from, u64::MAX, &CallBody::Announce(announce)).unwrap();
        assert!(pad(&[&[0; 64], &bytes[..]].concat(), &[super::super::frame::CALL_BUCKET], "call").is_ok());
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

    #[test]
    fn unknown_kinds_are_told_from_malformed_ones() {
        let bytes = encode_packet(&packet(Body::Ringing), None).unwrap();
        // The body is the last item: an array of the variant's number and of an array of its fields.
        assert_eq!(bytes[bytes.len() - 3..], [0x82, 0x01, 0x80]);
        let mut unknown = bytes.to_vec();
        let at = unknown.len() - 2;
        unknown[at] = 23;
        assert_eq!(decode_packet(&unknown), Err(OpenError::Unknown));
        let (hello, secrets) = hello();
        let mut unknown = encode_hello(&hello, &secrets).unwrap().to_vec();
        assert_eq!(unknown[1], 0);
        unknown[1] = 9;
        assert_eq!(decode_hello(&unknown).err(), Some(OpenError::Unknown));
    }

    #[test]
    fn a_call_key_travels_with_its_body_only() {
        let key = CallKey::from_bytes([6; 32]);
        let bytes = encode_packet(&packet(Body::CallKey(7)), Some(&key)).unwrap();
        assert_eq!(decode_packet(&bytes), Ok((packet(Body::CallKey(7)), Some(key.clone()))));
        assert_eq!(encode_packet(&packet(Body::CallKey(7)), None), Err(SealError::CallKey));
        assert_eq!(encode_packet(&packet(Body::Ack), Some(&key)), Err(SealError::CallKey));
        assert_eq!(decode_packet(&bytes[..bytes.len() - 34]).err(), Some(OpenError::Decode));
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
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = unpad(&bytes);
            let _ = decode_hello(&bytes);
            let _ = decode_welcome(&bytes);
            let _ = decode_call(&bytes);
            if let Ok((packet, key)) = decode_packet(&bytes) {
                prop_assert_eq!(&*encode_packet(&packet, key.as_ref()).unwrap(), &bytes);
            }
        }

        /// Near misses: a good encoding with a few bytes changed, which reach deeper into the decoder.
        #[test]
        fn changed_bytes_never_panic(changes in proptest::collection::vec((any::<u16>(), any::<u8>()), 1..4)) {
            let (hello, secrets) = hello();
            let text = "candidate".repeat(20);
            let body = Body::Description(Description { kind: DescriptionKind::Offer, text });
            for good in [
                encode_hello(&hello, &secrets).unwrap(),
                encode_packet(&packet(body), None).unwrap(),
                encode_packet(&packet(Body::Accept(MediaFormat::default())), None).unwrap(),
                encode_call(&hello.from, 3, &CallBody::Leave).unwrap(),
            ] {
                let mut bytes = good.to_vec();
                for (at, value) in &changes {
                    let at = usize::from(*at) % bytes.len();
                    bytes[at] = *value;
                }
                let _ = decode_hello(&bytes);
                let _ = decode_welcome(&bytes);
                let _ = decode_call(&bytes);
                if let Ok((packet, key)) = decode_packet(&bytes) {
                    prop_assert_eq!(&*encode_packet(&packet, key.as_ref()).unwrap(), &bytes);
                }
            }
        }
    }
}
