//! Places at relays: carries out what [`Relays`] decides.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use futures::{
    FutureExt,
    future::{BoxFuture, join_all},
};
use rust_ipfs::{
    ConnectionId, DialOpts, ListenerId, Multiaddr, NetworkBehaviour, PeerCondition, PeerId, Protocol,
    swarm::{
        ConnectionClosed, ConnectionDenied, DialFailure, FromSwarm, ListenOpts, THandler, THandlerInEvent,
        THandlerOutEvent, ToSwarm,
        behaviour::ConnectionEstablished,
        derive_prelude::{Endpoint, PortUse},
        dummy,
    },
};
use tokio::time::{Sleep, sleep};
use tracing::debug;

use super::super::address::{node_of, peer_of, resolve};
use crate::{
    driver::clock,
    reach::{Jitter, RelayEffect, Relays},
    time::Instant,
};

type Out = ToSwarm<Infallible, Infallible>;

/// The most addresses of one place: a relay with several transports in both families on a handful of networks. libp2p keeps each
/// that a relay ever tells, with every renewal, and a relay may have it renewed as often as it likes.
const MAX_TOLD: usize = 32;

/// Asks for places at relays, and keeps them. Why not `autorelay` of connexa 0.5: it does not dial a relay again that it has
/// lost, takes every connected node for a relay, and gives the places up once an address looks public.
#[allow(unreachable_pub, reason = "a part of the handler of a public behaviour")]
pub struct Reserving {
    local: PeerId,
    relays: Relays,
    places: BTreeMap<PeerId, Place>,
    timer: Option<(Instant, Pin<Box<Sleep>>)>,
    /// The node does not listen yet.
    early: bool,
    out: VecDeque<Out>,
}

/// One relay.
#[derive(Default)]
struct Place {
    /// Where the user says that it is; may begin with names.
    given: Vec<Multiaddr>,
    /// The straight connections, with where they lead to.
    connections: BTreeMap<ConnectionId, Multiaddr>,
    /// A place is wanted, and was not yet asked for.
    wanted: bool,
    /// Its names are being looked up.
    resolving: Option<BoxFuture<'static, Vec<Multiaddr>>>,
    dialing: Option<ConnectionId>,
    /// The place, with the address under which libp2p tells others of it.
    listener: Option<(ListenerId, Multiaddr)>,
    /// Where others reach this node there, as the relay says.
    told: BTreeSet<Multiaddr>,
}

impl Reserving {
    pub(super) fn new(local: PeerId, named: Vec<(PeerId, Multiaddr)>, offered: Vec<PeerId>) -> Self {
        let mut this = Self {
            local,
            relays: Relays::default(),
            places: BTreeMap::new(),
            timer: None,
            early: true,
            out: VecDeque::new(),
        };
        let now = clock::now();
        for (peer, address) in named {
            if node_of(&peer).is_some_and(|node| this.relays.name(now, node)) {
                this.places.entry(peer).or_default().given.push(address);
            }
        }
        for peer in offered {
            if node_of(&peer).is_some_and(|node| this.relays.offer(now, node)) {
                this.places.entry(peer).or_default();
            }
        }
        this
    }

    /// The node listens: now relays may be asked.
    pub(super) fn begin(&mut self) {
        self.early = false;
    }

    /// Whether this part dials that.
    pub(super) fn dials(&self, connection: ConnectionId) -> bool {
        self.places.values().any(|place| place.dialing == Some(connection))
    }

    /// Nobody is asked any more.
    pub(super) fn fall_silent(&mut self) {
        self.relays = Relays::default();
        self.places.clear();
    }

    /// Whether others reach this node straight.
    pub(super) fn public(&mut self, public: bool) {
        let effects = self.relays.public(clock::now(), public);
        self.perform(effects);
    }

    fn perform(&mut self, effects: Vec<RelayEffect>) {
        for effect in effects {
            match effect {
                RelayEffect::Ask(node) => {
                    if let Some(peer) = peer_of(&node) {
                        self.ask(peer);
                    }
                }
                RelayEffect::GiveUp(node) => {
                    if let Some(place) = peer_of(&node).and_then(|peer| self.places.get_mut(&peer)) {
                        (place.wanted, place.resolving, place.dialing) = (false, None, None);
                        if let Some((id, _)) = &place.listener {
                            self.out.push_back(ToSwarm::RemoveListener { id: *id });
                        }
                    }
                }
            }
        }
    }

    fn ask(&mut self, peer: PeerId) {
        let Some(place) = self.places.get_mut(&peer) else { return };
        place.wanted = true;
        if place.connections.is_empty() {
            let names = place.given.clone();
            place.resolving = Some(
                async move {
                    let found = join_all(names.into_iter().map(resolve)).await;
                    found.into_iter().filter_map(Result::ok).flatten().collect()
                }
                .boxed(),
            );
        } else {
            self.listen(peer);
        }
    }

    /// Asks over the connection with the relay, which is there.
    fn listen(&mut self, peer: PeerId) {
        let Some(place) = self.places.get_mut(&peer) else { return };
        let Some(address) = place.connections.values().next().cloned() else { return };
        place.wanted = false;
        let circuit = address.with(Protocol::P2p(peer)).with(Protocol::P2pCircuit);
        let opts = ListenOpts::new(circuit.clone());
        place.listener = Some((opts.listener_id(), circuit.with(Protocol::P2p(self.local))));
        self.out.push_back(ToSwarm::ListenOn { opts });
    }

    fn dial(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) {
        let Some(place) = self.places.get_mut(&peer) else { return };
        if addresses.is_empty() {
            // Of a bootstrap node nothing is known here; it is asked when it is connected.
            self.lost(peer, "none of its addresses is known");
            return;
        }
        let opts = DialOpts::peer_id(peer)
            .addresses(addresses)
            .condition(PeerCondition::DisconnectedAndNotDialing)
            .build();
        place.dialing = Some(opts.connection_id());
        self.out.push_back(ToSwarm::Dial { opts });
    }

    /// A relay keeps a place, where others reach this node at that address.
    fn kept(&mut self, peer: PeerId, id: ListenerId, address: &Multiaddr) {
        let Some(place) = self.places.get_mut(&peer) else { return };
        place.told.insert(address.clone());
        if place.told.len() > MAX_TOLD {
            self.out.push_back(ToSwarm::RemoveListener { id });
            self.lost(peer, "it tells too many addresses");
        } else if let Some(node) = node_of(&peer) {
            debug!("a relay keeps a place");
            self.relays.kept(&node);
        }
    }

    fn lost(&mut self, peer: PeerId, why: &str) {
        debug!(why, "no place at a relay");
        if let Some(place) = self.places.get_mut(&peer) {
            (place.wanted, place.resolving, place.dialing) = (false, None, None);
            place.told.clear();
            if let Some((_, told)) = place.listener.take() {
                // libp2p's client forgets to, where the relay has refused to renew it.
                self.out.push_back(ToSwarm::ExternalAddrExpired(told));
            }
        }
        if let Some(node) = node_of(&peer) {
            self.relays.lost(clock::now(), &node, jitter());
        }
    }

    /// The relay that this listener is of.
    fn listener(&self, id: ListenerId) -> Option<PeerId> {
        let of = |place: &Place| place.listener.as_ref().is_some_and(|(known, _)| *known == id);
        self.places.iter().find(|(_, place)| of(place)).map(|(peer, _)| *peer)
    }

    fn connected(&mut self, new: &ConnectionEstablished<'_>) {
        let Some(place) = self.places.get_mut(&new.peer_id).filter(|_| !new.endpoint.is_relayed()) else {
            return;
        };
        let at = match new.endpoint.is_dialer() {
            true => Some(new.endpoint.get_remote_address().clone()),
            // It has dialed back, from a port that is good for nothing else.
            false => place.given.first().cloned(),
        };
        let Some(mut at) = at else { return };
        if matches!(at.iter().last(), Some(Protocol::P2p(_))) {
            at.pop();
        }
        place.connections.insert(new.connection_id, at);
        (place.dialing, place.resolving) = (None, None);
        if place.wanted {
            self.listen(new.peer_id);
        } else if let Some(node) = node_of(&new.peer_id) {
            self.relays.connected(clock::now(), &node);
        }
    }
}

impl NetworkBehaviour for Reserving {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(new) => self.connected(&new),
            FromSwarm::ConnectionClosed(ConnectionClosed { peer_id, connection_id, .. }) => {
                // The listener of a place that went with it ends by itself.
                if let Some(place) = self.places.get_mut(&peer_id) {
                    place.connections.remove(&connection_id);
                }
            }
            FromSwarm::DialFailure(DialFailure { peer_id: Some(peer), connection_id, .. }) => {
                let place = self.places.get(&peer);
                if place.is_some_and(|place| place.dialing == Some(connection_id)) {
                    // Refused because somebody else dials it: then that one tells.
                    self.lost(peer, "it does not answer");
                }
            }
            FromSwarm::NewListenAddr(new) => {
                if let Some(peer) = self.listener(new.listener_id) {
                    self.kept(peer, new.listener_id, new.addr);
                }
            }
            FromSwarm::ListenerClosed(closed) => {
                if let Some(peer) = self.listener(closed.listener_id) {
                    self.lost(peer, if closed.reason.is_ok() { "it is gone" } else { "it has refused" });
                }
            }
            FromSwarm::ListenerError(failed) => {
                if let Some(peer) = self.listener(failed.listener_id) {
                    self.out.push_back(ToSwarm::RemoveListener { id: failed.listener_id });
                    self.lost(peer, "it cannot be asked");
                }
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        loop {
            if let Some(out) = self.out.pop_front() {
                return Poll::Ready(out);
            }
            let resolved = self.places.iter_mut().find_map(|(peer, place)| {
                let Poll::Ready(addresses) = place.resolving.as_mut()?.poll_unpin(cx) else { return None };
                place.resolving = None;
                Some((*peer, addresses))
            });
            if let Some((peer, addresses)) = resolved {
                self.dial(peer, addresses);
                continue;
            }
            let Some(due) = self.relays.due().filter(|_| !self.early) else { return Poll::Pending };
            let now = clock::now();
            if due <= now {
                self.timer = None;
                let effects = self.relays.on_time(now, jitter());
                self.perform(effects);
                continue;
            }
            let timer = match &mut self.timer {
                Some((at, timer)) if *at == due => timer,
                timer => &mut timer.insert((due, Box::pin(sleep(due - now)))).1,
            };
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            // Early, by the other clock: a little later then.
            self.timer = None;
        }
    }
}

fn jitter() -> Jitter {
    // Without randomness there is no spreading, and nothing worse.
    Jitter(clock::random().map(u16::from_le_bytes).unwrap_or_default())
}
