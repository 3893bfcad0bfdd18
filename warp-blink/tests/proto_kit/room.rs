//! Calls of many: what the machines of [`Pair::many`] agree on.

use std::{collections::BTreeSet, time::Duration};

use warp_blink::{
    config::Config,
    event::{Phase, Presence},
    id::{CallId, NodeKey},
    proto::{
        EffectKind, Input, Known, Machine, Saved,
        signal::{EpochId, RollHash},
    },
};

use super::{Pair, SECOND, accept, call_id, identities, offer_all, roll_hash};

impl Pair {
    /// The first calls all others, and all accept.
    pub(crate) fn conference(n: u8, config: &Config) -> (Self, CallId) {
        let mut room = Self::many(n, config);
        let to: Vec<_> = (1..usize::from(n)).map(|side| room.key(side)).collect();
        let call = call_id(1);
        room.ask(0, offer_all(call, &to)).unwrap();
        for side in 1..usize::from(n) {
            room.ask(side, accept(call)).unwrap();
        }
        room.pass(10 * SECOND);
        (room, call)
    }

    pub(crate) fn presence(&self, at: usize, of: usize, call: CallId) -> Option<Presence> {
        let snapshot = self.sides[at].machine.snapshot();
        let key = self.key(of);
        snapshot.call(call)?.participants.iter().find(|p| p.peer == key).map(|p| p.state.presence)
    }

    pub(crate) fn phase(&self, side: usize, call: CallId) -> Option<Phase> {
        self.sides[side].machine.snapshot().call(call).map(|c| c.phase)
    }

    /// All of these see one another as joined.
    pub(crate) fn are_joined(&self, sides: &[usize], call: CallId) -> bool {
        let sees = |at: usize, of: usize| at == of || self.presence(at, of, call) == Some(Presence::Joined);
        sides.iter().all(|at| sides.iter().all(|of| sees(*at, *of)))
    }

    /// All of these are joined with one another, and with nobody else.
    pub(crate) fn assert_joined(&self, sides: &[usize], call: CallId) {
        for at in sides {
            let joined: BTreeSet<usize> = (0..self.sides.len())
                .filter(|of| of != at && self.presence(*at, *of, call) == Some(Presence::Joined))
                .collect();
            let wanted: BTreeSet<usize> = sides.iter().copied().filter(|of| of != at).collect();
            assert_eq!(
                joined,
                wanted,
                "who is joined at {at}: {:?}",
                (0..self.sides.len()).map(|of| self.presence(*at, of, call)).collect::<Vec<_>>()
            );
        }
        let epochs: BTreeSet<EpochId> = sides.iter().map(|side| self.speaks_in(*side, call)).collect();
        assert_eq!(epochs.len(), 1, "one key: {epochs:?}");
        let rolls: BTreeSet<RollHash> = sides.iter().map(|side| self.last_roll(*side, call)).collect();
        assert_eq!(rolls.len(), 1, "one roll");
    }

    /// The key of the last thing that this side said to all.
    pub(crate) fn speaks_in(&self, side: usize, call: CallId) -> EpochId {
        let said = self.sides[side].log.iter().rev().find_map(|e| match e {
            EffectKind::SendCall { call: c, epoch, .. } if *c == call => Some(*epoch),
            _ => None,
        });
        said.expect("it has announced itself")
    }

    fn last_roll(&self, side: usize, call: CallId) -> RollHash {
        let kept = self.sides[side].log.iter().rev().find_map(|e| match e {
            EffectKind::KeepRoll { call: c, roll } if *c == call => Some(roll_hash(roll)),
            _ => None,
        });
        kept.expect("it has kept a roll")
    }

    /// What a side has saved of a call.
    pub(crate) fn saved(&self, side: usize, call: CallId) -> Option<Saved> {
        self.sides[side].log.iter().rev().find_map(|e| match e {
            EffectKind::SaveCall { call: c, roll, media } if *c == call => {
                Some(Some(Saved::new(call, roll.clone(), *media, roll_hash(roll))))
            }
            EffectKind::UnsaveCall { call: c } if *c == call => Some(None),
            _ => None,
        })?
    }

    /// The process of that side dies, and is started anew with what it saved of that call.
    pub(crate) fn crash(&mut self, side: usize, call: CallId) {
        let saved = self.saved(side, call);
        let id = identities(self.sides.len() as u8).remove(side);
        let config = Config::default();
        let s = &mut self.sides[side];
        s.machine = Machine::new(config, id.public(), NodeKey::from(&id).node_id());
        s.events.clear();
        s.log.clear();
        s.topics.clear();
        s.links.clear();
        s.secured.clear();
        s.audio.clear();
        s.reset();
        self.forget_inputs(side);
        let key = self.key(side);
        self.sides.iter_mut().for_each(|s| s.forget(key));
        let effects = self.sides[side].machine.start();
        self.perform(side, effects);
        if let Some(saved) = saved {
            self.feed(side, Input::Saved(Box::new(saved)));
        }
        self.run();
    }

    /// That side is started with other settings.
    pub(crate) fn configure(&mut self, side: usize, config: &Config) {
        let id = identities(self.sides.len() as u8).remove(side);
        self.sides[side].machine = Machine::new(config.clone(), id.public(), NodeKey::from(&id).node_id());
        self.sides[side].topics.clear();
        let effects = self.sides[side].machine.start();
        self.perform(side, effects);
        self.run();
    }

    /// One has the other's ML-KEM key.
    pub(crate) fn knows(&mut self, at: usize, of: usize) {
        let mut known = Known::default();
        known.kem = true;
        let peer = self.key(of);
        self.feed(at, Input::Known { peer, known });
        self.run();
    }

    /// Every engine that has a link to that side tells that it is interrupted.
    pub(crate) fn interrupted(&mut self, gone: usize, call: CallId) {
        use warp_blink::proto::{EngineLink, MediaInput};
        let key = self.key(gone);
        for side in (0..self.sides.len()).filter(|s| *s != gone) {
            let links: Vec<_> =
                self.sides[side].links.iter().copied().filter(|l| l.call == call && l.peer == key).collect();
            for link in links {
                self.feed(side, Input::Media(MediaInput::State { link, state: EngineLink::Disconnected }));
            }
        }
        self.run();
    }

    /// Lets time pass until this holds.
    pub(crate) fn until(&mut self, limit: Duration, holds: impl Fn(&Self) -> bool) -> Duration {
        let begin = self.now;
        while !holds(self) {
            assert!(self.now.since(begin) < limit, "not within {limit:?}");
            self.pass(Duration::from_millis(100));
        }
        self.now.since(begin)
    }
}
