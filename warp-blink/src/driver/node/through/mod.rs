//! Getting through: the part of a node's behaviour that makes others reach it, or reach each other through it.
//!
//! Each part is off unless it was asked for ([`Routes`], [`RelayLimits`]). What they find out goes to the
//! [facts](crate::reach::Facts) of the node's standing.

mod answering;
mod checking;
mod mapping;
mod only_relays;
mod punching;
mod reserving;
mod serving;

use std::{
    collections::BTreeSet,
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use libp2p_ping as ping;
use libp2p_upnp::Event as Router;
use rust_ipfs::{
    ConnectionId, Multiaddr, NetworkBehaviour, PeerId, Protocol,
    swarm::{
        CloseConnection, ConnectionDenied, FromSwarm, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
        behaviour::toggle::Toggle,
        derive_prelude::{Endpoint, PortUse},
    },
};
use tracing::debug;

pub use self::serving::RelayLimits;
use self::{
    answering::Answering, checking::Checking, mapping::Mapping, only_relays::OnlyRelays, punching::Punching,
    reserving::Reserving,
};
use super::{
    address::{is_loopback, is_relayed},
    link::Shared,
};
use crate::{
    driver::clock,
    reach::{Facts, PortMapping},
    time::Instant,
};

/// The most addresses of this node that others may have confirmed.
const MAX_CONFIRMED: usize = 16;

/// How long a sign of life may take. 15 s, as the pause between two (libp2p's own): a connection without an answer to two in a row
/// is closed, within a minute. TCP alone tries for a quarter of an hour, and so long a relay that has lost its power seems to keep
/// its places.
const NO_ANSWER: Duration = Duration::from_secs(15);

/// How long an address counts at which others have reached this node, when all are gone who could try again: until then they have come
/// back and have tried. 60 s: the longest pause between two attempts at them.
const DOUBTFUL: Duration = Duration::from_secs(60);

/// By which ways others may reach this node, and it them.
#[derive(Clone, Debug, Default)]
pub(super) struct Routes {
    /// Relays that the user named.
    pub(super) relays: Vec<(PeerId, Multiaddr)>,
    /// Nodes that may be relays.
    pub(super) offered: Vec<PeerId>,
    /// Nothing but these relays.
    pub(super) relay_only: bool,
    pub(super) hole_punching: bool,
    pub(super) port_mapping: bool,
    pub(super) dial_back: bool,
    /// Others may use this node as their relay.
    pub(super) serve: Option<Serve>,
}

/// Being a relay.
#[derive(Clone, Debug)]
pub(super) struct Serve {
    pub(super) limits: RelayLimits,
    /// Where else others reach this node, besides where it listens.
    pub(super) announce: Vec<Multiaddr>,
    /// Also those of this machine alone are told.
    pub(super) loopback: bool,
}

/// The parts. Public in a private module, because the handler of a public behaviour is made of theirs.
#[allow(unreachable_pub, reason = "as above")]
#[derive(NetworkBehaviour)]
#[behaviour(prelude = "rust_ipfs::swarm::derive_prelude")]
pub struct Parts {
    reserving: Toggle<Reserving>,
    checking: Toggle<Checking>,
    answering: Toggle<Answering>,
    punching: Toggle<Punching>,
    mapping: Toggle<Mapping>,
    living: Toggle<ping::Behaviour>,
    serving: Toggle<libp2p_relay::Behaviour>,
}

/// See the [module](self).
#[allow(unreachable_pub, reason = "a public behaviour's handler is made of its handler")]
pub struct Through {
    parts: Parts,
    only_relays: OnlyRelays,
    shared: Arc<Shared>,
    /// It is a relay: its addresses are told to those for whom it keeps a place. Whether those of this machine alone are, too.
    announces: Option<bool>,
    /// Where this node listens itself.
    listening: BTreeSet<Multiaddr>,
    /// Where others reach it straight.
    confirmed: BTreeSet<Multiaddr>,
    /// Those of them that may hold no longer, and until when they count.
    doubtful: Option<(Instant, BTreeSet<Multiaddr>)>,
    out: Vec<ToSwarm<Infallible, THandlerInEvent<Parts>>>,
}

impl Through {
    /// Nothing is done: the node is the app's, which has its own means.
    pub(super) fn off(shared: Arc<Shared>) -> Self {
        let parts = Parts {
            reserving: None.into(),
            checking: None.into(),
            answering: None.into(),
            punching: None.into(),
            mapping: None.into(),
            living: None.into(),
            serving: None.into(),
        };
        Self {
            parts,
            only_relays: OnlyRelays::default(),
            shared,
            announces: None,
            listening: BTreeSet::new(),
            confirmed: BTreeSet::new(),
            doubtful: None,
            out: Vec::new(),
        }
    }

    /// For the node of this name. To be called within a tokio runtime.
    pub(super) fn new(local: PeerId, routes: Routes, shared: Arc<Shared>) -> Self {
        let Routes { relays, offered, relay_only, hole_punching, port_mapping, dial_back, serve } = routes;
        // Where only relays may be used, nobody is asked to come straight, and no router to let them.
        let [hole_punching, port_mapping, dial_back] =
            [hole_punching, port_mapping, dial_back].map(|on| on && !relay_only);
        let known: BTreeSet<PeerId> =
            relays.iter().map(|(relay, _)| *relay).chain(offered.iter().copied()).collect();
        let asks = dial_back && serve.is_none() && !known.is_empty();
        let facts = Facts::new(relay_only, port_mapping).with_asking(asks).with_serving(serve.is_some());
        shared.learn(|known| *known = facts);
        let mut off = Self::off(shared);
        if let Some(serve) = &serve {
            off.announces = Some(serve.loopback);
            off.out.extend(serve.announce.iter().cloned().map(ToSwarm::ExternalAddrConfirmed));
        }
        off.only_relays = OnlyRelays::new(relay_only, known.clone());
        off.parts = Parts {
            reserving: (!known.is_empty()).then(|| Reserving::new(local, relays, offered)).into(),
            punching: hole_punching.then(|| Punching::new(local, known.clone())).into(),
            checking: asks.then(|| Checking::new(known, off.shared.clone())).into(),
            answering: serve.as_ref().map(|serve| Answering::new(serve.loopback)).into(),
            mapping: port_mapping.then(Mapping::default).into(),
            living: Some(ping::Behaviour::new(ping::Config::new().with_timeout(NO_ANSWER))).into(),
            serving: serve.map(|serve| libp2p_relay::Behaviour::new(local, serve.limits.config())).into(),
        };
        off
    }

    /// The node listens, as far as it was told to. Whoever is dialed before that sees another port than the one that others reach.
    pub(super) fn begin(&mut self) {
        if let Some(reserving) = self.parts.reserving.as_mut() {
            reserving.begin();
        }
    }

    /// Whether this connection may be opened. `reach`: the addresses are those of the reach.
    pub(super) fn may_open(
        &self,
        connection: ConnectionId,
        reach: bool,
        peer: Option<&PeerId>,
        addresses: &[Multiaddr],
    ) -> Result<(), ConnectionDenied> {
        let trusted = reach || self.parts.reserving.as_ref().is_some_and(|part| part.dials(connection));
        match self.only_relays.refusal(trusted, peer, addresses) {
            Some(why) => Err(ConnectionDenied::new(why)),
            None => Ok(()),
        }
    }

    /// Nobody is asked any more for a place.
    pub(super) fn fall_silent(&mut self) {
        if let Some(reserving) = self.parts.reserving.as_mut() {
            reserving.fall_silent();
        }
    }

    fn told(&mut self, event: PartsEvent) {
        match event {
            PartsEvent::Checking(said) => {
                let reached = said.result.is_ok();
                debug!(reached, "another node has dialed back");
                self.shared.count(|counters| counters.dialed_back += u64::from(reached));
                let address = said.tested_addr.to_string();
                self.shared.learn(|facts| facts.dialed_back(&address, reached));
                if !reached && self.confirmed.contains(&said.tested_addr) {
                    self.out.push(ToSwarm::ExternalAddrExpired(said.tested_addr));
                }
                self.need_relays();
            }
            PartsEvent::Mapping(said) => {
                let mapping = match said {
                    Router::NewExternalAddr(_) => PortMapping::Open,
                    Router::ExpiredExternalAddr(_) => PortMapping::Refused,
                    Router::GatewayNotFound => PortMapping::NoRouter,
                    Router::NonRoutableGateway => PortMapping::NotPublic,
                };
                debug!(?mapping, "the router");
                self.shared.learn(|facts| facts.mapped(mapping));
            }
            PartsEvent::Living(ping::Event { peer, connection, result }) => match result {
                Ok(_) | Err(ping::Failure::Unsupported) => {}
                Err(error) => {
                    debug!(%error, "a connection gives no sign of life: it is closed");
                    let connection = CloseConnection::One(connection);
                    self.out.push(ToSwarm::CloseConnection { peer_id: peer, connection });
                }
            },
            PartsEvent::Punching(said) => debug!(through = said.result.is_ok(), "hole punching"),
            PartsEvent::Serving(said) => serving::log(&said),
            PartsEvent::Answering(said) => {
                debug!(answered = said.result.is_ok(), "another node has asked to be dialed back");
            }
            PartsEvent::Reserving(never) => match never {},
        }
    }

    /// What the swarm says of this node's own addresses.
    fn note(&mut self, event: &FromSwarm<'_>) {
        match event {
            FromSwarm::NewListenAddr(new) if !is_relayed(new.addr) => {
                self.listening.insert(new.addr.clone());
                if self.announces.is_some_and(|loopback| loopback || !is_loopback(new.addr)) {
                    self.out.push(ToSwarm::ExternalAddrConfirmed(new.addr.clone()));
                }
            }
            FromSwarm::ExpiredListenAddr(old) if !is_relayed(old.addr) => {
                self.listening.remove(old.addr);
                if self.announces.is_some() {
                    self.out.push(ToSwarm::ExternalAddrExpired(old.addr.clone()));
                } else {
                    let gone = self.gone_with(old.addr);
                    self.out.extend(gone.into_iter().map(ToSwarm::ExternalAddrExpired));
                }
            }
            FromSwarm::ExternalAddrConfirmed(new) if !is_relayed(new.addr) => {
                if self.confirmed.len() < MAX_CONFIRMED {
                    self.confirmed.insert(new.addr.clone());
                }
                self.hold(new.addr);
                let address = new.addr.to_string();
                self.shared.learn(|facts| facts.dialed_back(&address, true));
            }
            FromSwarm::ExternalAddrExpired(old) if !is_relayed(old.addr) => {
                self.confirmed.remove(old.addr);
                let address = old.addr.to_string();
                self.shared.learn(|facts| facts.expired(&address));
            }
            _ => return,
        }
        self.need_relays();
    }

    /// This machine has an address no longer. Where others have reached it there: at that address, or at a router's that stood for it.
    fn gone_with(&self, lost: &Multiaddr) -> Vec<Multiaddr> {
        // One listener of several may have ended, on an address that is still there.
        let kept = |ip: Option<Protocol<'_>>| self.listening.iter().any(|own| own.iter().next() == ip);
        if is_loopback(lost) || kept(lost.iter().next()) {
            return Vec::new();
        }
        // Where others are asked, they try again when all of them are back: the address that is lost need not be the one that they know.
        let asks = self.parts.checking.is_enabled();
        let gone = |address: &&Multiaddr| {
            let ip = address.iter().next();
            // There are no routers in between where addresses have 128 bits, or hardly any.
            ip == lost.iter().next() || (!asks && is_ip4(address) && is_ip4(lost) && !kept(ip))
        };
        self.confirmed.iter().filter(gone).cloned().collect()
    }

    /// All are gone who were asked over IPv4: the router may have got another address meanwhile.
    fn doubt(&mut self, now: Instant) {
        let own = |address: &Multiaddr| {
            let ip = address.iter().next();
            self.listening.iter().any(|own| own.iter().next() == ip)
        };
        let doubtful: BTreeSet<Multiaddr> =
            self.confirmed.iter().filter(|address| is_ip4(address) && !own(address)).cloned().collect();
        if !doubtful.is_empty() {
            self.doubtful = Some((now + DOUBTFUL, doubtful));
        }
    }

    /// Others have reached this node at that address: if it is another one of a router, the old one is over.
    fn hold(&mut self, address: &Multiaddr) {
        let Some((_, doubtful)) = &mut self.doubtful else { return };
        doubtful.remove(address);
        let ip = address.iter().next();
        if is_ip4(address) && !self.listening.iter().any(|own| own.iter().next() == ip) {
            let over = doubtful.extract_if(.., |old| old.iter().next() != ip);
            self.out.extend(over.map(ToSwarm::ExternalAddrExpired));
        }
        if doubtful.is_empty() {
            self.doubtful = None;
        }
    }

    /// What was doubted and is not confirmed is over, as soon as there was somebody who could have tried.
    fn doubts_end(&mut self, now: Instant) {
        let asked = self.parts.checking.as_ref().is_some_and(Checking::has_server);
        if asked && let Some((_, doubtful)) = self.doubtful.take_if(|(until, _)| *until <= now) {
            self.out.extend(doubtful.into_iter().map(ToSwarm::ExternalAddrExpired));
        }
    }

    /// Whoever is reached straight needs no relay but those that were named.
    fn need_relays(&mut self) {
        if let Some(reserving) = self.parts.reserving.as_mut() {
            reserving.public(self.shared.is_reached_by_all());
        }
    }
}

impl NetworkBehaviour for Through {
    type ConnectionHandler = THandler<Parts>;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        connection_id: ConnectionId,
        peer: PeerId,
        local_addr: &Multiaddr,
        remote_addr: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.parts.handle_established_inbound_connection(connection_id, peer, local_addr, remote_addr)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        connection_id: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        self.parts.handle_pending_outbound_connection(connection_id, peer, addresses, role)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection_id: ConnectionId,
        peer: PeerId,
        addr: &Multiaddr,
        role_override: Endpoint,
        port_use: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.parts.handle_established_outbound_connection(connection_id, peer, addr, role_override, port_use)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        self.only_relays.note(&event);
        self.note(&event);
        self.parts.on_swarm_event(event);
        if self.parts.checking.as_mut().is_some_and(Checking::begins_anew) {
            self.doubt(clock::now());
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection_id: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        self.parts.on_connection_handler_event(peer, connection_id, event);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        loop {
            if let Some(out) = self.out.pop() {
                return Poll::Ready(out);
            }
            match self.parts.poll(cx) {
                Poll::Ready(ToSwarm::GenerateEvent(event)) => self.told(event),
                Poll::Ready(other) => {
                    return Poll::Ready(other.map_out(|_| unreachable!("its events are taken above")));
                }
                Poll::Pending => {}
            }
            // Seen to with each heartbeat of gossipsub, which wakes this.
            self.doubts_end(clock::now());
            if self.out.is_empty() {
                return Poll::Pending;
            }
        }
    }
}

fn is_ip4(address: &Multiaddr) -> bool {
    matches!(address.iter().next(), Some(Protocol::Ip4(_)))
}

#[cfg(test)]
mod tests;
