//! The STUN and TURN servers of a connection. The engine knows each by a name of ours, so that we know which one it talks
//! to, and see what is wrong with it: the engine itself says nothing, or writes it into its log.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::tunnel::Exit;
use super::{Outbox, Signal};
use crate::config::{IceServer, Target, Transport};
use crate::event::ServerProblem;

/// A name that nobody else can have (RFC 6761 section 6.4).
const SUFFIX: &str = ".server.invalid";
/// Requests whose answers are awaited; each socket has one at a time for each server.
const REQUESTS: usize = 64;

const ALLOCATE: [u8; 2] = [0x00, 0x03];
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
    told: bool,
    /// Ways to it that were begun, one from each network of ours, and those of them that led nowhere.
    ways: u32,
    closed: u32,
}

impl Server {
    fn new(target: Target) -> Self {
        Self { target, addresses: Vec::new(), answered: false, told: false, ways: 0, closed: 0 }
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
        (server.answered, server.told, server.ways, server.closed) = (false, false, 0, 0);
        let target = &server.target;
        if target.transport == Transport::Udp {
            return Some((index, Lookup::Name(format_host(&target.host, target.port))));
        }
        // Addresses of documentation (RFC 5737, RFC 3849): what goes there goes into a tunnel.
        let last = u8::try_from(index).ok()?;
        let aliases = vec![
            SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, last)), target.port),
            SocketAddr::new(
                IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(last))),
                target.port,
            ),
        ];
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
        if !std::mem::replace(&mut server.told, true) {
            self.outbox.put(Signal::ServerFailed { index, problem });
        }
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

    #[test]
    fn a_server_is_out_of_reach_when_it_is_so_from_each_network_of_ours() {
        let mut inbox = Inbox::new();
        let server = IceServer::turn("turn:192.0.2.9:3478?transport=tcp", "user", "secret");
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
