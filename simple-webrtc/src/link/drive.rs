//! What a connection does while it lives: one loop over everything that can happen to it.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{self, MissedTickBehavior};

use super::judging::{self, Judging};
use super::negotiation::Negotiation;
use super::tracks::{Heard, Videos};
use super::{Command, End, Link, Role, Stop, failed, now, sleep_until, stopped};
use crate::channel::{self, Channel, ChannelOptions, Places, RawChannel};
use crate::config::Config;
use crate::description::{Candidate, CandidateKind, Description};
use crate::engine::{Connection, Dtls, EngineError, Inbox, Signal};
use crate::event::{EventKind, FailReason, LinkState, ServerProblem};
use crate::parking::Parking;
use crate::pool::Prepared;
use crate::steps::{Observation, Steps};
use crate::track::Subscription;

/// How often to look whether the peer has closed, should a sign of it have been missed.
const CLOSED_CHECK: Duration = Duration::from_millis(250);

/// Whoever was heard so lately is not silent, whatever became of the checks. 500 ms: two of the intervals in which peers report on what
/// they hear, and some. Where half of everything is lost each way, no check comes through for 1.5 s in one of ten such times.
const HEARD: Duration = Duration::from_millis(500);
/// For so long, and no longer, sound makes up for checks that nobody answers. 10 s: a silence of checks that is chance ends within three
/// where half of everything is lost each way.
const BORNE: Duration = Duration::from_secs(10);

/// What a connection holds while it lives; everything in here is given back by `Link::close`.
pub(super) struct Live {
    pub(super) connection: Arc<dyn Connection>,
    /// With the servers of which it was told last.
    pub(super) config: Arc<Config>,
    /// With whose servers it has gathered for its first offer.
    pub(super) gathered_with: Arc<Config>,
    pub(super) inbox: Inbox,
    pub(super) steps: Steps,
    pub(super) negotiation: Negotiation,
    pub(super) remote_candidates: Parking,
    /// The ICE session of our last description.
    pub(super) session: Option<String>,
    pub(super) local_candidates: usize,
    /// What is wrong with the first server that failed.
    pub(super) server_problem: Option<ServerProblem>,
    /// Until gathering is done.
    pub(super) gathering_until: Option<Instant>,
    /// Whether the engine was not done in time.
    pub(super) gathering_timed_out: bool,
    pub(super) tasks: Vec<JoinHandle<()>>,
    /// Tracks of the peer.
    pub(super) heard: Vec<Heard>,
    pub(super) track_ids: Arc<AtomicU32>,
    /// What the peer describes.
    pub(super) described: Option<Description>,
    pub(super) videos: Videos,
    pub(super) subscription: Option<Subscription>,
    pub(super) sending: bool,
    pub(super) channels: Places,
    /// Carries the signaling channel. When the first is dropped, what was sent on it leaves, and the task ends.
    pub(super) last_words: Option<(oneshot::Sender<Infallible>, JoinHandle<()>)>,
    /// Channels that were open before it was told that the connection is. There are no more than there are places.
    pub(super) early: Vec<Channel>,
    pub(super) judging: Judging,
    /// Since when the engine misses answers to its checks while the peer is heard.
    pub(super) unanswered: Option<Instant>,
}

impl<K: Clone + Ord + Send + Sync + 'static> Link<K> {
    /// Runs the connection until it ends. What it holds is left in `slot`, to be closed.
    pub(super) async fn drive(&mut self, slot: &mut Option<Live>) -> Result<Infallible, End> {
        let steps = Steps::new(now());
        self.emit_state(steps.state()).await?;
        let (connection, inbox, config, ready) = match self.prepared.take() {
            // It has the servers of when it was dialled; others since then are still to come.
            Some(Prepared { connection, inbox, signaling, offer, gathering_until, config, .. }) => {
                (connection, inbox, config, Some((signaling, offer, gathering_until)))
            }
            None => {
                let config = self.servers.borrow_and_update().clone();
                let inbox = Inbox::new();
                (self.open(config.clone(), &inbox, &steps).await?, inbox, config, None)
            }
        };
        if self.probe.connection.set(Arc::downgrade(&connection)).is_err() {
            tracing::error!("a link opened two connections");
        }
        let live = slot.insert(Live {
            connection,
            gathered_with: config.clone(),
            config,
            inbox,
            steps,
            negotiation: Negotiation::new(matches!(self.role, Role::Dial)),
            remote_candidates: Parking::default(),
            session: None,
            local_candidates: 0,
            server_problem: None,
            gathering_until: None,
            gathering_timed_out: false,
            tasks: Vec::new(),
            heard: Vec::new(),
            track_ids: Arc::default(),
            described: None,
            videos: Videos::default(),
            subscription: None,
            sending: false,
            channels: Places::new(),
            last_words: None,
            early: Vec::new(),
            judging: Judging::default(),
            unanswered: None,
        });
        let states = match ready {
            Some((signaling, offer, gathering_until)) => {
                carry_signaling(live, signaling);
                self.begin_prepared(live, offer, gathering_until.into_std()).await?;
                Vec::new()
            }
            None => {
                self.open_signaling(live).await?;
                self.begin(live).await?
            }
        };
        self.advance(live, states).await?;

        let mut closed_check = time::interval(CLOSED_CHECK);
        closed_check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let meter = live.connection.meter();
        let mut judging = time::interval(judging::INTERVAL);
        judging.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let deadline = live.steps.deadline(&self.config.timeouts);
            let states = tokio::select! {
                biased;
                stop = stopped(&mut self.stop) => return Err(stop.into()),
                () = self.lease.events.closed() => return Err(Stop::HangUp.into()),
                () = sleep_until(deadline) => live.steps.expire(now(), &self.config.timeouts),
                signal = live.inbox.recv() => self.on_signal(live, signal).await?,
                Some(command) = self.commands.recv() => match command {
                    Command::Apply(remote) => self.on_remote(live, remote).await?,
                    Command::Restart => self.restart(live).await?,
                    Command::OpenChannel(options) => {
                        open_channel(live, options);
                        Vec::new()
                    }
                },
                Ok(()) = self.tracks.changed() => {
                    self.hear_tracks(live);
                    self.offer_what_is_due(live).await?
                }
                Ok(()) = self.addresses.changed() => self.on_addresses(live).await?,
                Ok(()) = self.servers.changed() => {
                    self.look_for_servers(live).await?;
                    let config = self.servers.borrow_and_update().clone();
                    // They are used from the next description on.
                    if self.use_servers(live, config).await? {
                        live.negotiation.want_change();
                    }
                    self.offer_what_is_due(live).await?
                }
                () = sleep_until(live.gathering_until) => {
                    live.connection.gathering_is_over();
                    // Behind what that has to tell.
                    live.inbox.sender().put(Signal::GatheringDone);
                    live.gathering_until = Some(now() + self.config.timeouts.gathering);
                    live.gathering_timed_out = true;
                    Vec::new()
                }
                _ = closed_check.tick() => {
                    self.look_for_servers(live).await?;
                    let mut states = self.look_for_close(live).await?;
                    states.extend(self.look_for_silence(live));
                    states
                }
                _ = judging.tick() => {
                    self.judge(live).await?;
                    Vec::new()
                }
                () = meter.lowered() => {
                    self.advise(live).await?;
                    Vec::new()
                }
            };
            self.advance(live, states).await?;
        }
    }

    /// Opening must not be cancelled half way: the engine would keep what it had made so far. So it runs on its own.
    async fn open(
        &mut self,
        config: Arc<Config>,
        inbox: &Inbox,
        steps: &Steps,
    ) -> Result<Arc<dyn Connection>, End> {
        let (engine, outbox) = (self.engine.clone(), inbox.sender());
        let mut opening = tokio::spawn(async move { engine.open(&config, outbox).await });
        let opened = match self.ask(steps.step(), &mut opening).await {
            Ok(opened) => opened,
            Err(end) => {
                let mut late = tokio::spawn(async move {
                    if let Ok(Ok(connection)) = opening.await {
                        connection.close().await;
                    }
                });
                if time::timeout(self.config.timeouts.closing, &mut late).await.is_err() {
                    tracing::warn!("the engine still opens a connection that nobody wants any more");
                }
                return Err(end);
            }
        };
        let panicked = EngineError::Failed { doing: "set up a connection: it panicked" };
        opened.unwrap_or(Err(panicked)).map_err(|error| failed(steps.step(), error.into()))
    }

    /// Tells what state was reached, and does what belongs to it.
    async fn advance(&mut self, live: &mut Live, states: Vec<LinkState>) -> Result<(), End> {
        for state in states {
            if state.is_final() {
                return Err(End::ByItself(state));
            }
            let first = state == LinkState::Connected && !live.sending;
            if first {
                let certificates = self.ask(live.steps.step(), live.connection.certificates()).await?;
                let doing = "tell which certificates are in use";
                let missing = || failed(live.steps.step(), FailReason::Engine { doing });
                self.emit(EventKind::Secured(certificates.ok_or_else(missing)?)).await?;
                self.start_sending(live);
            }
            if state == LinkState::Connected && !first {
                live.connection.meter().on_path_lost();
            }
            self.emit_state(state).await?;
            if first {
                for channel in std::mem::take(&mut live.early) {
                    self.emit(EventKind::Channel(channel)).await?;
                }
                // What came up while there was nobody to tell. It leads to no further state.
                self.offer_what_is_due(live).await?;
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
            Signal::Heard(track) => {
                self.probe.heard(track.kind(), &track.queue);
                self.emit(EventKind::RemoteTrack(track)).await?;
                return Ok(Vec::new());
            }
            Signal::KeyframeWanted { ssrc } => {
                if let Some(track) = live.videos.of(ssrc) {
                    self.emit(EventKind::KeyframeWanted(track)).await?;
                }
                return Ok(Vec::new());
            }
            Signal::ServerFailed { index, problem } => {
                live.server_problem.get_or_insert(problem);
                // Of those that this link has: others may have come since.
                let url =
                    live.config.ice_servers.get(index).map(|server| server.url.clone()).unwrap_or_default();
                self.emit(EventKind::ServerFailed { url, problem }).await?;
                return Ok(Vec::new());
            }
            Signal::ChannelOpening(raw) => {
                if let Some(task) = carry_channel(live, raw, None) {
                    live.tasks.push(task);
                }
                return Ok(Vec::new());
            }
            Signal::Channel(channel) => {
                if live.sending {
                    self.emit(EventKind::Channel(channel)).await?;
                } else {
                    live.early.push(channel);
                }
                return Ok(Vec::new());
            }
            Signal::PerhapsClosed => return self.look_for_close(live).await,
            Signal::CertificateRefused { by_us } => Observation::CertificateRefused { by_us },
            // It may be of the time before the restart, so the engine is asked for what it has now.
            Signal::PathFound if live.steps.state() == LinkState::Reconnecting => {
                let path = self.ask(live.steps.step(), live.connection.path()).await?;
                if path.route.is_none() {
                    return Ok(Vec::new());
                }
                live.unanswered = None;
                Observation::PathFound
            }
            Signal::PathFound => {
                live.unanswered = None;
                Observation::PathFound
            }
            Signal::PathSilent => match self.dtls(live).await? {
                Dtls::Closed => Observation::RemoteClosed,
                _ => {
                    live.unanswered = Some(now());
                    return Ok(self.look_for_silence(live));
                }
            },
            // A handshake that the peer ends with close_notify makes the engine report a connection, too.
            Signal::Secured => match self.dtls(live).await? {
                Dtls::Closed => Observation::RemoteClosed,
                _ => Observation::Secured,
            },
            Signal::Failed => match self.dtls(live).await? {
                Dtls::Failed => Observation::HandshakeFailed,
                _ => Observation::PathLost,
            },
            Signal::Stopped => Observation::Stopped,
        };
        Ok(live.steps.observe(now(), observation))
    }

    /// Checks without an answer are silence, unless the peer is heard: not for ever, since a path that carries sound and no checks fails in
    /// the end.
    fn look_for_silence(&self, live: &mut Live) -> Vec<LinkState> {
        let Some(since) = live.unanswered else { return Vec::new() };
        let heard = live.connection.meter().hears(now(), HEARD);
        if heard && now().saturating_duration_since(since) < BORNE {
            return Vec::new();
        }
        live.unanswered = None;
        live.steps.observe(now(), Observation::PathSilent)
    }

    async fn dtls(&mut self, live: &Live) -> Result<Dtls, End> {
        self.ask(live.steps.step(), live.connection.dtls()).await
    }

    /// The engine tells nobody that the peer has closed when the last thing on a connection is media.
    async fn look_for_close(&mut self, live: &mut Live) -> Result<Vec<LinkState>, End> {
        if live.steps.state() == LinkState::Negotiating || self.dtls(live).await? != Dtls::Closed {
            return Ok(Vec::new());
        }
        Ok(live.steps.observe(now(), Observation::RemoteClosed))
    }

    /// What was gathered for an offer that nobody has answered is of the servers of then, and they can be others.
    async fn look_for_servers(&mut self, live: &mut Live) -> Result<(), End> {
        let present = self.servers.borrow().clone();
        if live.negotiation.is_unanswered() && !Arc::ptr_eq(&present, &live.gathered_with) {
            live.gathered_with = present;
            self.emit(EventKind::AddressChanged { lost: false }).await?;
        }
        Ok(())
    }

    async fn on_addresses(&mut self, live: &mut Live) -> Result<Vec<LinkState>, End> {
        let present = self.addresses.borrow_and_update().clone();
        let path = self.ask(live.steps.step(), live.connection.path()).await?;
        let lost = path.local.is_some_and(|own| !present.contains(&own));
        self.emit(EventKind::AddressChanged { lost }).await?;
        Ok(Vec::new())
    }

    /// All servers have answered, or were given enough time.
    async fn on_gathering_done(&mut self, live: &mut Live) -> Result<Vec<LinkState>, End> {
        if live.gathering_until.take().is_none() {
            return Ok(Vec::new());
        }
        // While connecting anew there may be no network for a moment; there will be another restart when there is.
        if live.local_candidates == 0 && !live.steps.can_restart() {
            let reason = match live.server_problem {
                Some(problem) if self.config.relay_only => FailReason::NoRelay { problem },
                _ => FailReason::NoLocalCandidates,
            };
            return Ok(live.steps.fail(now(), reason));
        }
        self.emit(EventKind::GatheringDone).await?;
        Ok(Vec::new())
    }

    async fn on_local_candidate(&mut self, live: &mut Live, candidate: Candidate) -> Result<(), End> {
        let hidden = self.config.relay_only && candidate.kind() != CandidateKind::Relay;
        // Where the engine itself said that it was done and goes on, what it had finished was the gathering before a restart.
        let late = live.gathering_until.is_none() && live.gathering_timed_out;
        if !candidate.is_usable() || hidden || late {
            tracing::trace!(kind = ?candidate.kind(), hidden, late, "own candidate not shown");
            return Ok(());
        }
        live.local_candidates += 1;
        let candidate = if self.config.relay_only { candidate.without_related_address() } else { candidate };
        let candidate = candidate.with_ufrag(live.session.as_deref());
        self.emit(EventKind::LocalCandidate(candidate)).await
    }

    /// The channel that every connection has; both sides make it before the first description.
    async fn open_signaling(&mut self, live: &mut Live) -> Result<(), End> {
        let connection = live.connection.clone();
        let opened = self.ask(live.steps.step(), connection.open_channel(None)).await?;
        let raw = opened.map_err(|error| failed(live.steps.step(), error.into()))?;
        carry_signaling(live, raw);
        Ok(())
    }
}

fn carry_signaling(live: &mut Live, raw: Arc<dyn RawChannel>) {
    let (ending, ended) = oneshot::channel();
    live.last_words = carry_channel(live, raw, Some(ended)).map(|task| (ending, task));
}

fn open_channel(live: &mut Live, options: ChannelOptions) {
    let Some(place) = live.channels.take() else { return };
    let (connection, outbox, places) = (live.connection.clone(), live.inbox.sender(), live.channels.clone());
    live.tasks.retain(|task| !task.is_finished());
    live.tasks.push(tokio::spawn(async move {
        places.pause().await;
        match connection.open_channel(Some(&options)).await {
            Ok(raw) => {
                drop(connection);
                channel::carry(raw, outbox, place, None).await;
            }
            Err(error) => tracing::debug!(?error, "a channel could not be opened"),
        }
    }));
}

fn carry_channel(
    live: &mut Live,
    raw: Arc<dyn RawChannel>,
    ending: Option<oneshot::Receiver<Infallible>>,
) -> Option<JoinHandle<()>> {
    live.tasks.retain(|task| !task.is_finished());
    let Some(place) = live.channels.take() else {
        live.tasks.push(tokio::spawn(async move { raw.close().await }));
        return None;
    };
    Some(tokio::spawn(channel::carry(raw, live.inbox.sender(), place, ending)))
}
