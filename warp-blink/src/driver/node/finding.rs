//! Finding others and being found: a Kademlia of our own, and mDNS.
//!
//! Who is asked: nobody but the nodes that the user named (bootstrap), and those that these lead to. A node that names none
//! asks nobody and dials nobody; it still answers, so that any node that is up can be somebody's bootstrap. Nothing that
//! comes is believed here: records are checked by who asked, addresses are tried.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use libp2p_kad::{
    self as kad, GetClosestPeersError, GetClosestPeersOk, GetRecordOk, InboundRequest, PutRecordError,
    QueryId, QueryResult, Quorum, RecordKey, store::MemoryStore, store::RecordStore,
};
use libp2p_mdns as mdns;
use rust_ipfs::{
    ConnectionId, Multiaddr, NetworkBehaviour, PeerId, Protocol, StreamProtocol,
    swarm::{
        ConnectionDenied, FromSwarm, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
        behaviour::toggle::Toggle,
        derive_prelude::{Endpoint, PortUse},
    },
};
use tokio::sync::oneshot;
use tracing::debug;

use super::{
    address::{node_of, peer_of},
    link::{Find, Shared},
    records::{Records, Refused},
};
use crate::{
    driver::clock,
    id::NodeId,
    ports::gossip::GossipEvent,
    reach::{Address, Place},
};

/// The name of our Kademlia.
pub const KADEMLIA: &str = "/warp-blink/kad/1";

/// How long one question may take: as long as who asks waits (`FindConfig::lookup_timeout`).
const QUERY: Duration = Duration::from_secs(10);

/// The most questions that are open or wait: as many as the finder has, and some for the own record.
const MAX_QUERIES: usize = 40;

/// The most records that one question brings; one honest node brings one, and twenty are asked.
const MAX_FOUND: usize = 64;

/// The most addresses of one other node, and of one that is nearby.
const MAX_PLACES: usize = 8;

/// The most nodes of the local network that are remembered: a large office.
const MAX_NEARBY: usize = 256;

/// How often the local network is asked anew. Default one minute: a question that was lost costs that long at most, and a
/// node that is new asks (and so tells) at once. libp2p's own is five minutes.
const MDNS_INTERVAL: Duration = Duration::from_secs(60);

type Kad = kad::Behaviour<MemoryStore>;

/// How a node finds others and is found. Without anything else: it answers those who ask, and asks nobody.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeFinding {
    /// Take part in the Kademlia of warp-blink. Default true. Without nodes in [`bootstrap`](Self::bootstrap) this node answers
    /// others there and asks nobody.
    pub kademlia: bool,
    /// Ask the local network who is there, and answer. Default false: everybody in that network learns this node's name
    /// and addresses.
    pub mdns: bool,
    /// Nodes through which others are found, as PeerIds. Default none.
    pub bootstrap: BTreeSet<NodeId>,
    /// Answer others, and be in their tables: who knows this node's name then learns where it is. Default true.
    pub serves: bool,
    /// Dial nothing but relayed addresses on the way to others, and answer nobody. Default false.
    pub relay_only: bool,
}

impl Default for NodeFinding {
    fn default() -> Self {
        Self { kademlia: true, mdns: false, bootstrap: BTreeSet::new(), serves: true, relay_only: false }
    }
}

impl NodeFinding {
    /// One that asks nobody and answers nobody.
    #[must_use]
    pub fn off() -> Self {
        Self { kademlia: false, ..Self::default() }
    }

    /// The same with Kademlia, or without.
    #[must_use]
    pub fn with_kademlia(self, kademlia: bool) -> Self {
        Self { kademlia, ..self }
    }

    /// The same with the local network, or without.
    #[must_use]
    pub fn with_mdns(self, mdns: bool) -> Self {
        Self { mdns, ..self }
    }

    /// The same where others are answered, or not.
    #[must_use]
    pub fn with_serves(self, serves: bool) -> Self {
        Self { serves, ..self }
    }

    /// The same where nothing but relays is dialed, and nobody is answered.
    #[must_use]
    pub fn with_relay_only(self, relay_only: bool) -> Self {
        Self { relay_only, ..self }
    }

    /// The same through these nodes.
    #[must_use]
    pub fn with_bootstrap(self, nodes: impl IntoIterator<Item = NodeId>) -> Self {
        Self { bootstrap: nodes.into_iter().collect(), ..self }
    }
}

/// The part of a node that finds others.
pub(super) struct Finding {
    shared: Arc<Shared>,
    kad: Toggle<Kad>,
    mdns: Toggle<mdns::tokio::Behaviour>,
    bootstrap: BTreeSet<PeerId>,
    relay_only: bool,
    records: Records,
    queries: Vec<(QueryId, Query)>,
    /// Questions that wait until there is somebody to ask.
    waiting: Vec<Find>,
    /// Whether there is somebody to ask.
    knows: bool,
    /// Whom Kademlia has dialed by itself: proven addresses of these may be told to others.
    dialed: BTreeSet<PeerId>,
    /// Who has connected here.
    callers: BTreeMap<PeerId, Caller>,
    /// The nearest place of any node that is asked: addresses that are nearer than that are not dialed for a stranger's word.
    nearest: Place,
    nearby: BTreeMap<PeerId, Vec<Multiaddr>>,
}

/// Somebody who has connected here.
struct Caller {
    /// Where from.
    from: Place,
    /// Where they say that they listen.
    said: Vec<Multiaddr>,
    /// They speak Kademlia.
    speaks: bool,
}

enum Query {
    Records { found: futures::channel::mpsc::Sender<Bytes>, left: usize },
    Node { peer: PeerId, reply: oneshot::Sender<Vec<Multiaddr>> },
    Store(oneshot::Sender<usize>),
}

impl Query {
    /// Whether nobody waits any more.
    fn is_void(&self) -> bool {
        match self {
            Self::Records { found, left } => found.is_closed() || *left == 0,
            Self::Node { reply, .. } => reply.is_closed(),
            // What is being stored is stored.
            Self::Store(_) => false,
        }
    }
}

impl Finding {
    /// One that finds nobody.
    pub(super) fn off(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            kad: None.into(),
            mdns: None.into(),
            bootstrap: BTreeSet::new(),
            relay_only: false,
            records: Records::default(),
            queries: Vec::new(),
            waiting: Vec::new(),
            knows: false,
            dialed: BTreeSet::new(),
            callers: BTreeMap::new(),
            nearest: Place::Public,
            nearby: BTreeMap::new(),
        }
    }

    pub(super) fn new(local: PeerId, finding: &NodeFinding, shared: Arc<Shared>) -> std::io::Result<Self> {
        let mut this = Self::off(shared);
        this.bootstrap = finding.bootstrap.iter().filter_map(peer_of).collect();
        this.relay_only = finding.relay_only;
        let serves = finding.serves && !finding.relay_only;
        this.kad = finding.kademlia.then(|| kademlia(local, serves)).into();
        let mdns = finding.mdns && !finding.relay_only;
        let config = mdns::Config { query_interval: MDNS_INTERVAL, ..mdns::Config::default() };
        this.mdns = mdns.then(|| mdns::tokio::Behaviour::new(config, local)).transpose()?.into();
        Ok(this)
    }

    /// Nobody is looked for any more.
    pub(super) fn fall_silent(&mut self) {
        self.waiting.clear();
        self.queries.clear();
        self.bootstrap.clear();
    }

    /// Whether others may be asked.
    fn asks(&self) -> bool {
        !self.bootstrap.is_empty()
    }

    pub(super) fn command(&mut self, find: Find) {
        self.tidy();
        let Some(kad) = self.kad.as_mut() else {
            if let Find::Nearby { peer, reply } = find {
                let _ = reply.send(self.nearby.get(&peer).cloned().unwrap_or_default());
            }
            return;
        };
        match find {
            Find::Nearby { peer, reply } => {
                let _ = reply.send(self.nearby.get(&peer).cloned().unwrap_or_default());
            }
            Find::Forge { name, record } => {
                let record = kad::Record::new(name.to_vec(), record.to_vec());
                if kad.store_mut().put(record).is_err() {
                    debug!("no room for it");
                }
            }
            // Dropping it is the answer: nothing was found.
            _ if self.bootstrap.is_empty() || self.queries.len() + self.waiting.len() >= MAX_QUERIES => {}
            find if !self.knows => self.waiting.push(find),
            find => self.begin(find),
        }
    }

    fn begin(&mut self, find: Find) {
        let Some(kad) = self.kad.as_mut() else { return };
        let (id, query) = match find {
            Find::Records { name, found } if !found.is_closed() => {
                (kad.get_record(RecordKey::new(&name)), Query::Records { found, left: MAX_FOUND })
            }
            Find::Node { peer, reply } if !reply.is_closed() => {
                (kad.get_closest_peers(peer), Query::Node { peer, reply })
            }
            Find::Store { name, record, life, reply } => {
                let record = kad::Record {
                    expires: Some(Instant::now() + life),
                    ..kad::Record::new(name.to_vec(), record.to_vec())
                };
                // With a smaller quorum those who have to be dialed first would not get it.
                match kad.put_record(record, Quorum::All) {
                    Ok(id) => (id, Query::Store(reply)),
                    Err(error) => return debug!(%error, "the own record is not stored"),
                }
            }
            _ => return,
        };
        self.queries.push((id, query));
    }

    fn on_kad(&mut self, event: kad::Event) {
        match event {
            kad::Event::InboundRequest {
                request: InboundRequest::PutRecord { source, record: Some(record), .. },
            } => self.offered(source, record),
            kad::Event::OutboundQueryProgressed { id, result, step, .. } => {
                self.progressed(id, result, step.last);
            }
            kad::Event::RoutingUpdated { .. } if !self.knows => {
                self.knows = true;
                for find in std::mem::take(&mut self.waiting) {
                    self.begin(find);
                }
            }
            // A node that was dialed from here. One that was called is no business of others.
            kad::Event::RoutablePeer { peer, address } => {
                if self.bootstrap.contains(&peer) || self.dialed.contains(&peer) {
                    self.take(peer, &address);
                }
            }
            // A node that has connected here.
            kad::Event::UnroutablePeer { peer } => {
                if let Some(caller) = self.callers.get_mut(&peer) {
                    caller.speaks = true;
                    for address in caller.said.clone() {
                        self.take_said(peer, &address);
                    }
                }
            }
            _ => {}
        }
    }

    /// A node listens at this address, which was proven from here.
    fn take(&mut self, peer: PeerId, address: &Multiaddr) {
        let Some(place) = place(address).filter(|place| *place != Place::Relayed) else { return };
        self.nearest = self.nearest.min(place);
        if let Some(kad) = self.kad.as_mut() {
            kad.add_address(&peer, address.clone());
        }
    }

    /// A node that has connected here says that it listens at this address. That is taken if the place is no nearer than the
    /// one it came from: whoever calls from the same house may live there, and nobody who calls from elsewhere does.
    fn take_said(&mut self, peer: PeerId, address: &Multiaddr) {
        let Some(caller) = self.callers.get(&peer).filter(|caller| caller.speaks) else { return };
        let from = caller.from;
        let direct = place(address).filter(|place| *place != Place::Relayed);
        if direct.is_some_and(|place| place >= from)
            && let Some(kad) = self.kad.as_mut()
        {
            kad.add_address(&peer, address.clone());
        }
    }

    fn offered(&mut self, source: PeerId, record: kad::Record) {
        let Some(kad) = self.kad.as_mut() else { return };
        let now = (Instant::now(), clock::unix());
        let result = self.records.offer(kad.store_mut(), now, source, record);
        self.shared.count(|counters| match result {
            Ok(()) => counters.records_stored += 1,
            Err(Refused::Forged) => counters.records_forged += 1,
            Err(Refused::Old | Refused::Full) => counters.records_refused += 1,
        });
    }

    fn progressed(&mut self, id: QueryId, result: QueryResult, last: bool) {
        let Some((_, query)) = self.queries.iter_mut().find(|(open, _)| *open == id) else { return };
        match (query, &result) {
            (Query::Records { found, left }, QueryResult::GetRecord(Ok(GetRecordOk::FoundRecord(one)))) => {
                *left = left.saturating_sub(1);
                // Who does not read has no use for more.
                let _ = found.try_send(Bytes::copy_from_slice(&one.record.value));
            }
            (Query::Node { peer, .. }, QueryResult::GetClosestPeers(ended)) if last => {
                let (Ok(GetClosestPeersOk { peers, .. })
                | Err(GetClosestPeersError::Timeout { peers, .. })) = ended;
                // The nearest by name, which need not be the one that was asked for.
                let same = peers.iter().find(|near| near.peer_id == *peer);
                let addresses = same.map(|same| same.addrs.iter().take(MAX_PLACES).cloned().collect());
                if let Some(Query::Node { reply, .. }) = self.ended(id) {
                    let _ = reply.send(addresses.unwrap_or_default());
                }
                return;
            }
            (Query::Store(_), QueryResult::PutRecord(ended)) if last => {
                let stored = match ended {
                    // All of those that are nearest.
                    Ok(_) => 1,
                    Err(
                        PutRecordError::QuorumFailed { success, .. }
                        | PutRecordError::Timeout { success, .. },
                    ) => success.len(),
                };
                if let Some(Query::Store(reply)) = self.ended(id) {
                    let _ = reply.send(stored);
                }
                return;
            }
            _ => {}
        }
        if last {
            self.ended(id);
        }
    }

    fn ended(&mut self, id: QueryId) -> Option<Query> {
        let at = self.queries.iter().position(|(open, _)| *open == id)?;
        Some(self.queries.swap_remove(at).1)
    }

    /// Ends what nobody waits for.
    fn tidy(&mut self) {
        let Some(kad) = self.kad.as_mut() else { return };
        for (id, _) in self.queries.extract_if(.., |(_, query)| query.is_void()) {
            if let Some(mut query) = kad.query_mut(&id) {
                query.finish();
            }
        }
        self.waiting.retain(|find| match find {
            Find::Records { found, .. } => !found.is_closed(),
            Find::Node { reply, .. } => !reply.is_closed(),
            Find::Store { reply, .. } => !reply.is_closed(),
            Find::Nearby { .. } | Find::Forge { .. } => false,
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
        let Some(place) = place(address) else { return false };
        if self.relay_only { place == Place::Relayed } else { place >= self.nearest }
    }
}

/// Our Kademlia: it answers everybody, takes into its table only whom [`Finding`] says, and stores only what [`Records`] says.
/// It repeats nothing by itself: owners put their records anew.
fn kademlia(local: PeerId, serves: bool) -> Kad {
    let mut config = kad::Config::new(StreamProtocol::new(KADEMLIA));
    config
        .set_query_timeout(QUERY)
        .set_record_filtering(kad::StoreInserts::FilterBoth)
        .set_kbucket_inserts(kad::BucketInserts::Manual)
        .set_caching(kad::Caching::Disabled)
        .set_replication_interval(None)
        .set_publication_interval(None)
        .set_provider_publication_interval(None);
    let mut kad = Kad::with_config(local, Records::store(local), config);
    // By itself it would answer nobody before somebody else has confirmed an address of this node.
    kad.set_mode(Some(if serves { kad::Mode::Server } else { kad::Mode::Client }));
    kad
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

impl NetworkBehaviour for Finding {
    type ConnectionHandler = THandler<Toggle<Kad>>;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        connection_id: ConnectionId,
        peer: PeerId,
        local_addr: &Multiaddr,
        remote_addr: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        if self.kad.is_enabled() {
            let from = origin(remote_addr);
            let caller =
                self.callers.entry(peer).or_insert(Caller { from, said: Vec::new(), speaks: false });
            caller.from = caller.from.min(from);
        }
        self.kad.handle_established_inbound_connection(connection_id, peer, local_addr, remote_addr)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        connection_id: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        let mut found =
            self.kad.handle_pending_outbound_connection(connection_id, peer, addresses, role)?;
        found.retain(|address| self.may_dial(address));
        Ok(found)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection_id: ConnectionId,
        peer: PeerId,
        addr: &Multiaddr,
        role_override: Endpoint,
        port_use: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.kad.handle_established_outbound_connection(connection_id, peer, addr, role_override, port_use)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionClosed(closed) if closed.remaining_established == 0 => {
                self.callers.remove(&closed.peer_id);
                self.dialed.remove(&closed.peer_id);
            }
            FromSwarm::DialFailure(failure) => {
                if let Some(peer) = failure.peer_id.filter(|_| self.kad.is_enabled()) {
                    self.dialed.remove(&peer);
                }
            }
            FromSwarm::NewExternalAddrOfPeer(new) => {
                if let Some(caller) = self.callers.get_mut(&new.peer_id)
                    && caller.said.len() < MAX_PLACES
                    && !caller.said.contains(new.addr)
                {
                    caller.said.push(new.addr.clone());
                    self.take_said(new.peer_id, new.addr);
                }
            }
            _ => {}
        }
        self.kad.on_swarm_event(event);
        self.mdns.on_swarm_event(event);
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection_id: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        self.kad.on_connection_handler_event(peer, connection_id, event);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        loop {
            self.tidy();
            match self.kad.poll(cx) {
                Poll::Ready(ToSwarm::GenerateEvent(event)) => {
                    self.on_kad(event);
                    continue;
                }
                Poll::Ready(ToSwarm::Dial { opts }) => {
                    // Who names no node asks nobody, whatever others ask of it.
                    if self.asks()
                        && let Some(peer) = opts.get_peer_id()
                    {
                        self.dialed.insert(peer);
                        return Poll::Ready(ToSwarm::Dial { opts });
                    }
                    continue;
                }
                // What strangers say of others is for nobody else in this node.
                Poll::Ready(ToSwarm::NewExternalAddrOfPeer { .. }) => continue,
                Poll::Ready(other) => {
                    return Poll::Ready(other.map_out(|_| unreachable!("its events are taken above")));
                }
                Poll::Pending => {}
            }
            match self.mdns.poll(cx) {
                Poll::Ready(ToSwarm::GenerateEvent(event)) => self.on_mdns(event),
                // It has nothing else to say.
                Poll::Ready(_) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}
