//! What the effects of a machine do in this world.

use std::time::Duration;

use warp_blink::{
    event::Event,
    id::{CallId, PublicKey},
    proto::{
        Effect, EffectKind, Gift, Input, Known, LinkCommand, MediaInput, Outcome, SessionNo, TopicRef,
        signal::{Body, CallBody, EpochId, Hello, HelloKind, KeyHash, Lane, Packet, Roll, Status, Welcome},
    },
};

use super::{
    Fault, Happening, World,
    net::{First, Wire, ms},
    roll::{Gone, View},
};

impl World {
    pub(super) fn perform(&mut self, index: usize, effects: Vec<Effect>) -> Result<(), Fault> {
        let mut media = false;
        for Effect { id, kind } in effects {
            let mut wait = self.rng.between(self.conditions.driver);
            let outcome = match kind {
                EffectKind::Emit(event) => {
                    media |= matches!(event, Event::Held { .. });
                    self.told(index, &event)?;
                    let now = self.now;
                    self.nodes[index].events.push((now, event));
                    continue;
                }
                EffectKind::Reach { peer } => {
                    let to = self.index(&peer);
                    let (takes, outcome) = self.reach(index, to);
                    wait = takes;
                    outcome
                }
                EffectKind::OpenAudio { call, .. } => {
                    media = true;
                    wait = self.rng.between(ms(10, 80));
                    self.open_audio(index, call, wait)?
                }
                EffectKind::CloseAudio { call } => {
                    media = true;
                    self.closes_audio(index, call)?;
                    Outcome::Ok
                }
                EffectKind::Link { link, command } => {
                    media |=
                        matches!(command, LinkCommand::Dial | LinkCommand::Accept(_) | LinkCommand::Send(_));
                    self.drive(index, link, command)?;
                    Outcome::Ok
                }
                other => self.perform_signal(index, other)?,
            };
            let life = self.nodes[index].life;
            let input = Box::new(Input::Done { effect: id, outcome });
            self.later(wait, Happening::Input { node: index, life, input });
        }
        if media { self.check_media(index) } else { Ok(()) }
    }

    /// Everything but what the app is told and media.
    fn perform_signal(&mut self, index: usize, kind: EffectKind) -> Result<Outcome, Fault> {
        let mut checked = Ok(());
        let node = &mut self.nodes[index];
        match kind {
            EffectKind::Subscribe(topic) => self.subscribe(index, topic)?,
            EffectKind::Unsubscribe(topic) => self.unsubscribe(index, topic)?,
            EffectKind::SendHello { to, lane, suite, session, hello } => {
                return self.send_hello(index, to, (lane, suite, session), hello);
            }
            EffectKind::SendWelcome { call, to, session, welcome } => {
                return self.send_welcome(index, call, to, session, welcome);
            }
            EffectKind::Send { to, session, packet } => return self.send(index, to, session, packet),
            EffectKind::SendOnLink { link, session, packet } => {
                self.send_on_link(index, link, session, packet)?;
            }
            EffectKind::SendCall { call, epoch, body } => return self.send_call(index, call, epoch, body),
            EffectKind::DropSession { call, peer, session } => node.vault.drop_session(call, peer, session),
            EffectKind::DropPeer { call, peer } => node.vault.drop_peer(call, peer),
            EffectKind::Keep { peer, gift } => checked = self.keep(index, peer, gift),
            EffectKind::Learn { peer } => checked = node.vault.learn(peer),
            EffectKind::NewToken => node.token += 1,
            EffectKind::Remember { .. } => node.memory = Some(node.machine.memory().clone()),
            EffectKind::NewCallKey { call, n } => {
                let named = KeyHash(self.rng.bytes());
                let key = self.real.as_mut().map_or(named, |real| real.call_key());
                let node = &mut self.nodes[index];
                node.vault.add_key(call, EpochId { n, key });
                node.ever.insert((call, EpochId { n, key }));
                return Ok(Outcome::Key(key));
            }
            EffectKind::KeepCallKey { call, epoch } => checked = node.vault.keep_key(call, epoch),
            EffectKind::DropCallKey { call, epoch } => checked = node.vault.drop_key(call, epoch),
            EffectKind::Sign { call, record } => {
                if record.by != node.key {
                    let what = format!("signs in another's name: {record:?}");
                    return Err(self.fault(index, what));
                }
                node.vault.sign(call, record);
                self.signs(call, record);
            }
            EffectKind::KeepRoll { call, roll } => return self.keep_roll(index, call, &roll),
            EffectKind::SaveCall { call, roll, media } => {
                node.saved.insert(call, (roll, media));
            }
            EffectKind::UnsaveCall { call } => {
                node.vault.unsave(call);
                if node.saved.remove(&call).is_none() {
                    checked = Err(format!("{call} was not saved"));
                }
            }
            EffectKind::SaveNotices => node.notices = node.machine.notices().collect(),
            EffectKind::Forget { call } => {
                node.vault.forget(call);
                node.views.remove(&call);
                node.said.remove(&call);
                node.held.remove(&call);
            }
            // Mute and whatever comes later: nothing to see in this world.
            _ => {}
        }
        checked.map(|()| Outcome::Ok).map_err(|what| self.fault(index, what))
    }

    fn open_audio(&mut self, index: usize, call: CallId, wait: Duration) -> Result<Outcome, Fault> {
        self.opens_audio(index, call)?;
        if self.rng.chance(self.conditions.no_audio) {
            return Ok(Outcome::Failed("no device".into()));
        }
        let started = MediaInput::Started { call, mic_us: Some(1), speaker_us: Some(1) };
        let (life, input) = (self.nodes[index].life, Box::new(Input::Media(started)));
        self.later(wait, Happening::Input { node: index, life, input });
        Ok(Outcome::Ok)
    }

    fn send_hello(
        &mut self,
        index: usize,
        to: PublicKey,
        (lane, suite, session): (Lane, u8, SessionNo),
        hello: Box<Hello>,
    ) -> Result<Outcome, Fault> {
        if hello.kind != HelloKind::Cancel {
            self.may_say(index, &to, hello.call, None)?;
        }
        let new = self.secret();
        let node = &mut self.nodes[index];
        let token = match lane {
            Lane::Strangers => None,
            Lane::Contacts => match node.tokens.get(&to) {
                Some(token) => Some(*token),
                None => return Err(self.fault(index, format!("has no token of {to}"))),
            },
        };
        let handshake = node.vault.initiator(hello.call, to, (session, lane, hello.kind), new);
        let mut first = First { hello, suite, handshake, token, frame: None };
        first.frame = self.seal_hello(index, &to, (token, &first))?;
        let topic = TopicRef::Inbox { owner: to, lane };
        Ok(self.publish(index, topic, Wire::Hello { lane, first }))
    }

    fn send_welcome(
        &mut self,
        index: usize,
        call: CallId,
        to: PublicKey,
        session: SessionNo,
        welcome: Welcome,
    ) -> Result<Outcome, Fault> {
        let new = self.secret();
        let node = &mut self.nodes[index];
        let from = node.key;
        let answer = match node.vault.answer(call, to, session, new) {
            Ok(answer) => answer,
            // The answer to a withdrawal is not kept: if it found nobody, the withdrawal comes again.
            Err(what) if welcome.status == Status::Cancelled => return Ok(Outcome::Failed(what)),
            Err(what) => return Err(self.fault(index, what)),
        };
        let frame = self.seal_welcome(index, answer, &welcome)?;
        let topic = TopicRef::Peer { call, owner: to };
        Ok(self.publish(index, topic, Wire::Welcome { call, from, answer, welcome, frame }))
    }

    fn send(
        &mut self,
        index: usize,
        to: PublicKey,
        session: SessionNo,
        packet: Box<Packet>,
    ) -> Result<Outcome, Fault> {
        let topic = TopicRef::Peer { call: packet.call, owner: to };
        let wire = self.seal(index, to, session, packet)?;
        Ok(self.publish(index, topic, wire))
    }

    pub(super) fn seal(
        &mut self,
        index: usize,
        to: PublicKey,
        session: SessionNo,
        packet: Box<Packet>,
    ) -> Result<Wire, Fault> {
        self.may_say(index, &to, packet.call, Some(&packet.body))?;
        let node = &mut self.nodes[index];
        let sealed = node.vault.seal(to, session, (packet.call, &packet.body), node.token);
        let (secret, attachment) = sealed.map_err(|what| self.fault(index, what))?;
        let frame = self.seal_packet(index, secret, (&packet, &attachment))?;
        Ok(Wire::Packet { secret, packet, attachment, frame })
    }

    fn send_call(
        &mut self,
        index: usize,
        call: CallId,
        epoch: EpochId,
        body: CallBody,
    ) -> Result<Outcome, Fault> {
        if !self.nodes[index].vault.holds(call, epoch) {
            return Err(self.fault(index, format!("speaks in {call} under a key that it does not hold")));
        }
        self.excludes(index, call, epoch)?;
        let (now, node) = (self.now, &mut self.nodes[index]);
        if let CallBody::Announce(announce) = body {
            node.said.insert(call, (now, epoch, announce.roll));
        }
        let from = node.key;
        let frame = self.seal_call(index, (call, epoch), &body)?;
        let topic = TopicRef::Call { call, epoch };
        Ok(self.publish(index, topic, Wire::Call { call, epoch, from, body, frame }))
    }

    fn keep_roll(&mut self, index: usize, call: CallId, roll: &Roll) -> Result<Outcome, Fault> {
        if let Err(what) = self.nodes[index].vault.keep_roll(call, roll) {
            return Err(self.fault(index, what));
        }
        let hash = self.roll_hash(call, roll);
        self.nodes[index].views.insert(call, View::new(roll, hash));
        Ok(Outcome::Roll(hash))
    }

    fn keep(&mut self, index: usize, peer: PublicKey, gift: Gift) -> Result<(), String> {
        let node = &mut self.nodes[index];
        let token = node.vault.keep(peer, gift)?;
        if let Some(token) = token {
            node.tokens.insert(peer, token);
        }
        let known = node.people.entry(peer).or_default();
        *known = Known::new(known.token || token.is_some(), known.kem || token.is_none());
        Ok(())
    }

    /// Whoever has processed a removal says nothing more to the removed.
    fn may_say(&self, index: usize, to: &PublicKey, call: CallId, body: Option<&Body>) -> Result<(), Fault> {
        let node = &self.nodes[index];
        let Some(view) = node.views.get(&call) else { return Ok(()) };
        let removed = |gone: &&Gone| matches!(gone, Gone::Removed(_)) && self.is_out(call, to, view);
        if view.gone.get(to).filter(removed).is_none() {
            return Ok(());
        }
        // Only the creator, whose word it is, says so.
        let last = matches!(body, Some(Body::Removed | Body::Cancel | Body::Confirm | Body::Ack));
        if last && view.creator == node.key {
            return Ok(());
        }
        Err(self.fault(index, format!("says {body:?} to {to}, whom it knows to be removed from {call}")))
    }

    /// Nobody who is known to be gone can open what is said under this key.
    fn excludes(&self, index: usize, call: CallId, epoch: EpochId) -> Result<(), Fault> {
        let Some(view) = self.nodes[index].views.get(&call) else { return Ok(()) };
        for (subject, gone) in &view.gone {
            let knows = |n: usize| self.nodes[n].ever.contains(&(call, epoch));
            if self.index(subject).is_some_and(knows) && self.is_out(call, subject, view) {
                let what = format!("speaks in {call} under {epoch:?}, which {subject} knows: {gone:?}");
                return Err(self.fault(index, what));
            }
        }
        Ok(())
    }
}
