//! What goes into the machine and what comes out of it.

use serde::{Deserialize, Serialize};

use super::{
    people::Known,
    signal::{
        AppData, Body, CallBody, Candidate, Description, Hello, Lane, MediaFormat, Packet, SUITE_CLASSICAL,
        Welcome,
    },
};
use crate::{
    config::Admission,
    event::{Event, NodeState, Step, Via, Warning},
    id::{CallId, PublicKey},
    stats::LinkStats,
    time::UnixTime,
};

/// The name of an effect. Every effect but [`EffectKind::Emit`] ends in exactly one [`Input::Done`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EffectId(pub(super) u64);

/// Something to carry out.
#[derive(Clone, Debug, PartialEq)]
pub struct Effect {
    /// Its name, for the result.
    pub id: EffectId,
    /// What to do.
    pub kind: EffectKind,
}

/// A topic by its meaning; the driver knows its name, which derives from keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TopicRef {
    /// Where first messages to this identity arrive, in this lane.
    Inbox {
        /// Whose.
        owner: PublicKey,
        /// Which of the two.
        lane: Lane,
    },
    /// Where this participant of this call is told things.
    Peer {
        /// The call.
        call: CallId,
        /// Who alone subscribes.
        owner: PublicKey,
    },
    /// Where all participants of a call are told things, in one epoch of its key.
    Call {
        /// The call.
        call: CallId,
        /// The epoch.
        epoch: u32,
    },
}

/// The number of one session with one peer in one call, counted from 1 by the machine. A session is opened by a first
/// message of either side; there is a second one when a side comes back after a crash, or when both opened one at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionNo(pub u32);

/// A first message that was opened, and what the driver knows of it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Arrived {
    /// What it says.
    pub hello: Hello,
    /// The suite that it is sealed in.
    pub suite: u8,
    /// The wall clock here, when it arrived.
    pub wall: UnixTime,
    /// What the app's admission callback said, where there is one.
    pub verdict: Option<bool>,
}

impl Arrived {
    /// In the classical suite, at the time at which it says that it was sent.
    pub fn new(hello: Hello) -> Self {
        Self { suite: SUITE_CLASSICAL, wall: hello.sent_at, verdict: None, hello }
    }
}

/// What a peer gives of itself inside a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Gift {
    /// Its contact token.
    Token,
    /// Its ML-KEM key.
    KemKey,
}

/// The name of one link: a new generation is a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkId {
    /// The call.
    pub call: CallId,
    /// The other end.
    pub peer: PublicKey,
    /// Counts the connections to this peer in this call, from 1.
    pub generation: u32,
}

/// What to do with a link.
#[derive(Clone, Debug, PartialEq)]
pub enum LinkCommand {
    /// Make an offer.
    Dial,
    /// Answer this offer.
    Accept(Description),
    /// Take this answer.
    Apply(Description),
    /// Take this candidate.
    Candidate(Candidate),
    /// No further candidates come.
    EndOfCandidates,
    /// Close, and say so to the other end.
    Close,
}

/// What to carry out.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum EffectKind {
    /// Tell the app. The only effect without a result.
    Emit(Event),
    /// Listen on a topic.
    Subscribe(TopicRef),
    /// Listen no more.
    Unsubscribe(TopicRef),
    /// Make sure that the peer's node is connected. Ends in [`Outcome::Reached`] or [`Outcome::Failed`].
    Reach {
        /// Who.
        peer: PublicKey,
    },
    /// Publish a first message on the peer's inbox of that lane. The second one of the same session and lane repeats the
    /// first.
    SendHello {
        /// To whom.
        to: PublicKey,
        /// Over which lane.
        lane: Lane,
        /// In which suite.
        suite: u8,
        /// The session that an answer opens.
        session: SessionNo,
        /// What.
        hello: Box<Hello>,
    },
    /// Answer (again) the first message of that peer that opens this session.
    SendWelcome {
        /// The call.
        call: CallId,
        /// To whom.
        to: PublicKey,
        /// The session.
        session: SessionNo,
        /// What.
        welcome: Welcome,
    },
    /// Wipe one session of a call, in which nothing is received any more.
    DropSession {
        /// The call.
        call: CallId,
        /// With whom.
        peer: PublicKey,
        /// Which.
        session: SessionNo,
    },
    /// Keep what the packet of this step brought, also for later runs.
    Keep {
        /// Of whom.
        peer: PublicKey,
        /// What.
        gift: Gift,
    },
    /// Make a new contact token: the one before opens nothing any more.
    NewToken,
    /// Note, so that a restart does not forget it, that this call is about to ring on its first message alone.
    Remember {
        /// The call.
        call: CallId,
        /// When its caller says that it was sent.
        sent_at: UnixTime,
    },
    /// Seal a message under the session and publish it on the peer's topic.
    Send {
        /// To whom.
        to: PublicKey,
        /// Under which session.
        session: SessionNo,
        /// What; it names its call.
        packet: Box<Packet>,
    },
    /// Seal a message under the call key and publish it on the call's topic.
    SendCall {
        /// The call.
        call: CallId,
        /// Under which key.
        epoch: u32,
        /// What.
        body: CallBody,
    },
    /// Make a random key for an epoch of a call.
    NewCallKey {
        /// The call.
        call: CallId,
        /// The epoch.
        epoch: u32,
    },
    /// Do something with a link.
    Link {
        /// Which.
        link: LinkId,
        /// What.
        command: LinkCommand,
    },
    /// Open microphone and speaker. Answered by [`MediaInput::Started`] as well.
    OpenAudio {
        /// For which call.
        call: CallId,
        /// In which format.
        media: MediaFormat,
    },
    /// Close microphone and speaker.
    CloseAudio {
        /// For which call.
        call: CallId,
    },
    /// Send silence, or stop to.
    SetMuted(bool),
    /// Play nothing, or stop to.
    SetDeafened(bool),
    /// Wipe keys, sessions and topics of a call.
    Forget {
        /// Which.
        call: CallId,
    },
}

/// How an effect ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// Done.
    Ok,
    /// The peer's node is connected.
    Reached(Via),
    /// Nobody subscribes to the topic yet: nothing was sent.
    NoPeers,
    /// It failed.
    Failed(String),
}

/// What the app asks for.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Command {
    /// Call somebody.
    Offer {
        /// The new call's id, random.
        call: CallId,
        /// Whom.
        to: Vec<PublicKey>,
        /// The app's own data.
        app_data: AppData,
        /// The wall clock, for display at the callee.
        sent_at: UnixTime,
    },
    /// Accept an incoming call.
    Accept {
        /// Which.
        call: CallId,
    },
    /// Decline an incoming call.
    Decline {
        /// Which.
        call: CallId,
    },
    /// Withdraw an outgoing call.
    Cancel {
        /// Which.
        call: CallId,
    },
    /// End a call, wherever it stands.
    HangUp {
        /// Which.
        call: CallId,
    },
    /// Send silence, or stop to.
    SetMuted(bool),
    /// Play nothing, or stop to.
    SetDeafened(bool),
    /// Count somebody among the contacts, who is not blocked any more.
    AddContact(PublicKey),
    /// Count somebody among the contacts no longer. All contacts get a new token.
    RemoveContact(PublicKey),
    /// Refuse somebody from now on, under this key and its mirror image, and end what calls there are. All contacts get a
    /// new token.
    Block(PublicKey),
    /// Refuse somebody no longer.
    Unblock(PublicKey),
    /// Change who may ring.
    SetAdmission(Admission),
    /// End everything.
    Shutdown,
}

/// What happens to the machine.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Input {
    /// The app asks for something.
    Command(Command),
    /// A first message was opened on the own inbox.
    Hello(Box<Arrived>),
    /// A first message that was answered before arrived again.
    HelloAgain {
        /// The call.
        call: CallId,
        /// Its proven sender.
        from: PublicKey,
        /// The session that it opened.
        session: SessionNo,
    },
    /// The answer to a first message of ours was opened.
    Welcome {
        /// The call.
        call: CallId,
        /// Its proven sender.
        from: PublicKey,
        /// The session, which is confirmed.
        session: SessionNo,
        /// What.
        welcome: Welcome,
    },
    /// A message was opened under a session.
    Packet {
        /// The session's other side.
        from: PublicKey,
        /// The session.
        session: SessionNo,
        /// What; it names its call.
        packet: Box<Packet>,
    },
    /// A message was opened under a call key.
    CallMessage {
        /// The call.
        call: CallId,
        /// Under which key.
        epoch: u32,
        /// Who signed it.
        from: PublicKey,
        /// What.
        body: CallBody,
    },
    /// What is kept of a peer from earlier runs.
    Known {
        /// Whom.
        peer: PublicKey,
        /// What.
        known: Known,
    },
    /// Somebody's node subscribed to a topic that we send to.
    PeerSubscribed(TopicRef),
    /// The node changed.
    Node(NodeState),
    /// Something about a link or a device.
    Media(MediaInput),
    /// An effect ended.
    Done {
        /// Which.
        effect: EffectId,
        /// How.
        outcome: Outcome,
    },
    /// The node, or the media, is gone for good.
    Stopped {
        /// Why, for people.
        cause: String,
    },
    /// Time has passed.
    Tick,
}

/// What a connection tells of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum EngineLink {
    /// ICE looks for a path.
    Checking,
    /// DTLS agrees on keys.
    Securing,
    /// Media flows.
    Connected,
    /// No answer for a while; may heal.
    Disconnected,
    /// Over, at this step.
    Failed(Step),
    /// Closed by the other end.
    Closed,
}

/// What links and devices tell.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum MediaInput {
    /// The own description is ready.
    LocalDescription {
        /// Of which link.
        link: LinkId,
        /// What.
        description: Description,
    },
    /// An own candidate was found.
    LocalCandidate {
        /// Of which link.
        link: LinkId,
        /// What.
        candidate: Candidate,
    },
    /// All own candidates were found.
    GatheringDone {
        /// Of which link.
        link: LinkId,
    },
    /// The link changed.
    State {
        /// Which.
        link: LinkId,
        /// How.
        state: EngineLink,
    },
    /// First decoded audio was played.
    FirstAudio {
        /// From where.
        link: LinkId,
    },
    /// Fresh statistics.
    Stats {
        /// Of which link.
        link: LinkId,
        /// What.
        stats: LinkStats,
    },
    /// The devices run.
    Started {
        /// For which call.
        call: CallId,
        /// Unix time of microphone sample 0, in microseconds.
        mic_us: Option<u64>,
        /// Unix time of speaker sample 0, in microseconds.
        speaker_us: Option<u64>,
    },
    /// Something to tell the user.
    Warning(Warning),
}

impl Body {
    /// Whether the body says how the call goes on, rather than how the link is made.
    pub(super) fn is_link(&self) -> bool {
        matches!(self, Self::Description(_) | Self::Candidate(_) | Self::EndOfCandidates)
    }
}
