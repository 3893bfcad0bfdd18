//! The machine: one entry point, and the bookkeeping that all its parts share.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use super::{
    call::Call,
    effect::{Effect, EffectId, EffectKind, Gift, LinkId, TopicRef},
    input::{Command, Input, Notice, Saved},
    participant::Participant,
    people::People,
    recordings::Recordings,
    replay::ReplayMemory,
    signal::{AppData, Body, Hello, HelloKind, Lane, SUITE_CLASSICAL, SUITE_HYBRID, VERSION},
};
use crate::{
    config::{Config, PostQuantum},
    error::Rejected,
    event::{EndedCall, ErrorNote, Event, Findable, LocalMedia, NodeState},
    id::{CallId, NodeId, PublicKey},
    stats::{Counters, SoundStats},
    time::{Instant, UnixTime},
};

/// How many ended calls are remembered, so that what still arrives of them changes nothing. The oldest is forgotten
/// first.
pub(super) const MAX_ENDED: usize = 512;

/// The most calls in any state. Pending ones are bounded by [`Config::max_pending`]; this also bounds first messages
/// that were not confirmed yet, and farewells. A first message beyond it is counted and gets no answer.
pub(super) const MAX_CALLS: usize = 64;

/// How long a first message may stay unconfirmed. Its sender confirms within one round trip, or one resend (4 s).
pub(super) const ARRIVING: Duration = Duration::from_secs(10);

/// What a result is for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Purpose {
    Hello { call: CallId, peer: PublicKey, kind: HelloKind, lane: Lane },
    Welcome { call: CallId, peer: PublicKey },
    Packet { call: CallId, peer: PublicKey, seq: u32 },
    OnLink { call: CallId, peer: PublicKey, seq: u32 },
    Announce { call: CallId },
    Reach { call: CallId, peer: PublicKey, since: Instant },
    Key { call: CallId, n: u32 },
    Roll { call: CallId, n: u32 },
    Link(LinkId),
    Audio { call: CallId },
    Remember { call: CallId },
    Keep { peer: PublicKey, gift: Gift },
    Other,
}

/// The call machine of one identity.
#[derive(Clone, Debug, PartialEq)]
pub struct Machine {
    pub(super) config: Config,
    pub(super) own: PublicKey,
    pub(super) node: NodeId,
    pub(super) node_state: NodeState,
    pub(super) findable: Findable,
    pub(super) people: People,
    pub(super) memory: ReplayMemory,
    /// When the app was last told of a stranger's incompatible offer.
    pub(super) strangers_told: Option<Instant>,
    pub(super) calls: BTreeMap<CallId, Call>,
    pub(super) ended: VecDeque<CallId>,
    /// Calls of ours that were merged into another one, as long as that lasts: one each.
    pub(super) aliases: BTreeMap<CallId, CallId>,
    pub(super) outstanding: BTreeMap<EffectId, Purpose>,
    pub(super) next_effect: u64,
    /// Calls of an earlier run.
    pub(super) saved: BTreeMap<CallId, Saved>,
    /// Missed calls of which the callees are still to be told: one each.
    pub(super) notices: BTreeMap<PublicKey, Pending>,
    /// The wall clock, and when it was read.
    pub(super) wall: Option<(UnixTime, Instant)>,
    pub(super) local: LocalMedia,
    /// What of it is recorded.
    pub(super) recordings: Recordings,
    /// What the sound engine told last.
    pub(super) sound: Option<SoundStats>,
    /// What the app can read of calls that have ended, newest first.
    pub(super) history: VecDeque<EndedCall>,
    /// What went wrong, newest first, one for each peer.
    pub(super) errors: VecDeque<ErrorNote>,
    pub(super) counters: Counters,
    pub(super) shutting_down: bool,
    /// How many connections are kept ready.
    pub(super) prepared: u32,
}

/// A notice, and when it may be tried again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Pending {
    pub(super) notice: Notice,
    pub(super) not_before: Option<Instant>,
}

/// The effects of one step, in order.
pub(super) struct Out<'a> {
    next: &'a mut u64,
    outstanding: &'a mut BTreeMap<EffectId, Purpose>,
    effects: Vec<Effect>,
}

impl Out<'_> {
    pub(super) fn emit(&mut self, event: Event) {
        let id = self.id();
        self.effects.push(Effect { id, kind: EffectKind::Emit(event) });
    }

    pub(super) fn push(&mut self, purpose: Purpose, kind: EffectKind) {
        let id = self.id();
        self.outstanding.insert(id, purpose);
        self.effects.push(Effect { id, kind });
    }

    pub(super) fn run(&mut self, kind: EffectKind) {
        self.push(Purpose::Other, kind);
    }

    /// What a result is for; given once.
    pub(super) fn take(&mut self, effect: EffectId) -> Option<Purpose> {
        self.outstanding.remove(&effect)
    }

    fn id(&mut self) -> EffectId {
        *self.next += 1;
        EffectId(*self.next)
    }
}

impl Machine {
    /// A machine of this identity, on this node.
    pub fn new(config: Config, own: PublicKey, node: NodeId) -> Self {
        Self {
            config,
            own,
            node,
            node_state: NodeState::Starting,
            findable: Findable::default(),
            people: People::default(),
            // Without a memory nothing rings on its first message alone.
            memory: ReplayMemory::beginning(UnixTime::from_millis(u64::MAX)),
            strangers_told: None,
            calls: BTreeMap::new(),
            ended: VecDeque::new(),
            aliases: BTreeMap::new(),
            outstanding: BTreeMap::new(),
            next_effect: 0,
            saved: BTreeMap::new(),
            notices: BTreeMap::new(),
            wall: None,
            local: LocalMedia::default(),
            recordings: Recordings::default(),
            sound: None,
            history: VecDeque::new(),
            errors: VecDeque::new(),
            counters: Counters::default(),
            shutting_down: false,
            prepared: 0,
        }
    }

    /// With the memory of what rang on its first message alone. Without one, every call is confirmed before it rings.
    pub fn with_memory(mut self, memory: ReplayMemory) -> Self {
        self.memory = memory;
        self
    }

    /// With these contacts and blocked keys, as the app keeps them. Nobody gets a new token for it.
    ///
    /// # Errors
    /// [`Rejected::ListFull`] above [`MAX_PEOPLE`](super::MAX_PEOPLE) of either, [`Rejected::OwnKey`].
    pub fn with_people(
        mut self,
        contacts: impl IntoIterator<Item = PublicKey>,
        blocked: impl IntoIterator<Item = PublicKey>,
    ) -> Result<Self, Rejected> {
        for peer in contacts {
            self.not_own(&peer)?;
            self.people.add_contact(peer)?;
        }
        for peer in blocked {
            self.not_own(&peer)?;
            self.people.block(&peer)?;
        }
        Ok(self)
    }

    /// The memory of what rang on its first message alone, to be kept.
    pub const fn memory(&self) -> &ReplayMemory {
        &self.memory
    }

    /// The first effects: what the machine needs before anything happens.
    pub fn start(&mut self) -> Vec<Effect> {
        self.with_out(|machine, out| {
            machine.inboxes().for_each(|inbox| out.run(EffectKind::Subscribe(inbox)));
            Ok(())
        })
        .unwrap_or_default()
    }

    /// Takes one input and says what to do about it.
    ///
    /// # Errors
    /// [`Rejected`] if the input is a [`Command`] that the present state does not allow; the machine is then as it
    /// was. No other input is ever rejected: what makes no sense is counted.
    pub fn handle(&mut self, now: Instant, input: Input) -> Result<Vec<Effect>, Rejected> {
        self.with_out(|machine, out| {
            match input {
                Input::Command(command) => machine.command(now, command, out)?,
                Input::Hello(arrived) => machine.on_hello(now, *arrived, out),
                Input::HelloAgain { call, from, session } => machine.on_hello_again(now, call, from, session),
                Input::Saved(saved) => machine.on_saved(*saved),
                Input::Notice(notice) => machine.on_stored_notice(notice),
                Input::Clock(wall) => machine.on_clock(now, wall, out),
                Input::Welcome { call, from, session, welcome } => {
                    machine.on_welcome(now, call, from, session, &welcome, out);
                }
                Input::Packet { from, session, packet } => {
                    machine.on_packet(now, from, session, *packet, false, out)
                }
                Input::PacketOnLink { link, session, packet } => {
                    machine.on_link_packet(now, link, session, *packet, out);
                }
                Input::Known { peer, known } => machine.people.restore(peer, known),
                Input::CallMessage { call, epoch, from, body } => {
                    machine.on_call_message(now, call, epoch, from, body, out);
                }
                Input::PeerSubscribed(topic) => machine.on_peer_subscribed(now, topic, out),
                Input::Node(state) => machine.on_node(state, out),
                Input::Findable(state) => machine.on_findable(state, out),
                Input::Media(media) => machine.on_media(now, media, out),
                Input::Done { effect, outcome } => machine.on_done(now, effect, outcome, out),
                Input::Stopped { cause } => machine.on_stopped(now, cause, out),
                Input::Tick => {}
            }
            machine.on_time(now, out);
            machine.prepare(out);
            Ok(())
        })
    }

    /// Nothing is left to do: no call, no farewell.
    pub fn is_idle(&self) -> bool {
        self.calls.is_empty()
    }

    fn with_out<F>(&mut self, f: F) -> Result<Vec<Effect>, Rejected>
    where
        F: FnOnce(&mut Self, &mut Out<'_>) -> Result<(), Rejected>,
    {
        // The effects' bookkeeping is lent out during the step, so that the step can borrow the calls.
        let mut next = self.next_effect;
        let mut outstanding = std::mem::take(&mut self.outstanding);
        let mut out = Out { next: &mut next, outstanding: &mut outstanding, effects: Vec::new() };
        let result = f(self, &mut out);
        let effects = out.effects;
        self.outstanding = outstanding;
        self.next_effect = next;
        result.map(|()| effects)
    }

    pub(super) fn hello(
        &self,
        call: &Call,
        kind: HelloKind,
        sent_at: UnixTime,
        app_data: AppData,
    ) -> Box<Hello> {
        Box::new(Hello {
            kind,
            from: self.own,
            node: self.node,
            call: call.id,
            sent_at,
            ring_ms: u32::try_from(self.config.ring_timeout.as_millis()).unwrap_or(u32::MAX),
            versions: vec![VERSION],
            suites: match self.config.post_quantum {
                PostQuantum::Require => vec![SUITE_HYBRID],
                PostQuantum::Prefer => vec![SUITE_HYBRID, SUITE_CLASSICAL],
                PostQuantum::Off => vec![SUITE_CLASSICAL],
            },
            media: call.media,
            app_data,
        })
    }

    pub(super) fn peer(&self, id: CallId, key: &PublicKey) -> Option<&Participant> {
        self.calls.get(&id)?.peers.get(key)
    }

    pub(super) fn peer_mut(&mut self, id: CallId, key: &PublicKey) -> Option<&mut Participant> {
        self.calls.get_mut(&id)?.peers.get_mut(key)
    }

    pub(super) fn under_way(&self) -> Option<CallId> {
        self.calls.values().find(|c| c.is_under_way()).map(|c| c.id)
    }

    /// How many calls of such callers ring.
    pub(super) fn pending(&self, of: impl Fn(&PublicKey) -> bool) -> usize {
        let rings = |c: &&Call| c.is_incoming() && c.caller.is_some_and(|caller| of(&caller));
        self.calls.values().filter(rings).count()
    }

    /// Where first messages are heard.
    pub(super) fn inboxes(&self) -> impl Iterator<Item = TopicRef> + use<> {
        let owner = self.own;
        let open = self.config.open_inbox.then_some(Lane::Strangers);
        [Some(Lane::Contacts), open].into_iter().flatten().map(move |lane| TopicRef::Inbox { owner, lane })
    }

    pub(super) fn remember_ended(&mut self, call: CallId) {
        if !self.ended.contains(&call) {
            if self.ended.len() >= MAX_ENDED {
                self.ended.pop_front();
            }
            self.ended.push_back(call);
        }
    }

    /// Queues a signal to a participant; a candidate that finds the queue full is counted as expired.
    pub(super) fn say(&mut self, now: Instant, id: CallId, to: &PublicKey, generation: u32, body: Body) {
        let Some(peer) = self.calls.get_mut(&id).and_then(|c| c.peers.get_mut(to)) else { return };
        if !peer.delivery.push(now, generation, body) {
            self.counters.expired += 1;
            tracing::warn!(call = %id, "signal queue full, candidate dropped");
        }
    }
}

impl From<Command> for Input {
    fn from(command: Command) -> Self {
        Self::Command(command)
    }
}
