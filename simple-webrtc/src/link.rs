//! The task that owns one connection from its first description to the last of its sockets.

use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{self, MissedTickBehavior};

use crate::config::Config;
use crate::description::{Candidate, CandidateKind, Description};
use crate::engine::{Connection, EngineError, Inbox, IncomingTrack, Signal};
use crate::event::{Event, EventKind, FailReason, Generation, LinkState, Step};
use crate::parking::Parking;
use crate::peers::{Remote, Shared};
use crate::queue::Queue;
use crate::stats::{Counters, Stats};
use crate::steps::{Observation, Steps};
use crate::track::{Frame, IN_QUEUE, LocalTrack, OUT_QUEUE, Packet, RemoteTrack, Subscription, TrackKind};

/// Tracks of a peer that are read; one is negotiated, a change of its source can look like another.
const MAX_TRACKS: usize = 4;
/// How often to look whether the peer has closed: the engine tells nobody when the last thing on a connection is media.
const CLOSED_CHECK: Duration = Duration::from_millis(250);

pub(crate) enum Role {
    Dial,
    Accept(Description),
}

/// Why a connection is to end, as told from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    HangUp,
    Superseded,
    Shutdown,
}

/// A connection's place among those that live; given back exactly once, also if its task panics.
pub(crate) struct Lease<K: Clone + Ord> {
    pub(crate) shared: Arc<Shared<K>>,
    pub(crate) peer: K,
    pub(crate) generation: Generation,
    pub(crate) events: mpsc::Sender<Event<K>>,
    pub(crate) released: bool,
}

impl<K: Clone + Ord> Lease<K> {
    fn release(&mut self) {
        if !std::mem::replace(&mut self.released, true) {
            self.shared.release(&self.peer, self.generation);
        }
    }
}

impl<K: Clone + Ord> Drop for Lease<K> {
    fn drop(&mut self) {
        if self.released {
            return;
        }
        self.release();
        if std::thread::panicking() {
            tracing::error!(generation = self.generation.0, "the owner of a connection panicked");
            let reason = FailReason::Engine { doing: "go on: it panicked" };
            let kind = EventKind::State(LinkState::Failed { step: Step::Negotiating, reason });
            let event = Event { peer: self.peer.clone(), generation: self.generation, at: now(), kind };
            // Without room for it there is nothing more to be done here.
            let _ = self.events.try_send(event);
        }
    }
}

/// What is looked at and set from outside, without disturbing the owner.
#[derive(Debug)]
pub(crate) struct Probe {
    connection: OnceLock<Weak<Connection>>,
    counters: Arc<Counters>,
    outgoing: Arc<Queue<Frame>>,
    incoming: Mutex<Vec<Arc<Queue<Packet>>>>,
}

impl Default for Probe {
    fn default() -> Self {
        Self {
            connection: OnceLock::new(),
            counters: Arc::default(),
            outgoing: Arc::new(Queue::new(OUT_QUEUE)),
            incoming: Mutex::default(),
        }
    }
}

impl Probe {
    pub(crate) async fn stats(&self) -> Stats {
        let dropped_in = {
            let incoming = self.incoming.lock().unwrap_or_else(PoisonError::into_inner);
            incoming.iter().map(|queue| queue.dropped()).sum()
        };
        let mut stats = self.counters.snapshot(self.outgoing.dropped(), dropped_in);
        if let Some(connection) = self.connection.get().and_then(Weak::upgrade) {
            let path = connection.path().await;
            stats.round_trip_ms = path.round_trip_ms;
            stats.route = path.route;
        }
        stats
    }

    /// The queue is there before the connection is, so this holds from the first frame on.
    pub(crate) fn set_sending(&self, sending: bool) {
        self.outgoing.set_taking(sending);
    }
}

pub(crate) struct Link<K: Clone + Ord> {
    pub(crate) config: Arc<Config>,
    pub(crate) role: Role,
    pub(crate) commands: mpsc::Receiver<Remote>,
    pub(crate) stop: watch::Receiver<Option<Stop>>,
    pub(crate) audio: watch::Receiver<Option<LocalTrack>>,
    pub(crate) probe: Arc<Probe>,
    pub(crate) lease: Lease<K>,
}

/// How a connection ends.
enum End {
    Told(Stop),
    ByItself(LinkState),
}

impl From<Stop> for End {
    fn from(stop: Stop) -> Self {
        Self::Told(stop)
    }
}

/// What a connection holds while it lives; everything in here is given back by `Link::close`.
struct Live {
    connection: Arc<Connection>,
    inbox: Inbox,
    steps: Steps,
    negotiated: bool,
    remote_candidates: Parking,
    local_candidates: usize,
    /// Until gathering is done.
    gathering_until: Option<Instant>,
    tasks: Vec<JoinHandle<()>>,
    tracks: usize,
    subscription: Option<Subscription>,
    sending: bool,
}

impl<K: Clone + Ord + Send + Sync + 'static> Link<K> {
    #[tracing::instrument(level = "debug", name = "link", skip_all, fields(generation = self.lease.generation.0))]
    pub(crate) async fn run(mut self) {
        let mut live = None;
        let end = match self.drive(&mut live).await {
            Ok(never) => match never {},
            Err(end) => end,
        };
        if let Some(live) = live {
            self.close(live).await;
        }
        let state = match end {
            End::Told(Stop::Superseded) => {
                tracing::debug!("superseded");
                self.lease.release();
                return;
            }
            End::Told(Stop::HangUp | Stop::Shutdown) => LinkState::Closed { by_remote: false },
            End::ByItself(state) => state,
        };
        tracing::debug!(%state, "ended");
        let event = self.event(EventKind::State(state));
        // First this: whoever reads the event may dial again, and whoever waits for the end of everything does not have
        // to wait for a slow reader of events.
        self.lease.release();
        if self.lease.events.send(event).await.is_err() {
            tracing::debug!("nobody reads events any more");
        }
    }

    /// Runs the connection until it ends. What it holds is left in `slot`, to be closed.
    async fn drive(&mut self, slot: &mut Option<Live>) -> Result<std::convert::Infallible, End> {
        let steps = Steps::new(now());
        self.emit_state(steps.state()).await?;
        let inbox = Inbox::new();
        // Opening must not be cancelled half way, the engine would keep what it had made so far. It only binds sockets.
        let opened = Connection::open(&self.config, inbox.sender()).await;
        let connection = opened.map_err(|error| self.failed(&steps, error.into()))?;
        let connection = Arc::new(connection);
        if self.probe.connection.set(Arc::downgrade(&connection)).is_err() {
            tracing::error!("a link opened two connections");
        }
        let live = slot.insert(Live {
            connection,
            inbox,
            steps,
            negotiated: false,
            remote_candidates: Parking::default(),
            local_candidates: 0,
            gathering_until: Some(now() + self.config.timeouts.gathering),
            tasks: Vec::new(),
            tracks: 0,
            subscription: None,
            sending: false,
        });
        self.negotiate(live).await?;

        let mut closed_check = time::interval(CLOSED_CHECK);
        closed_check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let deadline = live.steps.deadline(&self.config.timeouts);
            let states = tokio::select! {
                biased;
                stop = stopped(&mut self.stop) => return Err(stop.into()),
                () = self.lease.events.closed() => return Err(Stop::HangUp.into()),
                signal = live.inbox.recv() => self.on_signal(live, signal).await?,
                Some(remote) = self.commands.recv() => self.on_remote(live, remote).await,
                Ok(()) = self.audio.changed() => {
                    self.hear_track(live);
                    Vec::new()
                }
                () = sleep_until(live.gathering_until) => self.on_gathering_done(live).await?,
                () = sleep_until(deadline) => live.steps.expire(now(), &self.config.timeouts),
                _ = closed_check.tick() => {
                    if live.steps.state() != LinkState::Negotiating && live.connection.remote_closed().await {
                        live.steps.observe(now(), Observation::RemoteClosed)
                    } else {
                        Vec::new()
                    }
                }
            };
            for state in states {
                if state.is_final() {
                    return Err(End::ByItself(state));
                }
                if state == LinkState::Connected && !live.sending {
                    self.start_sending(live)?;
                }
                self.emit_state(state).await?;
            }
        }
    }

    async fn negotiate(&mut self, live: &mut Live) -> Result<(), End> {
        let description = match &self.role {
            Role::Dial => live.connection.offer().await,
            Role::Accept(offer) => live.connection.answer(offer).await,
        };
        let description = description.map_err(|error| self.failed(&live.steps, error.into()))?;
        self.emit(EventKind::LocalDescription(description)).await?;
        if matches!(self.role, Role::Accept(_)) {
            live.negotiated = true;
            live.remote_candidates.open();
            for state in live.steps.observe(now(), Observation::Negotiated) {
                self.emit_state(state).await?;
            }
        }
        Ok(())
    }

    async fn on_signal(&mut self, live: &mut Live, signal: Option<Signal>) -> Result<Vec<LinkState>, End> {
        let Some(signal) = signal else {
            return Ok(live.steps.fail(now(), FailReason::Overloaded));
        };
        let observation = match signal {
            Signal::Candidate(candidate) => {
                self.on_local_candidate(live, candidate).await?;
                return Ok(Vec::new());
            }
            Signal::GatheringDone => return self.on_gathering_done(live).await,
            Signal::Track(track) => {
                self.on_track(live, track).await?;
                return Ok(Vec::new());
            }
            Signal::PathFound => Observation::PathFound,
            Signal::PathSilent if live.connection.remote_closed().await => Observation::RemoteClosed,
            Signal::PathSilent => Observation::PathSilent,
            // A handshake that the peer ends with close_notify makes the engine report a connection, too.
            Signal::Secured if live.connection.remote_closed().await => Observation::RemoteClosed,
            Signal::Secured => Observation::Secured,
            Signal::Failed if live.connection.handshake_failed().await => Observation::HandshakeFailed,
            Signal::Failed => Observation::PathLost,
            Signal::Stopped => Observation::Stopped,
        };
        Ok(live.steps.observe(now(), observation))
    }

    /// All servers have answered, or were given enough time.
    async fn on_gathering_done(&mut self, live: &mut Live) -> Result<Vec<LinkState>, End> {
        if live.gathering_until.take().is_none() {
            return Ok(Vec::new());
        }
        if live.local_candidates == 0 {
            return Ok(live.steps.fail(now(), FailReason::NoLocalCandidates));
        }
        self.emit(EventKind::GatheringDone).await?;
        Ok(Vec::new())
    }

    async fn on_local_candidate(&mut self, live: &mut Live, candidate: Candidate) -> Result<(), End> {
        let hidden = self.config.relay_only && candidate.kind() != CandidateKind::Relay;
        let late = live.gathering_until.is_none();
        if !candidate.is_usable() || hidden || late {
            tracing::trace!(kind = ?candidate.kind(), hidden, late, "own candidate not shown");
            return Ok(());
        }
        live.local_candidates += 1;
        let candidate = if self.config.relay_only { candidate.without_related_address() } else { candidate };
        self.emit(EventKind::LocalCandidate(candidate)).await
    }

    async fn on_track(&mut self, live: &mut Live, track: IncomingTrack) -> Result<(), End> {
        if live.tracks >= MAX_TRACKS {
            tracing::debug!(limit = MAX_TRACKS, "further track of the peer ignored");
            return Ok(());
        }
        live.tracks += 1;
        let queue = Arc::new(Queue::new(IN_QUEUE));
        self.probe.incoming.lock().unwrap_or_else(PoisonError::into_inner).push(queue.clone());
        live.tasks.push(track.read_into(queue.clone(), self.probe.counters.clone()).await);
        self.emit(EventKind::RemoteTrack(RemoteTrack { kind: TrackKind::Audio, queue })).await
    }

    async fn on_remote(&mut self, live: &mut Live, remote: Remote) -> Vec<LinkState> {
        match remote {
            Remote::Answer(_) if live.negotiated => tracing::trace!("repeated answer ignored"),
            Remote::Answer(answer) => {
                if let Err(error) = live.connection.accept_answer(&answer).await {
                    return live.steps.fail(now(), error.into());
                }
                live.negotiated = true;
                for candidate in live.remote_candidates.open() {
                    live.connection.add_candidate(&candidate).await;
                }
                return live.steps.observe(now(), Observation::Negotiated);
            }
            Remote::Candidate(candidate) => {
                if let Some(candidate) = live.remote_candidates.admit(candidate) {
                    live.connection.add_candidate(&candidate).await;
                }
            }
            Remote::EndOfCandidates => tracing::trace!("the peer has no further candidates"),
        }
        Vec::new()
    }

    /// From here on, what is written to the shared track is heard on this connection.
    fn start_sending(&mut self, live: &mut Live) -> Result<(), End> {
        live.sending = true;
        let writer = live.connection.write_from(self.probe.outgoing.clone(), self.probe.counters.clone());
        live.tasks.push(writer);
        self.hear_track(live);
        Ok(())
    }

    fn hear_track(&mut self, live: &mut Live) {
        let track = self.audio.borrow_and_update().clone();
        live.subscription = match track {
            Some(track) if live.sending => Some(track.subscribe(self.probe.outgoing.clone())),
            _ => None,
        };
    }

    async fn close(&self, mut live: Live) {
        drop(live.subscription.take());
        self.probe.outgoing.clear();
        self.probe.outgoing.close();
        if time::timeout(self.config.timeouts.closing, live.connection.close()).await.is_err() {
            tracing::warn!("the engine did not let go of the connection in time, it is abandoned");
        }
        for task in &live.tasks {
            task.abort();
        }
        for task in live.tasks {
            if let Err(error) = task.await
                && error.is_panic()
            {
                tracing::error!("a media task panicked");
            }
        }
        for queue in self.probe.incoming.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            queue.close();
        }
    }

    fn failed(&self, steps: &Steps, reason: FailReason) -> End {
        End::ByItself(LinkState::Failed { step: steps.step(), reason })
    }

    fn event(&self, kind: EventKind) -> Event<K> {
        let at = now();
        if let EventKind::State(state) = &kind {
            self.probe.counters.on_state(*state, at);
        }
        Event { peer: self.lease.peer.clone(), generation: self.lease.generation, at, kind }
    }

    async fn emit_state(&mut self, state: LinkState) -> Result<(), End> {
        tracing::debug!(%state, "state");
        self.emit(EventKind::State(state)).await
    }

    /// Waits for a slow reader, but not longer than until the connection is to end.
    async fn emit(&mut self, kind: EventKind) -> Result<(), End> {
        let event = self.event(kind);
        tokio::select! {
            biased;
            stop = stopped(&mut self.stop) => Err(stop.into()),
            sent = self.lease.events.send(event) => sent.map_err(|_| Stop::HangUp.into()),
        }
    }
}

impl From<EngineError> for FailReason {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::BadDescription => Self::BadDescription,
            EngineError::NoAddress => Self::NoLocalCandidates,
            EngineError::Failed { doing } => Self::Engine { doing },
        }
    }
}

fn now() -> Instant {
    time::Instant::now().into_std()
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

async fn stopped(stop: &mut watch::Receiver<Option<Stop>>) -> Stop {
    match stop.wait_for(Option::is_some).await.map(|stop| *stop) {
        Ok(Some(stop)) => stop,
        // The entry among the peers is gone without a word, so nobody could stop this connection any more.
        Ok(None) | Err(_) => Stop::Superseded,
    }
}
