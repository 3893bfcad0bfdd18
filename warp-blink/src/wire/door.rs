//! The two ways to somebody: the open inbox, and that of contacts.

use std::fmt;

use super::{
    ContactToken, Topic,
    secret::{MAC_LEN, mac},
};
use crate::{id::PublicKey, proto::signal::Lane};

/// Where a first message arrives. Each door has a topic of its own, and a MAC that only those can make who know the
/// way to it: a frame of one does not open at the other.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Door<'a> {
    /// Open to everybody who knows the callee's public key.
    Strangers,
    /// Open to those to whom the callee gave this token.
    Contacts(&'a ContactToken),
}

impl Door<'_> {
    /// Where `callee` receives first messages by this way.
    pub fn topic(&self, callee: &PublicKey) -> Topic {
        match self {
            Self::Strangers => Topic::inbox(callee),
            Self::Contacts(token) => Topic::contacts(callee, token),
        }
    }

    /// The way's name, without the token.
    pub const fn lane(&self) -> Lane {
        match self {
            Self::Strangers => Lane::Strangers,
            Self::Contacts(_) => Lane::Contacts,
        }
    }

    /// The MAC over all of a frame but itself.
    pub(super) fn mac(&self, callee: &PublicKey, header: &[u8], rest: &[u8]) -> [u8; MAC_LEN] {
        match self {
            Self::Strangers => mac(b"warp-blink/1 lane-strangers\0", callee.as_bytes(), &[header, rest]),
            Self::Contacts(token) => mac(b"warp-blink/1 lane-contacts\0", token.expose(), &[header, rest]),
        }
    }
}

impl fmt::Debug for Door<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Door::{:?}", self.lane())
    }
}
