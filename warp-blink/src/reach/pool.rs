//! All reaches of this node: who holds which connection, who is kept, and who goes when there are too many.
//!
//! A connection is held by calls and by the app; when nobody holds it any more, it is idle for [`ReachConfig::idle`] and
//! then closed. Contacts can be kept: their connection is made and made again by itself, so that a call to them begins at
//! once. At the bound goes, of those that no call holds: first who is not kept, then who is; among these, who was used
//! longest ago. A connection that is held never goes.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{Addresses, Effect, Jitter, Reach, ReachConfig, ReachInput, ReachRejected, ReachState, Via};
use crate::{
    id::{CallId, NodeId},
    time::Instant,
};

/// The most calls and others that hold one connection: as many as there are calls.
const MAX_HOLDERS: usize = 64;

/// The numbers of a pool. Each default says where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolConfig {
    /// The most reaches. Default 256: sixteen calls of sixteen people.
    pub most: usize,
    /// The most that are kept. Default 128: half of them, so that calls always find room.
    pub most_kept: usize,
    /// The most that are dialed only to be kept, at the same time. Default 8: a hundred contacts are connected within
    /// seconds, and a router at home sees no more new connections than when a page loads.
    pub most_dialing: usize,
    /// How many attempts it takes to give one up for now that is only kept. Default 2: the second is for a connection that
    /// was cut, and one who is offline takes no place for long.
    pub kept_attempts: u32,
    /// How long a kept one that could not be reached is left alone, but for half of it that jitter may take. Default 5
    /// minutes: whoever comes back dials by themselves, so this is for those who do not know where this node is.
    pub again_after: Duration,
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            most: 256,
            most_kept: 128,
            most_dialing: 8,
            kept_attempts: 2,
            again_after: Duration::from_secs(300),
        }
    }
}

impl PoolConfig {
    /// The same with other bounds; at least one, and no more kept than there are.
    #[must_use]
    pub fn with_most(mut self, most: usize, most_kept: usize) -> Self {
        self.most = most.max(1);
        self.most_kept = most_kept.min(self.most);
        self
    }
}

/// Who needs a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Holder {
    /// A call.
    Call(CallId),
    /// The app, or something in this node that works for all calls.
    App,
    /// Nobody in particular: the node was named. It is dialed and kept as for anybody else, and goes first where there is no room.
    Visit,
}

/// A wish that the pool cannot fulfil. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PoolRejected {
    /// Every place is taken by a connection that is held.
    #[error("all {0} connections are in use: end a call first")]
    Full(usize),
    /// So many are kept.
    #[error("{0} contacts are kept connected, which is the most")]
    TooManyKept(usize),
    /// So many hold this one.
    #[error("{MAX_HOLDERS} calls hold this connection, which is the most")]
    TooManyHolders,
    /// The reach refuses.
    #[error(transparent)]
    Reach(#[from] ReachRejected),
}

/// All reaches of this node. Effects come with the node that they are for.
#[derive(Clone, Debug, Default)]
pub struct Pool {
    config: ReachConfig,
    limits: PoolConfig,
    held: BTreeMap<NodeId, Held>,
    /// The next place in the row of those that are kept.
    row: u64,
}

#[derive(Clone, Debug)]
struct Held {
    reach: Reach,
    holders: BTreeSet<Holder>,
    /// Its place in the row of those that are kept.
    kept: Option<u64>,
    /// When it was held last.
    used: Instant,
    /// Kept, and not to be dialed before that.
    again_at: Option<Instant>,
    /// Somebody else has made the connection that is there, and ends it.
    adopted: bool,
}

type Effects = Vec<(NodeId, Effect)>;

impl Pool {
    /// An empty one.
    pub fn new(config: ReachConfig, limits: PoolConfig) -> Self {
        Self { config, limits, ..Self::default() }
    }

    /// The reach of this node, if there is one.
    pub fn get(&self, node: &NodeId) -> Option<&Reach> {
        self.held.get(node).map(|held| &held.reach)
    }

    /// All reaches.
    pub fn reaches(&self) -> impl Iterator<Item = &Reach> {
        self.held.values().map(|held| &held.reach)
    }

    /// Whether somebody holds the connection with this node.
    pub fn is_held(&self, node: &NodeId) -> bool {
        self.held.get(node).is_some_and(|held| !held.holders.is_empty())
    }

    /// Whether this one holds the connection with this node.
    pub fn is_held_by(&self, node: &NodeId, holder: Holder) -> bool {
        self.held.get(node).is_some_and(|held| held.holders.contains(&holder))
    }

    /// `holder` needs a connection, at these addresses or those that are known; again after a failure or a reset.
    ///
    /// # Errors
    /// [`PoolRejected`], and nothing has changed.
    pub fn want(
        &mut self,
        now: Instant,
        node: NodeId,
        holder: Holder,
        addresses: Addresses,
    ) -> Result<Effects, PoolRejected> {
        self.want_with(now, node, holder, addresses, self.config.clone())
    }

    /// The same with other settings for this node, where nobody holds it yet.
    ///
    /// # Errors
    /// [`PoolRejected`], and nothing has changed.
    pub fn want_with(
        &mut self,
        now: Instant,
        node: NodeId,
        holder: Holder,
        addresses: Addresses,
        config: ReachConfig,
    ) -> Result<Effects, PoolRejected> {
        let victim = self.room_for(&node)?;
        let held = self.held.get(&node);
        let holders = held.map(|held| &held.holders);
        if holders.is_some_and(|h| h.len() >= MAX_HOLDERS && !h.contains(&holder)) {
            return Err(PoolRejected::TooManyHolders);
        }
        let mut next = held.cloned().unwrap_or_else(|| self.new_one(node, now));
        if next.holders.is_empty() {
            next.reach.renew(config);
        }
        let effects = next.reach.handle(now, ReachInput::Connect { addresses })?;
        next.holders.insert(holder);
        (next.used, next.again_at) = (now, None);
        self.held.insert(node, next);
        let mut out = self.remove(now, victim);
        out.extend(effects.into_iter().map(|effect| (node, effect)));
        out.extend(self.settle(now));
        Ok(out)
    }

    /// `holder` needs a connection that is there already, made by the other side or by somebody else here: if it is lost it is made
    /// again at these addresses, and when nobody holds it any more whoever has made it may close it. Where there is a reach already, it is
    /// as [`want_with`](Self::want_with).
    ///
    /// # Errors
    /// [`PoolRejected`], and nothing has changed.
    pub fn adopt(
        &mut self,
        now: Instant,
        node: NodeId,
        holder: Holder,
        addresses: Addresses,
        config: ReachConfig,
        via: Via,
    ) -> Result<Effects, PoolRejected> {
        let victim = self.room_for(&node)?;
        if !self.held.contains_key(&node) {
            let mut new = self.new_one(node, now);
            new.reach.handle(now, ReachInput::PeerConnected { via })?;
            new.adopted = true;
            self.held.insert(node, new);
        }
        let mut out = self.remove(now, victim);
        out.extend(self.want_with(now, node, holder, addresses, config)?);
        Ok(out)
    }

    /// `holder` needs the connection no longer.
    pub fn release(&mut self, now: Instant, node: &NodeId, holder: Holder) -> Effects {
        let Some(held) = self.held.get_mut(node) else { return Vec::new() };
        if held.holders.remove(&holder) {
            held.used = now;
            return self.let_go(now, node);
        }
        Vec::new()
    }

    /// Keeps the connection with this node from now on, or tells where it may be found.
    ///
    /// # Errors
    /// [`PoolRejected`], and nothing has changed.
    pub fn keep(
        &mut self,
        now: Instant,
        node: NodeId,
        addresses: Addresses,
    ) -> Result<Effects, PoolRejected> {
        let kept = self.held.values().filter(|held| held.kept.is_some()).count();
        let is_kept = self.held.get(&node).is_some_and(|held| held.kept.is_some());
        if !is_kept && kept >= self.limits.most_kept {
            return Err(PoolRejected::TooManyKept(kept));
        }
        let victim = self.room_for(&node)?;
        let mut next = self.held.get(&node).cloned().unwrap_or_else(|| self.new_one(node, now));
        next.reach.learn(addresses)?;
        if next.kept.is_none() {
            next.kept = Some(self.row);
            self.row += 1;
        }
        // New addresses are worth an attempt at once.
        next.again_at = None;
        self.held.insert(node, next);
        let mut out = self.remove(now, victim);
        out.extend(self.settle(now));
        Ok(out)
    }

    /// Keeps it no longer.
    pub fn keep_no_more(&mut self, now: Instant, node: &NodeId) -> Effects {
        let Some(held) = self.held.get_mut(node) else { return Vec::new() };
        (held.kept, held.again_at) = (None, None);
        self.let_go(now, node)
    }

    /// Gives the connection up, whoever holds or keeps it.
    pub fn disconnect(&mut self, now: Instant, node: &NodeId) -> Effects {
        let mut out = self.remove(now, Some(*node));
        out.extend(self.settle(now));
        out
    }

    /// Forgets the failures with this node and ends the attempt that runs; it is kept and held as before.
    ///
    /// # Errors
    /// [`ReachRejected::NothingToReset`].
    pub fn reset(&mut self, now: Instant, node: &NodeId) -> Result<Effects, PoolRejected> {
        let held = self.held.get_mut(node).ok_or(ReachRejected::NothingToReset)?;
        let effects = held.reach.handle(now, ReachInput::Reset)?;
        held.again_at = held.kept.map(|_| now + self.limits.again_after);
        let mut out: Effects = effects.into_iter().map(|effect| (*node, effect)).collect();
        out.extend(self.settle(now));
        Ok(out)
    }

    /// Another reach configuration for this node, from its first attempt on.
    pub fn renew(&mut self, node: &NodeId, config: ReachConfig) {
        if let Some(held) = self.held.get_mut(node) {
            held.reach.renew(config);
        }
    }

    /// What the network, or a timer of a reach, says. Of a node without a reach it means nothing: such a connection is
    /// somebody else's.
    pub fn handle(&mut self, now: Instant, node: &NodeId, input: ReachInput) -> Effects {
        let Some(held) = self.held.get_mut(node) else { return Vec::new() };
        if matches!(input, ReachInput::PeerDisconnected { .. }) {
            // The next one is made here.
            held.adopted = false;
        }
        // Commands come by other ways; one that is refused here changes nothing.
        let effects = held.reach.handle(now, input).unwrap_or_default();
        let mut out: Effects = effects.into_iter().map(|effect| (*node, effect)).collect();
        out.extend(self.settle(now));
        out
    }

    /// When [`on_time`](Self::on_time) is due.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.held.values().filter_map(Held::next_timeout).min()
    }

    /// A node whose time has come. Call [`on_time`](Self::on_time) for each until there is none.
    pub fn due(&self, now: Instant) -> Option<NodeId> {
        let mut due = self.held.iter().filter(|(_, held)| held.next_timeout().is_some_and(|at| at <= now));
        due.next().map(|(node, _)| *node)
    }

    /// The time of this node has come. Each takes a random number of its own.
    pub fn on_time(&mut self, now: Instant, node: &NodeId, jitter: Jitter) -> Effects {
        let Some(held) = self.held.get_mut(node) else { return Vec::new() };
        held.again_at = held.again_at.filter(|at| *at > now);
        let due = held.reach.next_timeout().is_some_and(|at| at <= now);
        let effects =
            if due { held.reach.handle(now, ReachInput::Timeout { jitter }) } else { Ok(Vec::new()) };
        let mut out: Effects =
            effects.unwrap_or_default().into_iter().map(|effect| (*node, effect)).collect();
        out.extend(self.settle_with(now, jitter));
        out
    }

    fn new_one(&self, node: NodeId, now: Instant) -> Held {
        let reach = Reach::new(node, self.config.clone());
        Held { reach, holders: BTreeSet::new(), kept: None, used: now, again_at: None, adopted: false }
    }

    /// Who goes so that this node has a place; nobody if it has one.
    fn room_for(&self, node: &NodeId) -> Result<Option<NodeId>, PoolRejected> {
        if self.held.contains_key(node) || self.held.len() < self.limits.most {
            return Ok(None);
        }
        let free = self.held.iter().filter(|(_, held)| held.holders.iter().all(|h| *h == Holder::Visit));
        let first = free.min_by_key(|(_, held)| (held.kept.is_some(), held.used));
        first.map(|(node, _)| Some(*node)).ok_or(PoolRejected::Full(self.held.len()))
    }

    fn remove(&mut self, now: Instant, node: Option<NodeId>) -> Effects {
        let Some((node, mut held)) = node.and_then(|node| self.held.remove_entry(&node)) else {
            return Vec::new();
        };
        if held.adopted {
            return Vec::new();
        }
        let effects = held.reach.handle(now, ReachInput::Disconnect).unwrap_or_default();
        effects.into_iter().map(|effect| (node, effect)).collect()
    }

    /// If neither held nor kept, it is released.
    fn let_go(&mut self, now: Instant, node: &NodeId) -> Effects {
        let Some(held) = self.held.get_mut(node) else { return Vec::new() };
        let mut out = Vec::new();
        if held.holders.is_empty() && held.kept.is_none() && held.adopted {
            self.held.remove(node);
        } else if held.holders.is_empty() && held.kept.is_none() {
            // Refused where there is nothing to release.
            let effects = held.reach.handle(now, ReachInput::Release).unwrap_or_default();
            out.extend(effects.into_iter().map(|effect| (*node, effect)));
        }
        out.extend(self.settle(now));
        out
    }

    fn settle(&mut self, now: Instant) -> Effects {
        self.settle_with(now, Jitter(u16::MAX / 2))
    }

    /// Forgets those that hold nothing, and dials those that are kept, a few at a time.
    fn settle_with(&mut self, now: Instant, jitter: Jitter) -> Effects {
        self.held.retain(|_, held| !held.holders.is_empty() || held.kept.is_some() || held.is_open());
        for held in self.held.values_mut() {
            if held.kept.is_none() || !held.holders.is_empty() {
                // One that is held is for its holder to try again.
                continue;
            }
            match held.reach.state() {
                // What failed is left alone for a while.
                ReachState::ConnectionFailed { .. } => {
                    held.again_at = Some(now + half_to_whole(self.limits.again_after, jitter));
                    let _ = held.reach.handle(now, ReachInput::Reset);
                }
                // The other side opened it.
                ReachState::Connected { .. } if !held.reach.is_wanted() => {
                    let _ = held.reach.handle(now, ReachInput::Connect { addresses: Addresses::default() });
                }
                _ => {}
            }
        }
        let dialing = self.held.values().filter(|held| held.holders.is_empty() && held.is_dialing()).count();
        let mut row: Vec<(u64, NodeId)> = self
            .held
            .iter()
            .filter(|(_, held)| held.waits(now))
            .filter_map(|(node, held)| Some((held.kept?, *node)))
            .collect();
        row.sort_unstable();
        let mut out = Vec::new();
        for (_, node) in row.into_iter().take(self.limits.most_dialing.saturating_sub(dialing)) {
            let Some(held) = self.held.get_mut(&node) else { continue };
            held.reach.renew(self.config.clone().with_max_attempts(self.limits.kept_attempts));
            let connect = ReachInput::Connect { addresses: Addresses::default() };
            if let Ok(effects) = held.reach.handle(now, connect) {
                out.extend(effects.into_iter().map(|effect| (node, effect)));
            }
        }
        out
    }

    /// What always holds. For tests.
    ///
    /// # Errors
    /// What does not hold.
    #[doc(hidden)]
    pub fn check(&self) -> Result<(), &'static str> {
        if self.held.len() > self.limits.most {
            return Err("the pool is bounded");
        }
        if self.held.values().filter(|held| held.kept.is_some()).count() > self.limits.most_kept {
            return Err("those that are kept are bounded");
        }
        for (node, held) in &self.held {
            held.reach.check()?;
            if held.reach.node() != *node {
                return Err("a reach is under its own name");
            }
            if held.holders.len() > MAX_HOLDERS {
                return Err("holders are bounded");
            }
            if held.holders.is_empty() && held.kept.is_none() && !held.is_open() {
                return Err("what holds nothing is not kept");
            }
            if held.holders.is_empty() && held.kept.is_none() && held.reach.is_wanted() && held.is_dialing() {
                return Err("nobody dials for nobody");
            }
        }
        Ok(())
    }
}

impl Held {
    fn next_timeout(&self) -> Option<Instant> {
        self.reach.next_timeout().into_iter().chain(self.again_at).min()
    }

    /// Whether it has a connection, or is about to.
    fn is_open(&self) -> bool {
        self.reach.is_connected() || self.is_dialing()
    }

    fn is_dialing(&self) -> bool {
        matches!(self.reach.state(), ReachState::Connecting { .. } | ReachState::Retry { .. })
    }

    fn rested(&self, now: Instant) -> bool {
        self.again_at.is_some_and(|at| at > now)
    }

    /// Kept, where nothing happens by itself: it is dialed when its turn comes.
    fn waits(&self, now: Instant) -> bool {
        self.kept.is_some()
            && !self.rested(now)
            && !self.reach.addresses().is_empty()
            && matches!(self.reach.state(), ReachState::Disconnected)
    }
}

/// As the pause between attempts: jitter takes up to half of it away.
fn half_to_whole(whole: Duration, jitter: Jitter) -> Duration {
    let half = whole / 2;
    half + half.mul_f64(f64::from(jitter.0) / f64::from(u16::MAX))
}

#[cfg(test)]
mod tests;
