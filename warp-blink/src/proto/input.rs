//! What goes into the machine.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{
    effect::{EffectId, LinkId, Outcome, SessionNo, TopicRef},
    people::Known,
    signal::{
        AppData, CallBody, Candidate, Create, Description, EpochId, Fingerprint, Hello, MediaFormat, Packet,
        Roll, RollHash, SUITE_CLASSICAL, Welcome,
    },
};
use crate::{
    config::Admission,
    event::{ChannelId, DeviceKind, Findable, NodeState, PoorSide, Step, Warning},
    id::{CallId, PublicKey},
    stats::{LinkStats, SoundStats},
    time::UnixTime,
};

/// A first message that was opened, and what the driver knows of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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

/// What becomes of the call that is active, when another one is to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Other {
    /// It is hung up, as by somebody who puts one telephone down and picks up another.
    #[default]
    End,
    /// It is held, as by call waiting (3GPP TS 24.610).
    Hold,
}

/// What the app asks for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Command {
    /// Call somebody, or several at once.
    Offer {
        /// The new call's id: the hash of what follows, signed.
        call: CallId,
        /// How it comes to be.
        create: Create,
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
        /// What becomes of the one that is active.
        other: Other,
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
    /// Leave an active call, perhaps to come back.
    Leave {
        /// Which.
        call: CallId,
    },
    /// Come back to a call that was left.
    Rejoin {
        /// Which.
        call: CallId,
        /// What becomes of the one that is active.
        other: Other,
    },
    /// Bring others into an active call: their phones ring.
    Invite {
        /// Which.
        call: CallId,
        /// Whom.
        to: Vec<PublicKey>,
        /// The app's own data.
        app_data: AppData,
        /// The wall clock, for display at the callee.
        sent_at: UnixTime,
    },
    /// Remove somebody from a call, for good, or take an invitation back.
    Remove {
        /// Which.
        call: CallId,
        /// Whom.
        peer: PublicKey,
    },
    /// The app carries the offer to somebody as well, say with a push message: however badly the network reaches them,
    /// they are waited for as long as their phone would ring.
    Export {
        /// In which call.
        call: CallId,
        /// To whom.
        peer: PublicKey,
    },
    /// Ask a friend for a place on its TURN server. [`EffectKind::KeepTurn`](super::EffectKind::KeepTurn) follows if it answers.
    AskTurn {
        /// A random name for the asking, which is no call's.
        call: CallId,
        /// Whom.
        friend: PublicKey,
    },
    /// Send nothing in an active call and hear nobody, without ending it.
    Hold {
        /// Which.
        call: CallId,
    },
    /// Go on with a held call.
    Unhold {
        /// Which.
        call: CallId,
        /// What becomes of the one that is active.
        other: Other,
    },
    /// Come back to a call of an earlier run.
    Resume {
        /// Which.
        call: CallId,
        /// The wall clock, from which the own state's versions go on.
        sent_at: UnixTime,
        /// What becomes of the one that is active.
        other: Other,
    },
    /// Send silence, or stop to.
    SetMuted(bool),
    /// Play nothing, or stop to.
    SetDeafened(bool),
    /// Tell the others that a camera picture is sent, or no more.
    SetCamera(bool),
    /// Tell the others that a screen is shared, or no more.
    SetScreen(bool),
    /// Tell the others that the call is recorded here, or no more.
    SetRecording(bool),
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

/// A call of an earlier run, to which this side can come back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Saved {
    /// The call.
    pub call: CallId,
    /// Who belongs to it, each word with a verified signature.
    pub roll: Roll,
    /// What it sounds like.
    pub media: MediaFormat,
    /// The name of the roll.
    pub hash: RollHash,
}

impl Saved {
    /// Of these parts.
    pub fn new(call: CallId, roll: Roll, media: MediaFormat, hash: RollHash) -> Self {
        Self { call, roll, media, hash }
    }
}

/// A missed call, of which the callee is still to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Notice {
    /// Whom to tell.
    pub to: PublicKey,
    /// Which call.
    pub call: CallId,
    /// When it was made.
    pub made_at: UnixTime,
}

impl Notice {
    /// Of these parts.
    pub const fn new(to: PublicKey, call: CallId, made_at: UnixTime) -> Self {
        Self { to, call, made_at }
    }
}

/// What happens to the machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    /// A message that came over the signaling channel of that link was opened under a session of its call and peer.
    PacketOnLink {
        /// Over which link, and so from whom.
        link: LinkId,
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
        epoch: EpochId,
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
    /// A call of an earlier run was found in the store.
    Saved(Box<Saved>),
    /// A notice of an earlier run was found in the store.
    Notice(Notice),
    /// The wall clock, at the start and every now and then. Notices of missed calls grow old by it.
    Clock(UnixTime),
    /// Somebody's node subscribed to a topic that we send to.
    PeerSubscribed(TopicRef),
    /// The node changed.
    Node(NodeState),
    /// Whether others find this identity by its key has changed.
    Findable(Findable),
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
    /// There is a path, and keys are agreed on.
    Connected,
    /// No answer for a while; may heal.
    Disconnected,
    /// Another path is looked for, since one of the two sides asked for it.
    Reconnecting,
    /// Over: who answered has another certificate than the description said.
    FingerprintMismatch,
    /// Over, at this step.
    Failed(Step),
    /// Closed by the other end.
    Closed,
}

/// What links and devices tell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    /// The signaling channel of a link is open; told before anything comes over it. [`EffectKind::SendOnLink`](super::EffectKind) works
    /// from now on.
    Secured {
        /// Of which link.
        link: LinkId,
        /// The own certificate in use.
        own: Fingerprint,
        /// The certificate that the other end has shown.
        remote: Fingerprint,
    },
    /// The addresses of this machine have changed, or what was gathered for an offer without an answer is out of date.
    AddressChanged {
        /// A link that was there before.
        link: LinkId,
        /// The address that it goes out from is gone: nothing will come of its path.
        lost: bool,
    },
    /// A data channel is open.
    Channel {
        /// On which link.
        link: LinkId,
        /// Which.
        channel: ChannelId,
        /// What both sides call it.
        name: String,
    },
    /// First decoded audio was played.
    FirstAudio {
        /// From where.
        link: LinkId,
    },
    /// The sound of a link has become poor for one of its ends, or is good again.
    Quality {
        /// Which.
        link: LinkId,
        /// For whom.
        poor: Option<PoorSide>,
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
    /// The user began to speak, or stopped to.
    Speaking {
        /// In which call.
        call: CallId,
        /// Speaks now.
        speaking: bool,
    },
    /// Another microphone or speaker is in use, or none.
    Device {
        /// For which call.
        call: CallId,
        /// Which of the two.
        kind: DeviceKind,
        /// What the system calls it.
        name: Option<String>,
    },
    /// A recording began, or ended.
    Recording {
        /// Of which call.
        call: CallId,
        /// Which: an end has the number of its beginning, and may come after the next one has begun.
        recording: u64,
        /// It runs.
        running: bool,
        /// Its files until now.
        files: Vec<PathBuf>,
        /// Why it could not begin.
        cause: Option<String>,
    },
    /// What the sound engine does; once a second.
    Sound {
        /// For which call.
        call: CallId,
        /// Its numbers.
        stats: Box<SoundStats>,
    },
    /// A sound file is not played into the call any more.
    Played {
        /// Which call.
        call: CallId,
        /// Why, if it had not come to its end.
        cause: Option<String>,
    },
    /// Something to tell the user.
    Warning(Warning),
}
