//! What an app can set, each default with its source.

use std::{collections::BTreeSet, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    id::PublicKey,
    proto::signal::{MAX_MEMBERS, MayInvite, MediaFormat},
};

/// Who may ring. To whoever may not, this side looks offline: nothing is answered.
///
/// Somebody who was blocked is refused whatever this says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Admission {
    /// Everybody who knows the public key, as on a telephone.
    #[default]
    Everyone,
    /// Contacts only.
    Contacts,
    /// These only.
    Only(BTreeSet<PublicKey>),
    /// Whoever the app's callback lets in ([`Builder::admit`](crate::Builder::admit)); nobody, if there is none.
    Ask,
}

/// Whether calls are set up with a post-quantum key exchange as well. It protects what is said in signals, such as call
/// keys and session descriptions, from somebody who records them today and has a quantum computer later. Media (DTLS 1.2)
/// and the proof of who calls stay classical.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum PostQuantum {
    /// Calls without it do not come about, in either direction.
    Require,
    /// Used wherever the callee's ML-KEM key is known, which it is from the first accepted call on.
    #[default]
    Prefer,
    /// Own calls go without, and no key is given to others. A caller who uses it is still understood.
    Off,
}

/// What happens to an offer that arrives while a call is active.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum WhenBusy {
    /// It stays pending, as call waiting does on telephones (3GPP TS 24.615); the app decides.
    #[default]
    Pend,
    /// It is refused as busy, and reported as missed.
    Reject,
}

/// For whom ICE may start before the user accepts. Starting early saves the round trips of ICE and DTLS, and shows
/// this machine's addresses to the caller before anybody picked up. For all others a caller's description may cross while it rings: it
/// names no address, and nothing is sent for it before the other side has accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum PreConnect {
    /// For everybody who may ring.
    Always,
    /// For contacts; for all others only after the user accepted.
    #[default]
    Contacts,
    /// Only after the user accepted.
    Never,
}

/// For whom this side relays calls, if it serves TURN ([`Builder::turn_for_friends`](crate::Builder::turn_for_friends)). Whoever
/// is relayed for shows this side their address, the other end's, and when the two talk; what they say stays theirs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum TurnFor {
    /// Nobody.
    #[default]
    Nobody,
    /// The contacts.
    Contacts,
    /// These only.
    Only(BTreeSet<PublicKey>),
}

impl TurnFor {
    /// As a journal of before says it: not at all.
    const fn is_nobody(&self) -> bool {
        matches!(self, Self::Nobody)
    }
}

/// The settings of the call machine. Start from [`Config::default`] and change fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Config {
    /// How long an offer rings before it ends as [`EndReason::TimedOut`](crate::event::EndReason::TimedOut).
    /// Default 60 s: about ten ring cycles of 6 s (ITU-T E.180).
    pub ring_timeout: Duration,
    /// The longest that a caller can make this phone ring, whatever its offer says. Default 120 s.
    pub max_ring: Duration,
    /// How long a callee may stay silent to the first message before the call ends as unreachable. Default 15 s:
    /// three attempts of the reach machine (5 s each), or six transmissions of the offer. Once its node is reached it counts from
    /// there: over a path that loses every fifth packet TCP took up to 4 s to connect and more than 11 s for what followed.
    pub reach_timeout: Duration,
    /// From accept until a link must be connected. Default 30 s: the common ICE failure time of browsers.
    pub connect_timeout: Duration,
    /// How long a link may be interrupted before another path is looked for, if signals cross meanwhile. Default 6 s: most
    /// interruptions end by themselves before, and a restart gives up the path that would have come back (measured: an
    /// outage of 5 s heals 0.06 to 0.23 s after its end).
    pub restart_after: Duration,
    /// How long a link may be interrupted before the participant is lost. Default 60 s.
    pub reconnect_window: Duration,
    /// How long a call in which everybody else has left, or was lost, waits for somebody to come back. Default 30 s, as
    /// `connect_timeout`: whoever left by mistake and comes back at once is connected by then. Where only two ever took
    /// part, hanging up ends the call for both at once.
    pub empty_call_grace: Duration,
    /// How long a call that this side has left can be joined again. Default 10 min: about as long as somebody who went
    /// away from a meeting means to come back.
    pub rejoin_window: Duration,
    /// How long a caller may stay silent while its call rings here, before the ringing stops. Default 20 s: it says every
    /// `announce_period` that it is there, and each of these is sent again until it arrives.
    pub caller_silent: Duration,
    /// How often the own state is repeated on the call topic. Default 5 s.
    pub announce_period: Duration,
    /// How long an ended call goes on telling the other side so, at most. Default 5 s: the offer's resend ladder up
    /// to its fifth transmission.
    pub farewell: Duration,
    /// What happens to an offer during a call.
    pub when_busy: WhenBusy,
    /// For whom ICE may start before accept.
    pub pre_connect: PreConnect,
    /// Who may ring.
    pub admission: Admission,
    /// Whether others than those who hold the contact token can ring at all. `false` closes the open inbox: the node does
    /// not even listen there. A contact who is removed or blocked then leaves all others without a way in, since they
    /// hold the old token: they get the new one when this side calls them. Default `true`.
    pub open_inbox: bool,
    /// Whether calls are set up with a post-quantum key exchange.
    pub post_quantum: PostQuantum,
    /// The audio offered, and the most that an answer agrees to.
    pub media: MediaFormat,
    /// Who may bring others into calls of our own.
    pub may_invite: MayInvite,
    /// The most people in calls of our own, oneself included. Default and most 16 ([`MAX_MEMBERS`]).
    pub max_members: u8,
    /// The most calls that may be held at once. Default 4.
    pub max_held: usize,
    /// The most calls that may be pending; a further offer is answered as busy. Default 16.
    pub max_pending: usize,
    /// For whom this side relays calls. Default: nobody.
    #[serde(default, skip_serializing_if = "TurnFor::is_nobody")]
    pub turn_for: TurnFor,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            ring_timeout: Duration::from_secs(60),
            max_ring: Duration::from_secs(120),
            reach_timeout: Duration::from_secs(15),
            connect_timeout: Duration::from_secs(30),
            restart_after: Duration::from_secs(6),
            reconnect_window: Duration::from_secs(60),
            empty_call_grace: Duration::from_secs(30),
            rejoin_window: Duration::from_secs(600),
            caller_silent: Duration::from_secs(20),
            announce_period: Duration::from_secs(5),
            farewell: Duration::from_secs(5),
            when_busy: WhenBusy::default(),
            pre_connect: PreConnect::default(),
            admission: Admission::default(),
            open_inbox: true,
            post_quantum: PostQuantum::default(),
            media: MediaFormat::default(),
            may_invite: MayInvite::default(),
            max_members: MAX_MEMBERS as u8,
            max_held: 4,
            max_pending: 16,
            turn_for: TurnFor::default(),
        }
    }
}
