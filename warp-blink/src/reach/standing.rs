//! How this node itself stands in the network: what follows from what is known of it.
//!
//! The facts come from outside: where the node listens, where others have dialed it back (AutoNAT), which relays have a
//! place for it, what the router was asked (UPnP). What they mean, and what a user can do about it, is decided here.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
};

use serde::{Deserialize, Serialize};

use super::{Address, Addresses, MAX_REACH_ADDRESSES, MAX_RELAYS, Place, address::Host};
use crate::id::NodeId;

/// How a node stands, from worst to best.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Standing {
    /// Not yet known.
    Starting,
    /// It cannot be reached, and reaches nobody.
    Offline {
        /// Why.
        cause: OfflineCause,
    },
    /// It reaches others. Those in the same network reach it, others as far as it has dialed them.
    LocalOnly {
        /// Why.
        cause: LocalCause,
    },
    /// Anybody reaches it, through these relays.
    Relayed {
        /// The relays.
        by: Vec<NodeId>,
    },
    /// Anybody reaches it straight.
    Public,
}

/// Why a node is offline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum OfflineCause {
    /// The last address that it listened on is gone. It comes back when a network does.
    NoListener,
    /// The node has ended, by the app or by whom the node belongs to. It does not come back.
    Stopped,
}

impl fmt::Display for OfflineCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoListener => "no network address is left to listen on",
            Self::Stopped => "the node has ended",
        })
    }
}

/// Why only those in the same network reach a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LocalCause {
    /// It was told not to listen.
    NotListening,
    /// It listens for this machine only.
    ThisMachineOnly,
    /// It is connected with nobody who could tell, or relay.
    Alone,
    /// Nobody has tried yet.
    NotYetChecked,
    /// Others have tried, and did not get through a NAT or a firewall; and no relay has a place for it.
    Closed,
    /// Only relays may be used, and none has a place for it.
    NoRelay,
}

impl fmt::Display for LocalCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotListening => "it was told not to listen",
            Self::ThisMachineOnly => "it listens for this machine only",
            Self::Alone => "it is connected with no other node",
            Self::NotYetChecked => "no other node has tried to reach it yet",
            Self::Closed => "other nodes cannot reach it through the router or a firewall, and no relay has a place for it",
            Self::NoRelay => "only relays may be used, and none has a place for it",
        })
    }
}

/// What somebody can do about a standing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Advice {
    /// The machine has no network.
    JoinANetwork,
    /// Start it again.
    Restart,
    /// It listens on loopback addresses only.
    ListenOnAll,
    /// A node that others know has to be known.
    GiveBootstrap,
    /// A relay has to be known.
    GiveRelay,
    /// The router may open a port by itself.
    AllowPortMapping,
    /// The router has to be told to.
    ForwardPort,
    /// The router is itself behind a NAT, of a carrier for example: nothing that is done there helps.
    BehindTwoRouters,
    /// It takes a moment.
    Wait,
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::JoinANetwork => "connect this machine to a network",
            Self::Restart => "start the node again",
            Self::ListenOnAll => "listen on every network (/ip4/0.0.0.0 and /ip6/::)",
            Self::GiveBootstrap => "give the address of a node that others use too (--bootstrap)",
            Self::GiveRelay => {
                "give the address of a relay (--relay), which anybody can run with `blink relay`"
            }
            Self::AllowPortMapping => "allow this node to ask the router for a port (UPnP)",
            Self::ForwardPort => {
                "forward the port that this node listens on in the router, or turn UPnP on there"
            }
            Self::BehindTwoRouters => {
                "the router has no public address itself, so a forwarded port does not help: use a relay"
            }
            Self::Wait => "wait: other nodes are being asked",
        })
    }
}

/// What the router said when it was asked to open a port (UPnP).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum PortMapping {
    /// It was not asked: it is switched off, or the answer is still to come.
    #[default]
    Unasked,
    /// It opened one.
    Open,
    /// No router answers.
    NoRouter,
    /// It does not open any.
    Refused,
    /// It opened one, but has no public address itself.
    NotPublic,
}

/// What is known of a node. The driver tells what changes.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// It has listened, or was told not to.
    started: bool,
    /// It was told not to.
    quiet: bool,
    stopped: bool,
    listening: Vec<Address>,
    /// Where others have dialed it back.
    confirmed: BTreeSet<Address>,
    /// Others have tried, and failed, since one got through.
    denied: bool,
    /// The relays with a place for it, with the addresses behind them.
    reserved: BTreeMap<NodeId, Addresses>,
    mapping: PortMapping,
    mapping_allowed: bool,
    /// Others are asked to dial it back.
    asks: bool,
    /// It is a relay for others.
    serves: bool,
    /// How many nodes are connected.
    others: usize,
    relay_only: bool,
}

impl Facts {
    /// Nothing is known. With `relay_only`, what others reach straight does not count; with `mapping_allowed`, the router
    /// may be asked for a port.
    pub fn new(relay_only: bool, mapping_allowed: bool) -> Self {
        Self { relay_only, mapping_allowed, ..Self::default() }
    }

    /// Others are asked to dial the node back.
    #[must_use]
    pub fn with_asking(self, asks: bool) -> Self {
        Self { asks, ..self }
    }

    /// The node is a relay for others.
    #[must_use]
    pub fn with_serving(self, serves: bool) -> Self {
        Self { serves, ..self }
    }

    /// Where the node listens now. `started`: it has begun to, or was told not to.
    ///
    /// What cannot be dialed, such as an unspecified address, does not count.
    pub fn listens(&mut self, started: bool, addresses: &Addresses) {
        self.started |= started;
        self.quiet &= addresses.0.is_empty();
        let read = addresses.0.iter().filter_map(|text| Address::parse(text).ok());
        self.listening = read.take(MAX_REACH_ADDRESSES).collect();
        if self.listening.iter().all(|address| address.place() == Place::Loopback) {
            // Another network is another beginning.
            (self.denied, self.mapping) = (false, PortMapping::Unasked);
            self.confirmed.clear();
        }
    }

    /// It has begun, and was told not to listen: what others reach is behind a relay, if anything.
    pub fn told_not_to_listen(&mut self) {
        (self.started, self.quiet) = (true, true);
    }

    /// Others have dialed this address: with or without success.
    pub fn dialed_back(&mut self, address: &str, reached: bool) {
        let Ok(address) = Address::parse(address) else { return };
        if address.is_relayed() || address.place() < Place::Public {
            // Who gets through from the same house, or through a relay, says nothing of others.
            return;
        }
        self.denied = !reached;
        if !reached {
            self.confirmed.remove(&address);
        } else if self.confirmed.len() < MAX_REACH_ADDRESSES {
            self.confirmed.insert(address);
        }
    }

    /// A confirmed address holds no longer.
    pub fn expired(&mut self, address: &str) {
        if let Ok(address) = Address::parse(address) {
            self.confirmed.remove(&address);
        }
    }

    /// These relays have a place for this node, and no others, at these addresses.
    pub fn behind(&mut self, relays: BTreeMap<NodeId, Addresses>) {
        self.reserved.clear();
        for (relay, addresses) in relays {
            self.reserved(relay, addresses);
        }
    }

    /// A relay has a place for this node, at these addresses; none: it has no longer.
    pub fn reserved(&mut self, relay: NodeId, addresses: Addresses) {
        if addresses.0.is_empty() {
            self.reserved.remove(&relay);
        } else if self.reserved.len() < MAX_RELAYS || self.reserved.contains_key(&relay) {
            self.reserved.insert(relay, addresses);
        }
    }

    /// What the router says.
    pub fn mapped(&mut self, mapping: PortMapping) {
        self.mapping = mapping;
    }

    /// How many nodes are connected.
    pub fn connected(&mut self, others: usize) {
        self.others = others;
    }

    /// The node has ended.
    pub fn stopped(&mut self) {
        self.stopped = true;
    }

    /// Whether everybody reaches the node straight, also those who have no IPv6: then it needs no relay.
    pub fn is_reached_by_all(&self) -> bool {
        let over_ip4 = |address: &Address| matches!(address.host(), Host::Ip(IpAddr::V4(_)));
        self.standing() == Standing::Public && self.confirmed.iter().any(over_ip4)
    }

    /// How the node stands.
    pub fn standing(&self) -> Standing {
        let local = |cause| Standing::LocalOnly { cause };
        if self.stopped {
            Standing::Offline { cause: OfflineCause::Stopped }
        } else if !self.started {
            Standing::Starting
        } else if self.listening.is_empty() && self.reserved.is_empty() && !self.quiet {
            Standing::Offline { cause: OfflineCause::NoListener }
        } else if !self.relay_only && !self.confirmed.is_empty() {
            Standing::Public
        } else if !self.reserved.is_empty() {
            Standing::Relayed { by: self.reserved.keys().copied().collect() }
        } else if self.relay_only {
            local(LocalCause::NoRelay)
        } else if self.listening.is_empty() {
            local(LocalCause::NotListening)
        } else if self.listening.iter().all(|address| address.place() == Place::Loopback) {
            local(LocalCause::ThisMachineOnly)
        } else if self.others == 0 && !self.serves {
            local(LocalCause::Alone)
        } else if self.denied {
            local(LocalCause::Closed)
        } else {
            local(LocalCause::NotYetChecked)
        }
    }

    /// What somebody can do to be reached better, the most helpful first; nothing where nothing is wrong.
    pub fn advice(&self) -> Vec<Advice> {
        let router = match self.mapping {
            PortMapping::Unasked | PortMapping::Open if self.mapping_allowed => None,
            PortMapping::Unasked | PortMapping::Open => Some(Advice::AllowPortMapping),
            PortMapping::NoRouter | PortMapping::Refused => Some(Advice::ForwardPort),
            PortMapping::NotPublic => Some(Advice::BehindTwoRouters),
        };
        match self.standing() {
            Standing::Public | Standing::Starting => Vec::new(),
            Standing::Relayed { .. } if self.relay_only => Vec::new(),
            // It works. Straight would be quicker.
            Standing::Relayed { .. } => router.into_iter().collect(),
            Standing::Offline { cause: OfflineCause::NoListener } => vec![Advice::JoinANetwork],
            Standing::Offline { cause: OfflineCause::Stopped } => vec![Advice::Restart],
            Standing::LocalOnly { cause } => match cause {
                LocalCause::NotListening => vec![Advice::GiveRelay, Advice::ListenOnAll],
                LocalCause::ThisMachineOnly => vec![Advice::ListenOnAll],
                LocalCause::Alone => vec![Advice::GiveBootstrap],
                LocalCause::NotYetChecked if self.asks => vec![Advice::Wait],
                // A relay is of use where others reach it.
                LocalCause::NotYetChecked if self.serves => vec![Advice::ForwardPort],
                // Who names nobody that could dial back, or keep a place, waits in vain.
                LocalCause::NotYetChecked => vec![Advice::GiveRelay],
                LocalCause::NoRelay => vec![Advice::GiveRelay],
                LocalCause::Closed => [Advice::GiveRelay].into_iter().chain(router).collect(),
            },
        }
    }

    /// Where others can reach this node, as far as that is known: what a record may say.
    pub fn reachable_at(&self) -> Addresses {
        let straight = self.confirmed.iter().filter(|_| !self.relay_only).map(ToString::to_string);
        let behind = self.reserved.values().flat_map(|addresses| addresses.0.iter().cloned());
        Addresses(straight.chain(behind).take(MAX_REACH_ADDRESSES).collect())
    }
}

#[cfg(test)]
mod tests;
