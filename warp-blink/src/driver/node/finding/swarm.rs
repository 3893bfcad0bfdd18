//! What the swarm says to the part that finds others, and what that answers.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use libp2p_kad as kad;
use rust_ipfs::{
    ConnectionId, Multiaddr, NetworkBehaviour, PeerId,
    swarm::{
        ConnectionDenied, ConnectionHandler, ConnectionHandlerSelect, DialError, FromSwarm, THandler,
        THandlerInEvent, THandlerOutEvent, ToSwarm,
        behaviour::toggle::Toggle,
        derive_prelude::{Either, Endpoint, PortUse},
    },
};

use super::{Caller, Finding, KADEMLIA, MAX_PLACES, MAX_STRANGERS, Protocols, Which, origin, table::Kad};
use crate::driver::clock;

type Tables = ConnectionHandlerSelect<THandler<Toggle<Kad>>, THandler<Toggle<Kad>>>;

impl Finding {
    /// What a Kademlia wants of the swarm, if that may be.
    fn lets_pass<E>(&mut self, which: Which, wish: ToSwarm<kad::Event, E>) -> Option<ToSwarm<Infallible, E>> {
        match wish {
            ToSwarm::GenerateEvent(event) => {
                self.on_kad(which, event);
                None
            }
            ToSwarm::Dial { opts } => {
                // Who names no node asks nobody, whatever others ask of it.
                let may = self.asks() && self.table(which).may_dial();
                let peer = opts.get_peer_id().filter(|_| may)?;
                self.dialed.insert(peer);
                Some(ToSwarm::Dial { opts })
            }
            // What strangers say of others is for nobody else in this node.
            ToSwarm::NewExternalAddrOfPeer { .. } => None,
            other => Some(other.map_out(|_| unreachable!("its events are taken above"))),
        }
    }
}

impl NetworkBehaviour for Finding {
    type ConnectionHandler = ConnectionHandlerSelect<Tables, Protocols>;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        connection_id: ConnectionId,
        peer: PeerId,
        local_addr: &Multiaddr,
        remote_addr: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        if self.ours.kad.is_enabled() {
            let from = origin(remote_addr);
            let caller =
                self.callers.entry(peer).or_insert(Caller { from, said: Vec::new(), answers: false });
            caller.from = caller.from.min(from);
        }
        let [ours, public] = [&mut self.ours, &mut self.public].map(|table| {
            table.kad.handle_established_inbound_connection(connection_id, peer, local_addr, remote_addr)
        });
        Ok(ours?.select(public?).select(Protocols::new(KADEMLIA)))
    }

    fn handle_pending_outbound_connection(
        &mut self,
        connection_id: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        let ours = peer.is_some_and(|peer| self.dialed.contains(&peer));
        if ours
            && self.strangers.len() >= MAX_STRANGERS
            && !peer.is_some_and(|peer| self.bootstrap.contains(&peer))
        {
            return Err(ConnectionDenied::new("so many strangers are connected already"));
        }
        let mut found = Vec::new();
        for table in [&mut self.ours, &mut self.public] {
            found.extend(table.kad.handle_pending_outbound_connection(
                connection_id,
                peer,
                addresses,
                role,
            )?);
        }
        found.retain(|address| self.may_dial(address));
        Ok(found)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection_id: ConnectionId,
        peer: PeerId,
        addr: &Multiaddr,
        role_override: Endpoint,
        port_use: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let [ours, public] = [&mut self.ours, &mut self.public].map(|table| {
            table.kad.handle_established_outbound_connection(
                connection_id,
                peer,
                addr,
                role_override,
                port_use,
            )
        });
        Ok(ours?.select(public?).select(Protocols::new(KADEMLIA)))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionClosed(closed) if closed.remaining_established == 0 => {
                self.callers.remove(&closed.peer_id);
                self.dialed.remove(&closed.peer_id);
                self.strangers.remove(&closed.peer_id);
            }
            FromSwarm::ConnectionEstablished(new)
                if new.other_established == 0
                    && new.endpoint.is_dialer()
                    && self.dialed.contains(&new.peer_id) =>
            {
                self.strangers.insert(new.peer_id, clock::now());
            }
            // One that was needless: another dialing is under way.
            FromSwarm::DialFailure(failure)
                if matches!(failure.error, DialError::DialPeerConditionFalse(_)) => {}
            FromSwarm::DialFailure(failure) => {
                if let Some(peer) = failure.peer_id {
                    self.dialed.remove(&peer);
                }
            }
            FromSwarm::NewExternalAddrOfPeer(new) => {
                if let Some(caller) = self.callers.get_mut(&new.peer_id)
                    && caller.said.len() < MAX_PLACES
                    && !caller.said.contains(new.addr)
                {
                    caller.said.push(new.addr.clone());
                    self.take_said(new.peer_id, new.addr);
                }
            }
            _ => {}
        }
        self.ours.kad.on_swarm_event(event);
        self.public.kad.on_swarm_event(event);
        self.mdns().on_swarm_event(event);
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection_id: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {
            Either::Left(Either::Left(event)) => {
                self.ours.kad.on_connection_handler_event(peer, connection_id, event);
            }
            Either::Left(Either::Right(event)) => {
                self.public.kad.on_connection_handler_event(peer, connection_id, event);
            }
            Either::Right(answers) => self.hears(peer, answers),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        loop {
            self.ours.tidy();
            self.public.tidy();
            let mut pending = true;
            if let Poll::Ready(wish) = self.ours.kad.poll(cx) {
                pending = false;
                if let Some(wish) = self.lets_pass(Which::Ours, wish) {
                    return Poll::Ready(wish.map_in(Either::Left).map_in(Either::Left));
                }
            }
            if let Poll::Ready(wish) = self.public.kad.poll(cx) {
                pending = false;
                if let Some(wish) = self.lets_pass(Which::Public, wish) {
                    return Poll::Ready(wish.map_in(Either::Right).map_in(Either::Left));
                }
            }
            match self.mdns().poll(cx) {
                Poll::Ready(ToSwarm::GenerateEvent(event)) => self.on_mdns(event),
                // It has nothing else to say.
                Poll::Ready(_) => {}
                Poll::Pending if pending => return Poll::Pending,
                Poll::Pending => {}
            }
        }
    }
}
