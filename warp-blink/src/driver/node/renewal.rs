//! Connections that a move to another network leaves behind.
//!
//! A machine that has lost an address still has the connections that went out from it, and nobody tells it, or the other side,
//! that nothing crosses them any more: TCP keeps sending for minutes, QUIC waits for its idle timeout. So who has moved closes what may
//! have gone out from the lost address, and connects again at once. To the other side that is one more connection of a peer, over
//! which gossipsub would say nothing of its topics, and it may go on sending over the dead one. There the newer connection replaces the
//! older one, for gossipsub as if the peer had left and come back.

use std::{
    collections::{BTreeMap, VecDeque},
    net::IpAddr,
    time::Duration,
};

use rust_ipfs::{ConnectedPoint, ConnectionId, Multiaddr, PeerId, Protocol};

use super::address::{is_relayed, node_of, relay_of};
use crate::time::Instant;

/// How old a connection is that a newer one replaces. 2 s: two sides that dial each other at the same time have two connections
/// within a round trip, and must not each close the other's; and one side that dials several addresses, 200 ms after each other, has
/// several, of which it keeps the first and gives the others up. Which one that is only it knows.
const REPLACED_FROM: Duration = Duration::from_secs(2);

/// How old a circuit is when another one takes its place, where there is a conversation. 105 s: the relays of libp2p end it after 2
/// minutes by default, and a dialing may take 10 s. They allow 30 in a row and one in two minutes, which is 6 hours of such renewals;
/// what ends a circuit all the same, or earlier by its bytes (128 KiB), is made anew as any lost connection is.
const CIRCUIT: Duration = Duration::from_secs(105);

/// Who has said nothing for so long is in no conversation. 15 s: in a call everybody says something each 5 s.
const SILENT: Duration = Duration::from_secs(15);

/// Addresses that are kept of one peer: as many as one attempt at reaching it takes.
const MAX_PLACES: usize = 8;

/// Peers of which addresses are kept; beyond that the one is forgotten of whom one was learnt longest ago. As many as a node of ours
/// has connections. They are kept when a connection ends: libp2p tells each address once.
const MAX_PEERS: usize = 128;

/// The connections of this node. Bounded by the node's own limit of connections.
#[derive(Debug, Default)]
pub(super) struct Renewal {
    peers: BTreeMap<PeerId, Vec<Connection>>,
    /// Where peers say that they listen, the last one that did at the end.
    places: VecDeque<(PeerId, Vec<Multiaddr>)>,
    /// Whose connections were closed because they had gone out from an address that is lost.
    cut_off: BTreeMap<PeerId, Vec<Multiaddr>>,
}

#[derive(Debug)]
struct Connection {
    id: ConnectionId,
    endpoint: ConnectedPoint,
    since: Instant,
    /// Another one has taken its place: for gossip it is closed.
    replaced: bool,
    /// When the peer last said something.
    spoke: Option<Instant>,
    /// It is closed as one too many.
    surplus: bool,
    /// Another one was asked for, to take the place of this circuit before it ends.
    renewed: bool,
}

/// One that is closed before its time.
pub(super) struct Replaced {
    pub(super) id: ConnectionId,
    pub(super) endpoint: ConnectedPoint,
    /// How many gossip still knows of.
    pub(super) remaining: usize,
}

fn ip(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(ip.into()),
        _ => None,
    }
}

/// Whether somebody else's machine can be reached there: what a peer names is not believed to be its own.
fn is_elsewhere(address: &Multiaddr) -> bool {
    match ip(address) {
        Some(IpAddr::V4(ip)) => !(ip.is_loopback() || ip.is_unspecified() || ip.is_link_local()),
        Some(IpAddr::V6(ip)) => {
            let here = ip.is_loopback() || ip.is_unspecified() || ip.is_unicast_link_local();
            !here && ip.to_ipv4_mapped().is_none()
        }
        None => false,
    }
}

impl Renewal {
    /// A connection with this peer is being made. Those of before that it replaces, which are to be closed.
    ///
    /// What leads over a relay replaces only what does so too, and only where nothing leads straight.
    pub(super) fn replaces(&mut self, now: Instant, peer: &PeerId, to: &Multiaddr) -> Vec<Replaced> {
        let relayed = is_relayed(to);
        let Some(known) = self.peers.get_mut(peer) else { return Vec::new() };
        if relayed && known.iter().any(|c| !c.replaced && !c.endpoint.is_relayed()) {
            return Vec::new();
        }
        let stays = |c: &Connection| {
            let age = now.since(c.since);
            // What leads straight is better than any circuit, however young that is.
            let same = relayed || !c.endpoint.is_relayed();
            !c.replaced && same && age < REPLACED_FROM
        };
        if known.iter().any(stays) {
            return Vec::new();
        }
        let mut remaining = known.iter().filter(|c| !c.replaced).count();
        let replaced = known.iter_mut().filter(|c| !c.replaced).map(|c| {
            c.replaced = true;
            remaining -= 1;
            Replaced { id: c.id, endpoint: c.endpoint.clone(), remaining }
        });
        replaced.collect()
    }

    /// Connections that others have made here, and that came too soon after another one that the same side had made, and are still there: it has lost the first one, or
    /// does not tell them apart. These are to be closed: whoever needs one makes it again, and that replaces the first.
    pub(super) fn surplus(&mut self, now: Instant) -> Vec<(PeerId, ConnectionId)> {
        let mut surplus = Vec::new();
        for (peer, known) in &mut self.peers {
            // Only one of the two sides decides, else each closes the other one, and none is left.
            let mut before: Vec<bool> = Vec::new();
            for c in known.iter_mut().filter(|c| !c.replaced && !c.endpoint.is_dialer()) {
                let kind = c.endpoint.is_relayed();
                if !before.contains(&kind) {
                    before.push(kind);
                } else if !c.surplus && now.since(c.since) >= REPLACED_FROM {
                    c.surplus = true;
                    surplus.push((*peer, c.id));
                }
            }
        }
        surplus
    }

    /// A connection is open. How many others gossip knows of.
    pub(super) fn opened(
        &mut self,
        now: Instant,
        peer: PeerId,
        id: ConnectionId,
        endpoint: &ConnectedPoint,
    ) -> usize {
        self.cut_off.remove(&peer);
        let known = self.peers.entry(peer).or_default();
        let others = known.iter().filter(|c| !c.replaced).count();
        known.push(Connection {
            id,
            endpoint: endpoint.clone(),
            since: now,
            replaced: false,
            spoke: None,
            surplus: false,
            renewed: false,
        });
        others
    }

    /// A connection is closed. How many gossip still knows of; `None`: it does not know of this one.
    pub(super) fn closed(&mut self, peer: &PeerId, id: ConnectionId) -> Option<usize> {
        let known = self.peers.get_mut(peer)?;
        let at = known.iter().position(|c| c.id == id)?;
        let closed = known.remove(at);
        let remaining = known.iter().filter(|c| !c.replaced).count();
        if known.is_empty() {
            self.peers.remove(peer);
        }
        (!closed.replaced).then_some(remaining)
    }

    /// Whether a connection with somebody else leads over this relay.
    pub(super) fn leads_through(&self, relay: &PeerId) -> bool {
        let relay = node_of(relay);
        let mut open = self.peers.values().flatten().filter(|c| !c.replaced && c.endpoint.is_relayed());
        open.any(|c| {
            let address = match &c.endpoint {
                ConnectedPoint::Dialer { address, .. } => address,
                ConnectedPoint::Listener { local_addr, .. } => local_addr,
            };
            relay.is_some() && relay_of(address) == relay
        })
    }

    /// The peer has said something.
    pub(super) fn spoke(&mut self, now: Instant, peer: &PeerId) {
        for connection in self.peers.get_mut(peer).into_iter().flatten() {
            connection.spoke = Some(now);
        }
    }

    /// The circuits that this side has opened and that are about to end in the middle of a conversation: another one to the same place
    /// is to be opened, which then takes their place. Each is named once.
    pub(super) fn ending(&mut self, now: Instant) -> Vec<(PeerId, Multiaddr)> {
        let mut ending = Vec::new();
        for (peer, known) in &mut self.peers {
            if known.iter().any(|c| !c.replaced && !c.endpoint.is_relayed()) {
                continue;
            }
            for c in known.iter_mut().filter(|c| !c.replaced && !c.renewed && c.endpoint.is_dialer()) {
                let talks = c.spoke.is_some_and(|spoke| now.since(spoke) < SILENT);
                if talks && now.since(c.since) >= CIRCUIT {
                    c.renewed = true;
                    ending.push((*peer, c.endpoint.get_remote_address().clone()));
                }
            }
        }
        ending
    }

    /// The peer says that it can be reached there. Of those who are not connected nothing is believed.
    pub(super) fn listens(&mut self, peer: &PeerId, address: &Multiaddr) {
        if !self.peers.contains_key(peer) || !is_elsewhere(address) {
            return;
        }
        let mut places = match self.places.iter().position(|(known, _)| known == peer) {
            Some(at) => self.places.remove(at).map(|(_, places)| places).unwrap_or_default(),
            None => Vec::new(),
        };
        // The newest are the best: it may have moved, too.
        places.retain(|place| place != address);
        places.insert(0, address.clone());
        places.truncate(MAX_PLACES);
        if self.places.len() >= MAX_PEERS {
            self.places.pop_front();
        }
        self.places.push_back((*peer, places));
    }

    /// This machine has an address no longer. The connections that may have gone out from it, which are to be closed.
    pub(super) fn lost(&mut self, address: &Multiaddr) -> Vec<(PeerId, ConnectionId)> {
        let Some(lost) = ip(address).filter(|_| is_elsewhere(address) && !is_relayed(address)) else {
            return Vec::new();
        };
        // Who has dialed does not know from which of its addresses, and QUIC does not say at which it was dialed.
        let may =
            |to: &Multiaddr| ip(to).is_none_or(|to| to.is_ipv4() == lost.is_ipv4() && !to.is_loopback());
        let went_out = |endpoint: &ConnectedPoint| match endpoint {
            ConnectedPoint::Listener { local_addr, send_back_addr } => match ip(local_addr) {
                Some(own) if !own.is_unspecified() => own == lost,
                _ => may(send_back_addr),
            },
            ConnectedPoint::Dialer { address, .. } => may(address),
        };
        let mut closing = Vec::new();
        for (peer, known) in &self.peers {
            let gone = known.iter().filter(|c| went_out(&c.endpoint));
            let before = closing.len();
            closing.extend(gone.map(|c| (*peer, c.id)));
            if closing.len() > before {
                // What has worked, and then what it says.
                let dialed = known.iter().filter(|c| c.endpoint.is_dialer());
                let mut places: Vec<_> = dialed.map(|c| c.endpoint.get_remote_address().clone()).collect();
                let said = self.places.iter().find(|(of, _)| of == peer).map(|(_, places)| places);
                for place in said.into_iter().flatten() {
                    if !places.contains(place) {
                        places.push(place.clone());
                    }
                }
                places.truncate(MAX_PLACES);
                self.cut_off.insert(*peer, places);
            }
        }
        closing
    }

    /// The last connection with this peer is closed. Where it was, if it was cut off.
    pub(super) fn cut_off(&mut self, peer: &PeerId) -> Option<Vec<Multiaddr>> {
        self.cut_off.remove(peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_micros(ms * 1000)
    }

    fn dialed(to: &str) -> ConnectedPoint {
        ConnectedPoint::Dialer {
            address: to.parse().unwrap(),
            role_override: rust_ipfs::swarm::derive_prelude::Endpoint::Dialer,
            port_use: rust_ipfs::swarm::derive_prelude::PortUse::Reuse,
        }
    }

    fn accepted(own: &str) -> ConnectedPoint {
        ConnectedPoint::Listener {
            local_addr: own.parse().unwrap(),
            send_back_addr: "/ip4/198.51.100.9/tcp/50000".parse().unwrap(),
        }
    }

    fn id(n: usize) -> ConnectionId {
        ConnectionId::new_unchecked(n)
    }

    #[test]
    fn a_later_connection_replaces_an_older_one_and_one_made_at_the_same_time_does_not() {
        let (mut all, peer) = (Renewal::default(), PeerId::random());
        let there: Multiaddr = "/ip4/192.0.2.1/tcp/1".parse().unwrap();
        assert!(all.replaces(at(0), &peer, &there).is_empty());
        assert_eq!(all.opened(at(0), peer, id(1), &dialed("/ip4/192.0.2.1/tcp/1")), 0);
        assert!(all.replaces(at(200), &peer, &there).is_empty(), "two addresses answered");
        assert!(all.replaces(at(1000), &peer, &there).is_empty(), "both have dialed");
        assert_eq!(all.opened(at(1000), peer, id(2), &accepted("/ip4/192.0.2.7/tcp/1")), 1);
        assert!(all.replaces(at(2500), &peer, &there).is_empty(), "the second one is young");
        let relayed: Multiaddr = "/ip4/192.0.2.1/tcp/1/p2p-circuit".parse().unwrap();
        assert!(all.replaces(at(3000), &peer, &relayed).is_empty(), "it is no better");
        let replaced = all.replaces(at(3000), &peer, &there);
        assert_eq!(
            replaced.iter().map(|r| (r.id, r.remaining)).collect::<Vec<_>>(),
            [(id(1), 1), (id(2), 0)]
        );
        assert_eq!(all.opened(at(3000), peer, id(3), &accepted("/ip4/192.0.2.7/tcp/1")), 0);
        assert_eq!((all.closed(&peer, id(1)), all.closed(&peer, id(2))), (None, None), "gossip knows");
        // Several addresses have answered, one after the other, and the peer gives up all but the first; or it has moved at once, and
        // the first one is dead. Which of the two it is shows later.
        for (n, ms) in [(4, 3500), (5, 4900)] {
            assert!(all.replaces(at(ms), &peer, &there).is_empty());
            assert_eq!(all.opened(at(ms), peer, id(n), &accepted("/ip4/192.0.2.7/tcp/1")), n - 3);
        }
        assert_eq!(all.surplus(at(5400)), []);
        assert_eq!(all.closed(&peer, id(4)), Some(2), "given up");
        assert_eq!(all.surplus(at(6899)), []);
        assert_eq!(all.surplus(at(6900)), [(peer, id(5))]);
        assert_eq!((all.surplus(at(6900)), all.closed(&peer, id(5))), (vec![], Some(1)), "once");
        // It makes another one, which is believed.
        let replaced = all.replaces(at(7000), &peer, &there);
        assert_eq!(replaced.iter().map(|r| (r.id, r.remaining)).collect::<Vec<_>>(), [(id(3), 0)]);
        assert_eq!(all.opened(at(7000), peer, id(6), &accepted("/ip4/192.0.2.7/tcp/1")), 0);
        // What this side has dialed is for the other one to judge.
        let friend = PeerId::random();
        for n in [8, 9] {
            all.opened(at(7000), friend, id(n), &dialed("/ip4/192.0.2.1/tcp/1"));
        }
        assert_eq!(all.surplus(at(20_000)), []);
        assert_eq!((all.closed(&friend, id(8)), all.closed(&friend, id(9))), (Some(1), Some(0)));
        // The other side has dialed as well.
        assert_eq!(all.opened(at(7100), peer, id(7), &dialed("/ip4/192.0.2.1/tcp/1")), 1);
        assert_eq!(all.surplus(at(20_000)), []);
        assert_eq!((all.closed(&peer, id(3)), all.closed(&peer, id(6))), (None, Some(1)));
        assert_eq!(all.closed(&peer, id(7)), Some(0));
        assert!(all.peers.is_empty() && all.closed(&peer, id(3)).is_none());
    }

    #[test]
    fn what_went_out_from_a_lost_address_is_closed_and_known_where_it_led() {
        let mut all = Renewal::default();
        let [here, there, near, six] = [(); 4].map(|()| PeerId::random());
        all.opened(at(0), here, id(1), &accepted("/ip4/192.0.2.7/tcp/1"));
        all.listens(&here, &"/ip4/203.0.113.5/tcp/4001".parse().unwrap());
        all.opened(at(0), there, id(2), &dialed("/ip4/203.0.113.9/tcp/1"));
        all.opened(at(0), near, id(3), &dialed("/ip4/127.0.0.1/tcp/1"));
        all.opened(at(0), six, id(4), &dialed("/ip6/2001:db8::1/tcp/1"));
        assert!(all.lost(&"/ip4/127.0.0.1/tcp/1".parse().unwrap()).is_empty());
        let mut lost: Vec<_> = all.lost(&"/ip4/192.0.2.7/tcp/1".parse().unwrap());
        lost.sort_by_key(|(_, id)| *id);
        assert_eq!(lost, [(here, id(1)), (there, id(2))]);
        assert_eq!(all.closed(&here, id(1)), Some(0));
        let place = |text: &str| Some(vec![text.parse::<Multiaddr>().unwrap()]);
        assert_eq!(all.cut_off(&here), place("/ip4/203.0.113.5/tcp/4001"));
        assert_eq!(all.cut_off(&here), None, "once");
        // Back before the old one is closed: nothing is to be done.
        all.opened(at(1), there, id(5), &accepted("/ip4/192.0.2.8/tcp/1"));
        assert_eq!(all.cut_off(&there), None);
        // QUIC does not say where it was dialed.
        all.opened(at(0), here, id(9), &accepted("/ip4/0.0.0.0/udp/1/quic-v1"));
        assert!(all.lost(&"/ip4/192.0.2.7/udp/1/quic-v1".parse().unwrap()).contains(&(here, id(9))));
        assert_eq!(all.closed(&here, id(9)), Some(0));
        // Another address of this machine than those that were dialed to.
        all.opened(at(0), here, id(6), &accepted("/ip4/192.0.2.8/tcp/1"));
        let lost = all.lost(&"/ip4/192.0.2.7/tcp/1".parse().unwrap());
        assert!(!lost.iter().any(|(peer, _)| *peer == here));
    }

    #[test]
    fn what_a_peer_said_is_known_in_its_next_connection_and_comes_after_what_has_worked() {
        let (mut all, peer) = (Renewal::default(), PeerId::random());
        let lost: Multiaddr = "/ip4/192.0.2.7/tcp/1".parse().unwrap();
        all.opened(at(0), peer, id(1), &accepted("/ip4/192.0.2.7/tcp/1"));
        for named in [
            "/ip4/203.0.113.5/tcp/1",
            "/ip4/127.0.0.1/tcp/1",
            "/ip6/::ffff:127.0.0.1/tcp/1",
            "/dns4/localhost/tcp/1",
        ] {
            all.listens(&peer, &named.parse().unwrap());
        }
        all.closed(&peer, id(1));
        all.opened(at(0), peer, id(2), &dialed("/ip4/203.0.113.9/tcp/1"));
        assert_eq!(
            all.lost(&"/ip4/192.0.2.7/tcp/1/p2p-circuit".parse().unwrap()),
            [],
            "no address of this machine"
        );
        assert_eq!(all.lost(&lost), [(peer, id(2))]);
        let places: Vec<String> = all.cut_off(&peer).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(places, ["/ip4/203.0.113.9/tcp/1", "/ip4/203.0.113.5/tcp/1"]);
    }

    #[test]
    fn hostile_peers_that_name_many_places_have_eight_and_many_peers_have_room() {
        let (mut all, peer) = (Renewal::default(), PeerId::random());
        all.opened(at(0), peer, id(1), &accepted("/ip4/192.0.2.7/tcp/1"));
        for n in 1..100 {
            all.listens(&peer, &format!("/ip4/203.0.113.{n}/tcp/1").parse().unwrap());
        }
        all.lost(&"/ip4/192.0.2.7/tcp/1".parse().unwrap());
        assert_eq!(all.cut_off(&peer).map(|places| places.len()), Some(MAX_PLACES));
        for n in 0..2 * MAX_PEERS {
            let other = PeerId::random();
            all.listens(&other, &"/ip4/203.0.113.1/tcp/1".parse().unwrap());
            all.opened(at(0), other, id(n), &accepted("/ip4/192.0.2.7/tcp/1"));
            all.listens(&other, &"/ip4/203.0.113.1/tcp/1".parse().unwrap());
            all.closed(&other, id(n));
        }
        assert_eq!((all.places.len(), all.peers.len()), (MAX_PEERS, 1));
    }

    const CIRCUIT_THERE: &str = "/ip4/203.0.113.1/tcp/1/p2p-circuit";

    #[test]
    fn a_circuit_replaces_an_older_one_and_a_straight_connection_any() {
        let (mut all, peer) = (Renewal::default(), PeerId::random());
        let circuit: Multiaddr = CIRCUIT_THERE.parse().unwrap();
        let straight: Multiaddr = "/ip4/192.0.2.1/tcp/1".parse().unwrap();
        all.opened(at(0), peer, id(1), &dialed(CIRCUIT_THERE));
        assert!(all.replaces(at(100), &peer, &circuit).is_empty(), "of the same dialing");
        let replaced = all.replaces(at(5000), &peer, &circuit);
        assert_eq!(replaced.iter().map(|r| (r.id, r.remaining)).collect::<Vec<_>>(), [(id(1), 0)]);
        all.opened(at(5000), peer, id(2), &dialed(CIRCUIT_THERE));
        // A hole was punched, right after the circuit opened.
        let replaced = all.replaces(at(5100), &peer, &straight);
        assert_eq!(replaced.iter().map(|r| r.id).collect::<Vec<_>>(), [id(2)]);
        all.opened(at(5100), peer, id(3), &dialed("/ip4/192.0.2.1/tcp/1"));
        assert!(all.replaces(at(60_000), &peer, &circuit).is_empty(), "it is no better");
    }

    #[test]
    fn a_circuit_is_renewed_once_before_it_ends_if_there_is_a_conversation() {
        let (mut all, peer) = (Renewal::default(), PeerId::random());
        all.opened(at(0), peer, id(1), &dialed(CIRCUIT_THERE));
        let (near, late) = (at(104_000), at(106_000));
        assert!(all.ending(late).is_empty(), "nobody has spoken");
        all.spoke(at(100_000), &peer);
        assert!(all.ending(near).is_empty(), "there is time");
        assert_eq!(all.ending(late), [(peer, CIRCUIT_THERE.parse().unwrap())]);
        assert!(all.ending(late).is_empty(), "once");
        all.opened(late, peer, id(2), &dialed(CIRCUIT_THERE));
        all.spoke(at(230_000), &peer);
        assert_eq!(all.ending(at(231_000)).len(), 1, "the next one as well");
        // The other side opened it, and renews it.
        let other = PeerId::random();
        all.opened(at(0), other, id(4), &accepted(CIRCUIT_THERE));
        all.spoke(late, &other);
        assert!(all.ending(late).is_empty());
        // There is a straight way.
        all.opened(at(300_000), peer, id(5), &dialed("/ip4/192.0.2.1/tcp/1"));
        all.spoke(at(500_000), &peer);
        assert!(all.ending(at(500_000)).is_empty());
        assert!(all.ending(at(900_000)).is_empty(), "silent for long");
    }
}
