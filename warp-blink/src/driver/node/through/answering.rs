//! Dialing back for others who ask whether they can be reached (AutoNAT version 2).

use std::{
    collections::VecDeque,
    task::{Context, Poll},
};

use libp2p_autonat::v2::server;
use rust_ipfs::{
    ConnectionId, Multiaddr, NetworkBehaviour, PeerId,
    swarm::{
        ConnectionDenied, FromSwarm, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
        derive_prelude::{Endpoint, PortUse},
    },
};

use crate::reach::{Address, Place};

/// Dialings of this part that the swarm has not asked about yet. It asks within the same turn, so one would do.
const MAX_DIALS: usize = 64;

/// libp2p's server, which dials whatever it is asked to. This one dials public addresses only: nobody scans the network of this house,
/// or the services of this machine, through it.
#[allow(unreachable_pub, reason = "a part of the handler of a public behaviour")]
pub struct Answering {
    server: server::Behaviour,
    /// Also the addresses of this machine, which is where tests are.
    loopback: bool,
    dials: VecDeque<ConnectionId>,
}

impl Answering {
    pub(super) fn new(loopback: bool) -> Self {
        Self { server: server::Behaviour::default(), loopback, dials: VecDeque::new() }
    }

    fn may_dial(&self, address: &Multiaddr) -> bool {
        match Address::parse(&address.to_string()).map(|address| address.place()) {
            Ok(Place::Public) => true,
            Ok(Place::Loopback) => self.loopback,
            // Names lead anywhere.
            _ => false,
        }
    }
}

impl NetworkBehaviour for Answering {
    type ConnectionHandler = THandler<server::Behaviour>;
    type ToSwarm = server::Event;

    fn handle_established_inbound_connection(
        &mut self,
        connection_id: ConnectionId,
        peer: PeerId,
        local_addr: &Multiaddr,
        remote_addr: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.server.handle_established_inbound_connection(connection_id, peer, local_addr, remote_addr)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        connection_id: ConnectionId,
        _: Option<PeerId>,
        addresses: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        let Some(at) = self.dials.iter().position(|dial| *dial == connection_id) else {
            return Ok(Vec::new());
        };
        self.dials.remove(at);
        match addresses.iter().all(|address| self.may_dial(address)) {
            true => Ok(Vec::new()),
            false => Err(ConnectionDenied::new("nobody is dialed back there: it is no public address")),
        }
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection_id: ConnectionId,
        peer: PeerId,
        addr: &Multiaddr,
        role_override: Endpoint,
        port_use: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.server.handle_established_outbound_connection(connection_id, peer, addr, role_override, port_use)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        self.server.on_swarm_event(event);
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection_id: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        self.server.on_connection_handler_event(peer, connection_id, event);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<server::Event, THandlerInEvent<Self>>> {
        let out = self.server.poll(cx);
        if let Poll::Ready(ToSwarm::Dial { opts }) = &out {
            if self.dials.len() >= MAX_DIALS {
                self.dials.pop_front();
            }
            self.dials.push_back(opts.connection_id());
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_scans_this_house_through_dialing_back() {
        let answering = Answering::new(false);
        let may = |text: &str| answering.may_dial(&text.parse().unwrap());
        assert!(may("/ip4/203.0.113.7/tcp/4001") && may("/ip6/2001:db8::7/udp/4001/quic-v1"));
        for near in [
            "/ip4/127.0.0.1/tcp/22",
            "/ip4/192.168.1.1/tcp/80",
            "/ip4/169.254.169.254/tcp/80",
            "/ip6/fe80::1/tcp/80",
            "/ip6/::1/tcp/80",
            "/ip6/::ffff:127.0.0.1/tcp/80",
            "/ip4/0.0.0.0/tcp/80",
            "/dns4/localhost/tcp/80",
            "/ip4/203.0.113.7/tcp/1/p2p-circuit",
        ] {
            assert!(!may(near), "{near}");
        }
        let testing = Answering::new(true);
        assert!(testing.may_dial(&"/ip4/127.0.0.1/tcp/22".parse().unwrap()));
    }
}
