//! The signed record: at which nodes an identity is reached, and where.
//!
//! `version 1 | identity 32 | signature 64 | contents`, at most [`MAX_RECORD`] bytes. The contents are one CBOR array in the
//! one encoding: `[sequence, expires, [[node, until, [address]]], versions, suites, hash of the ML-KEM key or nothing]`. The
//! signature covers them, under a label of its own ([`Label::NodeRecord`]).
//!
//! One record speaks for all devices of an identity: each that publishes takes over what the others have said of
//! themselves, as long as that holds.
//!
//! A record lies with strangers: under [`record_key`], which tells nothing to who does not know the public key. So it is
//! believed only as far as its signature goes, and only for the identity that was asked for; of several the one with the
//! highest number counts ([`Record::replaces`]), which readers remember, so that nobody can bring an old one back. What it
//! says of addresses is tried, as everything that others say.
//!
//! Whoever stores records of others ([`read_record`]) can check all of that too, without knowing anybody.

use minicbor::{Decoder, Encoder, encode};

use super::{OpenError, SealError, codec, kem::KemHash, secret::labelled_hash};
use crate::{
    id::{Identity, KeyError, Label, NodeId, PublicKey, Signature},
    proto::signal::VERSION,
    time::UnixTime,
};

/// The most bytes of a record. A full one of four nodes with eight circuit addresses of 120 bytes each fits, which is a
/// quarter of what Kademlia carries in one message (16 KiB in libp2p).
pub const MAX_RECORD: usize = 4096;

/// The most nodes of one identity: as many as devices that somebody uses at the same time, and one more.
pub const MAX_NODES: usize = 4;

/// The most addresses of one node.
pub const MAX_ADDRESSES: usize = 8;

/// The most bytes of one address; the longest in use, through a relay with a name, have about 200.
pub const MAX_ADDRESS_BYTES: usize = 256;

/// The most versions, and the most suites.
const MAX_LISTED: usize = 8;

/// What stands before the contents.
const HEADER: usize = 1 + 32 + 64;

/// Where an identity is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its number, above those of all records before it.
    pub sequence: u64,
    /// Until then it holds.
    pub expires: UnixTime,
    /// The nodes, ordered by their names: one to [`MAX_NODES`].
    pub nodes: Vec<NodePlace>,
    /// The protocol versions that the identity speaks, the best first: one to eight.
    pub versions: Vec<u8>,
    /// The suites that it speaks, the best first: one to eight.
    pub suites: Vec<u8>,
    /// The hash of its ML-KEM key.
    pub kem: Option<KemHash>,
}

/// A node, and where it is.
#[derive(Clone, PartialEq, Eq)]
pub struct NodePlace {
    /// The node.
    pub node: NodeId,
    /// Until then this holds: no longer than the record, and shorter if another device has taken it over.
    pub until: UnixTime,
    /// Its addresses, the most promising first; each without the node's name at its end, or with it.
    pub addresses: Vec<String>,
}

impl std::fmt::Debug for NodePlace {
    /// Addresses belong in no log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NodePlace({:?}, {} addresses)", self.node, self.addresses.len())
    }
}

impl Record {
    /// Whether it is newer than another one of the same identity.
    pub fn replaces(&self, other: &Self) -> bool {
        self.sequence > other.sequence
    }
}

/// Why bytes are no record of somebody, in the order of the checks. They are dropped and counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// Too few bytes, or more than [`MAX_RECORD`].
    #[error("a record has {HEADER} to {MAX_RECORD} bytes")]
    Size,
    /// Another version: this build cannot read it.
    #[error("the record is of version {0}, which this build does not read")]
    Version(u8),
    /// No identity can have signed it.
    #[error("the record names a malformed key: {0}")]
    Identity(KeyError),
    /// It is somebody else's.
    #[error("the record is of another identity than the one that was asked for")]
    OtherIdentity,
    /// Its identity has not signed it, or signed something else.
    #[error("the record's signature does not verify")]
    Signature,
    /// What it says is malformed, not canonical or out of bounds.
    #[error("the record's contents are malformed")]
    Decode,
    /// It holds no longer.
    #[error("the record has expired")]
    Expired,
}

/// Where the record of this identity lies: the name under which others store it.
pub fn record_key(who: &PublicKey) -> [u8; 32] {
    labelled_hash(b"warp-blink/1 node-record-key\0", &[who.as_bytes()])
}

/// Signs a record.
///
/// # Errors
/// [`SealError::TooLong`] and [`SealError::Record`] for one that nobody would take.
pub fn seal_record(identity: &Identity, record: &Record) -> Result<Vec<u8>, SealError> {
    let contents = encoded(record)?;
    codec::at_most("record", HEADER + contents.len(), MAX_RECORD)?;
    let signature = identity.sign(Label::NodeRecord, &contents);
    let who = identity.public();
    Ok([&[VERSION], &who.as_bytes()[..], signature.as_bytes(), &contents].concat())
}

/// Reads a record of whoever it is of, whenever it is read: for those who store records of others.
///
/// # Errors
/// [`RecordError`], but never [`RecordError::OtherIdentity`] or [`RecordError::Expired`].
pub fn read_record(bytes: &[u8]) -> Result<(PublicKey, Record), RecordError> {
    let (who, signature, contents) = parts(bytes)?;
    let who = PublicKey::from_bytes(who).map_err(RecordError::Identity)?;
    Ok((who, verified(&who, &signature, contents)?))
}

/// Reads a record of this identity that holds at this time of day. A reader whose clock may be wrong takes
/// [`read_record`], and tries what an expired record says last.
///
/// # Errors
/// [`RecordError`].
pub fn open_record(bytes: &[u8], who: &PublicKey, now: UnixTime) -> Result<Record, RecordError> {
    let (signer, signature, contents) = parts(bytes)?;
    if signer != *who.as_bytes() {
        // Before anything is computed for it.
        return Err(RecordError::OtherIdentity);
    }
    let record = verified(who, &signature, contents)?;
    if record.expires <= now { Err(RecordError::Expired) } else { Ok(record) }
}

fn parts(bytes: &[u8]) -> Result<([u8; 32], Signature, &[u8]), RecordError> {
    if bytes.len() > MAX_RECORD {
        return Err(RecordError::Size);
    }
    let (&[version], rest) = bytes.split_first_chunk().ok_or(RecordError::Size)?;
    if version != VERSION {
        return Err(RecordError::Version(version));
    }
    let (who, rest) = rest.split_first_chunk().ok_or(RecordError::Size)?;
    let (signature, contents) = rest.split_first_chunk().ok_or(RecordError::Size)?;
    Ok((*who, Signature::from_bytes(*signature), contents))
}

/// The signature first: nothing of a stranger's is decoded.
fn verified(who: &PublicKey, signature: &Signature, contents: &[u8]) -> Result<Record, RecordError> {
    who.verify(Label::NodeRecord, contents, signature).map_err(|_| RecordError::Signature)?;
    decoded(contents).map_err(|_| RecordError::Decode)
}

/// The contents.
pub(super) fn encoded(record: &Record) -> Result<Vec<u8>, SealError> {
    check(record)?;
    let mut bytes = Vec::with_capacity(MAX_RECORD);
    write(record, &mut Encoder::new(&mut bytes)).map_err(|_| SealError::Engine)?;
    Ok(bytes)
}

fn write(
    record: &Record,
    e: &mut Encoder<&mut Vec<u8>>,
) -> Result<(), encode::Error<core::convert::Infallible>> {
    e.array(6)?.u64(record.sequence)?.u64(record.expires.as_millis())?;
    e.array(record.nodes.len() as u64)?;
    for place in &record.nodes {
        e.array(3)?.bytes(place.node.as_bytes())?.u64(place.until.as_millis())?;
        e.array(place.addresses.len() as u64)?;
        for address in &place.addresses {
            e.str(address)?;
        }
    }
    e.bytes(&record.versions)?.bytes(&record.suites)?;
    e.bytes(record.kem.as_ref().map_or(&[], |KemHash(hash)| &hash[..]))?;
    Ok(())
}

pub(super) fn decoded(contents: &[u8]) -> Result<Record, OpenError> {
    let mut d = codec::decoder(contents)?;
    codec::items(&mut d, 6)?;
    let record = Record {
        sequence: d.u64().map_err(codec::fault)?,
        expires: UnixTime::from_millis(d.u64().map_err(codec::fault)?),
        nodes: list(&mut d, MAX_NODES, |d| {
            codec::items(d, 3)?;
            let node = codec::node_id(d)?;
            let until = UnixTime::from_millis(d.u64().map_err(codec::fault)?);
            let addresses = list(d, MAX_ADDRESSES, |d| Ok(d.str().map_err(codec::fault)?.to_owned()))?;
            Ok(NodePlace { node, until, addresses })
        })?,
        versions: codec::bounded(&mut d, MAX_LISTED)?.to_vec(),
        suites: codec::bounded(&mut d, MAX_LISTED)?.to_vec(),
        kem: match d.bytes().map_err(codec::fault)? {
            [] => None,
            hash => Some(KemHash(hash.try_into().map_err(|_| OpenError::Decode)?)),
        },
    };
    match encoded(&record) {
        Ok(again) if again == contents => Ok(record),
        _ => Err(OpenError::Decode),
    }
}

/// A list whose length is looked at before anything in it is.
fn list<T>(
    d: &mut Decoder<'_>,
    most: usize,
    mut item: impl FnMut(&mut Decoder<'_>) -> Result<T, OpenError>,
) -> Result<Vec<T>, OpenError> {
    let length = d.array().map_err(codec::fault)?.ok_or(OpenError::Decode)?;
    let length = usize::try_from(length).ok().filter(|length| *length <= most).ok_or(OpenError::Decode)?;
    (0..length).map(|_| item(d)).collect()
}

/// What holds for every record, whoever made it.
fn check(record: &Record) -> Result<(), SealError> {
    codec::at_most("list of nodes", record.nodes.len(), MAX_NODES)?;
    codec::at_most("list of versions", record.versions.len(), MAX_LISTED)?;
    codec::at_most("list of suites", record.suites.len(), MAX_LISTED)?;
    let fits = |fits: bool, what| if fits { Ok(()) } else { Err(SealError::Record(what)) };
    fits(!record.nodes.is_empty(), "names no node")?;
    fits(!record.versions.is_empty() && !record.suites.is_empty(), "names no version, or no suite")?;
    fits(record.nodes.is_sorted_by(|a, b| a.node < b.node), "has nodes out of order, or one of them twice")?;
    for place in &record.nodes {
        fits(place.until <= record.expires, "says of a node more than it holds itself")?;
        codec::at_most("list of addresses", place.addresses.len(), MAX_ADDRESSES)?;
        for (at, address) in place.addresses.iter().enumerate() {
            codec::at_most("address", address.len(), MAX_ADDRESS_BYTES)?;
            let text = !address.is_empty() && address.bytes().all(|byte| byte.is_ascii_graphic());
            fits(text, "has an address that is none")?;
            fits(!place.addresses[..at].contains(address), "has an address twice")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
