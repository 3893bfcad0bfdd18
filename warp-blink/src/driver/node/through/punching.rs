//! From a relay to straight again (DCUtR).

use std::{
    collections::{BTreeMap, BTreeSet},
    task::{Context, Poll},
};

use libp2p_dcutr as dcutr;
use rust_ipfs::{
    ConnectionId, Multiaddr, NetworkBehaviour, PeerId,
    swarm::{
        ConnectionDenied, FromSwarm, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
        derive_prelude::{Endpoint, PortUse},
    },
};

use crate::reach::{Address, Place};

/// How often one peer may be dialed straight while it is connected: three times by either side, as libp2p does.
const MAX_PUNCHES: u8 = 6;

/// libp2p's, which dials whatever the other end of a circuit names, as often as it asks for that. This one dials no place that is nearer
/// than the nearest of this node's relays: whoever comes through a relay in the internet has no business in this house, and is
/// not told its addresses either.
#[allow(unreachable_pub, reason = "a part of the handler of a public behaviour")]
pub struct Punching {
    dcutr: dcutr::Behaviour,
    relays: BTreeSet<PeerId>,
    /// The nearest place of a relay.
    nearest: Place,
    /// What this part dials. Bounded by the connections of the node, and what each may ask for.
    dials: BTreeSet<ConnectionId>,
    /// How often each peer was dialed. Bounded as above.
    punches: BTreeMap<PeerId, u8>,
}

impl Punching {
    pub(super) fn new(local: PeerId, relays: BTreeSet<PeerId>) -> Self {
        Self {
            dcutr: dcutr::Behaviour::new(local),
            relays,
            nearest: Place::Public,
            dials: BTreeSet::new(),
            punches: BTreeMap::new(),
        }
    }

    /// Whether others may be told of this place, or tell of it.
    fn may_tell(&self, address: &Multiaddr) -> bool {
        let place = Address::parse(&address.to_string()).map(|address| address.place());
        place.is_ok_and(|place| place != Place::Relayed && place != Place::Name && place >= self.nearest)
    }

    fn relay_at(&mut self, address: &Multiaddr) {
        if let Ok(address) = Address::parse(&address.to_string()) {
            self.nearest = self.nearest.min(address.first_hop());
        }
    }

    /// Whether this peer may be dialed once more.
    fn may_punch(&mut self, peer: PeerId) -> bool {
        let punches = self.punches.entry(peer).or_default();
        *punches = punches.saturating_add(1);
        *punches <= MAX_PUNCHES
    }
}

impl NetworkBehaviour for Punching {
    type ConnectionHandler = THandler<dcutr::Behaviour>;
    type ToSwarm = dcutr::Event;

    fn handle_established_inbound_connection(
        &mut self,
        connection_id: ConnectionId,
        peer: PeerId,
        local_addr: &Multiaddr,
        remote_addr: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.dcutr.handle_established_inbound_connection(connection_id, peer, local_addr, remote_addr)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        connection_id: ConnectionId,
        _: Option<PeerId>,
        addresses: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        let ours = self.dials.contains(&connection_id);
        match !ours || addresses.iter().all(|address| self.may_tell(address)) {
            true => Ok(Vec::new()),
            false => {
                Err(ConnectionDenied::new("nobody is dialed there for a stranger's word: it is too near"))
            }
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
        self.dcutr.handle_established_outbound_connection(connection_id, peer, addr, role_override, port_use)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match &event {
            FromSwarm::NewExternalAddrCandidate(new) if !self.may_tell(new.addr) => return,
            FromSwarm::ConnectionEstablished(new) => {
                self.dials.remove(&new.connection_id);
                if self.relays.contains(&new.peer_id) && !new.endpoint.is_relayed() {
                    self.relay_at(new.endpoint.get_remote_address());
                }
            }
            FromSwarm::ConnectionClosed(old) if old.remaining_established == 0 => {
                self.punches.remove(&old.peer_id);
            }
            FromSwarm::DialFailure(failed) => {
                self.dials.remove(&failed.connection_id);
            }
            _ => {}
        }
        self.dcutr.on_swarm_event(event);
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection_id: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        self.dcutr.on_connection_handler_event(peer, connection_id, event);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<dcutr::Event, THandlerInEvent<Self>>> {
        loop {
            let out = self.dcutr.poll(cx);
            if let Poll::Ready(ToSwarm::Dial { opts }) = &out {
                if !opts.get_peer_id().is_some_and(|peer| self.may_punch(peer)) {
                    continue;
                }
                self.dials.insert(opts.connection_id());
            }
            return out;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    #[test]
    fn hostile_peers_behind_a_relay_lead_nobody_into_the_own_house() {
        let mut punching = Punching::new(PeerId::random(), BTreeSet::new());
        let public = ["/ip4/203.0.113.7/tcp/1", "/ip6/2001:db8::7/udp/1/quic-v1"].map(at);
        let near =
            ["/ip4/192.168.1.1/tcp/80", "/ip4/127.0.0.1/tcp/22", "/ip4/169.254.169.254/tcp/80"].map(at);
        let odd = ["/dns4/router.example/tcp/80", "/ip4/203.0.113.7/tcp/1/p2p-circuit"].map(at);
        assert!(public.iter().all(|address| punching.may_tell(address)));
        assert!(near.iter().chain(&odd).all(|address| !punching.may_tell(address)));
        let id = ConnectionId::new_unchecked(1);
        let mut dials = |addresses: &[Multiaddr]| {
            punching.handle_pending_outbound_connection(id, None, addresses, Endpoint::Dialer).is_ok()
        };
        assert!(dials(&near), "what others dial is theirs to know");
        punching.dials.insert(id);
        let mut dials = |addresses: &[Multiaddr]| {
            punching.handle_pending_outbound_connection(id, None, addresses, Endpoint::Dialer).is_ok()
        };
        assert!(dials(&public) && !dials(&[public[0].clone(), near[0].clone()]));
        // A relay in the same house opens the house, and nothing nearer.
        punching.relay_at(&at("/ip4/192.168.1.9/tcp/4001"));
        punching.relay_at(&at("/ip4/203.0.113.9/tcp/4001"));
        assert_eq!(near.each_ref().map(|address| punching.may_tell(address)), [true, false, false]);
    }

    #[test]
    fn hostile_peers_that_ask_again_and_again_are_dialed_six_times() {
        let mut punching = Punching::new(PeerId::random(), BTreeSet::new());
        let peer = PeerId::random();
        assert_eq!((0..1000).filter(|_| punching.may_punch(peer)).count(), 6);
        assert!(punching.may_punch(PeerId::random()));
    }
}
