//! Descriptions and candidates, ours and the peer's.

use std::sync::Arc;
use std::time::Instant;

use super::drive::Live;
use super::negotiation::OnOffer;
use super::{End, Link, Role, failed, now};
use crate::config::Config;
use crate::description::Description;
use crate::event::{EventKind, LinkState};
use crate::peers::Remote;
use crate::steps::Observation;

impl<K: Clone + Ord + Send + Sync + 'static> Link<K> {
    /// The first description.
    pub(super) async fn begin(&mut self, live: &mut Live) -> Result<Vec<LinkState>, End> {
        let offer = match &self.role {
            Role::Dial => None,
            Role::Accept(offer) => Some(offer.clone()),
        };
        match offer {
            Some(offer) => self.answer(live, &offer).await,
            None => {
                self.arrange_videos(live).await?;
                self.offer(live, false).await.map(|()| Vec::new())
            }
        }
    }

    /// The first offer of a connection that has made it already.
    pub(super) async fn begin_prepared(
        &mut self,
        live: &mut Live,
        offer: Description,
        gathering_until: Instant,
    ) -> Result<(), End> {
        self.arrange_videos(live).await?;
        if live.videos.are_any() {
            // It knows nothing of them. For ICE the next one is the same.
            self.offer(live, false).await?;
        } else {
            self.offered(live, offer, false).await?;
        }
        live.gathering_until = Some(gathering_until);
        Ok(())
    }

    /// Looks for a path on fresh sockets, if there was a path before.
    pub(super) async fn restart(&mut self, live: &mut Live) -> Result<Vec<LinkState>, End> {
        if !live.steps.can_restart() {
            tracing::debug!(state = %live.steps.state(), "nothing to restart yet");
            return Ok(Vec::new());
        }
        self.use_later_servers(live).await?;
        live.negotiation.want_restart();
        self.offer_what_is_due(live).await
    }

    /// Servers that were kept for the next beginning, which is now.
    async fn use_later_servers(&mut self, live: &mut Live) -> Result<(), End> {
        let config = self.servers.borrow().clone();
        if !Arc::ptr_eq(&config, &live.config) {
            self.use_servers(live, config).await?;
        }
        Ok(())
    }

    /// Tells the engine of other servers. Whether it takes them.
    pub(super) async fn use_servers(&mut self, live: &mut Live, config: Arc<Config>) -> Result<bool, End> {
        let connection = live.connection.clone();
        let taken = self.ask(live.steps.step(), connection.set_servers(&config)).await?;
        live.config = config;
        Ok(taken.inspect_err(|error| tracing::warn!(?error, "the engine keeps the servers it has")).is_ok())
    }

    pub(super) async fn on_remote(&mut self, live: &mut Live, remote: Remote) -> Result<Vec<LinkState>, End> {
        match remote {
            Remote::Answer(answer) if !live.negotiation.expects(&answer) => {
                tracing::trace!("repeated or old answer ignored");
            }
            Remote::Answer(answer) => return self.accept_answer(live, &answer).await,
            Remote::Offer(offer) => match live.negotiation.on_offer(&offer) {
                OnOffer::Ignore => tracing::trace!("old or crossing offer ignored"),
                OnOffer::Repeat(answer) => self.emit(EventKind::LocalDescription(answer)).await?,
                OnOffer::Answer { roll_back } => {
                    if roll_back {
                        let connection = live.connection.clone();
                        let done = self.ask(live.steps.step(), connection.roll_back()).await?;
                        done.map_err(|error| failed(live.steps.step(), error.into()))?;
                        live.negotiation.rolled_back();
                        live.videos.rolled_back();
                    }
                    if live.negotiation.restarts(&offer) {
                        self.use_later_servers(live).await?;
                    }
                    let mut states = self.answer(live, &offer).await?;
                    states.extend(self.offer_what_is_due(live).await?);
                    return Ok(states);
                }
            },
            Remote::Candidate(candidate) => {
                if let Some(candidate) = live.remote_candidates.admit(candidate) {
                    let connection = live.connection.clone();
                    self.ask(live.steps.step(), connection.add_candidate(&candidate)).await?;
                }
            }
            Remote::EndOfCandidates => tracing::trace!("the peer has no further candidates"),
        }
        Ok(Vec::new())
    }

    async fn accept_answer(&mut self, live: &mut Live, answer: &Description) -> Result<Vec<LinkState>, End> {
        let connection = live.connection.clone();
        let accepted = self.ask(live.steps.step(), connection.accept_answer(answer)).await?;
        if let Err(error) = accepted {
            return Ok(live.steps.fail(now(), error.into()));
        }
        live.negotiation.accepted(answer);
        live.videos.accepted();
        self.hear_tracks(live);
        self.on_described(live, answer).await?;
        self.use_parked(live, answer).await?;
        let mut states = live.steps.observe(now(), Observation::Negotiated);
        states.extend(self.offer_what_is_due(live).await?);
        Ok(states)
    }

    async fn answer(&mut self, live: &mut Live, offer: &Description) -> Result<Vec<LinkState>, End> {
        let restarts = live.negotiation.restarts(offer);
        let first = !live.negotiation.is_established();
        let connection = live.connection.clone();
        let answer = self.ask(live.steps.step(), connection.answer(offer)).await?;
        let answer = answer.map_err(|error| failed(live.steps.step(), error.into()))?;
        live.negotiation.answered(offer, &answer);
        if first || restarts {
            self.expect_candidates(live, &answer);
        }
        self.emit(EventKind::LocalDescription(answer)).await?;
        self.on_described(live, offer).await?;
        self.use_parked(live, offer).await?;
        if restarts {
            live.unanswered = None;
        }
        let observation = if restarts { Observation::Restarted } else { Observation::Negotiated };
        Ok(live.steps.observe(now(), observation))
    }

    async fn offer(&mut self, live: &mut Live, restart: bool) -> Result<(), End> {
        self.direct_videos(live).await?;
        let connection = live.connection.clone();
        let offer = self.ask(live.steps.step(), connection.offer(restart)).await?;
        let offer = offer.map_err(|error| failed(live.steps.step(), error.into()))?;
        self.offered(live, offer, restart).await
    }

    async fn offered(&mut self, live: &mut Live, offer: Description, restart: bool) -> Result<(), End> {
        live.negotiation.offered(&offer, restart);
        live.videos.offered();
        self.probe.set_offered();
        if restart || !live.negotiation.is_established() {
            self.expect_candidates(live, &offer);
        }
        self.emit(EventKind::LocalDescription(offer)).await
    }

    pub(super) async fn offer_what_is_due(&mut self, live: &mut Live) -> Result<Vec<LinkState>, End> {
        if !live.steps.can_restart() {
            return Ok(Vec::new());
        }
        self.arrange_videos(live).await?;
        match live.negotiation.due() {
            Some(restart) => {
                self.offer(live, restart).await?;
                if restart {
                    live.unanswered = None;
                }
                Ok(if restart { live.steps.observe(now(), Observation::Restarted) } else { Vec::new() })
            }
            None => Ok(Vec::new()),
        }
    }

    /// The engine gathers anew for this description.
    fn expect_candidates(&mut self, live: &mut Live, description: &Description) {
        live.session = description.ufrag().map(str::to_owned);
        live.local_candidates = 0;
        live.server_problem = None;
        live.gathering_timed_out = false;
        live.gathering_until = Some(now() + self.config.timeouts.gathering);
    }

    async fn use_parked(&mut self, live: &mut Live, description: &Description) -> Result<(), End> {
        for candidate in live.remote_candidates.open(description.ufrag()) {
            let connection = live.connection.clone();
            self.ask(live.steps.step(), connection.add_candidate(&candidate)).await?;
        }
        Ok(())
    }
}
