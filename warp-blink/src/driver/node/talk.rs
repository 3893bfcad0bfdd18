//! Gossip and the connections that carry it: the part of a node's behaviour that talks.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use libp2p_gossipsub::{self as gossipsub, MessageAcceptance, MessageId, TopicHash};
use rust_ipfs::{
    ConnectionId, DialOpts, Multiaddr, NetworkBehaviour, PeerCondition, PeerId,
    swarm::{
        CloseConnection, ConnectionClosed, ConnectionDenied, FromSwarm, THandler, THandlerInEvent,
        THandlerOutEvent, ToSwarm,
        behaviour::ConnectionEstablished,
        derive_prelude::{Endpoint, PortUse},
    },
};
use tokio::sync::oneshot;
use tracing::{debug, trace};

use super::{
    address::{node_of, relay_of},
    dial::Dials,
    gate::{Gate, Stopped},
    link::{Command, Shared},
    renewal::Renewal,
    tuning::{Gossipsub, gossipsub},
};
use crate::{
    driver::clock,
    ports::gossip::{
        ConnectError, GossipEvent, MAX_MESSAGE, MAX_TOPICS, MAX_WATCHED, PublishError, SubscribeError, Via,
    },
    wire::{
        Topic,
        frame::{self, FrameKind},
    },
};

/// Topics, messages and connections of a node.
#[allow(unreachable_pub, reason = "a public behaviour's handler is made of its handler")]
pub struct Talk {
    gossip: Gossipsub,
    shared: Arc<Shared>,
    subscribed: BTreeMap<TopicHash, Subscription>,
    /// The topics that were published on, the oldest first: their subscribers matter.
    published: VecDeque<(TopicHash, Topic)>,
    /// The topics whose subscribers matter though nothing is published there.
    watched: BTreeMap<TopicHash, Topic>,
    dials: Dials,
    renewal: Renewal,
    gate: Gate,
    /// Peers that do not speak this gossip, as far as it was told.
    silent: BTreeSet<PeerId>,
    /// Who waits for the last connection to close.
    closing: Vec<oneshot::Sender<()>>,
    out: VecDeque<ToSwarm<Infallible, THandlerInEvent<Gossipsub>>>,
}

/// What this node does with a topic.
#[derive(Clone, Copy, Debug)]
struct Subscription {
    topic: Topic,
    /// Its messages are told to the reader.
    heard: bool,
    /// Its messages are for others, and are handed on.
    forwarded: bool,
}

impl Talk {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            gossip: gossipsub(),
            shared,
            subscribed: BTreeMap::new(),
            published: VecDeque::new(),
            watched: BTreeMap::new(),
            dials: Dials::default(),
            renewal: Renewal::default(),
            gate: Gate::default(),
            silent: BTreeSet::new(),
            closing: Vec::new(),
            out: VecDeque::new(),
        }
    }

    pub(super) fn command(&mut self, command: Command) {
        // Whoever dropped the answer's other end does not want it.
        match command {
            Command::Subscribe { topic, reply } => {
                drop(reply.send(self.subscribe(topic, |subscription| subscription.heard = true)));
            }
            Command::Forward { topic, reply } => {
                drop(reply.send(self.subscribe(topic, |subscription| subscription.forwarded = true)));
            }
            Command::Unsubscribe { topic, reply } => drop(reply.send(self.unsubscribe(topic))),
            Command::Watch { topics, reply } => {
                self.watch(topics);
                let _ = reply.send(());
            }
            Command::Publish { topic, data, reply } => drop(reply.send(self.publish(topic, data))),
            Command::Connect { peer, addresses, reply } => self.connect(peer, addresses, reply),
            Command::Close { peer, reply } => {
                self.close(peer);
                let _ = reply.send(());
            }
            Command::CloseAll { reply } => {
                let peers = self.shared.view().peers();
                if peers.is_empty() {
                    let _ = reply.send(());
                } else {
                    self.closing.push(reply);
                    peers.into_iter().for_each(|peer| self.close(peer));
                }
            }
            Command::Begin | Command::Find(_) | Command::Detach { .. } => {
                debug!("not for this part of the node")
            }
        }
    }

    fn subscribe(&mut self, topic: Topic, how: impl FnOnce(&mut Subscription)) -> Result<(), SubscribeError> {
        let name = name(topic);
        if let Some(subscription) = self.subscribed.get_mut(&name) {
            how(subscription);
            return Ok(());
        }
        if self.subscribed.len() >= MAX_TOPICS {
            return Err(SubscribeError::TooMany);
        }
        // Our own names pass our own filter, the only thing that may fail here.
        self.gossip.subscribe(&ident(topic)).map_err(|_| SubscribeError::TooMany)?;
        let mut subscription = Subscription { topic, heard: false, forwarded: false };
        how(&mut subscription);
        self.subscribed.insert(name, subscription);
        Ok(())
    }

    fn unsubscribe(&mut self, topic: Topic) -> Result<(), SubscribeError> {
        let name = name(topic);
        if self.subscribed.remove(&name).is_some() {
            self.gossip.unsubscribe(&ident(topic));
            self.gate.unsubscribed(&name);
        }
        Ok(())
    }

    fn watch(&mut self, topics: BTreeSet<Topic>) {
        let named = topics.into_iter().take(MAX_WATCHED).map(|topic| (name(topic), topic));
        let before = std::mem::replace(&mut self.watched, named.collect());
        let heard = |topic: &TopicHash| self.gossip.all_peers().any(|(_, topics)| topics.contains(&topic));
        for (name, topic) in &self.watched {
            if !before.contains_key(name) && heard(name) {
                self.shared.tell(GossipEvent::PeerSubscribed { topic: *topic });
            }
        }
    }

    fn publish(&mut self, topic: Topic, data: Bytes) -> Result<(), PublishError> {
        let size = data.len();
        if size > MAX_MESSAGE {
            return Err(PublishError::TooLarge { size });
        }
        let name = name(topic);
        if !self.published.iter().any(|(known, _)| *known == name) {
            if self.published.len() >= MAX_TOPICS {
                self.published.pop_front();
            }
            self.published.push_back((name.clone(), topic));
        }
        let result = match self.gossip.publish(name, data) {
            Ok(_) => Ok(()),
            Err(gossipsub::PublishError::NoPeersSubscribedToTopic) => Err(PublishError::NoPeers),
            Err(gossipsub::PublishError::Duplicate) => Err(PublishError::Duplicate),
            Err(gossipsub::PublishError::AllQueuesFull(peers)) => Err(PublishError::QueueFull { peers }),
            // Nothing is signed or transformed, so this can only be the size.
            Err(_) => Err(PublishError::TooLarge { size }),
        };
        self.shared.count(|counters| match &result {
            Ok(()) => counters.published += 1,
            Err(PublishError::NoPeers) => counters.without_peers += 1,
            Err(_) => {}
        });
        trace!(size, ?result, "published");
        result
    }

    fn connect(
        &mut self,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        reply: oneshot::Sender<Result<Via, ConnectError>>,
    ) {
        let via = self.shared.view().via(&peer);
        if let Some(via) = via {
            let _ = reply.send(Ok(via));
        } else if let Some(opts) = self.dials.begin(peer, addresses, reply) {
            self.out.push_back(ToSwarm::Dial { opts });
        }
    }

    pub(super) fn close(&mut self, peer_id: PeerId) {
        self.out.push_back(ToSwarm::CloseConnection { peer_id, connection: CloseConnection::All });
    }

    /// A connection of this peer is being made: what it replaces is over, for gossip at once.
    fn replace(&mut self, peer_id: PeerId, to: &Multiaddr) {
        for old in self.renewal.replaces(clock::now(), &peer_id, to) {
            debug!("an older connection gives way to a new one");
            self.gossip.on_swarm_event(FromSwarm::ConnectionClosed(ConnectionClosed {
                peer_id,
                connection_id: old.id,
                endpoint: &old.endpoint,
                cause: None,
                remaining_established: old.remaining,
            }));
            self.out.push_back(close_one(peer_id, old.id));
        }
    }

    /// Tells gossip what it does not know yet, with the connections that it knows of.
    fn tell_gossip(&mut self, event: FromSwarm<'_>) {
        let event = match event {
            FromSwarm::ConnectionEstablished(mut new) => {
                let ConnectionEstablished { peer_id, connection_id, endpoint, .. } = new;
                new.other_established = self.renewal.opened(clock::now(), peer_id, connection_id, endpoint);
                FromSwarm::ConnectionEstablished(new)
            }
            FromSwarm::ConnectionClosed(mut old) => {
                let Some(remaining) = self.renewal.closed(&old.peer_id, old.connection_id) else { return };
                old.remaining_established = remaining;
                FromSwarm::ConnectionClosed(old)
            }
            other => other,
        };
        self.gossip.on_swarm_event(event);
    }

    /// Gives all topics up.
    pub(super) fn fall_silent(&mut self) {
        for (name, subscription) in std::mem::take(&mut self.subscribed) {
            self.gossip.unsubscribe(&ident(subscription.topic));
            self.gate.unsubscribed(&name);
        }
        self.published.clear();
        self.watched.clear();
    }

    /// Whether the reach wants this connection, and has said where it leads.
    pub(super) fn dials(&self, connection: ConnectionId) -> bool {
        self.dials.has(connection)
    }

    /// Whether there is something between this node and that one beside questions of where others are: a topic of both, or a way
    /// to somebody.
    pub(super) fn needs(&self, peer: &PeerId) -> bool {
        let topics = self.gossip.all_peers().find(|(other, _)| *other == peer).map(|(_, topics)| topics);
        topics.into_iter().flatten().any(|topic| self.known(topic).is_some())
            || self.renewal.leads_through(peer)
            || self.shared.view().listening.iter().any(|at| relay_of(at) == node_of(peer))
    }

    pub(super) fn topics(&self) -> usize {
        self.subscribed.len()
    }

    fn known(&self, name: &TopicHash) -> Option<Topic> {
        let subscribed = self.subscribed.get(name).map(|subscription| subscription.topic);
        let known = subscribed.or_else(|| self.watched.get(name).copied());
        known.or_else(|| self.published.iter().find(|(known, _)| known == name).map(|(_, topic)| *topic))
    }

    fn heard(&mut self, event: gossipsub::Event) {
        let shared = &self.shared;
        match event {
            gossipsub::Event::Message { propagation_source, message_id, message } => {
                self.renewal.spoke(clock::now(), &propagation_source);
                // Its shape is right and the topic is ours: the gate saw to that.
                let Some(subscription) = self.subscribed.get(&message.topic).copied() else {
                    self.judge(&message_id, &propagation_source, MessageAcceptance::Ignore);
                    return;
                };
                // Only a call message has many readers, who need not all be connected with each other. Everything else
                // has this node as its only reader, and handing it on would multiply a flood.
                let goes_on = subscription.forwarded || frame::check(&message.data) == Ok(FrameKind::Call);
                shared.count(|counters| {
                    counters.received += u64::from(subscription.heard);
                    counters.forwarded += u64::from(goes_on);
                });
                if subscription.heard {
                    let topic = subscription.topic;
                    shared.tell(GossipEvent::Message { topic, data: message.data.into() });
                }
                let acceptance = if goes_on { MessageAcceptance::Accept } else { MessageAcceptance::Ignore };
                self.judge(&message_id, &propagation_source, acceptance);
            }
            gossipsub::Event::Subscribed { topic, .. } => {
                if let Some(topic) = self.known(&topic) {
                    shared.tell(GossipEvent::PeerSubscribed { topic });
                }
            }
            gossipsub::Event::Unsubscribed { topic, .. } => {
                if let Some(topic) = self.known(&topic) {
                    shared.tell(GossipEvent::PeerUnsubscribed { topic });
                }
            }
            gossipsub::Event::GossipsubNotSupported { peer_id } => {
                // Each connection says so; the reader hears it once per peer.
                if self.silent.insert(peer_id)
                    && let Some(node) = node_of(&peer_id)
                {
                    shared.tell(GossipEvent::PeerUnsupported { node });
                }
            }
            gossipsub::Event::SlowPeer { .. } => shared.count(|counters| counters.slow_peers += 1),
        }
    }

    fn judge(&mut self, message: &MessageId, bearer: &PeerId, acceptance: MessageAcceptance) {
        self.gossip.report_message_validation_result(message, bearer, acceptance);
    }
}

impl NetworkBehaviour for Talk {
    type ConnectionHandler = THandler<gossipsub::Behaviour>;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        connection_id: ConnectionId,
        peer: PeerId,
        local_addr: &Multiaddr,
        remote_addr: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        // Who was asked to dial back does so, and what is there stays.
        if !self.shared.is_asked(clock::now(), &peer) {
            self.replace(peer, local_addr);
        }
        self.gossip.handle_established_inbound_connection(connection_id, peer, local_addr, remote_addr)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection_id: ConnectionId,
        peer: PeerId,
        addr: &Multiaddr,
        role_override: Endpoint,
        port_use: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        if self.dials.given_up(connection_id) {
            return Err(ConnectionDenied::new("nobody waits for it any more"));
        }
        // From a new port: this node dials back, and what is there stays.
        if port_use == PortUse::Reuse {
            self.replace(peer, addr);
        }
        self.gossip.handle_established_outbound_connection(connection_id, peer, addr, role_override, port_use)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        self.tell_gossip(event);
        match event {
            FromSwarm::ConnectionEstablished(ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint,
                ..
            }) => {
                let via = if endpoint.is_relayed() { Via::Relay } else { Via::Direct };
                debug!(?via, "connected");
                let dialed = endpoint.is_dialer().then(|| endpoint.get_remote_address());
                self.shared.connected(peer_id, connection_id, via, dialed);
                self.gate.connected(peer_id);
                self.dials.connected(peer_id, connection_id, via);
            }
            FromSwarm::ConnectionClosed(ConnectionClosed {
                peer_id,
                connection_id,
                remaining_established,
                ..
            }) => {
                debug!(remaining_established, "disconnected");
                self.shared.disconnected(peer_id, connection_id);
                if remaining_established == 0 {
                    self.silent.remove(&peer_id);
                    self.gate.disconnected(clock::now(), &peer_id);
                    if let Some((node, places)) = node_of(&peer_id).zip(self.renewal.cut_off(&peer_id)) {
                        let addresses = places.iter().map(ToString::to_string).collect();
                        self.shared.tell(GossipEvent::CutOff { node, addresses });
                    }
                }
                if self.shared.view().peers().is_empty() {
                    for reply in self.closing.drain(..) {
                        let _ = reply.send(());
                    }
                }
            }
            FromSwarm::DialFailure(failure) => {
                self.shared.dial_failed(failure.connection_id);
                let shared = &self.shared;
                let via = |peer: &PeerId| shared.view().via(peer);
                if let Some(opts) = self.dials.failed(failure.connection_id, failure.error, via) {
                    self.out.push_back(ToSwarm::Dial { opts });
                }
            }
            FromSwarm::NewListenAddr(new) => self.shared.listening_at(new.addr),
            FromSwarm::ExpiredListenAddr(expired) => {
                self.shared.listening_no_more_at(expired.addr);
                // One listener of several may have ended, on an address that is still there.
                let own = expired.addr.iter().next();
                if self.shared.view().listening.iter().any(|other| other.iter().next() == own) {
                    return;
                }
                for (peer_id, connection_id) in self.renewal.lost(expired.addr) {
                    debug!("a connection may have gone out from an address that is gone: it is closed");
                    self.out.push_back(close_one(peer_id, connection_id));
                }
            }
            FromSwarm::NewExternalAddrOfPeer(new) => self.renewal.listens(&new.peer_id, new.addr),
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection_id: ConnectionId,
        mut event: THandlerOutEvent<Self>,
    ) {
        let wanted = |topic: &TopicHash| self.subscribed.contains_key(topic);
        let stopped = self.gate.admit(clock::now(), peer, &mut event, wanted);
        if stopped != Stopped::default() {
            self.shared.count(|counters| {
                counters.rejected += stopped.rejected;
                counters.ignored += stopped.unknown;
                counters.stray += stopped.stray;
                counters.throttled += stopped.throttled;
                counters.refused += stopped.refused;
                counters.control_stopped += stopped.control;
            });
        }
        self.gossip.on_connection_handler_event(peer, connection_id, event);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        loop {
            if let Some(out) = self.out.pop_front() {
                return Poll::Ready(out);
            }
            match self.gossip.poll(cx) {
                Poll::Ready(ToSwarm::GenerateEvent(event)) => {
                    self.heard(event);
                    continue;
                }
                // Gossipsub dials peers that others name. Who this node meets is the reach's business.
                Poll::Ready(ToSwarm::Dial { .. }) => continue,
                Poll::Ready(other) => {
                    return Poll::Ready(other.map_out(|_| unreachable!("its events are taken above")));
                }
                Poll::Pending => {}
            }
            // Seen to with each heartbeat of gossipsub, which wakes this.
            for (peer, circuit) in self.renewal.ending(clock::now()) {
                debug!("a circuit is about to end: another one is opened");
                let opts = DialOpts::peer_id(peer).condition(PeerCondition::Always).addresses(vec![circuit]);
                self.out.push_back(ToSwarm::Dial { opts: opts.build() });
            }
            for (peer, connection) in self.renewal.surplus(clock::now()) {
                debug!("one connection of several of a peer is closed");
                self.out.push_back(close_one(peer, connection));
            }
            if self.out.is_empty() {
                return Poll::Pending;
            }
        }
    }
}

fn name(topic: Topic) -> TopicHash {
    TopicHash::from_raw(topic.to_string())
}

fn ident(topic: Topic) -> gossipsub::IdentTopic {
    gossipsub::IdentTopic::new(topic.to_string())
}

fn close_one(
    peer_id: PeerId,
    connection_id: ConnectionId,
) -> ToSwarm<Infallible, THandlerInEvent<Gossipsub>> {
    ToSwarm::CloseConnection { peer_id, connection: CloseConnection::One(connection_id) }
}
