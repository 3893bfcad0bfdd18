use proptest::prelude::*;

use super::*;
use crate::{
    id::NodeKey,
    reach::{DialId, Via},
};

fn at(ms: u64) -> Instant {
    Instant::from_micros(ms * 1000)
}

fn node(n: u8) -> NodeId {
    NodeKey::from_seed([n; 32]).node_id()
}

fn call(n: u8) -> Holder {
    Holder::Call(CallId::from_bytes([n; 16]))
}

fn somewhere() -> Addresses {
    Addresses(vec!["/ip4/192.0.2.1/tcp/1".to_owned()])
}

fn pool(most: usize, kept: usize) -> Pool {
    Pool::new(ReachConfig::default(), PoolConfig::default().with_most(most, kept))
}

fn opened() -> ReachInput {
    ReachInput::PeerConnected { via: Via::Direct }
}

fn lost() -> ReachInput {
    ReachInput::PeerDisconnected { jitter: Jitter(0) }
}

/// Who is dialed by these effects.
fn dialed(effects: &Effects) -> Vec<NodeId> {
    let dial = |(node, effect): &(NodeId, Effect)| matches!(effect, Effect::Dial { .. }).then_some(*node);
    effects.iter().filter_map(dial).collect()
}

fn closed(effects: &Effects) -> Vec<NodeId> {
    effects.iter().filter(|(_, effect)| *effect == Effect::Close).map(|(node, _)| *node).collect()
}

/// Everything that is due up to then.
fn until(pool: &mut Pool, end: Instant) -> Effects {
    let mut out = Vec::new();
    while let Some(now) = pool.next_timeout().filter(|at| *at <= end) {
        while let Some(node) = pool.due(now) {
            out.extend(pool.on_time(now, &node, Jitter(u16::MAX)));
            pool.check().unwrap();
        }
        assert!(pool.next_timeout().is_none_or(|next| next > now), "a timer that does nothing");
    }
    out
}

#[test]
fn a_connection_is_held_until_the_last_holder_is_gone_and_then_idle() {
    let mut pool = pool(8, 0);
    assert_eq!(dialed(&pool.want(at(0), node(1), call(1), somewhere()).unwrap()), [node(1)]);
    assert_eq!(pool.want(at(1), node(1), call(2), Addresses::default()), Ok(Vec::new()));
    pool.handle(at(2), &node(1), opened());
    assert_eq!(pool.release(at(3), &node(1), call(1)), []);
    assert_eq!(pool.next_timeout(), None, "one call has it yet");
    assert_eq!(pool.release(at(3), &node(1), call(1)), [], "twice is once");
    assert_eq!(pool.next_timeout(), None);
    assert_eq!(pool.release(at(4), &node(1), call(2)), []);
    let idle = ReachConfig::default().idle;
    assert_eq!(pool.next_timeout(), Some(at(4) + idle));
    assert_eq!(closed(&until(&mut pool, at(4) + idle)), [node(1)]);
    assert!(pool.get(&node(1)).is_none(), "what holds nothing is not kept");
}

#[test]
fn an_attempt_that_nobody_wants_any_more_is_aborted() {
    let mut pool = pool(8, 0);
    pool.want(at(0), node(1), call(1), somewhere()).unwrap();
    let effects = pool.release(at(1), &node(1), call(1));
    assert_eq!(effects, [(node(1), Effect::Abort { dial: DialId(0) }), (node(1), Effect::Close)]);
    assert!(pool.get(&node(1)).is_none());
}

#[test]
fn a_refused_wish_changes_nothing() {
    let mut pool = pool(1, 1);
    let none = PoolRejected::Reach(ReachRejected::NoAddresses);
    assert_eq!(pool.want(at(0), node(1), call(1), Addresses::default()), Err(none));
    assert!(pool.get(&node(1)).is_none());
    pool.want(at(0), node(1), call(1), somewhere()).unwrap();
    let before = format!("{pool:?}");
    assert_eq!(pool.want(at(0), node(2), call(2), somewhere()), Err(PoolRejected::Full(1)));
    assert_eq!(pool.keep(at(0), node(2), somewhere()), Err(PoolRejected::Full(1)));
    assert_eq!(format!("{pool:?}"), before);
    for n in 2..=64 {
        pool.want(at(0), node(1), call(n), Addresses::default()).unwrap();
    }
    assert_eq!(pool.want(at(0), node(1), call(65), Addresses::default()), Err(PoolRejected::TooManyHolders));
    pool.want(at(0), node(1), call(64), Addresses::default()).unwrap();
}

#[test]
fn at_the_bound_goes_who_is_idle_then_who_is_kept_and_nobody_who_is_held() {
    let mut pool = pool(4, 2);
    // 1 is held, 2 is kept, 3 and 4 are idle, 4 for longer.
    pool.want(at(0), node(1), call(1), somewhere()).unwrap();
    pool.keep(at(0), node(2), somewhere()).unwrap();
    for n in [4, 3] {
        pool.want(at(10 - u64::from(n)), node(n), call(n), somewhere()).unwrap();
    }
    for n in 1..=4 {
        pool.handle(at(11), &node(n), opened());
    }
    pool.release(at(12), &node(4), call(4));
    pool.release(at(13), &node(3), call(3));
    let mut gone = Vec::new();
    for n in 5..=7 {
        let effects = pool.want(at(20), node(n), call(n), somewhere()).unwrap();
        pool.check().unwrap();
        gone.extend(closed(&effects));
    }
    assert_eq!(gone, [node(4), node(3), node(2)]);
    assert_eq!(pool.want(at(21), node(8), call(8), somewhere()), Err(PoolRejected::Full(4)));
    assert!(pool.is_held(&node(1)));
}

#[test]
fn contacts_are_connected_a_few_at_a_time_and_connected_again() {
    let mut pool = pool(100, 50);
    let mut first = Vec::new();
    for n in 1..=20 {
        first.extend(dialed(&pool.keep(at(0), node(n), somewhere()).unwrap()));
    }
    assert_eq!(first, (1..=8).map(node).collect::<Vec<_>>());
    // As one is connected, the next one's turn comes.
    assert_eq!(dialed(&pool.handle(at(1), &node(3), opened())), [node(9)]);
    // A call does not wait.
    assert_eq!(dialed(&pool.want(at(2), node(20), call(1), Addresses::default()).unwrap()), [node(20)]);
    // A kept connection is never idle, and is dialed again when it is lost.
    let idle = ReachConfig::default().idle;
    assert!(pool.get(&node(3)).unwrap().next_timeout().is_none());
    assert_eq!(dialed(&pool.handle(at(1) + idle, &node(3), lost())), [node(3)]);
}

#[test]
fn a_contact_that_is_not_there_is_left_alone_for_a_while() {
    let limits = PoolConfig::default();
    let (again, attempts) = (limits.again_after, limits.kept_attempts);
    let mut pool = pool(100, 50);
    pool.keep(at(0), node(1), somewhere()).unwrap();
    let mut tried = 1;
    while let Some(due) = pool.next_timeout().filter(|due| *due < at(60_000)) {
        tried += dialed(&until(&mut pool, due)).len();
    }
    assert_eq!(tried, attempts as usize);
    assert_eq!(pool.get(&node(1)).unwrap().state(), &ReachState::Disconnected);
    let next = pool.next_timeout().unwrap();
    assert_eq!(dialed(&until(&mut pool, next)), [node(1)], "again");
    assert!(next - at(0) >= again / 2 && next - at(0) <= again + std::time::Duration::from_secs(30));
    // A call tries at once, and as often as calls do.
    until(&mut pool, next + std::time::Duration::from_secs(30));
    assert_eq!(
        dialed(&pool.want(next + again / 4, node(1), call(1), Addresses::default()).unwrap()),
        [node(1)]
    );
    let ReachState::Connecting { max_attempts, .. } = pool.get(&node(1)).unwrap().state() else { panic!() };
    assert_eq!(*max_attempts, ReachConfig::default().max_attempts);
}

#[test]
fn a_connection_that_a_contact_opens_is_kept() {
    let mut pool = pool(100, 50);
    pool.keep(at(0), node(1), Addresses::default()).unwrap();
    pool.handle(at(1), &node(1), opened());
    assert_eq!(pool.next_timeout(), None);
    pool.keep_no_more(at(2), &node(1));
    assert_eq!(pool.next_timeout(), Some(at(2) + ReachConfig::default().idle));
    // Whose connection nobody wants is nobody's here.
    assert_eq!(pool.handle(at(3), &node(9), opened()), []);
    assert!(pool.get(&node(9)).is_none());
}

#[test]
fn reset_and_disconnect_reach_one_node_only() {
    let mut pool = pool(8, 8);
    assert!(pool.reset(at(0), &node(1)).is_err());
    pool.keep(at(0), node(1), somewhere()).unwrap();
    pool.want(at(0), node(2), call(1), somewhere()).unwrap();
    let effects = pool.reset(at(1), &node(1)).unwrap();
    assert_eq!(closed(&effects), [node(1)]);
    assert_eq!(dialed(&effects), [], "not at once again");
    assert!(matches!(pool.get(&node(2)).unwrap().state(), ReachState::Connecting { .. }));
    assert_eq!(closed(&pool.disconnect(at(2), &node(2))), [node(2)]);
    assert!(pool.get(&node(2)).is_none() && pool.get(&node(1)).is_some());
}

fn step() -> impl Strategy<Value = (u8, u8, u8)> {
    (0..9u8, 1..9u8, 1..4u8)
}

proptest! {
    #[test]
    fn whatever_happens_the_bounds_hold(steps in proptest::collection::vec((0..40_000u64, step()), 1..80)) {
        let mut pool = pool(5, 3);
        let mut now = at(0);
        let mut dials: BTreeMap<NodeId, DialId> = BTreeMap::new();
        for (pause, (what, n, c)) in steps {
            now = now + std::time::Duration::from_millis(pause);
            let mut effects = until(&mut pool, now);
            let node = node(n);
            let before = format!("{pool:?}");
            let result = match what {
                0 | 1 => pool.want(now, node, call(c), somewhere()),
                2 => Ok(pool.release(now, &node, call(c))),
                3 => pool.keep(now, node, somewhere()),
                4 => Ok(pool.keep_no_more(now, &node)),
                5 => Ok(pool.handle(now, &node, opened())),
                6 => Ok(pool.handle(now, &node, lost())),
                7 => match dials.get(&node) {
                    Some(dial) => {
                        let result = if c == 1 { Ok(Via::Direct) } else { Err("refused".into()) };
                        Ok(pool.handle(now, &node, ReachInput::Dialed { dial: *dial, result, jitter: Jitter(0) }))
                    }
                    None => Ok(Vec::new()),
                },
                _ if c == 1 => Ok(pool.disconnect(now, &node)),
                _ => pool.reset(now, &node),
            };
            match result {
                Ok(more) => effects.extend(more),
                Err(_) => prop_assert_eq!(format!("{pool:?}"), before, "a refused wish changes nothing"),
            }
            prop_assert_eq!(pool.check(), Ok(()));
            for (node, effect) in effects {
                if let Effect::Dial { dial, .. } = effect {
                    dials.insert(node, dial);
                }
            }
        }
    }
}

#[test]
fn a_connection_that_others_have_made_is_made_again_while_it_is_held_and_left_to_them_after_that() {
    let mut pool = pool(4, 2);
    let config = ReachConfig::default();
    let adopt = |pool: &mut Pool, now| {
        pool.adopt(now, node(1), call(1), somewhere(), config.clone(), Via::Direct).unwrap()
    };
    assert_eq!(adopt(&mut pool, at(0)), [], "it is there");
    pool.check().unwrap();
    assert_eq!(pool.release(at(1000), &node(1), call(1)), [], "and stays");
    assert!(pool.get(&node(1)).is_none());
    assert_eq!(adopt(&mut pool, at(2000)), []);
    assert_eq!(dialed(&pool.handle(at(30_000), &node(1), lost())), [node(1)]);
    pool.handle(at(31_000), &node(1), opened());
    pool.release(at(32_000), &node(1), call(1));
    let end = at(32_000) + ReachConfig::default().idle;
    assert_eq!(closed(&until(&mut pool, end)), [node(1)], "this one is ours");
    // Who goes for want of room is forgotten, and not cut off.
    adopt(&mut pool, at(2_000_000));
    pool.keep(at(2_000_000), node(1), somewhere()).unwrap();
    pool.release(at(2_000_000), &node(1), call(1));
    for n in 2..=5 {
        let effects = pool.want(at(2_000_001), node(n), call(n), somewhere()).unwrap();
        assert_eq!(closed(&effects), []);
        pool.check().unwrap();
    }
    assert!(pool.get(&node(1)).is_none());
}
