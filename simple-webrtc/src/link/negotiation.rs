//! Who offers what, and which answer belongs to which offer (RFC 3264, RFC 9429), apart from any engine and clock.

use crate::description::Description;

/// What to do with the peer's offer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum OnOffer {
    /// It is old, or ours goes first.
    Ignore,
    /// It came before: this is what was answered.
    Repeat(Description),
    /// Answer it, after taking our own offer back if that is on its way.
    Answer { roll_back: bool },
}

/// One exchange at a time. When offers cross, that of the side that dialled stays.
#[derive(Debug)]
pub(super) struct Negotiation {
    dialled: bool,
    /// Whether the first exchange is done.
    established: bool,
    /// Our offer that waits for its answer: its version, and whether it restarts ICE.
    pending: Option<(Option<u64>, bool)>,
    /// Whether ICE is to be restarted with our next offer.
    restart: bool,
    /// The peer's last offer that was answered, with the answer.
    answered: Option<(Description, Description)>,
    /// The ICE session of the peer.
    session: Option<String>,
}

impl Negotiation {
    pub(super) fn new(dialled: bool) -> Self {
        Self { dialled, established: false, pending: None, restart: false, answered: None, session: None }
    }

    pub(super) fn is_established(&self) -> bool {
        self.established
    }

    /// ICE is to be restarted as soon as possible, even if an offer is on its way: that one is of a time before the reason.
    pub(super) fn want_restart(&mut self) {
        self.restart = true;
    }

    /// Whether an offer that restarts ICE is to be made now.
    pub(super) fn due(&self) -> bool {
        self.established && self.restart
    }

    pub(super) fn offered(&mut self, offer: &Description, restart: bool) {
        self.pending = Some((offer.version(), restart));
        self.restart &= !restart;
    }

    /// Whether this answer is the one that we wait for.
    pub(super) fn expects(&self, answer: &Description) -> bool {
        self.pending.is_some_and(|(version, _)| answer.can_answer(version))
    }

    pub(super) fn accepted(&mut self, answer: &Description) {
        self.pending = None;
        self.established = true;
        self.session = answer.ufrag().map(str::to_owned);
    }

    pub(super) fn on_offer(&self, offer: &Description) -> OnOffer {
        if let Some((before, answer)) = &self.answered {
            if before == offer {
                return OnOffer::Repeat(answer.clone());
            }
            if before.version().zip(offer.version()).is_some_and(|(before, now)| now <= before) {
                return OnOffer::Ignore;
            }
        }
        match self.pending {
            Some(_) if self.dialled => OnOffer::Ignore,
            pending => OnOffer::Answer { roll_back: pending.is_some() },
        }
    }

    /// Whether this offer of the peer restarts ICE.
    pub(super) fn restarts(&self, offer: &Description) -> bool {
        self.established && self.session.as_deref() != offer.ufrag()
    }

    pub(super) fn rolled_back(&mut self) {
        if let Some((_, restart)) = self.pending.take() {
            self.restart |= restart;
        }
    }

    pub(super) fn answered(&mut self, offer: &Description, answer: &Description) {
        if self.restarts(offer) {
            // Whatever we wanted a restart for, this was one.
            self.restart = false;
        }
        self.established = true;
        self.session = offer.ufrag().map(str::to_owned);
        self.answered = Some((offer.clone(), answer.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::description::DescriptionKind::{self, Answer, Offer};

    fn description(kind: DescriptionKind, version: u64, ufrag: &str) -> Description {
        let hash = ["AB"; 32].join(":");
        let text = format!(
            "v=0\r\no=- 1 {version} IN IP4 0.0.0.0\r\na=fingerprint:sha-256 {hash}\r\nm=audio 9 x 0\r\na=ice-ufrag:{ufrag}\r\n"
        );
        Description::parse(kind, &text).expect("valid")
    }

    fn answer(offer: &Description, version: u64, ufrag: &str) -> Description {
        description(Answer, version, ufrag).answering(offer)
    }

    /// A side whose first exchange is done: its offer had version 1, the peer's descriptions are "theirs".
    fn established(dialled: bool) -> Negotiation {
        let mut negotiation = Negotiation::new(dialled);
        if dialled {
            let offer = description(Offer, 1, "ours");
            negotiation.offered(&offer, false);
            negotiation.accepted(&answer(&offer, 1, "theirs"));
        } else {
            let offer = description(Offer, 1, "theirs");
            assert_eq!(negotiation.on_offer(&offer), OnOffer::Answer { roll_back: false });
            negotiation.answered(&offer, &answer(&offer, 1, "ours"));
        }
        negotiation
    }

    #[test]
    fn an_answer_to_an_offer_that_was_replaced_is_not_taken() {
        let mut negotiation = established(true);
        let (first, second) = (description(Offer, 2, "x"), description(Offer, 3, "y"));
        negotiation.offered(&first, true);
        negotiation.offered(&second, true);
        assert!(!negotiation.expects(&answer(&first, 2, "r")));
        assert!(negotiation.expects(&answer(&second, 3, "r")));
        negotiation.accepted(&answer(&second, 3, "r"));
        assert!(!negotiation.expects(&answer(&second, 3, "r")), "a repetition");
    }

    #[test]
    fn when_offers_cross_that_of_the_side_that_dialled_stays() {
        let theirs = description(Offer, 2, "new");
        let mut dialled = established(true);
        dialled.offered(&description(Offer, 2, "mine"), true);
        assert_eq!(dialled.on_offer(&theirs), OnOffer::Ignore);

        let mut accepted = established(false);
        accepted.offered(&description(Offer, 2, "mine"), true);
        assert_eq!(accepted.on_offer(&theirs), OnOffer::Answer { roll_back: true });
        accepted.rolled_back();
        assert!(accepted.due());
        accepted.answered(&theirs, &answer(&theirs, 3, "again"));
        assert!(!accepted.due(), "their offer was the restart that was wanted");
        assert!(!accepted.expects(&answer(&description(Offer, 2, "mine"), 9, "z")));
    }

    #[test]
    fn a_restart_that_gave_way_to_something_else_comes_after_it() {
        let mut accepted = established(false);
        accepted.want_restart();
        assert!(accepted.due());
        accepted.offered(&description(Offer, 2, "mine"), true);
        assert!(!accepted.due());
        let theirs = description(Offer, 2, "theirs");
        assert!(!accepted.restarts(&theirs));
        assert_eq!(accepted.on_offer(&theirs), OnOffer::Answer { roll_back: true });
        accepted.rolled_back();
        accepted.answered(&theirs, &answer(&theirs, 3, "ours"));
        assert!(accepted.due());
    }

    #[test]
    fn old_and_repeated_offers_change_nothing() {
        let mut accepted = established(false);
        let second = description(Offer, 2, "second");
        assert!(accepted.restarts(&second));
        let reply = answer(&second, 2, "ours");
        accepted.answered(&second, &reply);
        assert_eq!(accepted.on_offer(&second), OnOffer::Repeat(reply));
        assert_eq!(accepted.on_offer(&description(Offer, 1, "theirs")), OnOffer::Ignore);
        assert_eq!(accepted.on_offer(&description(Offer, 2, "forged")), OnOffer::Ignore);
        assert_eq!(accepted.on_offer(&description(Offer, 3, "third")), OnOffer::Answer { roll_back: false });
    }

    #[test]
    fn nothing_is_restarted_before_there_is_something() {
        let mut dialled = Negotiation::new(true);
        dialled.want_restart();
        assert!(!dialled.due());
        dialled.offered(&description(Offer, 1, "x"), false);
        assert!(!dialled.due());
        dialled.accepted(&description(Answer, 1, "theirs"));
        assert!(dialled.due(), "now there is");
    }
}
