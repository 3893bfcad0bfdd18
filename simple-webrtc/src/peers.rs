use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle as Runtime;
use tokio::sync::{mpsc, watch};

use crate::addresses::{self, Interfaces, System};
use crate::channel::ChannelOptions;
use crate::config::{Config, ConfigError, IceServer, check_servers};
use crate::description::{Candidate, Description, DescriptionKind};
use crate::engine::Engine;
use crate::engine::webrtc::Webrtc;
use crate::error::Error;
use crate::event::{Event, Events, Generation};
use crate::link::{Command, Lease, Link, Probe, Role, Stop};
use crate::pool::Pool;
use crate::stats::{PairStats, Stats};
use crate::track::{LocalTrack, MAX_VIDEOS, TrackKind};

/// Messages from the peer that may wait for a connection. A peer sends about 20 in all.
const COMMANDS: usize = 128;

/// What the peer has signalled, for [`Peers::apply`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Remote {
    /// A further offer on a connection that exists, as it comes of a restart. The answer comes as an event. When offers
    /// cross, that of the side that dialled stays, and the other one comes again by itself if it is still of use. One that
    /// is repeated is answered again with the same words; an older one is ignored.
    Offer(Description),
    /// The answer to our offer. Repetitions, and answers to an offer that was replaced meanwhile, are ignored.
    Answer(Description),
    /// One of its candidates. Up to 64 are kept until the peer's description is there, and 256 are taken in all; further
    /// ones are ignored.
    Candidate(Candidate),
    /// It has no further candidates. The engine draws no conclusion from it.
    EndOfCandidates,
}

/// Connections to peers that are named by a `K`, at most one live one for each. Clones share them.
///
/// No method waits for the network except [`shutdown`](Self::shutdown); what comes of a command is seen in [`Events`].
/// Dropping the last clone closes every connection in the background.
pub struct Peers<K: Clone + Ord + fmt::Debug + Send + Sync + 'static> {
    handle: Arc<Handle<K>>,
}

struct Handle<K> {
    shared: Arc<Shared<K>>,
    events: mpsc::Sender<Event<K>>,
    config: Arc<Config>,
    servers: watch::Sender<Arc<Config>>,
    engine: Arc<dyn Engine>,
    interfaces: Arc<dyn Interfaces>,
    pool: Arc<Pool>,
    runtime: Runtime,
}

pub(crate) struct Shared<K> {
    links: Mutex<Links<K>>,
    live: watch::Sender<usize>,
    tracks: watch::Sender<Vec<LocalTrack>>,
    addresses: addresses::Known,
}

struct Links<K> {
    present: BTreeMap<K, Entry>,
    shut_down: bool,
    /// Whether the addresses of this machine are being watched.
    watching: bool,
}

struct Entry {
    generation: Generation,
    dialled: bool,
    commands: mpsc::Sender<Command>,
    stop: watch::Sender<Option<Stop>>,
    probe: Arc<Probe>,
}

impl<K: Clone + Ord + fmt::Debug + Send + Sync + 'static> Peers<K> {
    /// Makes an empty set of peers, and the stream of what their connections do.
    ///
    /// # Errors
    /// [`Error::NoRuntime`] outside of a tokio runtime: connections run on the one that is current here.
    pub fn new(config: Config) -> Result<(Self, Events<K>), Error> {
        Self::with_ports(config, Arc::new(Webrtc::default()), Arc::new(System))
    }

    pub(crate) fn with_ports(
        config: Config,
        engine: Arc<dyn Engine>,
        interfaces: Arc<dyn Interfaces>,
    ) -> Result<(Self, Events<K>), Error> {
        let runtime = Runtime::try_current().map_err(|_| Error::NoRuntime)?;
        let shared = Arc::new(Shared {
            links: Mutex::new(Links { present: BTreeMap::new(), shut_down: false, watching: false }),
            live: watch::Sender::new(0),
            tracks: watch::Sender::default(),
            addresses: watch::Sender::default(),
        });
        let (events, receiver) = mpsc::channel(config.limits.events);
        let events_out = Events { receiver, shared: shared.clone() };
        let config = Arc::new(config);
        let servers = watch::Sender::new(config.clone());
        let pool = Pool::new(engine.clone(), servers.subscribe(), interfaces.clone());
        let handle = Handle { shared, events, config, servers, engine, interfaces, pool, runtime };
        Ok((Self { handle: Arc::new(handle) }, events_out))
    }

    /// Uses these STUN and TURN servers from now on, in place of those before: new credentials, or other servers. Connections
    /// that exist take them with an offer that follows as an event; their relayed paths go on.
    ///
    /// # Errors
    /// [`ConfigError`], as for [`Config`]; an empty list leaves connections that exist with what they have.
    pub fn set_ice_servers(&self, servers: Vec<IceServer>) -> Result<(), ConfigError> {
        self.use_servers(servers, true)
    }

    /// The same for connections that begin or restart from now on; those that run keep what they have. For new credentials and further
    /// servers: for these, or where any server has given nothing, the engine would give up all relayed paths. Errors as for [`set_ice_servers`](Self::set_ice_servers).
    #[expect(clippy::missing_errors_doc, reason = "said in one line")]
    pub fn renew_ice_servers(&self, servers: Vec<IceServer>) -> Result<(), ConfigError> {
        self.use_servers(servers, false)
    }

    fn use_servers(&self, servers: Vec<IceServer>, wakes: bool) -> Result<(), ConfigError> {
        check_servers(&servers, self.handle.config.needs_relay())?;
        self.handle.servers.send_if_modified(|config| {
            *config = Arc::new(Config { ice_servers: servers, ..Config::clone(config) });
            wakes
        });
        Ok(())
    }

    /// Keeps this many connections ready that have made their offer and gathered, so that the next [`dial`](Self::dial)s
    /// give description and candidates at once. None at first; 0 gives those up that are there.
    ///
    /// They are made in the background, filled up when one is taken, and never more than this. One is thrown away when the
    /// addresses of this machine or the servers change, when it fails, and with servers after
    /// [`Timeouts::prepared`](crate::Timeouts). Each holds what a connection holds: a socket for each address, about
    /// 250 kB (measured), and with TURN servers an allocation; nothing of it is seen by any peer. When there is none in time, a
    /// connection is made as ever.
    ///
    /// # Errors
    /// [`Error::TooManyLinks`] for more than `max_links`, [`Error::ShutDown`].
    pub fn prepare(&self, connections: usize) -> Result<(), Error> {
        let limit = self.handle.config.limits.links;
        if connections > limit {
            return Err(Error::TooManyLinks { limit });
        }
        let links = self.handle.shared.lock();
        if links.shut_down {
            return Err(Error::ShutDown);
        }
        self.handle.pool.want(connections, &self.handle.runtime);
        Ok(())
    }

    /// Sends this track to every peer: those connected now, those connecting, and those that come later. Adding it again
    /// changes nothing.
    ///
    /// Every connection has room for one audio track from the start, so that needs no new negotiation. A video does, in a
    /// connection that has none free: an offer follows as an event.
    ///
    /// # Errors
    /// [`Error::TrackKindTaken`] if another audio track is being sent, [`Error::TooManyVideos`] if four videos are.
    pub fn add_track(&self, track: &LocalTrack) -> Result<(), Error> {
        let mut result = Ok(());
        self.handle.shared.tracks.send_if_modified(|tracks| {
            if tracks.iter().any(|present| present.is(track)) {
                return false;
            }
            let kind = track.kind();
            let same = tracks.iter().filter(|present| present.kind() == kind).count();
            match kind {
                TrackKind::Audio if same > 0 => result = Err(Error::TrackKindTaken { kind }),
                TrackKind::Video if same >= MAX_VIDEOS => {
                    result = Err(Error::TooManyVideos { limit: MAX_VIDEOS });
                }
                _ => tracks.push(track.clone()),
            }
            result.is_ok()
        });
        result
    }

    /// Stops sending this track. Says whether it was being sent. For a video, an offer that tells the peer follows as an
    /// event.
    pub fn remove_track(&self, track: &LocalTrack) -> bool {
        self.handle.shared.tracks.send_if_modified(|tracks| {
            let before = tracks.len();
            tracks.retain(|present| !present.is(track));
            tracks.len() < before
        })
    }

    /// Makes an offer to the peer. It comes as an event; so does everything that goes wrong from here.
    ///
    /// A connection of a lower generation is closed, without further events.
    ///
    /// # Errors
    /// [`Error::StaleGeneration`], [`Error::TooManyLinks`], [`Error::ShutDown`].
    pub fn dial(&self, peer: K, generation: Generation) -> Result<(), Error> {
        self.start(peer, generation, Role::Dial)
    }

    /// Makes an answer to the peer's offer. It comes as an event; so does everything that goes wrong from here.
    ///
    /// A connection of a lower generation is closed, without further events.
    ///
    /// # Errors
    /// [`Error::NotAnOffer`], [`Error::StaleGeneration`], [`Error::TooManyLinks`], [`Error::ShutDown`].
    pub fn accept(&self, peer: K, generation: Generation, offer: Description) -> Result<(), Error> {
        if offer.kind() != DescriptionKind::Offer {
            return Err(Error::NotAnOffer);
        }
        self.start(peer, generation, Role::Accept(offer))
    }

    /// Hands the connection what the peer has signalled.
    ///
    /// # Errors
    /// [`Error::NoLink`] if there is no connection of this generation, [`Error::UnexpectedDescription`] and
    /// [`Error::NotAnOffer`] if the description is not what it is said to be, [`Error::Busy`] if 128 messages wait already.
    pub fn apply(&self, peer: &K, generation: Generation, remote: Remote) -> Result<(), Error> {
        let links = self.handle.shared.lock();
        let entry = links.live_entry(peer, generation)?;
        match &remote {
            Remote::Offer(offer) if offer.kind() != DescriptionKind::Offer => return Err(Error::NotAnOffer),
            Remote::Answer(answer) => {
                let offered = entry.dialled || entry.probe.has_offered();
                if !offered || answer.kind() != DescriptionKind::Answer {
                    return Err(Error::UnexpectedDescription);
                }
            }
            _ => {}
        }
        entry.command(Command::Apply(remote))
    }

    /// Looks for another path to the peer, on fresh sockets: an offer follows as an event, and
    /// [`LinkState::Reconnecting`](crate::LinkState::Reconnecting) until there is one. What is sent meanwhile is lost.
    /// Either side may do this, also both at once, and again while it lasts.
    ///
    /// It begins by giving up the present path, so it is for a path that does not work: after a change of network, or about
    /// 6 s into [`LinkState::Disconnected`](crate::LinkState::Disconnected). A shorter outage heals by itself, and sooner:
    /// measured, 0.06 to 0.23 s after the network is back.
    ///
    /// Without effect before the connection was ever connected: then dial or accept with a higher generation.
    ///
    /// # Errors
    /// [`Error::NoLink`] if there is no connection of this generation, or it is closing already, [`Error::Busy`] if 128
    /// messages wait already.
    pub fn restart(&self, peer: &K, generation: Generation) -> Result<(), Error> {
        let links = self.handle.shared.lock();
        links.live_entry(peer, generation)?.command(Command::Restart)
    }

    /// Opens a data channel to the peer. It comes to both sides as [`EventKind::Channel`](crate::EventKind) once it is open.
    ///
    /// One of 16 that a connection has room for, those of the peer included; a further one is not opened, and if it is the
    /// peer's, closed. May be called from `dial` or `accept` on.
    ///
    /// # Errors
    /// [`Error::ChannelName`], [`Error::NoLink`] if there is no connection of this generation, or it is closing already,
    /// [`Error::Busy`] if 128 messages wait already.
    pub fn open_channel(
        &self,
        peer: &K,
        generation: Generation,
        options: ChannelOptions,
    ) -> Result<(), Error> {
        options.check()?;
        let links = self.handle.shared.lock();
        links.live_entry(peer, generation)?.command(Command::OpenChannel(options))
    }

    /// Whether what is written to the tracks, audio and video, is sent on this connection; it is, unless this says otherwise. Others are not
    /// touched, nor is what the peer sends.
    ///
    /// May be called at any time from `dial` or `accept` on, and holds for this connection only: the next one to the peer
    /// begins with sending on. Switched off, the connection stays as it is (checks of the path and RTCP go on), and no
    /// frame that is written from then on ever reaches the peer, nor one that waits; only what the engine already has
    /// still goes out. Where it was off from the start, the peer's [`EventKind::RemoteTrack`](crate::EventKind) comes
    /// with the first frame after it was switched on. Switched on again, sequence numbers go on without a gap, so that
    /// nothing looks lost, and timestamps are those of the frames, so that the peer knows how long it was silent.
    ///
    /// This works on frames as they are. An encoder that adds redundancy (Opus in-band FEC) puts a coarse copy of the
    /// frame before into each one, so where the pause itself must not be heard, begin with a fresh encoder.
    ///
    /// # Errors
    /// [`Error::NoLink`] if there is no connection of this generation, or it is closing already.
    pub fn set_sending(&self, peer: &K, generation: Generation, sending: bool) -> Result<(), Error> {
        let links = self.handle.shared.lock();
        links.live_entry(peer, generation)?.probe.set_sending(sending);
        Ok(())
    }

    /// How long packets of the peer wait here before they are played, for [`Stats::quality`]. 40 ms, two frames, until this is
    /// called.
    ///
    /// # Errors
    /// [`Error::NoLink`] if there is no connection of this generation, or it is closing already.
    pub fn set_playout_delay(&self, peer: &K, generation: Generation, delay: Duration) -> Result<(), Error> {
        let links = self.handle.shared.lock();
        links.live_entry(peer, generation)?.probe.set_playout_delay(delay);
        Ok(())
    }

    /// Closes the connection. [`LinkState::Closed`](crate::LinkState::Closed) follows when nothing of it is left.
    ///
    /// The peer is told (DTLS close_notify), but that packet may be lost: signal the end as well.
    ///
    /// # Errors
    /// [`Error::NoLink`] if there is no connection of this generation, or it is closing already.
    pub fn hang_up(&self, peer: &K, generation: Generation) -> Result<(), Error> {
        let links = self.handle.shared.lock();
        links.live_entry(peer, generation)?.stop.send_replace(Some(Stop::HangUp));
        Ok(())
    }

    /// The generation of the peer's present connection.
    pub fn generation(&self, peer: &K) -> Option<Generation> {
        self.handle.shared.lock().present.get(peer).map(|entry| entry.generation)
    }

    /// What is known about the peer's connection now; `None` without one.
    pub async fn stats(&self, peer: &K) -> Option<Stats> {
        let probe = self.handle.shared.lock().present.get(peer)?.probe.clone();
        Some(probe.stats().await)
    }

    /// All pairs of addresses that the peer's connection looks at or has looked at since its last restart, up to 256; `None`
    /// without a connection.
    pub async fn pairs(&self, peer: &K) -> Option<Vec<PairStats>> {
        let probe = self.handle.shared.lock().present.get(peer)?.probe.clone();
        Some(probe.pairs().await)
    }

    /// Closes every connection and waits until nothing of them is left. Later commands are refused with
    /// [`Error::ShutDown`].
    pub async fn shutdown(&self) {
        self.handle.shared.stop_all();
        self.handle.pool.stop();
        let mut live = self.handle.shared.live.subscribe();
        // The sender is in `shared`, which outlives this call.
        let _ = live.wait_for(|live| *live == 0).await;
        self.handle.pool.stopped().await;
    }

    fn start(&self, peer: K, generation: Generation, role: Role) -> Result<(), Error> {
        let shared = &self.handle.shared;
        let mut links = shared.lock();
        if links.shut_down {
            return Err(Error::ShutDown);
        }
        if let Some(entry) = links.present.get(&peer)
            && entry.generation >= generation
        {
            return Err(Error::StaleGeneration { have: entry.generation });
        }
        let limit = self.handle.config.limits.links;
        if *shared.live.borrow() >= limit {
            return Err(Error::TooManyLinks { limit });
        }

        let (commands, inbox) = mpsc::channel(COMMANDS);
        let (stop, stopped) = watch::channel(None);
        let probe = Arc::new(Probe::default());
        let dialled = matches!(role, Role::Dial);
        // At once, so that nothing that is told next takes it away.
        let servers = self.handle.servers.subscribe();
        let present = servers.borrow().clone();
        let prepared = if dialled { self.handle.pool.take(&present) } else { None };
        let entry = Entry { generation, dialled, commands, stop, probe: probe.clone() };
        if let Some(before) = links.present.insert(peer.clone(), entry) {
            before.stop.send_replace(Some(Stop::Superseded));
        }
        shared.live.send_modify(|live| *live += 1);
        let link = Link {
            config: self.handle.config.clone(),
            servers,
            engine: self.handle.engine.clone(),
            prepared,
            role,
            commands: inbox,
            stop: stopped,
            tracks: shared.tracks.subscribe(),
            addresses: shared.addresses.subscribe(),
            probe,
            lease: Lease {
                shared: shared.clone(),
                peer,
                generation,
                events: self.handle.events.clone(),
                released: false,
            },
        };
        self.handle.runtime.spawn(link.run());
        if !std::mem::replace(&mut links.watching, true) {
            let shared = shared.clone();
            let (interfaces, known) = (self.handle.interfaces.clone(), shared.addresses.clone());
            let live = shared.live.subscribe();
            let idle = move || shared.stop_watching();
            self.handle.runtime.spawn(addresses::observe(interfaces, known, live, idle));
        }
        Ok(())
    }
}

impl Entry {
    fn command(&self, command: Command) -> Result<(), Error> {
        self.commands.try_send(command).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Error::Busy,
            mpsc::error::TrySendError::Closed(_) => Error::NoLink,
        })
    }
}

impl<K: Ord> Links<K> {
    fn live_entry(&self, peer: &K, generation: Generation) -> Result<&Entry, Error> {
        self.present
            .get(peer)
            .filter(|entry| entry.generation == generation && entry.stop.borrow().is_none())
            .ok_or(Error::NoLink)
    }
}

impl<K> Shared<K> {
    fn lock(&self) -> MutexGuard<'_, Links<K>> {
        // Nothing that can panic runs between two changes that belong together.
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is no connection, so that addresses are of no interest until there is one again.
    fn stop_watching(&self) -> bool {
        let mut links = self.lock();
        let idle = *self.live.borrow() == 0;
        links.watching = !idle;
        idle
    }

    fn stop_all(&self) {
        let mut links = self.lock();
        links.shut_down = true;
        for entry in links.present.values() {
            entry.stop.send_if_modified(|stop| {
                let running = stop.is_none();
                if running {
                    *stop = Some(Stop::Shutdown);
                }
                running
            });
        }
    }
}

impl<K: Ord> Shared<K> {
    pub(crate) fn is_stale(&self, peer: &K, generation: Generation) -> bool {
        self.lock().present.get(peer).is_some_and(|entry| entry.generation > generation)
    }

    /// Forgets a connection of which nothing is left.
    pub(crate) fn release(&self, peer: &K, generation: Generation) {
        let mut links = self.lock();
        if links.present.get(peer).is_some_and(|entry| entry.generation == generation) {
            links.present.remove(peer);
        }
        drop(links);
        self.live.send_modify(|live| *live -= 1);
    }
}

impl<K> Drop for Handle<K> {
    fn drop(&mut self) {
        self.shared.stop_all();
        self.pool.stop();
    }
}

impl<K: Clone + Ord + fmt::Debug + Send + Sync + 'static> Clone for Peers<K> {
    fn clone(&self) -> Self {
        Self { handle: self.handle.clone() }
    }
}

impl<K: Clone + Ord + fmt::Debug + Send + Sync + 'static> fmt::Debug for Peers<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peers").field("live", &*self.handle.shared.live.borrow()).finish_non_exhaustive()
    }
}

impl<K> fmt::Debug for Shared<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("live", &*self.live.borrow()).finish_non_exhaustive()
    }
}
