//! What somebody who relays for friends grants, to whom, for how long and how much.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{id::PublicKey, proto::signal::MAX_TURN_LIFE, time::Instant};

/// The most credentials that hold at a time. A friend in a call has two, the old and the new.
pub const MAX_GRANTS: usize = 1024;

/// The most people whose use is counted: half as many as grants.
pub const MAX_USERS: usize = 512;

/// The most credentials of one user that hold at a time; the oldest is forgotten. Two for each of two devices.
const MAX_GRANTS_EACH: usize = 4;

/// Whom credentials were given to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum User {
    /// Somebody who asked in a session.
    Friend(PublicKey),
    /// Somebody whom the holder of the shared secret named.
    Named(String),
}

/// How much is granted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TurnLimits {
    /// How long credentials hold. Default and most 10 minutes: PROTOCOL's, and the default life of an allocation (RFC 8656
    /// section 3.2). They are asked for anew while a call lives.
    pub life: Duration,
    /// Allocations of one user at a time. Default 32: a connection makes two, over UDP and TCP, for each address of a machine, of which
    /// there are one to three, and twice as many while it looks for another path, so a call between two needs 2 to 12; one of sixteen from
    /// a machine with one address 30.
    pub allocations_each: usize,
    /// Allocations of all at a time. Default 256: each holds a socket and about 10 kB, one over TCP two sockets and 74 kB at most.
    pub allocations: usize,
    /// Bytes relayed for one user within [`window`](Self::window), in both directions. Default 1 GiB: sound of 40 kb/s with
    /// its headers is 7.5 kB/s each way, so 20 hours of it.
    pub bytes_each: u64,
    /// Bytes relayed for all within [`window`](Self::window). Default 16 GiB: half a terabyte a month, what small rented
    /// servers include.
    pub bytes: u64,
    /// After that long counting begins anew. Default 24 h.
    pub window: Duration,
}

impl TurnLimits {
    /// The longest life of credentials.
    pub const MAX_LIFE: Duration = MAX_TURN_LIFE;

    /// Other bytes for each user, and for all.
    pub fn with_bytes(mut self, each: u64, all: u64) -> Self {
        (self.bytes_each, self.bytes) = (each, all);
        self
    }

    /// Other numbers of allocations for each user, and for all.
    pub fn with_allocations(mut self, each: usize, all: usize) -> Self {
        (self.allocations_each, self.allocations) = (each, all);
        self
    }

    /// Another life of credentials, [`MAX_LIFE`](Self::MAX_LIFE) at most and a second at least, which is how it is told.
    pub fn with_life(mut self, life: Duration) -> Self {
        self.life = life.clamp(Duration::from_secs(1), Self::MAX_LIFE);
        self
    }
}

impl Default for TurnLimits {
    fn default() -> Self {
        Self {
            life: Self::MAX_LIFE,
            allocations_each: 32,
            allocations: 256,
            bytes_each: 1 << 30,
            bytes: 16 << 30,
            window: Duration::from_secs(24 * 3600),
        }
    }
}

/// Why nothing is granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// The credentials do not hold.
    #[error("the credentials do not hold (any more)")]
    Expired,
    /// As many credentials or users as are kept.
    #[error("as many people as are served at once are served")]
    Crowded,
    /// As many allocations of this user, or of all, as there may be.
    #[error("there are as many allocations as may be")]
    Allocations,
    /// As many bytes for this user, or for all, as are relayed in the time.
    #[error("as many bytes as are relayed within the time have been")]
    Bytes,
}

#[derive(Clone, Debug, PartialEq)]
struct Grant {
    user: User,
    until: Instant,
}

/// What somebody has used.
#[derive(Clone, Debug, PartialEq)]
struct Used {
    since: Instant,
    bytes: u64,
    allocations: usize,
}

/// Who relays for friends: grants, and what is used of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Office {
    limits: TurnLimits,
    /// By the name under which the user shows them.
    grants: BTreeMap<String, Grant>,
    users: BTreeMap<User, Used>,
    all: Used,
}

impl Office {
    /// One that grants this much.
    pub fn new(limits: TurnLimits) -> Self {
        let all = Used { since: Instant::default(), bytes: 0, allocations: 0 };
        Self { limits, grants: BTreeMap::new(), users: BTreeMap::new(), all }
    }

    /// How much is granted.
    pub const fn limits(&self) -> &TurnLimits {
        &self.limits
    }

    /// Credentials under this name for somebody, for this long and [`TurnLimits::life`] at most. Says for how long they hold.
    ///
    /// # Errors
    /// [`Refused::Crowded`], [`Refused::Bytes`].
    pub fn grant(
        &mut self,
        now: Instant,
        name: &str,
        user: User,
        left: Duration,
    ) -> Result<Duration, Refused> {
        self.forget(now);
        self.has_bytes(&user)?;
        let life = left.min(self.limits.life);
        let of_user = |g: &&Grant| g.user == user;
        if self.grants.values().filter(of_user).count() >= MAX_GRANTS_EACH
            && let Some((oldest, _)) =
                self.grants.iter().filter(|(_, g)| g.user == user).min_by_key(|(_, g)| g.until)
        {
            let oldest = oldest.clone();
            self.grants.remove(&oldest);
        }
        let known = self.users.contains_key(&user);
        if self.grants.len() >= MAX_GRANTS || (!known && self.users.len() >= MAX_USERS) {
            return Err(Refused::Crowded);
        }
        self.users.entry(user.clone()).or_insert(Used { since: now, bytes: 0, allocations: 0 });
        self.grants.insert(name.to_owned(), Grant { user, until: now + life });
        Ok(life)
    }

    /// Whose name that is, if what is asked under it may be done: something new needs credentials that hold; what there is
    /// already (`has_allocation`) goes on as long as its user has any that do.
    ///
    /// # Errors
    /// [`Refused::Expired`].
    pub fn admits(&self, now: Instant, name: &str, has_allocation: bool) -> Result<&User, Refused> {
        let grant = self.grants.get(name).ok_or(Refused::Expired)?;
        let holds = grant.until > now || (has_allocation && self.is_vouched_for(now, &grant.user));
        if holds { Ok(&grant.user) } else { Err(Refused::Expired) }
    }

    /// Whether a user has any credentials that hold.
    pub fn is_vouched_for(&self, now: Instant, user: &User) -> bool {
        self.grants.values().any(|g| g.user == *user && g.until > now)
    }

    /// One more allocation for a user. Each that was granted is [released](Self::release) once.
    ///
    /// # Errors
    /// [`Refused::Allocations`], [`Refused::Bytes`]; [`Refused::Expired`] for a user without credentials that hold.
    pub fn allocate(&mut self, now: Instant, user: &User) -> Result<(), Refused> {
        self.forget(now);
        if !self.is_vouched_for(now, user) {
            return Err(Refused::Expired);
        }
        self.has_bytes(user)?;
        let used = self.users.get_mut(user).ok_or(Refused::Expired)?;
        if used.allocations >= self.limits.allocations_each || self.all.allocations >= self.limits.allocations
        {
            return Err(Refused::Allocations);
        }
        used.allocations += 1;
        self.all.allocations += 1;
        Ok(())
    }

    /// An allocation of a user is gone.
    pub fn release(&mut self, user: &User) {
        if let Some(used) = self.users.get_mut(user).filter(|used| used.allocations > 0) {
            used.allocations -= 1;
            self.all.allocations -= 1;
        }
    }

    /// Whether so many bytes more are relayed for a user. Counts them if so.
    pub fn relays(&mut self, now: Instant, user: &User, bytes: usize) -> bool {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let Some(used) = self.users.get_mut(user) else { return false };
        used.begin_anew(now, self.limits.window);
        self.all.begin_anew(now, self.limits.window);
        let (each, all) = (used.bytes.saturating_add(bytes), self.all.bytes.saturating_add(bytes));
        // What is too much stays counted as all that there is, so that nothing smaller passes behind it.
        (used.bytes, self.all.bytes) = (each.min(self.limits.bytes_each.saturating_add(1)), all);
        each <= self.limits.bytes_each && all <= self.limits.bytes
    }

    /// Whether a user's allocations may go on: its credentials hold, or newer ones do, and there are bytes left.
    pub fn goes_on(&self, now: Instant, user: &User) -> Result<(), Refused> {
        if !self.is_vouched_for(now, user) {
            return Err(Refused::Expired);
        }
        self.has_bytes(user)
    }

    /// Allocations and bytes of all since counting began.
    pub const fn used(&self) -> (usize, u64) {
        (self.all.allocations, self.all.bytes)
    }

    fn has_bytes(&self, user: &User) -> Result<(), Refused> {
        let each = self.users.get(user).map_or(0, |used| used.bytes);
        if each > self.limits.bytes_each || self.all.bytes > self.limits.bytes {
            return Err(Refused::Bytes);
        }
        Ok(())
    }

    /// Drops what says nothing any more: names of users who have none that holds, and counts that begin anew.
    fn forget(&mut self, now: Instant) {
        let window = self.limits.window;
        self.all.begin_anew(now, window);
        self.users.values_mut().for_each(|used| used.begin_anew(now, window));
        let mut vouched: Vec<User> =
            self.grants.values().filter(|g| g.until > now).map(|g| g.user.clone()).collect();
        vouched.sort_unstable();
        vouched.dedup();
        self.grants.retain(|_, g| vouched.binary_search(&g.user).is_ok());
        self.users.retain(|user, used| {
            used.allocations > 0 || used.bytes > 0 || vouched.binary_search(user).is_ok()
        });
    }
}

impl Used {
    fn begin_anew(&mut self, now: Instant, window: Duration) {
        if now.since(self.since) >= window {
            (self.since, self.bytes) = (now, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Identity;

    const LIFE: Duration = Duration::from_secs(600);

    fn at(seconds: u64) -> Instant {
        Instant::from_micros(1_000_000_000 + seconds * 1_000_000)
    }

    fn friend(n: u8) -> User {
        User::Friend(Identity::from_seed([n; 32]).public())
    }

    fn office(limits: TurnLimits) -> Office {
        let mut office = Office::new(limits);
        assert_eq!(office.grant(at(0), "one", friend(1), LIFE), Ok(LIFE));
        office
    }

    #[test]
    fn nothing_holds_longer_than_ten_minutes() {
        assert_eq!(TurnLimits::default().with_life(Duration::from_secs(3600)).life, LIFE);
        let mut office = office(TurnLimits::default());
        let day = Duration::from_secs(86_400);
        assert_eq!(office.grant(at(0), "day", User::Named("day".to_owned()), day), Ok(LIFE));
        assert!(office.admits(at(599), "one", false).is_ok());
        assert_eq!(office.admits(at(600), "one", false), Err(Refused::Expired));
        assert_eq!(office.admits(at(1), "two", false), Err(Refused::Expired), "never granted");
    }

    /// What a call has goes on while it asks on, under the name of its beginning; a new allocation needs a name that holds.
    #[test]
    fn an_allocation_goes_on_as_long_as_its_user_asks_for_more() {
        let mut office = office(TurnLimits::default());
        assert_eq!(office.allocate(at(0), &friend(1)), Ok(()));
        assert_eq!(office.grant(at(300), "two", friend(1), LIFE), Ok(LIFE));
        assert_eq!(office.goes_on(at(899), &friend(1)), Ok(()));
        assert_eq!(office.admits(at(899), "one", true), Ok(&friend(1)));
        assert_eq!(office.admits(at(899), "one", false), Err(Refused::Expired));
        assert_eq!(office.goes_on(at(900), &friend(1)), Err(Refused::Expired));
        assert_eq!(office.admits(at(900), "one", true), Err(Refused::Expired));
    }

    #[test]
    fn allocations_are_bounded_for_each_and_for_all() {
        let mut office = office(TurnLimits::default().with_allocations(2, 3));
        office.grant(at(0), "other", friend(2), LIFE).unwrap();
        assert_eq!(office.allocate(at(1), &friend(1)), Ok(()));
        assert_eq!(office.allocate(at(1), &friend(1)), Ok(()));
        assert_eq!(office.allocate(at(1), &friend(1)), Err(Refused::Allocations));
        assert_eq!(office.allocate(at(1), &friend(2)), Ok(()));
        assert_eq!(office.allocate(at(1), &friend(2)), Err(Refused::Allocations), "of all");
        office.release(&friend(1));
        assert_eq!(office.allocate(at(1), &friend(2)), Ok(()));
        assert_eq!(office.allocate(at(1), &friend(3)), Err(Refused::Expired), "a stranger");
        for _ in 0..9 {
            office.release(&friend(3));
            office.release(&friend(1));
        }
        assert_eq!(office.used().0, 2, "what is not there is not released");
    }

    #[test]
    fn bytes_are_bounded_for_each_and_for_all_and_come_back_with_time() {
        let mut office = office(TurnLimits::default().with_bytes(1000, 1500));
        office.grant(at(0), "other", friend(2), LIFE).unwrap();
        assert!(office.relays(at(1), &friend(1), 1000));
        assert!(!office.relays(at(1), &friend(1), 1));
        assert!(!office.relays(at(1), &friend(1), 0), "and so it stays");
        assert_eq!(office.goes_on(at(1), &friend(1)), Err(Refused::Bytes));
        assert_eq!(office.goes_on(at(1), &friend(2)), Ok(()));
        assert_eq!(office.allocate(at(1), &friend(1)), Err(Refused::Bytes));
        assert_eq!(office.grant(at(1), "more", friend(1), LIFE), Err(Refused::Bytes));
        assert!(office.relays(at(1), &friend(2), 499));
        assert!(!office.relays(at(1), &friend(2), 1), "of all");
        assert!(!office.relays(at(1), &friend(3), 1), "a stranger");
        let day = 86_400;
        assert_eq!(office.grant(at(day), "again", friend(1), LIFE), Ok(LIFE));
        assert!(office.relays(at(day + 1), &friend(1), 1000));
    }

    /// Whoever is used up cannot begin anew by asking again, and by letting what they had expire.
    #[test]
    fn what_was_used_is_not_forgotten_with_the_credentials() {
        let mut office = office(TurnLimits::default().with_bytes(1000, 5000));
        assert!(!office.relays(at(1), &friend(1), 1001));
        for n in 0..20 {
            assert_eq!(office.grant(at(700 + n * 700), "again", friend(1), LIFE), Err(Refused::Bytes));
        }
    }

    #[test]
    fn grants_and_users_are_bounded() {
        let mut office = Office::new(TurnLimits::default());
        for n in 0..10 {
            office.grant(at(n), &format!("of one {n}"), friend(1), LIFE).unwrap();
        }
        let held = (0..10).filter(|n| office.admits(at(10), &format!("of one {n}"), false).is_ok()).count();
        assert_eq!(held, MAX_GRANTS_EACH);
        assert!(office.admits(at(10), "of one 9", false).is_ok(), "the newest");
        let mut refused = 0;
        for n in 0..2 * MAX_USERS {
            let name = n.to_string();
            refused += usize::from(office.grant(at(11), &name, User::Named(name.clone()), LIFE).is_err());
        }
        assert_eq!(refused, MAX_USERS + 1);
        assert!(office.grants.len() <= MAX_GRANTS && office.users.len() == MAX_USERS);
        assert_eq!(office.grant(at(700), "later", friend(2), LIFE), Ok(LIFE), "those before are gone");
        assert_eq!(office.grants.len(), 1);
    }
}
