//! All links between the hosts: what comes in at one, and what goes out at another and when. Pure.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    net::IpAddr,
    ops::Range,
    time::Duration,
};

use crate::{
    link::{Conditions, Fate, Link},
    packet::{Protocol, header},
};

/// What went through one direction of one link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Packets that came in, dropped by no rule.
    pub entered: u64,
    /// Packets that were lost, by chance, in bursts or in a full queue.
    pub lost: u64,
    /// Packets that met a link that was down.
    pub down: u64,
    /// Packets that came twice.
    pub twice: u64,
    /// Bytes of the packets that came in, from the IP header on.
    pub bytes: u64,
    /// Those of them that were in packets of UDP: media, where signals go over TCP.
    pub udp: u64,
    /// Packets that were handed over, copies included.
    pub left: u64,
    /// Those of them that were handed over more than [`LATE`] after their time: the machine was busy with something else.
    pub late: u64,
    /// The longest such delay, late or not.
    pub latest: Duration,
}

/// A packet that the lab itself holds back for longer is late: a quarter of the usual frame of 20 ms, which a jitter buffer
/// takes for the network's doing.
pub const LATE: Duration = Duration::from_millis(5);

/// A packet on its way.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Travelling {
    leaves: Duration,
    /// In the order of entry, where times are the same.
    order: u64,
    from: usize,
    to: usize,
    bytes: Vec<u8>,
}

/// All links. Hosts are numbered from 0.
#[derive(Debug)]
pub struct Mesh {
    seed: u64,
    /// Which host has which addresses, as prefixes: of IPv4 the first three bytes, of IPv6 the first four groups.
    prefixes: Vec<Vec<Prefix>>,
    links: BTreeMap<(usize, usize), (Link, Counters)>,
    travelling: BinaryHeap<Reverse<Travelling>>,
    order: u64,
    /// Addresses that are out of reach, though their host has them.
    dead: BTreeSet<IpAddr>,
    /// How many packets have had these ends, whatever became of them.
    seen: BTreeMap<(IpAddr, IpAddr), u64>,
    /// What does not pass between two hosts.
    blocked: BTreeSet<(usize, usize, Protocol)>,
}

/// The network of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Prefix {
    /// A /24.
    V4([u8; 3]),
    /// A /64.
    V6([u16; 4]),
}

impl Prefix {
    fn contains(self, address: IpAddr) -> bool {
        match (self, address) {
            (Self::V4(prefix), IpAddr::V4(address)) => address.octets()[..3] == prefix,
            (Self::V6(prefix), IpAddr::V6(address)) => address.segments()[..4] == prefix,
            _ => false,
        }
    }
}

impl Mesh {
    /// No hosts yet. All luck comes from the seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            prefixes: Vec::new(),
            links: BTreeMap::new(),
            travelling: BinaryHeap::new(),
            order: 0,
            dead: BTreeSet::new(),
            seen: BTreeMap::new(),
            blocked: BTreeSet::new(),
        }
    }

    /// One more host, which gets the next number, with perfect links to all others.
    pub fn join(&mut self, prefixes: Vec<Prefix>) -> usize {
        self.prefixes.push(prefixes);
        self.prefixes.len() - 1
    }

    /// How many hosts there are.
    #[must_use]
    pub fn hosts(&self) -> usize {
        self.prefixes.len()
    }

    fn link(&mut self, from: usize, to: usize) -> &mut (Link, Counters) {
        // Far enough apart that no two links share their values.
        let seed = self.seed.wrapping_mul(1_000_003) ^ ((from as u64 * 256 + to as u64) << 40);
        self.links
            .entry((from, to))
            .or_insert_with(|| (Link::new(Conditions::default(), seed), Counters::default()))
    }

    /// Other conditions in one direction.
    pub fn change(&mut self, from: usize, to: usize, conditions: Conditions) {
        self.link(from, to).0.change(conditions);
    }

    /// One direction is down in this time.
    pub fn outage(&mut self, from: usize, to: usize, when: Range<Duration>) {
        self.link(from, to).0.outage(when);
    }

    /// Lets a kind of packet pass between two hosts, in this direction, or not.
    pub fn block(&mut self, from: usize, to: usize, protocol: Protocol, blocked: bool) {
        if blocked {
            self.blocked.insert((from, to, protocol));
        } else {
            self.blocked.remove(&(from, to, protocol));
        }
    }

    /// Puts an address out of reach, or back: what is from there or goes there vanishes.
    pub fn reach(&mut self, address: IpAddr, reachable: bool) {
        if reachable {
            self.dead.remove(&address);
        } else {
            self.dead.insert(address);
        }
    }

    /// What has gone from one host to another so far.
    #[must_use]
    pub fn counters(&self, from: usize, to: usize) -> Counters {
        self.links.get(&(from, to)).map(|(_, counters)| *counters).unwrap_or_default()
    }

    /// Whom packets said they were from and where they went, each with their number: everything that any host has sent, also
    /// to where nobody is and past no rule.
    #[must_use]
    pub fn seen(&self) -> &BTreeMap<(IpAddr, IpAddr), u64> {
        &self.seen
    }

    /// A packet of a host enters.
    pub fn enter(&mut self, now: Duration, from: usize, packet: &[u8]) {
        let Some(header) = header(packet) else { return };
        *self.seen.entry((header.source, header.destination)).or_default() += 1;
        let holds =
            |prefixes: &Vec<Prefix>| prefixes.iter().any(|prefix| prefix.contains(header.destination));
        let Some(to) = self.prefixes.iter().position(holds) else { return };
        let dead = self.dead.contains(&header.source) || self.dead.contains(&header.destination);
        if to == from || dead || self.blocked.contains(&(from, to, header.protocol)) {
            return;
        }
        let (link, counters) = self.link(from, to);
        let fate = link.pass(now, packet.len());
        counters.entered += 1;
        counters.bytes += packet.len() as u64;
        if header.protocol == Protocol::Udp {
            counters.udp += packet.len() as u64;
        }
        match fate {
            Fate::At(_) => {}
            Fate::Twice(..) => counters.twice += 1,
            Fate::Down => counters.down += 1,
            Fate::Lost | Fate::LostInBurst | Fate::QueueFull => counters.lost += 1,
        }
        for leaves in fate.departures() {
            self.order += 1;
            let travelling = Travelling { leaves, order: self.order, from, to, bytes: packet.to_vec() };
            self.travelling.push(Reverse(travelling));
        }
    }

    /// When the next packet leaves.
    #[must_use]
    pub fn next(&self) -> Option<Duration> {
        self.travelling.peek().map(|Reverse(packet)| packet.leaves)
    }

    /// A packet that has left by now, and the host that it goes to.
    pub fn leave(&mut self, now: Duration) -> Option<(usize, Vec<u8>)> {
        if self.next()? > now {
            return None;
        }
        let Reverse(packet) = self.travelling.pop()?;
        let (_, counters) = self.link(packet.from, packet.to);
        let waited = now.saturating_sub(packet.leaves);
        counters.left += 1;
        counters.late += u64::from(waited > LATE);
        counters.latest = counters.latest.max(waited);
        Some((packet.to, packet.bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn packet(source: [u8; 4], destination: [u8; 4], protocol: u8, mark: u8) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 21, 0, 0, 0, 0, 64, protocol, 0, 0];
        packet.extend(source.iter().chain(&destination));
        packet.push(mark);
        packet
    }

    const A: [u8; 4] = [198, 18, 1, 1];
    const B: [u8; 4] = [198, 18, 2, 1];

    fn two() -> Mesh {
        let mut mesh = Mesh::new(1);
        for number in [1_u8, 2] {
            let six = [0x2001, 2, 0, u16::from(number)];
            mesh.join(vec![Prefix::V4([198, 18, number]), Prefix::V6(six)]);
        }
        mesh
    }

    fn all(mesh: &mut Mesh, now: Duration) -> Vec<(usize, u8)> {
        std::iter::from_fn(|| mesh.leave(now))
            .map(|(to, bytes)| (to, *bytes.last().expect("a mark")))
            .collect()
    }

    #[test]
    fn packets_leave_when_their_time_has_come_in_their_order() {
        let mut mesh = two();
        mesh.change(0, 1, Conditions::delayed(50));
        mesh.enter(MS * 10, 0, &packet(A, B, 17, 1));
        mesh.enter(MS * 10, 0, &packet(A, B, 17, 2));
        mesh.enter(MS * 20, 1, &packet(B, A, 17, 3));
        assert_eq!(mesh.next(), Some(MS * 20), "the way back has no delay");
        assert_eq!(all(&mut mesh, MS * 59), [(0, 3)]);
        assert_eq!(all(&mut mesh, MS * 60), [(1, 1), (1, 2)]);
        assert_eq!(mesh.counters(0, 1).entered, 2);
    }

    #[test]
    fn a_link_knows_its_bytes_and_what_the_lab_itself_holds_back() {
        let mut mesh = two();
        mesh.change(0, 1, Conditions::delayed(50));
        for mark in 0..3 {
            mesh.enter(MS * 10, 0, &packet(A, B, 17, mark));
        }
        mesh.enter(MS * 80, 0, &packet(A, B, 6, 3));
        // In time, just in time, and when the machine comes back to it.
        for at in [MS * 60, MS * 60 + LATE, MS * 75] {
            assert!(mesh.leave(at).is_some());
        }
        let Counters { bytes, udp, left, late, latest, .. } = mesh.counters(0, 1);
        assert_eq!((bytes, udp, left, late, latest), (84, 63, 3, 1, MS * 15));
        assert_eq!(mesh.counters(1, 0), Counters::default());
    }

    #[test]
    fn any_address_of_a_network_reaches_its_host_in_both_families() {
        let mut mesh = two();
        mesh.enter(MS, 0, &packet(A, [198, 18, 2, 77], 17, 1));
        let mut six = vec![0x60, 0, 0, 0, 0, 0, 17, 64];
        for end in ["2001:2:0:1::1", "2001:2:0:2::9"] {
            six.extend(end.parse::<std::net::Ipv6Addr>().expect("an address").octets());
        }
        six.push(2);
        mesh.enter(MS, 0, &six);
        assert_eq!(all(&mut mesh, MS), [(1, 1), (1, 2)]);
        // Nowhere, to itself, and no packet at all.
        mesh.enter(MS, 0, &packet(A, [8, 8, 8, 8], 17, 3));
        mesh.enter(MS, 0, &packet(A, A, 17, 3));
        mesh.enter(MS, 0, &[1, 2, 3]);
        assert_eq!(mesh.next(), None);
        // They were seen all the same.
        let ends = |to: [u8; 4]| (IpAddr::from(A), IpAddr::from(to));
        assert_eq!((mesh.seen()[&ends([8, 8, 8, 8])], mesh.seen()[&ends(A)], mesh.seen().len()), (1, 1, 4));
    }

    #[test]
    fn rules_stop_a_kind_an_address_and_a_direction() {
        let mut mesh = two();
        mesh.block(0, 1, Protocol::Udp, true);
        mesh.enter(MS, 0, &packet(A, B, 17, 1));
        mesh.enter(MS, 0, &packet(A, B, 6, 2));
        mesh.enter(MS, 1, &packet(B, A, 17, 3));
        assert_eq!(all(&mut mesh, MS), [(1, 2), (0, 3)]);
        mesh.block(0, 1, Protocol::Udp, false);
        mesh.reach(B.into(), false);
        mesh.enter(MS, 0, &packet(A, B, 17, 4));
        mesh.enter(MS, 1, &packet(B, A, 17, 5));
        mesh.enter(MS, 0, &packet(A, [198, 18, 2, 2], 17, 6));
        assert_eq!(all(&mut mesh, MS), [(1, 6)]);
        mesh.reach(B.into(), true);
        mesh.outage(0, 1, MS * 2..MS * 4);
        for at in 1..=4 {
            mesh.enter(MS * at, 0, &packet(A, B, 17, at as u8));
        }
        assert_eq!(all(&mut mesh, MS * 9), [(1, 1), (1, 4)]);
        assert_eq!(mesh.counters(0, 1).down, 2);
    }

    #[test]
    fn each_direction_has_luck_of_its_own() {
        let mut mesh = two();
        let losing = Conditions { loss: 0.5, ..Conditions::default() };
        mesh.change(0, 1, losing.clone());
        mesh.change(1, 0, losing);
        for mark in 0..200 {
            mesh.enter(MS, 0, &packet(A, B, 17, mark));
            mesh.enter(MS, 1, &packet(B, A, 17, mark));
        }
        let left = all(&mut mesh, MS);
        let of = |host: usize| -> Vec<u8> {
            left.iter().filter(|(to, _)| *to == host).map(|(_, mark)| *mark).collect()
        };
        assert_ne!(of(0), of(1));
        assert!((70..130).contains(&of(0).len()), "{}", of(0).len());
        assert_eq!(mesh.counters(0, 1).lost as usize, 200 - of(1).len());
    }
}
