//! From a relay to straight again (DCUtR).

use std::{
    collections::{BTreeMap, BTreeSet},
    task::{Context, Poll},
    time::Duration,
};

use libp2p_dcutr as dcutr;
use rust_ipfs::{
    ConnectionId, Multiaddr, NetworkBehaviour, PeerId,
    swarm::{
        ConnectionDenied, FromSwarm, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
        derive_prelude::{Endpoint, PortUse},
    },
};

use crate::{
    driver::clock,
    reach::{Address, Place},
    time::Instant,
};

/// How often one peer may be dialed straight while it is connected: three times by either side, as libp2p does.
const MAX_PUNCHES: u8 = 6;

/// The most addresses that are dialed for one peer's word: two transports in two families, on four networks. A message has room for
/// hundreds, each of which would get packets of ours.
const MAX_ADDRESSES: usize = 16;

/// How long it counts for somebody that they were dialed who has left. Ten minutes: who leaves and comes back for more gets six in
/// that time.
const FORGOTTEN: Duration = Duration::from_secs(600);

/// The most peers for whom it counts; then the one is forgotten who left longest ago.
const MAX_REMEMBERED: usize = 1024;

/// libp2p's, which dials whatever the other end of a circuit names, as often as it asks for that. This one dials no place that is nearer
/// than the nearest of this node's relays: whoever comes through a relay in the internet has no business in this house. Nobody is told
/// a place that is nearer than the farthest of them: who comes through that one would refuse all because of it.
#[allow(unreachable_pub, reason = "a part of the handler of a public behaviour")]
pub struct Punching {
    dcutr: dcutr::Behaviour,
    relays: BTreeSet<PeerId>,
    /// Where the relays are that are connected now.
    near: BTreeMap<PeerId, Place>,
    /// What this part dials. Bounded by the connections of the node, and what each may ask for.
    dials: BTreeSet<ConnectionId>,
    /// How often each peer was dialed, and since when it is gone. Bounded by [`MAX_REMEMBERED`].
    punches: BTreeMap<PeerId, (u8, Option<Instant>)>,
}

impl Punching {
    pub(super) fn new(local: PeerId, relays: BTreeSet<PeerId>) -> Self {
        Self {
            dcutr: dcutr::Behaviour::new(local),
            relays,
            near: BTreeMap::new(),
            dials: BTreeSet::new(),
            punches: BTreeMap::new(),
        }
    }

    /// Whether others may be told of this place.
    fn may_tell(&self, address: &Multiaddr) -> bool {
        let farthest = self.near.values().max().copied().unwrap_or(Place::Public);
        straight(address).is_some_and(|place| place >= farthest)
    }

    /// Whether this place is dialed because somebody tells of it.
    fn may_dial(&self, address: &Multiaddr) -> bool {
        let nearest = self.near.values().min().copied().unwrap_or(Place::Public);
        straight(address).is_some_and(|place| place >= nearest)
    }

    /// A relay is connected, there.
    fn relay_at(&mut self, relay: PeerId, address: &Multiaddr) {
        if let Ok(address) = Address::parse(&address.to_string()) {
            self.near.insert(relay, address.first_hop().min(Place::Public));
        }
    }

    /// A peer has left.
    fn left(&mut self, now: Instant, peer: &PeerId) {
        if let Some((_, gone)) = self.punches.get_mut(peer) {
            *gone = Some(now);
        }
        self.punches.retain(|_, (_, gone)| gone.is_none_or(|gone| now.since(gone) < FORGOTTEN));
        while self.punches.len() > MAX_REMEMBERED {
            let left = self.punches.iter().filter_map(|(peer, (_, gone))| Some(((*gone)?, *peer)));
            let Some((_, oldest)) = left.min() else { break };
            self.punches.remove(&oldest);
        }
    }

    /// Whether this peer may be dialed once more.
    fn may_punch(&mut self, peer: PeerId) -> bool {
        let (punches, gone) = self.punches.entry(peer).or_default();
        (*punches, *gone) = (punches.saturating_add(1), None);
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
        if !self.dials.contains(&connection_id) {
            return Ok(Vec::new());
        }
        if addresses.len() > MAX_ADDRESSES {
            return Err(ConnectionDenied::new("a stranger names too many addresses"));
        }
        match addresses.iter().all(|address| self.may_dial(address)) {
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
                    self.relay_at(new.peer_id, new.endpoint.get_remote_address());
                }
            }
            FromSwarm::ConnectionClosed(old) if old.remaining_established == 0 => {
                self.near.remove(&old.peer_id);
                self.left(clock::now(), &old.peer_id);
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

/// Where an address leads straight.
fn straight(address: &Multiaddr) -> Option<Place> {
    let place = Address::parse(&address.to_string()).ok()?.place();
    (place != Place::Relayed && place != Place::Name).then_some(place)
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
        assert!(public.iter().all(|address| punching.may_tell(address) && punching.may_dial(address)));
        assert!(near.iter().chain(&odd).all(|at| !punching.may_tell(at) && !punching.may_dial(at)));
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
        assert!(!dials(&vec![public[0].clone(); MAX_ADDRESSES + 1]), "who names many aims at others");
        // A relay in the same house opens the house, and nothing nearer.
        let (inside, outside) = (PeerId::random(), PeerId::random());
        punching.relay_at(inside, &at("/ip4/192.168.1.9/tcp/4001"));
        assert_eq!(near.each_ref().map(|address| punching.may_tell(address)), [true, false, false]);
        // One outside beside it hears nothing of the house, which is dialed for those who come through the first.
        punching.relay_at(outside, &at("/ip4/203.0.113.9/tcp/4001"));
        assert_eq!(near.each_ref().map(|address| punching.may_tell(address)), [false; 3]);
        assert_eq!(near.each_ref().map(|address| punching.may_dial(address)), [true, false, false]);
        punching.near.remove(&inside);
        assert_eq!(near.each_ref().map(|address| punching.may_dial(address)), [false; 3]);
    }

    #[test]
    fn hostile_peers_that_ask_again_and_again_are_dialed_six_times() {
        let mut punching = Punching::new(PeerId::random(), BTreeSet::new());
        let peer = PeerId::random();
        assert_eq!((0..1000).filter(|_| punching.may_punch(peer)).count(), 6);
        assert!(punching.may_punch(PeerId::random()));
        // Nor more often where they leave and come back.
        let begin = Instant::from_micros(1_000_000);
        punching.left(begin, &peer);
        assert!(!punching.may_punch(peer));
        punching.left(begin + Duration::from_secs(1), &peer);
        punching.left(begin + Duration::from_secs(1) + FORGOTTEN, &PeerId::random());
        assert!(punching.may_punch(peer));
        for n in 0..2 * MAX_REMEMBERED as u64 {
            let other = PeerId::random();
            assert!(punching.may_punch(other));
            punching.left(begin + Duration::from_millis(n), &other);
        }
        assert!(punching.punches.len() <= MAX_REMEMBERED);
    }
}
