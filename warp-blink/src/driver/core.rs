//! One task: it owns the machine, feeds it what happens, and carries out what it says. It decides nothing.

mod effects;
mod requests;
mod run;
#[cfg(test)]
mod tests;
mod turning;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use simple_webrtc::Channel;
use tokio::{
    sync::{broadcast, mpsc, oneshot, watch},
    task::JoinHandle,
};

use super::{
    book::Book,
    clock,
    diary::{Diary, Recording},
    door::{Ask, Gate},
    fault::Losses,
    finder::Seeker,
    kept::KeptCalls,
    keyring::Keyring,
    ledger::Ledger,
    missed,
    reaches::Reaches,
    recall,
    shelf::Shelf,
    sounds::Sounds,
    store::SealedStore,
    turn::{Friends, TurnServer},
    vault::{Vault, Words},
    workers::{MediaJob, NodeJob, Reply, media_worker, node_worker},
};
use crate::{
    config::Config,
    error::{Error, Rejected},
    event::{ChannelId, Event, Findable, Snapshot},
    id::{CallId, Identity, NodeId, PublicKey},
    ports::{
        gossip::Gossip,
        media::{Media, MediaCommand},
    },
    proto::{
        Command, Effect, EffectId, Input, LinkId, Machine, Notice, Outcome, Saved,
        journal::Beginning,
        signal::{AppData, MAX_MEMBERS, MayInvite},
    },
    reach::FindConfig,
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
    Offer {
        to: Vec<PublicKey>,
        app_data: AppData,
        reply: oneshot::Sender<Result<CallId, Error>>,
    },
    Export {
        call: CallId,
        peer: PublicKey,
        reply: oneshot::Sender<Result<Vec<u8>, Error>>,
    },
    Import {
        bytes: Vec<u8>,
        reply: oneshot::Sender<Result<(), Error>>,
    },
    Media(MediaCommand, Reply),
    Learn {
        node: NodeId,
        address: String,
    },
    /// Over which link a data channel to somebody goes.
    ChannelTo(CallId, PublicKey, oneshot::Sender<Result<LinkId, Rejected>>),
    Channel(ChannelId, oneshot::Sender<Option<Channel>>),
    Shutdown(oneshot::Sender<()>),
    /// How many of these frames a key opens that is here.
    #[cfg(test)]
    Open(Vec<Vec<u8>>, oneshot::Sender<usize>),
    /// Whether there is any key that is shared with somebody in a call.
    #[cfg(test)]
    Shares(CallId, PublicKey, oneshot::Sender<bool>),
}

/// What the task is made of.
pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) identity: Identity,
    pub(crate) gossip: Arc<dyn Gossip>,
    pub(crate) media: Arc<dyn Media>,
    pub(crate) addresses: Vec<(NodeId, String)>,
    /// Nodes through which others are found.
    pub(crate) bootstrap: Vec<(NodeId, String)>,
    /// Relays that the user named.
    pub(crate) relays: Vec<(NodeId, String)>,
    pub(crate) finding: FindConfig,
    /// `None`: nothing is remembered.
    pub(crate) store: Option<Arc<SealedStore>>,
    pub(crate) contacts: Vec<PublicKey>,
    /// The connections with these are kept.
    pub(crate) keep_contacts: bool,
    pub(crate) blocked: Vec<PublicKey>,
    pub(crate) ask: Option<Ask>,
    /// The first transmission of every signal is lost.
    pub(crate) lossy: bool,
    pub(crate) recording: Option<Recording>,
    /// Who may relay for us, and the app's own servers.
    pub(crate) friends: Friends,
    /// What we relay for others, if anything.
    pub(crate) turn: Option<TurnServer>,
    #[cfg(test)]
    pub(crate) tap: super::hoard::Tap,
}

/// What the handle holds of the task.
pub(crate) struct Running {
    pub(crate) requests: mpsc::Sender<Request>,
    pub(crate) events: broadcast::WeakSender<Event>,
    pub(crate) snapshot: watch::Receiver<Arc<Snapshot>>,
    pub(crate) ledger: Ledger,
}

struct Core {
    machine: Machine,
    diary: Option<Diary>,
    vault: Vault,
    gate: Gate,
    losses: Losses,
    /// What rang on its first message alone.
    recalled: Shelf,
    /// Calls to which a later run can come back.
    kept: KeptCalls,
    /// Whom to tell of a call that they missed.
    missed: Shelf,
    /// Who may invite into calls of ours, and how many people they hold.
    own_calls: (MayInvite, u8),
    results: mpsc::Sender<(EffectId, Outcome)>,
    reaches: Reaches,
    /// What the machine was last told of the own record.
    findable: Findable,
    /// The connections with contacts are kept.
    keeps_contacts: bool,
    goodbye: Duration,
    gossip: Arc<dyn Gossip>,
    media: Arc<dyn Media>,
    node_jobs: mpsc::Sender<NodeJob>,
    media_jobs: mpsc::Sender<MediaJob>,
    sounds: Sounds,
    workers: Vec<JoinHandle<()>>,
    friends: Friends,
    turn: Option<TurnServer>,
    ended: VecDeque<(EffectId, Outcome)>,
    events: broadcast::Sender<Event>,
    /// What happened in this step: told after the snapshot shows it.
    told: Vec<Event>,
    ledger: Ledger,
    snapshot: watch::Sender<Arc<Snapshot>>,
    dropped: Counters,
    #[cfg(test)]
    tap: super::hoard::Tap,
}

/// What was found in the store.
struct Found {
    calls: Vec<(Saved, Words)>,
    notices: Vec<Notice>,
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
    // Lists of devices and files take up to seconds, which neither links nor a hang-up wait for.
    let sounds = Sounds::start(&parts.media);
    let workers = vec![
        tokio::spawn(node_worker(parts.gossip.clone(), node_queue, results.clone())),
        tokio::spawn(media_worker(parts.media.clone(), media_queue, results.clone())),
    ];
    let keys = Keyring::load(parts.identity.clone(), Shelf::new(parts.store.clone()));
    let keys = keys.await.map_err(|e| Error::Node(e.to_string()))?;
    let mut recalled = Shelf::new(parts.store.clone());
    let memory = recall::load(&mut recalled, clock::unix()).await;
    let (kept, calls) = KeptCalls::load(Shelf::new(parts.store.clone()), clock::unix()).await;
    let mut missed = Shelf::new(parts.store.clone());
    let found = Found { calls, notices: missed::load(&mut missed).await };
    let beginning = Beginning::new(parts.config.clone(), parts.identity.public(), parts.gossip.node())
        .with_memory(memory)
        .with_people(parts.contacts, parts.blocked);
    let machine = beginning.machine()?;
    let diary = parts.recording.map(|recording| Diary::begin(recording, &beginning));
    let (answers, dialed) = mpsc::channel(64);
    let shelf = Shelf::new(parts.store.clone());
    let (finding, identity) = (parts.finding, parts.identity);
    let seeker = Seeker::load(parts.gossip.clone(), finding, identity, shelf, answers.clone()).await;
    let book = Book::load(Shelf::new(parts.store)).await;
    let mut reaches = Reaches::new(parts.gossip.clone(), book, seeker, answers);
    for (node, address) in parts.relays {
        reaches.relay(node, &address);
    }
    let now = clock::now();
    let nodes: Vec<NodeId> = parts.addresses.iter().map(|(node, _)| *node).collect();
    for (node, address) in parts.addresses {
        reaches.learn(node, &address);
    }
    for node in nodes {
        reaches.want(now, node);
    }
    for (node, address) in parts.bootstrap {
        reaches.anchor(now, node, &address);
    }
    if parts.keep_contacts {
        reaches.keep(now, &machine.contacts().collect::<Vec<_>>());
    }
    let (snapshot, snapshots) = watch::channel(Arc::new(machine.snapshot()));
    let weak = events.downgrade();
    let ledger = Ledger::default();
    #[cfg_attr(not(test), expect(unused_mut, reason = "a test can make it keep everything"))]
    let mut vault = Vault::new(keys);
    #[cfg(test)]
    {
        vault.hoards = parts.tap.hoards;
    }
    let core = Core {
        machine,
        diary,
        vault,
        gate: Gate::new(parts.ask),
        losses: Losses::new(parts.lossy),
        recalled,
        kept,
        missed,
        own_calls: (parts.config.may_invite, parts.config.max_members.clamp(2, MAX_MEMBERS as u8)),
        results,
        reaches,
        findable: Findable::default(),
        keeps_contacts: parts.keep_contacts,
        goodbye: parts.config.farewell.min(MAX_GOODBYE),
        gossip: parts.gossip,
        media: parts.media,
        node_jobs,
        media_jobs,
        sounds,
        workers,
        friends: parts.friends,
        turn: parts.turn,
        ended: VecDeque::new(),
        events,
        told: Vec::new(),
        ledger: ledger.clone(),
        snapshot,
        dropped: Counters::default(),
        #[cfg(test)]
        tap: parts.tap,
    };
    core.publish();
    tokio::spawn(core.run(request_queue, result_queue, dialed, found));
    Ok(Running { requests, events: weak, snapshot: snapshots, ledger })
}

impl Core {
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
        for effect in self.handle(input)? {
            self.carry_out(effect);
        }
        self.vault.step_over();
        // What ended at once. Each result may bring further effects, but no effect's result repeats the effect.
        while let Some((effect, outcome)) = self.ended.pop_front() {
            for effect in self.handle(Input::Done { effect, outcome })? {
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

    /// The one place where the machine takes anything: what it takes, and what it says to it, can be recorded here.
    fn handle(&mut self, input: Input) -> Result<Vec<Effect>, Rejected> {
        match &mut self.diary {
            Some(diary) => diary.handle(&mut self.machine, clock::now(), input),
            None => self.machine.handle(clock::now(), input),
        }
    }

    /// Shows the present state, if it has changed.
    fn publish(&self) {
        let mut snapshot = self.machine.snapshot();
        snapshot.addresses = self.gossip.listening();
        let (gossip, all, dropped) =
            (self.gossip.counters(), &mut snapshot.statistics.counters, &self.dropped);
        all.refused.add(&dropped.refused);
        all.refused.shape += gossip.rejected;
        all.refused.version += gossip.ignored;
        all.refused.record += gossip.records_forged + self.reaches.forged();
        all.stray += dropped.stray;
        all.duplicate += dropped.duplicate;
        self.ledger.note(&snapshot);
        self.snapshot.send_if_modified(|old| {
            let new = **old != snapshot;
            if new {
                *old = Arc::new(snapshot);
            }
            new
        });
    }
}
