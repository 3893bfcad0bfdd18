//! Who began the DTLS handshake. The first answer decides (RFC 8842 section 5.3), and as long as the handshake stands each
//! later answer has to say the same (section 5.5); the engine always takes the active part in answers, which browsers refuse.

use std::sync::OnceLock;

const SETUP: &str = "a=setup:";

/// The part that this side has in the handshake, once it is decided.
#[derive(Debug, Default)]
pub(super) struct Role(OnceLock<Part>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Active,
    Passive,
}

impl Role {
    /// Takes note of the peer's answer.
    pub(super) fn answered(&self, theirs: &str) {
        match part(theirs) {
            Some(Part::Active) => self.decide(Part::Passive),
            Some(Part::Passive) => self.decide(Part::Active),
            None => {}
        }
    }

    /// The answer with our part in it.
    pub(super) fn in_answer(&self, ours: &str) -> String {
        if let Some(part) = part(ours) {
            self.decide(part);
        }
        let Some(part) = self.0.get() else { return ours.to_owned() };
        let name = match part {
            Part::Active => "active",
            Part::Passive => "passive",
        };
        let keep = |line: &str| match line.starts_with(SETUP) {
            true => format!("{SETUP}{name}"),
            false => line.to_owned(),
        };
        ours.split("\r\n").map(keep).collect::<Vec<_>>().join("\r\n")
    }

    /// Whether it is this side that begins the handshake.
    pub(super) fn is_active(&self) -> bool {
        self.0.get() == Some(&Part::Active)
    }

    /// Only the first decision counts.
    fn decide(&self, part: Part) {
        let _ = self.0.set(part);
    }
}

fn part(sdp: &str) -> Option<Part> {
    match sdp.lines().find_map(|line| line.strip_prefix(SETUP))?.trim_end() {
        "active" => Some(Part::Active),
        "passive" => Some(Part::Passive),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sdp(setup: &str) -> String {
        format!("v=0\r\nm=audio\r\na=setup:{setup}\r\na=x\r\nm=application\r\na=setup:{setup}\r\n")
    }

    #[test]
    fn whoever_was_active_stays_so() {
        let dialled = Role::default();
        dialled.answered(&sdp("active"));
        assert_eq!(dialled.in_answer(&sdp("active")), sdp("passive"));
        assert!(!dialled.is_active() && !Role::default().is_active());
        dialled.answered(&sdp("passive"));
        assert_eq!(dialled.in_answer(&sdp("active")), sdp("passive"), "once is for ever");

        let refused = Role::default();
        refused.answered(&sdp("passive"));
        assert_eq!(refused.in_answer(&sdp("active")), sdp("active"));

        let accepted = Role::default();
        assert_eq!(accepted.in_answer(&sdp("active")), sdp("active"));
        assert!(accepted.is_active());
        accepted.answered(&sdp("passive"));
        assert_eq!(accepted.in_answer(&sdp("active")), sdp("active"));
    }

    #[test]
    fn what_says_nothing_decides_nothing() {
        let role = Role::default();
        role.answered("v=0\r\n");
        role.answered(&sdp("actpass"));
        assert_eq!(role.in_answer("v=0\r\n"), "v=0\r\n");
        assert_eq!(role.in_answer(&sdp("passive")), sdp("passive"));
    }
}
