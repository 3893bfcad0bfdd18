//! Who belongs to a call, and the names of its keys: the vocabulary of groups.

use std::fmt;

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::id::PublicKey;

/// The most people in one call, oneself included. In a full mesh each sends its sound to all others: 15 times 40 kb/s
/// are 600 kb/s, which an ordinary uplink carries.
pub const MAX_MEMBERS: usize = 16;

/// The most people that a call has ever had: members, and those who left or were removed, who must not be forgotten.
pub const MAX_SUBJECTS: usize = 32;

/// The most records in a [`Roll`]: an addition, a removal and a word of one's own for each subject. Their signatures
/// make it 14 KB, which fits the largest bucket of a message.
pub const MAX_RECORDS: usize = 3 * MAX_SUBJECTS;

/// Who may bring others into a call.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Encode, Decode, Serialize, Deserialize,
)]
#[cbor(index_only)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum MayInvite {
    /// Everybody who is in it.
    #[default]
    #[n(0)]
    Members,
    /// Who made it.
    #[n(1)]
    Creator,
}

/// How a call came to be. Its maker signs it, and the call's id is the hash of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Create {
    /// Who made it: alone may remove others.
    #[n(0)]
    pub creator: PublicKey,
    /// Random, so that no two calls have one id.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub random: [u8; 16],
    /// Who may invite.
    #[n(2)]
    pub may_invite: MayInvite,
    /// The most people in it at once, at most [`MAX_MEMBERS`].
    #[n(3)]
    pub most: u8,
}

/// What a record says of its subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode, Serialize, Deserialize)]
#[cbor(index_only)]
#[serde(rename_all = "snake_case")]
pub enum RecordKind {
    /// Belongs to the call. By oneself: is back, after having left.
    #[n(0)]
    Add,
    /// Left, by oneself.
    #[n(1)]
    Leave,
    /// Was removed, by the creator.
    #[n(2)]
    Remove,
}

/// One signed word about one person's place in a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode, Serialize, Deserialize)]
pub struct Record {
    /// Of whom.
    #[n(0)]
    pub subject: PublicKey,
    /// Grows with each word about this subject.
    #[n(1)]
    pub number: u32,
    /// What.
    #[n(2)]
    pub kind: RecordKind,
    /// Who signed it.
    #[n(3)]
    pub by: PublicKey,
}

/// All that is known of who belongs to a call: exchanged whole.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Roll {
    /// How the call came to be.
    #[n(0)]
    pub create: Create,
    /// What was said since, at most [`MAX_RECORDS`].
    #[n(1)]
    pub records: Vec<Record>,
}

/// Names what a [`Roll`] says, so that two sides can see whether theirs differ.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Encode, Decode, Serialize, Deserialize)]
#[cbor(transparent)]
#[serde(transparent)]
pub struct RollHash(
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub [u8; 16],
);

/// Names a call key without telling it: half of a hash.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Encode, Decode, Serialize, Deserialize)]
#[cbor(transparent)]
#[serde(transparent)]
pub struct KeyHash(
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub [u8; 16],
);

/// Names one epoch of a call, and its key.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Encode, Decode, Serialize, Deserialize,
)]
pub struct EpochId {
    /// Grows with each new key.
    #[n(0)]
    pub n: u32,
    /// The key, since two members can make one at once.
    #[n(1)]
    pub key: KeyHash,
}

/// One epoch of a call.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Epoch {
    /// Its name.
    #[n(0)]
    pub id: EpochId,
    /// Who had left or been removed when its key was made, and with which number; ordered by key, at most
    /// [`MAX_SUBJECTS`].
    #[n(1)]
    pub gone: Vec<Gone>,
}

/// Somebody's last departure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode, Serialize, Deserialize)]
pub struct Gone {
    /// Who.
    #[n(0)]
    pub subject: PublicKey,
    /// The number of the record that says so.
    #[n(1)]
    pub number: u32,
}

/// What the sender knows of the call, in few bytes: whoever knows something else answers with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Sync {
    /// Who belongs to it.
    #[n(0)]
    pub roll: RollHash,
    /// The key in use; 0 and zeros if there is none.
    #[n(1)]
    pub epoch: EpochId,
    /// The newest generation of the link between the two; the next one is higher.
    #[n(2)]
    pub generation: u32,
}

macro_rules! short {
    ($name:ident) => {
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let [a, b, c, d, ..] = self.0;
                write!(f, concat!(stringify!($name), "({:02x}{:02x}{:02x}{:02x}..)"), a, b, c, d)
            }
        }
    };
}

short!(RollHash);
short!(KeyHash);
