//! One task: it owns the machine, feeds it what happens, and carries out what it says. It decides nothing.

mod effects;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::{
    sync::{broadcast, mpsc, oneshot, watch},
    task::JoinHandle,
};

use super::{
    book::Book,
    clock,
    door::{Ask, Gate},
    fault::Losses,
    keyring::Keyring,
    post,
    reaches::{Dialed, Reaches},
    recall,
    shelf::Shelf,
    store::SealedStore,
    vault::Vault,
    workers::{Job, MediaJob, media_worker, node_worker},
};
use crate::{
    config::Config,
    error::{Error, Rejected},
    event::{Event, NodeState, Snapshot},
    id::{Identity, NodeId, PublicKey},
    ports::{
        gossip::{self, Gossip, GossipEvent},
        media::{Media, MediaCommand},
    },
    proto::{Command, EffectId, Input, Machine, Outcome},
    stats::Counters,
};

/// Jobs waiting for the node or the devices. One call makes a few dozen at once; what finds no room fails, and the
/// machine sends it again.
const MAX_JOBS: usize = 512;

/// Events waiting for a reader. A call makes about thirty, and one every few seconds after that.
pub(crate) const MAX_EVENTS: usize = 1024;

/// How long a shutdown waits for the other side to hear of it. A round trip over a bad network and one resend; the
/// command line promises to be gone within 2 s.
const MAX_GOODBYE: Duration = Duration::from_secs(1);

/// What the handle asks of the task.
pub(crate) enum Request {
    Command(Command, oneshot::Sender<Result<(), Rejected>>),
    Media(MediaCommand, oneshot::Sender<Result<(), String>>),
    Learn { node: NodeId, address: String },
    Shutdown(oneshot::Sender<()>),
}

/// What the task is made of.
pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) identity: Identity,
    pub(crate) gossip: Arc<dyn Gossip>,
    pub(crate) media: Arc<dyn Media>,
    pub(crate) addresses: Vec<(NodeId, String)>,
    /// `None`: nothing is remembered.
    pub(crate) store: Option<Arc<SealedStore>>,
    pub(crate) contacts: Vec<PublicKey>,
    pub(crate) blocked: Vec<PublicKey>,
    pub(crate) ask: Option<Ask>,
    /// The first transmission of every signal is lost.
    pub(crate) lossy: bool,
}

/// What the handle holds of the task.
pub(crate) struct Running {
    pub(crate) requests: mpsc::Sender<Request>,
    pub(crate) events: broadcast::WeakSender<Event>,
    pub(crate) snapshot: watch::Receiver<Arc<Snapshot>>,
}

struct Core {
    machine: Machine,
    vault: Vault,
    gate: Gate,
    losses: Losses,
    /// What rang on its first message alone.
    recalled: Shelf,
    results: mpsc::Sender<(EffectId, Outcome)>,
    reaches: Reaches,
    goodbye: Duration,
    gossip: Arc<dyn Gossip>,
    media: Arc<dyn Media>,
    node_jobs: mpsc::Sender<(EffectId, Job)>,
    media_jobs: mpsc::Sender<MediaJob>,
    workers: Vec<JoinHandle<()>>,
    ended: VecDeque<(EffectId, Outcome)>,
    events: broadcast::Sender<Event>,
    /// What happened in this step: told after the snapshot shows it.
    told: Vec<Event>,
    snapshot: watch::Sender<Arc<Snapshot>>,
    dropped: Counters,
}

/// Starts the task.
///
/// # Errors
/// [`Error::Node`] without randomness, [`Error::Rejected`] if there are too many contacts or blocked keys.
pub(crate) async fn start(parts: Parts) -> Result<Running, Error> {
    let (requests, request_queue) = mpsc::channel(64);
    let (events, _) = broadcast::channel(MAX_EVENTS);
    let (results, result_queue) = mpsc::channel(MAX_JOBS);
    let (node_jobs, node_queue) = mpsc::channel(MAX_JOBS);
    let (media_jobs, media_queue) = mpsc::channel(MAX_JOBS);
    let workers = vec![
        tokio::spawn(node_worker(parts.gossip.clone(), node_queue, results.clone())),
        tokio::spawn(media_worker(parts.media.clone(), media_queue, results.clone())),
    ];
    let keys = Keyring::load(parts.identity.clone(), Shelf::new(parts.store.clone()));
    let keys = keys.await.map_err(|e| Error::Node(e.to_string()))?;
    let mut recalled = Shelf::new(parts.store.clone());
    let memory = recall::load(&mut recalled, clock::unix()).await;
    let machine = Machine::new(parts.config.clone(), parts.identity.public(), parts.gossip.node())
        .with_memory(memory)
        .with_people(parts.contacts, parts.blocked)?;
    let (mut reaches, dialed) = Reaches::new(parts.gossip.clone(), Book::load(Shelf::new(parts.store)).await);
    let now = clock::now();
    let nodes: Vec<NodeId> = parts.addresses.iter().map(|(node, _)| *node).collect();
    for (node, address) in parts.addresses {
        reaches.learn(node, &address);
    }
    for node in nodes {
        reaches.want(now, node, None);
    }
    let (snapshot, snapshots) = watch::channel(Arc::new(machine.snapshot()));
    let weak = events.downgrade();
    let core = Core {
        machine,
        vault: Vault::new(keys),
        gate: Gate::new(parts.ask),
        losses: Losses::new(parts.lossy),
        recalled,
        results,
        reaches,
        goodbye: parts.config.farewell.min(MAX_GOODBYE),
        gossip: parts.gossip,
        media: parts.media,
        node_jobs,
        media_jobs,
        workers,
        ended: VecDeque::new(),
        events,
        told: Vec::new(),
        snapshot,
        dropped: Counters::default(),
    };
    core.publish();
    tokio::spawn(core.run(request_queue, result_queue, dialed));
    Ok(Running { requests, events: weak, snapshot: snapshots })
}

impl Core {
    async fn run(
        mut self,
        mut requests: mpsc::Receiver<Request>,
        mut results: mpsc::Receiver<(EffectId, Outcome)>,
        mut dialed: mpsc::Receiver<Dialed>,
    ) {
        // Both were handed over fresh; a second reader would be a defect of the builder.
        let (Some(mut gossip), Some(mut media)) = (self.gossip.take_events(), self.media.take_events())
        else {
            tracing::error!("node or media are in use by somebody else");
            return;
        };
        let mut open = true;
        let mut stopping: Option<(crate::time::Instant, Vec<oneshot::Sender<()>>)> = None;
        let known: Vec<_> = self.vault.keys().known().collect();
        for (peer, known) in known {
            self.feed(Input::Known { peer, known });
        }
        for effect in self.machine.start() {
            self.carry_out(effect);
        }
        self.on_node_state(self.gossip.state());
        loop {
            self.publish();
            let now = clock::now();
            if let Some((until, _)) = &stopping
                && (self.machine.is_idle() || *until <= now)
            {
                break;
            }
            let until = stopping.as_ref().map(|(until, _)| *until);
            let timeouts = [
                self.machine.next_timeout(),
                self.reaches.next_timeout(),
                self.gate.next_timeout(now),
                until,
            ];
            let due = timeouts.into_iter().flatten().min();
            let wait = due.map_or(Duration::from_secs(3600), |t| t.since(now));
            tokio::select! {
                request = requests.recv(), if open => match request {
                    Some(Request::Shutdown(done)) => {
                        let (_, waiting) = stopping.get_or_insert_with(|| (now + self.goodbye, Vec::new()));
                        waiting.push(done);
                        // Already shutting down is as good.
                        let _ = self.step(Input::Command(Command::Shutdown));
                    }
                    Some(request) => self.on_request(request),
                    // The last handle is gone: what runs is hung up.
                    None => {
                        open = false;
                        stopping.get_or_insert_with(|| (now + self.goodbye, Vec::new()));
                        let _ = self.step(Input::Command(Command::Shutdown));
                    }
                },
                event = gossip.recv() => match event {
                    Some(event) => self.on_gossip(event),
                    None => {
                        self.feed(Input::Stopped { cause: "the node has ended: start a new one".to_owned() });
                        break;
                    }
                },
                input = media.recv() => match input {
                    Some(input) => self.feed(Input::Media(input)),
                    None => {
                        self.feed(Input::Stopped { cause: "links and devices have ended".to_owned() });
                        break;
                    }
                },
                Some((effect, outcome)) = results.recv() => self.feed(Input::Done { effect, outcome }),
                Some(dialed) = dialed.recv() => {
                    let ended = self.reaches.on_dialed(clock::now(), dialed);
                    self.finish(ended);
                }
                () = tokio::time::sleep(wait) => {
                    let ended = self.reaches.on_time(clock::now());
                    self.finish(ended);
                    self.open_next();
                    self.feed(Input::Tick);
                }
            }
        }
        self.stop().await;
        self.publish();
        for done in stopping.into_iter().flat_map(|(_, waiting)| waiting) {
            // Whoever asked may have stopped waiting.
            let _ = done.send(());
        }
    }

    async fn stop(&mut self) {
        // Workers finish what is queued (a last goodbye), within the node's own bound, before the node ends.
        let (node_jobs, _) = mpsc::channel(1);
        let (media_jobs, _) = mpsc::channel(1);
        self.node_jobs = node_jobs;
        self.media_jobs = media_jobs;
        for worker in self.workers.drain(..) {
            let abort = worker.abort_handle();
            if tokio::time::timeout(Duration::from_millis(500), worker).await.is_err() {
                abort.abort();
            }
        }
        self.reaches.close().await;
        self.vault.keys_mut().close().await;
        self.recalled.close().await;
        self.media.shutdown().await;
        self.gossip.shutdown().await;
        // Says nothing where something else has ended it before.
        if !matches!(self.machine.snapshot().node, NodeState::Offline { .. }) {
            self.feed(Input::Stopped { cause: "shut down".to_owned() });
        }
    }

    fn on_request(&mut self, request: Request) {
        match request {
            Request::Command(command, reply) => {
                let result = self.step(Input::Command(command));
                // The app may have dropped the future; the command holds all the same.
                let _ = reply.send(result);
            }
            Request::Media(command, reply) => {
                if let Err(
                    mpsc::error::TrySendError::Full((_, _, reply))
                    | mpsc::error::TrySendError::Closed((_, _, reply)),
                ) = self.media_jobs.try_send((None, command, Some(reply)))
                    && let Some(reply) = reply
                {
                    let _ = reply.send(Err("the sound devices are busy: try again".to_owned()));
                }
            }
            Request::Learn { node, address } => {
                self.reaches.learn(node, &address);
                let ended = self.reaches.want(clock::now(), node, None);
                self.finish(ended);
            }
            Request::Shutdown(_) => {}
        }
    }

    fn on_gossip(&mut self, event: GossipEvent) {
        let now = clock::now();
        match event {
            GossipEvent::Message { topic, data } => {
                match post::open(&mut self.vault, &mut self.gate, &topic, data) {
                    Ok(Some(input)) => {
                        if let Input::Welcome { from, welcome, .. } = &input {
                            self.reaches.lives_at(*from, welcome.node);
                        }
                        self.feed(input);
                    }
                    Ok(None) => self.open_next(),
                    Err(dropped) => dropped.count(&mut self.dropped),
                }
            }
            GossipEvent::PeerSubscribed { topic } => {
                if let Some(meaning) = self.vault.meaning(&topic) {
                    self.feed(Input::PeerSubscribed(meaning));
                }
            }
            GossipEvent::PeerConnected { node, via } => {
                let ended = self.reaches.on_connected(now, node, via);
                self.finish(ended);
            }
            GossipEvent::PeerDisconnected { node } => {
                let ended = self.reaches.on_disconnected(now, node);
                self.finish(ended);
            }
            GossipEvent::State(state) => self.on_node_state(state),
            GossipEvent::Lagged { dropped } => tracing::warn!(dropped, "gossip events were dropped"),
            // Addresses are read with the snapshot; the rest says nothing about a call.
            _ => {}
        }
    }

    /// Opens the first messages whose turn it is. Each lane's burst bounds how long this takes.
    fn open_next(&mut self) {
        while let Some(opened) = self.gate.next(clock::now(), &mut self.vault) {
            match opened {
                Ok(input) => self.feed(input),
                Err(turned) => post::Dropped::from(turned).count(&mut self.dropped),
            }
        }
    }

    fn on_node_state(&mut self, state: gossip::NodeState) {
        let state = match state {
            gossip::NodeState::Starting => NodeState::Starting,
            gossip::NodeState::Online => NodeState::Online,
            gossip::NodeState::Offline { cause } => NodeState::Offline { cause: cause.to_string() },
        };
        self.feed(Input::Node(state));
    }

    /// An input that is no command: never rejected.
    fn feed(&mut self, input: Input) {
        if let Err(rejected) = self.step(input) {
            tracing::error!(%rejected, "the machine rejected what is no command");
        }
    }

    fn finish(&mut self, ended: Vec<(EffectId, Outcome)>) {
        for (effect, outcome) in ended {
            self.feed(Input::Done { effect, outcome });
        }
    }

    fn step(&mut self, input: Input) -> Result<(), Rejected> {
        let effects = self.machine.handle(clock::now(), input)?;
        for effect in effects {
            self.carry_out(effect);
        }
        self.vault.step_over();
        // What ended at once. Each result may bring further effects, but no effect's result repeats the effect.
        while let Some((effect, outcome)) = self.ended.pop_front() {
            for effect in self.machine.handle(clock::now(), Input::Done { effect, outcome })? {
                self.carry_out(effect);
            }
        }
        self.publish();
        for event in self.told.drain(..) {
            // Without a reader there is nobody to tell; the snapshot holds what matters.
            let _ = self.events.send(event);
        }
        Ok(())
    }

    /// Shows the present state, if it has changed.
    fn publish(&self) {
        let mut snapshot = self.machine.snapshot();
        snapshot.addresses = self.gossip.listening();
        let (gossip, all, dropped) = (self.gossip.counters(), &mut snapshot.counters, &self.dropped);
        all.refused.add(&dropped.refused);
        all.refused.shape += gossip.rejected;
        all.refused.version += gossip.ignored;
        all.stray += dropped.stray;
        all.duplicate += dropped.duplicate;
        self.snapshot.send_if_modified(|old| {
            let new = **old != snapshot;
            if new {
                *old = Arc::new(snapshot);
            }
            new
        });
    }
}
