//! Dialing back for others who ask whether they can be reached (AutoNAT version 2).

use std::{
    collections::BTreeMap,
    task::{Context, Poll},
};

use libp2p_autonat::v2::server;
use rust_ipfs::{
    ConnectionId, Multiaddr, NetworkBehaviour, PeerId,
    swarm::{
        CloseConnection, ConnectionDenied, FromSwarm, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
        derive_prelude::{Endpoint, PortUse},
    },
};

use crate::reach::{Address, Place};

/// The most dialings at a time. 512: those of half of all places (`RelayLimits`), which may all come back at once, and most of which
/// are behind routers, so that each takes its ten seconds. Each is an open file. Whoever is refused is told that nobody gets through.
const MAX_DIALS: usize = 512;

/// libp2p's server, which dials whatever it is asked to. This one dials public addresses only: nobody scans the network of this house,
/// or the services of this machine, through it.
#[allow(unreachable_pub, reason = "a part of the handler of a public behaviour")]
pub struct Answering {
    server: server::Behaviour,
    /// Also the addresses of this machine, which is where tests are.
    loopback: bool,
    /// What this part has dialed, until it is closed.
    dials: BTreeMap<ConnectionId, Dial>,
    /// What has served its purpose. It is closed, since nothing else would for a minute, and a peer may have few.
    done: Vec<(ConnectionId, PeerId)>,
}

/// A dialing, and the connection that comes of it.
#[derive(Debug)]
struct Dial {
    peer: PeerId,
    /// Where; nothing until the swarm has begun.
    at: Option<Multiaddr>,
    open: bool,
    /// Its question is answered. One that is not open yet cannot be ended, and is closed when it is.
    over: bool,
}

impl Answering {
    pub(super) fn new(loopback: bool) -> Self {
        Self { server: server::Behaviour::default(), loopback, dials: BTreeMap::new(), done: Vec::new() }
    }

    /// The question of this peer about this address is answered.
    fn answered(&mut self, client: &PeerId, tested: &Multiaddr) {
        for (connection, dial) in &mut self.dials {
            if dial.peer == *client && dial.at.as_ref() == Some(tested) && !dial.over {
                dial.over = true;
                if dial.open {
                    self.done.push((*connection, dial.peer));
                }
            }
        }
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
        let Some(dial) = self.dials.get_mut(&connection_id) else { return Ok(Vec::new()) };
        dial.at = addresses.first().cloned();
        if self.dials.len() > MAX_DIALS {
            return Err(ConnectionDenied::new("too many are dialed back already"));
        }
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
        if let FromSwarm::ConnectionEstablished(new) = &event
            && let Some(dial) = self.dials.get_mut(&new.connection_id)
        {
            dial.open = true;
            if dial.over {
                self.done.push((new.connection_id, dial.peer));
            }
        }
        let over = match &event {
            FromSwarm::DialFailure(failed) => Some(failed.connection_id),
            FromSwarm::ConnectionClosed(closed) => Some(closed.connection_id),
            _ => None,
        };
        if let Some(connection) = over {
            self.dials.remove(&connection);
        }
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
        if let Some((connection, peer_id)) = self.done.pop() {
            let connection = CloseConnection::One(connection);
            return Poll::Ready(ToSwarm::CloseConnection { peer_id, connection });
        }
        let out = self.server.poll(cx);
        match &out {
            Poll::Ready(ToSwarm::Dial { opts }) => {
                if let Some(peer) = opts.get_peer_id() {
                    let dial = Dial { peer, at: None, open: false, over: false };
                    self.dials.insert(opts.connection_id(), dial);
                }
            }
            Poll::Ready(ToSwarm::GenerateEvent(said)) => {
                let (client, tested) = (said.client, said.tested_addr.clone());
                self.answered(&client, &tested);
            }
            _ => {}
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_peers_that_ask_much_at_once_do_not_make_their_dialings_forgotten() {
        let mut answering = Answering::new(false);
        let (peer, id) = (PeerId::random(), ConnectionId::new_unchecked);
        let at = |n: usize| format!("/ip4/203.0.113.{n}/tcp/1").parse::<Multiaddr>().unwrap();
        for n in 1..=3 {
            let open = n == 1;
            answering.dials.insert(id(n), Dial { peer, at: Some(at(n)), open, over: false });
        }
        answering.answered(&peer, &Multiaddr::empty());
        assert!(answering.done.is_empty() && answering.dials.len() == 3);
        answering.answered(&peer, &at(1));
        assert_eq!(answering.done, [(id(1), peer)], "the others are still being asked about");
        answering.answered(&peer, &at(2));
        assert_eq!(answering.done.len(), 1, "it is not open yet");
        assert!(answering.dials[&id(2)].over && !answering.dials[&id(3)].over);
        assert_eq!(answering.dials.len(), 3, "each counts until it is closed");
    }

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

    #[test]
    fn hostile_peers_that_ask_for_many_dialings_have_room_for_few() {
        let mut answering = Answering::new(false);
        let there: [Multiaddr; 1] = ["/ip4/203.0.113.7/tcp/4001".parse().unwrap()];
        let dialed = (0..2000).filter(|n| {
            let id = ConnectionId::new_unchecked(*n);
            let dial = Dial { peer: PeerId::random(), at: None, open: false, over: false };
            answering.dials.insert(id, dial);
            let may =
                answering.handle_pending_outbound_connection(id, None, &there, Endpoint::Dialer).is_ok();
            if !may {
                // The swarm tells of it, and then it is forgotten.
                answering.dials.remove(&id);
            }
            may
        });
        assert_eq!(dialed.count(), MAX_DIALS);
    }
}
