//! The machine of a reach.

use std::collections::BTreeSet;

use super::{
    Addresses, Cause, DialId, Effect, Jitter, MAX_ADDRESS, MAX_REACH_ADDRESSES, MAX_TRIED, ReachConfig,
    ReachError, ReachInput, ReachState, Tried, Via,
    plan::{Numbers, Plan},
};
use crate::{id::NodeId, time::Instant};

/// The machine: see the [module](super).
#[derive(Clone, Debug)]
pub struct Reach {
    node: NodeId,
    config: ReachConfig,
    state: ReachState,
    /// Somebody wants the connection.
    wanted: bool,
    addresses: Vec<String>,
    /// Failed attempts since the last good connection.
    failed: u32,
    /// What failed in them.
    tried: Vec<Tried>,
    numbers: Numbers,
    /// The attempt of the present `Connecting`.
    plan: Option<Plan>,
    /// Dialings that still run beside a connection: all, if the other side opened that, which may be ending its own for ours;
    /// the direct ones, if it leads through a relay.
    beside: BTreeSet<DialId>,
    /// When the connection that nobody uses is given up.
    idle_at: Option<Instant>,
    ignored: u64,
}

/// A command that the present state does not allow. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReachRejected {
    /// No address is known.
    #[error("no address is known for this node: give one such as /ip4/192.0.2.1/tcp/4001/p2p/<peer id>")]
    NoAddresses,
    /// More than [`MAX_REACH_ADDRESSES`], or one of more than [`MAX_ADDRESS`] bytes.
    #[error("at most {MAX_REACH_ADDRESSES} addresses of at most {MAX_ADDRESS} bytes are kept")]
    TooManyAddresses,
    /// There is neither a connection that somebody uses nor an attempt at one.
    #[error("there is no connection that is used, and no attempt at one")]
    NotConnected,
    /// There is no attempt and no failure to forget.
    #[error("there is no attempt and no failure to reset")]
    NothingToReset,
}

impl Reach {
    /// A reach without a connection.
    pub fn new(node: NodeId, config: ReachConfig) -> Self {
        Self {
            node,
            config,
            state: ReachState::Disconnected,
            wanted: false,
            addresses: Vec::new(),
            failed: 0,
            tried: Vec::new(),
            numbers: Numbers::default(),
            plan: None,
            beside: BTreeSet::new(),
            idle_at: None,
            ignored: 0,
        }
    }

    /// The same with other settings, from the first attempt on. What was begun before does not count.
    pub fn renew(&mut self, config: ReachConfig) {
        (self.config, self.failed) = (config, 0);
    }

    /// The node.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Where it stands.
    pub fn state(&self) -> &ReachState {
        &self.state
    }

    /// Whether there is a connection.
    pub fn is_connected(&self) -> bool {
        matches!(self.state, ReachState::Connected { .. })
    }

    /// Whether somebody wants the connection.
    pub fn is_wanted(&self) -> bool {
        self.wanted
    }

    /// The addresses that are known.
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// Results and events that came too late to mean anything.
    pub fn ignored(&self) -> u64 {
        self.ignored
    }

    /// When [`ReachInput::Timeout`] is due.
    pub fn next_timeout(&self) -> Option<Instant> {
        match &self.state {
            ReachState::Connecting { since, .. } => {
                let end = *since + self.config.attempt_timeout;
                Some(self.plan.as_ref().and_then(Plan::next_timeout).map_or(end, |next| next.min(end)))
            }
            ReachState::Retry { at, .. } => Some(*at),
            ReachState::Connected { .. } => self.idle_at,
            ReachState::Disconnected | ReachState::ConnectionFailed { .. } => None,
        }
    }

    /// One step.
    ///
    /// # Errors
    /// [`ReachRejected`] for a command that the state does not allow; nothing has changed then. What comes from the
    /// network is never refused: what means nothing is counted in [`ignored`](Self::ignored).
    pub fn handle(&mut self, now: Instant, input: ReachInput) -> Result<Vec<Effect>, ReachRejected> {
        let effects = match input {
            ReachInput::Connect { addresses } => self.connect(now, addresses)?,
            ReachInput::Release => self.release(now)?,
            ReachInput::Disconnect => self.disconnect()?,
            ReachInput::Reset => self.reset()?,
            ReachInput::Dialed { dial, result, jitter } => self.dialed(now, dial, result, jitter),
            ReachInput::Resolved { query, result, jitter } => match &mut self.plan {
                Some(plan) if plan.asks(query) => {
                    let effects = plan.answered(now, &mut self.numbers, query, result);
                    self.went_on(now, effects, jitter)
                }
                _ => self.ignore(),
            },
            ReachInput::PeerConnected { via } => {
                if let Some(plan) = self.plan.take() {
                    self.beside = plan.running().map(|(dial, _)| dial).collect();
                }
                self.connected(now, via);
                Vec::new()
            }
            ReachInput::PeerDisconnected { jitter } => self.lost(now, jitter),
            ReachInput::Timeout { jitter } => self.timeout(now, jitter),
        };
        if let (Some(plan), ReachState::Connecting { addresses, .. }) = (&self.plan, &mut self.state) {
            *addresses = Addresses(plan.running().map(|(_, address)| address.to_string()).collect());
        }
        Ok(effects)
    }

    /// Other addresses for the next attempt; none keeps those that are known.
    pub(super) fn learn(&mut self, Addresses(addresses): Addresses) -> Result<(), ReachRejected> {
        if addresses.len() > MAX_REACH_ADDRESSES || addresses.iter().any(|a| a.len() > MAX_ADDRESS) {
            return Err(ReachRejected::TooManyAddresses);
        }
        if !addresses.is_empty() {
            self.addresses = addresses;
        }
        Ok(())
    }

    fn connect(&mut self, now: Instant, addresses: Addresses) -> Result<Vec<Effect>, ReachRejected> {
        if addresses.0.is_empty() && self.addresses.is_empty() && !self.is_connected() {
            return Err(ReachRejected::NoAddresses);
        }
        self.learn(addresses)?;
        self.wanted = true;
        self.idle_at = None;
        Ok(match &self.state {
            ReachState::Connected { .. } => Vec::new(),
            // New addresses are taken into the attempt that runs.
            ReachState::Connecting { .. } => match &mut self.plan {
                Some(plan) => plan.add(now, &mut self.numbers, &self.addresses),
                None => Vec::new(),
            },
            ReachState::Retry { .. } => self.dial(now),
            ReachState::Disconnected | ReachState::ConnectionFailed { .. } => {
                self.failed = 0;
                self.tried.clear();
                self.dial(now)
            }
        })
    }

    fn release(&mut self, now: Instant) -> Result<Vec<Effect>, ReachRejected> {
        match &self.state {
            ReachState::Connected { .. } if self.wanted => {
                self.wanted = false;
                self.idle_at = Some(now + self.config.idle);
                Ok(Vec::new())
            }
            ReachState::Connecting { .. } | ReachState::Retry { .. } => Ok(self.give_up()),
            ReachState::Connected { .. } | ReachState::Disconnected | ReachState::ConnectionFailed { .. } => {
                Err(ReachRejected::NotConnected)
            }
        }
    }

    fn disconnect(&mut self) -> Result<Vec<Effect>, ReachRejected> {
        match &self.state {
            ReachState::Connected { .. } | ReachState::Connecting { .. } | ReachState::Retry { .. } => {
                Ok(self.give_up())
            }
            ReachState::Disconnected | ReachState::ConnectionFailed { .. } => {
                Err(ReachRejected::NotConnected)
            }
        }
    }

    fn reset(&mut self) -> Result<Vec<Effect>, ReachRejected> {
        match &self.state {
            ReachState::Connecting { .. }
            | ReachState::Retry { .. }
            | ReachState::ConnectionFailed { .. } => Ok(self.give_up()),
            ReachState::Connected { .. } | ReachState::Disconnected => Err(ReachRejected::NothingToReset),
        }
    }

    fn dialed(
        &mut self,
        now: Instant,
        dial: DialId,
        result: Result<Via, String>,
        jitter: Jitter,
    ) -> Vec<Effect> {
        if self.beside.remove(&dial) {
            let Ok(found) = result else { return Vec::new() };
            if let ReachState::Connected { via, .. } = &mut self.state {
                *via = found.min(*via);
            }
            // The first of ours that is there as well makes the others needless.
            return self.abort_beside();
        }
        let Some(plan) = &mut self.plan else { return self.ignore() };
        match result {
            Ok(via) => {
                let Some(relayed) = plan.is_relayed(dial) else { return self.ignore() };
                let others: Vec<_> = plan.running().filter(|(other, _)| *other != dial).collect();
                // A relay may be quicker than the straight way, but not better: that goes on.
                let kept = others.iter().filter(|(_, other)| relayed && !other.is_relayed());
                let kept: BTreeSet<DialId> = kept.map(|(other, _)| *other).collect();
                let others = others.iter().filter(|(other, _)| !kept.contains(other));
                let effects = others.map(|(other, _)| Effect::Abort { dial: *other }).collect();
                self.beside = kept;
                self.plan = None;
                self.connected(now, via);
                effects
            }
            Err(cause) => match plan.failed(now, &mut self.numbers, dial, cause) {
                Some(effects) => self.went_on(now, effects, jitter),
                None => self.ignore(),
            },
        }
    }

    fn ignore(&mut self) -> Vec<Effect> {
        self.ignored += 1;
        Vec::new()
    }

    fn connected(&mut self, now: Instant, via: Via) {
        if let ReachState::Connected { via: old, .. } = &mut self.state {
            *old = via;
            return;
        }
        self.state = ReachState::Connected { since: now, via };
        if !self.wanted {
            self.idle_at = Some(now + self.config.idle);
        }
    }

    fn lost(&mut self, now: Instant, jitter: Jitter) -> Vec<Effect> {
        let ReachState::Connected { since, .. } = self.state else { return self.ignore() };
        self.idle_at = None;
        let mut effects = self.abort_beside();
        if !self.wanted || self.addresses.is_empty() {
            // The connection is gone already: there is none to close.
            self.state = ReachState::Disconnected;
            self.give_up();
        } else if now - since >= self.config.stable_after {
            self.failed = 0;
            self.tried.clear();
            effects.extend(self.dial(now));
        } else {
            // Dialing at once what closes at once would never end.
            self.fail(now, ReachError::Unstable, false, jitter);
        }
        effects
    }

    fn timeout(&mut self, now: Instant, jitter: Jitter) -> Vec<Effect> {
        if self.next_timeout().is_none_or(|due| now < due) {
            return self.ignore();
        }
        match (&self.state, &mut self.plan) {
            (ReachState::Connecting { since, .. }, Some(plan)) => {
                let effects = if now >= *since + self.config.attempt_timeout {
                    plan.time_out(now)
                } else {
                    plan.on_time(now, &mut self.numbers)
                };
                self.went_on(now, effects, jitter)
            }
            (ReachState::Retry { .. }, _) => self.dial(now),
            _ => self.give_up(),
        }
    }

    fn dial(&mut self, now: Instant) -> Vec<Effect> {
        let attempt = self.failed + 1;
        let (plan, effects) =
            Plan::begin(now, self.node, attempt, &self.config, &mut self.numbers, &self.addresses);
        self.plan = Some(plan);
        self.state = ReachState::Connecting {
            since: now,
            addresses: Addresses::default(),
            attempt,
            max_attempts: self.config.max_attempts,
        };
        // Nothing that could be dialed: that is no attempt whose repetition helps.
        self.went_on(now, effects, Jitter(0))
    }

    /// The attempt has gone on, perhaps to its end.
    fn went_on(&mut self, now: Instant, effects: Vec<Effect>, jitter: Jitter) -> Vec<Effect> {
        if let Some(plan) = self.plan.take_if(|plan| plan.is_over()) {
            let tried = plan.into_tried();
            let hopeless = tried.iter().all(|tried| tried.cause.is_final());
            self.tried.extend(tried.iter().cloned());
            let old = self.tried.len().saturating_sub(MAX_TRIED);
            self.tried.drain(..old);
            self.fail(now, ReachError::Addresses(tried), hopeless, jitter);
        }
        effects
    }

    fn fail(&mut self, now: Instant, error: ReachError, hopeless: bool, jitter: Jitter) {
        self.plan = None;
        self.failed += 1;
        let max_attempts = self.config.max_attempts;
        self.state = if hopeless || self.failed >= max_attempts {
            let error = match error {
                ReachError::Addresses(_) => ReachError::Addresses(std::mem::take(&mut self.tried)),
                ReachError::Unstable => error,
            };
            ReachState::ConnectionFailed { since: now, attempts: self.failed, error }
        } else {
            let at = now + self.config.backoff(self.failed, jitter);
            ReachState::Retry { since: now, at, attempt: self.failed, max_attempts, error }
        };
    }

    fn abort_beside(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.beside).into_iter().map(|dial| Effect::Abort { dial }).collect()
    }

    fn give_up(&mut self) -> Vec<Effect> {
        let mut effects = self.abort_beside();
        if let Some(plan) = self.plan.take() {
            effects.extend(plan.running().map(|(dial, _)| Effect::Abort { dial }));
        }
        // What is dialed may be open before it hears that it is not wanted, so that is closed as well.
        if matches!(self.state, ReachState::Connected { .. } | ReachState::Connecting { .. }) {
            effects.push(Effect::Close);
        }
        self.state = ReachState::Disconnected;
        self.wanted = false;
        self.failed = 0;
        self.tried.clear();
        self.idle_at = None;
        effects
    }

    /// What always holds. For tests.
    ///
    /// # Errors
    /// What does not hold.
    #[doc(hidden)]
    pub fn check(&self) -> Result<(), &'static str> {
        let connecting = matches!(self.state, ReachState::Connecting { .. });
        if connecting != self.plan.is_some() {
            return Err("there is a plan exactly while connecting");
        }
        if let Some(plan) = &self.plan {
            plan.check()?;
            if plan.is_over() {
                return Err("an attempt that is over has failed");
            }
        }
        if let ReachState::Connecting { attempt, max_attempts, .. } = &self.state
            && (*attempt == 0 || attempt > max_attempts)
        {
            return Err("an attempt has a number up to the most");
        }
        if self.idle_at.is_some() && (!self.is_connected() || self.wanted) {
            return Err("only a connection that nobody wants is idle");
        }
        if !self.beside.is_empty() && !self.is_connected() {
            return Err("only beside a connection something is left to itself");
        }
        if self.addresses.len() > MAX_REACH_ADDRESSES || self.tried.len() > MAX_TRIED {
            return Err("addresses and failures are bounded");
        }
        if let ReachState::ConnectionFailed { error: ReachError::Addresses(tried), .. } = &self.state
            && (tried.is_empty()
                || tried.iter().any(|tried| matches!(tried.cause, Cause::Invalid(ref why) if why.is_empty())))
        {
            return Err("a failure says why");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
