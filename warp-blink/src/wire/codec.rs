//! The inside of messages: CBOR (RFC 8949) in one encoding only, and padding.
//!
//! Before anything is decoded, its heads are walked once: what nests deep, or announces no length, goes no further
//! ([`shallow`]). What is decoded is encoded again and must give the same bytes. That refuses, in one place, what a lenient decoder
//! lets through: trailing bytes, unknown fields, integers and lengths written long, pieces of indefinite length.

use minicbor::{Decoder, Encoder, decode, encode};
use zeroize::Zeroizing;

use super::{
    Attachment, CallKey, ContactToken, HelloSecrets, KemKey, OpenError, PeerSeed, SealError, TurnPass,
    WelcomeSecrets, Whereabouts, frame::TRANSPORT_BUCKETS, roll,
};
use crate::{
    id::{CallId, NodeId, PublicKey, Signature},
    proto::signal::{
        AppData, Body, CallBody, Hello, MAX_APP_DATA, MAX_CANDIDATE, MAX_DESCRIPTION, MAX_RECORDS,
        MAX_SUBJECTS, Packet, Welcome,
    },
    time::UnixTime,
};

/// The most versions, and the most suites, that a hello lists.
const MAX_LISTED: usize = 8;

/// The length of a signature (RFC 8032).
pub(super) const SIGNATURE_LEN: usize = 64;

/// The numbers of [`Body::CallKey`] and of [`Body::Roll`], which hold lists.
pub(super) const CALL_KEY: u32 = 7;
pub(super) const ROLL: u32 = 18;

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
    let mut d = decoder(bytes)?;
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
    let mut d = decoder(bytes)?;
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

pub(super) fn encode_packet(
    packet: &Packet,
    attachment: Option<&Attachment>,
) -> Result<SecretBytes, SealError> {
    let made = match attachment {
        Some(Attachment::Where(place)) => Zeroizing::new(place.encode()?),
        Some(Attachment::Turn(pass)) => pass.encode()?,
        _ => SecretBytes::default(),
    };
    let (attached, signatures): (&[u8], &[Signature]) = match (&packet.body, attachment) {
        (Body::CallKey(epoch), Some(Attachment::CallKey(key))) => {
            roll::check_epoch(epoch, key)?;
            (key.expose(), &[])
        }
        (Body::Token, Some(Attachment::Token(token))) => (token.expose(), &[]),
        (Body::KemKey, Some(Attachment::KemKey(key))) => (key.as_bytes(), &[]),
        (Body::Roll(roll), Some(Attachment::Signatures(signatures))) => {
            roll::check_roll(roll, signatures.len())?;
            (&[], signatures)
        }
        (Body::Where(_), Some(Attachment::Where(_))) | (Body::Turn, Some(Attachment::Turn(_))) => {
            (&made, &[])
        }
        (Body::CallKey(_) | Body::Token | Body::KemKey | Body::Roll(_) | Body::Where(_) | Body::Turn, _)
        | (_, Some(_)) => {
            return Err(SealError::Attachment);
        }
        (_, None) => (&[], &[]),
    };
    match &packet.body {
        Body::Description(description) => at_most("description", description.text.len(), MAX_DESCRIPTION)?,
        Body::Candidate(candidate) => at_most("candidate", candidate.text.len(), MAX_CANDIDATE)?,
        _ => {}
    }
    written(|e| {
        e.array(6 + u64::from(attachment.is_some()))?;
        e.u32(packet.seq)?.u32(packet.ack)?.u32(packet.ack_bits)?;
        e.bytes(packet.call.as_bytes())?.u32(packet.generation)?.encode(&packet.body)?;
        if attachment.is_some() {
            byte_string(e, attached, signatures)?;
        }
        Ok(())
    })
}

pub(super) fn decode_packet(bytes: &[u8]) -> Result<(Packet, Option<Attachment>), OpenError> {
    let mut d = decoder(bytes)?;
    d.array().map_err(fault)?;
    let packet = Packet {
        seq: d.u32().map_err(fault)?,
        ack: d.u32().map_err(fault)?,
        ack_bits: d.u32().map_err(fault)?,
        call: CallId::from_bytes(exactly(&mut d)?),
        generation: d.u32().map_err(fault)?,
        // Its texts are no longer than the frame; their own bounds are checked by encoding again.
        body: body(&mut d)?,
    };
    let attachment = match &packet.body {
        Body::CallKey(_) => Some(Attachment::CallKey(CallKey::from_bytes(exactly(&mut d)?))),
        Body::Token => Some(Attachment::Token(ContactToken::from_bytes(exactly(&mut d)?))),
        Body::KemKey => {
            let bytes = d.bytes().map_err(fault)?;
            Some(Attachment::KemKey(KemKey::from_bytes(bytes).map_err(|_| OpenError::KemKey)?))
        }
        Body::Roll(roll) => Some(Attachment::Signatures(roll::signatures(&mut d, roll)?)),
        Body::Where(_) => Some(Attachment::Where(Whereabouts::decode(d.bytes().map_err(fault)?)?)),
        Body::Turn => Some(Attachment::Turn(TurnPass::decode(d.bytes().map_err(fault)?)?)),
        _ => None,
    };
    same_again(bytes, encode_packet(&packet, attachment.as_ref()))?;
    // Last, since it costs most: what is malformed has gone no further than here.
    if let (Body::Roll(roll), Some(Attachment::Signatures(signatures))) = (&packet.body, &attachment) {
        roll::verify_roll(packet.call, roll, signatures)?;
    }
    Ok((packet, attachment))
}

/// A body whose lists are short enough to be looked at.
fn body(d: &mut Decoder<'_>) -> Result<Body, OpenError> {
    let mut ahead = d.probe();
    ahead.array().map_err(fault)?;
    let most = match ahead.u32() {
        Ok(CALL_KEY) => Some(MAX_SUBJECTS),
        Ok(ROLL) => Some(MAX_RECORDS),
        // What else there is, and what is none, the decoder tells.
        _ => None,
    };
    if let Some(most) = most {
        ahead.array().map_err(fault)?;
        roll::few(&mut ahead, most)?;
    }
    d.decode().map_err(fault)
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
    let mut d = decoder(bytes)?;
    items(&mut d, 3)?;
    let (from, version) = (public_key(&mut d)?, d.u64().map_err(fault)?);
    let body = d.decode().map_err(fault)?;
    same_again(bytes, encode_call(&from, version, &body))?;
    Ok((from, version, body))
}

/// How deep messages nest: a packet, its body, the body's fields, the roll in one of them, its records, and a record.
const MAX_DEPTH: usize = 6;

/// Writes one byte string: these bytes, then these signatures.
pub(super) fn byte_string<'e, 'b>(
    e: &'e mut Encoder<&'b mut Vec<u8>>,
    bytes: &[u8],
    signatures: &[Signature],
) -> Result<&'e mut Encoder<&'b mut Vec<u8>>, encode::Error<core::convert::Infallible>> {
    e.bytes_len((bytes.len() + SIGNATURE_LEN * signatures.len()) as u64)?;
    e.writer_mut().extend_from_slice(bytes);
    signatures.iter().for_each(|signature| e.writer_mut().extend_from_slice(signature.as_bytes()));
    Ok(e)
}

/// Decodes from bytes whose heads have been walked.
pub(super) fn decoder(bytes: &[u8]) -> Result<Decoder<'_>, OpenError> {
    shallow(bytes)?;
    Ok(Decoder::new(bytes))
}

/// Walks the heads of the first item (RFC 8949, section 3) without a heap and without recursion. The decoder keeps a
/// stack for what it passes over, which a sender could make grow with each byte; behind this check it does not.
fn shallow(bytes: &[u8]) -> Result<(), OpenError> {
    // How many items are still to come on each level.
    let (mut open, mut depth, mut rest) = ([0u64; MAX_DEPTH + 1], 0, bytes);
    open[0] = 1;
    while let Some(left) = open.get_mut(depth) {
        if *left == 0 {
            let Some(up) = depth.checked_sub(1) else { return Ok(()) };
            depth = up;
            continue;
        }
        *left -= 1;
        let (&head, after) = rest.split_first().ok_or(OpenError::Decode)?;
        let (kind, short) = (head >> 5, head & 0x1f);
        let length = match short {
            0..24 => 0,
            24..28 => 1usize << (short - 24),
            // Reserved, or of a length that nobody has announced.
            _ => return Err(OpenError::Decode),
        };
        let (argument, after) = after.split_at_checked(length).ok_or(OpenError::Decode)?;
        let argument = match length {
            0 => short.into(),
            _ => argument.iter().fold(0u64, |number, byte| number << 8 | u64::from(*byte)),
        };
        rest = after;
        let inside = match kind {
            2 | 3 => {
                let passed = usize::try_from(argument).map_err(|_| OpenError::Decode)?;
                rest = rest.get(passed..).ok_or(OpenError::Decode)?;
                continue;
            }
            4 => argument,
            5 => argument.checked_mul(2).ok_or(OpenError::Decode)?,
            6 => 1,
            _ => continue,
        };
        depth += 1;
        *open.get_mut(depth).ok_or(OpenError::Decode)? = inside;
    }
    Err(OpenError::Decode)
}

type Written = Result<(), encode::Error<core::convert::Infallible>>;

/// Encodes into a buffer that is large enough from the start, so that growth leaves no copy of a secret behind.
fn written(write: impl FnOnce(&mut Encoder<&mut Vec<u8>>) -> Written) -> Result<SecretBytes, SealError> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(TRANSPORT_BUCKETS[5]));
    // Writing into memory cannot fail, and no type here refuses to be encoded.
    write(&mut Encoder::new(&mut *bytes)).map_err(|_| SealError::Engine)?;
    Ok(bytes)
}

pub(super) fn at_most(what: &'static str, len: usize, max: usize) -> Result<(), SealError> {
    if len <= max { Ok(()) } else { Err(SealError::TooLong { what, len, max }) }
}

fn same_again(bytes: &[u8], again: Result<SecretBytes, SealError>) -> Result<(), OpenError> {
    match again {
        Ok(again) if *again == bytes => Ok(()),
        _ => Err(OpenError::Decode),
    }
}

pub(super) fn fault(error: decode::Error) -> OpenError {
    if error.is_unknown_variant() { OpenError::Unknown } else { OpenError::Decode }
}

pub(super) fn items(d: &mut Decoder<'_>, expected: u64) -> Result<(), OpenError> {
    if d.array().map_err(fault)? == Some(expected) { Ok(()) } else { Err(OpenError::Decode) }
}

pub(super) fn bounded<'b>(d: &mut Decoder<'b>, max: usize) -> Result<&'b [u8], OpenError> {
    let bytes = d.bytes().map_err(fault)?;
    if bytes.len() <= max { Ok(bytes) } else { Err(OpenError::Decode) }
}

fn exactly<const N: usize>(d: &mut Decoder<'_>) -> Result<[u8; N], OpenError> {
    d.bytes().map_err(fault)?.try_into().map_err(|_| OpenError::Decode)
}

fn public_key(d: &mut Decoder<'_>) -> Result<PublicKey, OpenError> {
    PublicKey::from_bytes(exactly(d)?).map_err(OpenError::Identity)
}

pub(super) fn node_id(d: &mut Decoder<'_>) -> Result<NodeId, OpenError> {
    NodeId::from_bytes(d.bytes().map_err(fault)?).map_err(|_| OpenError::Decode)
}

#[cfg(test)]
mod tests;
