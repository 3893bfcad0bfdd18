//! Who belongs to a call, as bytes: what is signed, how a call and its keys get their names, and what is kept of it.
//!
//! A call's id is the hash of its [`Create`] and of the signature under that, so whoever knows the id can check who made
//! the call and how. Each [`Record`] is signed for one call by who says it. What is signed and what is hashed has a fixed
//! width, so that no two of them run into one another:
//!
//! - a create: `creator 32 | random 16 | may_invite 1 | most 1`
//! - a record: `subject 32 | number 4 | kind 1 | by 32`, behind `call id 16` where it is signed
//!
//! A roll travels in a session beside its signatures: the create's, then one for each record in order. Nothing of it is
//! passed on before all of them have verified ([`verify_roll`]). Only whoever has a session with us makes us do that,
//! and for at most 1 + [`MAX_RECORDS`] signatures. Measured in release on a shared core, from the frame to the packet: a
//! roll of two people takes 0.2 ms, one of 16 records 1.9, a full one 11 to 16, of which 5 are for its 97 signatures and
//! most of the others for looking at its 193 public keys.

use minicbor::{Decoder, Encoder};

use super::{
    CallKey, OpenError, SealError,
    codec::{self, SIGNATURE_LEN},
    frame::TRANSPORT_BUCKETS,
    secret::{half, labelled_hash},
};
use crate::{
    id::{CallId, Identity, Label, Signature},
    proto::signal::{
        Create, Epoch, KeyHash, MAX_MEMBERS, MAX_RECORDS, MAX_SUBJECTS, MayInvite, MediaFormat, Record,
        RecordKind, Roll, RollHash,
    },
};

/// The most bytes of a saved roll, as of a packet: the largest roll takes 13,479 saved, and 13,509 in a packet.
const MAX_SAVED: usize = TRANSPORT_BUCKETS[5];

/// Signs how a call comes to be. `identity` is its creator: under another signature the call is nobody's.
pub fn sign_create(identity: &Identity, create: &Create) -> Signature {
    identity.sign(Label::Create, &create_bytes(create))
}

/// The id of the call that came to be so.
pub fn call_id(create: &Create, signature: &Signature) -> CallId {
    CallId::from_bytes(half(labelled_hash(
        b"warp-blink/1 call-id\0",
        &[&create_bytes(create), signature.as_bytes()],
    )))
}

/// Signs a word about somebody's place in this call. `identity` is who says it, the record's `by`.
pub fn sign_record(identity: &Identity, call: CallId, record: &Record) -> Signature {
    identity.sign(Label::Record, &signed_record(call, record))
}

/// Names what a roll of this call says. Signatures are no part of it: one word can have several.
pub fn roll_hash(call: CallId, roll: &Roll) -> RollHash {
    let records: Vec<u8> = roll.records.iter().flat_map(record_bytes).collect();
    let parts = [&call.as_bytes()[..], &create_bytes(&roll.create), &records];
    RollHash(half(labelled_hash(b"warp-blink/1 roll-hash\0", &parts)))
}

impl CallKey {
    /// Names the key without telling it.
    pub fn hash(&self) -> KeyHash {
        KeyHash(half(labelled_hash(b"warp-blink/1 key-hash\0", &[self.expose()])))
    }
}

/// Checks everything that a roll says of this call: its shape, that the call's id comes of it, and each signature. A
/// [`Session`](super::Session) does so by itself; this is for what comes from elsewhere, as from a store.
///
/// Whether somebody may say what they say is for the reader to decide, but for this much: only who left says so, and
/// only the creator removes others.
///
/// # Errors
/// [`OpenError::Decode`] for a shape that no correct side makes, [`OpenError::Signature`] for another call's create and
/// for a signature that is not of whom it should be.
pub fn verify_roll(call: CallId, roll: &Roll, signatures: &[Signature]) -> Result<(), OpenError> {
    check_roll(roll, signatures.len()).map_err(|_| OpenError::Decode)?;
    let (first, rest) = signatures.split_first().ok_or(OpenError::Decode)?;
    // A hash first: another call's roll costs no more than that.
    if call_id(&roll.create, first) != call {
        return Err(OpenError::Signature);
    }
    let Roll { create, records } = roll;
    create
        .creator
        .verify(Label::Create, &create_bytes(create), first)
        .and_then(|()| {
            records.iter().zip(rest).try_for_each(|(record, signature)| {
                record.by.verify(Label::Record, &signed_record(call, record), signature)
            })
        })
        .map_err(|_| OpenError::Signature)
}

/// The shape of a roll with so many signatures.
pub(super) fn check_roll(roll: &Roll, signatures: usize) -> Result<(), SealError> {
    let Roll { create, records } = roll;
    codec::at_most("list of records", records.len(), MAX_RECORDS)?;
    let fits = |fits: bool, what| if fits { Ok(()) } else { Err(SealError::Roll(what)) };
    fits((2..=MAX_MEMBERS).contains(&create.most.into()), "has no room for two, or too much")?;
    fits(signatures == 1 + records.len(), "lacks a signature, or has one too many")?;
    fits(records.is_sorted_by(|a, b| a < b), "has records out of order, or one of them twice")?;
    let may_say = |record: &Record| match record.kind {
        RecordKind::Add => true,
        RecordKind::Leave => record.by == record.subject,
        RecordKind::Remove => record.by == create.creator && record.subject != create.creator,
    };
    fits(records.iter().all(may_say), "has a record by somebody who cannot say that")
}

/// The shape of an epoch that goes with this key.
pub(super) fn check_epoch(epoch: &Epoch, key: &CallKey) -> Result<(), SealError> {
    codec::at_most("list of who is gone", epoch.gone.len(), MAX_SUBJECTS)?;
    let fits = |fits: bool, what| if fits { Ok(()) } else { Err(SealError::Epoch(what)) };
    fits(epoch.id.n >= 1, "is that of ringing, whose key travels in message 1")?;
    fits(epoch.id.key == key.hash(), "names another key")?;
    let ordered = epoch.gone.is_sorted_by(|a, b| a.subject < b.subject);
    fits(ordered, "has who is gone out of order, or somebody twice")
}

/// What a later run needs to come back to a call: `[roll, signatures, media]`. What is malformed is encoded too, and
/// refused by [`decode_saved`].
pub fn encode_saved(roll: &Roll, signatures: &[Signature], media: MediaFormat) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(MAX_SAVED);
    let mut e = Encoder::new(&mut bytes);
    // Writing into memory cannot fail, and no type here refuses to be encoded.
    let _ = e
        .array(3)
        .and_then(|e| e.encode(roll))
        .and_then(|e| codec::byte_string(e, &[], signatures))
        .and_then(|e| e.encode(media));
    bytes
}

/// What was [saved](encode_saved) of this call, if it is whole and every signature [verifies](verify_roll).
pub fn decode_saved(call: CallId, bytes: &[u8]) -> Option<(Roll, Vec<Signature>, MediaFormat)> {
    let (roll, signatures, media) = read_saved(bytes)?;
    verify_roll(call, &roll, &signatures).ok()?;
    Some((roll, signatures, media))
}

/// The same, where nobody has looked at a signature yet.
pub(super) fn read_saved(bytes: &[u8]) -> Option<(Roll, Vec<Signature>, MediaFormat)> {
    if bytes.len() > MAX_SAVED {
        return None;
    }
    let mut d = codec::decoder(bytes).ok()?;
    codec::items(&mut d, 3).ok()?;
    few(&mut d.probe(), MAX_RECORDS).ok()?;
    let roll: Roll = d.decode().ok()?;
    let signatures = signatures(&mut d, &roll).ok()?;
    let media = d.decode().ok()?;
    check_roll(&roll, signatures.len()).ok()?;
    (encode_saved(&roll, &signatures, media) == bytes).then_some((roll, signatures, media))
}

/// As many signatures as this roll has.
pub(super) fn signatures(d: &mut Decoder<'_>, roll: &Roll) -> Result<Vec<Signature>, OpenError> {
    let bytes = d.bytes().map_err(codec::fault)?;
    if bytes.len() != SIGNATURE_LEN * (1 + roll.records.len()) {
        return Err(OpenError::Decode);
    }
    let (found, _) = bytes.as_chunks::<SIGNATURE_LEN>();
    Ok(found.iter().map(|bytes| Signature::from_bytes(*bytes)).collect())
}

/// Looks whether the list behind the first field has at most so many items: of a [`Roll`] or of an [`Epoch`]. Each item
/// holds public keys, which cost more to check than they take bytes, so their number is looked at before any is.
pub(super) fn few(d: &mut Decoder<'_>, max: usize) -> Result<(), OpenError> {
    d.array().map_err(codec::fault)?;
    d.skip().map_err(codec::fault)?;
    match d.array().map_err(codec::fault)?.map(usize::try_from) {
        Some(Ok(items)) if items <= max => Ok(()),
        _ => Err(OpenError::Decode),
    }
}

fn create_bytes(create: &Create) -> [u8; 50] {
    let may_invite = match create.may_invite {
        MayInvite::Members => 0,
        MayInvite::Creator => 1,
    };
    let mut bytes = [0; 50];
    bytes[..32].copy_from_slice(create.creator.as_bytes());
    bytes[32..48].copy_from_slice(&create.random);
    bytes[48..].copy_from_slice(&[may_invite, create.most]);
    bytes
}

fn record_bytes(record: &Record) -> [u8; 69] {
    let kind = match record.kind {
        RecordKind::Add => 0,
        RecordKind::Leave => 1,
        RecordKind::Remove => 2,
    };
    let mut bytes = [0; 69];
    bytes[..32].copy_from_slice(record.subject.as_bytes());
    bytes[32..36].copy_from_slice(&record.number.to_be_bytes());
    bytes[36] = kind;
    bytes[37..].copy_from_slice(record.by.as_bytes());
    bytes
}

fn signed_record(call: CallId, record: &Record) -> Vec<u8> {
    [&call.as_bytes()[..], &record_bytes(record)].concat()
}

#[cfg(test)]
pub(super) mod tests;
