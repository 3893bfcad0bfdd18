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
                let fresh = || Server { target, addresses: Vec::new(), answered: false, told: false };
                Some(same.unwrap_or_else(fresh))
            })
            .collect();
    }

    /// What the engine asks for by one of our names; `None` for any other name.
    pub(super) fn lookup(&self, name: &str) -> Option<(usize, Lookup)> {
        let index: usize = name.split_once(SUFFIX)?.0.parse().ok()?;
        let mut inner = self.lock();
        let server = inner.servers.get_mut(index)?;
        (server.answered, server.told) = (false, false);
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
        let inner = self.lock();
        let index = inner.servers.iter().position(|server| server.addresses.contains(&address))?;
        let target = &inner.servers.get(index)?.target;
        let tls = match target.transport {
            Transport::Udp => return None,
            Transport::Tcp => None,
            Transport::Tls => Some(target.roots.clone()),
        };
        Some((index, Exit { host: target.host.clone(), port: target.port, tls }))
    }

    pub(super) fn failed(&self, index: usize, problem: ServerProblem) {
        let mut inner = self.lock();
        let Some(server) = inner.servers.get_mut(index) else { return };
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
        let Some(index) = inner.servers.iter().position(|server| server.addresses.contains(&from)) else {
            return;
        };
        inner.servers[index].answered = true;
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
