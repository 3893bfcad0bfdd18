//! What goes into the machine and comes out of it.

use std::time::Duration;

use super::{NoRoom, Scrub, Scrubber};
use crate::{
    config::{Admission, Config, PostQuantum, PreConnect, TurnFor, WhenBusy},
    error::Rejected,
    event::{
        Advice, ChannelId, DeviceKind, EndReason, Event, Failure, Findable, LinkState, LocalCause, Mark,
        Milestone, Mismatch, NodeState, ParticipantState, ParticipantSummary, PoorSide, Presence, Step,
        Summary, Via, Warning,
    },
    id::CallId,
    proto::{
        Arrived, Command, Effect, EffectId, EffectKind, EngineLink, Gift, Input, Known, LinkCommand, LinkId,
        MediaInput, Notice, Other, Outcome, Saved, SessionNo, TopicRef,
    },
    stats::{LinkStats, ReceivedSound, SoundStats},
};

stays!(bool, u8, u32, u64, usize, CallId, Duration, EffectId, SessionNo);
stays!(
    Advice,
    ChannelId,
    DeviceKind,
    Findable,
    Gift,
    LocalCause,
    Milestone,
    Other,
    PoorSide,
    PostQuantum,
    PreConnect,
    Presence,
    ReceivedSound,
    SoundStats,
    Step,
    Via,
    WhenBusy
);

fields!(struct Arrived { hello, suite, wall, verdict });
fields!(struct Config {
    ring_timeout, max_ring, reach_timeout, connect_timeout, restart_after, reconnect_window, empty_call_grace, rejoin_window,
    caller_silent, announce_period, farewell, when_busy, pre_connect, admission, open_inbox, post_quantum, media,
    may_invite, max_members, max_held, max_pending, turn_for,
});
fields!(struct Effect { id, kind });
fields!(struct Failure { reason, reached, waited_ms, attempts, advice => advice });
fields!(struct Known { token, kem });
fields!(struct LinkId { call, peer, generation });
fields!(struct LinkStats {
    rtt_ms => number, jitter_ms => number, loss_pct => number, sent_bps => number, received_bps => number,
    concealed_pct => number, jitter_buffer_ms => number, mos => number, mos_there => number, loss_there_pct => number,
    route => route, sound,
});
fields!(struct Mark { what, at });
fields!(struct Notice { to, call, made_at });
fields!(struct ParticipantState { presence, muted, deafened, camera, screen, recording, speaking, held });
fields!(struct ParticipantSummary { peer, timeline, stats });
fields!(struct Saved { call, roll, media, hash });
fields!(struct Summary { participants, failure });

variants!(
    enum Admission {
        Everyone,
        Contacts,
        Only(keys),
        Ask,
    }
);
variants!(enum Command {
    Offer { call, create, to, app_data, sent_at },
    Accept { call, other },
    Decline { call },
    Cancel { call },
    HangUp { call },
    Leave { call },
    Rejoin { call, other },
    Invite { call, to, app_data, sent_at },
    Remove { call, peer },
    Export { call, peer },
    AskTurn { call, friend },
    Hold { call },
    Unhold { call, other },
    Resume { call, sent_at, other },
    SetMuted(on),
    SetDeafened(on),
    SetCamera(on),
    SetScreen(on),
    SetRecording(on),
    AddContact(key),
    RemoveContact(key),
    Block(key),
    Unblock(key),
    SetAdmission(admission),
    Shutdown,
});
variants!(enum EffectKind {
    Emit(event),
    Subscribe(topic),
    Unsubscribe(topic),
    Reach { peer },
    SendHello { to, lane, suite, session, hello },
    SendWelcome { call, to, session, welcome },
    DropSession { call, peer, session },
    DropPeer { call, peer },
    Keep { peer, gift },
    Learn { peer },
    KeepTurn { call, peer },
    NewToken,
    Remember { call, sent_at },
    Send { to, session, packet },
    SendOnLink { link, session, packet },
    SendCall { call, epoch, body },
    NewCallKey { call, n },
    KeepCallKey { call, epoch },
    DropCallKey { call, epoch },
    Sign { call, record },
    KeepRoll { call, roll },
    SaveCall { call, roll, media },
    UnsaveCall { call },
    SaveNotices,
    Link { link, command },
    Prepare { connections },
    OpenAudio { call, media },
    CloseAudio { call },
    SetMuted(on),
    SetDeafened(on),
    Forget { call },
});
variants!(enum EndReason {
    HungUp, Declined, Busy, Cancelled, TimedOut, AnsweredElsewhere, Removed, Unreachable,
    Incompatible { mismatch }, Lost, FingerprintMismatch, Failed { step },
});
variants!(
    enum EngineLink {
        Checking,
        Securing,
        Connected,
        Disconnected,
        Reconnecting,
        FingerprintMismatch,
        Failed(step),
        Closed,
    }
);
variants!(enum Event {
    Node { state },
    Findable { state },
    Channel { call, peer, channel, name },
    Quality { call, peer, poor },
    Reached { peer, via, ms },
    Offering { call, peer },
    Incoming { call, from, app_data, media, sent_at },
    Ringing { call, peer },
    Accepted { call, peer, media },
    Merged { call, into, peer },
    Link { call, peer, state, route => route },
    Held { call, held },
    Left { call },
    Rejoined { call },
    Participant { call, peer, state },
    MediaStarted { call, mic_us => micros, speaker_us => micros },
    FirstAudio { call, peer },
    Device { call, kind, name },
    Recording { call, number, running, files, cause },
    Played { call, cause },
    Warning { warning },
    Missed { call, from, reason, ago },
    Lagged { missed },
    Ended { call, reason, by, summary },
});
variants!(enum Input {
    Command(command),
    Hello(arrived),
    HelloAgain { call, from, session },
    Welcome { call, from, session, welcome },
    Packet { from, session, packet },
    PacketOnLink { link, session, packet },
    CallMessage { call, epoch, from, body },
    Known { peer, known },
    Saved(saved),
    Notice(notice),
    Clock(wall),
    PeerSubscribed(topic),
    Node(state),
    Findable(state),
    Media(media),
    Done { effect, outcome },
    Stopped { cause },
    Tick,
});
variants!(
    enum LinkCommand {
        Dial,
        Accept(offer),
        Apply(answer),
        Candidate(candidate),
        Restart,
        EndOfCandidates,
        Send(on),
        Close,
    }
);
variants!(enum LinkState {
    Init, OfferCreated, OfferSent, AnswerReceived, OfferReceived, AnswerCreated, AnswerSent, Checking, Securing,
    Connected, Reconnecting { since, attempt }, Failed { step }, Closed,
});
variants!(enum MediaInput {
    LocalDescription { link, description },
    LocalCandidate { link, candidate },
    GatheringDone { link },
    State { link, state },
    Secured { link, own, remote },
    AddressChanged { link, lost },
    Channel { link, channel, name },
    FirstAudio { link },
    Quality { link, poor },
    Stats { link, stats },
    Started { call, mic_us => micros, speaker_us => micros },
    Speaking { call, speaking },
    Device { call, kind, name },
    Recording { call, recording, running, files, cause },
    Sound { call, stats },
    Played { call, cause },
    Warning(warning),
});
variants!(enum Mismatch { PeerIsOlder { version }, PeerIsNewer { version }, Protection, Media });
variants!(enum NodeState {
    Starting,
    Offline { cause },
    LocalOnly { cause, advice },
    Relayed { by, advice },
    Public,
});
variants!(
    enum Outcome {
        Ok,
        Reached(via),
        Key(hash),
        Roll(hash),
        NoPeers,
        Failed(cause),
    }
);
variants!(enum Rejected {
    NobodyToCall,
    SelfCall,
    CallFull { most },
    TooManySubjects(most),
    MayNotInvite(call),
    MayNotRemove(call),
    AlreadyInCall(key),
    NotInCall(key),
    NotInvited(call),
    NotLeft(call),
    IsHeld(call),
    NotHeld(call),
    TooManyHeld(most),
    NothingToResume(call),
    InCall(call),
    NoSuchCall(call),
    NotIncoming(call),
    NotOutgoing(call),
    NotActive(call),
    IdInUse(call),
    NoPostQuantumKey(key),
    ListFull(most),
    OwnKey,
    ShuttingDown,
});
variants!(
    enum TurnFor {
        Nobody,
        Contacts,
        Only(keys),
    }
);
variants!(enum TopicRef { Inbox { owner, lane }, Peer { call, owner }, Call { call, epoch } });
variants!(enum Warning { ListenOnly { cause }, NoSpeaker { cause }, NotReached { peer, cause }, DeviceLost { device }, DeviceRefused { cause }, RecordingFailed { cause }, SpeakingWhileMuted, MicrophoneSilent, ServerFailed { url, cause }, FriendSilent { peer } });
