//! Why a command is refused, and why a node does not start.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{
    id::{CallId, PublicKey},
    proto::signal::AppDataTooLong,
};

/// Why the machine refused a command. Its state is as before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum Rejected {
    /// An offer to nobody.
    #[error("an offer needs somebody to call: pass at least one key")]
    NobodyToCall,
    /// The own key among those to call.
    #[error("that is your own key: pass the key of somebody else")]
    SelfCall,
    /// More people than one call holds.
    #[error("a call holds {most} people, oneself included: call fewer")]
    CallFull {
        /// The most people.
        most: u8,
    },
    /// More people have come and gone than a call remembers.
    #[error("this call has had {0} people, which is the most: make a new one")]
    TooManySubjects(usize),
    /// Only the creator of this call may invite.
    #[error("only the creator of call {0} may bring others into it: ask them")]
    MayNotInvite(CallId),
    /// Only the creator of this call may remove others.
    #[error("only the creator of call {0} may remove others: ask them")]
    MayNotRemove(CallId),
    /// Somebody who is in the call, or whose phone rings for it.
    #[error("{0} is in that call already, or being called")]
    AlreadyInCall(PublicKey),
    /// Somebody who is not in the call.
    #[error("{0} is not in that call")]
    NotInCall(PublicKey),
    /// Removed from that call, or never invited.
    #[error("call {0} is not open to you: you were removed, or nobody invited you")]
    NotInvited(CallId),
    /// The call was not left, so there is nothing to come back to.
    #[error("call {0} was not left")]
    NotLeft(CallId),
    /// The call is held already.
    #[error("call {0} is held already")]
    IsHeld(CallId),
    /// The call is not held.
    #[error("call {0} is not held")]
    NotHeld(CallId),
    /// More calls would be held than this side keeps.
    #[error("{0} calls are held, which is the most: end one")]
    TooManyHeld(usize),
    /// No call of an earlier run has that id.
    #[error("there is no call {0} of an earlier run to come back to")]
    NothingToResume(CallId),
    /// A call is active or outgoing.
    #[error("call {0} is under way: hang up first")]
    InCall(CallId),
    /// No such call, or it has ended.
    #[error("there is no call {0} (it may have ended)")]
    NoSuchCall(CallId),
    /// The call is not one to answer.
    #[error("call {0} is not waiting for an answer from here")]
    NotIncoming(CallId),
    /// The call is not one to cancel.
    #[error("call {0} is not an unanswered call of yours: hang up instead")]
    NotOutgoing(CallId),
    /// The call was not accepted yet.
    #[error("call {0} is not active: accept, decline or cancel it")]
    NotActive(CallId),
    /// The id of a new call was used before.
    #[error("call id {0} was used before: call ids must be random")]
    IdInUse(CallId),
    /// Post-quantum protection is required, and the callee's key for it is not known.
    #[error(
        "no post-quantum key of {0} is known, and this app requires one: talk once with PostQuantum::Prefer, and it is known \
         from then on"
    )]
    NoPostQuantumKey(PublicKey),
    /// More contacts, or blocked keys, than are kept.
    #[error("there are {0} keys on that list already, which is the most: remove some")]
    ListFull(usize),
    /// The own key among contacts or blocked keys.
    #[error("that is your own key: it is neither a contact nor to be blocked")]
    OwnKey,
    /// The machine is shutting down.
    #[error("shutting down")]
    ShuttingDown,
}

/// Why something asked of [`Blink`](crate::Blink) did not happen.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The call machine refused; nothing changed.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// Too much app data.
    #[error(transparent)]
    AppData(#[from] AppDataTooLong),
    /// No offer waits for an answer from there.
    #[error(
        "nobody waits for {peer} to answer call {call}: an offer can be exported from calling until it is answered"
    )]
    NothingToExport {
        /// The call.
        call: CallId,
        /// Who was to be called.
        peer: PublicKey,
    },
    /// What was to be imported is no offer to this identity.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// The node did not start or cannot be used.
    #[error("the node did not start: {0}")]
    Node(String),
    /// Not the address of a node.
    #[error("{0}")]
    Address(String),
    /// The sound devices cannot be used as asked.
    #[error("{0}")]
    Media(String),
    /// A file would be microphone and speaker at once, by whatever name: it would be emptied before it is read.
    #[error("{} cannot be both microphone and speaker: name another file", file.display())]
    SameFile {
        /// The file, as it was named last.
        file: PathBuf,
    },
    /// So many commands about sound wait that there is no place for this one. Nothing has changed.
    #[error("the sound devices are busy: try again when what was asked for before is done")]
    Busy,
    /// This handle's node is gone.
    #[error("this Blink has shut down")]
    Closed,
}

/// Why an offer that the app brought was not taken in. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The bytes are no offer.
    #[error("these bytes are no exported offer, or not all of one")]
    Malformed,
    /// A later app has exported it.
    #[error("this offer was exported by a newer app (format {0}): update this one")]
    Newer(u8),
    /// It is for another identity, or was made by a contact with a token that has been replaced since.
    #[error("this offer is for somebody else, or its caller knows this contact no longer")]
    NotForUs,
    /// Strangers cannot call here: [`Config::open_inbox`](crate::Config::open_inbox).
    #[error("strangers cannot call here, and this offer is one of a stranger")]
    Closed,
    /// So many first messages wait that there is no place for this one.
    #[error("too many calls arrive at once: try again in a second")]
    Busy,
}
