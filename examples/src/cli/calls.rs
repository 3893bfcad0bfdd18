//! The calls that are going on, as the events told.

use std::collections::BTreeMap;

use warp_blink::{
    event::Summary,
    id::{CallId, PublicKey},
    stats::LinkStats,
};

use super::{line::Line, tally::Tally};

/// Where a call stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Ours, not answered yet.
    Outgoing,
    /// Theirs, not answered yet.
    Incoming,
    /// Accepted.
    Active,
}

#[derive(Debug)]
struct Call {
    peer: PublicKey,
    stage: Stage,
    talks: bool,
    tally: Tally,
}

/// The calls that have not ended. Bounded by the machine, which lets few be pending.
#[derive(Debug, Default)]
pub(super) struct Calls(BTreeMap<CallId, Call>);

impl Calls {
    pub(super) fn begin(&mut self, call: CallId, peer: PublicKey, stage: Stage) {
        self.0.insert(call, Call { peer, stage, talks: false, tally: Tally::default() });
    }

    /// Both sides called each other, and this call took the place of ours.
    pub(super) fn merge(&mut self, ours: CallId, into: CallId, peer: PublicKey) {
        self.0.remove(&ours);
        if !self.has(into) {
            self.begin(into, peer, Stage::Incoming);
        }
    }

    pub(super) fn accepted(&mut self, call: CallId) {
        if let Some(call) = self.0.get_mut(&call) {
            call.stage = Stage::Active;
        }
    }

    /// Microphone and speaker run.
    pub(super) fn talks(&mut self, call: CallId) {
        if let Some(call) = self.0.get_mut(&call) {
            call.talks = true;
        }
    }

    /// Forgets the call: its last line, and whether it was talked.
    pub(super) fn end(&mut self, id: CallId, summary: &Summary) -> (Line, bool) {
        let (tally, talked) = self.0.remove(&id).map_or_else(Default::default, |c| (c.tally, c.talks));
        (tally.summary(id, summary), talked)
    }

    pub(super) fn stats(&mut self, call: CallId, peer: PublicKey, stats: &LinkStats) {
        if let Some(call) = self.0.get_mut(&call) {
            call.tally.add(peer, stats);
        }
    }

    pub(super) fn ids(&self) -> Vec<CallId> {
        self.0.keys().copied().collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn has(&self, call: CallId) -> bool {
        self.0.contains_key(&call)
    }

    pub(super) fn is_talking(&self, call: CallId) -> bool {
        self.0.get(&call).is_some_and(|c| c.talks)
    }

    pub(super) fn any_talks(&self) -> bool {
        self.0.values().any(|c| c.talks)
    }

    /// The call at this stage, if there is one; at any stage: the active one first.
    pub(super) fn only(&self, stage: Option<Stage>) -> Result<CallId, String> {
        let fits: Vec<_> = self.0.iter().filter(|(_, c)| stage.is_none_or(|s| s == c.stage)).collect();
        let active = fits.iter().find(|(_, c)| c.stage == Stage::Active);
        match (fits.as_slice(), active) {
            (_, Some((id, _))) => Ok(**id),
            ([(id, _)], None) => Ok(**id),
            ([], None) if stage == Some(Stage::Incoming) => Err("nobody calls".to_owned()),
            ([], None) => Err("there is no call".to_owned()),
            (several, None) => {
                let ids: Vec<String> = several.iter().map(|(id, _)| id.to_string()).collect();
                Err(format!("several calls can be meant; name one as call: {}", ids.join(", ")))
            }
        }
    }

    /// The one other side there is.
    pub(super) fn only_peer(&self) -> Result<PublicKey, String> {
        let mut peers: Vec<_> = self.0.values().map(|c| c.peer).collect();
        peers.sort();
        peers.dedup();
        match peers.as_slice() {
            [peer] => Ok(*peer),
            [] => Err("there is no call; name a peer".to_owned()),
            _ => Err("there are several calls; name a peer".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> PublicKey {
        warp_blink::id::Identity::from_seed([n; 32]).public()
    }

    #[test]
    fn what_can_be_meant_is_found() {
        let [a, b, c] = [1, 2, 3].map(|n| CallId::from_bytes([n; 16]));
        let mut calls = Calls::default();
        assert!(calls.only(None).is_err() && calls.only_peer().is_err());
        calls.begin(a, key(1), Stage::Incoming);
        assert_eq!((calls.only(None), calls.only(Some(Stage::Incoming))), (Ok(a), Ok(a)));
        assert_eq!(calls.only_peer(), Ok(key(1)));
        calls.begin(b, key(2), Stage::Incoming);
        assert!(calls.only(None).unwrap_err().contains(&b.to_string()));
        calls.begin(c, key(1), Stage::Outgoing);
        calls.accepted(c);
        assert_eq!(calls.only(None), Ok(c));
        assert!(calls.only(Some(Stage::Incoming)).is_err() && calls.only_peer().is_err());
        calls.end(b, &Summary::default());
        assert_eq!(calls.only(Some(Stage::Incoming)), Ok(a));
        assert!(calls.has(a) && !calls.has(b));
    }
}
