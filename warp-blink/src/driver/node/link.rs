//! What goes between the behaviour, which the node's task runs, and the handle that others hold.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use rust_ipfs::{ConnectionId, Multiaddr, PeerId, Protocol};
use tokio::sync::{mpsc, oneshot};

use super::address::node_of;
use crate::{
    id::NodeId,
    ports::gossip::{
        ConnectError, EventSink, GossipCounters, GossipEvent, GossipEvents, NodeState, OfflineCause,
        PublishError, SubscribeError, Via, channel,
    },
    wire::Topic,
};

/// The most commands that wait for the node. Who sends one more waits.
const COMMANDS: usize = 64;

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
    peers: BTreeMap<PeerId, Vec<(ConnectionId, Via)>>,
    pub(super) counters: GossipCounters,
    /// The dialing by which the handle finds out whether this behaviour is the node's.
    probe: Option<ConnectionId>,
    probe_seen: bool,
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

    /// Joins the halves: from now on the reader is told, beginning with what holds already.
    pub(super) fn join(&self, local: PeerId) {
        let mut view = self.view();
        view.local = Some(local);
        self.sink.push(GossipEvent::State(view.state()));
        for address in &view.listening {
            self.sink.push(GossipEvent::Listening { address: whole(address, local) });
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
        let mut view = self.view();
        if view.listening.contains(address) {
            return;
        }
        let before = view.state();
        view.listening.push(address.clone());
        view.listened = true;
        let Some(local) = view.local else { return };
        self.sink.push(GossipEvent::Listening { address: whole(address, local) });
        self.tell_state(&view, before);
    }

    pub(super) fn listening_no_more_at(&self, address: &Multiaddr) {
        let mut view = self.view();
        let before = view.state();
        view.listening.retain(|a| a != address);
        self.tell_state(&view, before);
    }

    fn tell_state(&self, view: &View, before: NodeState) {
        let after = view.state();
        if view.local.is_some() && after != before {
            self.sink.push(GossipEvent::State(after));
        }
    }

    pub(super) fn connected(&self, peer: PeerId, connection: ConnectionId, via: Via) {
        let mut view = self.view();
        let connections = view.peers.entry(peer).or_default();
        connections.push((connection, via));
        if connections.len() == 1
            && view.local.is_some()
            && let Some(node) = node_of(&peer)
        {
            self.sink.push(GossipEvent::PeerConnected { node, via });
        }
    }

    pub(super) fn disconnected(&self, peer: PeerId, connection: ConnectionId) {
        let mut view = self.view();
        let Some(connections) = view.peers.get_mut(&peer) else { return };
        connections.retain(|(c, _)| *c != connection);
        if connections.is_empty() {
            view.peers.remove(&peer);
            if view.local.is_some()
                && let Some(node) = node_of(&peer)
            {
                self.sink.push(GossipEvent::PeerDisconnected { node });
            }
        }
    }
}

impl View {
    pub(super) fn state(&self) -> NodeState {
        if self.stopped {
            NodeState::Offline { cause: OfflineCause::Stopped }
        } else if self.local.is_none() {
            NodeState::Starting
        } else if self.listened && self.listening.is_empty() {
            NodeState::Offline { cause: OfflineCause::NoListener }
        } else {
            // Who never listened was told not to, and reaches others.
            NodeState::Online
        }
    }

    pub(super) fn via(&self, peer: &PeerId) -> Option<Via> {
        best(self.peers.get(peer)?)
    }

    pub(super) fn connected(&self) -> Vec<(NodeId, Via)> {
        self.peers.iter().filter_map(|(peer, c)| Some((node_of(peer)?, best(c)?))).collect()
    }

    pub(super) fn peers(&self) -> Vec<PeerId> {
        self.peers.keys().copied().collect()
    }

    pub(super) fn listening(&self) -> Vec<String> {
        let Some(local) = self.local else { return Vec::new() };
        self.listening.iter().map(|address| whole(address, local)).collect()
    }
}

/// The best of several connections with one peer: messages may go over any of them.
fn best(connections: &[(ConnectionId, Via)]) -> Option<Via> {
    connections.iter().map(|(_, via)| *via).min()
}

fn whole(address: &Multiaddr, local: PeerId) -> String {
    match address.iter().last() {
        Some(Protocol::P2p(_)) => address.to_string(),
        _ => address.clone().with(Protocol::P2p(local)).to_string(),
    }
}
