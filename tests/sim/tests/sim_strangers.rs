//! Contacts, strangers and wrong clocks in the simulated world.

use std::time::Duration;

use blink_sim::{Conditions, Fault, World, each_seed};
use warp_blink::{
    config::{Admission, Config},
    event::{EndReason, Event, Protection},
    id::{CallId, Identity, NodeKey},
    proto::{
        Command,
        lanes::MAX_WAITING,
        signal::{AppData, Hello, HelloKind, Lane, MediaFormat, SUITE_CLASSICAL, VERSION},
    },
    time::UnixTime,
};

const SECOND: Duration = Duration::from_secs(1);

fn strangers_offer(stranger: &Identity, n: u64) -> Hello {
    let mut call = [0; 16];
    call[..8].copy_from_slice(&n.to_be_bytes());
    call[8..].copy_from_slice(&stranger.public().as_bytes()[..8]);
    Hello {
        kind: HelloKind::Offer,
        from: stranger.public(),
        node: NodeKey::from(stranger).node_id(),
        call: CallId::from_bytes(call),
        sent_at: UnixTime::from_millis(1_700_000_000_000),
        ring_ms: 60_000,
        versions: vec![VERSION],
        suites: vec![SUITE_CLASSICAL],
        media: MediaFormat::default(),
        app_data: AppData::default(),
    }
}

fn offer(world: &mut World, from: usize, to: usize) -> Result<CallId, Fault> {
    match world.offer(from, to)? {
        Ok(call) => Ok(call),
        Err(rejected) => Err(world.complaint(rejected.to_string())),
    }
}

/// It rings there within this time.
fn rings(world: &mut World, call: CallId, to: usize, within: Duration) -> Result<Duration, Fault> {
    match world.run_until(within, |w| w.rings(to, call))? {
        Some(took) => Ok(took),
        None => Err(world.complaint(format!("it does not ring within {within:?}"))),
    }
}

#[test]
fn hostile_10_000_offers_of_100_strangers_leave_a_contact_its_second() -> Result<(), String> {
    let strangers: Vec<Identity> = (0..100).map(|n| Identity::from_seed([100 + n; 32])).collect();
    each_seed(4, |seed| {
        let mut world = World::new(seed, Conditions::clean(), vec![Config::default(); 2])?;
        world.befriend(0, 1)?;
        world.run_for(SECOND)?;
        let mut call = None;
        for n in 0..10_000_u64 {
            let stranger = &strangers[(n % 100) as usize];
            world.stranger_offers(1, strangers_offer(stranger, n))?;
            world.run_for(Duration::from_micros(500))?;
            if n == 5_000 {
                // In the middle of it, a contact calls.
                call = Some((offer(&mut world, 0, 1)?, world.now()));
            }
            if let Some((id, since)) = call
                && !world.rings(1, id)
                && world.now().since(since) > SECOND
            {
                return Err(world.complaint("a second has passed, and it does not ring"));
            }
            let node = &world.nodes()[1];
            if node.waiting(Lane::Strangers) > MAX_WAITING || node.machine.snapshot().calls.len() > 64 {
                return Err(world.complaint("a bound is exceeded"));
            }
        }
        let node = &world.nodes()[1];
        let counters = node.machine.snapshot().statistics.counters;
        if seed == 0 {
            println!(
                "of 10,000 offers within 5 s {} found the lane full, {} no place; {} are sent signals",
                node.turned_away, counters.refused.crowded, counters.sent
            );
        }
        // What was opened: the burst, twenty a second, and no more.
        let opened = 10_000 - node.turned_away - MAX_WAITING as u64;
        if opened > 16 + 20 * 6 {
            return Err(world.complaint(format!("{opened} offers of strangers were opened within 5 s")));
        }
        Ok(())
    })
}

#[test]
fn a_contact_rings_one_round_trip_earlier() -> Result<(), String> {
    each_seed(50, |seed| {
        let mut times = Vec::new();
        for friends in [true, false] {
            // 50 ms each way, exactly.
            let mut conditions = Conditions::clean();
            conditions.delay = (Duration::from_millis(50), Duration::from_millis(50));
            let mut world = World::new(seed, conditions, vec![Config::default(); 2])?;
            if friends {
                world.befriend(0, 1)?;
            }
            world.run_for(SECOND)?;
            let call = offer(&mut world, 0, 1)?;
            times.push(rings(&mut world, call, 1, SECOND)?);
            world.finish()?;
        }
        let saved = times[1].saturating_sub(times[0]);
        // A round trip, less what the subscription to the caller's topic had to be waited for anyway.
        if saved < Duration::from_millis(90) {
            return Err(Fault { seed, at: Default::default(), node: None, what: format!("saved {saved:?}") });
        }
        Ok(())
    })
}

#[test]
fn a_phone_whose_clock_is_a_day_off_rings_and_calls() -> Result<(), String> {
    const DAY: i64 = 24 * 3600 * 1000;
    each_seed(40, |seed| {
        for (node, off) in [(0, DAY), (0, -DAY), (1, DAY), (1, -DAY)] {
            let mut world = World::new(seed, Conditions::rough(), vec![Config::default(); 2])?;
            world.set_clock_off(node, off);
            if seed % 2 == 0 {
                world.befriend(0, 1)?;
            }
            let call = offer(&mut world, 0, 1)?;
            rings(&mut world, call, 1, 12 * SECOND)?;
            let accepted = world.accept(1, call)?;
            accepted.map_err(|r| world.complaint(r.to_string()))?;
            let both = |w: &World| w.connected(0, call) && w.connected(1, call);
            if world.run_until(15 * SECOND, both)?.is_none() {
                return Err(world.complaint("it does not connect"));
            }
            world.finish()?;
        }
        Ok(())
    })
}

#[test]
fn who_is_refused_cannot_tell_it_from_being_offline() -> Result<(), String> {
    each_seed(20, |seed| {
        let mut closed = Config::default();
        closed.admission = Admission::Contacts;
        let mut ends = Vec::new();
        for refused in [true, false] {
            let mut world = World::new(seed, Conditions::clean(), vec![Config::default(), closed.clone()])?;
            if !refused {
                // Offline for signals, though connected: what is sent to it gets lost.
                world.cut(Duration::ZERO, 60 * SECOND, &[1]);
            }
            let call = offer(&mut world, 0, 1)?;
            world.run_for(20 * SECOND)?;
            let told: Vec<String> = world.nodes()[0]
                .events
                .iter()
                .filter(|(_, e)| {
                    matches!(e, Event::Ringing { .. } | Event::Ended { .. } | Event::Incoming { .. })
                })
                .map(
                    |(_, e)| {
                        if let Event::Ended { reason, .. } = e { reason.to_string() } else { "?".into() }
                    },
                )
                .collect();
            if world.outcome(0, call).map(|o| o.reason) != Some(EndReason::Unreachable) {
                return Err(world.complaint("it should be unreachable"));
            }
            if !world.nodes()[1].events.iter().all(|(_, e)| matches!(e, Event::Node { .. })) {
                return Err(world.complaint("the callee's app was told"));
            }
            ends.push(told);
        }
        if ends[0] != ends[1] {
            return Err(Fault { seed, at: Default::default(), node: None, what: format!("{ends:?}") });
        }
        Ok(())
    })
}

#[test]
fn after_the_first_accepted_call_the_next_one_is_protected() -> Result<(), String> {
    each_seed(100, |seed| {
        let mut world = World::new(seed, Conditions::rough(), vec![Config::default(); 2])?;
        for (round, wanted) in [Protection::Classical, Protection::PostQuantum].into_iter().enumerate() {
            // First 0 calls 1, then 1 calls 0.
            let (from, to) = (round, 1 - round);
            let call = offer(&mut world, from, to)?;
            rings(&mut world, call, to, 12 * SECOND)?;
            let accepted = world.accept(to, call)?;
            accepted.map_err(|r| world.complaint(r.to_string()))?;
            let both = |w: &World| w.connected(0, call) && w.connected(1, call);
            if world.run_until(15 * SECOND, both)?.is_none() {
                return Err(world.complaint("it does not connect"));
            }
            for node in [0, 1] {
                let snapshot = world.nodes()[node].machine.snapshot();
                let shown = snapshot.call(call).and_then(|c| c.participants[0].protection);
                if shown != Some(wanted) {
                    return Err(world.complaint(format!("node {node} shows {shown:?}, not {wanted:?}")));
                }
            }
            // The keys cross as any signal does.
            world.run_for(20 * SECOND)?;
            let ended = world.command(from, Command::HangUp { call })?;
            ended.map_err(|r| world.complaint(r.to_string()))?;
            world.run_for(10 * SECOND)?;
        }
        world.finish()
    })
}
