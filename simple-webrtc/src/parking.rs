use crate::description::Candidate;

/// Candidates kept until the peer's description is there. 64: twice what a machine with many interfaces gathers.
const MAX_PARKED: usize = 64;
/// Candidates of a peer that are used in all: the engine checks each against each of ours.
const MAX_CANDIDATES: usize = 256;

/// Where the peer's candidates wait for its description, without which the engine refuses them.
#[derive(Debug, Default)]
pub(crate) struct Parking {
    parked: Vec<Candidate>,
    open: bool,
    admitted: usize,
}

impl Parking {
    /// Gives the candidate back if it is to be used now; keeps or ignores it otherwise.
    pub(crate) fn admit(&mut self, candidate: Candidate) -> Option<Candidate> {
        let full = self.admitted >= MAX_CANDIDATES || (!self.open && self.parked.len() >= MAX_PARKED);
        if !candidate.is_usable() || full {
            tracing::debug!(full, "candidate of the peer ignored");
            return None;
        }
        self.admitted += 1;
        if self.open {
            return Some(candidate);
        }
        self.parked.push(candidate);
        None
    }

    /// The description is there: what was kept, in order.
    pub(crate) fn open(&mut self) -> Vec<Candidate> {
        self.open = true;
        std::mem::take(&mut self.parked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(port: usize) -> Candidate {
        Candidate::parse(&format!("candidate:1 1 udp 1 192.0.2.7 {port} typ host")).expect("valid")
    }

    #[test]
    fn candidates_wait_in_order_and_both_bounds_hold() {
        let mut parking = Parking::default();
        for port in 1..=MAX_PARKED + 10 {
            assert_eq!(parking.admit(candidate(port)), None);
        }
        let kept: Vec<Candidate> = (1..=MAX_PARKED).map(candidate).collect();
        assert_eq!(parking.open(), kept);
        for port in MAX_PARKED + 1..=MAX_CANDIDATES {
            assert_eq!(parking.admit(candidate(port)), Some(candidate(port)));
        }
        assert_eq!(parking.admit(candidate(9999)), None);
        assert_eq!(parking.open(), []);
    }

    #[test]
    fn what_cannot_be_used_takes_no_room() {
        let mut parking = Parking::default();
        parking.open();
        let tcp =
            Candidate::parse("candidate:1 1 tcp 1 192.0.2.7 9 typ host tcptype passive").expect("valid");
        for _ in 0..2 * MAX_CANDIDATES {
            assert_eq!(parking.admit(tcp.clone()), None);
        }
        assert_eq!(parking.admit(candidate(1)), Some(candidate(1)));
    }
}
