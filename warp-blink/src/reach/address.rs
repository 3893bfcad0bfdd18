//! The address of a node: a text that people copy, taken apart and checked before anybody dials it.
//!
//! The form is that of multiaddresses, `/ip4/192.0.2.1/tcp/4001/p2p/12D3KooW...`: names and values by turns. This build
//! dials TCP, QUIC (version 1) and, within one process, memory; a host is a number or a name; behind a relay stands
//! `/p2p-circuit`. Anything else that the multiaddress table lists is read as [`Part::Other`], so that the error can say
//! what is wrong with it: not that it is no address, but that this build does not speak it.

mod error;
mod part;
mod place;

use std::{fmt, net::IpAddr, str::FromStr};

pub use self::{
    error::{AddressError, Problem},
    part::Part,
    place::{Family, Host, Lookup, Place, Transport},
};
use super::MAX_ADDRESS;
use crate::id::NodeId;

/// The most parts of an address. The longest in use, behind a relay with a name, has six; the widest grammar of other
/// transports ten.
pub const MAX_PARTS: usize = 12;

/// An address that can be dialed: well formed, of transports that this build speaks, with a host that can be somebody's.
///
/// `Debug` shows only what kind of place it is: addresses belong in no log above trace.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    parts: Vec<Part>,
}

impl Address {
    /// Reads a text.
    ///
    /// # Errors
    /// [`AddressError`], which names the part that is wrong, where it stands, and what is expected there.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if text.len() > MAX_ADDRESS {
            return Err(AddressError::new(Problem::TooLong, "", MAX_ADDRESS));
        }
        let mut parts = Vec::new();
        let mut places = Vec::new();
        let mut rest = part::Words::of(text)?;
        while let Some((at, name)) = rest.next() {
            if parts.len() == MAX_PARTS {
                return Err(AddressError::new(Problem::TooManyParts, name, at));
            }
            parts.push(Part::read(at, name, &mut rest)?);
            places.push((at, name));
        }
        place::check(&parts).map_err(|(index, problem)| {
            // What is missing is missing at the end.
            let (at, name) = places.get(index).copied().unwrap_or((text.len(), ""));
            AddressError::new(problem, name, at)
        })?;
        Ok(Self { parts })
    }

    /// The address of this node: it ends in `/p2p/` and the node's name.
    ///
    /// # Errors
    /// [`Problem::OtherNode`] if it ends in the name of another one.
    pub fn of(mut self, node: NodeId) -> Result<Self, AddressError> {
        match self.parts.last() {
            Some(Part::P2p(other)) if *other != node => {
                let name = other.to_string();
                let at = self.to_string().len().saturating_sub(name.len() + "/p2p/".len());
                Err(AddressError::new(Problem::OtherNode, &name, at))
            }
            Some(Part::P2p(_)) => Ok(self),
            _ => {
                self.parts.push(Part::P2p(node));
                Ok(self)
            }
        }
    }

    /// The parts, the outermost first.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The node at its end, if it is named.
    pub fn node(&self) -> Option<NodeId> {
        match self.parts.last() {
            Some(Part::P2p(node)) => Some(*node),
            _ => None,
        }
    }

    /// The relay, if it leads through one.
    pub fn relay(&self) -> Option<NodeId> {
        let circuit = self.parts.iter().position(|part| *part == Part::Circuit)?;
        match self.parts.get(circuit.checked_sub(1)?) {
            Some(Part::P2p(relay)) => Some(*relay),
            _ => None,
        }
    }

    /// Whether it leads through a relay.
    pub fn is_relayed(&self) -> bool {
        self.parts.contains(&Part::Circuit)
    }

    /// The host: of the relay, if it leads through one.
    pub fn host(&self) -> Host<'_> {
        place::host(&self.parts)
    }

    /// What kind of place it is.
    pub fn place(&self) -> Place {
        if self.is_relayed() { Place::Relayed } else { self.host().place() }
    }

    /// Where the host is, also if that is a relay.
    pub fn first_hop(&self) -> Place {
        self.host().place()
    }

    /// How packets get there. `None`: the name says it ([`Part::Dnsaddr`]).
    pub fn transport(&self) -> Option<Transport> {
        place::transport(&self.parts)
    }

    /// The name to look up before it can be dialed, and what to ask for.
    pub fn lookup(&self) -> Option<(&str, Lookup)> {
        match self.parts.first()? {
            Part::Dns(name) => Some((name, Lookup::Both)),
            Part::Dns4(name) => Some((name, Lookup::Ip4)),
            Part::Dns6(name) => Some((name, Lookup::Ip6)),
            Part::Dnsaddr(name) => Some((name, Lookup::Addresses)),
            _ => None,
        }
    }

    /// The same with this number in the place of its name. `None` if it has no name, or nobody can live there.
    pub(super) fn at(&self, ip: IpAddr) -> Option<Self> {
        let (_, lookup) = self.lookup()?;
        if lookup == Lookup::Addresses {
            return None;
        }
        let mut parts = self.parts.clone();
        *parts.first_mut()? = match ip {
            IpAddr::V4(ip) => Part::Ip4(ip),
            IpAddr::V6(ip) => Part::Ip6(ip),
        };
        place::check(&parts).ok()?;
        Some(Self { parts })
    }

    /// What a `/dnsaddr` stands for, if `found` is an answer to it: the answer ends as the question does (the multiaddress
    /// specification's rule for suffixes), or names no node.
    pub(super) fn stands_for(&self, found: &Self) -> Option<Self> {
        let wanted = self.parts.get(1..)?;
        let mut parts = found.parts.clone();
        // `/dnsaddr/name` asks for anything, `/dnsaddr/name/p2p/R/p2p-circuit/p2p/N` for a place of R: what stands behind R
        // is not in the answer, or all of it.
        if !parts.ends_with(wanted) {
            let (node, behind) = match wanted {
                [Part::P2p(node), behind @ ..] => (Some(*node), behind),
                behind => (None, behind),
            };
            match (parts.last(), node) {
                (Some(Part::P2p(other)), Some(node)) if *other != node => return None,
                (Some(Part::P2p(_)), _) | (_, None) => {}
                (_, Some(node)) => parts.push(Part::P2p(node)),
            }
            parts.extend(behind.iter().cloned());
        }
        if parts.len() > MAX_PARTS {
            return None;
        }
        place::check(&parts).ok()?;
        Some(Self { parts })
    }
}

impl FromStr for Address {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Self, AddressError> {
        Self::parse(text)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts.iter().try_for_each(|part| part.fmt(f))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({:?}, {:?})", self.place(), self.transport())
    }
}

#[cfg(test)]
mod tests;
