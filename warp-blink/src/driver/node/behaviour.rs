//! The behaviour that a node runs for calls: what talks, and what finds others.

use std::{
    convert::Infallible,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use rust_ipfs::{
    ConnectionId, Keypair, Multiaddr, NetworkBehaviour, PeerId,
    swarm::{
        ConnectionDenied, ConnectionHandler, ConnectionHandlerSelect, FromSwarm, THandler, THandlerInEvent,
        THandlerOutEvent, ToSwarm,
        derive_prelude::{Either, Endpoint, PortUse},
    },
};
use tokio::sync::mpsc;

use super::{
    finding::{Finding, NodeFinding},
    link::{Command, LinkEnd, NodeLink, Shared, link},
    talk::Talk,
    through::{Routes, Through},
};
use crate::driver::clock;

/// The part of a node that carries signals of calls: see the [module](super).
pub struct BlinkBehaviour {
    talk: Talk,
    finding: Finding,
    /// Only ever used from the node's task. Locked, because parts of libp2p's relay cannot be shared, and rust-ipfs wants what can.
    through: Mutex<Through>,
    commands: mpsc::Receiver<Command>,
    /// Nobody holds the other half any more, or it said goodbye.
    detached: bool,
    shared: Arc<Shared>,
}

impl BlinkBehaviour {
    /// A behaviour for the custom slot of an `IpfsBuilder`, and the link to join with the node that it builds. It talks, and
    /// finds nobody: see [`with_finding`](Self::with_finding).
    pub fn new() -> (Self, NodeLink) {
        let (LinkEnd { commands, shared }, link) = link();
        let finding = Finding::off(shared.clone());
        let through = Mutex::new(Through::off(shared.clone()));
        let talk = Talk::new(shared.clone());
        (Self { talk, finding, through, commands, detached: false, shared }, link)
    }

    /// The same for the node of this key, which finds others and is found. To be called within a tokio runtime.
    ///
    /// # Errors
    /// The system does not let this process hear of its network interfaces, which mDNS needs.
    pub fn with_finding(mut self, key: &Keypair, finding: &NodeFinding) -> std::io::Result<Self> {
        self.finding = Finding::new(key.public().to_peer_id(), finding, self.shared.clone())?;
        Ok(self)
    }

    /// The same for the node of this key, which others reach by these ways. To be called within a tokio runtime.
    pub(super) fn with_routes(mut self, key: &Keypair, routes: Routes) -> Self {
        self.through = Mutex::new(Through::new(key.public().to_peer_id(), routes, self.shared.clone()));
        self
    }

    fn through(&mut self) -> &mut Through {
        self.through.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Find(find) => self.finding.command(find),
            Command::Begin => self.through().begin(),
            Command::Detach { reply } => {
                self.detach();
                // Whoever dropped the answer's other end does not want it.
                let _ = reply.send(());
            }
            other => {
                if matches!(other, Command::CloseAll { .. }) {
                    self.through().fall_silent();
                }
                if let Command::Connect { peer, .. } = &other {
                    self.finding.wanted(peer);
                }
                self.talk.command(other);
            }
        }
    }

    /// The node goes on without calls.
    fn detach(&mut self) {
        self.detached = true;
        self.talk.fall_silent();
        self.finding.fall_silent();
        self.through().fall_silent();
        self.commands.close();
        self.shared.stop();
    }
}

impl NetworkBehaviour for BlinkBehaviour {
    type ConnectionHandler = ConnectionHandlerSelect<
        ConnectionHandlerSelect<THandler<Talk>, THandler<Finding>>,
        THandler<Through>,
    >;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        connection_id: ConnectionId,
        peer: PeerId,
        local_addr: &Multiaddr,
        remote_addr: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let talk =
            self.talk.handle_established_inbound_connection(connection_id, peer, local_addr, remote_addr)?;
        let finding = self.finding.handle_established_inbound_connection(
            connection_id,
            peer,
            local_addr,
            remote_addr,
        )?;
        let through = self.through().handle_established_inbound_connection(
            connection_id,
            peer,
            local_addr,
            remote_addr,
        )?;
        Ok(talk.select(finding).select(through))
    }

    fn handle_pending_outbound_connection(
        &mut self,
        connection_id: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        let reach = self.talk.dials(connection_id);
        self.through().may_open(connection_id, reach, peer.as_ref(), addresses)?;
        self.through().handle_pending_outbound_connection(connection_id, peer, addresses, role)?;
        // For its own dialings only: those of the reach name their addresses, and nothing is added to these.
        self.finding.handle_pending_outbound_connection(connection_id, peer, addresses, role)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection_id: ConnectionId,
        peer: PeerId,
        addr: &Multiaddr,
        role_override: Endpoint,
        port_use: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let talk = self.talk.handle_established_outbound_connection(
            connection_id,
            peer,
            addr,
            role_override,
            port_use,
        )?;
        let finding = self.finding.handle_established_outbound_connection(
            connection_id,
            peer,
            addr,
            role_override,
            port_use,
        )?;
        let through = self.through().handle_established_outbound_connection(
            connection_id,
            peer,
            addr,
            role_override,
            port_use,
        )?;
        Ok(talk.select(finding).select(through))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        let wanted = match event {
            FromSwarm::ConnectionEstablished(new) if self.talk.dials(new.connection_id) => Some(new.peer_id),
            _ => None,
        };
        self.finding.on_swarm_event(event);
        if let Some(peer) = wanted {
            self.finding.wanted(&peer);
        }
        self.talk.on_swarm_event(event);
        self.through().on_swarm_event(event);
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection_id: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {
            Either::Left(Either::Left(event)) => {
                self.talk.on_connection_handler_event(peer, connection_id, event);
            }
            Either::Left(Either::Right(event)) => {
                self.finding.on_connection_handler_event(peer, connection_id, event);
            }
            Either::Right(event) => self.through().on_connection_handler_event(peer, connection_id, event),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        loop {
            if let Poll::Ready(out) = self.talk.poll(cx) {
                return Poll::Ready(out.map_in(Either::Left).map_in(Either::Left));
            }
            if let Poll::Ready(out) = self.finding.poll(cx) {
                return Poll::Ready(out.map_in(Either::Right).map_in(Either::Left));
            }
            if let Poll::Ready(out) = self.through().poll(cx) {
                return Poll::Ready(out.map_in(Either::Right));
            }
            if self.detached {
                return Poll::Pending;
            }
            // Seen to with each heartbeat of gossipsub, which wakes this.
            for peer in self.finding.idle(clock::now(), |peer| self.talk.needs(peer)) {
                self.talk.close(peer);
            }
            match self.commands.poll_recv(cx) {
                Poll::Ready(Some(command)) => self.command(command),
                Poll::Ready(None) => self.detach(),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl Drop for BlinkBehaviour {
    /// The node has ended.
    fn drop(&mut self) {
        self.shared.stop();
    }
}

impl fmt::Debug for BlinkBehaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlinkBehaviour").field("topics", &self.talk.topics()).finish_non_exhaustive()
    }
}
