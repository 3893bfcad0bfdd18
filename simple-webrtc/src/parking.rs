use crate::description::Candidate;

/// Candidates kept until the peer's description is there. 64: twice what a machine with many interfaces gathers.
const MAX_PARKED: usize = 64;
/// Candidates of a peer that are used in one ICE session: the engine checks each against each of ours.
const MAX_CANDIDATES: usize = 256;

/// Where the peer's candidates wait for the description that they belong to, without which the engine refuses them.
#[derive(Debug, Default)]
pub(crate) struct Parking {
    parked: Vec<Candidate>,
    open: bool,
    /// The ICE session of the present description, if it names one.
    session: Option<String>,
    admitted: usize,
}

impl Parking {
    /// Gives the candidate back if it is to be used now; keeps or ignores it otherwise.
    pub(crate) fn admit(&mut self, candidate: Candidate) -> Option<Candidate> {
        let now = self.open && self.fits(&candidate);
        let full = if now { self.admitted >= MAX_CANDIDATES } else { self.parked.len() >= MAX_PARKED };
        if !candidate.is_usable() || full {
            tracing::debug!(full, "candidate of the peer ignored");
            return None;
        }
        if now {
            self.admitted += 1;
            return Some(candidate);
        }
        self.parked.push(candidate);
        None
    }

    /// A description is there: what was kept for it, in order. What was kept for another is of no use any more.
    pub(crate) fn open(&mut self, session: Option<&str>) -> Vec<Candidate> {
        let same = self.open && self.session.as_deref() == session;
        if !same {
            self.admitted = 0;
        }
        self.open = true;
        self.session = session.map(str::to_owned);
        let parked = std::mem::take(&mut self.parked);
        let (mut fitting, other): (Vec<_>, Vec<_>) =
            parked.into_iter().partition(|candidate| self.fits(candidate));
        if same {
            self.parked = other;
        }
        fitting.truncate(MAX_CANDIDATES - self.admitted);
        self.admitted += fitting.len();
        fitting
    }

    /// Whether it belongs to the present session, or nobody says what it belongs to.
    fn fits(&self, candidate: &Candidate) -> bool {
        match (candidate.ufrag(), &self.session) {
            (Some(of), Some(session)) => of == session,
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(port: usize) -> Candidate {
        Candidate::parse(&format!("candidate:1 1 udp 1 192.0.2.7 {port} typ host")).expect("valid")
    }

    fn of(session: &str, port: usize) -> Candidate {
        candidate(port).with_ufrag(Some(session))
    }

    #[test]
    fn candidates_wait_in_order_and_both_bounds_hold() {
        let mut parking = Parking::default();
        for port in 1..=MAX_PARKED + 10 {
            assert_eq!(parking.admit(candidate(port)), None);
        }
        let kept: Vec<Candidate> = (1..=MAX_PARKED).map(candidate).collect();
        assert_eq!(parking.open(None), kept);
        for port in MAX_PARKED + 1..=MAX_CANDIDATES {
            assert_eq!(parking.admit(candidate(port)), Some(candidate(port)));
        }
        assert_eq!(parking.admit(candidate(9999)), None);
        assert_eq!(parking.open(None), []);
    }

    #[test]
    fn what_cannot_be_used_takes_no_room() {
        let mut parking = Parking::default();
        parking.open(None);
        let tcp =
            Candidate::parse("candidate:1 1 tcp 1 192.0.2.7 9 typ host tcptype passive").expect("valid");
        for _ in 0..2 * MAX_CANDIDATES {
            assert_eq!(parking.admit(tcp.clone()), None);
        }
        assert_eq!(parking.admit(candidate(1)), Some(candidate(1)));
    }

    #[test]
    fn candidates_that_overtake_a_restart_wait_for_it() {
        let mut parking = Parking::default();
        assert_eq!(parking.admit(of("one", 1)), None);
        assert_eq!(parking.admit(of("two", 2)), None);
        assert_eq!(parking.open(Some("one")), [of("one", 1)]);
        assert_eq!(parking.admit(of("one", 3)), Some(of("one", 3)));
        assert_eq!(parking.admit(of("two", 4)), None, "of a session that nobody has described yet");
        assert_eq!(parking.open(Some("one")), [], "the same session, described again");
        assert_eq!(parking.open(Some("two")), [of("two", 4)]);
        assert_eq!(parking.admit(of("one", 5)), None, "of the session before");
        assert_eq!(parking.admit(candidate(6)), Some(candidate(6)), "of a peer that does not say");
        assert_eq!(parking.open(Some("three")), []);
    }

    #[test]
    fn each_session_may_have_its_candidates() {
        let mut parking = Parking::default();
        for session in ["one", "two", "three"] {
            parking.open(Some(session));
            let taken = (1..=2 * MAX_CANDIDATES).filter(|port| parking.admit(of(session, *port)).is_some());
            assert_eq!(taken.count(), MAX_CANDIDATES);
        }
    }
}
