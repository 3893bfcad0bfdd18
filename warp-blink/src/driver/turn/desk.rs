//! What the server's parts share: who was granted what, whose sockets there are, and where nothing goes.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use turn::auth::AuthHandler;
use zeroize::Zeroizing;

use super::{
    credentials::{Secret, name, parts},
    message::{Message, NONCE, REALM, USERNAME},
};
use crate::{
    driver::clock,
    id::{CallId, PublicKey},
    proto::turn::{Office, Refused, TurnLimits, User, check_target},
    wire::TurnPass,
};

/// The peers of one allocation. A call has one or two candidates of its other end for each address of that; the rest is room for
/// what changes during it.
const MAX_PEERS: usize = 64;

/// The most askings whose answer may still have to be repeated. Each is forgotten with its session, seconds later.
const MAX_ISSUED: usize = 64;

/// The headers of a datagram (RFC 791, RFC 8200, RFC 768), which count as what is in it.
const IP4_UDP: usize = 28;
const IP6_UDP: usize = 48;

/// How somebody talks with the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

/// Who talks with the server: what of the 5-tuple (RFC 8656 section 3) differs from one to the other. One address over both transports is
/// two clients, and neither is taken for the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tuple {
    pub(super) transport: Transport,
    pub(super) address: SocketAddr,
}

/// Somebody who has an allocation, or is about to.
#[derive(Debug)]
struct Client {
    id: u64,
    user: User,
    /// The name and the nonce that it showed last. They stay good as long as its user has any name that holds: nothing here is to be lost
    /// because so many others have come since.
    shown: Option<(String, String)>,
    /// Whom it may hear and send to.
    peers: BTreeSet<IpAddr>,
}

#[derive(Debug)]
struct Inner {
    office: Office,
    clients: BTreeMap<Tuple, Client>,
    /// Ports that are relayed through.
    relays: BTreeSet<u16>,
    next: u64,
    issued: BTreeMap<CallId, (PublicKey, TurnPass)>,
}

/// See the [module](self).
pub(crate) struct Desk {
    inner: Mutex<Inner>,
    secret: Secret,
    /// Names that somebody else made with the secret are taken.
    shared: bool,
    /// Where others reach the relay.
    public: SocketAddr,
    /// Where sockets that are relayed through are bound.
    pub(super) bind: IpAddr,
    own: Vec<IpAddr>,
    allowed: Vec<IpAddr>,
}

impl Desk {
    pub(super) fn new(
        limits: TurnLimits,
        (secret, shared): (Secret, bool),
        (public, bind): (SocketAddr, IpAddr),
        allowed: Vec<IpAddr>,
    ) -> Self {
        let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
        let mut own: Vec<IpAddr> = interfaces.iter().map(if_addrs::Interface::ip).collect();
        own.push(public.ip());
        let inner = Inner {
            office: Office::new(limits),
            clients: BTreeMap::new(),
            relays: BTreeSet::new(),
            next: 0,
            issued: BTreeMap::new(),
        };
        Self { inner: Mutex::new(inner), secret, shared, public, bind, own, allowed }
    }

    /// A place for somebody who asks in a session. The same asking is given the same, however often it is repeated.
    pub(crate) fn issue(&self, asking: CallId, to: PublicKey) -> Result<TurnPass, Refused> {
        let mut inner = self.lock();
        if let Some((of, pass)) = inner.issued.get(&asking) {
            return if *of == to { Ok(pass.clone()) } else { Err(Refused::Expired) };
        }
        if inner.issued.len() >= MAX_ISSUED {
            return Err(Refused::Crowded);
        }
        let random = clock::random().map_err(|_| Refused::Crowded)?;
        let life = inner.office.limits().life;
        let until = clock::unix().as_millis() / 1000 + life.as_secs();
        let name = name(until, random);
        let life = inner.office.grant(clock::now(), &name, User::Friend(to), life)?;
        let password = self.secret.password(&name);
        let pass = TurnPass::new([self.public], name, password.as_str(), life);
        // It was checked at the start that the address can be sent to.
        let pass = pass.map_err(|_| Refused::Crowded)?;
        inner.issued.insert(asking, (to, pass.clone()));
        Ok(pass)
    }

    /// That asking is over.
    pub(crate) fn forget(&self, asking: &CallId) {
        self.lock().issued.remove(asking);
    }

    /// Who made a request, if it was made with credentials that hold.
    pub(super) fn authenticate(&self, message: &Message<'_>, from: Tuple) -> Option<User> {
        let (name, realm) = (message.text(USERNAME)?, message.text(REALM)?);
        let password = self.secret.password(name);
        let key = Zeroizing::new(turn::auth::generate_auth_key(name, realm, &password));
        if !message.is_made_with(&key) {
            return None;
        }
        let mut inner = self.lock();
        let now = clock::now();
        let has = inner.clients.get(&from).map(|client| client.user.clone());
        if self.shared
            && let Some((until, who)) = parts(name)
            && let Some(left) = until.checked_sub(clock::unix().as_millis() / 1000).filter(|left| *left > 0)
            && !matches!(inner.office.admits(now, name, false), Ok(User::Friend(_)))
        {
            // Refused, it is not admitted below.
            let _ = inner.office.grant(now, name, User::Named(who.to_owned()), Duration::from_secs(left));
        }
        let shown = inner.clients.get(&from).and_then(|client| client.shown.as_ref());
        let same = shown.is_some_and(|(shown, _)| shown == name);
        let user = match (inner.office.admits(now, name, has.is_some()), &has) {
            (Ok(user), _) => user.clone(),
            // Forgotten for newer ones of the same user.
            (Err(_), Some(owner)) if same && inner.office.is_vouched_for(now, owner) => owner.clone(),
            (Err(_), _) => return None,
        };
        // Nobody goes on with what is somebody else's.
        if has.is_some_and(|owner| owner != user) {
            return None;
        }
        if let Some(client) = inner.clients.get_mut(&from) {
            client.shown = Some((name.to_owned(), message.text(NONCE).unwrap_or_default().to_owned()));
        }
        Some(user)
    }

    /// The nonces that those show who have an allocation.
    pub(super) fn nonces(&self) -> BTreeSet<String> {
        let inner = self.lock();
        inner
            .clients
            .values()
            .filter_map(|client| client.shown.as_ref())
            .map(|(_, nonce)| nonce.clone())
            .collect()
    }

    /// A new allocation: the name of it, until it is [released](Self::release).
    pub(super) fn allocate(&self, client: Tuple, user: &User, port: u16) -> Result<u64, Refused> {
        let mut inner = self.lock();
        inner.office.allocate(clock::now(), user)?;
        inner.next += 1;
        let id = inner.next;
        inner.relays.insert(port);
        inner.clients.insert(client, Client { id, user: user.clone(), shown: None, peers: BTreeSet::new() });
        Ok(id)
    }

    pub(super) fn release(&self, client: Tuple, user: &User, id: u64, port: u16) {
        let mut inner = self.lock();
        inner.office.release(user);
        inner.relays.remove(&port);
        if inner.clients.get(&client).is_some_and(|c| c.id == id) {
            inner.clients.remove(&client);
        }
    }

    /// Whether somebody has an allocation.
    pub(super) fn is_client(&self, client: Tuple) -> bool {
        self.lock().clients.contains_key(&client)
    }

    /// Whether a client may send to these and hear them. From then on it does.
    pub(super) fn permit(&self, client: Tuple, peers: &[SocketAddr]) -> bool {
        if !peers.iter().all(|peer| self.may_be_peer(peer.ip())) {
            return false;
        }
        let mut inner = self.lock();
        let Some(client) = inner.clients.get_mut(&client) else { return false };
        let new =
            peers.iter().map(|p| p.ip()).filter(|ip| !client.peers.contains(ip)).collect::<BTreeSet<_>>();
        if client.peers.len() + new.len() > MAX_PEERS {
            return false;
        }
        client.peers.extend(new);
        true
    }

    /// An address of which at least some ports may be sent to.
    fn may_be_peer(&self, ip: IpAddr) -> bool {
        ip == self.public.ip() || self.allowed.contains(&ip) || check_target(ip, &self.own).is_ok()
    }

    /// Whether something goes to that place, or comes from it, through the allocation of this client. Of this machine only
    /// other allocations do: two people who both are relayed here meet so.
    fn passes(inner: &Inner, this: &Self, client: Tuple, id: u64, peer: SocketAddr) -> bool {
        let has_permission =
            inner.clients.get(&client).is_some_and(|c| c.id == id && c.peers.contains(&peer.ip()));
        let here = peer.ip() == this.public.ip() && inner.relays.contains(&peer.port());
        has_permission
            && (here || this.allowed.contains(&peer.ip()) || check_target(peer.ip(), &this.own).is_ok())
    }

    /// Whether so many bytes pass between a client and that place. Counts them if so.
    pub(super) fn relays(&self, (client, id): (Tuple, u64), peer: SocketAddr, bytes: usize) -> bool {
        let mut inner = self.lock();
        if !Self::passes(&inner, self, client, id, peer) {
            return false;
        }
        let user = inner.clients.get(&client).map(|c| c.user.clone());
        // What an empty datagram costs is its headers, and many of them fit into one segment of a stream.
        let headers = if peer.is_ipv4() { IP4_UDP } else { IP6_UDP };
        user.is_some_and(|user| inner.office.relays(clock::now(), &user, headers + bytes))
    }

    /// Where something for an address that others see really goes: straight to the other socket, if that is here. Behind a NAT
    /// that does not turn packets around nothing else would arrive.
    pub(super) fn inside(&self, seen: SocketAddr) -> SocketAddr {
        let here = seen.ip() == self.public.ip() && self.lock().relays.contains(&seen.port());
        if here { SocketAddr::new(self.inside_ip(), seen.port()) } else { seen }
    }

    /// The other way: how others see where something came from.
    pub(super) fn outside(&self, from: SocketAddr) -> SocketAddr {
        let here = (from.ip() == self.inside_ip() || self.own.contains(&from.ip()))
            && self.lock().relays.contains(&from.port());
        if here { self.relayed(from.port()) } else { from }
    }

    fn inside_ip(&self) -> IpAddr {
        match self.bind {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
            ip => ip,
        }
    }

    /// How others see a port that is relayed through.
    pub(super) fn relayed(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.public.ip(), port)
    }

    /// Clients of one transport whose allocations are over: nobody vouches for them any more, or they have used up what they may.
    pub(super) fn over(&self, transport: Transport) -> Vec<Tuple> {
        let (inner, now) = (self.lock(), clock::now());
        let of_it = inner.clients.iter().filter(|(tuple, _)| tuple.transport == transport);
        let over = of_it.filter(|(_, c)| inner.office.goes_on(now, &c.user).is_err());
        over.map(|(tuple, _)| *tuple).collect()
    }

    /// Whether somebody has an allocation, and goes on having it.
    pub(super) fn goes_on(&self, client: Tuple) -> Option<bool> {
        let (inner, now) = (self.lock(), clock::now());
        inner.clients.get(&client).map(|c| inner.office.goes_on(now, &c.user).is_ok())
    }

    /// Allocations, and bytes relayed since counting began.
    #[cfg(test)]
    pub(super) fn used(&self) -> (usize, u64) {
        self.lock().office.used()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AuthHandler for Desk {
    /// The request has been authenticated before; the server does it once more.
    fn auth_handle(&self, username: &str, realm: &str, _: SocketAddr) -> Result<Vec<u8>, turn::Error> {
        Ok(turn::auth::generate_auth_key(username, realm, &self.secret.password(username)))
    }
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Desk").finish_non_exhaustive()
    }
}
