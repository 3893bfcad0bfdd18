//! What goes between the behaviour, which the node's task runs, and the handle that others hold.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use rust_ipfs::{ConnectionId, Multiaddr, PeerId, Protocol};
use tokio::sync::{mpsc, oneshot};

use super::address::{is_relayed, node_of, parse, relay_of};
use crate::{
    id::NodeId,
    ports::gossip::{
        ConnectError, EventSink, GossipCounters, GossipEvent, GossipEvents, NodeState, PublishError,
        SubscribeError, Via, channel,
    },
    reach::{Addresses, Facts},
    time::Instant,
    wire::Topic,
};

/// The most commands that wait for the node. Who sends one more waits.
const COMMANDS: usize = 64;

/// The most addresses behind relays that are told of. 64: eight relays with eight each. Those of this machine are as many as it has.
const MAX_BEHIND: usize = 64;

/// How long somebody may take to dial back who was asked to. 10 s: after that libp2p ends the question, at both ends.
const DIALED_BACK: Duration = Duration::from_secs(10);

/// What the handle asks of the behaviour. Each is answered once.
#[derive(Debug)]
pub(super) enum Command {
    Subscribe {
        topic: Topic,
        reply: oneshot::Sender<Result<(), SubscribeError>>,
    },
    Forward {
        topic: Topic,
        reply: oneshot::Sender<Result<(), SubscribeError>>,
    },
    Unsubscribe {
        topic: Topic,
        reply: oneshot::Sender<Result<(), SubscribeError>>,
    },
    Watch {
        topics: BTreeSet<Topic>,
        reply: oneshot::Sender<()>,
    },
    Publish {
        topic: Topic,
        data: Bytes,
        reply: oneshot::Sender<Result<(), PublishError>>,
    },
    Connect {
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        reply: oneshot::Sender<Result<Via, ConnectError>>,
    },
    Close {
        peer: PeerId,
        reply: oneshot::Sender<()>,
    },
    /// Answered when the last connection is closed.
    CloseAll {
        reply: oneshot::Sender<()>,
    },
    Find(Find),
    /// The node listens, as far as it was told to. Without an answer.
    Begin,
    /// Gives all topics up and says goodbye; the node goes on.
    Detach {
        reply: oneshot::Sender<()>,
    },
}

/// What the handle asks of the part that finds others. What comes is sent as it comes, and the end of it by dropping the
/// sender; who drops the other end wants no more.
#[derive(Debug)]
pub(super) enum Find {
    /// What others have stored under a name.
    Records { name: [u8; 32], found: futures::channel::mpsc::Sender<Bytes> },
    /// What others know of where a node is, those of our own Kademlia or of the public one.
    Node { peer: PeerId, public: bool, reply: oneshot::Sender<Vec<Multiaddr>> },
    /// Has others store a record for so long, and says how many did.
    Store { name: [u8; 32], record: Bytes, life: Duration, reply: oneshot::Sender<usize> },
    /// Where the local network says that a node is.
    Nearby { peer: PeerId, reply: oneshot::Sender<Vec<Multiaddr>> },
    /// Holds this under a name, whatever it is: for tests of what a liar can do.
    Forge { name: [u8; 32], record: Bytes },
}

/// The handle's half of a [`BlinkBehaviour`](super::BlinkBehaviour): to be joined with the node that runs the other
/// half, by [`IpfsGossip::attach`](super::IpfsGossip::attach).
#[derive(Debug)]
pub struct NodeLink {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) shared: Arc<Shared>,
    pub(super) events: GossipEvents,
}

/// The behaviour's half.
#[derive(Debug)]
pub(super) struct LinkEnd {
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) shared: Arc<Shared>,
}

pub(super) fn link() -> (LinkEnd, NodeLink) {
    let (sender, receiver) = mpsc::channel(COMMANDS);
    let (sink, events) = channel();
    let shared = Arc::new(Shared { sink, view: Mutex::new(View::default()) });
    (LinkEnd { commands: receiver, shared: shared.clone() }, NodeLink { commands: sender, shared, events })
}

/// What both halves see. The behaviour writes, the handle reads, without waiting for the node's task.
#[derive(Debug)]
pub(super) struct Shared {
    sink: EventSink,
    view: Mutex<View>,
}

#[derive(Debug, Default)]
pub(super) struct View {
    /// Our node, once the handle has joined the two halves. Before that nobody is told anything.
    local: Option<PeerId>,
    /// Ended: the node is gone, or was told to forget us.
    stopped: bool,
    /// It has listened at some time.
    listened: bool,
    pub(super) listening: Vec<Multiaddr>,
    /// What is known of how this node stands.
    facts: Facts,
    peers: BTreeMap<PeerId, Vec<Open>>,
    pub(super) counters: GossipCounters,
    /// Who was asked last to dial back, and when. Bounded by the relays of this node.
    asked: BTreeMap<PeerId, Instant>,
    /// The dialing by which the handle finds out whether this behaviour is the node's.
    probe: Option<ConnectionId>,
    probe_seen: bool,
}

/// An open connection.
#[derive(Debug)]
struct Open {
    id: ConnectionId,
    via: Via,
    /// The address that this node has dialed, if it has.
    dialed: Option<Multiaddr>,
}

impl Shared {
    pub(super) fn view(&self) -> MutexGuard<'_, View> {
        // Nothing panics while it is held, so what is inside is whole even if it says poisoned.
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the counters.
    pub(super) fn count(&self, change: impl FnOnce(&mut GossipCounters)) {
        change(&mut self.view().counters);
    }

    /// What was counted, with what the event queue dropped.
    pub(super) fn counters(&self) -> GossipCounters {
        self.view().counters.with(self.sink.dropped())
    }

    /// Tells the reader, if the halves are joined.
    pub(super) fn tell(&self, event: GossipEvent) {
        if self.view().local.is_some() {
            self.sink.push(event);
        }
    }

    /// Joins the halves: from now on the reader is told, beginning with what holds already. `will_listen`: it does not listen
    /// yet, but is about to.
    pub(super) fn join(&self, local: PeerId, will_listen: bool) {
        let mut view = self.view();
        view.local = Some(local);
        if !view.listened && !will_listen {
            view.facts.told_not_to_listen();
        }
        self.sink.push(GossipEvent::State(view.state()));
        for address in view.listening() {
            self.sink.push(GossipEvent::Listening { address });
        }
        for (peer, connections) in &view.peers {
            if let (Some(node), Some(via)) = (node_of(peer), best(connections)) {
                self.sink.push(GossipEvent::PeerConnected { node, via });
            }
        }
    }

    /// Everything is over.
    pub(super) fn stop(&self) {
        let mut view = self.view();
        if view.stopped {
            return;
        }
        view.stopped = true;
        view.facts.stopped();
        view.peers.clear();
        view.listening.clear();
        if view.local.is_some() {
            self.sink.push(GossipEvent::State(view.state()));
        }
        // Told even if nobody joined: the stream must end.
        self.sink.push(GossipEvent::Stopped);
    }

    pub(super) fn watch_probe(&self, dialing: ConnectionId) {
        let mut view = self.view();
        view.probe = Some(dialing);
        view.probe_seen = false;
    }

    pub(super) fn dial_failed(&self, dialing: ConnectionId) {
        let mut view = self.view();
        view.probe_seen |= view.probe == Some(dialing);
    }

    pub(super) fn probe_seen(&self) -> bool {
        self.view().probe_seen
    }

    pub(super) fn listening_at(&self, address: &Multiaddr) {
        self.change(|view| {
            let behind = view.listening.iter().filter(|known| is_relayed(known)).count();
            if view.listening.contains(address) || (is_relayed(address) && behind >= MAX_BEHIND) {
                return;
            }
            view.listening.push(address.clone());
            view.listened |= !is_relayed(address);
            view.listens();
        });
    }

    pub(super) fn listening_no_more_at(&self, address: &Multiaddr) {
        self.change(|view| {
            view.listening.retain(|a| a != address);
            view.listens();
        });
    }

    /// This peer was asked to dial back.
    pub(super) fn asks(&self, now: Instant, peer: PeerId) {
        self.view().asked.insert(peer, now);
    }

    /// Whether this peer may be about to dial back.
    pub(super) fn is_asked(&self, now: Instant, peer: &PeerId) -> bool {
        self.view().asked.get(peer).is_some_and(|asked| now.since(*asked) < DIALED_BACK)
    }

    /// Whether everybody reaches this node straight, also those who have IPv4 only.
    pub(super) fn is_reached_by_all(&self) -> bool {
        self.view().facts.is_reached_by_all()
    }

    /// Something else is known of how this node stands.
    pub(super) fn learn(&self, change: impl FnOnce(&mut Facts)) {
        self.change(|view| change(&mut view.facts));
    }

    /// Changes what is known, and tells what comes of it: where others reach this node now, and how it stands.
    fn change(&self, change: impl FnOnce(&mut View)) {
        let mut view = self.view();
        let before = (view.listening(), view.state());
        change(&mut view);
        if view.local.is_none() {
            return;
        }
        let (addresses, state) = (view.listening(), view.state());
        let missing = |from: &[String], address: &String| !from.contains(address);
        for address in addresses.iter().filter(|address| missing(&before.0, address)) {
            self.sink.push(GossipEvent::Listening { address: address.clone() });
        }
        for address in before.0.iter().filter(|address| missing(&addresses, address)) {
            self.sink.push(GossipEvent::ListeningNoMore { address: address.clone() });
        }
        if state != before.1 {
            self.sink.push(GossipEvent::State(state));
        }
    }

    fn tell_state(&self, view: &View, before: NodeState) {
        let after = view.state();
        if view.local.is_some() && after != before {
            self.sink.push(GossipEvent::State(after));
        }
    }

    pub(super) fn connected(&self, peer: PeerId, id: ConnectionId, via: Via, dialed: Option<&Multiaddr>) {
        let mut view = self.view();
        let before = view.state();
        let connections = view.peers.entry(peer).or_default();
        // One that is better than those before is told, too: the way has become straight.
        let better = best(connections).is_none_or(|best| via < best);
        connections.push(Open { id, via, dialed: dialed.cloned() });
        if better
            && view.local.is_some()
            && let Some(node) = node_of(&peer)
        {
            self.sink.push(GossipEvent::PeerConnected { node, via });
        }
        let others = view.peers.len();
        view.facts.connected(others);
        self.tell_state(&view, before);
    }

    pub(super) fn disconnected(&self, peer: PeerId, connection: ConnectionId) {
        let mut view = self.view();
        let before = view.state();
        let Some(connections) = view.peers.get_mut(&peer) else { return };
        connections.retain(|open| open.id != connection);
        if connections.is_empty() {
            view.peers.remove(&peer);
            if view.local.is_some()
                && let Some(node) = node_of(&peer)
            {
                self.sink.push(GossipEvent::PeerDisconnected { node });
            }
            let others = view.peers.len();
            view.facts.connected(others);
            self.tell_state(&view, before);
        }
    }
}

impl View {
    pub(super) fn state(&self) -> NodeState {
        if self.local.is_none() && !self.stopped {
            // Nobody has asked yet.
            return NodeState::Starting;
        }
        NodeState::from(&self.facts)
    }

    /// Where it listens has changed: its own addresses and those behind relays.
    fn listens(&mut self) {
        let (behind, own): (Vec<&Multiaddr>, Vec<&Multiaddr>) =
            self.listening.iter().partition(|address| is_relayed(address));
        let mut relays: BTreeMap<NodeId, Addresses> = BTreeMap::new();
        for address in behind {
            if let Some(relay) = relay_of(address) {
                relays.entry(relay).or_default().0.push(address.to_string());
            }
        }
        if self.listened {
            self.facts.listens(true, &Addresses(own.into_iter().map(ToString::to_string).collect()));
        }
        self.facts.behind(relays);
    }

    pub(super) fn via(&self, peer: &PeerId) -> Option<Via> {
        best(self.peers.get(peer)?)
    }

    /// At which address this node has dialed that peer, the straightest way first.
    pub(super) fn dialed(&self, peer: &PeerId) -> Option<String> {
        let dialed = self.peers.get(peer)?.iter().filter(|open| open.dialed.is_some());
        dialed.min_by_key(|open| open.via)?.dialed.as_ref().map(|address| whole(address, *peer))
    }

    pub(super) fn connected(&self) -> Vec<(NodeId, Via)> {
        self.peers.iter().filter_map(|(peer, c)| Some((node_of(peer)?, best(c)?))).collect()
    }

    pub(super) fn peers(&self) -> Vec<PeerId> {
        self.peers.keys().copied().collect()
    }

    pub(super) fn listening(&self) -> Vec<String> {
        let Some(local) = self.local.filter(|_| !self.stopped) else { return Vec::new() };
        // Where others have come in from outside is no address of this machine, but one of this node.
        let outside = self.facts.reachable_at();
        let outside = outside.0.iter().filter_map(|text| parse(text).ok());
        let mut all: Vec<String> = self.listening.iter().map(|address| whole(address, local)).collect();
        for address in outside.map(|address| whole(&address, local)) {
            if !all.contains(&address) {
                all.push(address);
            }
        }
        all
    }
}

/// The best of several connections with one peer: messages may go over any of them.
fn best(connections: &[Open]) -> Option<Via> {
    connections.iter().map(|open| open.via).min()
}

fn whole(address: &Multiaddr, local: PeerId) -> String {
    match address.iter().last() {
        Some(Protocol::P2p(_)) => address.to_string(),
        _ => address.clone().with(Protocol::P2p(local)).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(n: usize) -> Multiaddr {
        format!("/ip4/203.0.113.{n}/tcp/4001").parse().unwrap()
    }

    fn joined() -> (Arc<Shared>, GossipEvents, PeerId) {
        let (LinkEnd { shared, .. }, NodeLink { events, .. }) = link();
        let local = PeerId::random();
        shared.join(local, true);
        (shared, events, local)
    }

    fn told(events: &mut GossipEvents) -> Vec<GossipEvent> {
        std::iter::from_fn(|| events.try_recv()).collect()
    }

    #[test]
    fn addresses_that_come_and_go_are_told_also_where_the_state_stays() {
        let (shared, mut events, local) = joined();
        let named = |n| whole(&at(n), local);
        shared.listening_at(&at(1));
        shared.learn(|facts| facts.dialed_back(&at(2).to_string(), true));
        assert_eq!(told(&mut events).last(), Some(&GossipEvent::State(NodeState::Public)));
        shared.learn(|facts| facts.dialed_back(&at(3).to_string(), true));
        assert_eq!(told(&mut events), [GossipEvent::Listening { address: named(3) }]);
        shared.learn(|facts| facts.expired(&at(3).to_string()));
        assert_eq!(told(&mut events), [GossipEvent::ListeningNoMore { address: named(3) }]);
        shared.learn(|facts| facts.connected(2));
        shared.listening_at(&at(1));
        assert_eq!(told(&mut events), [], "nothing is new");
        assert_eq!(shared.view().listening(), [named(1), named(2)]);
    }

    #[test]
    fn a_hostile_relay_that_tells_many_addresses_has_room_for_few() {
        let (shared, _events, _) = joined();
        (0..200).for_each(|n| shared.listening_at(&at(n).with(Protocol::P2pCircuit)));
        assert_eq!(shared.view().listening.len(), MAX_BEHIND);
        shared.listening_at(&at(0));
        assert_eq!(shared.view().listening.len(), MAX_BEHIND + 1, "the own ones are another matter");
    }

    #[test]
    fn whoever_was_asked_to_dial_back_may_do_so_for_a_while() {
        let (shared, _events, peer) = joined();
        let now = Instant::from_micros(1_000_000);
        assert!(!shared.is_asked(now, &peer));
        shared.asks(now, peer);
        assert!(shared.is_asked(now, &peer) && !shared.is_asked(now, &PeerId::random()));
        assert!(!shared.is_asked(now + DIALED_BACK, &peer));
    }
}
