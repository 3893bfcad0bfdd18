//! What happens to a finder, and what is to be done for it.

use super::{
    super::{Jitter, Place},
    Addresses, MAX_SOUGHT, OwnRecord,
};
use crate::{
    id::{NodeId, PublicKey},
    time::UnixTime,
};

/// Where an address comes from, the most trusted first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Source {
    /// The app.
    Given,
    /// An earlier run, or an earlier call.
    Remembered,
    /// The local network.
    Mdns,
    /// A record that its owner has signed.
    Record,
    /// Whoever answered for the PeerId: unsigned, so it may be anything.
    Kademlia,
}

impl Source {
    /// Whether nodes far away are asked.
    pub fn is_far(self) -> bool {
        matches!(self, Self::Record | Self::Kademlia)
    }
}

/// The name of one question. It never returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LookupId(pub u64);

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The number of the record, whose signature was checked and which has not expired; `None` for everything else.
    pub sequence: Option<u64>,
    /// Nodes, and where they may be.
    pub nodes: Vec<(NodeId, Addresses)>,
}

/// A node that was seen without asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The node.
    pub node: NodeId,
    /// Where it may be.
    pub addresses: Addresses,
}

/// What others have stored of the own identity: a valid record of this run, of an earlier one or of another device; or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnSeen {
    /// Its number; 0 if there is none.
    pub sequence: u64,
    /// Where it says that this node is; `None` if it does not name it, or there is none.
    pub here: Option<Addresses>,
}

/// What happens to a finder.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FindInput {
    /// Somebody is to be found; again with more that is known.
    Look {
        /// Who.
        who: PublicKey,
        /// The node at which they were last, or the one that their key names.
        node: NodeId,
        /// What the app gave.
        given: Addresses,
        /// What an earlier run or call has left.
        remembered: Addresses,
    },
    /// Somebody was found, or is looked for no longer.
    Stop {
        /// Who.
        who: PublicKey,
    },
    /// Nothing that was told of somebody has worked.
    Missed {
        /// Who.
        who: PublicKey,
    },
    /// A [`FindEffect::Lookup`] ended.
    Answered {
        /// Which.
        lookup: LookupId,
        /// What was found.
        found: Option<Found>,
        /// For the pause before the next.
        jitter: Jitter,
    },
    /// A node was seen on the local network.
    Seen(Seen),
    /// A node that is asked was reached at such a place, for the first time or again: others who ask it may be as near. Of several
    /// the one that is farthest away counts, since all of them get what is published.
    Through {
        /// The node.
        node: NodeId,
        /// The place.
        place: Place,
    },
    /// Where others reach this node: when it changes.
    Own {
        /// At these addresses.
        addresses: Addresses,
        /// The time of day.
        wall: UnixTime,
    },
    /// A [`FindEffect::Review`] ended: it has found this record, or none.
    OwnSeen {
        /// What it says.
        seen: OwnSeen,
        /// For the pause before it is mended.
        jitter: Jitter,
    },
    /// A [`FindEffect::Publish`] ended.
    Published {
        /// The number under which it was published.
        sequence: u64,
        /// Whether somebody has stored it.
        stored: bool,
        /// For the pause before the next.
        jitter: Jitter,
    },
    /// [`Finder::next_timeout`](super::Finder::next_timeout) has come.
    Timeout {
        /// The time of day.
        wall: UnixTime,
        /// For the pauses.
        jitter: Jitter,
    },
}

/// What is to be done for a finder.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FindEffect {
    /// Ask. Ends in one [`FindInput::Answered`], unless it is cancelled.
    Lookup {
        /// The name of this question.
        lookup: LookupId,
        /// Whom.
        source: Source,
        /// About whom.
        who: PublicKey,
        /// The node that is looked for.
        node: NodeId,
    },
    /// Ask no longer.
    Cancel {
        /// Which.
        lookup: LookupId,
    },
    /// Somebody may be at this node, and that at these addresses: to be tried.
    Tell {
        /// Who.
        who: PublicKey,
        /// The node.
        node: NodeId,
        /// Who says so.
        source: Source,
        /// The addresses.
        addresses: Addresses,
    },
    /// Sign a record and have others store it, [beside](OwnRecord::beside) what they have stored of this identity already. Ends
    /// in one [`FindInput::Published`].
    Publish(OwnRecord),
    /// Look what others have stored of the own identity. What is found is a [`FindInput::OwnSeen`].
    Review,
}

/// A command that a finder cannot fulfil. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FindRejected {
    /// So many are looked for.
    #[error("{MAX_SOUGHT} people are looked for, which is the most: stop for one first")]
    TooMany,
}
