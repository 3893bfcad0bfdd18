//! What becomes of wishes: who is reached, who is still looked for, and who is given up.

use super::{MAX_PLACES, Reaches, Spot};
use crate::{
    id::{NodeId, PublicKey},
    proto::{EffectId, Outcome},
    reach::{ReachState, Via},
    time::Instant,
};

/// How it stands with somebody who is wanted.
enum Stand {
    /// Connected, at this node.
    Reached(Spot, Via),
    /// Something is dialed, or somebody asked.
    Underway,
    /// Their addresses do not work.
    Failed(String),
    /// Nobody knows where they are.
    Unknown(String),
}

impl Reaches {
    /// Somebody may be at this node. Says whether they are wanted, and there is room.
    pub(super) fn may_be_at(&mut self, who: PublicKey, node: NodeId, signed: bool) -> bool {
        let spots = self.places.entry(who).or_default();
        if let Some(spot) = spots.iter_mut().find(|spot| spot.node == node) {
            spot.signed |= signed;
            return true;
        }
        let room = spots.len() < MAX_PLACES;
        if room {
            spots.push(Spot { node, signed });
        }
        room
    }

    /// What has come of those who are waited for. Whoever cannot be reached at what is known is looked for.
    pub(super) fn settled(&mut self, now: Instant) -> Vec<(EffectId, Outcome)> {
        self.look_further(now);
        let mut out = Vec::new();
        for (effect, who) in std::mem::take(&mut self.waiting) {
            match self.stands(&who) {
                Stand::Underway => self.waiting.push((effect, who)),
                Stand::Reached(spot, via) => {
                    if spot.signed {
                        self.lives_at(who, spot.node);
                    }
                    out.push((effect, Outcome::Reached(via)));
                }
                Stand::Failed(error) => out.push((effect, Outcome::Failed(error))),
                Stand::Unknown(error) => self.lost.push((effect, Outcome::Failed(error))),
            }
        }
        // Who is dialed now may turn out to know. Nodes through which others are found do not count: one that is down is dialed
        // for ever.
        let dialing = self.machines.iter().any(|(node, reach)| {
            let state = reach.state();
            !self.anchors.contains(node)
                && matches!(state, ReachState::Connecting { .. } | ReachState::Retry { .. })
        });
        if !dialing {
            out.append(&mut self.lost);
        }
        let wanted: Vec<NodeId> = self.places.values().flatten().map(|spot| spot.node).collect();
        self.by_name.retain(|node, _| wanted.contains(node));
        out
    }

    /// Asks for those whose addresses do not work, and no longer for those who are there.
    fn look_further(&mut self, now: Instant) {
        let people: Vec<PublicKey> = self.places.keys().copied().collect();
        for who in people {
            let spots = self.places.get(&who).cloned().unwrap_or_default();
            if spots.iter().any(|spot| self.connected(&spot.node).is_some()) {
                self.seeker.stop(now, who);
                continue;
            }
            let in_vain = |spot: &Spot| {
                let state = self.machines.get(&spot.node).map(super::Reach::state);
                matches!(state, Some(ReachState::Retry { .. } | ReachState::ConnectionFailed { .. }))
            };
            if spots.iter().any(in_vain) {
                // Also in the middle of a call: they may have moved.
                let home = self.home(who);
                let known = self.book.addresses(&home);
                let mut tips = self.seeker.look_later(now, who, home, &known);
                tips.extend(self.seeker.missed(now, who));
                self.follow(now, tips);
            }
        }
    }

    /// Why questions to nodes far away come to nothing now: none of those who were named answers, and no other node is
    /// connected that might. And whether that is worth no waiting.
    fn nobody_to_ask(&self) -> Option<(String, bool)> {
        if self.anchors.is_empty() || !self.gossip.connected().is_empty() {
            return None;
        }
        let mut hopeless = true;
        let why = self.anchors.iter().map(|node| match self.machines.get(node)?.state() {
            ReachState::Retry { error, .. } => {
                hopeless = false;
                Some(error.to_string())
            }
            ReachState::ConnectionFailed { error, .. } => Some(error.to_string()),
            _ => None,
        });
        let why: Vec<String> = why.collect::<Option<_>>()?;
        Some((format!(" (no bootstrap node answers: {})", why.join("; ")), hopeless))
    }

    fn stands(&self, who: &PublicKey) -> Stand {
        let Some(spots) = self.places.get(who) else { return Stand::Failed("given up".to_owned()) };
        let mut failed = None;
        let mut unknown = None;
        let down = self.nobody_to_ask();
        let mut underway = self.seeker.is_asking(who, !down.as_ref().is_some_and(|(_, hopeless)| *hopeless));
        for spot in spots {
            if let Some(via) = self.connected(&spot.node) {
                return Stand::Reached(*spot, via);
            }
            match self.machines.get(&spot.node).map(super::Reach::state) {
                Some(ReachState::Connecting { .. } | ReachState::Retry { .. }) => underway = true,
                // Its end is not yet told here.
                Some(ReachState::Connected { .. }) => underway = true,
                Some(ReachState::ConnectionFailed { error, .. }) => failed = Some(error.to_string()),
                Some(_) | None => match self.by_name.get(&spot.node) {
                    Some(None) => underway = true,
                    Some(Some(error)) => unknown = Some(error.clone()),
                    None => {}
                },
            }
        }
        let tried = self.seeker.tried() + down.as_ref().map_or("", |(why, _)| why);
        match (failed, unknown) {
            _ if underway => Stand::Underway,
            (Some(error), _) => Stand::Failed(error + &tried),
            (None, Some(error)) => Stand::Unknown(error + &tried),
            (None, None) => Stand::Failed("given up".to_owned()),
        }
    }
}
