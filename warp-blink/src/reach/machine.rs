//! The machine of a reach.

use super::{
    Addresses, DialId, Effect, Jitter, MAX_ADDRESS, MAX_REACH_ADDRESSES, ReachConfig, ReachError, ReachInput,
    ReachState, Via,
};
use crate::time::Instant;

/// The machine: see the [module](super).
#[derive(Clone, Debug)]
pub struct Reach {
    config: ReachConfig,
    state: ReachState,
    /// Somebody wants the connection.
    wanted: bool,
    addresses: Vec<String>,
    /// Failed attempts since the last good connection.
    failed: u32,
    next_dial: u64,
    /// The dialing of the present `Connecting`.
    dialing: Option<DialId>,
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
    /// There is neither a connection nor an attempt at one.
    #[error("there is no connection and no attempt at one")]
    NotConnected,
    /// There is no failure to forget.
    #[error("there is no failure to reset")]
    NothingToReset,
}

impl Reach {
    /// A reach without a connection.
    pub fn new(config: ReachConfig) -> Self {
        Self {
            config,
            state: ReachState::Disconnected,
            wanted: false,
            addresses: Vec::new(),
            failed: 0,
            next_dial: 1,
            dialing: None,
            idle_at: None,
            ignored: 0,
        }
    }

    /// The same with other settings, from the first attempt on. What was begun before does not count.
    pub fn renew(&mut self, config: ReachConfig) {
        (self.config, self.failed) = (config, 0);
    }

    /// Where it stands.
    pub fn state(&self) -> &ReachState {
        &self.state
    }

    /// Whether there is a connection.
    pub fn is_connected(&self) -> bool {
        matches!(self.state, ReachState::Connected { .. })
    }

    /// Results and events that came too late to mean anything.
    pub fn ignored(&self) -> u64 {
        self.ignored
    }

    /// When [`ReachInput::Timeout`] is due.
    pub fn next_timeout(&self) -> Option<Instant> {
        match &self.state {
            ReachState::Connecting { since, .. } => Some(*since + self.config.attempt_timeout),
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
        match input {
            ReachInput::Connect { addresses } => self.connect(now, addresses),
            ReachInput::Release => self.release(now),
            ReachInput::Disconnect => self.disconnect(),
            ReachInput::Reset => self.reset(),
            ReachInput::Dialed { dial, result, jitter } => Ok(self.dialed(now, dial, result, jitter)),
            ReachInput::PeerConnected { via } => Ok(self.connected(now, via)),
            ReachInput::PeerDisconnected { jitter } => Ok(self.lost(now, jitter)),
            ReachInput::Timeout { jitter } => Ok(self.timeout(now, jitter)),
        }
    }

    fn connect(&mut self, now: Instant, addresses: Vec<String>) -> Result<Vec<Effect>, ReachRejected> {
        if addresses.len() > MAX_REACH_ADDRESSES || addresses.iter().any(|a| a.len() > MAX_ADDRESS) {
            return Err(ReachRejected::TooManyAddresses);
        }
        if addresses.is_empty() && self.addresses.is_empty() && !self.is_connected() {
            return Err(ReachRejected::NoAddresses);
        }
        let news = !addresses.is_empty() && addresses != self.addresses;
        if !addresses.is_empty() {
            self.addresses = addresses;
        }
        self.wanted = true;
        self.idle_at = None;
        match &self.state {
            ReachState::Connected { .. } => Ok(Vec::new()),
            // New addresses are worth an attempt at once; the old ones are being tried.
            ReachState::Connecting { .. } if !news => Ok(Vec::new()),
            ReachState::Connecting { .. } | ReachState::Retry { .. } => Ok(self.dial(now)),
            ReachState::Disconnected | ReachState::ConnectionFailed { .. } => {
                self.failed = 0;
                Ok(self.dial(now))
            }
        }
    }

    fn release(&mut self, now: Instant) -> Result<Vec<Effect>, ReachRejected> {
        match &self.state {
            ReachState::Connected { .. } => {
                self.wanted = false;
                self.idle_at = Some(now + self.config.idle);
                Ok(Vec::new())
            }
            ReachState::Connecting { .. } | ReachState::Retry { .. } => Ok(self.give_up()),
            ReachState::Disconnected | ReachState::ConnectionFailed { .. } => {
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
            ReachState::Retry { .. } | ReachState::ConnectionFailed { .. } => {
                self.give_up();
                Ok(Vec::new())
            }
            _ => Err(ReachRejected::NothingToReset),
        }
    }

    fn dialed(
        &mut self,
        now: Instant,
        dial: DialId,
        result: Result<Via, ReachError>,
        jitter: Jitter,
    ) -> Vec<Effect> {
        if self.dialing != Some(dial) {
            self.ignored += 1;
            return Vec::new();
        }
        match result {
            Ok(via) => self.connected(now, via),
            Err(error) => {
                self.fail(now, error, jitter);
                Vec::new()
            }
        }
    }

    fn connected(&mut self, now: Instant, via: Via) -> Vec<Effect> {
        self.dialing = None;
        if let ReachState::Connected { via: old, .. } = &mut self.state {
            *old = via;
            return Vec::new();
        }
        self.state = ReachState::Connected { since: now, via };
        if !self.wanted {
            self.idle_at = Some(now + self.config.idle);
        }
        Vec::new()
    }

    fn lost(&mut self, now: Instant, jitter: Jitter) -> Vec<Effect> {
        let ReachState::Connected { since, .. } = self.state else {
            self.ignored += 1;
            return Vec::new();
        };
        self.idle_at = None;
        if !self.wanted || self.addresses.is_empty() {
            self.give_up();
            return Vec::new();
        }
        if now - since >= self.config.stable_after {
            self.failed = 0;
            self.dial(now)
        } else {
            // Dialing at once what closes at once would never end.
            self.fail(now, ReachError::Unstable, jitter);
            Vec::new()
        }
    }

    fn timeout(&mut self, now: Instant, jitter: Jitter) -> Vec<Effect> {
        if self.next_timeout().is_none_or(|due| now < due) {
            self.ignored += 1;
            return Vec::new();
        }
        match &self.state {
            ReachState::Connecting { .. } => {
                self.fail(now, ReachError::TimedOut, jitter);
                Vec::new()
            }
            ReachState::Retry { .. } => self.dial(now),
            _ => self.give_up(),
        }
    }

    fn dial(&mut self, now: Instant) -> Vec<Effect> {
        let dial = DialId(self.next_dial);
        self.next_dial += 1;
        self.dialing = Some(dial);
        let attempt = self.failed + 1;
        let addresses = Addresses(self.addresses.clone());
        self.state = ReachState::Connecting {
            since: now,
            addresses: addresses.clone(),
            attempt,
            max_attempts: self.config.max_attempts,
        };
        vec![Effect::Dial { dial, attempt, addresses }]
    }

    fn fail(&mut self, now: Instant, error: ReachError, jitter: Jitter) {
        self.dialing = None;
        self.failed += 1;
        let max_attempts = self.config.max_attempts;
        self.state = if self.failed >= max_attempts {
            ReachState::ConnectionFailed { since: now, attempts: self.failed, error }
        } else {
            let at = now + self.config.backoff(self.failed, jitter);
            ReachState::Retry { since: now, at, attempt: self.failed, max_attempts, error }
        };
    }

    fn give_up(&mut self) -> Vec<Effect> {
        // An attempt that runs may yet succeed, so what it may have opened is closed as well.
        let open = matches!(self.state, ReachState::Connected { .. } | ReachState::Connecting { .. });
        self.state = ReachState::Disconnected;
        self.wanted = false;
        self.failed = 0;
        self.dialing = None;
        self.idle_at = None;
        if open { vec![Effect::Close] } else { Vec::new() }
    }

    /// What always holds. For tests.
    ///
    /// # Errors
    /// What does not hold.
    #[doc(hidden)]
    pub fn check(&self) -> Result<(), &'static str> {
        let connecting = matches!(self.state, ReachState::Connecting { .. });
        if connecting != self.dialing.is_some() {
            return Err("a dialing is awaited exactly while connecting");
        }
        if let ReachState::Connecting { attempt, max_attempts, addresses, .. } = &self.state
            && (*attempt == 0 || attempt > max_attempts || addresses.0.is_empty())
        {
            return Err("an attempt has a number up to the most, and an address");
        }
        if self.idle_at.is_some() && (!self.is_connected() || self.wanted) {
            return Err("only a connection that nobody wants is idle");
        }
        if self.addresses.len() > MAX_REACH_ADDRESSES {
            return Err("the addresses are bounded");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
