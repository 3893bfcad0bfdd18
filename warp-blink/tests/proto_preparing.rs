//! Connections that are kept ready while a phone rings.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod proto_kit;

use proto_kit::{A, B, Pair, SECOND, accept, call_id, early, offer_all};
use warp_blink::{
    config::{Config, PreConnect},
    proto::{Command, EffectKind, LinkCommand},
};

/// How many this side was told to keep, in order.
fn prepared(pair: &Pair, side: usize) -> Vec<u32> {
    let told = |e: &EffectKind| match e {
        EffectKind::Prepare { connections } => Some(*connections),
        _ => None,
    };
    pair.sides[side].log.iter().filter_map(told).collect()
}

fn never() -> Config {
    let mut config = Config::default();
    config.pre_connect = PreConnect::Never;
    config
}

#[test]
fn whoever_will_offer_keeps_one_ready_while_it_rings_and_uses_it() {
    for dials in [A, B] {
        let mut pair = if dials == A { Pair::swapped(never(), never()) } else { Pair::new(never(), never()) };
        let call = pair.ring();
        // A caller offers ahead as soon as the session is there, which takes no time here.
        let kept = if dials == A { vec![1, 0] } else { vec![1] };
        assert_eq!((prepared(&pair, dials), prepared(&pair, 1 - dials)), (kept, vec![]));
        pair.pass(5 * SECOND);
        pair.ask(B, accept(call)).unwrap();
        pair.assert_joined(&[A, B], call);
        assert_eq!(prepared(&pair, dials), [1, 0]);
        let at = |wanted: fn(&EffectKind) -> bool| pair.sides[dials].log.iter().rposition(wanted).unwrap();
        let dial = at(|e| matches!(e, EffectKind::Link { command: LinkCommand::Dial, .. }));
        assert!(dial < at(|e| matches!(e, EffectKind::Prepare { .. })), "it is taken before it is given up");
    }
}

#[test]
fn what_connects_while_it_rings_needs_none() {
    let mut pair = Pair::swapped(early(), early());
    let call = pair.ring();
    pair.ask(B, accept(call)).unwrap();
    assert_eq!((prepared(&pair, A), prepared(&pair, B)), (vec![], vec![]));
}

#[test]
fn none_is_kept_for_a_call_that_is_over() {
    let mut pair = Pair::new(never(), never());
    let call = pair.ring();
    pair.ask(B, Command::Decline { call }).unwrap();
    assert_eq!(prepared(&pair, B), [1, 0]);
    pair.pass(20 * SECOND);
    pair.assert_clean();
}

#[test]
fn a_group_has_no_more_than_four_ready() {
    let mut room = Pair::many(8, &never());
    let others: Vec<_> = (0..7).map(|side| room.key(side)).collect();
    room.ask(7, offer_all(call_id(1), &others)).unwrap();
    assert_eq!(prepared(&room, 7), [4]);
    for side in 0..7 {
        room.ask(side, accept(call_id(1))).unwrap();
    }
    assert_eq!(*prepared(&room, 7).last().unwrap(), 0);
    assert!(prepared(&room, 7).iter().all(|n| *n <= 4));
}
