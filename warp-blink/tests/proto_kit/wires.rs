//! What the machines say, carried out: messages that arrive, links that connect, and how each effect ended.

use warp_blink::{
    id::{CallId, PublicKey},
    proto::{
        Arrived, Effect, EffectKind, EngineLink, Input, LinkCommand, LinkId, MediaInput, Outcome, SessionNo,
        TopicRef,
        signal::{Description, DescriptionKind, Fingerprint, KeyHash},
    },
};

use super::{Pair, Wire, fold, roll_hash};

impl Pair {
    pub(crate) fn deliver_to(&mut self, from: usize, to: usize, wire: Wire) {
        let (sender, owner) = (self.key(from), self.key(to));
        let heard = |topic| self.sides[to].topics.contains(&topic);
        let input = match wire {
            Wire::Hello(session, lane, arrived) => {
                if !heard(TopicRef::Inbox { owner, lane }) {
                    return;
                }
                let name = (arrived.hello.call, sender, session, lane);
                if !self.sides[to].seen.contains(&name) {
                    self.sides[to].asked.insert(name);
                    Input::Hello(Box::new(arrived))
                } else {
                    let call = arrived.hello.call;
                    let session =
                        self.sides[to].numbers.get(&(call, sender, session)).copied().unwrap_or(session);
                    Input::HelloAgain { call, from: sender, session }
                }
            }
            Wire::Welcome(call, session, welcome) if heard(TopicRef::Peer { call, owner }) => {
                self.sides[to].begun(call, sender, session);
                Input::Welcome { call, from: sender, session, welcome }
            }
            Wire::Packet(session, packet) if heard(TopicRef::Peer { call: packet.call, owner }) => {
                Input::Packet { from: sender, session, packet }
            }
            // Of a link that is closed nothing arrives.
            Wire::OnLink(link, session, packet) if self.sides[to].links.contains(&link) => {
                Input::PacketOnLink { link, session, packet }
            }
            Wire::Call(call, epoch, body) if heard(TopicRef::Call { call, epoch }) => {
                Input::CallMessage { call, epoch, from: sender, body }
            }
            _ => return,
        };
        self.todo.push_back((to, input));
        self.run();
    }

    pub(crate) fn perform(&mut self, side: usize, effects: Vec<Effect>) {
        for Effect { id, kind } in effects {
            self.sides[side].log.push(kind.clone());
            let mut outcome = Outcome::Ok;
            let this = &mut self.sides[side];
            match kind {
                EffectKind::Emit(event) => {
                    this.events.push(event);
                    continue;
                }
                EffectKind::Subscribe(topic) => assert!(this.topics.insert(topic), "{topic:?} twice"),
                EffectKind::Unsubscribe(topic) => assert!(this.topics.remove(&topic), "{topic:?} not there"),
                EffectKind::Reach { .. } => outcome = this.reach.clone(),
                EffectKind::SendHello { to, lane, suite, session, hello } => {
                    let mut arrived = Arrived::new(*hello);
                    arrived.suite = suite;
                    arrived.wall = self.wall;
                    outcome = self.publish(side, Some(to), Wire::Hello(session, lane, arrived));
                }
                EffectKind::SendWelcome { call, to, session, welcome } => {
                    this.seen.extend(this.asked.iter().filter(|(c, from, ..)| (*c, *from) == (call, to)));
                    for (call, from, theirs, _) in
                        this.asked.extract_if(.., |(c, from, ..)| (*c, *from) == (call, to))
                    {
                        this.numbers.insert((call, from, theirs), session);
                    }
                    this.begun(call, to, session);
                    let session = self.number_there(side, call, to, session);
                    outcome = self.publish(side, Some(to), Wire::Welcome(call, session, welcome));
                }
                EffectKind::DropPeer { call, peer } => {
                    let key = this.key;
                    this.wipe_sessions(|c, with| (c, with) == (call, peer));
                    if let Some(other) = self.sides.iter_mut().find(|other| other.key == peer) {
                        other.lose_sessions(call, key);
                    }
                }
                // Nobody opens what is said in a session that they have wiped.
                EffectKind::Send { to, session, packet } if this.is_dead(packet.call, to, session) => {}
                EffectKind::Send { to, session, packet } => {
                    let session = self.number_there(side, packet.call, to, session);
                    outcome = self.publish(side, Some(to), Wire::Packet(session, packet));
                }
                EffectKind::SendOnLink { link, session, .. }
                    if this.is_dead(link.call, link.peer, session) => {}
                EffectKind::SendOnLink { link, session, packet } => {
                    assert!(this.links.contains(&link), "speaks over {link:?}, which is not open");
                    let session = self.number_there(side, link.call, link.peer, session);
                    let there = LinkId { peer: self.key(side), ..link };
                    self.wires.push_back((side, self.index(link.peer), Wire::OnLink(there, session, packet)));
                }
                EffectKind::SendCall { call, epoch, body } => {
                    outcome = self.publish(side, None, Wire::Call(call, epoch, body));
                }
                EffectKind::OpenAudio { call, .. } => {
                    assert!(this.audio.insert(call), "audio opened twice");
                    let started = MediaInput::Started { call, mic_us: Some(1), speaker_us: Some(2) };
                    self.todo.push_back((side, Input::Media(started)));
                }
                EffectKind::CloseAudio { call } => assert!(this.audio.remove(&call), "audio was not open"),
                EffectKind::KeepRoll { roll, .. } => outcome = Outcome::Roll(roll_hash(&roll)),
                EffectKind::NewCallKey { call, n } => {
                    let name = format!("{call} {n} {side} {:?}", self.now);
                    outcome = Outcome::Key(KeyHash(fold(&name)));
                }
                EffectKind::Forget { call } => {
                    this.seen.retain(|(seen, ..)| *seen != call);
                    this.wipe_sessions(|c, _| c == call);
                    self.forgotten(side, call);
                }
                EffectKind::Link { link, command } => self.drive_link(side, link, command),
                _ => {}
            }
            if self.withhold {
                self.undone.push((side, id, outcome));
            } else {
                self.todo.push_back((side, Input::Done { effect: id, outcome }));
            }
        }
    }

    /// One side has wiped all its sessions of a call.
    fn forgotten(&mut self, side: usize, call: CallId) {
        let key = self.key(side);
        for other in self.sides.iter_mut().filter(|other| other.key != key) {
            other.lose_sessions(call, key);
        }
    }

    /// How the other side numbers a session.
    fn number_there(&self, side: usize, call: CallId, with: PublicKey, here: SessionNo) -> SessionNo {
        let this = &self.sides[side];
        let of = |(k, n): (&(CallId, PublicKey, SessionNo), &SessionNo)| {
            ((k.0, k.1) == (call, with) && *n == here).then_some(k.2)
        };
        let opened_there = this.numbers.iter().rev().find_map(of);
        let other = self.sides.iter().find(|s| s.key == with);
        let opened_here = other.and_then(|s| s.numbers.get(&(call, this.key, here)).copied());
        opened_there.or(opened_here).unwrap_or(here)
    }

    fn publish(&mut self, from: usize, to: Option<PublicKey>, wire: Wire) -> Outcome {
        let outcome = self.sides[from].publish.clone();
        if outcome == Outcome::Ok {
            for other in (0..self.sides.len()).filter(|other| *other != from) {
                if to.is_none_or(|to| to == self.key(other)) {
                    self.wires.push_back((from, other, wire.clone()));
                }
            }
        }
        outcome
    }

    fn drive_link(&mut self, side: usize, link: LinkId, command: LinkCommand) {
        let describe = |kind| {
            let description = Description { kind, text: format!("{kind:?} {}", link.generation) };
            Input::Media(MediaInput::LocalDescription { link, description })
        };
        let far = self.index(link.peer);
        let this = &mut self.sides[side];
        match command {
            LinkCommand::Dial => {
                assert!(this.links.insert(link), "dialed twice");
                self.todo.push_back((side, describe(DescriptionKind::Offer)));
            }
            LinkCommand::Accept(_) => {
                assert!(this.links.insert(link), "accepted twice");
                self.todo.push_back((side, describe(DescriptionKind::Answer)));
            }
            LinkCommand::Restart => {
                assert!(this.links.contains(&link));
                self.todo.push_back((side, describe(DescriptionKind::Offer)));
                let state = MediaInput::State { link, state: EngineLink::Reconnecting };
                self.todo.push_back((side, Input::Media(state)));
            }
            LinkCommand::Apply(offer) if offer.kind == DescriptionKind::Offer => {
                assert!(this.links.contains(&link));
                let state = MediaInput::State { link, state: EngineLink::Reconnecting };
                self.todo.push_back((side, Input::Media(state)));
                self.todo.push_back((side, describe(DescriptionKind::Answer)));
            }
            LinkCommand::Apply(_) => {
                assert!(this.links.contains(&link));
                let states: &[_] = if self.path {
                    &[EngineLink::Checking, EngineLink::Securing, EngineLink::Connected]
                } else {
                    &[EngineLink::Checking]
                };
                let other = LinkId { peer: this.key, ..link };
                for state in states {
                    for (end, link) in [(side, link), (far, other)] {
                        let state = MediaInput::State { link, state: *state };
                        self.todo.push_back((end, Input::Media(state)));
                    }
                }
                if self.path {
                    self.secure(side, link);
                    self.secure(far, other);
                }
            }
            LinkCommand::Close => {
                this.secured.remove(&link);
                assert!(this.links.remove(&link), "{link:?} was not open");
            }
            _ => {}
        }
    }

    /// The signaling channel of a link opens, if it has not. Whose certificate has which fingerprint is told by their keys.
    pub(crate) fn secure(&mut self, side: usize, link: LinkId) {
        if self.sides[side].links.contains(&link) && self.sides[side].secured.insert(link) {
            let [own, remote] = [self.key(side), link.peer].map(|key| Fingerprint(*key.as_bytes()));
            self.todo.push_back((side, Input::Media(MediaInput::Secured { link, own, remote })));
        }
    }
}
