//! Machines without what is around them here, to measure what a machine takes: what went in is noted in a run of this
//! kit, and put into others.

use std::collections::VecDeque;

use warp_blink::{
    id::{CallId, PublicKey},
    proto::{
        EffectKind, Input, Machine, MediaInput, Outcome, SessionNo,
        signal::{Body, Packet},
    },
    time::Instant,
};

use super::{Pair, SECOND, accept, call_id, offer_all};

/// The bytes of a description: what one with sound has, in the middle of the buckets that descriptions fall into
/// (`ARCHITECTURE.md`, "What each observer learns").
pub(crate) const DESCRIPTION: usize = 2000;

/// The machines at the start, and each input since.
#[derive(Clone)]
pub(crate) struct Trace {
    pub(crate) origin: Vec<Machine>,
    pub(crate) inputs: Vec<(usize, Instant, Input)>,
}

impl Trace {
    /// What the machine of that side took.
    pub(crate) fn of(&self, side: usize) -> impl Iterator<Item = (Instant, &Input)> + Clone {
        self.inputs.iter().filter(move |(s, ..)| *s == side).map(|(_, now, input)| (*now, input))
    }

    /// The last numbered message that a side heard of somebody, and in which session.
    pub(crate) fn last_of(&self, side: usize, from: PublicKey) -> (SessionNo, &Packet) {
        let packets = self.of(side).filter_map(|(_, input)| match input {
            Input::Packet { from: f, session, packet } if *f == from => Some((*session, &**packet)),
            Input::PacketOnLink { link, session, packet } if link.peer == from => Some((*session, &**packet)),
            _ => None,
        });
        let used = packets.clone().last().expect("it has spoken").0;
        packets.filter(|(session, _)| *session == used).max_by_key(|(_, packet)| packet.seq).unwrap()
    }

    /// The machine of that side, as it was in the end.
    pub(crate) fn replay(&self, side: usize) -> Machine {
        let mut machine = self.origin[side].clone();
        for (now, input) in self.of(side) {
            // What was refused there is refused here, and changes nothing.
            let _ = machine.handle(now, input.clone());
        }
        machine
    }

    /// The descriptions of this kit are a few words.
    fn with_descriptions(mut self) -> Self {
        for (_, _, input) in &mut self.inputs {
            let description = match input {
                Input::Media(MediaInput::LocalDescription { description, .. }) => Some(description),
                Input::Packet { packet, .. } => match &mut packet.body {
                    Body::Description(description) => Some(description),
                    _ => None,
                },
                _ => None,
            };
            if let Some(description) = description {
                description.text = "x".repeat(DESCRIPTION);
            }
        }
        self
    }
}

impl Pair {
    /// Notes all that goes in from now on.
    pub(crate) fn record(&mut self) {
        let origin = self.sides.iter().map(|s| s.machine.clone()).collect();
        self.trace = Some(Trace { origin, inputs: Vec::new() });
    }

    /// What was noted so far.
    pub(crate) fn recorded(&self) -> Trace {
        self.trace.clone().expect("it was recorded").with_descriptions()
    }

    /// The last one calls all others, who accept; recorded until all are joined.
    pub(crate) fn join_all(&mut self) -> CallId {
        let (call, last) = (call_id(1), self.sides.len() - 1);
        let to: Vec<PublicKey> = (0..last).map(|side| self.key(side)).collect();
        self.record();
        self.ask(last, offer_all(call, &to)).unwrap();
        for side in 0..last {
            self.ask(side, accept(call)).unwrap();
        }
        let everybody: Vec<usize> = (0..=last).collect();
        self.until(10 * SECOND, |room| room.are_joined(&everybody, call));
        call
    }
}

/// Puts this into a machine, with the good end of each effect.
pub(crate) fn feed_alone(machine: &mut Machine, now: Instant, input: Input) {
    let mut todo = VecDeque::from([input]);
    while let Some(input) = todo.pop_front() {
        let effects = machine.handle(now, input).unwrap();
        let run = effects.into_iter().filter(|e| !matches!(e.kind, EffectKind::Emit(_)));
        todo.extend(run.map(|e| Input::Done { effect: e.id, outcome: Outcome::Ok }));
    }
}
