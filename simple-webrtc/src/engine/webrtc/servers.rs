//! The STUN and TURN servers of a connection. The engine knows each by a name of ours, so that we know which one it talks
//! to, and see what is wrong with it: the engine itself says nothing, or writes it into its log.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::tunnel::Exit;
use super::{Outbox, Signal};
use crate::config::{IceServer, Target, Transport};
use crate::event::ServerProblem;

/// A name that nobody else can have (RFC 6761 section 6.4).
const SUFFIX: &str = ".server.invalid";
/// Requests whose answers are awaited; each socket has one at a time for each server.
const REQUESTS: usize = 64;
/// So much sooner paths are tried over UDP than over a stream to the same server. 0.5 s: twice what the checks of a relayed path take at
/// a round trip of 100 ms. Whoever has no UDP does not wait.
const HEAD_START: Duration = Duration::from_millis(500);

const ALLOCATE: [u8; 2] = [0x00, 0x03];
const SEND: [u8; 2] = [0x00, 0x16];
const ALLOCATE_SUCCESS: [u8; 2] = [0x01, 0x03];
const ALLOCATE_ERROR: [u8; 2] = [0x01, 0x13];
const USERNAME: u16 = 0x0006;
const ERROR_CODE: u16 = 0x0009;
const UNAUTHORIZED: u16 = 401;
const STALE_NONCE: u16 = 438;

#[derive(Debug)]
pub(super) struct Servers {
    inner: Mutex<Inner>,
    outbox: Outbox,
}

#[derive(Debug)]
struct Inner {
    servers: Vec<Server>,
    /// Transactions of Allocate requests that carried credentials.
    authenticated: Vec<[u8; 12]>,
}

#[derive(Debug)]
struct Server {
    target: Target,
    addresses: Vec<SocketAddr>,
    answered: bool,
    /// It has given a relayed address.
    relays: bool,
    /// When the first path through it was tried that had to give way.
    tried: Option<Instant>,
    /// What is wrong with it.
    problem: Option<ServerProblem>,
    told: bool,
    /// Ways to it that were begun, one from each network of ours, and those of them that led nowhere.
    ways: u32,
    closed: u32,
}

impl Server {
    fn new(target: Target) -> Self {
        let (addresses, answered, relays, tried, problem, told, ways, closed) = Default::default();
        Self { target, addresses, answered, relays, tried, problem, told, ways, closed }
    }

    /// It begins anew.
    fn forget(&mut self) {
        (self.answered, self.relays, self.told) = (false, false, false);
        (self.tried, self.problem, self.ways, self.closed) = (None, None, 0, 0);
    }

    /// The same port of the same machine: one server, over another transport or for another purpose.
    fn is_twin(&self, target: &Target) -> bool {
        self.target.host == target.host && self.target.port == target.port
    }
}

/// The name under which the engine knows a server.
pub(super) fn engine_url(index: usize, server: &IceServer) -> Option<String> {
    let target = server.target()?;
    Some(match target.turn {
        true => format!("turn:{index}{SUFFIX}:{}?transport=udp", target.port),
        false => format!("stun:{index}{SUFFIX}:{}", target.port),
    })
}

impl Servers {
    pub(super) fn new(servers: &[IceServer], outbox: Outbox) -> Self {
        let inner = Inner { servers: Vec::new(), authenticated: Vec::new() };
        let new = Self { inner: Mutex::new(inner), outbox };
        new.set(servers);
        new
    }

    /// What is known of a server stays, if it stays in its place: with new credentials the engine goes on using it.
    pub(super) fn set(&self, servers: &[IceServer]) {
        let mut inner = self.lock();
        let before = std::mem::take(&mut inner.servers);
        let mut before = before.into_iter();
        inner.servers = servers
            .iter()
            .filter_map(|server| {
                let target = server.target()?;
                let same = before.next().filter(|before| before.target == target);
                Some(same.unwrap_or_else(|| Server::new(target)))
            })
            .collect();
    }

    /// What the engine asks for by one of our names; `None` for any other name.
    pub(super) fn lookup(&self, name: &str) -> Option<(usize, Lookup)> {
        let index: usize = name.split_once(SUFFIX)?.0.parse().ok()?;
        let mut inner = self.lock();
        let server = inner.servers.get_mut(index)?;
        server.forget();
        let target = server.target.clone();
        inner.servers.iter_mut().filter(|server| server.is_twin(&target)).for_each(|twin| twin.told = false);
        let server = inner.servers.get_mut(index)?;
        let target = &server.target;
        if target.transport == Transport::Udp {
            return Some((index, Lookup::Name(format_host(&target.host, target.port))));
        }
        // Addresses of documentation (RFC 5737, RFC 3849): what goes there goes into a tunnel.
        let last = u8::try_from(index).ok()?;
        let mut aliases = vec![
            SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, last)), target.port),
            SocketAddr::new(
                IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(last))),
                target.port,
            ),
        ];
        // From a socket of the other family it would be waited for until gathering has had its time.
        if let Ok(ip) = target.host.parse::<IpAddr>() {
            aliases.retain(|alias| alias.is_ipv4() == ip.is_ipv4());
        }
        server.addresses.clone_from(&aliases);
        Some((index, Lookup::Aliases(aliases)))
    }

    pub(super) fn found(&self, index: usize, addresses: &[SocketAddr]) {
        if let Some(server) = self.lock().servers.get_mut(index) {
            server.addresses = addresses.to_vec();
        }
    }

    pub(super) fn contains(&self, address: SocketAddr) -> bool {
        self.lock().servers.iter().any(|server| server.addresses.contains(&address))
    }

    /// Where the tunnel behind this address leads; `None` if there is none.
    pub(super) fn exit(&self, address: SocketAddr) -> Option<(usize, Exit)> {
        let mut inner = self.lock();
        let index = inner.servers.iter().position(|server| server.addresses.contains(&address))?;
        let server = inner.servers.get_mut(index)?;
        let target = &server.target;
        let tls = match target.transport {
            Transport::Udp => return None,
            Transport::Tcp => None,
            Transport::Tls => Some(target.roots.clone()),
        };
        let exit = Exit { host: target.host.clone(), port: target.port, tls };
        server.ways += 1;
        Some((index, exit))
    }

    /// Whether this is a check of a path through a stream that has to give way: to the same server over UDP, which relays, and has not
    /// had its head start. The engine, to which both are worth the same, would take whichever answers first. It checks again every 20 ms.
    pub(super) fn gives_way(&self, now: Instant, to: SocketAddr, datagram: &[u8]) -> bool {
        // What is sent before there is a channel, and STUN in one (RFC 8656 sections 11 and 12, RFC 7983).
        let checks = match datagram.first() {
            Some(0x40..=0x4f) => matches!(datagram.get(4), Some(0..=3)),
            _ => datagram.starts_with(&SEND),
        };
        if !checks {
            return false;
        }
        let mut inner = self.lock();
        let is_udp = |server: &Server| server.target.transport == Transport::Udp;
        let found = inner.servers.iter().position(|server| server.addresses.contains(&to) && !is_udp(server));
        let Some(target) = found.and_then(|index| Some(inner.servers.get(index)?.target.clone())) else {
            return false;
        };
        if !inner.servers.iter().any(|twin| twin.is_twin(&target) && is_udp(twin) && twin.relays) {
            return false;
        }
        let Some(server) = found.and_then(|index| inner.servers.get_mut(index)) else { return false };
        now.saturating_duration_since(*server.tried.get_or_insert(now)) < HEAD_START
    }

    /// What is told is that a machine is of no use, once: not that one of its transports does not come through while another does.
    pub(super) fn failed(&self, index: usize, problem: ServerProblem) {
        let mut inner = self.lock();
        let Some(server) = inner.servers.get_mut(index) else { return };
        if problem == ServerProblem::Unreachable && server.ways > 0 {
            // From another network of ours it may be there.
            server.closed += 1;
            if server.closed < server.ways {
                return;
            }
        }
        server.problem.get_or_insert(problem);
        let target = server.target.clone();
        let twins = || inner.servers.iter().enumerate().filter(|(_, server)| server.is_twin(&target));
        let silent = problem == ServerProblem::Unreachable;
        let is_enough = |(_, twin): (usize, &Server)| {
            let works = if silent { twin.answered } else { twin.relays };
            // It may answer over another transport yet.
            let open = silent && twin.problem.is_none();
            // Who tells addresses there is no help to whom wants to be relayed.
            let helps = twin.target.turn || !target.turn;
            (helps && (works || open)) || twin.told
        };
        if twins().any(is_enough) {
            return;
        }
        // What matters is that it does not relay.
        let relay = twins().find(|(_, server)| silent && server.target.turn);
        let index = relay.map_or(index, |(relay, _)| relay);
        inner.servers.iter_mut().filter(|server| server.is_twin(&target)).for_each(|twin| twin.told = true);
        self.outbox.put(Signal::ServerFailed { index, problem });
    }

    pub(super) fn sent(&self, datagram: &[u8]) {
        if datagram.starts_with(&ALLOCATE) && attribute(datagram, USERNAME).is_some() {
            let mut inner = self.lock();
            if inner.authenticated.len() >= REQUESTS {
                inner.authenticated.remove(0);
            }
            inner.authenticated.extend(transaction(datagram));
        }
    }

    pub(super) fn received(&self, from: SocketAddr, datagram: &[u8]) {
        let mut inner = self.lock();
        let mut index = None;
        for (at, server) in inner.servers.iter_mut().enumerate().filter(|(_, s)| s.addresses.contains(&from))
        {
            // One server may be in the list for both, STUN and TURN.
            server.answered = true;
            if server.target.turn || index.is_none() {
                index = Some(at);
            }
        }
        let Some(index) = index else { return };
        if datagram.starts_with(&ALLOCATE_SUCCESS)
            && let Some(server) = inner.servers.get_mut(index)
        {
            server.relays = true;
        }
        if !datagram.starts_with(&ALLOCATE_ERROR) {
            return;
        }
        let authenticated = transaction(datagram).is_some_and(|id| inner.authenticated.contains(&id));
        drop(inner);
        // The hundreds are in their own byte (RFC 8489 section 14.8).
        let code = attribute(datagram, ERROR_CODE)
            .and_then(|value| Some(u16::from(value.get(2)? & 7) * 100 + u16::from(*value.get(3)?)));
        match code {
            Some(UNAUTHORIZED) if authenticated => self.failed(index, ServerProblem::WrongCredentials),
            // It asks for credentials, or for a fresh nonce.
            Some(UNAUTHORIZED | STALE_NONCE) | None => {}
            Some(code) => self.failed(index, ServerProblem::Refused { code }),
        }
    }

    /// Gathering has had its time: whoever has not answered will not.
    pub(super) fn time_is_up(&self) {
        let silent: Vec<usize> = {
            let inner = self.lock();
            let servers = inner.servers.iter().enumerate();
            servers.filter(|(_, server)| !server.answered && !server.told).map(|(index, _)| index).collect()
        };
        for index in silent {
            if let Some(server) = self.lock().servers.get_mut(index) {
                server.closed = server.ways;
            }
            self.failed(index, ServerProblem::Unreachable);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a name of ours stands for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Lookup {
    Name(String),
    Aliases(Vec<SocketAddr>),
}

fn format_host(host: &str, port: u16) -> String {
    match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}

pub(super) fn transaction(message: &[u8]) -> Option<[u8; 12]> {
    message.get(8..20)?.try_into().ok()
}

/// The value of a STUN attribute.
pub(super) fn attribute(message: &[u8], wanted: u16) -> Option<&[u8]> {
    let mut rest = message.get(20..)?;
    loop {
        let kind = u16::from_be_bytes([*rest.first()?, *rest.get(1)?]);
        let len = usize::from(u16::from_be_bytes([*rest.get(2)?, *rest.get(3)?]));
        if kind == wanted {
            return rest.get(4..4 + len);
        }
        rest = rest.get(4 + len.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Inbox;

    /// What was told so far.
    fn told(inbox: &mut Inbox) -> Vec<(usize, ServerProblem)> {
        let failed = |signal: &Signal| match signal {
            Signal::ServerFailed { index, problem } => Some((*index, *problem)),
            _ => None,
        };
        inbox.look().expect("not too many").iter().filter_map(failed).collect()
    }

    #[test]
    fn one_server_that_is_named_for_stun_and_for_turn_has_answered_for_both() {
        let mut inbox = Inbox::new();
        let both = [
            IceServer::stun("stun:192.0.2.9:3478"),
            IceServer::turn("turn:192.0.2.9:3478", "user", "secret"),
            IceServer::stun("stun:192.0.2.10:3478"),
        ];
        let servers = Servers::new(&both, inbox.sender());
        let at = "192.0.2.9:3478".parse().expect("an address");
        servers.found(0, &[at]);
        servers.found(1, &[at]);
        servers.received(at, &[1; 20]);
        servers.time_is_up();
        assert_eq!(told(&mut inbox), [(2, ServerProblem::Unreachable)]);
        // The allocation of TURN is refused, not the question of STUN.
        let mut refused = [&ALLOCATE_ERROR[..], &[0; 18]].concat();
        refused.extend(ERROR_CODE.to_be_bytes());
        refused.extend([0, 4, 0, 0, 4, 86]);
        servers.received(at, &refused);
        assert_eq!(told(&mut inbox)[1..], [(1, ServerProblem::Refused { code: 486 })]);
    }

    /// A friend's: addresses (STUN), and TURN over UDP and TCP, all at one port.
    fn of_a_friend(inbox: &Inbox) -> (Servers, SocketAddr, SocketAddr) {
        let turn = |url: &str| IceServer::turn(url, "user", "secret");
        let servers = Servers::new(
            &[
                IceServer::stun("stun:192.0.2.9:3478"),
                turn("turn:192.0.2.9:3478"),
                turn("turn:192.0.2.9:3478?transport=tcp"),
            ],
            inbox.sender(),
        );
        let udp = "192.0.2.9:3478".parse().expect("an address");
        servers.found(0, &[udp]);
        servers.found(1, &[udp]);
        let Some((2, Lookup::Aliases(aliases))) = servers.lookup(&format!("2{SUFFIX}")) else {
            panic!("a tunnel")
        };
        // Nothing of the other family leads there.
        assert_eq!(aliases, ["192.0.2.2:3478".parse::<SocketAddr>().expect("an address")]);
        assert!(servers.exit(aliases[0]).is_some());
        (servers, udp, aliases[0])
    }

    #[test]
    fn a_transport_that_does_not_come_through_is_not_told_of_while_another_does() {
        let mut inbox = Inbox::new();
        let (servers, udp, tcp) = of_a_friend(&inbox);
        // No UDP.
        servers.received(tcp, &[1; 20]);
        servers.time_is_up();
        assert_eq!(told(&mut inbox), []);
        // No TCP, which is known at once or at the end.
        for late in [false, true] {
            let (servers, _, _) = of_a_friend(&inbox);
            if late {
                servers.received(udp, &[1; 20]);
            }
            servers.failed(2, ServerProblem::Unreachable);
            servers.received(udp, &[1; 20]);
            servers.time_is_up();
            assert_eq!(told(&mut inbox), [], "late {late}");
        }
    }

    #[test]
    fn who_tells_addresses_is_no_help_to_whom_wants_to_be_relayed() {
        let mut inbox = Inbox::new();
        let turn = IceServer::turn("turn:192.0.2.9:3478?transport=tcp", "user", "secret");
        let servers = Servers::new(&[IceServer::stun("stun:192.0.2.9:3478"), turn], inbox.sender());
        let at = "192.0.2.9:3478".parse().expect("an address");
        servers.found(0, &[at]);
        assert!(servers.lookup(&format!("1{SUFFIX}")).is_some());
        servers.received(at, &[1; 20]);
        servers.time_is_up();
        assert_eq!(told(&mut inbox), [(1, ServerProblem::Unreachable)]);
    }

    #[test]
    fn a_machine_that_is_not_there_is_told_of_once() {
        let mut inbox = Inbox::new();
        for refused in [false, true] {
            let (servers, ..) = of_a_friend(&inbox);
            if refused {
                servers.failed(2, ServerProblem::Unreachable);
            }
            let before = told(&mut inbox).len();
            servers.time_is_up();
            servers.time_is_up();
            assert_eq!(told(&mut inbox)[before..], [(1, ServerProblem::Unreachable)], "refused {refused}");
            // The next gathering is another matter.
            assert!(servers.lookup(&format!("1{SUFFIX}")).is_some());
            servers.failed(1, ServerProblem::Unresolved);
            assert_eq!(told(&mut inbox)[before + 1..], [(1, ServerProblem::Unresolved)]);
        }
    }

    #[test]
    fn a_refusal_over_one_transport_is_not_told_of_where_the_other_relays() {
        let mut inbox = Inbox::new();
        let (servers, udp, _) = of_a_friend(&inbox);
        let quota = ServerProblem::Refused { code: 486 };
        servers.received(udp, &[&ALLOCATE_SUCCESS[..], &[0; 18]].concat());
        servers.failed(2, quota);
        assert_eq!(told(&mut inbox), []);
        let (servers, ..) = of_a_friend(&inbox);
        servers.failed(2, quota);
        servers.failed(1, quota);
        assert_eq!(told(&mut inbox), [(2, quota)], "one machine, told once");
    }

    #[test]
    fn a_path_over_udp_is_tried_sooner_where_there_is_one() {
        let inbox = Inbox::new();
        let (servers, udp, tcp) = of_a_friend(&inbox);
        let start = Instant::now();
        let indication = [&SEND[..], &[0; 18]].concat();
        let (check, sound) = ([0x40, 1, 0, 20, 0, 1], [0x40, 1, 0, 20, 0x80, 111]);
        assert!(!servers.gives_way(start, tcp, &indication), "nothing is known to relay over UDP");
        servers.received(udp, &[&ALLOCATE_SUCCESS[..], &[0; 18]].concat());
        for check in [&indication[..], &check] {
            assert!(servers.gives_way(start, tcp, check));
            assert!(servers.gives_way(start + HEAD_START / 2, tcp, check));
            assert!(!servers.gives_way(start, udp, check));
            assert!(!servers.gives_way(start + HEAD_START, tcp, check));
        }
        // Requests for an address, or for leave to send, are none; nor is what is said.
        for other in [&ALLOCATE[..], &[0, 8], &[0, 9], &sound] {
            assert!(!servers.gives_way(start, tcp, other));
        }
    }

    #[test]
    fn a_server_is_out_of_reach_when_it_is_so_from_each_network_of_ours() {
        let mut inbox = Inbox::new();
        let server = IceServer::turn("turn:example.net:3478?transport=tcp", "user", "secret");
        let servers = Servers::new(&[server], inbox.sender());
        let Some((0, Lookup::Aliases(aliases))) = servers.lookup(&format!("0{SUFFIX}")) else {
            panic!("a tunnel")
        };
        assert!(servers.exit(aliases[0]).is_some() && servers.exit(aliases[1]).is_some());
        servers.failed(0, ServerProblem::Unreachable);
        assert_eq!(told(&mut inbox), []);
        servers.failed(0, ServerProblem::Unreachable);
        assert_eq!(told(&mut inbox), [(0, ServerProblem::Unreachable)]);
    }
}
