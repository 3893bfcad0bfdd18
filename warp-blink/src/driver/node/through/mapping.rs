//! Asking the router to let others in (UPnP).

use std::{
    collections::BTreeMap,
    task::{Context, Poll},
};

use libp2p_upnp as upnp;
use rust_ipfs::{
    ConnectionId, Multiaddr, NetworkBehaviour, PeerId,
    swarm::{
        ConnectionDenied, FromSwarm, NewListenAddr, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
        derive_prelude::{Endpoint, ListenerId, PortUse},
    },
};

/// libp2p's, which knows one network: it looks for the router once, and where an address is gone it asks to close the port again and
/// again without a pause. This one begins anew instead, with the router that is there then; what the old one has opened ends with
/// its time.
#[allow(unreachable_pub, reason = "a part of the handler of a public behaviour")]
#[derive(Default)]
pub struct Mapping {
    upnp: upnp::tokio::Behaviour,
    /// Bounded by the addresses of this machine.
    listening: BTreeMap<Multiaddr, ListenerId>,
}

impl Mapping {
    /// An address is gone.
    fn begin_anew(&mut self) {
        self.upnp = upnp::tokio::Behaviour::default();
        for (addr, id) in &self.listening {
            let listener_id = *id;
            self.upnp.on_swarm_event(FromSwarm::NewListenAddr(NewListenAddr { listener_id, addr }));
        }
    }
}

impl NetworkBehaviour for Mapping {
    type ConnectionHandler = THandler<upnp::tokio::Behaviour>;
    type ToSwarm = upnp::Event;

    fn handle_established_inbound_connection(
        &mut self,
        connection_id: ConnectionId,
        peer: PeerId,
        local_addr: &Multiaddr,
        remote_addr: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.upnp.handle_established_inbound_connection(connection_id, peer, local_addr, remote_addr)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection_id: ConnectionId,
        peer: PeerId,
        addr: &Multiaddr,
        role_override: Endpoint,
        port_use: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.upnp.handle_established_outbound_connection(connection_id, peer, addr, role_override, port_use)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::NewListenAddr(new) => {
                self.listening.insert(new.addr.clone(), new.listener_id);
            }
            FromSwarm::ExpiredListenAddr(old) => {
                if self.listening.remove(old.addr).is_some() {
                    self.begin_anew();
                }
                return;
            }
            _ => {}
        }
        self.upnp.on_swarm_event(event);
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection_id: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        self.upnp.on_connection_handler_event(peer, connection_id, event);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<upnp::Event, THandlerInEvent<Self>>> {
        self.upnp.poll(cx)
    }
}
