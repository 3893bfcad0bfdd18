//! Who offers what, and which answer belongs to which offer (RFC 3264, RFC 9429), apart from any engine and clock.

use crate::certificate::Fingerprint;
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
    /// Whether there is something else that an offer has to tell.
    change: bool,
    /// The peer's last offer that was answered, with the answer.
    answered: Option<(Description, Description)>,
    /// The ICE session of the peer.
    session: Option<String>,
    /// The certificate of the peer. It stays: a description with another one is of another connection.
    certificate: Option<Fingerprint>,
}

impl Negotiation {
    pub(super) fn new(dialled: bool) -> Self {
        Self {
            dialled,
            established: false,
            pending: None,
            restart: false,
            change: false,
            answered: None,
            session: None,
            certificate: None,
        }
    }

    /// Whether this description is of the connection that the first one was of.
    fn is_of_this(&self, description: &Description) -> bool {
        self.certificate.is_none_or(|known| known == description.fingerprint())
    }

    pub(super) fn is_established(&self) -> bool {
        self.established
    }

    /// ICE is to be restarted as soon as possible, even if an offer is on its way: that one is of a time before the reason.
    pub(super) fn want_restart(&mut self) {
        self.restart = true;
    }

    /// Something has changed that the peer has to be told. Unlike a restart, that can wait for the exchange on its way.
    pub(super) fn want_change(&mut self) {
        self.change = true;
    }

    /// Whether an offer is to be made now, and if so, whether it is to restart ICE.
    pub(super) fn due(&self) -> Option<bool> {
        let change = self.change && self.pending.is_none();
        (self.established && (self.restart || change)).then_some(self.restart)
    }

    /// Whether an offer of ours waits for its answer.
    pub(super) fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// Whether the first offer waits for its answer.
    pub(super) fn is_unanswered(&self) -> bool {
        !self.established && self.is_pending()
    }

    pub(super) fn offered(&mut self, offer: &Description, restart: bool) {
        self.pending = Some((offer.version(), restart));
        self.restart &= !restart;
        self.change = false;
    }

    /// Whether this answer is the one that we wait for.
    pub(super) fn expects(&self, answer: &Description) -> bool {
        self.is_of_this(answer) && self.pending.is_some_and(|(version, _)| answer.can_answer(version))
    }

    pub(super) fn accepted(&mut self, answer: &Description) {
        self.pending = None;
        self.established = true;
        self.session = answer.ufrag().map(str::to_owned);
        self.certificate = Some(answer.fingerprint());
    }

    pub(super) fn on_offer(&self, offer: &Description) -> OnOffer {
        if !self.is_of_this(offer) {
            return OnOffer::Ignore;
        }
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
            self.change = true;
        }
    }

    pub(super) fn answered(&mut self, offer: &Description, answer: &Description) {
        if self.restarts(offer) {
            // Whatever we wanted a restart for, this was one.
            self.restart = false;
        }
        self.established = true;
        self.session = offer.ufrag().map(str::to_owned);
        self.certificate = Some(offer.fingerprint());
        self.answered = Some((offer.clone(), answer.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::description::DescriptionKind::{self, Answer, Offer};

    fn description(kind: DescriptionKind, version: u64, ufrag: &str) -> Description {
        certified("AB", kind, version, ufrag)
    }

    fn certified(byte: &str, kind: DescriptionKind, version: u64, ufrag: &str) -> Description {
        let hash = [byte; 32].join(":");
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
        assert_eq!(accepted.due(), Some(true));
        accepted.answered(&theirs, &answer(&theirs, 3, "again"));
        assert_eq!(accepted.due(), Some(false), "their offer was the restart that was wanted");
        assert!(!accepted.expects(&answer(&description(Offer, 2, "mine"), 9, "z")));
    }

    #[test]
    fn a_restart_that_gave_way_to_something_else_comes_after_it() {
        let mut accepted = established(false);
        accepted.want_restart();
        assert_eq!(accepted.due(), Some(true));
        accepted.offered(&description(Offer, 2, "mine"), true);
        assert_eq!(accepted.due(), None);
        let theirs = description(Offer, 2, "theirs");
        assert!(!accepted.restarts(&theirs));
        assert_eq!(accepted.on_offer(&theirs), OnOffer::Answer { roll_back: true });
        accepted.rolled_back();
        accepted.answered(&theirs, &answer(&theirs, 3, "ours"));
        assert_eq!(accepted.due(), Some(true));
    }

    #[test]
    fn hostile_description_with_another_certificate_is_of_no_connection_here() {
        let mut dialled = established(true);
        assert_eq!(dialled.on_offer(&certified("CD", Offer, 2, "x")), OnOffer::Ignore);
        let offer = description(Offer, 2, "mine");
        dialled.offered(&offer, true);
        assert!(!dialled.expects(&certified("CD", Answer, 2, "x").answering(&offer)));
        assert!(dialled.expects(&answer(&offer, 2, "x")));
        let accepted = established(false);
        assert_eq!(accepted.on_offer(&certified("CD", Offer, 2, "x")), OnOffer::Ignore);
        assert_eq!(accepted.on_offer(&description(Offer, 2, "x")), OnOffer::Answer { roll_back: false });
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
        assert_eq!(dialled.due(), None);
        dialled.offered(&description(Offer, 1, "x"), false);
        assert_eq!(dialled.due(), None);
        dialled.accepted(&description(Answer, 1, "theirs"));
        assert_eq!(dialled.due(), Some(true), "now there is");
    }

    #[test]
    fn a_change_waits_for_the_exchange_on_its_way_and_a_restart_does_not() {
        let mut dialled = established(true);
        dialled.want_change();
        assert_eq!(dialled.due(), Some(false));
        let first = description(Offer, 2, "ours");
        dialled.offered(&first, false);
        dialled.want_change();
        assert_eq!(dialled.due(), None);
        dialled.want_restart();
        assert_eq!(dialled.due(), Some(true));
        let second = description(Offer, 3, "fresh");
        dialled.offered(&second, true);
        dialled.accepted(&answer(&second, 2, "theirs-2"));
        assert_eq!(dialled.due(), None, "it told the change, too");
    }
}
