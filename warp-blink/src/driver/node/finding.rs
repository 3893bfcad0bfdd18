//! Finding others and being found: a Kademlia of our own, and mDNS.
//!
//! Who is asked: nobody but the nodes that the user named (bootstrap), and those that these lead to. A node that names none
//! asks nobody and dials nobody; it still answers, so that any node that is up can be somebody's bootstrap. Nothing that
//! comes is believed here: records are checked by who asked, addresses are tried.

mod protocols;
mod settings;
mod swarm;
mod table;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use libp2p_kad::{self as kad, InboundRequest};
use libp2p_mdns as mdns;
use rust_ipfs::{Multiaddr, PeerId, Protocol, swarm::behaviour::toggle::Toggle};

pub use self::settings::NodeFinding;
use self::{protocols::Protocols, table::Table};
use super::{
    address::{node_of, peer_of},
    link::{Find, Shared},
    records::{Records, Refused},
};
use crate::{
    driver::clock,
    ports::gossip::GossipEvent,
    reach::{Address, Place},
};

/// The name of our Kademlia.
pub const KADEMLIA: &str = "/warp-blink/kad/1";

/// The name of that of the public IPFS network.
const PUBLIC: &str = "/ipfs/kad/1.0.0";

/// The most addresses of one other node, and of one that is nearby.
const MAX_PLACES: usize = 8;

/// The most nodes of the local network that are remembered: a large office.
const MAX_NEARBY: usize = 256;

/// The most nodes that are connected for a question only. 48: two lookups at a time, of which each asks the twenty nearest. A node that
/// has 128 connections keeps room for those who call; who is not asked counts as away.
const MAX_STRANGERS: usize = 48;

/// How often the local network is asked anew. Default one minute: a question that was lost costs that long at most, and a
/// node that is new asks (and so tells) at once. libp2p's own is five minutes.
const MDNS_INTERVAL: Duration = Duration::from_secs(60);

/// The part of a node that finds others.
#[allow(unreachable_pub, reason = "a public behaviour's handler is made of its handler")]
pub struct Finding {
    shared: Arc<Shared>,
    local: Option<PeerId>,
    ours: Table,
    public: Table,
    /// Never locked: rust-ipfs wants a behaviour that threads can share, and this one they cannot.
    mdns: Mutex<Toggle<mdns::tokio::Behaviour>>,
    bootstrap: BTreeSet<PeerId>,
    relay_only: bool,
    records: Records,
    /// Whom a Kademlia has dialed by itself: proven addresses of these may be told to others.
    dialed: BTreeSet<PeerId>,
    /// Those of them that nobody else has asked for, since when. Bounded as the connections are.
    strangers: BTreeMap<PeerId, crate::time::Instant>,
    /// How long these are kept.
    keep: Duration,
    /// Who has connected here. Bounded by the connections of the node.
    callers: BTreeMap<PeerId, Caller>,
    /// The nearest place of any node that is asked: what is nearer than that is not dialed for a stranger's word.
    nearest: Place,
    nearby: BTreeMap<PeerId, Vec<Multiaddr>>,
}

/// Somebody who has connected here.
struct Caller {
    /// Where from.
    from: Place,
    /// Where they say that they listen.
    said: Vec<Multiaddr>,
    /// They say that they answer in our Kademlia.
    answers: bool,
}

/// Which Kademlia.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    Ours,
    Public,
}

impl Finding {
    /// One that finds nobody.
    pub(super) fn off(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            local: None,
            ours: Table::none(),
            public: Table::none(),
            mdns: Mutex::new(None.into()),
            bootstrap: BTreeSet::new(),
            relay_only: false,
            records: Records::default(),
            dialed: BTreeSet::new(),
            strangers: BTreeMap::new(),
            keep: NodeFinding::default().strangers,
            callers: BTreeMap::new(),
            nearest: Place::Public,
            nearby: BTreeMap::new(),
        }
    }

    pub(super) fn new(local: PeerId, finding: &NodeFinding, shared: Arc<Shared>) -> std::io::Result<Self> {
        let mut this = Self::off(shared);
        this.bootstrap = finding.bootstrap.iter().filter_map(peer_of).collect();
        this.relay_only = finding.relay_only;
        this.local = Some(local);
        this.keep = finding.strangers;
        let bootstrap: Vec<PeerId> = this.bootstrap.iter().copied().collect();
        if finding.kademlia {
            this.ours = Table::new(local, KADEMLIA, finding.serves && !finding.relay_only, &bootstrap);
        }
        if finding.public && this.asks() {
            this.public = Table::new(local, PUBLIC, false, &bootstrap);
        }
        let mdns = finding.mdns && !finding.relay_only;
        let config = mdns::Config { query_interval: MDNS_INTERVAL, ..mdns::Config::default() };
        this.mdns = Mutex::new(mdns.then(|| mdns::tokio::Behaviour::new(config, local)).transpose()?.into());
        Ok(this)
    }

    /// Nobody is looked for any more.
    pub(super) fn fall_silent(&mut self) {
        self.ours.fall_silent();
        self.public.fall_silent();
        self.bootstrap.clear();
    }

    /// Somebody wants this node: it is no stranger.
    pub(super) fn wanted(&mut self, peer: &PeerId) {
        self.strangers.remove(peer);
    }

    /// Who was met for the sake of a question, is asked nothing any more, and of no other use: to be let go. Each is named once.
    pub(super) fn idle(
        &mut self,
        now: crate::time::Instant,
        useful: impl Fn(&PeerId) -> bool,
    ) -> Vec<PeerId> {
        if let Some(local) = self.local {
            self.ours.refresh(Instant::now(), local);
        }
        if self.strangers.is_empty() || self.ours.is_asking() || self.public.is_asking() {
            return Vec::new();
        }
        let keep = self.keep;
        let over = |peer: &PeerId, since: &mut crate::time::Instant| {
            now.since(*since) >= keep && !self.bootstrap.contains(peer) && !useful(peer)
        };
        self.strangers.extract_if(.., over).map(|(peer, _)| peer).collect()
    }

    fn mdns(&mut self) -> &mut Toggle<mdns::tokio::Behaviour> {
        self.mdns.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether others may be asked.
    fn asks(&self) -> bool {
        !self.bootstrap.is_empty()
    }

    pub(super) fn command(&mut self, find: Find) {
        match find {
            Find::Nearby { peer, reply } => {
                let _ = reply.send(self.nearby.get(&peer).cloned().unwrap_or_default());
            }
            Find::Forge { name, record } => self.ours.hold(name, &record),
            // Dropping it is the answer: nothing was found.
            _ if !self.asks() => {}
            find @ Find::Node { public: true, .. } => self.public.ask(find),
            find => self.ours.ask(find),
        }
    }

    fn table(&mut self, which: Which) -> &mut Table {
        match which {
            Which::Ours => &mut self.ours,
            Which::Public => &mut self.public,
        }
    }

    fn on_kad(&mut self, which: Which, event: kad::Event) {
        match event {
            kad::Event::InboundRequest {
                request: InboundRequest::PutRecord { source, record: Some(record), .. },
            } if which == Which::Ours => self.offered(source, record),
            kad::Event::OutboundQueryProgressed { id, result, step, .. } => {
                self.table(which).progressed(id, &result, step.last);
            }
            kad::Event::RoutingUpdated { .. } => self.table(which).knows_somebody(),
            // A node that was dialed from here. One that was called is no business of others.
            kad::Event::RoutablePeer { peer, address }
                if self.bootstrap.contains(&peer) || self.dialed.contains(&peer) =>
            {
                self.take(which, peer, &address);
            }
            _ => {}
        }
    }

    /// A node listens at this address, which was proven from here.
    fn take(&mut self, which: Which, peer: PeerId, address: &Multiaddr) {
        let Some(place) = place(address).filter(|place| *place != Place::Relayed) else { return };
        self.nearest = self.nearest.min(place);
        self.table(which).take(&peer, address);
    }

    /// A node says that it answers in our Kademlia, or that it does so no more.
    fn hears(&mut self, peer: PeerId, answers: bool) {
        let Some(caller) = self.callers.get_mut(&peer) else { return };
        caller.answers = answers;
        for address in caller.said.clone() {
            self.take_said(peer, &address);
        }
    }

    /// A node that has connected here says that it listens at this address. That is taken if the place is no nearer than the
    /// one it came from: whoever calls from the same house may live there, and nobody who calls from elsewhere does.
    fn take_said(&mut self, peer: PeerId, address: &Multiaddr) {
        let Some(caller) = self.callers.get(&peer).filter(|caller| caller.answers) else { return };
        let direct = place(address).filter(|place| *place != Place::Relayed);
        if direct.is_some_and(|place| place >= caller.from) {
            self.ours.take(&peer, address);
        }
    }

    fn offered(&mut self, source: PeerId, record: kad::Record) {
        let Some(kad) = self.ours.kad.as_mut() else { return };
        let now = (Instant::now(), clock::unix());
        let result = self.records.offer(kad.store_mut(), now, source, record);
        self.shared.count(|counters| match result {
            Ok(fresh) => counters.records_stored += u64::from(fresh),
            Err(Refused::Forged) => counters.records_forged += 1,
            Err(Refused::Old | Refused::Full) => counters.records_refused += 1,
        });
    }

    fn on_mdns(&mut self, event: mdns::Event) {
        match event {
            mdns::Event::Discovered(found) => {
                let mut news = BTreeSet::new();
                for (peer, address) in found {
                    if !self.nearby.contains_key(&peer) && self.nearby.len() >= MAX_NEARBY {
                        continue;
                    }
                    let known = self.nearby.entry(peer).or_default();
                    if known.len() < MAX_PLACES && !known.contains(&address) {
                        known.push(address);
                        news.insert(peer);
                    }
                }
                for peer in news {
                    if let (Some(node), Some(known)) = (node_of(&peer), self.nearby.get(&peer)) {
                        let addresses = known.iter().map(ToString::to_string).collect();
                        self.shared.tell(GossipEvent::Nearby { node, addresses });
                    }
                }
            }
            mdns::Event::Expired(gone) => {
                for (peer, address) in gone {
                    if let Some(known) = self.nearby.get_mut(&peer) {
                        known.retain(|at| *at != address);
                    }
                }
                self.nearby.retain(|_, known| !known.is_empty());
            }
        }
    }

    /// Whether an address may be dialed for what others say of it.
    fn may_dial(&self, address: &Multiaddr) -> bool {
        let Ok(address) = Address::parse(&address.to_string()) else { return false };
        // Also where that is a relay.
        address.first_hop() >= self.nearest && (address.is_relayed() || !self.relay_only)
    }
}

/// What kind of place an address is; nothing for one that this build does not dial.
fn place(address: &Multiaddr) -> Option<Place> {
    Address::parse(&address.to_string()).ok().map(|address| address.place())
}

/// Where a connection comes from: its address is of no other use, so it need not be complete.
fn origin(address: &Multiaddr) -> Place {
    if address.iter().any(|part| part == Protocol::P2pCircuit) {
        return Place::Relayed;
    }
    place(address).unwrap_or(Place::Public)
}
