//! The behaviour that a node runs for calls: what talks, and what finds others.

use std::{
    convert::Infallible,
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use libp2p_gossipsub as gossipsub;
use libp2p_kad as kad;
use rust_ipfs::{
    ConnectionId, Keypair, Multiaddr, NetworkBehaviour, PeerId,
    swarm::{
        ConnectionDenied, ConnectionHandler, ConnectionHandlerSelect, FromSwarm, THandler, THandlerInEvent,
        THandlerOutEvent, ToSwarm,
        behaviour::toggle::Toggle,
        derive_prelude::{Either, Endpoint, PortUse},
    },
};
use tokio::sync::mpsc;

use super::{
    finding::{Finding, NodeFinding, Protocols},
    link::{Command, LinkEnd, NodeLink, Shared, link},
    talk::Talk,
};

/// What each of the two tables asks of a connection, and what is heard of it beside.
type OneTable = THandler<Toggle<kad::Behaviour<kad::store::MemoryStore>>>;
type Tables = ConnectionHandlerSelect<ConnectionHandlerSelect<OneTable, OneTable>, Protocols>;

/// The part of a node that carries signals of calls: see the [module](super).
pub struct BlinkBehaviour {
    talk: Talk,
    finding: Finding,
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
        let behaviour = Self { talk: Talk::new(shared.clone()), finding, commands, detached: false, shared };
        (behaviour, link)
    }

    /// The same for the node of this key, which finds others and is found. To be called within a tokio runtime.
    ///
    /// # Errors
    /// The system does not let this process hear of its network interfaces, which mDNS needs.
    pub fn with_finding(mut self, key: &Keypair, finding: &NodeFinding) -> std::io::Result<Self> {
        self.finding = Finding::new(key.public().to_peer_id(), finding, self.shared.clone())?;
        Ok(self)
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Find(find) => self.finding.command(find),
            Command::Detach { reply } => {
                self.detach();
                // Whoever dropped the answer's other end does not want it.
                let _ = reply.send(());
            }
            other => self.talk.command(other),
        }
    }

    /// The node goes on without calls.
    fn detach(&mut self) {
        self.detached = true;
        self.talk.fall_silent();
        self.finding.fall_silent();
        self.commands.close();
        self.shared.stop();
    }
}

impl NetworkBehaviour for BlinkBehaviour {
    // Of the types behind the two parts, since those have no public name.
    type ConnectionHandler = ConnectionHandlerSelect<THandler<gossipsub::Behaviour>, Tables>;
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
        Ok(ConnectionHandler::select(talk, finding))
    }

    fn handle_pending_outbound_connection(
        &mut self,
        connection_id: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
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
        Ok(ConnectionHandler::select(talk, finding))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        self.finding.on_swarm_event(event);
        self.talk.on_swarm_event(event);
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection_id: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {
            Either::Left(event) => self.talk.on_connection_handler_event(peer, connection_id, event),
            Either::Right(event) => self.finding.on_connection_handler_event(peer, connection_id, event),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        loop {
            if let Poll::Ready(out) = self.talk.poll(cx) {
                return Poll::Ready(out.map_in(Either::Left));
            }
            if let Poll::Ready(out) = self.finding.poll(cx) {
                return Poll::Ready(out.map_in(Either::Right));
            }
            if self.detached {
                return Poll::Pending;
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
