//! The link to the participant: who offers, when it may start, and what its states mean for the call.

use super::{
    call::State,
    ending::Ending,
    input::{EffectKind, EngineLink, LinkCommand, LinkId, MediaInput},
    machine::{Machine, Out, Purpose},
    participant::{Link, Participant},
    signal::{Body, Description, DescriptionKind},
};
use crate::{
    config::PreConnect,
    event::{EndReason, Event, LinkState, Milestone, Warning},
    id::CallId,
    time::Instant,
};

/// Links to one participant that are tried before the call fails. A lossy path can break a DTLS handshake: seen
/// in the one call tried at 20 % loss before there was a second attempt, where the engine ended with an error instead of
/// repeating. Four is a guess: with it four of four calls connected there.
const MAX_GENERATIONS: u32 = 4;

impl Machine {
    /// Starts the link if it may and has not: the larger key offers, so that offers never cross.
    pub(super) fn start_link(&mut self, now: Instant, id: CallId, out: &mut Out<'_>) {
        let own = self.own;
        // While one call is heard nobody else is connected: a link carries the microphone.
        let heard_elsewhere = self.calls.values().any(|c| c.id != id && c.audio);
        let allowed = |peer| match self.config.pre_connect {
            PreConnect::Always => true,
            PreConnect::Contacts => self.people.is_contact(peer),
            PreConnect::Never => false,
        };
        let early = !heard_elsewhere && self.calls.get(&id).is_some_and(|c| allowed(&c.peer.key));
        let Some(call) = self.calls.get_mut(&id) else { return };
        let may = call.is_active()
            || (early && matches!(call.state, State::Outgoing { .. } | State::Incoming { .. }));
        if !may || call.peer.session.is_none() {
            return;
        }
        let failed_early = matches!(call.peer.link.state, LinkState::Failed { .. } | LinkState::Closed)
            && !call.peer.link.open;
        let (peer, active) = (call.peer.key, call.is_active());
        let starts = if own > peer {
            call.peer.link.generation == 0 || (failed_early && active)
        } else {
            // Before accept one link is enough: a caller cannot make this side open and close them at will.
            call.peer.link.parked.offer.is_some() && (active || !call.peer.link.open)
        };
        if !starts {
            return;
        }
        // One live link per peer: that of a second call waits, unless it is the one that was accepted.
        let rival = self.calls.values().find(|c| c.id != id && c.peer.key == peer && c.peer.link.open);
        if let Some(rival) = rival.map(|c| c.id) {
            if !active {
                return;
            }
            self.close_link(rival, out);
        }
        let Some(call) = self.calls.get_mut(&id) else { return };
        call.peer.state.reconnecting = false;
        if let State::Active { connect_until, .. } = &mut call.state {
            connect_until.get_or_insert(now + self.config.connect_timeout);
        }
        if own > peer {
            call.peer.link.begin(call.peer.link.generation + 1);
            let link = LinkId { call: id, peer, generation: call.peer.link.generation };
            out.push(Purpose::Link(link), EffectKind::Link { link, command: LinkCommand::Dial });
        } else if let Some(offer) = call.peer.link.parked.offer.take() {
            let parked = std::mem::take(&mut call.peer.link.parked);
            let previous = call.peer.link.open.then_some(call.peer.link.generation);
            if let Some(generation) = previous {
                let link = LinkId { call: id, peer: call.peer.key, generation };
                out.push(Purpose::Other, EffectKind::Link { link, command: LinkCommand::Close });
            }
            call.peer.link.begin(parked.generation);
            let link = LinkId { call: id, peer: call.peer.key, generation: parked.generation };
            out.push(Purpose::Link(link), EffectKind::Link { link, command: LinkCommand::Accept(offer) });
            for candidate in parked.candidates {
                out.run(EffectKind::Link { link, command: LinkCommand::Candidate(candidate) });
            }
            if parked.end_of_candidates {
                out.run(EffectKind::Link { link, command: LinkCommand::EndOfCandidates });
            }
            self.set_link(now, id, LinkState::OfferReceived, out);
        }
    }

    pub(super) fn on_link_signal(
        &mut self,
        now: Instant,
        id: CallId,
        generation: u32,
        body: Body,
        out: &mut Out<'_>,
    ) {
        let own = self.own;
        let Some(call) = self.calls.get_mut(&id) else { return };
        let current = call.peer.link.generation == generation && call.peer.link.open;
        let link = LinkId { call: id, peer: call.peer.key, generation };
        match body {
            Body::Description(answer @ Description { kind: DescriptionKind::Answer, .. })
                if current && own > call.peer.key && !call.peer.link.answered =>
            {
                call.peer.link.answered = true;
                out.push(Purpose::Link(link), EffectKind::Link { link, command: LinkCommand::Apply(answer) });
                self.set_link(now, id, LinkState::AnswerReceived, out);
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
            Body::Description(_) if own > call.peer.key => self.counters.unexpected += 1,
            other => {
                if call.peer.link.park(generation, other) {
                    self.start_link(now, id, out);
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
                if self.say_link(now, link, Body::Description(description)) {
                    self.set_link(now, link.call, state, out);
                    self.set_link(now, link.call, sent, out);
                }
            }
            MediaInput::LocalCandidate { link, candidate } => {
                self.say_link(now, link, Body::Candidate(candidate));
            }
            MediaInput::GatheringDone { link } => {
                self.say_link(now, link, Body::EndOfCandidates);
            }
            MediaInput::State { link, state } => self.on_engine(now, link, state, out),
            MediaInput::FirstAudio { link } => {
                if let Some(peer) = self.linked(link) {
                    peer.mark(now, Milestone::FirstAudio);
                    out.emit(Event::FirstAudio { call: link.call, peer: link.peer });
                }
            }
            MediaInput::Stats { link, stats } => {
                if let Some(peer) = self.linked(link) {
                    peer.link.route.clone_from(&stats.route);
                    peer.stats = stats;
                }
            }
            MediaInput::Started { call, mic_us, speaker_us } => {
                if let Some(c) = self.calls.get_mut(&call).filter(|c| c.audio) {
                    c.peer.mark(now, Milestone::MediaStarted);
                    out.emit(Event::MediaStarted { call, mic_us, speaker_us });
                }
            }
            MediaInput::Warning(warning) => {
                self.local.listen_only |= matches!(warning, Warning::ListenOnly { .. });
                out.emit(Event::Warning { warning });
            }
        }
    }

    fn on_engine(&mut self, now: Instant, link: LinkId, state: EngineLink, out: &mut Out<'_>) {
        let Some(peer) = self.linked(link) else { return };
        let was_connected = peer.link.was_connected;
        let connected = peer.link.state == LinkState::Connected;
        let reconnecting = matches!(peer.link.state, LinkState::Reconnecting { .. });
        match state {
            EngineLink::Checking if !was_connected => self.set_link(now, link.call, LinkState::Checking, out),
            EngineLink::Securing if !was_connected => self.set_link(now, link.call, LinkState::Securing, out),
            EngineLink::Checking | EngineLink::Securing => {}
            EngineLink::Connected if connected => {}
            EngineLink::Connected => {
                peer.link.was_connected = true;
                peer.state.reconnecting = false;
                if let Some(call) = self.calls.get_mut(&link.call)
                    && let State::Active { connect_until, reconnect_until } = &mut call.state
                {
                    (*connect_until, *reconnect_until) = (None, None);
                }
                self.set_link(now, link.call, LinkState::Connected, out);
                self.note_joined(link.call, out);
            }
            EngineLink::Disconnected if connected => {
                peer.state.reconnecting = true;
                self.set_link(now, link.call, LinkState::Reconnecting { since: now, attempt: 1 }, out);
                let window = self.config.reconnect_window;
                if let Some(call) = self.calls.get_mut(&link.call)
                    && let State::Active { reconnect_until, .. } = &mut call.state
                {
                    *reconnect_until = Some(now + window);
                    let state = call.peer.state;
                    out.emit(Event::Participant { call: link.call, peer: link.peer, state });
                }
            }
            EngineLink::Disconnected => {}
            EngineLink::Failed(step) => {
                peer.link.open = false;
                out.push(Purpose::Other, EffectKind::Link { link, command: LinkCommand::Close });
                self.set_link(now, link.call, LinkState::Failed { step }, out);
                // A link that fails while the phone still rings is tried anew on accept.
                let Some(call) = self.calls.get_mut(&link.call).filter(|c| c.is_active()) else { return };
                if was_connected || link.generation >= MAX_GENERATIONS {
                    let reason = if was_connected { EndReason::Lost } else { EndReason::Failed { step } };
                    self.end(now, link.call, Ending::nobodys(reason, Some(Body::LinkLost)), out);
                } else if self.own > link.peer {
                    self.start_link(now, link.call, out);
                } else {
                    Self::say(call, &mut self.counters, now, link.generation, Body::Again);
                    // The other side may have found out first.
                    self.start_link(now, link.call, out);
                }
            }
            EngineLink::Closed => {
                // The other end closed it: its hang-up is on the way. Until it is here this is an interruption, or
                // nothing yet if the phone still rings: should it be accepted after all, the link is made anew.
                if !self.calls.get(&link.call).is_some_and(super::call::Call::is_active) {
                    self.close_link(link.call, out);
                } else if connected || reconnecting {
                    self.on_engine(now, link, EngineLink::Disconnected, out);
                    // What is closed does not heal. The hang-up has as long to arrive as it is sent.
                    let farewell = now + self.config.farewell;
                    if let Some(call) = self.calls.get_mut(&link.call)
                        && let State::Active { reconnect_until: Some(until), .. } = &mut call.state
                    {
                        *until = farewell.min(*until);
                    }
                }
            }
        }
    }

    /// The other side's end of the link failed before it was connected: offer another.
    pub(super) fn on_again(&mut self, now: Instant, id: CallId, generation: u32, out: &mut Out<'_>) {
        let own = self.own;
        let waits = self.calls.get(&id).is_some_and(|c| {
            let link = &c.peer.link;
            own > c.peer.key && link.generation == generation && link.open && !link.was_connected
        });
        if !waits || generation >= MAX_GENERATIONS {
            self.counters.unexpected += 1;
            return;
        }
        self.close_link(id, out);
        self.start_link(now, id, out);
    }

    /// Tells that the participant joined, once both have accepted and the link is up.
    pub(super) fn note_joined(&mut self, id: CallId, out: &mut Out<'_>) {
        let Some(call) = self.calls.get_mut(&id).filter(|c| c.is_active()) else { return };
        let up = call.peer.link.state == LinkState::Connected;
        let state = &mut call.peer.state;
        if up && (!state.joined || !state.reconnecting) {
            state.joined = true;
            let state = *state;
            out.emit(Event::Participant { call: id, peer: call.peer.key, state });
        }
    }

    pub(super) fn set_link(&mut self, now: Instant, id: CallId, state: LinkState, out: &mut Out<'_>) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        if call.peer.link.state == state {
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
            call.peer.mark(now, milestone);
        }
        if Link::rank(state) < Link::rank(call.peer.link.state) {
            return;
        }
        call.peer.link.state = state;
        let route = call.peer.link.route.clone();
        out.emit(Event::Link { call: id, peer: call.peer.key, state, route });
    }

    /// Closes the call's link, if it has one.
    pub(super) fn close_link(&mut self, id: CallId, out: &mut Out<'_>) {
        let Some(call) = self.calls.get_mut(&id).filter(|c| c.peer.link.open) else { return };
        let peer = call.peer.key;
        let link = LinkId { call: id, peer, generation: call.peer.link.generation };
        call.peer.link.open = false;
        call.peer.link.state = LinkState::Closed;
        out.run(EffectKind::Link { link, command: LinkCommand::Close });
        out.emit(Event::Link { call: id, peer, state: LinkState::Closed, route: None });
    }

    /// The participant at the other end of that very link.
    fn linked(&mut self, link: LinkId) -> Option<&mut Participant> {
        self.calls
            .get_mut(&link.call)
            .filter(|c| !c.is_leaving())
            .map(|c| &mut c.peer)
            .filter(|p| p.key == link.peer && p.link.open && p.link.generation == link.generation)
    }

    fn say_link(&mut self, now: Instant, link: LinkId, body: Body) -> bool {
        if self.linked(link).is_none() {
            return false;
        }
        if let Some(call) = self.calls.get_mut(&link.call) {
            Self::say(call, &mut self.counters, now, link.generation, body);
        }
        true
    }
}
