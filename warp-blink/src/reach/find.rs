//! Where to look for somebody, in what order and how often; and when to tell others where this node is.
//!
//! What is known already is tried first, since that asks nobody: addresses that the app gave, then those remembered from
//! earlier. The local network is asked at once (mDNS). Nodes far away are asked when nothing is known, when everything that
//! is known has failed, or when it has not worked for [`FindConfig::ask_after`]: each question shows to those who are
//! asked who looks for whom. They are asked for the signed record and for the addresses of the PeerId at the same time.
//!
//! Nothing that is found is believed: addresses are tried, and libp2p's handshake proves who lives there. A record is checked
//! before it comes here; the highest number that was seen of somebody's records counts, older ones fall. Each source has a
//! switch ([`FindConfig`]).

mod config;
mod own;
mod types;

use std::collections::BTreeMap;

use self::own::Own;
pub use self::{
    config::FindConfig,
    own::{Device, OwnRecord},
    types::{FindEffect, FindInput, FindRejected, Found, LookupId, OwnSeen, Seen, Source},
};
use super::{Address, Addresses, Jitter, MAX_REACH_ADDRESSES, Place};
use crate::{
    event::Findable,
    id::{NodeId, PublicKey},
    time::Instant,
};

/// Nodes that are asked of which is kept where they are: more than any user names.
const MAX_THROUGH: usize = 64;

/// The most people who are looked for at the same time: as many as there are calls.
pub const MAX_SOUGHT: usize = 64;

/// The most questions that are open at the same time. Default 32: a Kademlia query keeps three others busy.
pub const MAX_LOOKUPS: usize = 32;

/// The most people of whose records the number is remembered. At the bound the one seen longest ago goes.
pub const MAX_REMEMBERED: usize = 4096;

/// Looks for people, and says when to publish the own record. Nothing that is found is believed before it is tried.
#[derive(Clone, Debug)]
pub struct Finder {
    config: FindConfig,
    /// Where the nodes that are asked were reached.
    through: BTreeMap<NodeId, Place>,
    sought: BTreeMap<PublicKey, Sought>,
    lookups: BTreeMap<LookupId, Lookup>,
    next_lookup: u64,
    /// The highest number of somebody's records, and when one was seen last.
    numbers: BTreeMap<PublicKey, (u64, Instant)>,
    own: Own,
    ignored: u64,
}

#[derive(Clone, Debug)]
struct Sought {
    node: NodeId,
    /// When nodes far away are asked; `None` while they are, or if none ever is.
    ask_at: Option<Instant>,
    /// Its turn has come, and there was no room.
    waits: bool,
    /// How often they were asked in vain.
    rounds: u32,
}

#[derive(Clone, Copy, Debug)]
struct Lookup {
    who: PublicKey,
    source: Source,
    until: Instant,
}

impl Finder {
    /// One that looks for nobody. `last` is the number of the own record that was published last, in any run.
    pub fn new(config: FindConfig, last: u64) -> Self {
        Self {
            own: Own::new(last),
            config,
            through: BTreeMap::new(),
            sought: BTreeMap::new(),
            lookups: BTreeMap::new(),
            next_lookup: 0,
            numbers: BTreeMap::new(),
            ignored: 0,
        }
    }

    /// The number of somebody's record that an earlier run has seen.
    pub fn remember(&mut self, now: Instant, who: PublicKey, number: u64) {
        let highest = self.numbers.get(&who).map_or(0, |(highest, _)| *highest).max(number);
        self.numbers.insert(who, (highest, now));
        while self.numbers.len() > MAX_REMEMBERED {
            let oldest = self.numbers.iter().min_by_key(|(_, (_, seen))| *seen).map(|(who, _)| *who);
            self.numbers.retain(|who, _| Some(*who) != oldest);
        }
    }

    /// The highest number of somebody's records.
    pub fn highest(&self, who: &PublicKey) -> Option<u64> {
        self.numbers.get(who).map(|(highest, _)| *highest)
    }

    /// The highest numbers of all whose records were seen: to be stored.
    pub fn numbers(&self) -> impl Iterator<Item = (PublicKey, u64)> {
        self.numbers.iter().map(|(who, (number, _))| (*who, *number))
    }

    /// The number of the own record that was published last: to be stored.
    pub fn own_sequence(&self) -> u64 {
        self.own.sequence()
    }

    /// Whether others find this identity by its key.
    pub fn findable(&self) -> Findable {
        self.own.findable()
    }

    /// Answers that came too late or were too old.
    pub fn ignored(&self) -> u64 {
        self.ignored
    }

    /// When [`FindInput::Timeout`] is due.
    pub fn next_timeout(&self) -> Option<Instant> {
        let asks = self.sought.values().filter(|sought| !sought.waits).filter_map(|sought| sought.ask_at);
        let ends = self.lookups.values().map(|lookup| lookup.until);
        asks.chain(ends).chain(self.own.next_timeout()).min()
    }

    /// One step.
    ///
    /// # Errors
    /// [`FindRejected`] for a command; nothing has changed then.
    pub fn handle(&mut self, now: Instant, input: FindInput) -> Result<Vec<FindEffect>, FindRejected> {
        let mut out = Vec::new();
        match input {
            FindInput::Look { who, node, given, remembered } => {
                self.look(now, who, node, given, remembered, &mut out)?;
            }
            FindInput::Stop { who } => {
                if self.sought.remove(&who).is_some() {
                    self.cancel(&mut out, |lookup| lookup.who == who);
                }
            }
            FindInput::Missed { who } => {
                let idle = !self.lookups.values().any(|lookup| lookup.who == who && lookup.source.is_far());
                if let Some(sought) = self.sought.get_mut(&who)
                    // After questions that found nothing, the pause counts.
                    && sought.rounds == 0
                    && idle
                    && self.config.asks_far()
                {
                    sought.ask_at = Some(now);
                }
            }
            FindInput::Answered { lookup, found, jitter } => match self.lookups.remove(&lookup) {
                Some(done) => self.answered(now, done, found, jitter, &mut out),
                None => self.ignored += 1,
            },
            FindInput::Seen(seen) => self.seen(seen, &mut out),
            FindInput::Through { node, place } => {
                // A name says nothing of the place.
                self.through.insert(node, place.min(Place::Public));
                while self.through.len() > MAX_THROUGH {
                    self.through.pop_first();
                }
                self.config.nearest = self.through.values().copied().max().unwrap_or(place);
                // It may have forgotten what was stored there, if it ever had it.
                self.own.look_soon(now, &self.config);
            }
            FindInput::Own { addresses, wall } => {
                if self.config.publish {
                    let addresses = self.config.publishable(&addresses);
                    self.own.changed(now, &self.config, addresses);
                    out.extend(self.own.on_time(now, wall, &self.config));
                }
            }
            FindInput::OwnSeen { seen, jitter } => self.own.seen(now, &self.config, seen, jitter),
            FindInput::Published { sequence, stored, jitter } => {
                self.own.published(now, &self.config, sequence, stored, jitter);
            }
            FindInput::Timeout { wall, jitter } => {
                let late: Vec<LookupId> =
                    self.lookups.iter().filter(|(_, l)| l.until <= now).map(|(id, _)| *id).collect();
                for id in late {
                    if let Some(done) = self.lookups.remove(&id) {
                        out.push(FindEffect::Cancel { lookup: id });
                        self.answered(now, done, None, jitter, &mut out);
                    }
                }
                out.extend(self.own.on_time(now, wall, &self.config));
            }
        }
        self.ask(now, &mut out);
        Ok(out)
    }

    fn look(
        &mut self,
        now: Instant,
        who: PublicKey,
        node: NodeId,
        given: Addresses,
        remembered: Addresses,
        out: &mut Vec<FindEffect>,
    ) -> Result<(), FindRejected> {
        let is_new = !self.sought.contains_key(&who);
        if is_new && self.sought.len() >= MAX_SOUGHT {
            return Err(FindRejected::TooMany);
        }
        let known = !given.0.is_empty() || !remembered.0.is_empty();
        for (source, addresses) in [(Source::Given, given), (Source::Remembered, remembered)] {
            tell(out, who, node, source, addresses);
        }
        if !is_new {
            return Ok(());
        }
        let ask_at = if known { now + self.config.ask_after } else { now };
        let ask_at = Some(ask_at).filter(|_| self.config.asks_far());
        self.sought.insert(who, Sought { node, ask_at, waits: false, rounds: 0 });
        if self.config.asks_near() {
            self.begin(now, who, node, Source::Mdns, out);
        }
        Ok(())
    }

    /// Asks for those whose turn it is, as far as there is room.
    fn ask(&mut self, now: Instant, out: &mut Vec<FindEffect>) {
        // Who has waited longest, first.
        let mut due: Vec<(Instant, PublicKey, NodeId)> = self
            .sought
            .iter()
            .filter_map(|(who, sought)| Some((sought.ask_at?, *who, sought.node)))
            .filter(|(at, ..)| *at <= now)
            .collect();
        due.sort_unstable();
        for (_, who, node) in due {
            let room = self.lookups.len() + self.config.far().count() <= MAX_LOOKUPS;
            if let Some(sought) = self.sought.get_mut(&who) {
                sought.waits = !room;
                if room {
                    sought.ask_at = None;
                }
            }
            if room {
                for source in self.config.far() {
                    self.begin(now, who, node, source, out);
                }
            }
        }
    }

    fn begin(
        &mut self,
        now: Instant,
        who: PublicKey,
        node: NodeId,
        source: Source,
        out: &mut Vec<FindEffect>,
    ) {
        if self.lookups.len() >= MAX_LOOKUPS {
            return;
        }
        let id = LookupId(self.next_lookup);
        self.next_lookup += 1;
        self.lookups.insert(id, Lookup { who, source, until: now + self.config.lookup_timeout });
        out.push(FindEffect::Lookup { lookup: id, source, who, node });
    }

    fn answered(
        &mut self,
        now: Instant,
        done: Lookup,
        found: Option<Found>,
        jitter: Jitter,
        out: &mut Vec<FindEffect>,
    ) {
        let Lookup { who, source, .. } = done;
        let newest = match found.as_ref().and_then(|found| found.sequence) {
            Some(number) if self.highest(&who).is_some_and(|highest| highest > number) => false,
            Some(number) => {
                self.remember(now, who, number);
                true
            }
            None => true,
        };
        if !newest {
            self.ignored += 1;
        }
        let Some(sought) = self.sought.get(&who) else { return };
        let own = sought.node;
        for (node, addresses) in found.into_iter().filter(|_| newest).flat_map(|found| found.nodes) {
            // Only a record says that somebody is at another node.
            if node == own || source == Source::Record {
                tell(out, who, node, source, addresses);
            }
        }
        let open = self.lookups.values().any(|lookup| lookup.who == who && lookup.source.is_far());
        if source.is_far()
            && !open
            && let Some(sought) = self.sought.get_mut(&who)
        {
            // As long as somebody is looked for, what was found has not worked.
            sought.rounds += 1;
            sought.ask_at = Some(now + self.config.pause(sought.rounds, jitter));
        }
    }

    fn seen(&mut self, seen: Seen, out: &mut Vec<FindEffect>) {
        let Seen { node, addresses } = seen;
        let who = self.sought.iter().find(|(_, sought)| sought.node == node).map(|(who, _)| *who);
        match who {
            Some(who) if self.config.asks_near() => tell(out, who, node, Source::Mdns, addresses),
            _ => self.ignored += 1,
        }
    }

    fn cancel(&mut self, out: &mut Vec<FindEffect>, which: impl Fn(&Lookup) -> bool) {
        for (lookup, _) in self.lookups.extract_if(.., |_, lookup| which(lookup)) {
            out.push(FindEffect::Cancel { lookup });
        }
    }

    /// What always holds. For tests.
    ///
    /// # Errors
    /// What does not hold.
    #[doc(hidden)]
    pub fn check(&self) -> Result<(), &'static str> {
        if self.sought.len() > MAX_SOUGHT || self.lookups.len() > MAX_LOOKUPS {
            return Err("what is looked for is bounded");
        }
        if self.numbers.len() > MAX_REMEMBERED {
            return Err("the numbers are bounded");
        }
        if self.lookups.values().any(|lookup| !self.sought.contains_key(&lookup.who)) {
            return Err("a question is about somebody who is looked for");
        }
        let allowed = |lookup: &Lookup| match lookup.source {
            Source::Mdns => self.config.asks_near(),
            source => self.config.far().any(|far| far == source),
        };
        if !self.lookups.values().all(allowed) {
            return Err("what is switched off is not asked");
        }
        for (who, sought) in &self.sought {
            let asked = self.lookups.values().any(|lookup| lookup.who == *who && lookup.source.is_far());
            if asked && sought.ask_at.is_some() || sought.waits && sought.ask_at.is_none() {
                return Err("one round of questions after the other");
            }
            if !asked && sought.ask_at.is_none() && self.config.asks_far() {
                return Err("who is looked for is asked for again");
            }
        }
        Ok(())
    }
}

/// Says where somebody may be: what can be read as an address of that node, bounded.
fn tell(out: &mut Vec<FindEffect>, who: PublicKey, node: NodeId, source: Source, addresses: Addresses) {
    let mut good: Vec<String> = Vec::new();
    for text in addresses.0 {
        // What the app gives is not judged here: its error is for the app to see.
        let own = source == Source::Given || Address::parse(&text).and_then(|read| read.of(node)).is_ok();
        if own && good.len() < MAX_REACH_ADDRESSES && !good.contains(&text) {
            good.push(text);
        }
    }
    if !good.is_empty() {
        out.push(FindEffect::Tell { who, node, source, addresses: Addresses(good) });
    }
}

#[cfg(test)]
mod tests;
