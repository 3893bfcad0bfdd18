//! One Kademlia, and the questions that are open in it.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::Bytes;
use libp2p_kad::{
    self as kad, GetClosestPeersError, GetClosestPeersOk, GetRecordOk, PutRecordError, QueryId, QueryInfo,
    QueryResult, Quorum, RecordKey,
    store::{MemoryStore, RecordStore},
};
use rust_ipfs::{Multiaddr, PeerId, StreamProtocol, swarm::behaviour::toggle::Toggle};
use tokio::sync::oneshot;
use tracing::debug;

use super::{super::records::Records, Find, MAX_PLACES};

/// How long one question may take: as long as who asks waits (`FindConfig::lookup_timeout`).
const QUERY: Duration = Duration::from_secs(10);

/// How often who answers others looks for its neighbours, which have to know it. Default one hour, as the paper of Kademlia has it
/// (section 2.3) for what is not looked at by itself.
const REFRESH: Duration = Duration::from_secs(3600);

/// The most questions that are open or wait: as many as the finder has, and some for the own record.
const MAX_QUERIES: usize = 40;

/// The most names under which this node has something stored: it has one identity, and an app may run a few.
const MAX_OWN: usize = 8;

/// The most records that one question brings; one honest node brings one, and twenty are asked.
const MAX_FOUND: usize = 64;

pub(super) type Kad = kad::Behaviour<MemoryStore>;

/// A Kademlia, or none.
pub(super) struct Table {
    pub(super) kad: Toggle<Kad>,
    /// Others are answered.
    serves: bool,
    /// Whether there is somebody to ask.
    knows: bool,
    /// When it looked for its neighbours last.
    refreshed: Option<Instant>,
    /// It does so now.
    refreshing: Option<QueryId>,
    /// Questions that wait for that.
    waiting: Vec<Find>,
    queries: Vec<(QueryId, Query)>,
    /// Nodes that were named: a record goes to these in any case, however many nodes put themselves nearer to its name.
    bootstrap: Vec<PeerId>,
    /// The names under which this node has had something stored: what it holds there itself says nothing of others. The oldest is
    /// forgotten.
    own: VecDeque<[u8; 32]>,
}

enum Query {
    /// `here`: what this node holds itself. It may be older than what others have, so it comes last.
    Records {
        found: futures::channel::mpsc::Sender<Bytes>,
        left: usize,
        own: bool,
        here: Option<Bytes>,
    },
    Node {
        peer: PeerId,
        reply: oneshot::Sender<Vec<Multiaddr>>,
    },
    Store(oneshot::Sender<usize>),
}

impl Query {
    /// Whether nobody waits any more.
    fn is_void(&self) -> bool {
        match self {
            Self::Records { found, left, .. } => found.is_closed() || *left == 0,
            Self::Node { reply, .. } => reply.is_closed(),
            // What is being stored is stored.
            Self::Store(_) => false,
        }
    }
}

impl Table {
    /// None.
    pub(super) fn none() -> Self {
        Self {
            kad: None.into(),
            serves: false,
            knows: false,
            refreshed: None,
            refreshing: None,
            waiting: Vec::new(),
            queries: Vec::new(),
            bootstrap: Vec::new(),
            own: VecDeque::new(),
        }
    }

    /// One under this name. It takes nobody and stores nothing by itself, and repeats nothing: owners put their records anew.
    pub(super) fn new(local: PeerId, protocol: &'static str, serves: bool, bootstrap: &[PeerId]) -> Self {
        let mut config = kad::Config::new(StreamProtocol::new(protocol));
        config
            .set_query_timeout(QUERY)
            .set_periodic_bootstrap_interval(None)
            .set_record_filtering(kad::StoreInserts::FilterBoth)
            .set_kbucket_inserts(kad::BucketInserts::Manual)
            .set_caching(kad::Caching::Disabled)
            .set_replication_interval(None)
            .set_publication_interval(None)
            .set_provider_publication_interval(None);
        let mut kad = Kad::with_config(local, Records::store(local), config);
        // By itself it would answer nobody before somebody else has confirmed an address of this node.
        kad.set_mode(Some(if serves { kad::Mode::Server } else { kad::Mode::Client }));
        Self { kad: Some(kad).into(), serves, bootstrap: bootstrap.to_vec(), ..Self::none() }
    }

    /// Whether it may dial: for a question, or to get to know those around it, as who answers others does. Nobody is met without need.
    pub(super) fn may_dial(&self) -> bool {
        self.refreshing.is_some() || !self.queries.is_empty()
    }

    /// Asks, as soon as there is somebody to ask. What cannot be asked is dropped, and that is the answer.
    pub(super) fn ask(&mut self, find: Find) {
        self.tidy();
        if !self.kad.is_enabled() || self.queries.len() + self.waiting.len() >= MAX_QUERIES {
            return;
        }
        if self.knows {
            self.begin(find);
        } else {
            self.waiting.push(find);
        }
    }

    /// There is somebody to ask.
    pub(super) fn knows_somebody(&mut self) {
        self.knows = true;
        for find in std::mem::take(&mut self.waiting) {
            self.begin(find);
        }
    }

    /// A node listens at this address.
    pub(super) fn take(&mut self, peer: &PeerId, address: &Multiaddr) {
        let Some(kad) = self.kad.as_mut() else { return };
        // libp2p keeps all that were ever told. The oldest stands first.
        let known: Vec<Multiaddr> = kad
            .kbucket(*peer)
            .and_then(|near| {
                let entry = near.iter().find(|entry| entry.node.key.preimage() == peer)?;
                Some(entry.node.value.iter().cloned().collect())
            })
            .unwrap_or_default();
        if let Some(oldest) = known.first().filter(|_| known.len() >= MAX_PLACES) {
            kad.remove_address(peer, oldest);
        }
        kad.add_address(peer, address.clone());
    }

    /// Holds this under a name, whatever it is.
    pub(super) fn hold(&mut self, name: [u8; 32], record: &Bytes) {
        let Some(kad) = self.kad.as_mut() else { return };
        if kad.store_mut().put(kad::Record::new(name.to_vec(), record.to_vec())).is_err() {
            debug!("no room for it");
        }
    }

    /// Whether a question is open.
    pub(super) fn is_asking(&self) -> bool {
        !self.queries.is_empty()
    }

    /// Asks nothing any more.
    pub(super) fn fall_silent(&mut self) {
        self.waiting.clear();
        self.queries.clear();
    }

    fn begin(&mut self, find: Find) {
        let Some(kad) = self.kad.as_mut() else { return };
        let (id, query) = match find {
            Find::Records { name, found } if !found.is_closed() => {
                let own = self.own.contains(&name);
                (
                    kad.get_record(RecordKey::new(&name)),
                    Query::Records { found, left: MAX_FOUND, own, here: None },
                )
            }
            Find::Node { peer, reply, .. } if !reply.is_closed() => {
                (kad.get_closest_peers(peer), Query::Node { peer, reply })
            }
            Find::Store { name, record, life, reply } => {
                let record = kad::Record {
                    expires: Some(Instant::now() + life),
                    ..kad::Record::new(name.to_vec(), record.to_vec())
                };
                self.own.retain(|known| *known != name);
                self.own.push_back(name);
                if self.own.len() > MAX_OWN {
                    self.own.pop_front();
                }
                if !self.bootstrap.is_empty() {
                    // Its end is that of the other one.
                    kad.put_record_to(record.clone(), self.bootstrap.iter().copied(), Quorum::One);
                }
                // With a smaller quorum those who have to be dialed first would not get it.
                match kad.put_record(record, Quorum::All) {
                    Ok(id) => (id, Query::Store(reply)),
                    Err(error) => {
                        debug!(%error, "the own record is not stored");
                        return;
                    }
                }
            }
            _ => return,
        };
        self.queries.push((id, query));
    }

    /// A question has brought something.
    pub(super) fn progressed(&mut self, id: QueryId, result: &QueryResult, last: bool) {
        if last {
            self.refreshing.take_if(|open| *open == id);
        }
        let Some(at) = self.queries.iter().position(|(open, _)| *open == id) else { return };
        if let (
            Some((_, Query::Records { found, left, own, here })),
            QueryResult::GetRecord(Ok(GetRecordOk::FoundRecord(one))),
        ) = (self.queries.get_mut(at), result)
        {
            if one.peer.is_none() {
                *here = (!*own).then(|| Bytes::copy_from_slice(&one.record.value));
            } else {
                *left = left.saturating_sub(1);
                // Who does not read has no use for more.
                let _ = found.try_send(Bytes::copy_from_slice(&one.record.value));
            }
        }
        if !last {
            return;
        }
        match (self.queries.swap_remove(at).1, result) {
            (Query::Node { peer, reply }, QueryResult::GetClosestPeers(ended)) => {
                let (Ok(GetClosestPeersOk { peers, .. }) | Err(GetClosestPeersError::Timeout { peers, .. })) =
                    ended;
                // The nearest by name, which need not be the one that was asked for.
                let same = peers.iter().find(|near| near.peer_id == peer);
                // What was told last stands last.
                let addresses = same.map(|same| same.addrs.iter().rev().take(MAX_PLACES).cloned().collect());
                let _ = reply.send(addresses.unwrap_or_default());
            }
            (Query::Records { mut found, here: Some(here), .. }, _) => {
                let _ = found.try_send(here);
            }
            (Query::Store(reply), QueryResult::PutRecord(ended)) => {
                let stored = match ended {
                    // All of those that are nearest.
                    Ok(_) => kad::K_VALUE.get(),
                    Err(
                        PutRecordError::QuorumFailed { success, .. }
                        | PutRecordError::Timeout { success, .. },
                    ) => success.len(),
                };
                let _ = reply.send(stored);
            }
            _ => {}
        }
    }

    /// Looks for the neighbours, if that is due. To be called often.
    pub(super) fn refresh(&mut self, now: Instant, local: PeerId) {
        let due = self.refreshed.is_none_or(|last| now.saturating_duration_since(last) >= REFRESH);
        if !due || !self.knows || !self.serves || self.bootstrap.is_empty() {
            return;
        }
        if let Some(kad) = self.kad.as_mut() {
            self.refreshed = Some(now);
            // What comes of it is in the tables, here and there.
            self.refreshing = Some(kad.get_closest_peers(local));
        }
    }

    /// Ends what nobody waits for.
    pub(super) fn tidy(&mut self) {
        let Some(kad) = self.kad.as_mut() else { return };
        // With each new node it begins to walk through all of the network, and has no setting for that: one newcomer dialed 198 of 200
        // nodes.
        for mut query in kad.iter_queries_mut() {
            if matches!(query.info(), QueryInfo::Bootstrap { .. }) {
                query.finish();
            }
        }
        for (id, _) in self.queries.extract_if(.., |(_, query)| query.is_void()) {
            if let Some(mut query) = kad.query_mut(&id) {
                query.finish();
            }
        }
        self.waiting.retain(|find| match find {
            Find::Records { found, .. } => !found.is_closed(),
            Find::Node { reply, .. } | Find::Nearby { reply, .. } => !reply.is_closed(),
            Find::Store { reply, .. } => !reply.is_closed(),
            Find::Forge { .. } => false,
        });
    }
}
