//! Carries out what the machine says: each effect becomes a job, or ends at once.

use super::Core;
use crate::{
    driver::{clock, fault, recall, shelf::Saved, vault::VaultError, workers::Job},
    event::Event,
    ports::media::MediaCommand,
    proto::{Effect, EffectId, EffectKind, Outcome, signal::Lane},
    wire::Topic,
};

/// Places among the jobs for the node that are kept for subscriptions: two for each of 64 calls, and the inboxes.
const SPARE_JOBS: usize = 160;

impl Core {
    pub(super) fn carry_out(&mut self, Effect { id, kind }: Effect) {
        match kind {
            EffectKind::Emit(event) => {
                tracing::debug!(event = name(&event), "event");
                self.told.push(event);
            }
            EffectKind::Subscribe(topic) => match self.vault.topic(topic) {
                Ok(topic) => self.node_job(id, Job::Subscribe(topic)),
                Err(error) => self.failed(id, &error),
            },
            EffectKind::Unsubscribe(topic) => match self.vault.forget_topic(topic) {
                Some(topic) => self.node_job(id, Job::Unsubscribe(topic)),
                None => self.ended.push_back((id, Outcome::Ok)),
            },
            EffectKind::Reach { peer } => {
                let ended = self.reaches.want_peer(clock::now(), peer, id);
                self.ended.extend(ended);
            }
            EffectKind::SendHello { to, lane, suite, session, hello } => {
                let sealed = self.vault.hello(to, lane, suite, session, &hello);
                self.publish_sealed(
                    id,
                    sealed,
                    ("hello", hello.call, session.0, u32::from(lane == Lane::Contacts)),
                );
            }
            EffectKind::SendWelcome { call, to, session, welcome } => {
                let fresh = self.vault.unanswered().filter(|(from, _)| *from == to);
                let sealed = self.vault.welcome(call, to, session, &welcome);
                if let Some((from, node)) = fresh.filter(|_| sealed.is_ok()) {
                    self.reaches.lives_at(from, node);
                }
                self.publish_sealed(id, sealed, ("welcome", call, session.0, 0));
            }
            EffectKind::Send { to, session, packet } => {
                let sealed = self.vault.seal_packet(to, session, &packet);
                self.publish_sealed(id, sealed, ("packet", packet.call, session.0, packet.seq));
            }
            EffectKind::SendCall { call, epoch, body } => {
                let sealed = self.vault.seal_call(call, epoch, &body);
                self.publish_sealed(id, sealed, ("call", call, epoch, 0));
            }
            EffectKind::DropSession { call, session, .. } => {
                self.vault.drop_session(call, session);
                self.ended.push_back((id, Outcome::Ok));
            }
            EffectKind::Keep { peer, gift } => {
                let outcome = if self.vault.keep(peer, gift) {
                    Outcome::Ok
                } else {
                    Outcome::Failed("there is no room for what the peer gave".to_owned())
                };
                self.ended.push_back((id, outcome));
            }
            EffectKind::NewToken => match self.vault.keys_mut().new_token() {
                Ok(()) => self.ended.push_back((id, Outcome::Ok)),
                Err(error) => self.failed(id, &error.into()),
            },
            EffectKind::Remember { .. } => {
                let saved = recall::save(&mut self.recalled, self.machine.memory());
                self.when_saved(id, saved);
            }
            EffectKind::NewCallKey { call, epoch } => match self.vault.new_call_key(call, epoch) {
                Ok(()) => self.ended.push_back((id, Outcome::Ok)),
                Err(error) => self.failed(id, &error),
            },
            EffectKind::Link { link, command } => self.media_job(id, MediaCommand::Link { link, command }),
            EffectKind::OpenAudio { call, media } => {
                self.media_job(id, MediaCommand::OpenAudio { call, format: media });
            }
            EffectKind::CloseAudio { call } => self.media_job(id, MediaCommand::CloseAudio { call }),
            EffectKind::SetMuted(muted) => self.media_job(id, MediaCommand::SetMuted(muted)),
            EffectKind::SetDeafened(deafened) => self.media_job(id, MediaCommand::SetDeafened(deafened)),
            EffectKind::Forget { call } => {
                if let Some(peer) = self.vault.forget(call) {
                    self.reaches.release(clock::now(), peer);
                }
                self.ended.push_back((id, Outcome::Ok));
            }
        }
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
        match sealed {
            Ok(_) if self.losses.loses(name) => self.ended.push_back((id, Outcome::Ok)),
            Ok((topic, frame)) => self.node_job(id, Job::Publish(topic, frame.into())),
            Err(error) => self.failed(id, &error),
        }
    }

    fn node_job(&mut self, id: EffectId, job: Job) {
        // What is published comes again by itself; a topic that is not heard stays unheard, so it has places of its own.
        let full = matches!(job, Job::Publish(..)) && self.node_jobs.capacity() < SPARE_JOBS;
        if full || self.node_jobs.try_send((id, job)).is_err() {
            self.ended.push_back((id, Outcome::Failed("the node takes no more work".to_owned())));
        }
    }

    fn media_job(&mut self, id: EffectId, command: MediaCommand) {
        if self.media_jobs.try_send((Some(id), command, None)).is_err() {
            self.ended.push_back((id, Outcome::Failed("links and devices take no more work".to_owned())));
        }
    }

    fn failed(&mut self, id: EffectId, error: &VaultError) {
        tracing::warn!(%error, "a signal could not be sealed");
        self.ended.push_back((id, Outcome::Failed(error.to_string())));
    }
}

/// The name of an event, for the log.
fn name(event: &Event) -> &'static str {
    match event {
        Event::Node { .. } => "node",
        Event::Reached { .. } => "reached",
        Event::Offering { .. } => "offering",
        Event::Incoming { .. } => "incoming",
        Event::Ringing { .. } => "ringing",
        Event::Accepted { .. } => "accepted",
        Event::Merged { .. } => "merged",
        Event::Link { state, .. } => state.name(),
        Event::Participant { .. } => "participant",
        Event::MediaStarted { .. } => "media_started",
        Event::FirstAudio { .. } => "first_audio",
        Event::Warning { .. } => "warning",
        Event::Missed { .. } => "missed",
        Event::Lagged { .. } => "lagged",
        Event::Ended { .. } => "ended",
    }
}
