use std::time::{Duration, Instant};

use crate::config::Timeouts;
use crate::event::{FailReason, LinkState, Step};

/// What the owner of a connection observes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Observation {
    /// Both descriptions are set.
    Negotiated,
    /// ICE was restarted, by us or by the peer.
    Restarted,
    /// ICE has a path.
    PathFound,
    /// The path stopped answering.
    PathSilent,
    /// ICE gave up.
    PathLost,
    /// The DTLS handshake is done.
    Secured,
    /// The DTLS handshake failed.
    HandshakeFailed,
    /// A certificate was refused: the peer's by us, or ours by what may be the peer.
    CertificateRefused { by_us: bool },
    /// The peer closed.
    RemoteClosed,
    /// The engine stopped working.
    Stopped,
}

/// The state of one connection, apart from any engine and clock.
#[derive(Debug)]
pub(crate) struct Steps {
    state: LinkState,
    since: Instant,
    path: bool,
    secured: bool,
    /// The peer, or somebody in its place, does not take our certificate.
    refused: bool,
}

impl Steps {
    pub(crate) fn new(now: Instant) -> Self {
        Self { state: LinkState::Negotiating, since: now, path: false, secured: false, refused: false }
    }

    pub(crate) fn state(&self) -> LinkState {
        self.state
    }

    /// The step that a failure now would be blamed on.
    pub(crate) fn step(&self) -> Step {
        match self.state {
            LinkState::Negotiating => Step::Negotiating,
            LinkState::Checking => Step::Checking,
            LinkState::Securing => Step::Securing,
            LinkState::Reconnecting => Step::Reconnecting,
            _ => Step::Connected,
        }
    }

    /// Whether there was a path that could be looked for anew.
    pub(crate) fn can_restart(&self) -> bool {
        matches!(self.state, LinkState::Connected | LinkState::Disconnected | LinkState::Reconnecting)
    }

    /// The states that this observation leads through, in order.
    pub(crate) fn observe(&mut self, now: Instant, observation: Observation) -> Vec<LinkState> {
        let before = self.state;
        if before.is_final() {
            return Vec::new();
        }
        match observation {
            Observation::Negotiated => {
                if before == LinkState::Negotiating {
                    return self.advance(now, LinkState::Checking);
                }
            }
            Observation::Restarted => {
                if self.can_restart() {
                    self.path = false;
                    // Restarts upon restarts do not prolong it.
                    if before != LinkState::Reconnecting {
                        return self.enter(now, LinkState::Reconnecting);
                    }
                }
            }
            Observation::PathFound => {
                self.path = true;
                match before {
                    LinkState::Checking => return self.advance(now, LinkState::Securing),
                    LinkState::Disconnected | LinkState::Reconnecting => {
                        return self.enter(now, LinkState::Connected);
                    }
                    _ => {}
                }
            }
            Observation::PathSilent => {
                self.path = false;
                if before == LinkState::Connected {
                    return self.enter(now, LinkState::Disconnected);
                }
            }
            Observation::Secured => {
                self.secured = true;
                self.path = true;
                match before {
                    LinkState::Checking => return self.advance(now, LinkState::Securing),
                    LinkState::Securing => return self.enter(now, LinkState::Connected),
                    _ => {}
                }
            }
            Observation::PathLost => {
                let never = matches!(before, LinkState::Negotiating | LinkState::Checking);
                let reason = if never { FailReason::NoPath } else { FailReason::PathLost };
                return self.fail(now, reason);
            }
            // The engine itself would wait for ever (RFC 5246 section 7.2.2 ends a session with this alert).
            Observation::CertificateRefused { by_us: true } => {
                if !self.secured {
                    return self.fail(now, FailReason::FingerprintMismatch);
                }
            }
            // Anybody can say this, so it is believed when nothing better came in time.
            Observation::CertificateRefused { by_us: false } => self.refused = true,
            Observation::HandshakeFailed => return self.fail(now, FailReason::Handshake),
            Observation::Stopped => return self.fail(now, FailReason::Engine { doing: "keep running" }),
            Observation::RemoteClosed => return self.enter(now, LinkState::Closed { by_remote: true }),
        }
        Vec::new()
    }

    /// When `expire` has something to do.
    pub(crate) fn deadline(&self, timeouts: &Timeouts) -> Option<Instant> {
        Some(self.since + self.allowance(timeouts)?)
    }

    /// Fails the present step if its time is up.
    pub(crate) fn expire(&mut self, now: Instant, timeouts: &Timeouts) -> Vec<LinkState> {
        match self.allowance(timeouts) {
            Some(after) if now >= self.since + after => {
                let refused = self.refused && self.state == LinkState::Securing;
                let reason =
                    if refused { FailReason::CertificateRefused } else { FailReason::TimedOut { after } };
                self.fail(now, reason)
            }
            _ => Vec::new(),
        }
    }

    pub(crate) fn fail(&mut self, now: Instant, reason: FailReason) -> Vec<LinkState> {
        let step = match reason {
            FailReason::NoLocalCandidates | FailReason::NoRelay { .. } => Step::Gathering,
            _ => self.step(),
        };
        self.enter(now, LinkState::Failed { step, reason })
    }

    fn allowance(&self, timeouts: &Timeouts) -> Option<Duration> {
        match self.state {
            LinkState::Negotiating => Some(timeouts.negotiating),
            LinkState::Checking => Some(timeouts.checking),
            LinkState::Securing => Some(timeouts.securing),
            LinkState::Reconnecting => Some(timeouts.reconnecting),
            _ => None,
        }
    }

    /// Enters a step and those after it that are done already: the engine may report them in any order.
    fn advance(&mut self, now: Instant, state: LinkState) -> Vec<LinkState> {
        let mut states = self.enter(now, state);
        if self.state == LinkState::Checking && self.path {
            states.extend(self.enter(now, LinkState::Securing));
        }
        if self.state == LinkState::Securing && self.secured {
            states.extend(self.enter(now, LinkState::Connected));
        }
        states
    }

    fn enter(&mut self, now: Instant, state: LinkState) -> Vec<LinkState> {
        self.state = state;
        self.since = now;
        vec![state]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use LinkState::*;
    use Observation::*;

    fn run(observations: &[Observation]) -> Vec<LinkState> {
        let now = Instant::now();
        let mut steps = Steps::new(now);
        observations.iter().flat_map(|o| steps.observe(now, *o)).collect()
    }

    #[test]
    fn the_way_up_and_the_way_it_heals() {
        assert_eq!(run(&[Negotiated, PathFound, Secured]), [Checking, Securing, Connected]);
        assert_eq!(
            run(&[Negotiated, PathFound, Secured, PathSilent, PathSilent, PathFound, PathFound]),
            [Checking, Securing, Connected, Disconnected, Connected]
        );
    }

    #[test]
    fn no_step_is_left_out_when_the_engine_reports_out_of_order() {
        assert_eq!(run(&[PathFound, Secured, Negotiated]), [Checking, Securing, Connected]);
        assert_eq!(run(&[Negotiated, Secured]), [Checking, Securing, Connected]);
        // A path that was found and fell silent again is no path.
        assert_eq!(run(&[PathFound, PathSilent, Negotiated]), [Checking]);
        // While securing, silence is left to the deadline.
        assert_eq!(run(&[Negotiated, PathFound, PathSilent]), [Checking, Securing]);
    }

    #[test]
    fn a_restart_is_over_when_a_path_is_found() {
        let up = [Negotiated, PathFound, Secured];
        let after = |observations: &[Observation]| run(&[&up[..], observations].concat())[3..].to_vec();
        assert_eq!(after(&[Restarted, PathFound]), [Reconnecting, Connected]);
        assert_eq!(after(&[PathSilent, Restarted, PathFound]), [Disconnected, Reconnecting, Connected]);
        assert_eq!(after(&[Restarted, PathSilent, Restarted, PathFound]), [Reconnecting, Connected]);
        let lost = Failed { step: Step::Reconnecting, reason: FailReason::PathLost };
        assert_eq!(after(&[Restarted, PathLost]), [Reconnecting, lost]);
        assert_eq!(after(&[Restarted, RemoteClosed]), [Reconnecting, Closed { by_remote: true }]);
        // Before there was a path there is nothing to restart.
        assert_eq!(
            run(&[Restarted, Negotiated, Restarted, PathFound, Secured]),
            [Checking, Securing, Connected]
        );
    }

    #[test]
    fn restarts_do_not_prolong_each_other() {
        let timeouts = Timeouts::default();
        let start = Instant::now();
        let mut steps = Steps::new(start);
        for observation in [Negotiated, PathFound, Secured, Restarted] {
            steps.observe(start, observation);
        }
        let end = start + timeouts.reconnecting;
        steps.observe(end - Duration::from_secs(1), Restarted);
        assert_eq!(steps.deadline(&timeouts), Some(end));
        let failed = Failed {
            step: Step::Reconnecting,
            reason: FailReason::TimedOut { after: timeouts.reconnecting },
        };
        assert_eq!(steps.expire(end, &timeouts), [failed]);
    }

    #[test]
    fn a_refused_certificate_is_the_reason_if_there_was_no_connection() {
        let mismatch = Failed { step: Step::Securing, reason: FailReason::FingerprintMismatch };
        let (ours, theirs) = (CertificateRefused { by_us: true }, CertificateRefused { by_us: false });
        assert_eq!(run(&[Negotiated, PathFound, ours]), [Checking, Securing, mismatch]);
        assert_eq!(run(&[Negotiated, PathFound, theirs, Secured, ours]), [Checking, Securing, Connected]);
        let (start, timeouts) = (Instant::now(), Timeouts::default());
        let mut steps = Steps::new(start);
        for observation in [Negotiated, PathFound, theirs] {
            steps.observe(start, observation);
        }
        let refused = Failed { step: Step::Securing, reason: FailReason::CertificateRefused };
        assert_eq!(steps.expire(start + timeouts.securing, &timeouts), [refused]);
    }

    #[test]
    fn it_ends_once() {
        let lost = Failed { step: Step::Connected, reason: FailReason::PathLost };
        assert_eq!(
            run(&[
                Negotiated,
                PathFound,
                Secured,
                PathSilent,
                PathLost,
                PathFound,
                RemoteClosed,
                HandshakeFailed
            ]),
            [Checking, Securing, Connected, Disconnected, lost]
        );
        assert_eq!(run(&[RemoteClosed, PathLost]), [Closed { by_remote: true }]);
        let none = Failed { step: Step::Checking, reason: FailReason::NoPath };
        assert_eq!(run(&[Negotiated, PathLost, Stopped]), [Checking, none]);
    }

    #[test]
    fn each_step_has_its_own_deadline_and_names_itself() {
        let timeouts = Timeouts::default();
        let start = Instant::now();
        let later = |secs| start + Duration::from_secs(secs);
        for (ups, step, after) in [
            (&[][..], Step::Negotiating, timeouts.negotiating),
            (&[Negotiated][..], Step::Checking, timeouts.checking),
            (&[Negotiated, PathFound][..], Step::Securing, timeouts.securing),
        ] {
            let mut steps = Steps::new(start);
            for up in ups {
                steps.observe(later(5), *up);
            }
            let begin = if ups.is_empty() { start } else { later(5) };
            assert_eq!(steps.deadline(&timeouts), Some(begin + after));
            assert_eq!(steps.expire(begin + after - Duration::from_nanos(1), &timeouts), []);
            let failed = Failed { step, reason: FailReason::TimedOut { after } };
            assert_eq!(steps.expire(begin + after, &timeouts), [failed]);
            assert_eq!(steps.deadline(&timeouts), None);
        }
        let mut steps = Steps::new(start);
        for up in [Negotiated, PathFound, Secured] {
            steps.observe(start, up);
        }
        assert_eq!(steps.deadline(&timeouts), None);
        assert_eq!(steps.expire(later(1_000_000), &timeouts), []);
    }

    #[test]
    fn having_no_candidates_is_blamed_on_gathering() {
        let mut steps = Steps::new(Instant::now());
        let failed = steps.fail(Instant::now(), FailReason::NoLocalCandidates);
        assert_eq!(failed, [Failed { step: Step::Gathering, reason: FailReason::NoLocalCandidates }]);
    }
}
