//! Carries out what the machine says: each effect becomes a job, or ends at once.

use std::collections::BTreeSet;

use super::Core;
use crate::{
    driver::{clock, fault, missed, recall, shelf::Saved, vault::VaultError, workers::Job},
    event::Event,
    id::{CallId, PublicKey},
    ports::media::MediaCommand,
    proto::{
        Effect, EffectId, EffectKind, Gift, Outcome, SessionNo,
        signal::{Body, Lane, Packet, Welcome},
    },
    wire::{Attachment, Topic},
};

/// Places that are kept among the jobs for the node for subscriptions (two for each of 64 calls, and the inboxes), and among those
/// for the media for all that is no signal.
const SPARE_JOBS: usize = 160;

impl Core {
    pub(super) fn carry_out(&mut self, Effect { id, kind }: Effect) {
        match kind {
            EffectKind::Emit(event) => {
                tracing::debug!(event = name(&event), "event");
                self.ledger.note_event(&event);
                self.told.push(event);
            }
            EffectKind::Subscribe(topic) => match self.vault.topic(topic) {
                Ok(topic) => self.node_job(id, Job::Subscribe(topic)),
                Err(error) => self.ends(id, Err(error)),
            },
            EffectKind::Unsubscribe(topic) => match self.vault.forget_topic(topic) {
                Some(topic) => self.node_job(id, Job::Unsubscribe(topic)),
                None => self.done(id),
            },
            EffectKind::Reach { peer } => {
                let ended = self.reaches.want_peer(clock::now(), peer, id);
                self.ended.extend(ended);
            }
            EffectKind::SendHello { to, lane, suite, session, hello } => {
                let sealed = self.vault.hello(to, lane, suite, session, &hello);
                let lane = u32::from(lane == Lane::Contacts);
                self.publish_sealed(id, sealed, ("hello", hello.call, Some(to), session.0, lane));
            }
            EffectKind::SendWelcome { call, to, session, welcome } => {
                self.welcome(id, (call, to, session), &welcome);
            }
            EffectKind::SendOnLink { link, session, packet } => {
                let sealed = self.seal(link.peer, session, &packet);
                let name = ("packet", packet.call, Some(link.peer), session.0, packet.seq);
                if let Some((_, frame)) = self.leaves(id, sealed, name) {
                    self.media_job(id, MediaCommand::Signal { link, frame: frame.into() });
                }
            }
            // Nothing is left to be given: to who asked it looks as if nobody were there.
            EffectKind::Send { to, packet, .. }
                if packet.body == Body::Turn && !self.gives_turn(packet.call, to) =>
            {
                self.done(id);
            }
            EffectKind::Send { to, session, packet } => {
                let sealed = self.seal(to, session, &packet);
                self.publish_sealed(id, sealed, ("packet", packet.call, Some(to), session.0, packet.seq));
            }
            EffectKind::SendCall { call, epoch, body } => {
                let sealed = self.vault.seal_call(call, epoch, &body);
                self.publish_sealed(id, sealed, ("call", call, None, epoch.n, 0));
            }
            EffectKind::DropSession { call, peer, session } => {
                self.vault.drop_session(call, &peer, session);
                self.done(id);
            }
            EffectKind::DropPeer { call, peer } => {
                if self.vault.drop_peer(call, &peer) {
                    self.reaches.release(clock::now(), peer);
                }
                self.done(id);
            }
            EffectKind::Keep { peer, gift } => self.keep(id, peer, gift),
            EffectKind::Learn { peer } => {
                if let Some(place) = self.vault.whereabouts(&peer) {
                    let ended = self.reaches.hint(clock::now(), peer, &place);
                    self.ended.extend(ended);
                }
                self.done(id);
            }
            EffectKind::KeepTurn { peer, .. } => {
                self.keep_turn(peer);
                self.done(id);
            }
            EffectKind::NewToken => {
                let made = self.vault.keys_mut().new_token().map(|()| Outcome::Ok);
                self.ends(id, made.map_err(VaultError::from));
            }
            EffectKind::Remember { .. } => {
                let saved = recall::save(&mut self.recalled, self.machine.memory());
                self.when_saved(id, saved);
            }
            EffectKind::NewCallKey { call, n } => {
                let made = self.vault.new_call_key(call, n).map(Outcome::Key);
                self.ends(id, made);
            }
            EffectKind::KeepCallKey { call, epoch } => {
                let kept = self.vault.keep_call_key(call, epoch).map(|()| Outcome::Ok);
                self.ends(id, kept);
            }
            EffectKind::DropCallKey { call, epoch } => {
                self.vault.drop_call_key(call, epoch);
                self.done(id);
            }
            EffectKind::Sign { call, record } => {
                let signed = self.vault.sign(call, &record).map(|()| Outcome::Ok);
                self.ends(id, signed);
            }
            EffectKind::KeepRoll { call, roll } => {
                let kept = self.vault.keep_roll(call, &roll).map(Outcome::Roll);
                self.ends(id, kept);
            }
            EffectKind::SaveCall { call, roll, media } => match self.vault.signatures(call, &roll) {
                Ok(signatures) => {
                    let saved = self.kept.keep(call, clock::unix(), (&roll, &signatures), media);
                    self.when_saved(id, saved);
                }
                Err(error) => self.ends(id, Err(error)),
            },
            EffectKind::UnsaveCall { call } => {
                self.vault.unsave(call);
                let saved = self.kept.drop(call);
                self.when_saved(id, saved);
            }
            EffectKind::SaveNotices => {
                let saved = missed::save(&mut self.missed, self.machine.notices());
                self.when_saved(id, saved);
                self.await_people();
            }
            EffectKind::Link { link, command } => self.link(id, link, command),
            EffectKind::Prepare { connections } => {
                let connections = usize::try_from(connections).unwrap_or_default();
                self.media_job(id, MediaCommand::Prepare { connections });
            }
            EffectKind::OpenAudio { call, media } => {
                self.media_job(id, MediaCommand::OpenAudio { call, format: media });
            }
            EffectKind::CloseAudio { call } => self.media_job(id, MediaCommand::CloseAudio { call }),
            EffectKind::SetMuted(muted) => self.media_job(id, MediaCommand::SetMuted(muted)),
            EffectKind::SetDeafened(deafened) => self.media_job(id, MediaCommand::SetDeafened(deafened)),
            EffectKind::Forget { call } => {
                self.forget_turn(&call);
                for peer in self.vault.forget(call) {
                    self.reaches.release(clock::now(), peer);
                }
                self.done(id);
            }
        }
    }

    fn seal(
        &mut self,
        to: PublicKey,
        session: SessionNo,
        packet: &Packet,
    ) -> Result<(Topic, Vec<u8>), VaultError> {
        let added = match packet.body {
            Body::Where(whom) => Some(Attachment::Where(self.reaches.whereabouts(whom))),
            Body::Turn => self.turn_pass(packet.call, to).map(Attachment::Turn),
            _ => None,
        };
        self.vault.seal_packet(to, session, packet, added)
    }

    fn welcome(
        &mut self,
        id: EffectId,
        (call, to, session): (CallId, PublicKey, SessionNo),
        welcome: &Welcome,
    ) {
        let fresh = self.vault.unanswered().filter(|sender| sender.key == to);
        let sealed = self.vault.welcome(call, to, session, welcome);
        if let Some(sender) = fresh.filter(|_| sealed.is_ok()) {
            self.reaches.lives_at(sender.key, sender.node);
            self.reaches.keep_here(clock::now(), sender.key);
            if sender.pushed {
                // Its offer came some other way than over gossip, where the answer goes.
                let ended = self.reaches.want(clock::now(), sender.node);
                self.ended.extend(ended);
            }
        }
        self.publish_sealed(id, sealed, ("welcome", call, Some(to), session.0, 0));
    }

    fn keep(&mut self, id: EffectId, peer: PublicKey, gift: Gift) {
        if !self.vault.keep(peer, gift) {
            let full = "there is no room for what the peer gave".to_owned();
            return self.ended.push_back((id, Outcome::Failed(full)));
        }
        self.done(id);
        if gift == Gift::Token && self.vault.is_awaited(&peer) {
            // It listens on another inbox now.
            let topics = self.vault.awaited_topics();
            self.watch(topics);
        }
    }

    /// Those who are to be told of a call that they missed are looked out for, and nobody else.
    pub(super) fn await_people(&mut self) {
        let people = self.machine.notices().map(|notice| notice.to).collect();
        let topics = self.vault.await_people(people);
        self.watch(topics);
    }

    fn watch(&mut self, topics: BTreeSet<Topic>) {
        if self.node_jobs.try_send((None, Job::Watch(topics))).is_err() {
            tracing::warn!("the node takes no more work: who missed a call may be told of it late");
        }
    }

    fn done(&mut self, id: EffectId) {
        self.ended.push_back((id, Outcome::Ok));
    }

    fn ends(&mut self, id: EffectId, outcome: Result<Outcome, VaultError>) {
        let outcome = outcome.unwrap_or_else(|error| {
            tracing::warn!(%error, "a signal could not be sealed, signed or kept");
            Outcome::Failed(error.to_string())
        });
        self.ended.push_back((id, outcome));
    }

    /// Ends the effect when its save has ended.
    fn when_saved(&self, id: EffectId, saved: Saved) {
        let results = self.results.clone();
        tokio::spawn(async move {
            let outcome = saved.done().await.map_or_else(Outcome::Failed, |()| Outcome::Ok);
            // A task that has ended needs no result.
            let _ = results.send((id, outcome)).await;
        });
    }

    fn publish_sealed(
        &mut self,
        id: EffectId,
        sealed: Result<(Topic, Vec<u8>), VaultError>,
        name: fault::Name,
    ) {
        if let Some((topic, frame)) = self.leaves(id, sealed, name) {
            self.node_job(id, Job::Publish(topic, frame.into()));
        }
    }

    /// What was sealed, if it leaves; otherwise the effect has ended.
    fn leaves(
        &mut self,
        id: EffectId,
        sealed: Result<(Topic, Vec<u8>), VaultError>,
        name: fault::Name,
    ) -> Option<(Topic, Vec<u8>)> {
        match sealed {
            Ok(_) if self.losses.loses(name) => self.done(id),
            Ok((topic, frame)) => {
                #[cfg(test)]
                self.tap.published(&frame);
                return Some((topic, frame));
            }
            Err(error) => self.ends(id, Err(error)),
        }
        None
    }

    fn node_job(&mut self, id: EffectId, job: Job) {
        // What is published comes again by itself; a topic that is not heard stays unheard, so it has places of its own.
        let full = matches!(job, Job::Publish(..)) && self.node_jobs.capacity() < SPARE_JOBS;
        if full || self.node_jobs.try_send((Some(id), job)).is_err() {
            self.ended.push_back((id, Outcome::Failed("the node takes no more work".to_owned())));
        }
    }

    pub(super) fn media_job(&mut self, id: EffectId, command: MediaCommand) {
        // What a peer can cause must not keep a microphone from being closed.
        let full = matches!(command, MediaCommand::Signal { .. }) && self.media_jobs.capacity() < SPARE_JOBS;
        if full || self.media_jobs.try_send((Some(id), command, None)).is_err() {
            self.ended.push_back((id, Outcome::Failed("links and devices take no more work".to_owned())));
        }
    }
}

/// The name of an event, for the log.
fn name(event: &Event) -> &'static str {
    match event {
        Event::Node { .. } => "node",
        Event::Findable { .. } => "findable",
        Event::Reached { .. } => "reached",
        Event::Offering { .. } => "offering",
        Event::Incoming { .. } => "incoming",
        Event::Ringing { .. } => "ringing",
        Event::Accepted { .. } => "accepted",
        Event::Merged { .. } => "merged",
        Event::Link { state, .. } => state.name(),
        Event::Channel { .. } => "channel",
        Event::Quality { .. } => "quality",
        Event::Device { .. } => "device",
        Event::Recording { .. } => "recording",
        Event::Played { .. } => "played",
        Event::Held { .. } => "held",
        Event::Left { .. } => "left",
        Event::Rejoined { .. } => "rejoined",
        Event::Participant { .. } => "participant",
        Event::MediaStarted { .. } => "media_started",
        Event::FirstAudio { .. } => "first_audio",
        Event::Warning { .. } => "warning",
        Event::Missed { .. } => "missed",
        Event::Lagged { .. } => "lagged",
        Event::Ended { .. } => "ended",
    }
}
