//! A link that works no more: when another path is looked for, and what is said about it meanwhile.
//!
//! Most interruptions end by themselves, and then sooner than a restart would: the engine found the path again 0.06 to
//! 0.23 s after a network was back, while a restart begins by giving up the path it has. So nothing is done for
//! [`Config::restart_after`](crate::config::Config::restart_after), and not before the other side is heard, since as long as no signal
//! crosses no offer does (an outage of 33 s took 10 s longer when links were restarted during it). A `Sync` is sent at the
//! interruption until it arrives: its acknowledgement is what is heard. Only where the own address is gone, and nothing can come
//! of the path, it is restarted at once.
//!
//! Either side can ask for another path (ICE restart, RFC 8445 section 9); where both do, the engine lets one of the two
//! offers go (RFC 9429 section 4.1.10).

use std::time::Duration;

use super::{
    call::Call,
    effect::{EffectKind, LinkCommand, LinkId},
    machine::{Machine, Out},
    signal::{Body, Description},
};
use crate::{
    event::LinkState,
    id::{CallId, PublicKey},
    time::Instant,
};

/// How much later the smaller key restarts than the larger one, so that two who lost the same path rarely both do. A guess: long
/// enough for an offer that had to be sent four times (after 0.25, 0.75 and 1.75 s).
const SMALLER_WAITS: Duration = Duration::from_secs(2);

/// How long a path has to come back by itself once signals cross again: more than eight times what it took at most (0.23 s).
const HEALS: Duration = Duration::from_secs(2);

/// How long a restart is given before the next one: as long as the engine checks a pair of addresses (500 checks of 20 ms, which
/// simple-webrtc sets).
const AGAIN: Duration = Duration::from_secs(10);

impl Machine {
    /// The path is interrupted: another one is looked for in a while.
    pub(super) fn plan_restart(&mut self, now: Instant, link: LinkId) {
        let wait = self.config.restart_after + self.restarts_later(&link.peer);
        if let Some(p) = self.linked(link).filter(|p| p.link.was_connected) {
            p.link.silent_since = now;
            p.link.restart_at.get_or_insert(now + wait);
        }
    }

    /// Whom this side has to reach again after this machine has moved: those in a call with it, or called by it. Whoever only rings
    /// is not looked for at addresses of its own choice.
    pub fn needed(&self) -> impl Iterator<Item = PublicKey> + '_ {
        let needs = |c: &&Call| c.is_outgoing() || c.is_active();
        self.calls.values().filter(needs).flat_map(|c| c.peers.keys().copied())
    }

    /// Which of the two waits.
    fn restarts_later(&self, key: &PublicKey) -> Duration {
        if self.own > *key { Duration::ZERO } else { SMALLER_WAITS }
    }

    /// Something came from a participant: signals cross. If the path does not come back, another one can be agreed on.
    pub(super) fn signals_cross(&mut self, now: Instant, id: CallId, key: &PublicKey) {
        let wait = HEALS + self.restarts_later(key);
        let Some(p) = self.peer_mut(id, key).filter(|p| p.link.open && p.link.was_connected) else { return };
        p.link.heard = now;
        let waits = matches!(p.link.state, LinkState::Reconnecting { .. });
        if waits && p.link.restart_at.is_none() {
            p.link.restart_at = Some(now + wait);
        }
    }

    /// The addresses of this machine have changed.
    pub(super) fn on_address_changed(&mut self, now: Instant, link: LinkId, lost: bool, out: &mut Out<'_>) {
        // What went ahead, or waits to be said, names what was there before.
        if let Some(p) = self.linked(link).filter(|p| p.link.ahead.is_some()) {
            p.link.retry_at = Some(now);
            return;
        }
        // Where the own address is still there, what is interrupted may now heal, and what works goes on.
        if lost && self.linked(link).is_some_and(|p| p.link.was_connected) {
            self.look_elsewhere(now, link, out);
        }
    }

    /// It is time to look for another path, and the link has not come back by itself.
    pub(super) fn restart(&mut self, now: Instant, id: CallId, key: &PublicKey, out: &mut Out<'_>) {
        let Some(p) = self.peer_mut(id, key).filter(|p| p.link.restart_at.is_some_and(|t| t <= now)) else {
            return;
        };
        p.link.restart_at = None;
        // Otherwise as soon as something is heard.
        if p.link.open && p.link.was_connected && p.link.heard > p.link.silent_since {
            let link = LinkId { call: id, peer: *key, generation: p.link.generation };
            self.look_elsewhere(now, link, out);
        }
    }

    fn look_elsewhere(&mut self, now: Instant, link: LinkId, out: &mut Out<'_>) {
        let Some(p) = self.linked(link) else { return };
        (p.link.silent_since, p.link.restart_at) = (now, Some(now + AGAIN));
        // What was said of paths before is of no use any more.
        p.delivery.withdraw(Body::is_link);
        let (since, attempt) = match p.link.state {
            LinkState::Reconnecting { since, attempt } => (since, attempt.saturating_add(1)),
            _ => (now, 1),
        };
        out.run(EffectKind::Link { link, command: LinkCommand::Restart });
        self.interrupted(now, link, LinkState::Reconnecting { since, attempt }, out);
    }

    /// The link does not work now, and may again.
    pub(super) fn interrupted(&mut self, now: Instant, link: LinkId, state: LinkState, out: &mut Out<'_>) {
        let LinkId { call: id, peer: key, .. } = link;
        let reconnect = now + self.config.reconnect_window;
        let active = self.calls.get(&id).is_some_and(super::call::Call::is_active);
        let Some(p) = self.linked(link) else { return };
        if p.link.state == LinkState::Connected {
            p.link.disconnected_at = Some(now);
            p.link.until = active.then_some(reconnect);
            self.send_sync(now, id, &key);
        }
        self.set_link(now, id, &key, state, out);
        self.tell(id, &key, out);
    }

    /// A description for a link that was connected: another path, or other tracks.
    pub(super) fn on_renegotiation(&mut self, link: LinkId, description: Description, out: &mut Out<'_>) {
        // One that does not fit (an offer that crossed ours, an answer to one that was withdrawn) is the engine's to refuse.
        out.run(EffectKind::Link { link, command: LinkCommand::Apply(description) });
    }
}
