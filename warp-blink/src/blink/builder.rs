//! How a phone is put together.

use std::{net::IpAddr, sync::Arc};

use futures::future::BoxFuture;
use rust_ipfs::Ipfs;
use simple_webrtc::{Faults, IceServer};

use super::{
    Blink,
    outside::{Change, Memory, Outside},
    real::real_media,
};
use crate::{
    config::{Admission, Config},
    driver::{
        core::{self, Parts},
        diary::Recording,
        door::{Ask, Caller},
        media::Audio,
        node::{AddressError, IpfsGossip, NodeAddress, NodeConfig, NodeFinding, NodeLink, RelayConfig},
        store::SealedStore,
        turn::{Friends, TurnConfig, TurnServer},
    },
    error::Error,
    id::{Identity, NodeId, NodeKey, PublicKey},
    ports::{gossip::Gossip, media::Media, store::Store},
    reach::{Address, FindConfig, Place},
};

enum Carrier {
    Own,
    App(Box<Ipfs>, NodeLink),
    Relay(Box<RelayConfig>),
    Memory(Memory),
}

/// Puts a phone together; see [`Blink::builder`].
#[must_use = "a builder does nothing until it is spawned"]
pub struct Builder {
    identity: Identity,
    node_key: Option<NodeKey>,
    audio: Audio,
    config: Config,
    listen: Vec<String>,
    peers: Vec<String>,
    bootstrap: Vec<String>,
    mdns: bool,
    dht: bool,
    public_dht: bool,
    publish: bool,
    ice: Vec<IpAddr>,
    servers: Vec<IceServer>,
    turn: Option<TurnConfig>,
    friends: Vec<PublicKey>,
    relayed_media: bool,
    relays: Vec<String>,
    relay_only: bool,
    hole_punching: bool,
    port_mapping: bool,
    dial_back: bool,
    carrier: Carrier,
    store: Option<Arc<dyn Store>>,
    contacts: Vec<PublicKey>,
    keep_contacts: bool,
    blocked: Vec<PublicKey>,
    ask: Option<Ask>,
    lossy: bool,
    faults: Option<Faults>,
    outside: Option<Change>,
    recording: Option<Recording>,
    #[cfg(test)]
    tap: crate::driver::hoard::Tap,
}

impl Builder {
    pub(super) fn new(identity: Identity) -> Self {
        Self {
            identity,
            node_key: None,
            audio: Audio::devices(),
            config: Config::default(),
            listen: Vec::new(),
            peers: Vec::new(),
            bootstrap: Vec::new(),
            mdns: false,
            dht: true,
            public_dht: false,
            publish: true,
            ice: Vec::new(),
            servers: Vec::new(),
            turn: None,
            friends: Vec::new(),
            relayed_media: false,
            relays: Vec::new(),
            relay_only: false,
            hole_punching: true,
            port_mapping: false,
            dial_back: true,
            carrier: Carrier::Own,
            store: None,
            contacts: Vec::new(),
            keep_contacts: false,
            blocked: Vec::new(),
            ask: None,
            lossy: false,
            faults: None,
            outside: None,
            recording: None,
            #[cfg(test)]
            tap: Default::default(),
        }
    }

    /// Records everything that the call machine is told and says, scrubbed of who, what and where
    /// ([`proto::journal`](crate::proto::journal) says what is left), as JSON lines: a bug report that can be replayed
    /// ([`Journal::replay`](crate::proto::journal::Journal::replay)). At most `limit_bytes`; a call of a minute takes about
    /// a quarter of a megabyte. Written by a thread of its own; what cannot be written is logged, and calls go on.
    pub fn journal(mut self, to: impl std::io::Write + Send + 'static, limit_bytes: usize) -> Self {
        self.recording = Some(Recording { to: Box::new(to), limit_bytes });
        self
    }

    /// Microphone and speaker. Default: those of the system.
    pub fn media(mut self, audio: Audio) -> Self {
        self.audio = audio;
        self
    }

    /// The call machine's settings.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        if self.ask.is_some() {
            self.config.admission = Admission::Ask;
        }
        self
    }

    /// Listens here too, such as `/ip4/0.0.0.0/tcp/4001`. Default: every IPv4 and IPv6
    /// interface, TCP and QUIC, on ports that the system chooses. For the own node only.
    pub fn listen(mut self, address: impl Into<String>) -> Self {
        self.listen.push(address.into());
        self
    }

    /// Connects to this node at the start, such as `/ip4/192.0.2.1/tcp/4001/p2p/12D3KooW…`, and remembers where it is.
    pub fn peer(mut self, address: impl Into<String>) -> Self {
        self.peers.push(address.into());
        self
    }

    /// Finds people through this node, such as `/ip4/192.0.2.1/tcp/4001/p2p/12D3KooW…` (repeat for several): any node of
    /// warp-blink that is up. Then a public key is enough to call somebody who does the same and has an address that others reach, if
    /// only behind a relay ([`relay`](Self::relay)), and this node can be found by those who know the own key. The connection is kept, and made again when it is lost. Default: none, and then nobody is asked.
    ///
    /// What others learn: this node, and those that it leads to, who looks for whom, and where both are. The addresses of
    /// this node are told to whoever knows the own key, unless [`publish`](Self::publish) is off. At a bootstrap node in the
    /// same house, or on the same machine, addresses of that house, or machine, are told as well.
    pub fn bootstrap(mut self, address: impl Into<String>) -> Self {
        self.bootstrap.push(address.into());
        self
    }

    /// Finds people on the local network, and is found there, without any address (mDNS). Default off: everybody in that
    /// network learns that this node is there. For the own node only.
    pub fn mdns(mut self, mdns: bool) -> Self {
        self.mdns = mdns;
        self
    }

    /// Takes part in the distributed table of warp-blink: asks [bootstrap](Self::bootstrap) nodes and those that they lead
    /// to, and answers others. Default on; without a bootstrap node it answers only, so that others can use this node as theirs.
    /// For the own node only.
    pub fn dht(mut self, dht: bool) -> Self {
        self.dht = dht;
        self
    }

    /// Looks for nodes in the table of the public IPFS network too, through those [bootstrap](Self::bootstrap) nodes that
    /// belong to it. Nothing is stored there, and people whose node has another key than they have are not found there. Default
    /// off: strangers there learn whom this node looks for, and where it is. For the own node only.
    pub fn public_dht(mut self, public_dht: bool) -> Self {
        self.public_dht = public_dht;
        self
    }

    /// Tells where this node is, in a signed record under the own key, to the nodes through which others are found, and
    /// answers others who look for somebody. Default on; without a bootstrap node there is nobody to tell. Off, this node finds
    /// others and is found by nobody, but for those who know its address, and on the local network with [`mdns`](Self::mdns).
    pub fn publish(mut self, publish: bool) -> Self {
        self.publish = publish;
        self
    }

    /// Media goes over this local address only (repeat for several). Default: all but loopback.
    pub fn ice_address(mut self, address: IpAddr) -> Self {
        self.ice.push(address);
        self
    }

    /// A STUN or TURN server, which finds a way between two networks that let nobody in (repeat for several). Default: none; no
    /// company's server is asked anything unless an app names it here. One that is of no use is told of as
    /// [`Warning::ServerFailed`](crate::event::Warning::ServerFailed), and others go on being used.
    pub fn ice_server(mut self, server: IceServer) -> Self {
        self.servers.push(server);
        self
    }

    /// This friend may relay our calls: while there is a call, it is asked for a place on its TURN server
    /// ([`turn_for_friends`](Self::turn_for_friends) there), and asked anew every five minutes as long as the call lives. Repeat for
    /// several; four are asked. The friend learns that we are in a call, our address and the one of the other end, when the two talk
    /// and how much, and nothing of what they say. Default: nobody.
    pub fn turn_friend(mut self, friend: PublicKey) -> Self {
        self.friends.push(friend);
        self
    }

    /// Relays calls of those whom [`Config::turn_for`](crate::config::Config::turn_for) names, with a TURN server of our own, for
    /// as long as this phone runs: for people behind NATs that let nothing in, who can reach this machine. They are given
    /// credentials of ten minutes each, and so much as [`TurnConfig::limits`] says. Default: nothing listens.
    pub fn turn_for_friends(mut self, config: TurnConfig) -> Self {
        self.turn = Some(config);
        self
    }

    /// For tests: sound goes through TURN servers only, as under `relay_only`, and signals as they may.
    #[doc(hidden)]
    pub fn relayed_media(mut self) -> Self {
        self.relayed_media = true;
        self
    }

    /// A relay that keeps a place for this phone, so that others reach it there, such as
    /// `/dns4/relay.example.org/tcp/4001/p2p/12D3KooW…` (repeat for several; 8 at most). Anybody can run one: see
    /// [`RelayConfig`](crate::RelayConfig). It carries signals only, and sees who is called from where, and when. For the own node only.
    pub fn relay(mut self, address: impl Into<String>) -> Self {
        self.relays.push(address.into());
        self
    }

    /// Shows no address of this machine to those who are called or call: signals go through relays that are named with
    /// [`relay`](Self::relay) (and bootstrap nodes), sound through TURN servers that are named with [`ice_server`](Self::ice_server)
    /// or are those of [friends](Self::turn_friend);
    /// without either, calls fail. This phone listens nowhere, dials nothing else, and asks no router. Those relays and servers see
    /// its address. Default: false. For the own node only.
    pub fn relay_only(mut self, relay_only: bool) -> Self {
        self.relay_only = relay_only;
        self
    }

    /// Whether the signals of two who are connected through a relay may find a straight way (DCUtR, "hole punching"), for which both tell
    /// each other their addresses. Default: true; never under [`relay_only`](Self::relay_only). For the own node only.
    pub fn hole_punching(mut self, hole_punching: bool) -> Self {
        self.hole_punching = hole_punching;
        self
    }

    /// Whether the router is asked for a port at which everybody reaches this phone (UPnP). It is seen in the local network. Default:
    /// false; never under [`relay_only`](Self::relay_only). For the own node only.
    pub fn port_mapping(mut self, port_mapping: bool) -> Self {
        self.port_mapping = port_mapping;
        self
    }

    /// Whether relays and bootstrap nodes are asked to dial back, so that [`NodeState`](crate::event::NodeState) says whether everybody
    /// reaches this phone (AutoNAT). They learn nothing that they do not know. Default: true; never under
    /// [`relay_only`](Self::relay_only). For the own node only.
    pub fn dial_back(mut self, dial_back: bool) -> Self {
        self.dial_back = dial_back;
        self
    }

    /// The own node's libp2p key. Default: the identity's. A second device of one identity needs another one, since
    /// two nodes with one PeerId cannot coexist.
    pub fn node_key(mut self, key: NodeKey) -> Self {
        self.node_key = Some(key);
        self
    }

    /// Uses the app's own rust-ipfs node, which carries [`BlinkBehaviour`](crate::BlinkBehaviour) in its custom slot;
    /// `link` is what came with that behaviour. The node stays the app's: it is not stopped.
    pub fn node(mut self, ipfs: Ipfs, link: NodeLink) -> Self {
        self.carrier = Carrier::App(Box::new(ipfs), link);
        self
    }

    /// The own node is this relay for everybody as well, as [`RelayNode`](crate::RelayNode) is: one machine that others reach relays
    /// their signals and, with [`turn_for_friends`](Self::turn_for_friends), the sound of friends. Its key, addresses and finding
    /// are those of the relay; what is said here of the own node has no effect then.
    pub fn relay_node(mut self, relay: RelayConfig) -> Self {
        self.carrier = Carrier::Relay(Box::new(relay));
        self
    }

    /// The people that the user knows. Their calls come over a lane of their own, ring one round trip earlier and, with
    /// [`PreConnect::Contacts`](crate::config::PreConnect), connect while the phone rings. The list is the app's to keep;
    /// [`Blink::add_contact`] changes it later.
    pub fn contacts(mut self, contacts: impl IntoIterator<Item = PublicKey>) -> Self {
        self.contacts.extend(contacts);
        self
    }

    /// Keeps the connections with contacts, up to 128 of them: a call to them begins at once, and the notice of a call that they missed
    /// is delivered when they are there again. They are dialed where they were last, as far as that is known, eight at a time, and again
    /// about every 5 minutes; nobody is asked for them. Default off: contacts learn by it when this node is up, and where.
    pub fn keep_contacts(mut self, keep: bool) -> Self {
        self.keep_contacts = keep;
        self
    }

    /// Keys whose calls never ring. The list is the app's to keep. Somebody who was a contact until now is blocked with
    /// [`Blink::block`], which also takes the contact token from them.
    pub fn blocked(mut self, blocked: impl IntoIterator<Item = PublicKey>) -> Self {
        self.blocked.extend(blocked);
        self
    }

    /// Asks the app who may ring, for each offer, once its caller's key is proven: this is [`Admission::Ask`]. An offer
    /// that comes twice may be asked about twice. To whom it says no, this side looks offline. It runs on the task that handles all signals, so it must be quick; one that
    /// panics says no.
    pub fn admit(mut self, ask: impl Fn(&Caller<'_>) -> bool + Send + Sync + 'static) -> Self {
        self.ask = Some(Arc::new(ask));
        self.config.admission = Admission::Ask;
        self
    }

    /// For tests: what this phone publishes and opens can be looked at.
    #[cfg(test)]
    pub(crate) fn tap(mut self, tap: &crate::driver::hoard::Tap) -> Self {
        self.tap = tap.clone();
        self
    }

    /// For tests: the first transmission of every signal is lost on its way, resends arrive.
    #[doc(hidden)]
    pub fn lose_first_transmissions(mut self) -> Self {
        self.lossy = true;
        self
    }

    /// For tests: the network that sound meets has these faults.
    #[doc(hidden)]
    pub fn faults(mut self, faults: Faults) -> Self {
        self.faults = Some(faults);
        self
    }

    /// For measurements: what the phone needs from outside goes through this first.
    #[doc(hidden)]
    pub fn outside(mut self, change: impl FnOnce(Outside) -> Outside + Send + 'static) -> Self {
        self.outside = Some(Box::new(change));
        self
    }

    /// Remembers here what should outlive a restart: addresses of nodes, the contact token, what peers gave of theirs, which
    /// calls rang on their first message, the calls that a later run can [resume](Blink::resume) (for a day), and whom to tell
    /// of a call that they missed (for a week). Entries are sealed under a key of the identity before the store sees them.
    /// Default: nothing is remembered. A directory on disk is
    /// [`FileStore`](crate::FileStore).
    pub fn store(mut self, store: impl Store) -> Self {
        self.store = Some(Arc::new(store));
        self
    }

    /// Gossip and media in memory: no network, no devices. For an app's own tests.
    pub fn memory(mut self, memory: &Memory) -> Self {
        self.carrier = Carrier::Memory(memory.clone());
        self
    }

    /// Starts the phone on the current tokio runtime.
    ///
    /// # Errors
    /// [`Error::Rejected`] for too many contacts or the own key among them, [`Error::Address`] for an address that is
    /// none or names no node, [`Error::Node`] if the node does not start or
    /// carries no [`BlinkBehaviour`](crate::BlinkBehaviour), [`Error::Media`] if a sound file or a device that was
    /// named does not exist.
    // The future is boxed here, so that the node behind it (a minute of compile time) is built with this crate and not
    // anew with every program that awaits it.
    pub fn spawn(self) -> BoxFuture<'static, Result<Blink, Error>> {
        Box::pin(self.put_together())
    }

    async fn put_together(self) -> Result<Blink, Error> {
        let addresses = self.peers.iter().map(|a| address(a)).collect::<Result<Vec<_>, Error>>()?;
        let bootstrap = self.bootstrap.iter().map(|a| address(a)).collect::<Result<Vec<_>, Error>>()?;
        // What is no relay is refused by the node, which says why.
        let relays = self.relays.iter().filter_map(|a| address(a).ok()).collect();
        let through = !bootstrap.is_empty() && self.dht;
        let finding = FindConfig::default()
            .with_relay_only(self.relay_only)
            .with_mdns(self.mdns)
            .with_records(through)
            .with_kademlia(through || !bootstrap.is_empty() && self.public_dht)
            .with_publish(through && self.publish)
            .with_nearest(nearest(&bootstrap));
        let media = self.config.media;
        if media.narrowed(media).is_none() {
            return Err(Error::Media(format!(
                "{media:?} is no format: frames have 10, 20, 40 or 60 ms, channels are 1 or 2, rates 6000 to 510000"
            )));
        }
        let turn = match self.turn {
            Some(config) => Some(TurnServer::start(config).await.map_err(|e| Error::Node(e.to_string()))?),
            None => None,
        };
        let relayed = self.relay_only || self.relayed_media;
        let friends = Friends::new(self.friends.iter().copied(), self.servers.clone()).only_relayed(relayed);
        let node_key = self.node_key.unwrap_or_else(|| NodeKey::from(&self.identity));
        let (gossip, media): (Arc<dyn Gossip>, Arc<dyn Media>) = match self.carrier {
            Carrier::Memory(memory) => {
                (Arc::new(memory.hub.endpoint(node_key.node_id())), Arc::new(memory.links.endpoint()))
            }
            carrier => {
                let audio = self.audio;
                // Listing devices takes up to some seconds.
                let audio = tokio::task::spawn_blocking(move || audio.check().map(|()| audio))
                    .await
                    .map_err(|e| Error::Media(e.to_string()))??;
                let relayed = (relayed, !self.friends.is_empty());
                let media = real_media(audio, self.ice, self.servers, relayed, self.faults)?;
                let gossip: Arc<dyn Gossip> = match carrier {
                    Carrier::App(ipfs, link) => Arc::new(
                        IpfsGossip::attach(*ipfs, link).await.map_err(|e| Error::Node(e.to_string()))?,
                    ),
                    Carrier::Relay(relay) => {
                        Arc::new(relay.node().start().await.map_err(|e| Error::Node(e.to_string()))?)
                    }
                    _ => {
                        let finding = NodeFinding::default()
                            .with_kademlia(self.dht)
                            .with_mdns(self.mdns)
                            .with_public(self.public_dht)
                            .with_serves(self.publish)
                            .with_bootstrap(bootstrap.iter().map(|(node, _)| *node));
                        let mut config = NodeConfig::new(node_key)
                            .with_finding(finding)
                            .with_relays(self.relays)
                            .with_relay_only(self.relay_only)
                            .with_hole_punching(self.hole_punching)
                            .with_port_mapping(self.port_mapping)
                            .with_dial_back(self.dial_back);
                        if !self.listen.is_empty() {
                            config = config.with_listen(self.listen);
                        }
                        Arc::new(config.start().await.map_err(|e| Error::Node(e.to_string()))?)
                    }
                };
                (gossip, Arc::new(media))
            }
        };
        let outside = Outside { gossip, media };
        let Outside { gossip, media } = match self.outside {
            Some(change) => change(outside),
            None => outside,
        };
        let (public_key, node_id) = (self.identity.public(), gossip.node());
        let store = self.store.map(|s| Arc::new(SealedStore::new(s, &self.identity)));
        let parts = Parts {
            config: self.config,
            identity: self.identity,
            gossip,
            media,
            addresses,
            bootstrap,
            relays,
            finding,
            store,
            contacts: self.contacts,
            keep_contacts: self.keep_contacts,
            blocked: self.blocked,
            ask: self.ask,
            lossy: self.lossy,
            recording: self.recording,
            friends,
            turn,
            #[cfg(test)]
            tap: self.tap,
        };
        Ok(Blink::new(public_key, node_id, core::start(parts).await?))
    }
}

pub(super) fn address(text: &str) -> Result<(NodeId, String), Error> {
    let address: NodeAddress = text.parse().map_err(|e: AddressError| Error::Address(e.to_string()))?;
    Ok((address.node(), address.to_string()))
}

/// The place of the farthest of these: who finds people through nodes in the same house only finds those of the house.
fn nearest(bootstrap: &[(NodeId, String)]) -> Place {
    let places = bootstrap.iter().filter_map(|(_, text)| Address::parse(text).ok()).map(|a| a.first_hop());
    places.map(|place| place.min(Place::Public)).max().unwrap_or(Place::Public)
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder").field("identity", &self.identity.public()).finish_non_exhaustive()
    }
}
