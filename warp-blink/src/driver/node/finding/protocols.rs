//! Hears what the other side of a connection answers.
//!
//! libp2p's Kademlia takes a peer for one that answers as soon as that peer has asked something, before it says which protocols it
//! has. Then who only asks, and does not want to be found, would be in the tables of others.

use std::task::{Context, Poll};

use rust_ipfs::{
    StreamProtocol,
    swarm::{
        ConnectionHandler, ConnectionHandlerEvent, SubstreamProtocol, dummy,
        handler::{ConnectionEvent, ProtocolsChange},
    },
};

type Nothing = <dummy::ConnectionHandler as ConnectionHandler>::InboundProtocol;

/// Tells once when the other side says that it answers under this name, and when it does so no more.
#[derive(Debug)]
pub struct Protocols {
    name: StreamProtocol,
    answers: bool,
    told: bool,
}

impl Protocols {
    pub(super) fn new(name: &'static str) -> Self {
        Self { name: StreamProtocol::new(name), answers: false, told: false }
    }
}

impl ConnectionHandler for Protocols {
    type FromBehaviour = std::convert::Infallible;
    type ToBehaviour = bool;
    type InboundProtocol = Nothing;
    type OutboundProtocol = Nothing;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Nothing> {
        dummy::ConnectionHandler.listen_protocol()
    }

    fn on_behaviour_event(&mut self, event: Self::FromBehaviour) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Nothing, (), bool>> {
        if self.told == self.answers {
            return Poll::Pending;
        }
        self.told = self.answers;
        Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(self.answers))
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Nothing, Nothing>) {
        match event {
            ConnectionEvent::RemoteProtocolsChange(ProtocolsChange::Added(mut added)) => {
                self.answers |= added.any(|name| *name == self.name);
            }
            ConnectionEvent::RemoteProtocolsChange(ProtocolsChange::Removed(mut removed)) => {
                self.answers &= !removed.any(|name| *name == self.name);
            }
            // It opens no stream, and takes none.
            _ => {}
        }
    }
}
