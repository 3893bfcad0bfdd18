//! A node of our own.

use std::{net::IpAddr, time::Duration};

use futures::future::BoxFuture;
use rust_ipfs::{Ipfs, Keypair, Multiaddr, Protocol, builder::IpfsBuilder, p2p::IdentifyConfiguration};
use tokio::time::timeout;

use super::{
    AddressError, BlinkBehaviour, NodeAddress, NodeFinding, RelayLimits,
    address::{chain, is_loopback, is_relayed, parse, peer_of},
    gossip::{AttachError, CONNECT, IpfsGossip, STALLED},
    through::{Routes, Serve},
};
use crate::{id::NodeKey, reach::MAX_RELAYS};

/// How a node of our own is set up. By itself it contacts nobody: no bootstrap, no mDNS, no port
/// mapping; others who connect may ask it where people are ([`NodeFinding`]).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NodeConfig {
    key: NodeKey,
    listen: Vec<String>,
    /// Nobody has said where: what this machine does not have is left out.
    anywhere: bool,
    connect_timeout: Duration,
    max_peers: u32,
    finding: NodeFinding,
    relays: Vec<String>,
    relay_only: bool,
    hole_punching: bool,
    port_mapping: bool,
    dial_back: bool,
    serve: Option<(RelayLimits, Vec<String>)>,
}

/// Where a node listens that nobody has told where.
const EVERYWHERE: [&str; 4] =
    ["/ip4/0.0.0.0/tcp/0", "/ip4/0.0.0.0/udp/0/quic-v1", "/ip6/::/tcp/0", "/ip6/::/udp/0/quic-v1"];

/// A node that did not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// The node key is none.
    #[error("the node key cannot be used: {0}")]
    Key(String),
    /// The node does not listen there.
    #[error("cannot listen on {address}: {cause}")]
    Listen {
        /// The address.
        address: String,
        /// Why not.
        cause: String,
    },
    /// That is no relay.
    #[error("cannot use {address} as a relay: {cause}")]
    Relay {
        /// The address.
        address: String,
        /// Why not.
        cause: String,
    },
    /// The node itself did not come up.
    #[error("the node did not start: {0}")]
    Start(String),
}

impl NodeConfig {
    /// A node with this key that listens on TCP and QUIC on every network, IPv4 and IPv6 as far as this machine has them, on ports
    /// that the system chooses.
    pub fn new(key: NodeKey) -> Self {
        Self {
            key,
            listen: EVERYWHERE.map(Into::into).into(),
            anywhere: true,
            connect_timeout: CONNECT,
            max_peers: 128,
            finding: NodeFinding::default(),
            relays: Vec::new(),
            relay_only: false,
            hole_punching: true,
            port_mapping: false,
            dial_back: true,
            serve: None,
        }
    }

    /// Listens on these addresses instead, such as `/ip4/127.0.0.1/tcp/0`. Empty: the node calls others, and nobody
    /// reaches it.
    #[must_use]
    pub fn with_listen(mut self, listen: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.listen = listen.into_iter().map(Into::into).collect();
        self.anywhere = false;
        self
    }

    /// How long one connection may take to open. Default 10 s: what libp2p gives its handshake.
    #[must_use]
    pub fn with_connect_timeout(mut self, connect_timeout: Duration) -> Self {
        self.connect_timeout = connect_timeout;
        self
    }

    /// The most connections at a time, at least 1. More are refused. Default 128: strangers may connect, and each
    /// connection costs about 100 kB.
    #[must_use]
    pub fn with_max_peers(mut self, max_peers: u32) -> Self {
        self.max_peers = max_peers.max(1);
        self
    }

    /// How it finds others and is found. Default: it answers others, and asks nobody.
    #[must_use]
    pub fn with_finding(mut self, finding: NodeFinding) -> Self {
        self.finding = finding;
        self
    }

    /// Has these relays keep a place for this node, such as `/dns4/relay.example.org/tcp/4001/p2p/12D3KooW...`, so that others reach
    /// it there; at most 8. The relays see its address, who calls, and when. Default: none by name; the bootstrap nodes of
    /// [`with_finding`](Self::with_finding) are asked, as long as nobody reaches this node straight.
    #[must_use]
    pub fn with_relays(mut self, relays: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.relays = relays.into_iter().map(Into::into).collect();
        self
    }

    /// Shows no address of this machine to anybody but the relays and bootstrap nodes that are named here: it listens nowhere,
    /// dials nothing else, maps no port and punches no holes. Who can only be reached through another relay is not reached.
    /// Default: false.
    #[must_use]
    pub fn with_relay_only(mut self, relay_only: bool) -> Self {
        self.relay_only = relay_only;
        self
    }

    /// Whether the two ends of a connection through a relay may try to get straight to each other (DCUtR): they tell each other
    /// their addresses for it. Default: true, since nodes that are connected know each other's addresses anyway.
    #[must_use]
    pub fn with_hole_punching(mut self, hole_punching: bool) -> Self {
        self.hole_punching = hole_punching;
        self
    }

    /// Whether the router is asked to let others in (UPnP): everybody in the local network can see that, and from the internet anybody
    /// can then knock at this node's port. Default: false.
    #[must_use]
    pub fn with_port_mapping(mut self, port_mapping: bool) -> Self {
        self.port_mapping = port_mapping;
        self
    }

    /// Whether the relays and bootstrap nodes are asked to dial back, to find out whether others reach this node straight (AutoNAT
    /// version 2). They learn nothing that they do not know. Default: true.
    #[must_use]
    pub fn with_dial_back(mut self, dial_back: bool) -> Self {
        self.dial_back = dial_back;
        self
    }

    /// Is a relay for everybody, within these limits, and also tells these addresses as its own (for a port that a router forwards).
    pub(super) fn serving(mut self, limits: RelayLimits, announce: Vec<String>) -> Self {
        self.serve = Some((limits, announce));
        self
    }

    /// By which ways others reach it.
    fn routes(&self) -> Result<Routes, NodeError> {
        let refused = |address: &str, cause: String| NodeError::Relay { address: address.to_owned(), cause };
        if self.relays.len() > MAX_RELAYS {
            let last = self.relays.last().map(String::as_str).unwrap_or_default();
            return Err(refused(last, format!("{MAX_RELAYS} relays are the most")));
        }
        let mut relays = Vec::new();
        for text in &self.relays {
            let relay: NodeAddress = text.parse().map_err(|e: AddressError| refused(text, e.to_string()))?;
            if is_relayed(relay.address()) {
                return Err(refused(text, "it is itself behind a relay".to_owned()));
            }
            let Some(peer) = peer_of(&relay.node()) else { continue };
            relays.push((peer, relay.address().clone()));
        }
        let serve = match &self.serve {
            None => None,
            Some((limits, announce)) => {
                let parsed = |text: &String| parse(text).map_err(|cause| refused(text, cause));
                let listens = |text: &String| parse(text).is_ok_and(|address| is_loopback(&address));
                Some(Serve {
                    limits: limits.clone(),
                    announce: announce.iter().map(parsed).collect::<Result<_, _>>()?,
                    loopback: self.listen.iter().any(listens),
                })
            }
        };
        Ok(Routes {
            relays,
            offered: self.finding.bootstrap.iter().filter_map(peer_of).collect(),
            relay_only: self.relay_only,
            hole_punching: self.hole_punching,
            port_mapping: self.port_mapping,
            dial_back: self.dial_back,
            serve,
        })
    }

    /// Starts the node, in the present tokio runtime. It listens when this returns.
    ///
    /// # Errors
    /// [`NodeError`]; nothing is left running then.
    // Boxed, so that the node (a minute of compile time) is built with this crate only.
    pub fn start(self) -> BoxFuture<'static, Result<IpfsGossip, NodeError>> {
        Box::pin(self.build())
    }

    async fn build(mut self) -> Result<IpfsGossip, NodeError> {
        if self.relay_only {
            // Whoever connected there would see the address.
            self.listen.clear();
            (self.finding.relay_only, self.finding.mdns) = (true, false);
        }
        let routes = self.routes()?;
        let mut listen = Vec::new();
        for address in &self.listen {
            let parsed = parse(address).map_err(|cause| NodeError::Listen {
                address: address.clone(),
                cause: format!("no address: {cause}"),
            })?;
            free(&parsed).map_err(|cause| NodeError::Listen { address: address.clone(), cause })?;
            listen.push(parsed);
        }
        let (behaviour, link) = BlinkBehaviour::new();
        let keypair = keypair(&self.key)?;
        let behaviour = behaviour
            .with_finding(&keypair, &self.finding)
            .map_err(|error| NodeError::Start(format!("mDNS: {error}")))?
            .with_routes(&keypair, routes);
        let ipfs = run(keypair, behaviour, self.max_peers).await?;
        let gossip = match IpfsGossip::join(
            ipfs.clone(),
            link,
            true,
            !listen.is_empty(),
            self.connect_timeout,
        )
        .await
        {
            Ok(gossip) => gossip,
            Err(error @ (AttachError::Foreign | AttachError::Stalled { .. })) => {
                ipfs.exit_daemon().await;
                return Err(NodeError::Start(error.to_string()));
            }
        };
        let mut listens = 0;
        let all = listen.len();
        // Listening at build time would only log what fails.
        for (at, (address, text)) in listen.into_iter().zip(self.listen).enumerate() {
            let failed = match timeout(STALLED, ipfs.add_listening_address(address)).await {
                Ok(Ok(_)) => {
                    listens += 1;
                    continue;
                }
                Ok(Err(error)) => chain(error.as_ref()),
                Err(_) => format!("no answer within {STALLED:?}"),
            };
            if self.anywhere && (listens > 0 || at + 1 < all) {
                // A machine without one of the two families of addresses is still one.
                tracing::debug!(address = text, %failed, "the node does not listen there");
                continue;
            }
            crate::ports::gossip::Gossip::shutdown(&gossip).await;
            return Err(NodeError::Listen { address: text, cause: failed });
        }
        gossip.begin().await;
        Ok(gossip)
    }
}

/// Whether a given TCP port is free. libp2p shares its ports (SO_REUSEPORT), so a second node on one port would come up
/// and take half of the first one's connections.
fn free(address: &Multiaddr) -> Result<(), String> {
    let mut parts = address.iter();
    let ip: IpAddr = match parts.next() {
        Some(Protocol::Ip4(ip)) => ip.into(),
        Some(Protocol::Ip6(ip)) => ip.into(),
        _ => return Ok(()),
    };
    match parts.next() {
        Some(Protocol::Tcp(port)) if port != 0 => {
            std::net::TcpListener::bind((ip, port)).map(drop).map_err(|error| error.to_string())
        }
        _ => Ok(()),
    }
}

/// Starts the node. Its builder holds closures that must stay on one thread, and nobody who awaits a phone should have to.
async fn run(keypair: Keypair, behaviour: BlinkBehaviour, max_peers: u32) -> Result<Ipfs, NodeError> {
    let runtime = tokio::runtime::Handle::current();
    let started = tokio::task::spawn_blocking(move || {
        let builder = IpfsBuilder::<BlinkBehaviour>::with_keypair(keypair)
            .map_err(|error| NodeError::Key(error.to_string()))?
            .with_identify(IdentifyConfiguration {
                protocol_version: "/warp-blink/1".into(),
                agent_version: concat!("warp-blink/", env!("CARGO_PKG_VERSION")).into(),
                ..IdentifyConfiguration::default()
            })
            // To come through relays at all. Asking for places there, and holes, are ours (`through`).
            .with_relay(false)
            .enable_tcp()
            .enable_quic_with_config(|mut quic| {
                // The plain `enable_quic` would drop a connection after 300 ms of silence. 30 s outlasts a handover
                // between networks; a sign of life every 5 s keeps the mappings of NATs (RFC 4787: 2 minutes).
                quic.max_idle_timeout = 30_000;
                quic.keep_alive_interval = Duration::from_secs(5);
                quic
            })
            .set_connection_limits(move |limits| {
                limits
                    .with_max_established(Some(max_peers))
                    .with_max_established_per_peer(Some(4))
                    // As many as come back at once to a relay that has started anew.
                    .with_max_pending_incoming(Some(64.max(max_peers / 2)))
            })
            // The stream of gossip keeps a connection by itself; this is the time until it is open.
            .set_idle_connection_timeout(60)
            .with_custom_behaviour(move |_| Ok(behaviour));
        runtime.block_on(builder.start()).map_err(|error| NodeError::Start(format!("{error:#}")))
    });
    started.await.map_err(|error| NodeError::Start(error.to_string()))?
}

fn keypair(key: &NodeKey) -> Result<Keypair, NodeError> {
    // It overwrites the copy that it is given.
    let mut seed = *key.expose_seed();
    Keypair::ed25519_from_bytes(&mut seed).map_err(|error| NodeError::Key(error.to_string()))
}
