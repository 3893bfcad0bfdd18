//! Connections that are being opened.

use std::collections::BTreeMap;

use rust_ipfs::{ConnectionId, DialOpts, Multiaddr, PeerCondition, PeerId, Protocol, swarm::DialError};
use tokio::sync::oneshot;

use super::address::{chain, node_of};
use crate::ports::gossip::{AddressFailure, ConnectError, Via};

/// The most connections that are being opened at the same time: two addresses for each of 64 nodes.
const MAX_DIALS: usize = 128;

/// The same with those that nobody waits for, each of which ends within libp2p's own time for one.
const MAX_RUNNING: usize = 4 * MAX_DIALS;

type Reply = oneshot::Sender<Result<Via, ConnectError>>;

/// The connections that are being opened. Where nobody waits any more, what comes of it is refused.
#[derive(Debug, Default)]
pub(super) struct Dials(BTreeMap<ConnectionId, Dial>);

#[derive(Debug)]
struct Dial {
    peer: PeerId,
    addresses: Vec<Multiaddr>,
    failures: Vec<AddressFailure>,
    /// Who answered instead, if somebody did.
    wrong: Option<ConnectError>,
    reply: Reply,
}

impl Dials {
    /// Begins one, unless it is refused at once. The result is to be handed to the swarm.
    pub(super) fn begin(
        &mut self,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        reply: Reply,
    ) -> Option<DialOpts> {
        if addresses.is_empty() {
            let _ = reply.send(Err(ConnectError::NoAddresses));
            return None;
        }
        if reply.is_closed() {
            return None;
        }
        // What was given up still runs, since libp2p cannot end one dialing alone, but it holds up nobody soon.
        let waited_for = self.0.values().filter(|dial| !dial.reply.is_closed()).count();
        if waited_for >= MAX_DIALS || self.0.len() >= MAX_RUNNING {
            let _ = reply.send(Err(ConnectError::Busy(self.0.len())));
            return None;
        }
        Some(self.go(Dial { peer, addresses, failures: Vec::new(), wrong: None, reply }))
    }

    fn go(&mut self, dial: Dial) -> DialOpts {
        // Always: an earlier dialing at other addresses may go nowhere.
        let opts = DialOpts::peer_id(dial.peer)
            .condition(PeerCondition::Always)
            .addresses(dial.addresses.clone())
            .build();
        self.0.insert(opts.connection_id(), dial);
        opts
    }

    /// Whether this is one of them.
    pub(super) fn has(&self, connection: ConnectionId) -> bool {
        self.0.contains_key(&connection)
    }

    /// There is a connection with this peer. One of ours ends nobody else's dialing: another may lead a better way. One that
    /// the peer opened is what all have waited for.
    pub(super) fn connected(&mut self, peer: PeerId, connection: ConnectionId, via: Via) {
        if let Some(dial) = self.0.remove(&connection) {
            let _ = dial.reply.send(Ok(via));
            return;
        }
        for (_, dial) in self.0.extract_if(.., |_, dial| dial.peer == peer && !dial.reply.is_closed()) {
            let _ = dial.reply.send(Ok(via));
        }
    }

    /// Whether nobody waits any more for this connection, which is about to be open.
    pub(super) fn given_up(&mut self, connection: ConnectionId) -> bool {
        let given_up = self.0.get(&connection).is_some_and(|dial| dial.reply.is_closed());
        if given_up {
            self.0.remove(&connection);
        }
        given_up
    }

    /// One failed. What may still work is tried once more, and is to be handed to the swarm. `connected`: there is another
    /// connection with this peer.
    pub(super) fn failed(
        &mut self,
        connection: ConnectionId,
        error: &DialError,
        connected: impl FnOnce(&PeerId) -> Option<Via>,
    ) -> Option<DialOpts> {
        let mut dial = self.0.remove(&connection)?;
        if dial.reply.is_closed() {
            return None;
        }
        if let Some(via) = connected(&dial.peer) {
            let _ = dial.reply.send(Ok(via));
            return None;
        }
        let stranger = match error {
            DialError::Transport(failures) => {
                dial.failures.extend(failures.iter().map(|(address, error)| failure(address, chain(error))));
                None
            }
            DialError::WrongPeerId { obtained, address } => {
                dial.failures.push(failure(address, format!("another node lives there, {obtained}")));
                if let (Some(expected), Some(found)) = (node_of(&dial.peer), node_of(obtained)) {
                    dial.wrong =
                        Some(ConnectError::WrongNode { address: address.to_string(), expected, found });
                }
                Some(address)
            }
            DialError::LocalPeerId { address } => {
                dial.failures.push(failure(address, "this node itself lives there".into()));
                Some(address)
            }
            DialError::NoAddresses => {
                // The swarm leaves out what it listens on itself.
                let own =
                    dial.addresses.iter().map(|a| failure(a, "it is an address of this node itself".into()));
                dial.failures.extend(own);
                None
            }
            DialError::Denied { cause } => {
                let _ = dial.reply.send(Err(ConnectError::Refused(chain(cause))));
                return None;
            }
            DialError::Aborted | DialError::DialPeerConditionFalse(_) => {
                let gone = dial.addresses.iter().map(|a| failure(a, "the attempt was cut off".into()));
                dial.failures.extend(gone);
                None
            }
        };
        // The first answer ends the whole dialing, even if it comes from a stranger: go on without it.
        if let Some(stranger) = stranger {
            let stranger = bare(stranger);
            dial.addresses.retain(|address| bare(address) != stranger);
            if !dial.addresses.is_empty() {
                return Some(self.go(dial));
            }
        }
        let error = match dial.wrong {
            Some(wrong) if dial.failures.len() == 1 => wrong,
            _ => ConnectError::Failed(dial.failures),
        };
        let _ = dial.reply.send(Err(error));
        None
    }
}

fn failure(address: &Multiaddr, cause: String) -> AddressFailure {
    AddressFailure { address: address.to_string(), cause }
}

/// The address without the name of the node at its end.
fn bare(address: &Multiaddr) -> Multiaddr {
    let mut bare = address.clone();
    if matches!(bare.iter().last(), Some(Protocol::P2p(_))) {
        bare.pop();
    }
    bare
}
