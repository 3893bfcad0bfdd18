//! When friends are asked for a place on their TURN servers: while there is a call, anew before what they gave is over, and not
//! over and over where nobody answers.

use std::{collections::BTreeMap, time::Duration};

use crate::{id::PublicKey, time::Instant};

/// The most friends who are asked. A connection asks each of its servers from each of its addresses, and takes 16 servers.
pub const MAX_FRIENDS: usize = 4;

/// How long an answer is waited for: [`Config::reach_timeout`](crate::Config::reach_timeout), as for any first message.
const PATIENCE: Duration = Duration::from_secs(15);

/// After that long it is asked again where nobody answered, the last one repeating: a friend who has just come back is found
/// within a minute, and one who is away costs little.
const AGAIN: [Duration; 4] =
    [Duration::from_secs(5), Duration::from_secs(15), Duration::from_secs(30), Duration::from_secs(60)];

/// New links wait so long for the first answer: a link that has begun takes other servers only once it is connected. Asking takes
/// three round trips, to a node that may have to be dialed first (1.2 s for two addresses that are 300 ms away); most calls ring meanwhile.
const HOLD: Duration = Duration::from_secs(3);

/// Once one has answered, the others are given so long: two friends differ by a round trip or two. A server that comes later is
/// of use to links that have begun only when they restart, since the engine gives up what it has for it.
const GRACE: Duration = Duration::from_millis(500);

/// Somebody who may relay for us.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Friend {
    /// What it gave, and how long that holds.
    given: Option<Given>,
    /// Until then an answer is waited for.
    asked: Option<Instant>,
    /// Not asked before.
    not_before: Option<Instant>,
    failures: usize,
    /// It was told that it gives nothing. Once, until it gives something.
    told: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Given {
    /// When it is asked for anew: half of its life is over, so that some attempts fit into the other half.
    renew: Instant,
    until: Instant,
}

/// Whom to ask, and when.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Asker {
    friends: BTreeMap<PublicKey, Friend>,
    /// There is a call.
    wanted: bool,
    /// New links wait until then at most.
    hold_until: Option<Instant>,
}

/// What the asker wants to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Wishes {
    /// These are to be asked.
    pub ask: Vec<PublicKey>,
    /// What these gave does not hold any more.
    pub over: Vec<PublicKey>,
    /// These have given nothing in the time that a call waits for it, and nothing of theirs holds.
    pub silent: Vec<PublicKey>,
}

impl Asker {
    /// These may be asked, the first [`MAX_FRIENDS`] of them.
    pub fn new(friends: impl IntoIterator<Item = PublicKey>) -> Self {
        let friends = friends.into_iter().take(MAX_FRIENDS).map(|key| (key, Friend::default())).collect();
        Self { friends, wanted: false, hold_until: None }
    }

    /// There is a call, or none any more. Without one nobody is asked anything; what was given is kept for its life.
    pub fn set_wanted(&mut self, now: Instant, wanted: bool) {
        if wanted != self.wanted {
            self.hold_until = (wanted && !self.friends.is_empty()).then_some(now + HOLD);
        }
        self.wanted = wanted;
    }

    /// Whether new links need not wait: everybody has given something or will not soon, or they have waited long enough.
    pub fn is_settled(&self, now: Instant) -> bool {
        let waited = self.wanted && self.hold_until.is_none_or(|t| t <= now);
        waited || self.friends.values().all(|friend| friend.given.is_some() || friend.failures > 0)
    }

    /// A friend has answered. Whether that was wanted of it.
    pub fn given(&mut self, now: Instant, friend: &PublicKey, life: Duration) -> bool {
        let Some(friend) = self.friends.get_mut(friend).filter(|f| f.asked.is_some()) else { return false };
        *friend =
            Friend { given: Some(Given { renew: now + life / 2, until: now + life }), ..Friend::default() };
        self.hold_until = self.hold_until.map(|until| until.min(now + GRACE));
        true
    }

    /// Asking a friend could not even begin.
    pub fn failed(&mut self, now: Instant, friend: &PublicKey) {
        if let Some(friend) = self.friends.get_mut(friend) {
            friend.fail(now);
        }
    }

    /// When [`on_time`](Self::on_time) has something to do.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.friends.values().filter_map(|friend| friend.next(self.wanted)).chain(self.hold_until).min()
    }

    /// What is due now.
    pub fn on_time(&mut self, now: Instant) -> Wishes {
        let mut wishes = Wishes::default();
        let waited = self.hold_until.take_if(|t| *t <= now).is_some();
        for (key, friend) in &mut self.friends {
            if friend.given.take_if(|given| given.until <= now).is_some() {
                wishes.over.push(*key);
            }
            if friend.asked.is_some_and(|until| until <= now) {
                friend.fail(now);
            }
            let gives = friend.given.is_some() || (friend.asked.is_some() && !waited);
            if self.wanted && !gives && !friend.told && (waited || friend.failures > 0) {
                friend.told = true;
                wishes.silent.push(*key);
            }
            if self.wanted && friend.asks_at().is_some_and(|at| at <= now) {
                friend.asked = Some(now + PATIENCE);
                wishes.ask.push(*key);
            }
        }
        wishes
    }
}

impl Friend {
    fn fail(&mut self, now: Instant) {
        let wait = AGAIN.get(self.failures).or(AGAIN.last()).copied().unwrap_or_default();
        self.failures = (self.failures + 1).min(AGAIN.len());
        (self.asked, self.not_before) = (None, Some(now + wait));
    }

    /// When it is to be asked, if that is wanted.
    fn asks_at(&self) -> Option<Instant> {
        if self.asked.is_some() {
            return None;
        }
        let first = Instant::default();
        Some(self.given.map_or(first, |given| given.renew).max(self.not_before.unwrap_or(first)))
    }

    fn next(&self, wanted: bool) -> Option<Instant> {
        let asks = self.asks_at().filter(|_| wanted);
        [asks, self.asked, self.given.map(|given| given.until)].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Identity;

    const LIFE: Duration = Duration::from_secs(600);

    fn key(n: u8) -> PublicKey {
        Identity::from_seed([n; 32]).public()
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_micros(seconds * 1_000_000)
    }

    /// Runs until then and says when whom was asked, in seconds.
    fn run(asker: &mut Asker, from: u64, to: u64, answers: Option<Duration>) -> Vec<u64> {
        let mut asked = Vec::new();
        let mut now = at(from);
        loop {
            for friend in asker.on_time(now).ask {
                asked.push(now.since(at(0)).as_secs());
                if let Some(life) = answers {
                    assert!(asker.given(now, &friend, life));
                }
            }
            match asker.next_timeout() {
                Some(next) if next <= at(to) => {
                    assert!(next > now, "the same time again and again");
                    now = next;
                }
                _ => return asked,
            }
        }
    }

    #[test]
    fn nobody_is_asked_without_a_call() {
        let mut asker = Asker::new([key(1)]);
        assert_eq!(asker.on_time(at(1)), Wishes::default());
        assert_eq!(asker.next_timeout(), None);
        asker.set_wanted(at(0), true);
        assert_eq!(asker.on_time(at(1)).ask, [key(1)]);
        assert!(asker.on_time(at(2)).ask.is_empty(), "asked once");
    }

    #[test]
    fn a_long_call_is_served_without_a_gap() {
        let mut asker = Asker::new([key(1)]);
        asker.set_wanted(at(0), true);
        assert_eq!(run(&mut asker, 0, 3600, Some(LIFE)), (0..=12).map(|n| n * 300).collect::<Vec<_>>());
        asker.set_wanted(at(3600), false);
        assert!(run(&mut asker, 3600, 4199, Some(LIFE)).is_empty());
        assert_eq!(asker.on_time(at(4200)).over, [key(1)], "and it ends with its life");
        assert_eq!(asker.next_timeout(), None);
    }

    #[test]
    fn who_does_not_answer_is_asked_ever_less() {
        let mut asker = Asker::new([key(1)]);
        asker.set_wanted(at(0), true);
        assert_eq!(run(&mut asker, 0, 300, None), [0, 20, 50, 95, 170, 245]);
    }

    /// A friend who goes away in the middle: what it gave holds until its end, and no longer.
    #[test]
    fn what_was_given_outlives_a_friend_who_went_away() {
        let mut asker = Asker::new([key(1)]);
        asker.set_wanted(at(0), true);
        assert_eq!(asker.on_time(at(0)).ask, [key(1)]);
        assert!(asker.given(at(0), &key(1), LIFE));
        let mut over = Vec::new();
        let mut now = at(0);
        while let Some(next) = asker.next_timeout().filter(|t| *t <= at(700)) {
            now = next;
            let wishes = asker.on_time(now);
            if !wishes.over.is_empty() {
                over.push(now);
            }
        }
        assert_eq!(over, [at(600)]);
        assert!(now > at(600), "it is asked on");
    }

    #[test]
    fn answers_that_nobody_asked_for_are_not_taken() {
        let mut asker = Asker::new([key(1)]);
        assert!(!asker.given(at(0), &key(1), LIFE), "not asked");
        asker.set_wanted(at(0), true);
        asker.on_time(at(0));
        assert!(!asker.given(at(1), &key(2), LIFE), "a stranger");
        assert!(asker.given(at(1), &key(1), LIFE));
        assert!(!asker.given(at(2), &key(1), LIFE), "answered already");
    }

    #[test]
    fn links_wait_for_the_first_answer_and_not_for_ever() {
        assert!(Asker::default().is_settled(at(0)), "nobody is asked");
        let asked = |friends: &[u8]| {
            let mut asker = Asker::new(friends.iter().map(|n| key(*n)));
            assert!(!asker.is_settled(at(9)), "what is begun in this moment waits");
            asker.set_wanted(at(10), true);
            asker.set_wanted(at(11), true);
            assert_eq!(asker.on_time(at(11)).ask.len(), friends.len());
            assert!(!asker.is_settled(at(12)));
            asker
        };
        let mut answered = asked(&[1, 2]);
        assert!(answered.given(at(12), &key(2), LIFE));
        assert!(!answered.is_settled(at(12)), "the other one may be a moment later");
        assert!(answered.is_settled(at(12) + GRACE));
        assert!(answered.given(at(12), &key(1), LIFE));
        assert!(answered.is_settled(at(12)));
        let mut failed = asked(&[1, 2]);
        failed.failed(at(12), &key(1));
        assert!(!failed.is_settled(at(12)), "the other one may still answer");
        failed.failed(at(12), &key(2));
        assert!(failed.is_settled(at(12)));
        let silent = asked(&[1]);
        assert_eq!(silent.next_timeout(), Some(at(13)));
        assert!(silent.is_settled(at(13)));
    }

    #[test]
    fn a_friend_who_gives_nothing_is_told_of_once() {
        let mut asker = Asker::new([key(1), key(2)]);
        asker.set_wanted(at(0), true);
        assert_eq!(asker.on_time(at(0)).silent, []);
        assert!(asker.given(at(2), &key(2), LIFE));
        assert_eq!(asker.on_time(at(2)).silent, []);
        assert_eq!(asker.on_time(at(3)).silent, [key(1)], "calls wait no longer for it");
        for later in [15, 20, 40, 60] {
            assert_eq!(asker.on_time(at(later)).silent, []);
        }
        // The other one goes away during the call: it is told when nothing of it holds any more.
        let mut told = Vec::new();
        while let Some(next) = asker.next_timeout().filter(|t| *t <= at(1300)) {
            told.extend(
                asker.on_time(next).silent.into_iter().map(|friend| (next.since(at(0)).as_secs(), friend)),
            );
        }
        assert_eq!(told, [(602, key(2))]);
        let mut unwanted = Asker::new([key(1)]);
        unwanted.failed(at(0), &key(1));
        assert_eq!(unwanted.on_time(at(9)).silent, [], "nobody needs it");
    }

    #[test]
    fn friends_are_bounded() {
        let mut asker = Asker::new((1..=9).map(key));
        asker.set_wanted(at(0), true);
        assert_eq!(asker.on_time(at(0)).ask.len(), MAX_FRIENDS);
    }
}
