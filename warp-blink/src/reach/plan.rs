//! One attempt: which addresses to dial when, and which names to look up (RFC 8305, "happy eyeballs").
//!
//! The next address begins as soon as one has failed, or [`ReachConfig::address_delay`] after the last one began: a dead
//! address delays a live one by no more than that. IPv6 and IPv4 take turns, IPv6 first; within each the order is that
//! in which the addresses were given. Direct addresses come before those behind a relay, but only so many
//! ([`ReachConfig::direct_first`]); from then on the two take turns.
//!
//! Names are looked up at once, all of them, AAAA and A apart. What they stand for is dialed as it arrives: IPv6 at once,
//! IPv4 when the question for IPv6 is answered, or [`ReachConfig::resolution_delay`] later.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use super::{
    Address, Answers, Cause, DialId, Effect, QueryId, Question, ReachConfig, ResolveError, Tried,
    address::{Family, Lookup},
};
use crate::{id::NodeId, time::Instant};

/// The most addresses that one attempt dials: those of a reach, and eight more that names stand for. At the default
/// pace the last one begins after 4.6 s.
pub const MAX_DIALS: usize = 24;

/// The most names that one attempt looks up.
pub const MAX_NAMES: usize = 16;

/// The most answers of one kind that count for one name; the most texts of which a `/dnsaddr` may consist.
pub const MAX_ANSWERS: usize = 8;

/// How many names deep a `/dnsaddr` may lead. Default 4: the public ones of IPFS are two deep.
pub const MAX_DEPTH: u8 = 4;

/// How long a place at a relay is dialed at one address before another one of the same relay is tried, unless that fails. 1 s: three round
/// trips of a bad mobile network, which a circuit takes. Four addresses of a relay are four ways to one place, each a circuit of which a
/// relay allows few.
const SAME_PLACE: Duration = Duration::from_secs(1);

/// The prefix of a text that says what a `/dnsaddr` stands for (the multiaddress specification of `dnsaddr`).
const DNSADDR: &str = "dnsaddr=";

/// The numbers of dialings and questions, which go on from attempt to attempt.
#[derive(Clone, Debug, Default)]
pub(super) struct Numbers {
    dials: u64,
    queries: u64,
}

/// One attempt.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    node: NodeId,
    attempt: u32,
    config: ReachConfig,
    began: Instant,
    /// Every address that was taken, so that none is dialed twice.
    seen: Vec<Address>,
    waiting: Vec<Waiting>,
    /// In the order of their beginnings.
    running: BTreeMap<DialId, (Address, Instant)>,
    names: Vec<Name>,
    queries: BTreeMap<QueryId, Asked>,
    tried: Vec<Tried>,
    /// Before that, the next one begins only if one fails.
    next_at: Instant,
    /// The family that was dialed last, directly and through relays.
    last_family: [Option<Family>; 2],
    direct_begun: u32,
    /// Whether the last one that began was direct.
    last_direct: bool,
}

/// An address that has not begun.
#[derive(Clone, Debug)]
struct Waiting {
    address: Address,
    /// Its place in the order given.
    order: usize,
    /// It waits for the answer to this question, until then.
    behind: Option<(QueryId, Instant)>,
}

/// A name that is being looked up.
#[derive(Clone, Debug)]
struct Name {
    address: Address,
    order: usize,
    depth: u8,
    began: Instant,
    /// Questions without an answer.
    open: u8,
    /// Whether anything that can be dialed came of it, in this attempt or under another name.
    found: bool,
    cause: Option<Cause>,
}

#[derive(Clone, Debug)]
struct Asked {
    /// Which of the names.
    name: usize,
    /// The question for IPv6 beside this one for IPv4.
    beside: Option<QueryId>,
}

impl Plan {
    /// Begins an attempt at these addresses.
    pub(super) fn begin(
        now: Instant,
        node: NodeId,
        attempt: u32,
        config: &ReachConfig,
        numbers: &mut Numbers,
        addresses: &[String],
    ) -> (Self, Vec<Effect>) {
        let mut plan = Self {
            node,
            attempt,
            config: config.clone(),
            began: now,
            seen: Vec::new(),
            waiting: Vec::new(),
            running: BTreeMap::new(),
            names: Vec::new(),
            queries: BTreeMap::new(),
            tried: Vec::new(),
            next_at: now,
            last_family: [None; 2],
            direct_begun: 0,
            last_direct: false,
        };
        let effects = plan.add(now, numbers, addresses);
        (plan, effects)
    }

    /// Takes more addresses; those that are known already count once.
    pub(super) fn add(&mut self, now: Instant, numbers: &mut Numbers, addresses: &[String]) -> Vec<Effect> {
        let mut out = Vec::new();
        for (order, text) in addresses.iter().enumerate() {
            match Address::parse(text).and_then(|address| address.of(self.node)) {
                Ok(address) => {
                    self.take(now, address, order, None, &mut out, numbers);
                }
                Err(error) => {
                    let shown = text.chars().take(120).collect();
                    self.failed_with(shown, None, now, Cause::Invalid(error.to_string()));
                }
            }
        }
        self.go(now, numbers, &mut out);
        out
    }

    /// A question is answered.
    pub(super) fn answered(
        &mut self,
        now: Instant,
        numbers: &mut Numbers,
        query: QueryId,
        result: Result<Answers, ResolveError>,
    ) -> Vec<Effect> {
        let mut out = Vec::new();
        let Some(asked) = self.queries.remove(&query) else { return out };
        // Whoever waited for this answer waits no longer.
        for waiting in &mut self.waiting {
            waiting.behind = waiting.behind.filter(|(behind, _)| *behind != query);
        }
        let Some(Name { address, order, depth, .. }) = self.names.get(asked.name).cloned() else {
            return out;
        };
        let behind = asked.beside.filter(|q| self.queries.contains_key(q));
        let behind = behind.map(|query| (query, now + self.config.resolution_delay));
        let mut cause = None;
        let mut found = false;
        match result {
            Ok(Answers::Ip4(ips)) => {
                for ip in ips.into_iter().take(MAX_ANSWERS) {
                    let there = address.at(IpAddr::V4(ip));
                    found |= there.is_some_and(|a| self.wait(now, a, order, behind));
                }
            }
            Ok(Answers::Ip6(ips)) => {
                for ip in ips.into_iter().take(MAX_ANSWERS) {
                    let there = address.at(IpAddr::V6(ip));
                    found |= there.is_some_and(|a| self.wait(now, a, order, None));
                }
            }
            Ok(Answers::Text(texts)) => {
                let whole = texts.iter().filter_map(|text| Address::parse(text.strip_prefix(DNSADDR)?).ok());
                let whole: Vec<Address> = whole
                    .filter_map(|answer| address.stands_for(&answer)?.of(self.node).ok())
                    .take(MAX_ANSWERS)
                    .collect();
                for there in whole {
                    if there.lookup().is_some() && depth + 1 >= MAX_DEPTH {
                        cause = Some(Cause::TooDeep);
                    } else {
                        found |= self.take(now, there, order, Some(depth + 1), &mut out, numbers);
                    }
                }
            }
            Err(ResolveError::NoSuchName(said)) => cause = Some(Cause::NoSuchName(said)),
            Err(ResolveError::Failed(said)) => cause = Some(Cause::Unresolved(said)),
        }
        self.close(now, asked.name, found, cause);
        self.go(now, numbers, &mut out);
        out
    }

    /// A dialing failed. `None`: it is none of this attempt.
    pub(super) fn failed(
        &mut self,
        now: Instant,
        numbers: &mut Numbers,
        dial: DialId,
        cause: String,
    ) -> Option<Vec<Effect>> {
        let (address, began) = self.running.remove(&dial)?;
        self.failed_with(address.to_string(), Some(began), now, Cause::Refused(cause));
        self.next_at = now;
        let mut out = Vec::new();
        self.go(now, numbers, &mut out);
        Some(out)
    }

    /// [`next_timeout`](Self::next_timeout) has come.
    pub(super) fn on_time(&mut self, now: Instant, numbers: &mut Numbers) -> Vec<Effect> {
        let mut out = Vec::new();
        let limit = self.config.resolve_timeout;
        let late = |name: &Name| now >= name.began + limit;
        let due: Vec<QueryId> = self
            .queries
            .iter()
            .filter(|(_, asked)| self.names.get(asked.name).is_some_and(late))
            .map(|(query, _)| *query)
            .collect();
        for query in due {
            let said = format!("no answer within {limit:?}");
            out.extend(self.answered(now, numbers, query, Err(ResolveError::Failed(said))));
        }
        self.go(now, numbers, &mut out);
        out
    }

    /// When something is to be done without anything happening.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let looking = self.queries.values().filter_map(|asked| self.names.get(asked.name));
        let late = looking.map(|name| name.began + self.config.resolve_timeout).min();
        let next = self.waiting.iter().map(|waiting| self.ready_at(waiting).max(self.next_at)).min();
        late.into_iter().chain(next).min()
    }

    /// Whether nothing runs and nothing waits: the attempt has failed.
    pub(super) fn is_over(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty() && self.queries.is_empty()
    }

    /// What is being dialed, in the order of the beginnings.
    pub(super) fn running(&self) -> impl Iterator<Item = (DialId, &Address)> {
        self.running.iter().map(|(dial, (address, _))| (*dial, address))
    }

    /// Whether this dialing leads through a relay. `None`: it is none of this attempt.
    pub(super) fn is_relayed(&self, dial: DialId) -> Option<bool> {
        self.running.get(&dial).map(|(address, _)| address.is_relayed())
    }

    pub(super) fn asks(&self, query: QueryId) -> bool {
        self.queries.contains_key(&query)
    }

    /// Ends it before its time: everything that has not failed has taken too long.
    pub(super) fn time_out(&mut self, now: Instant) -> Vec<Effect> {
        let aborted = self.running.keys().map(|dial| Effect::Abort { dial: *dial }).collect();
        for (address, began) in std::mem::take(&mut self.running).into_values() {
            self.failed_with(address.to_string(), Some(began), now, Cause::TimedOut);
        }
        for waiting in std::mem::take(&mut self.waiting) {
            self.failed_with(waiting.address.to_string(), None, now, Cause::TimedOut);
        }
        for query in std::mem::take(&mut self.queries).into_values() {
            self.close(now, query.name, false, Some(Cause::TimedOut));
        }
        aborted
    }

    /// What was tried in vain.
    pub(super) fn into_tried(self) -> Vec<Tried> {
        self.tried
    }

    /// Takes an address, or the questions for its name. `false`: it is dialed no more than before.
    fn take(
        &mut self,
        now: Instant,
        address: Address,
        order: usize,
        depth: Option<u8>,
        out: &mut Vec<Effect>,
        numbers: &mut Numbers,
    ) -> bool {
        let Some((name, lookup)) = address.lookup() else { return self.wait(now, address, order, None) };
        let questions = match lookup {
            // First the one whose answers are dialed first (RFC 8305, section 3).
            Lookup::Both => vec![Question::Ip6(name.to_owned()), Question::Ip4(name.to_owned())],
            Lookup::Ip4 => vec![Question::Ip4(name.to_owned())],
            Lookup::Ip6 => vec![Question::Ip6(name.to_owned())],
            Lookup::Addresses => vec![Question::Text(format!("_dnsaddr.{name}"))],
        };
        // What a `/dnsaddr` stands for may yet be behind a relay.
        if self.forbidden(&address) && lookup != Lookup::Addresses {
            return self.refuse(now, &address, Cause::RelayOnly);
        }
        // It is looked up once; one that stands for itself stands for nothing.
        if self.names.iter().any(|known| known.address == address) {
            return false;
        }
        if self.names.len() >= MAX_NAMES {
            return self.refuse(now, &address, Cause::TooMany);
        }
        let open = u8::try_from(questions.len()).unwrap_or(u8::MAX);
        let (name, depth) = (self.names.len(), depth.unwrap_or(0));
        self.names.push(Name { address, order, depth, began: now, open, found: false, cause: None });
        let mut beside = None;
        for question in questions {
            let query = QueryId(numbers.queries);
            numbers.queries += 1;
            self.queries.insert(query, Asked { name, beside });
            beside = Some(query);
            out.push(Effect::Resolve { query, question });
        }
        true
    }

    /// Puts an address where it waits for its turn.
    fn wait(
        &mut self,
        now: Instant,
        address: Address,
        order: usize,
        behind: Option<(QueryId, Instant)>,
    ) -> bool {
        if self.seen.contains(&address) {
            return true;
        }
        if self.forbidden(&address) {
            return self.refuse(now, &address, Cause::RelayOnly);
        }
        if self.seen.len() >= MAX_DIALS {
            return self.refuse(now, &address, Cause::TooMany);
        }
        self.seen.push(address.clone());
        self.waiting.push(Waiting { address, order, behind });
        true
    }

    fn forbidden(&self, address: &Address) -> bool {
        self.config.relay_only && !address.is_relayed()
    }

    /// It is not dialed, and that is said once. `true`: nobody need say it again.
    fn refuse(&mut self, now: Instant, address: &Address, cause: Cause) -> bool {
        let text = address.to_string();
        if !self.tried.iter().any(|tried| tried.address == text) {
            self.failed_with(text, None, now, cause);
        }
        true
    }

    /// One question for a name is done. After the last one the name has failed, if nothing came of it.
    fn close(&mut self, now: Instant, name: usize, found: bool, cause: Option<Cause>) {
        let Some(name) = self.names.get_mut(name) else { return };
        name.open = name.open.saturating_sub(1);
        name.found |= found;
        // What may pass counts more than what is certain: the other half of the name may come back.
        if name.cause.as_ref().is_none_or(Cause::is_final) {
            name.cause = cause.or(name.cause.take());
        }
        if name.open == 0 && !name.found {
            let (text, began) = (name.address.to_string(), name.began);
            let cause = name.cause.take().unwrap_or(Cause::NoAddress);
            self.failed_with(text, Some(began), now, cause);
        }
    }

    /// Remembers a failure. What is remembered of one attempt is bounded by what it dials, looks up and is given.
    fn failed_with(&mut self, address: String, began: Option<Instant>, ended: Instant, cause: Cause) {
        let most = 2 * (MAX_DIALS + MAX_NAMES);
        if self.tried.len() < most {
            self.tried.push(Tried { address, attempt: self.attempt, began, ended, cause });
        }
    }

    /// Begins whatever may begin now.
    fn go(&mut self, now: Instant, numbers: &mut Numbers, out: &mut Vec<Effect>) {
        while now >= self.next_at
            && let Some(next) = self.pick(now)
        {
            let Waiting { address, .. } = self.waiting.remove(next);
            let dial = DialId(numbers.dials);
            numbers.dials += 1;
            self.last_direct = !address.is_relayed();
            self.direct_begun += u32::from(self.last_direct);
            if let Some(last) = self.last_family.get_mut(usize::from(!self.last_direct)) {
                *last = address.host().family();
            }
            self.next_at = now + self.config.address_delay;
            out.push(Effect::Dial { dial, attempt: self.attempt, address: address.clone() });
            self.running.insert(dial, (address, now));
        }
    }

    /// Who is next of those that wait.
    fn pick(&self, now: Instant) -> Option<usize> {
        let ready = |relayed: bool| {
            let last = self.last_family[usize::from(relayed)];
            let of_class = self.waiting.iter().enumerate().filter(move |(_, waiting)| {
                waiting.address.is_relayed() == relayed && self.ready_at(waiting) <= now
            });
            // The family whose turn it is, then the order given.
            of_class.min_by_key(|(_, waiting)| {
                let family = waiting.address.host().family().unwrap_or(Family::V4);
                (last.map_or(family == Family::V4, |last| family == last), waiting.order)
            })
        };
        let (direct, relayed) = (ready(false), ready(true));
        let relay_turn = self.last_direct && self.direct_begun >= self.config.direct_first;
        let next = if relay_turn { relayed.or(direct) } else { direct.or(relayed) };
        next.map(|(index, _)| index)
    }

    /// When this one may begin at the earliest, but for those before it.
    fn ready_at(&self, waiting: &Waiting) -> Instant {
        let alone = !waiting.address.is_relayed() || !self.direct_is_left();
        let relays = self.began + self.config.address_delay.saturating_mul(self.config.direct_first);
        let mut earliest = if alone { Instant::default() } else { relays };
        if let Some(relay) = waiting.address.relay() {
            let same = self.running.values().filter(|(address, _)| address.relay() == Some(relay));
            let last = same.map(|(_, began)| *began + SAME_PLACE).max();
            earliest = last.map_or(earliest, |last| last.max(earliest));
        }
        waiting.behind.map_or(earliest, |(_, until)| until.max(earliest))
    }

    /// Whether something direct waits, or may yet come of a name.
    fn direct_is_left(&self) -> bool {
        self.waiting.iter().any(|waiting| !waiting.address.is_relayed())
            || self.names.iter().any(|name| name.open > 0 && !name.address.is_relayed())
    }

    /// What always holds. For tests.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        if self.seen.len() > MAX_DIALS || self.names.len() > MAX_NAMES {
            return Err("an attempt is bounded");
        }
        if self.running.len() + self.waiting.len() > self.seen.len() {
            return Err("what runs and waits was taken");
        }
        if self.queries.len() > 2 * MAX_NAMES {
            return Err("questions are bounded");
        }
        let open: usize = self.names.iter().map(|name| usize::from(name.open)).sum();
        if open != self.queries.len() {
            return Err("each open question is known");
        }
        if self.config.relay_only && self.running.values().any(|(address, _)| !address.is_relayed()) {
            return Err("only relays are dialed");
        }
        if self.config.address_delay > Duration::from_millis(250) {
            return Err("an address waits for another one 250 ms at most");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
