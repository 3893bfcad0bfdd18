//! The calls that are going on, as the events told.

use std::collections::{BTreeMap, BTreeSet};

use warp_blink::{
    event::{ParticipantState, Presence, Summary},
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
    /// Left from here; can be joined again.
    Left,
}

/// Which call a command can mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// One at this stage.
    At(Stage),
    /// One that is held.
    Held,
    /// One that is active and not held.
    Running,
    /// Any; of several the one that runs.
    Any,
}

impl Which {
    fn fits(self, call: &Call) -> bool {
        match self {
            Self::At(stage) => call.stage == stage,
            Self::Held => call.held,
            Self::Running => call.runs(),
            Self::Any => true,
        }
    }

    /// Why there is none.
    fn none(self) -> &'static str {
        match self {
            Self::At(Stage::Incoming) => "nobody calls",
            Self::At(Stage::Outgoing) => "nobody is being called",
            Self::At(Stage::Left) => "no call was left",
            Self::Held => "no call is held",
            Self::At(Stage::Active) | Self::Running | Self::Any => "there is no call",
        }
    }
}

/// What a person is told of a participant: where it stands, whether it is muted, whether it holds the call.
type Told = (Presence, bool, bool);

#[derive(Debug)]
struct Call {
    peers: BTreeMap<PublicKey, Option<Told>>,
    stage: Stage,
    held: bool,
    talks: bool,
    tally: Tally,
}

impl Call {
    fn runs(&self) -> bool {
        self.stage == Stage::Active && !self.held
    }
}

/// The calls that have not ended. Bounded by the machine, which lets few be pending.
#[derive(Debug, Default)]
pub(super) struct Calls(BTreeMap<CallId, Call>);

impl Calls {
    /// There is such a call, with these people; where it stands is set only if it is new.
    pub(super) fn begin(&mut self, call: CallId, peers: impl IntoIterator<Item = PublicKey>, stage: Stage) {
        let new =
            || Call { peers: BTreeMap::new(), stage, held: false, talks: false, tally: Tally::default() };
        let call = self.0.entry(call).or_insert_with(new);
        for peer in peers {
            call.peers.entry(peer).or_insert(None);
        }
    }

    /// A participant changed. Whether that is worth a word to a person.
    pub(super) fn changed(&mut self, call: CallId, peer: PublicKey, state: ParticipantState) -> bool {
        self.begin(call, [peer], Stage::Active);
        let told = Some((state.presence, state.muted, state.held));
        self.0.get_mut(&call).is_some_and(|call| call.peers.insert(peer, told) != Some(told))
    }

    /// Both sides called each other, and this call took the place of ours.
    pub(super) fn merge(&mut self, ours: CallId, into: CallId, peer: PublicKey) {
        self.0.remove(&ours);
        self.begin(into, [peer], Stage::Incoming);
    }

    pub(super) fn stands(&mut self, call: CallId, stage: Stage) {
        if let Some(call) = self.0.get_mut(&call) {
            call.stage = stage;
            call.held &= stage == Stage::Active;
        }
    }

    pub(super) fn hold(&mut self, call: CallId, held: bool) {
        if let Some(call) = self.0.get_mut(&call) {
            call.held = held;
        }
    }

    /// Microphone and speaker run. Whether for the first time.
    pub(super) fn talks(&mut self, call: CallId) -> bool {
        self.0.get_mut(&call).is_some_and(|call| !std::mem::replace(&mut call.talks, true))
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

    pub(super) fn is_talking(&self, call: CallId) -> bool {
        self.0.get(&call).is_some_and(|c| c.talks)
    }

    pub(super) fn any_talks(&self) -> bool {
        self.0.values().any(|c| c.talks)
    }

    /// The one call that can be meant.
    pub(super) fn only(&self, which: Which) -> Result<CallId, String> {
        let fits: Vec<_> = self.0.iter().filter(|(_, call)| which.fits(call)).collect();
        let runs = fits.iter().find(|(_, call)| call.runs());
        match (fits.as_slice(), runs) {
            (_, Some((id, _))) | ([(id, _)], None) => Ok(**id),
            ([], None) => Err(which.none().to_owned()),
            (several, None) => {
                let ids: Vec<String> = several.iter().map(|(id, _)| id.to_string()).collect();
                Err(format!("several calls can be meant; name one as call: {}", ids.join(", ")))
            }
        }
    }

    /// The one other side there is, in this call or in any.
    pub(super) fn only_peer(&self, call: Option<CallId>) -> Result<PublicKey, String> {
        let of = |(id, _): &(&CallId, &Call)| call.is_none_or(|call| call == **id);
        let peers: BTreeSet<_> = self.0.iter().filter(of).flat_map(|(_, call)| call.peers.keys()).collect();
        match (peers.first(), peers.len()) {
            (Some(peer), 1) => Ok(**peer),
            (None, _) => Err("there is no call; name a peer".to_owned()),
            _ => Err("there are several others; name a peer".to_owned()),
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
        let rings = Which::At(Stage::Incoming);
        let mut calls = Calls::default();
        assert!(calls.only(Which::Any).is_err() && calls.only_peer(None).is_err());
        calls.begin(a, [key(1)], Stage::Incoming);
        assert_eq!((calls.only(Which::Any), calls.only(rings)), (Ok(a), Ok(a)));
        assert_eq!(calls.only_peer(None), Ok(key(1)));
        calls.begin(b, [key(2)], Stage::Incoming);
        assert!(calls.only(Which::Any).unwrap_err().contains(&b.to_string()));
        calls.begin(c, [key(1)], Stage::Outgoing);
        calls.stands(c, Stage::Active);
        assert_eq!(calls.only(Which::Any), Ok(c));
        assert!(calls.only_peer(None).is_err());
        assert_eq!(calls.only_peer(Some(c)), Ok(key(1)));
        calls.end(b, &Summary::default());
        assert_eq!(calls.only(rings), Ok(a));
        assert_eq!(calls.ids(), [a, c]);
    }

    #[test]
    fn held_and_left_calls_are_found_by_what_they_are() {
        let [a, b] = [1, 2].map(|n| CallId::from_bytes([n; 16]));
        let mut calls = Calls::default();
        calls.begin(a, [key(1)], Stage::Active);
        assert_eq!(calls.only(Which::Held), Err("no call is held".to_owned()));
        calls.hold(a, true);
        calls.begin(b, [key(2), key(3)], Stage::Outgoing);
        // Somebody more is called, which changes nothing of where it stands.
        calls.stands(b, Stage::Active);
        calls.begin(b, [key(4)], Stage::Outgoing);
        assert_eq!((calls.only(Which::Held), calls.only(Which::Running)), (Ok(a), Ok(b)));
        assert_eq!(calls.only(Which::Any), Ok(b));
        assert!(calls.only_peer(Some(b)).is_err());
        calls.stands(b, Stage::Left);
        assert_eq!(calls.only(Which::At(Stage::Left)), Ok(b));
        assert!(calls.only(Which::Running).is_err());
        assert!(calls.talks(b) && !calls.talks(b), "the first time");
    }
}
