//! What comes out of the machine, and how it ended.

use serde::{Deserialize, Serialize};

use super::signal::{
    CallBody, Candidate, Description, EpochId, Hello, KeyHash, Lane, MediaFormat, Packet, Record, Roll,
    RollHash, Welcome,
};
use crate::{
    event::{Event, Via},
    id::{CallId, PublicKey},
    time::UnixTime,
};

/// The name of an effect. Every effect but [`EffectKind::Emit`] ends in exactly one [`Input::Done`](super::Input::Done).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EffectId(pub(super) u64);

/// Something to carry out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Effect {
    /// Its name, for the result.
    pub id: EffectId,
    /// What to do.
    pub kind: EffectKind,
}

/// A topic by its meaning; the driver knows its name, which derives from keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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
        epoch: EpochId,
    },
}

/// The number of one session with one peer in one call, counted from 1 by the machine. A session is opened by a first
/// message of either side; there is a second one when a side comes back after a crash, or when both opened one at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SessionNo(pub u32);

/// What a peer gives of itself inside a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Gift {
    /// Its contact token.
    Token,
    /// Its ML-KEM key.
    KemKey,
}

/// The name of one link: a new generation is a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LinkId {
    /// The call.
    pub call: CallId,
    /// The other end.
    pub peer: PublicKey,
    /// Counts the connections to this peer in this call, from 1.
    pub generation: u32,
}

/// What to do with a link.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum LinkCommand {
    /// Make an offer.
    Dial,
    /// Answer this offer.
    Accept(Description),
    /// Take this answer; once the link was connected also this offer, to another path or other tracks.
    Apply(Description),
    /// Look for another path, giving up the present one. An offer follows.
    Restart,
    /// Take this candidate.
    Candidate(Candidate),
    /// No further candidates come.
    EndOfCandidates,
    /// Send the microphone's sound on it, or stop to: it stays open while its call is held.
    Send(bool),
    /// Close, and say so to the other end.
    Close,
}

/// What to carry out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    /// Wipe all sessions with somebody in a call, and what was begun of any.
    DropPeer {
        /// The call.
        call: CallId,
        /// With whom.
        peer: PublicKey,
    },
    /// Keep what the packet of this step brought, also for later runs.
    Keep {
        /// Of whom.
        peer: PublicKey,
        /// What.
        gift: Gift,
    },
    /// Look for that member where the packet of this step says that it was found.
    Learn {
        /// Whom.
        peer: PublicKey,
    },
    /// Use the credentials for a friend's TURN server that the packet of this step brought.
    KeepTurn {
        /// The errand.
        call: CallId,
        /// The friend.
        peer: PublicKey,
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
    /// Seal a message under the session, and send it over the signaling channel of that link.
    SendOnLink {
        /// Over which link, and so to whom.
        link: LinkId,
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
        epoch: EpochId,
        /// What.
        body: CallBody,
    },
    /// Make a random key for an epoch of a call. Ends in [`Outcome::Key`].
    NewCallKey {
        /// The call.
        call: CallId,
        /// The epoch's number.
        n: u32,
    },
    /// Keep the key that the packet of this step brought.
    KeepCallKey {
        /// The call.
        call: CallId,
        /// Of which epoch.
        epoch: EpochId,
    },
    /// Wipe the key of an epoch: nothing is received under it any more.
    DropCallKey {
        /// The call.
        call: CallId,
        /// Of which epoch.
        epoch: EpochId,
    },
    /// Sign a word about somebody's place in a call.
    Sign {
        /// The call.
        call: CallId,
        /// What.
        record: Record,
    },
    /// Keep the signatures of these words, those that the packet of this step brought included, and no others. Ends in
    /// [`Outcome::Roll`].
    KeepRoll {
        /// The call.
        call: CallId,
        /// What.
        roll: Roll,
    },
    /// Save what a later run needs to come back to this call; it replaces what was saved of it.
    SaveCall {
        /// The call.
        call: CallId,
        /// Who belongs to it.
        roll: Roll,
        /// What it sounds like.
        media: MediaFormat,
    },
    /// Delete what was saved of a call.
    UnsaveCall {
        /// The call.
        call: CallId,
    },
    /// Save the notices of missed calls that are still to be delivered, which [`Machine::notices`](super::Machine::notices)
    /// gives.
    SaveNotices,
    /// Do something with a link.
    Link {
        /// Which.
        link: LinkId,
        /// What.
        command: LinkCommand,
    },
    /// Keep so many connections ready to be offered, and no more.
    Prepare {
        /// How many.
        connections: u32,
    },
    /// Open microphone and speaker. Answered by [`MediaInput::Started`](super::MediaInput::Started) as well.
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Outcome {
    /// Done.
    Ok,
    /// The peer's node is connected.
    Reached(Via),
    /// The key is made, and this is its name.
    Key(KeyHash),
    /// The words are kept, and this is their name.
    Roll(RollHash),
    /// Nobody subscribes to the topic yet: nothing was sent.
    NoPeers,
    /// It failed.
    Failed(String),
}
