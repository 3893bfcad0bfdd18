//! Parts of the snapshot that screens show, for [`Blink::watch`](crate::Blink::watch).
//!
//! Each function gives a selector. An app writes its own where these do not fit: a selector is any
//! `Fn(&Snapshot) -> T`.

use crate::{
    event::{
        CallSnapshot, ErrorNote, Findable, LinkState, LocalMedia, NodeState, ParticipantSnapshot,
        ParticipantState, Phase, Presence, ResumableCall, Snapshot,
    },
    id::{CallId, PublicKey},
    stats::LinkStats,
};

/// What the node does, and why it is offline if it is.
pub fn node() -> impl Fn(&Snapshot) -> NodeState + Send + Sync + 'static {
    |s| s.node.clone()
}

/// Whether people find this identity who know nothing but its key.
pub fn findable() -> impl Fn(&Snapshot) -> Findable + Send + Sync + 'static {
    |s| s.findable
}

/// The addresses on which the node listens.
pub fn addresses() -> impl Fn(&Snapshot) -> Vec<String> + Send + Sync + 'static {
    |s| s.addresses.clone()
}

/// The own microphone and speaker, and what this side tells of itself.
pub fn local_media() -> impl Fn(&Snapshot) -> LocalMedia + Send + Sync + 'static {
    |s| s.local.clone()
}

/// Microphone and speaker are open.
pub fn media_enabled() -> impl Fn(&Snapshot) -> bool + Send + Sync + 'static {
    |s| s.local.open
}

/// The calls that have not ended, and where each stands.
pub fn calls() -> impl Fn(&Snapshot) -> Vec<(CallId, Phase)> + Send + Sync + 'static {
    |s| s.calls.iter().map(|c| (c.id, c.phase)).collect()
}

/// The calls that ring here, oldest first, and who called.
pub fn pending_calls() -> impl Fn(&Snapshot) -> Vec<(CallId, Option<PublicKey>)> + Send + Sync + 'static {
    |s| {
        let pending = s.calls.iter().filter(|c| c.phase == Phase::Incoming);
        pending.map(|c| (c.id, c.caller)).collect()
    }
}

/// The call that is active and not held.
pub fn active_call() -> impl Fn(&Snapshot) -> Option<CallId> + Send + Sync + 'static {
    |s| s.calls.iter().find(|c| c.phase == Phase::Active && !c.held).map(|c| c.id)
}

/// The calls of an earlier run, to which this side can come back.
pub fn resumable_calls() -> impl Fn(&Snapshot) -> Vec<ResumableCall> + Send + Sync + 'static {
    |s| s.resumable.clone()
}

/// Where that call stands; `None` when it has ended.
pub fn phase(call: CallId) -> impl Fn(&Snapshot) -> Option<Phase> + Send + Sync + 'static {
    move |s| s.call(call).map(|c| c.phase)
}

/// Who is connected, in all calls: accepted, and the link is up.
pub fn connections() -> impl Fn(&Snapshot) -> Vec<(CallId, PublicKey)> + Send + Sync + 'static {
    |s| {
        let of = |c: &CallSnapshot| {
            with(c, |presence| presence == Presence::Joined)
                .into_iter()
                .map(|p| (c.id, p))
                .collect::<Vec<_>>()
        };
        s.calls.iter().flat_map(of).collect()
    }
}

/// The participants of a call and what each does.
pub fn participants(
    call: CallId,
) -> impl Fn(&Snapshot) -> Vec<(PublicKey, ParticipantState)> + Send + Sync + 'static {
    move |s| {
        let participants = s.call(call).map(|c| c.participants.as_slice()).unwrap_or_default();
        participants.iter().map(|p| (p.peer, p.state)).collect()
    }
}

/// Those of a call to whom the link is up.
pub fn connected(call: CallId) -> impl Fn(&Snapshot) -> Vec<PublicKey> + Send + Sync + 'static {
    present(call, is_connected)
}

/// Those of a call to whom the link is interrupted, and may heal.
pub fn reconnecting(call: CallId) -> impl Fn(&Snapshot) -> Vec<PublicKey> + Send + Sync + 'static {
    present(call, is_reconnecting)
}

/// Those of a call to whom no link came about, or was interrupted for too long, or whose node could not be reached, or
/// whose app does not go with this one.
pub fn failed(call: CallId) -> impl Fn(&Snapshot) -> Vec<PublicKey> + Send + Sync + 'static {
    present(call, has_failed)
}

/// How many of a call are connected, reconnecting and failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// As [`connected`].
    pub connected: usize,
    /// As [`reconnecting`].
    pub reconnecting: usize,
    /// As [`failed`].
    pub failed: usize,
}

/// How many of a call are connected, reconnecting and failed.
pub fn counts(call: CallId) -> impl Fn(&Snapshot) -> Counts + Send + Sync + 'static {
    move |s| {
        let count = |which: fn(Presence) -> bool| s.call(call).map_or(0, |c| with(c, which).len());
        Counts {
            connected: count(is_connected),
            reconnecting: count(is_reconnecting),
            failed: count(has_failed),
        }
    }
}

/// The state of the link to a participant.
pub fn link_state(
    call: CallId,
    peer: PublicKey,
) -> impl Fn(&Snapshot) -> Option<LinkState> + Send + Sync + 'static {
    move |s| participant(s, call, &peer).map(|p| p.link)
}

/// The statistics of the link to a participant, once there are any. They change every second.
pub fn statistics(
    call: CallId,
    peer: PublicKey,
) -> impl Fn(&Snapshot) -> Option<LinkStats> + Send + Sync + 'static {
    move |s| s.statistics.link(call, &peer).map(|l| l.stats.clone())
}

/// The round trip to a participant, in milliseconds.
pub fn latency(call: CallId, peer: PublicKey) -> impl Fn(&Snapshot) -> Option<f64> + Send + Sync + 'static {
    move |s| s.statistics.link(call, &peer)?.stats.rtt_ms
}

/// What goes over one link, in bits per second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Bandwidth {
    /// Sent.
    pub sent_bps: Option<f64>,
    /// Received.
    pub received_bps: Option<f64>,
}

/// What goes over the link to a participant.
pub fn bandwidth(
    call: CallId,
    peer: PublicKey,
) -> impl Fn(&Snapshot) -> Option<Bandwidth> + Send + Sync + 'static {
    move |s| {
        let stats = &s.statistics.link(call, &peer)?.stats;
        Some(Bandwidth { sent_bps: stats.sent_bps, received_bps: stats.received_bps })
    }
}

/// What went wrong last, with whomever.
pub fn last_error() -> impl Fn(&Snapshot) -> Option<ErrorNote> + Send + Sync + 'static {
    |s| s.errors.first().cloned()
}

/// What went wrong last with somebody.
pub fn last_error_with(peer: PublicKey) -> impl Fn(&Snapshot) -> Option<ErrorNote> + Send + Sync + 'static {
    move |s| s.errors.iter().find(|e| e.peer == Some(peer)).cloned()
}

fn is_connected(presence: Presence) -> bool {
    presence == Presence::Joined
}

fn is_reconnecting(presence: Presence) -> bool {
    presence == Presence::Reconnecting
}

fn has_failed(presence: Presence) -> bool {
    matches!(presence, Presence::Lost | Presence::Unreachable | Presence::Incompatible)
}

fn present(
    call: CallId,
    which: fn(Presence) -> bool,
) -> impl Fn(&Snapshot) -> Vec<PublicKey> + Send + Sync + 'static {
    move |s| s.call(call).map(|c| with(c, which)).unwrap_or_default()
}

fn with(call: &CallSnapshot, which: impl Fn(Presence) -> bool) -> Vec<PublicKey> {
    call.participants.iter().filter(|p| which(p.state.presence)).map(|p| p.peer).collect()
}

fn participant<'a>(s: &'a Snapshot, call: CallId, peer: &PublicKey) -> Option<&'a ParticipantSnapshot> {
    s.call(call)?.participants.iter().find(|p| p.peer == *peer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::Config,
        event::{Event, Warning},
        id::Identity,
        proto::{
            Command, EffectKind, Input, Machine,
            signal::{AppData, Create, MayInvite},
        },
        time::{Instant, UnixTime},
    };

    /// A snapshot of a machine that calls two people.
    fn calling() -> (Snapshot, CallId, [PublicKey; 2]) {
        let [own, bob, carol] = [1, 2, 3].map(|n| Identity::from_seed([n; 32]).public());
        let mut machine = Machine::new(Config::default(), own, own.into());
        let call = CallId::from_bytes([7; 16]);
        let create = Create { creator: own, random: [0; 16], may_invite: MayInvite::Members, most: 16 };
        let to = vec![bob, carol];
        let app_data = AppData::default();
        let offer = Command::Offer { call, create, to, app_data, sent_at: UnixTime::default() };
        let effects = machine.handle(Instant::from_micros(1), Input::Command(offer)).unwrap();
        assert!(!effects.iter().any(|e| matches!(e.kind, EffectKind::Emit(Event::Ended { .. }))));
        (machine.snapshot(), call, [bob, carol])
    }

    #[test]
    fn each_selector_sees_its_part_and_nothing_of_other_calls() {
        let (mut snapshot, call, [bob, carol]) = calling();
        let other = CallId::from_bytes([8; 16]);
        assert_eq!(calls()(&snapshot), [(call, Phase::Outgoing)]);
        assert_eq!((phase(call)(&snapshot), phase(other)(&snapshot)), (Some(Phase::Outgoing), None));
        assert!(pending_calls()(&snapshot).is_empty() && active_call()(&snapshot).is_none());
        assert_eq!(link_state(call, bob)(&snapshot), Some(LinkState::Init));
        assert_eq!(participants(call)(&snapshot).len(), 2);
        let set = |s: &mut Snapshot, who: PublicKey, presence| {
            let found = s.calls[0].participants.iter_mut().find(|p| p.peer == who).unwrap();
            found.state.presence = presence;
        };
        for (presence, counted) in [
            (Presence::Calling, (0, 0, 0)),
            (Presence::Connecting, (0, 0, 0)),
            (Presence::Joined, (1, 0, 0)),
            (Presence::Reconnecting, (0, 1, 0)),
            (Presence::Lost, (0, 0, 1)),
            (Presence::Unreachable, (0, 0, 1)),
            (Presence::Left, (0, 0, 0)),
            (Presence::Declined, (0, 0, 0)),
        ] {
            set(&mut snapshot, bob, presence);
            let Counts { connected: c, reconnecting: r, failed: f } = counts(call)(&snapshot);
            assert_eq!((c, r, f), counted, "{presence:?}");
            let lists = [connected(call)(&snapshot), reconnecting(call)(&snapshot), failed(call)(&snapshot)];
            assert_eq!(lists.map(|l| l.len()), [c, r, f], "{presence:?}");
            assert_eq!(counts(other)(&snapshot), Counts::default());
        }
        set(&mut snapshot, bob, Presence::Left);
        set(&mut snapshot, carol, Presence::Joined);
        assert_eq!(connections()(&snapshot), [(call, carol)]);
        snapshot.calls[0].phase = Phase::Active;
        assert_eq!(active_call()(&snapshot), Some(call));
        snapshot.calls[0].held = true;
        assert_eq!(active_call()(&snapshot), None);
        snapshot.calls[0].phase = Phase::Incoming;
        snapshot.calls[0].caller = Some(bob);
        assert_eq!(pending_calls()(&snapshot), [(call, Some(bob))]);
        assert_eq!(statistics(call, bob)(&snapshot), None);
        assert_eq!((latency(call, bob)(&snapshot), bandwidth(call, bob)(&snapshot)), (None, None));
        assert!(resumable_calls()(&snapshot).is_empty() && addresses()(&snapshot).is_empty());
    }

    #[test]
    fn numbers_and_errors_are_those_of_the_peer_that_was_named() {
        let (mut snapshot, call, [bob, carol]) = calling();
        let note = |peer| ErrorNote {
            at: Instant::from_micros(1),
            call: None,
            peer,
            text: Warning::NotReached { peer: bob, cause: "x".into() }.to_string(),
        };
        assert_eq!((last_error()(&snapshot), last_error_with(bob)(&snapshot)), (None, None));
        snapshot.errors = vec![note(None), note(Some(bob))];
        assert_eq!(last_error()(&snapshot), Some(note(None)));
        assert_eq!(last_error_with(bob)(&snapshot), Some(note(Some(bob))));
        assert_eq!(last_error_with(carol)(&snapshot), None);
        let mut stats = LinkStats::default();
        (stats.rtt_ms, stats.sent_bps) = (Some(25.0), Some(40_000.0));
        let updated = Instant::from_micros(2);
        let link = crate::event::LinkStatistics { call, peer: bob, updated, stats: stats.clone() };
        snapshot.statistics.links.push(link);
        assert_eq!(latency(call, bob)(&snapshot), Some(25.0));
        assert_eq!(statistics(call, bob)(&snapshot), Some(stats));
        let sent = Bandwidth { sent_bps: Some(40_000.0), received_bps: None };
        assert_eq!(bandwidth(call, bob)(&snapshot), Some(sent));
        assert_eq!(latency(call, carol)(&snapshot), None);
        snapshot.local.open = true;
        assert!(media_enabled()(&snapshot) && local_media()(&snapshot).open);
        assert_eq!(node()(&snapshot), NodeState::Starting);
        snapshot.findable = Findable::Published;
        assert_eq!(findable()(&snapshot), Findable::Published);
    }
}
