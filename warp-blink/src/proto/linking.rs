//! The link to a participant: who offers, when it may start, and what its states mean.

use std::time::Duration;

use super::{
    call::{Call, State},
    effect::{EffectKind, LinkCommand, LinkId},
    input::{EngineLink, MediaInput},
    link::Link,
    machine::{Machine, Out, Purpose},
    participant::{Participant, Stage},
    recordings::Recorded,
    signal::{Body, Description, DescriptionKind},
};
use crate::{
    config::PreConnect,
    event::{DeviceKind, EndReason, Event, LinkState, Milestone, Step, Warning},
    id::{CallId, PublicKey},
    time::Instant,
};

/// Links to one participant that are tried at once before time is given to the network. A lossy path can break a DTLS
/// handshake: seen in the one call tried at 20 % loss before there was a second attempt, where the engine ended with an
/// error instead of repeating. Four is a guess: with it four of four calls connected there.
const AT_ONCE: u32 = 4;

/// Waits before each further attempt, the last one repeating, until the time for it is over.
const RETRY: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];

impl Machine {
    /// Starts the link if it may and has not: the larger key offers, so that offers never cross.
    pub(super) fn start_link(&mut self, now: Instant, id: CallId, key: &PublicKey, out: &mut Out<'_>) {
        let (own, peer) = (self.own, *key);
        // While one call is heard nobody else is connected: a link carries the microphone.
        let heard_elsewhere = self.calls.values().any(|c| c.id != id && c.audio);
        let (allowed, ahead) = (self.connects_early(key), self.offers_ahead(id, key) && !heard_elsewhere);
        let Some(call) = self.calls.get_mut(&id) else { return };
        let (active, held) = (call.is_active(), call.held);
        let rings = call.is_outgoing() || (call.is_incoming() && call.caller_is(key));
        let Some(p) = call.peers.get_mut(key) else { return };
        let accepted = active && p.is_in();
        // One who is called into a call that others are in already connects early only where nothing is sent.
        let early = allowed && !heard_elsewhere && rings;
        // What comes late from somebody who is out starts nothing.
        if !(accepted || early || ahead) || p.session.is_none() || !p.may_come() {
            return;
        }
        if accepted && self.come_forward(now, id, key, out) {
            self.keep_silent(id, key, out);
            return;
        }
        let Some(p) = self.peer_mut(id, key) else { return };
        let failed = matches!(p.link.state, LinkState::Failed { .. } | LinkState::Closed) && !p.link.open;
        let due = p.link.retry_at.is_none_or(|t| t <= now);
        let starts = if own > peer {
            (p.link.generation == 0 || accepted)
                && !p.link.open
                && due
                && (failed || p.link.state == LinkState::Init)
        } else {
            // Before accept one link is enough: a caller cannot make this side open and close them at will.
            p.link.parked.offer.is_some() && (accepted || !p.link.open)
        };
        if !starts {
            return;
        }
        // One live link per peer: that of a second call waits, unless it is the one that was accepted.
        let live = |c: &&Call| c.id != id && c.peers.get(key).is_some_and(|p| p.link.open);
        if let Some(rival) = self.calls.values().find(live).map(|c| c.id) {
            if !accepted || held {
                return;
            }
            self.close_link(rival, key, out);
            // A call that is held goes without, and has it again when it goes on.
            let window = now + self.config.reconnect_window;
            if let Some(p) =
                self.calls.get_mut(&rival).filter(|c| c.is_active()).and_then(|c| c.peers.get_mut(key))
            {
                p.link.until = p.is_in().then_some(window);
            }
            self.tell(rival, key, out);
        }
        let until = now + self.config.connect_timeout;
        let Some(p) = self.peer_mut(id, key) else { return };
        if accepted {
            p.link.until.get_or_insert(until);
        }
        if p.link.poor.take().is_some() {
            // That was of the connection before.
            out.emit(Event::Quality { call: id, peer, poor: None });
        }
        if own > peer {
            let link = p.dial(id, out);
            if ahead {
                self.go_ahead(now, link);
            }
        } else {
            let Some(offer) = p.link.parked.offer.take() else { return };
            let parked = std::mem::take(&mut p.link.parked);
            if p.link.open {
                let link = LinkId { call: id, peer, generation: p.link.generation };
                out.run(EffectKind::Link { link, command: LinkCommand::Close });
            }
            p.link.begin(parked.generation);
            let link = LinkId { call: id, peer, generation: parked.generation };
            out.push(Purpose::Link(link), EffectKind::Link { link, command: LinkCommand::Accept(offer) });
            for candidate in parked.candidates {
                out.run(EffectKind::Link { link, command: LinkCommand::Candidate(candidate) });
            }
            if parked.end_of_candidates {
                out.run(EffectKind::Link { link, command: LinkCommand::EndOfCandidates });
            }
            self.set_link(now, id, key, LinkState::OfferReceived, out);
        }
        self.keep_silent(id, key, out);
        self.tell(id, key, out);
    }

    /// Whoever is in a call that is held hears nothing over its link, however new that is: there is one microphone for all links.
    pub(super) fn keep_silent(&mut self, id: CallId, key: &PublicKey, out: &mut Out<'_>) {
        let held = self.calls.get(&id).is_some_and(|call| call.held);
        let Some(p) = self.peer_mut(id, key).filter(|p| held && p.link.open) else { return };
        p.link.sending = false;
        let link = LinkId { call: id, peer: *key, generation: p.link.generation };
        out.run(EffectKind::Link { link, command: LinkCommand::Send(false) });
    }

    /// Whether a link to them may be made while a phone rings.
    pub(super) fn connects_early(&self, key: &PublicKey) -> bool {
        match self.config.pre_connect {
            PreConnect::Always => true,
            PreConnect::Contacts => self.people.is_contact(key),
            PreConnect::Never => false,
        }
    }

    pub(super) fn on_link_signal(
        &mut self,
        now: Instant,
        id: CallId,
        from: PublicKey,
        generation: u32,
        body: Body,
        out: &mut Out<'_>,
    ) {
        let larger = self.own > from;
        let Some(p) = self.peer_mut(id, &from) else { return };
        let current = p.link.generation == generation && p.link.open;
        let link = LinkId { call: id, peer: from, generation };
        match body {
            Body::Description(description) if current && p.link.was_connected => {
                self.on_renegotiation(link, description, out);
            }
            Body::Description(answer @ Description { kind: DescriptionKind::Answer, .. })
                if current && larger && !p.link.answered =>
            {
                if !self.is_too_early(link, &answer) {
                    self.use_answer(now, link, answer, out);
                }
            }
            Body::Candidate(candidate) if current => {
                out.run(EffectKind::Link { link, command: LinkCommand::Candidate(candidate) });
            }
            Body::EndOfCandidates if current => {
                out.run(EffectKind::Link { link, command: LinkCommand::EndOfCandidates });
            }
            Body::Description(Description { kind: DescriptionKind::Answer, .. }) => {
                self.counters.unexpected += 1
            }
            Body::Description(_) if larger => self.counters.unexpected += 1,
            other => {
                let offers = matches!(other, Body::Description(_));
                if !p.link.open && offers && generation <= p.link.generation {
                    // It has forgotten how far the links between the two had come.
                    self.send_sync(now, id, &from);
                } else if p.link.park(generation, other) {
                    // A member who offers a link is in the call. One who was lost is answered at once: if each side waited
                    // for its own next attempt, the two might never meet.
                    if offers && p.stage == Stage::Lost {
                        self.enter(now, id, &from, out);
                    } else {
                        self.heard_of(now, id, &from, out);
                    }
                    self.start_link(now, id, &from, out);
                } else {
                    self.counters.unexpected += 1;
                }
            }
        }
    }

    pub(super) fn on_media(&mut self, now: Instant, input: MediaInput, out: &mut Out<'_>) {
        match input {
            MediaInput::LocalDescription { link, description } => {
                let (state, sent) = match description.kind {
                    DescriptionKind::Offer => (LinkState::OfferCreated, LinkState::OfferSent),
                    DescriptionKind::Answer => (LinkState::AnswerCreated, LinkState::AnswerSent),
                };
                let ahead = self.offered_ahead(link);
                if self.say_link(now, link, Body::Description(description)) && !ahead {
                    self.set_link(now, link.call, &link.peer, state, out);
                    self.set_link(now, link.call, &link.peer, sent, out);
                }
            }
            MediaInput::LocalCandidate { link, candidate } => {
                self.say_in_time(now, link, Body::Candidate(candidate))
            }
            MediaInput::GatheringDone { link } => self.say_in_time(now, link, Body::EndOfCandidates),
            MediaInput::State { link, state } => self.on_engine(now, link, state, out),
            MediaInput::Secured { link, own, remote } => self.on_secured(now, link, own, remote),
            MediaInput::AddressChanged { link, lost } => self.on_address_changed(now, link, lost, out),
            MediaInput::Channel { link, channel, name } => {
                // Before a call is accepted nothing is heard of anybody.
                let accepted = self.calls.get(&link.call).is_some_and(Call::is_active);
                if accepted && self.linked(link).is_some_and(|p| p.is_in()) {
                    out.emit(Event::Channel { call: link.call, peer: link.peer, channel, name });
                } else {
                    self.counters.unexpected += 1;
                }
            }
            MediaInput::FirstAudio { link } => {
                if let Some(peer) = self.linked(link) {
                    peer.mark(now, Milestone::FirstAudio);
                    out.emit(Event::FirstAudio { call: link.call, peer: link.peer });
                }
            }
            MediaInput::Quality { link, poor } => {
                // Before a call is accepted nothing is heard of anybody.
                let accepted = self.calls.get(&link.call).is_some_and(Call::is_active);
                if let Some(p) = self.linked(link).filter(|p| accepted && p.link.poor != poor) {
                    p.link.poor = poor;
                    out.emit(Event::Quality { call: link.call, peer: link.peer, poor });
                }
            }
            MediaInput::Stats { link, stats } => {
                if let Some(peer) = self.linked(link) {
                    peer.link.route.clone_from(&stats.route);
                    peer.stats = stats;
                    peer.stats_at = Some(now);
                }
            }
            MediaInput::Started { call, mic_us, speaker_us } => {
                if let Some(c) = self.calls.get_mut(&call).filter(|c| c.audio) {
                    for p in c.peers.values_mut().filter(|p| p.is_in()) {
                        p.mark(now, Milestone::MediaStarted);
                    }
                    out.emit(Event::MediaStarted { call, mic_us, speaker_us });
                }
            }
            MediaInput::Speaking { call, speaking } => {
                let heard = self.calls.get(&call).is_some_and(|c| c.audio) && !self.local.muted;
                if self.local.speaking != (speaking && heard) {
                    self.own_state(now, |local| local.speaking = speaking && heard);
                }
            }
            MediaInput::Device { call, kind, name } => {
                if !self.calls.get(&call).is_some_and(|c| c.audio) {
                    return;
                }
                let listen_only = kind == DeviceKind::Microphone && name.is_none();
                let used = match kind {
                    DeviceKind::Microphone => {
                        self.local.listen_only = listen_only;
                        &mut self.local.microphone
                    }
                    DeviceKind::Speaker => &mut self.local.speaker,
                };
                if *used != name {
                    used.clone_from(&name);
                    out.emit(Event::Device { call, kind, name });
                }
            }
            MediaInput::Recording { call, recording: number, running, files, cause } => {
                self.on_recording(now, Recorded { call, number, running, files, cause }, out);
            }
            MediaInput::Sound { call, stats } => {
                if self.calls.get(&call).is_some_and(|c| c.audio) {
                    self.sound = Some(*stats);
                }
            }
            MediaInput::Played { call, cause } => {
                if self.calls.get(&call).is_some_and(|c| c.audio) {
                    out.emit(Event::Played { call, cause });
                }
            }
            MediaInput::Warning(warning) => {
                self.local.listen_only |= matches!(warning, Warning::ListenOnly { .. });
                self.note_warning(now, &warning);
                out.emit(Event::Warning { warning });
            }
        }
    }

    /// There is a path, and both ends have shown who they are.
    pub(super) fn link_works(&mut self, now: Instant, link: LinkId, out: &mut Out<'_>) {
        let LinkId { call: id, peer: key, .. } = link;
        let Some(p) = self.linked(link).filter(|p| p.link.was_connected) else { return };
        let reconnecting = matches!(p.link.state, LinkState::Reconnecting { .. });
        (p.link.attempts, p.link.failed) = (0, None);
        (p.link.until, p.link.disconnected_at, p.link.restart_at) = (None, None, None);
        p.link.connected_at.get_or_insert(now);
        if reconnecting {
            // Gossip may take longer to come back.
            p.delivery.send_anew(now);
        }
        self.set_link(now, id, &key, LinkState::Connected, out);
        self.note_joined(now, id, &key, out);
        self.tell(id, &key, out);
        if reconnecting || link.generation > 1 {
            // What the two know of the call may have gone different ways meanwhile.
            self.send_sync(now, id, &key);
        }
    }

    pub(super) fn on_engine(&mut self, now: Instant, link: LinkId, state: EngineLink, out: &mut Out<'_>) {
        let LinkId { call: id, peer: key, .. } = link;
        let Some(p) = self.linked(link) else { return };
        if p.link.ahead.is_some() {
            let over =
                matches!(state, EngineLink::Failed(_) | EngineLink::Closed | EngineLink::FingerprintMismatch);
            if over {
                self.fall_back(link, out);
            }
            return;
        }
        let was_connected = p.link.was_connected;
        let connected = p.link.state == LinkState::Connected;
        match state {
            EngineLink::Checking if !was_connected => self.set_link(now, id, &key, LinkState::Checking, out),
            EngineLink::Securing if !was_connected => self.set_link(now, id, &key, LinkState::Securing, out),
            EngineLink::Checking | EngineLink::Securing => {}
            EngineLink::Connected if connected => {}
            EngineLink::Connected => {
                p.link.was_connected = true;
                p.link.restart_at = None;
                if p.link.is_bound() {
                    self.link_works(now, link, out);
                }
            }
            EngineLink::Disconnected | EngineLink::Reconnecting if connected => {
                self.plan_restart(now, link);
                self.interrupted(now, link, LinkState::Reconnecting { since: now, attempt: 1 }, out);
            }
            // Before both ends have shown who they are.
            EngineLink::Disconnected if was_connected => self.plan_restart(now, link),
            EngineLink::Disconnected | EngineLink::Reconnecting => {}
            EngineLink::FingerprintMismatch => {
                p.link.open = false;
                out.run(EffectKind::Link { link, command: LinkCommand::Close });
                self.set_link(now, id, &key, LinkState::Failed { step: Step::Securing }, out);
                // Another attempt would meet the same stranger. While it rings nothing has been said to anybody.
                if self.calls.get(&id).is_some_and(Call::is_active) {
                    self.lose_for(now, id, &key, EndReason::FingerprintMismatch, out);
                }
            }
            EngineLink::Failed(step) => {
                p.link.open = false;
                p.link.failed = p.link.failed.max(Some(step));
                p.link.disconnected_at = p.link.disconnected_at.or(connected.then_some(now));
                out.run(EffectKind::Link { link, command: LinkCommand::Close });
                self.set_link(now, id, &key, LinkState::Failed { step }, out);
                self.tell(id, &key, out);
                // A link that fails while the phone still rings is tried anew on accept.
                self.retry_link(now, link, was_connected, out);
            }
            EngineLink::Closed => {
                // The other end closed it: its hang-up is on the way. Until it is here this is an interruption, or
                // nothing yet if the phone still rings: should it be accepted after all, the link is made anew.
                if !self.calls.get(&id).is_some_and(Call::is_active) {
                    self.close_link(id, &key, out);
                } else if was_connected {
                    self.on_engine(now, link, EngineLink::Disconnected, out);
                    // What is closed does not heal. The hang-up has as long to arrive as it is sent.
                    let farewell = now + self.config.farewell;
                    if let Some(p) = self.peer_mut(id, &key) {
                        p.link.restart_at = None;
                        p.link.until = Some(p.link.until.map_or(farewell, |t| t.min(farewell)));
                    }
                }
            }
        }
    }

    /// A link has failed: another one is made, as long as there is time for it.
    fn retry_link(&mut self, now: Instant, link: LinkId, was_connected: bool, out: &mut Out<'_>) {
        let LinkId { call: id, peer: key, generation } = link;
        let windows = (now + self.config.connect_timeout, now + self.config.reconnect_window);
        let larger = self.own > key;
        let Some(call) = self.calls.get_mut(&id).filter(|c| c.is_active()) else { return };
        let Some(p) = call.peers.get_mut(&key).filter(|p| p.is_in()) else { return };
        p.link.until.get_or_insert(if was_connected { windows.1 } else { windows.0 });
        let late = p.link.attempts.saturating_sub(AT_ONCE) as usize;
        let wait = if p.link.attempts < AT_ONCE { Duration::ZERO } else { RETRY[late.min(RETRY.len() - 1)] };
        p.link.retry_at = Some(now + wait);
        if !larger {
            // It is the other side that offers, and it may not have found out.
            p.link.retry_at = None;
            self.say(now, id, &key, generation, Body::Again);
        }
        self.start_link(now, id, &key, out);
    }

    /// The other side's end of the link failed: offer another.
    pub(super) fn on_again(
        &mut self,
        now: Instant,
        id: CallId,
        key: &PublicKey,
        generation: u32,
        out: &mut Out<'_>,
    ) {
        let larger = self.own > *key;
        let waits = |p: &Participant| larger && p.link.generation == generation && p.link.open;
        let Some(p) = self.peer_mut(id, key).filter(|p| waits(p)) else {
            self.counters.unexpected += 1;
            return;
        };
        let was_connected = p.link.was_connected;
        self.close_link(id, key, out);
        self.retry_link(now, LinkId { call: id, peer: *key, generation }, was_connected, out);
    }

    pub(super) fn set_link(
        &mut self,
        now: Instant,
        id: CallId,
        key: &PublicKey,
        state: LinkState,
        out: &mut Out<'_>,
    ) {
        let Some(p) = self.peer_mut(id, key) else { return };
        if p.link.state == state {
            return;
        }
        // The engine's first report may come before our own description has left: the timeline keeps both, the state
        // does not step back.
        let milestone = match state {
            LinkState::OfferCreated => Some(Milestone::OfferCreated),
            LinkState::OfferSent => Some(Milestone::OfferSent),
            LinkState::AnswerReceived => Some(Milestone::AnswerReceived),
            LinkState::OfferReceived => Some(Milestone::OfferReceived),
            LinkState::AnswerCreated => Some(Milestone::AnswerCreated),
            LinkState::AnswerSent => Some(Milestone::AnswerSent),
            LinkState::Checking => Some(Milestone::Checking),
            LinkState::Securing => Some(Milestone::Securing),
            LinkState::Connected => Some(Milestone::Connected),
            _ => None,
        };
        if let Some(milestone) = milestone {
            p.mark(now, milestone);
        }
        if Link::rank(state) < Link::rank(p.link.state) {
            return;
        }
        p.link.state = state;
        let route = p.link.route.clone();
        out.emit(Event::Link { call: id, peer: *key, state, route });
    }

    /// Closes the link to a participant, if there is one.
    pub(super) fn close_link(&mut self, id: CallId, key: &PublicKey, out: &mut Out<'_>) {
        let Some(p) = self.peer_mut(id, key).filter(|p| p.link.open) else { return };
        let link = LinkId { call: id, peer: *key, generation: p.link.generation };
        p.say_over_link(link, out);
        p.link.open = false;
        out.run(EffectKind::Link { link, command: LinkCommand::Close });
        // Nobody was told of one that waits for somebody to accept.
        if p.link.ahead.take().is_some() {
            p.link.retry_at = None;
            return;
        }
        p.link.state = LinkState::Closed;
        out.emit(Event::Link { call: id, peer: *key, state: LinkState::Closed, route: None });
    }

    /// The participant at the other end of that very link.
    pub(super) fn linked(&mut self, link: LinkId) -> Option<&mut Participant> {
        self.calls
            .get_mut(&link.call)
            .filter(|c| !matches!(c.state, State::Leaving { .. }))
            .and_then(|c| c.peers.get_mut(&link.peer))
            .filter(|p| p.link.open && p.link.generation == link.generation)
    }

    pub(super) fn say_link(&mut self, now: Instant, link: LinkId, body: Body) -> bool {
        let there = self.linked(link).is_some();
        if there {
            self.say(now, link.call, &link.peer, link.generation, body);
        }
        there
    }
}
