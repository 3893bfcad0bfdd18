//! Asking relays whether they reach this node straight (AutoNAT version 2).
//!
//! Version 1 dials back from the port that this node is connected with already: over QUIC that passes any NAT, which then looks
//! like none. Version 2 dials from a new port of the same machine, and proves that it got through. What is left: a NAT that lets
//! every port of a known machine in looks like none.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    task::{Context, Poll},
};

use libp2p_autonat::v2::client;
use rust_ipfs::{
    ConnectedPoint, ConnectionId, Multiaddr, NetworkBehaviour, PeerId, Protocol,
    swarm::{
        ConnectionDenied, FromSwarm, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
        behaviour::ConnectionEstablished,
        derive_prelude::{Endpoint, PortUse},
    },
};

use super::super::{address::is_relayed, link::Shared};
use crate::driver::clock;

/// The most addresses that others say this node has, which are then dialed: its own two transports in two families, seen by some
/// relays. libp2p keeps each of them for ever, and anybody who is connected can name some.
const MAX_CANDIDATES: usize = 16;

/// libp2p's client, which asks only those that the user has named, about a bounded number of addresses.
#[allow(unreachable_pub, reason = "a part of the handler of a public behaviour")]
pub struct Checking {
    client: client::Behaviour,
    servers: BTreeSet<PeerId>,
    candidates: BTreeSet<Multiaddr>,
    /// What a client has to know that begins anew. Bounded by the connections of the node.
    connections: BTreeMap<ConnectionId, (PeerId, ConnectedPoint)>,
    anew: bool,
    shared: Arc<Shared>,
}

impl Checking {
    pub(super) fn new(servers: BTreeSet<PeerId>, shared: Arc<Shared>) -> Self {
        Self {
            client: client::Behaviour::default(),
            servers,
            candidates: BTreeSet::new(),
            connections: BTreeMap::new(),
            anew: false,
            shared,
        }
    }

    /// Whether somebody is connected who may be asked.
    pub(super) fn has_server(&self) -> bool {
        self.connections.values().any(|(peer, at)| self.is_server(peer, at))
    }

    /// Whether it has begun anew since this was asked last.
    pub(super) fn begins_anew(&mut self) -> bool {
        std::mem::take(&mut self.anew)
    }

    fn is_server(&self, peer: &PeerId, at: &ConnectedPoint) -> bool {
        self.servers.contains(peer) && !at.is_relayed() && at.is_dialer()
    }

    /// A connection has ended. With the last one over IPv4 to anybody who may be asked, the router in between may have got another
    /// address, and this node may be in another network: libp2p would never ask again about what it has asked once, so it begins anew.
    fn ended(&mut self, id: ConnectionId) {
        let Some((peer, at)) = self.connections.remove(&id) else { return };
        let counts = |peer: &PeerId, at: &ConnectedPoint| {
            let over_ip6 = matches!(at.get_remote_address().iter().next(), Some(Protocol::Ip6(_)));
            self.is_server(peer, at) && !over_ip6
        };
        if !counts(&peer, &at) || self.connections.values().any(|(peer, at)| counts(peer, at)) {
            return;
        }
        self.client = client::Behaviour::default();
        for (connection_id, (peer_id, endpoint)) in &self.connections {
            self.client.on_swarm_event(FromSwarm::ConnectionEstablished(ConnectionEstablished {
                peer_id: *peer_id,
                connection_id: *connection_id,
                endpoint,
                failed_addresses: &[],
                other_established: 0,
            }));
        }
        self.candidates.clear();
        self.anew = true;
    }

    /// Whether this address may be asked about.
    fn takes(&mut self, address: &Multiaddr) -> bool {
        if is_relayed(address) {
            return false;
        }
        if !self.candidates.contains(address) {
            if self.candidates.len() >= MAX_CANDIDATES {
                return false;
            }
            self.candidates.insert(address.clone());
        }
        true
    }
}

impl NetworkBehaviour for Checking {
    type ConnectionHandler = THandler<client::Behaviour>;
    type ToSwarm = client::Event;

    fn handle_established_inbound_connection(
        &mut self,
        connection_id: ConnectionId,
        peer: PeerId,
        local_addr: &Multiaddr,
        remote_addr: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.client.handle_established_inbound_connection(connection_id, peer, local_addr, remote_addr)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection_id: ConnectionId,
        peer: PeerId,
        addr: &Multiaddr,
        role_override: Endpoint,
        port_use: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        if !self.servers.contains(&peer) || is_relayed(addr) {
            // The handler of a connection over which nobody is asked.
            return self.client.handle_established_inbound_connection(connection_id, peer, addr, addr);
        }
        self.client.handle_established_outbound_connection(connection_id, peer, addr, role_override, port_use)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        if let FromSwarm::NewExternalAddrCandidate(new) = &event
            && !self.takes(new.addr)
        {
            return;
        }
        match &event {
            FromSwarm::ConnectionEstablished(new) => {
                self.connections.insert(new.connection_id, (new.peer_id, new.endpoint.clone()));
                self.client.on_swarm_event(event);
            }
            FromSwarm::ConnectionClosed(old) => {
                let id = old.connection_id;
                self.client.on_swarm_event(event);
                self.ended(id);
            }
            _ => self.client.on_swarm_event(event),
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection_id: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        self.client.on_connection_handler_event(peer, connection_id, event);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<client::Event, THandlerInEvent<Self>>> {
        let out = self.client.poll(cx);
        if let Poll::Ready(ToSwarm::NotifyHandler { peer_id, .. }) = &out {
            // It says nothing else to connections.
            self.shared.asks(clock::now(), *peer_id);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::{super::super::link::link, *};

    #[tokio::test]
    async fn hostile_peers_that_name_many_addresses_of_this_node_have_sixteen() {
        let mut checking = Checking::new(BTreeSet::new(), link().0.shared);
        let at = |n: usize| format!("/ip4/203.0.113.{n}/tcp/1").parse::<Multiaddr>().unwrap();
        assert_eq!((0..200).filter(|n| checking.takes(&at(*n))).count(), MAX_CANDIDATES);
        assert!(checking.takes(&at(3)), "known ones count again");
        assert!(!checking.takes(&"/ip4/203.0.113.1/tcp/1/p2p-circuit".parse().unwrap()));
    }
}
