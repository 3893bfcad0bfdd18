use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use crate::faults::Faults;

/// How connections are made. Built by [`Config::builder`]; `Config::default()` gathers on every address but loopback,
/// with no ICE server.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Config {
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) ice_servers: Vec<IceServer>,
    pub(crate) relay_only: bool,
    pub(crate) relays_follow: bool,
    pub(crate) redundancy: bool,
    pub(crate) timeouts: Timeouts,
    pub(crate) limits: Limits,
    pub(crate) faults: Option<Faults>,
}

impl Config {
    /// Starts from the defaults.
    pub fn builder() -> ConfigBuilder {
        ConfigBuilder::default()
    }

    /// Without any relay no connection could ever be made.
    pub(crate) fn needs_relay(&self) -> bool {
        self.relay_only && !self.relays_follow
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) links: usize,
    pub(crate) events: usize,
}

impl Default for Limits {
    fn default() -> Self {
        // 64: a full mesh of that size would need more than 6 Mbit/s upstream for speech alone.
        // 256: a connection makes about 20 events before it connects.
        Self { links: 64, events: 256 }
    }
}

/// How long each step of a connection may take, and how ICE probes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timeouts {
    /// Until both descriptions are set. 30 s: seven repetitions of a signal whose resending backs off to 4 s.
    pub negotiating: Duration,
    /// Until the servers have answered, or are given up. 10 s: four transmissions from 0.5 s doubling (RFC 8489 section
    /// 6.2.1). The engine itself waits for a dead TURN server for ever.
    pub gathering: Duration,
    /// How long a connection that was prepared with servers is kept. 10 s: some NATs forget a mapping that is not used after
    /// 30 s (RFC 4787 section 4.3 REQ-5 wants two minutes at least), and what is taken late may be an offer that waits for 20 s until
    /// somebody accepts. A TURN server keeps an allocation for 10 minutes (RFC 8656 section 3.2).
    pub prepared: Duration,
    /// Until one candidate pair works. 39.5 s: the patience that RFC 8863 section 3 asks of an agent.
    pub checking: Duration,
    /// Until the DTLS handshake is done. 15 s: four retransmissions from 1 s doubling (RFC 6347 section 4.2.4.1). The
    /// engine itself never gives up on a handshake, for instance when the certificate does not match.
    pub securing: Duration,
    /// Until a restart has found another path. 60 s: as long as a silent path is given.
    pub reconnecting: Duration,
    /// Until the engine has done what it is asked for. 10 s: measured below 10 ms, but it does nothing else while it looks
    /// up the name of a server, for which it is given 5 s.
    pub engine: Duration,
    /// Until the engine has let go of its sockets. 2 s: measured below 0.11 s; after it the connection is abandoned.
    pub closing: Duration,
    /// Without an answer for this long a path counts as disconnected. 1.5 s: three keepalives, measured.
    pub ice_disconnected: Duration,
    /// Disconnected for this long it counts as failed and never heals. 60 s: the window in which a call waits for a
    /// network change to end.
    pub ice_failed: Duration,
    /// Between two keepalives. 0.5 s: RFC 7675 allows 5 s, but losing a path would then be noticed after 15 s.
    pub ice_keepalive: Duration,
    /// Between two checks of a pair while connecting. 20 ms: measured, a third of the 50 ms pacing that RFC 8445
    /// section 14.2 gives for all pairs together brings the setup on one machine from 204 ms to 34 ms.
    pub ice_check_interval: Duration,
    /// Checks of a pair before it is given up. 500, which is 10 s at 20 ms: the controlling side never takes a given-up
    /// pair again, so this must outlast a lost candidate message that is sent again after a second or two.
    pub ice_check_attempts: u16,
    /// How long server-reflexive pairs wait for a better one. 100 ms, measured.
    pub srflx_wait: Duration,
    /// How long relayed pairs wait for a better one. 600 ms: behind two routers a straight pair is there 430 ms after the first check at a
    /// round trip of 100 ms (lab), since candidates are gathered and signalled while checks are under way; with 300 one call
    /// in eight on a busy machine was relayed for its whole life, as the choice is made once. None with `relay_only`.
    pub relay_wait: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            negotiating: Duration::from_secs(30),
            gathering: Duration::from_secs(10),
            prepared: Duration::from_secs(10),
            checking: Duration::from_millis(39_500),
            securing: Duration::from_secs(15),
            reconnecting: Duration::from_secs(60),
            engine: Duration::from_secs(10),
            closing: Duration::from_secs(2),
            ice_disconnected: Duration::from_millis(1_500),
            ice_failed: Duration::from_secs(60),
            ice_keepalive: Duration::from_millis(500),
            ice_check_interval: Duration::from_millis(20),
            ice_check_attempts: 500,
            srflx_wait: Duration::from_millis(100),
            relay_wait: Duration::from_millis(600),
        }
    }
}

/// A STUN or TURN server. `Debug` shows no credential.
#[derive(Clone, PartialEq, Eq)]
pub struct IceServer {
    pub(crate) url: String,
    pub(crate) username: String,
    pub(crate) credential: String,
    roots: Vec<Vec<u8>>,
}

/// Where a server is, and how it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) transport: Transport,
    pub(crate) turn: bool,
    /// Certificates that it may be signed by, beside those of the public authorities.
    pub(crate) roots: Vec<Vec<u8>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp,
    Tcp,
    Tls,
}

/// The most servers of a connection. Each is asked from each address of this machine, and each answer is a candidate.
pub const MAX_ICE_SERVERS: usize = 16;

/// RFC 8489 section 8.6 and RFC 8656 section 5.
const PORT: u16 = 3478;
const TLS_PORT: u16 = 5349;

impl IceServer {
    /// A STUN server over UDP: `stun:host` or `stun:host:port` (3478 if absent).
    pub fn stun(url: impl Into<String>) -> Self {
        Self::new(url.into(), String::new(), String::new())
    }

    /// A TURN server: `turn:host[:port]` over UDP, the same with `?transport=tcp` over TCP (3478 if absent), or
    /// `turns:host[:port]` over TLS (5349 if absent).
    pub fn turn(url: impl Into<String>, username: impl Into<String>, credential: impl Into<String>) -> Self {
        Self::new(url.into(), username.into(), credential.into())
    }

    fn new(url: String, username: String, credential: String) -> Self {
        Self { url, username, credential, roots: Vec::new() }
    }

    /// Trusts this certificate (DER) for the TLS of this server, beside those of the public authorities: for a server of
    /// one's own.
    pub fn with_root(mut self, certificate: Vec<u8>) -> Self {
        self.roots.push(certificate);
        self
    }

    /// Where it is: the URL that it was made of. Without what it is used with.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Whether it relays (TURN), and does not only tell how others see this machine (STUN).
    pub fn is_turn(&self) -> bool {
        self.target().is_some_and(|target| target.turn)
    }

    /// `None` if the URL is none that can be used.
    pub(crate) fn target(&self) -> Option<Target> {
        let (scheme, rest) = self.url.split_once(':')?;
        let (address, query) =
            rest.split_once('?').map_or((rest, None), |(address, query)| (address, Some(query)));
        let (turn, transport) = match (scheme, query) {
            ("stun", None) => (false, Transport::Udp),
            ("turn", None | Some("transport=udp")) => (true, Transport::Udp),
            ("turn", Some("transport=tcp")) => (true, Transport::Tcp),
            ("turns", None | Some("transport=tcp")) => (true, Transport::Tls),
            _ => return None,
        };
        let (host, port) = match address.strip_prefix('[') {
            Some(literal) => {
                let (host, port) = literal.split_once(']')?;
                (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
            }
            None => address.split_once(':').map_or((address, None), |(host, port)| (host, Some(port))),
        };
        if host.is_empty() || host.contains(['/', '@', ' ']) {
            return None;
        }
        let port = match port {
            Some(port) => port.parse().ok().filter(|port| *port != 0)?,
            None if transport == Transport::Tls => TLS_PORT,
            None => PORT,
        };
        Some(Target { host: host.to_owned(), port, transport, turn, roots: self.roots.clone() })
    }
}

impl fmt::Debug for IceServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IceServer").field("url", &self.url).finish_non_exhaustive()
    }
}

/// A configuration that cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// No URL of a server that can be used.
    #[error(
        "ICE server `{url}` is not usable: give `stun:host[:port]`, `turn:host[:port][?transport=tcp]` or `turns:host[:port]`"
    )]
    IceServer {
        /// The URL as given.
        url: String,
    },
    /// More servers than are of any use.
    #[error("more than {limit} ICE servers: give fewer")]
    TooManyServers {
        /// How many may be given.
        limit: usize,
    },
    /// A TURN server without a user name or credential.
    #[error("TURN server `{url}` needs a user name and a credential")]
    Credential {
        /// The URL as given.
        url: String,
    },
    /// `relay_only` without any TURN server.
    #[error("`relay_only` needs at least one TURN server: no connection could ever be made")]
    NoRelay,
    /// A duration or a limit that is zero.
    #[error("`{what}` must not be zero")]
    Zero {
        /// The name of the setting.
        what: &'static str,
    },
    /// An unspecified or multicast address to gather on.
    #[error("{address} cannot be gathered on: give addresses of this machine, or none for all of them")]
    Address {
        /// The address as given.
        address: IpAddr,
    },
}

/// Builds a [`Config`].
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct ConfigBuilder {
    config: Config,
}

impl ConfigBuilder {
    /// The addresses to gather host candidates on; none (the default) means every address of this machine except
    /// loopback and link-local ones. Loopback is used only if it is named here.
    pub fn addresses(mut self, addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        self.config.addresses = addresses.into_iter().collect();
        self
    }

    /// Adds a STUN or TURN server. There is none by default.
    pub fn ice_server(mut self, server: IceServer) -> Self {
        self.config.ice_servers.push(server);
        self
    }

    /// Uses and shows relayed candidates only, so that the peer never learns an address of this machine.
    pub fn relay_only(mut self, relay_only: bool) -> Self {
        self.config.relay_only = relay_only;
        self
    }

    /// With [`relay_only`](Self::relay_only): TURN servers come later, with [`Peers::set_ice_servers`](crate::Peers::set_ice_servers).
    /// Until then, and whenever there is none, connections find no candidates and fail.
    pub fn relays_follow(mut self, relays_follow: bool) -> Self {
        self.config.relays_follow = relays_follow;
        self
    }

    /// Whether redundant sound (RED, RFC 2198, payload type 63) is offered and accepted. Off by default: with it on, a peer may
    /// send it, and a reader that does not look at [`Packet::kind`](crate::Packet) would take it for Opus. What is sent is
    /// decided by what is written ([`LocalTrack::write_redundant`](crate::LocalTrack::write_redundant)).
    pub fn redundancy(mut self, redundancy: bool) -> Self {
        self.config.redundancy = redundancy;
        self
    }

    /// How long each step may take.
    pub fn timeouts(mut self, timeouts: Timeouts) -> Self {
        self.config.timeouts = timeouts;
        self
    }

    /// How many connections may exist, counting those that still close. 64 by default; further ones are refused with
    /// [`Error::TooManyLinks`](crate::Error::TooManyLinks).
    pub fn max_links(mut self, links: usize) -> Self {
        self.config.limits.links = links;
        self
    }

    /// How many events may wait for a reader. 256 by default; when full, connections wait, and one whose engine then
    /// reports more than it can hold fails as overloaded.
    pub fn event_capacity(mut self, events: usize) -> Self {
        self.config.limits.events = events;
        self
    }

    /// For tests: the network that connections meet has these faults.
    #[doc(hidden)]
    pub fn faults(mut self, faults: Faults) -> Self {
        self.config.faults = Some(faults);
        self
    }

    /// Checks everything and returns the configuration.
    ///
    /// # Errors
    /// [`ConfigError`] names the setting that cannot work.
    pub fn build(self) -> Result<Config, ConfigError> {
        let config = self.config;
        for address in &config.addresses {
            if address.is_unspecified() || address.is_multicast() {
                return Err(ConfigError::Address { address: *address });
            }
        }
        check_servers(&config.ice_servers, config.needs_relay())?;
        let t = &config.timeouts;
        for (what, duration) in [
            ("negotiating", t.negotiating),
            ("gathering", t.gathering),
            ("prepared", t.prepared),
            ("checking", t.checking),
            ("securing", t.securing),
            ("reconnecting", t.reconnecting),
            ("engine", t.engine),
            ("closing", t.closing),
            ("ice_disconnected", t.ice_disconnected),
            ("ice_failed", t.ice_failed),
            ("ice_keepalive", t.ice_keepalive),
            ("ice_check_interval", t.ice_check_interval),
        ] {
            if duration.is_zero() {
                return Err(ConfigError::Zero { what });
            }
        }
        for (what, number) in [
            ("ice_check_attempts", usize::from(t.ice_check_attempts)),
            ("max_links", config.limits.links),
            ("event_capacity", config.limits.events),
        ] {
            if number == 0 {
                return Err(ConfigError::Zero { what });
            }
        }
        Ok(config)
    }
}

pub(crate) fn check_servers(servers: &[IceServer], relay_only: bool) -> Result<(), ConfigError> {
    for server in servers {
        let target = server.target().ok_or_else(|| ConfigError::IceServer { url: server.url.clone() })?;
        if target.turn && (server.username.is_empty() || server.credential.is_empty()) {
            return Err(ConfigError::Credential { url: server.url.clone() });
        }
    }
    if servers.len() > MAX_ICE_SERVERS {
        return Err(ConfigError::TooManyServers { limit: MAX_ICE_SERVERS });
    }
    if relay_only && !servers.iter().any(IceServer::is_turn) {
        return Err(ConfigError::NoRelay);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_that_the_engine_would_skip_are_refused() {
        for url in [
            "stuns:host",
            "turns:host?transport=udp",
            "turn:host?transport=sctp",
            "host:3478",
            "stun:",
            "stun:h?transport=udp",
            "turn:host:0",
            "turn:host:port",
            "turn:user@host",
            "turn:[::1",
        ] {
            let server = IceServer::turn(url, "user", "secret");
            let result = Config::builder().ice_server(server).build();
            assert_eq!(result.err(), Some(ConfigError::IceServer { url: url.to_owned() }), "{url}");
        }
        for (url, host, port, transport) in [
            ("turn:host", "host", 3478, Transport::Udp),
            ("turn:host:9?transport=udp", "host", 9, Transport::Udp),
            ("turn:[2001:db8::1]:9?transport=tcp", "2001:db8::1", 9, Transport::Tcp),
            ("turns:host", "host", 5349, Transport::Tls),
            ("turns:[::1]", "::1", 5349, Transport::Tls),
        ] {
            let target = IceServer::turn(url, "user", "secret").target().expect(url);
            assert_eq!((&*target.host, target.port, target.transport), (host, port, transport), "{url}");
        }
        let ok = Config::builder()
            .ice_server(IceServer::stun("stun:host"))
            .ice_server(IceServer::turn("turn:host:1?transport=udp", "user", "secret"))
            .relay_only(true)
            .build();
        assert!(ok.is_ok());
    }

    #[test]
    fn a_configuration_that_can_never_connect_is_refused() {
        let stun_only = Config::builder().ice_server(IceServer::stun("stun:host")).relay_only(true).build();
        assert_eq!(stun_only.err(), Some(ConfigError::NoRelay));
        let open = Config::builder().ice_server(IceServer::turn("turn:host", "", "")).build();
        assert!(matches!(open, Err(ConfigError::Credential { .. })));
        let any = Config::builder().addresses([IpAddr::from([0, 0, 0, 0])]).build();
        assert!(matches!(any, Err(ConfigError::Address { .. })));
        let zero =
            Config::builder().timeouts(Timeouts { securing: Duration::ZERO, ..Timeouts::default() }).build();
        assert_eq!(zero.err(), Some(ConfigError::Zero { what: "securing" }));
    }

    #[test]
    fn debug_shows_no_credential() {
        let config = Config::builder().ice_server(IceServer::turn("turn:host", "user", "hunter2")).build();
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}
