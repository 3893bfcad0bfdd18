//! One input to a machine in an active call: a packet of each kind, and everything else that happens in a call.

use divan::Bencher;
use warp_blink::{
    Identity,
    event::{Event, LinkState},
    proto::{
        Command, Effect, EffectKind, EngineLink, Input, Machine, MediaInput, TopicRef,
        signal::{Candidate, HelloKind},
    },
    stats::LinkStats,
    time::Instant,
};

use crate::{
    proto_kit::first_message,
    scenes::{Active, CROWD, SAID, SIXTEEN, TWO},
};

/// So many are timed together: some take no longer than reading the clock.
pub(crate) const EACH: u32 = 16;

/// What else happens in a call.
pub(crate) const HAPPENS: [&str; 13] = [
    "tick_nothing_due",
    "tick_announce_due",
    "announce_repeated",
    "announce_new",
    "done",
    "subscribed",
    "statistics",
    "own_candidate",
    "link_interrupted",
    "command_mute",
    "command_refused",
    "hello_stranger",
    "hello_nonsense",
];

/// An input by its name, and when it comes.
fn happens(active: &Active, name: &str) -> (Instant, Input) {
    let link = active.link;
    let stranger = |kind| Box::new(first_message(&Identity::from_seed([77; 32]), 77, kind));
    let input = match name {
        "tick_nothing_due" => Input::Tick,
        "tick_announce_due" => return (active.announces_at(), Input::Tick),
        "announce_repeated" => active.announce(false),
        "announce_new" => active.announce(true),
        "done" => unreachable!("it needs an effect of this machine"),
        "subscribed" => Input::PeerSubscribed(TopicRef::Peer { call: active.call, owner: active.creator }),
        "statistics" => {
            let mut stats = LinkStats::default();
            stats.route = Some("host".to_owned());
            Input::Media(MediaInput::Stats { link, stats })
        }
        "own_candidate" => {
            let text = "candidate:1 1 udp 2130706431 192.0.2.1 50000 typ host".to_owned();
            Input::Media(MediaInput::LocalCandidate { link, candidate: Candidate { text } })
        }
        "link_interrupted" => Input::Media(MediaInput::State { link, state: EngineLink::Disconnected }),
        "command_mute" => Command::SetMuted(true).into(),
        "command_refused" => Command::Accept { call: active.call, other: Default::default() }.into(),
        "hello_stranger" => Input::Hello(stranger(HelloKind::Offer)),
        "hello_nonsense" => Input::Hello(stranger(HelloKind::Pair)),
        _ => unreachable!("nothing of that name: {name}"),
    };
    (active.now, input)
}

/// The machine to measure, with the input by that name.
fn scene(active: &Active, name: &str) -> (Machine, Instant, Input) {
    if SAID.contains(&name) {
        return (active.machine.clone(), active.now, active.packet(name));
    }
    let mut machine = active.machine.clone();
    if name == "done" {
        let effects = machine.handle(active.announces_at(), Input::Tick).unwrap();
        let said = effects.iter().find(|e| matches!(e.kind, EffectKind::SendCall { .. })).unwrap();
        let done = Input::Done { effect: said.id, outcome: warp_blink::proto::Outcome::Ok };
        return (machine, active.announces_at(), done);
    }
    let (now, input) = happens(active, name);
    (machine, now, input)
}

/// Each input does what its name says; and how many effects it has.
pub(crate) fn check() {
    let run = |active: &Active, name: &str| {
        let (mut machine, now, input) = scene(active, name);
        let before = machine.snapshot().statistics.counters;
        let effects = machine.handle(now, input).unwrap_or_default();
        (effects, machine.snapshot().statistics.counters.unexpected - before.unexpected)
    };
    let has =
        |effects: &[Effect], which: &dyn Fn(&EffectKind) -> bool| effects.iter().any(|e| which(&e.kind));
    let ended = |e: &EffectKind| matches!(e, EffectKind::Emit(Event::Ended { .. }));
    for (size, active) in [("two", &TWO), ("sixteen", &SIXTEEN)] {
        for name in SAID.iter().chain(&HAPPENS) {
            let (effects, unexpected) = run(active, name);
            println!("#effects {size}/{name} {}", effects.len());
            println!("#nonsense {size}/{name} {unexpected}");
        }
        let effects = |name: &str| run(active, name).0;
        assert!(effects("tick_nothing_due").is_empty() && effects("command_refused").is_empty());
        assert!(has(&effects("tick_announce_due"), &|e| matches!(e, EffectKind::SendCall { .. })));
        assert!(effects("announce_repeated").is_empty());
        assert!(has(&effects("announce_new"), &|e| matches!(e, EffectKind::Emit(Event::Participant { .. }))));
        assert_eq!(has(&effects("hang_up"), &ended), size == "two");
        assert!(has(&effects("removed"), &ended));
        assert!(has(&effects("roll_new"), &|e| matches!(e, EffectKind::KeepRoll { .. })));
        assert!(has(&effects("call_key_new"), &|e| matches!(e, EffectKind::KeepCallKey { .. })));
        let offered = |e: &EffectKind| {
            matches!(e, EffectKind::Emit(Event::Link { state: LinkState::OfferReceived, .. }))
        };
        assert!(has(&effects("description"), &offered), "the link is made anew");
    }
}

/// Each time on a machine of its own. What it gives back is dropped after it was timed.
fn measure(bencher: Bencher<'_, '_>, active: &Active, name: &str) {
    let (machine, now, input) = scene(active, name);
    bencher
        .with_inputs(|| (machine.clone(), Some(input.clone())))
        .bench_local_refs(|(machine, input)| input.take().map(|input| machine.handle(now, input)));
}

#[divan::bench(name = "packet/two", args = SAID, sample_size = EACH)]
fn packet_two(bencher: Bencher<'_, '_>, said: &str) {
    measure(bencher, &TWO, said);
}

#[divan::bench(name = "packet/sixteen", args = SAID, sample_size = EACH)]
fn packet_sixteen(bencher: Bencher<'_, '_>, said: &str) {
    measure(bencher, &SIXTEEN, said);
}

#[divan::bench(name = "input/two", args = HAPPENS, sample_size = EACH)]
fn input_two(bencher: Bencher<'_, '_>, name: &str) {
    measure(bencher, &TWO, name);
}

#[divan::bench(name = "input/sixteen", args = HAPPENS, sample_size = EACH)]
fn input_sixteen(bencher: Bencher<'_, '_>, name: &str) {
    measure(bencher, &SIXTEEN, name);
}

/// Beside 63 other calls, each of which is looked at in each step.
#[divan::bench(name = "input/crowd", args = ["tick_nothing_due", "announce_repeated", "hello_nonsense"])]
fn input_crowd(bencher: Bencher<'_, '_>, name: &str) {
    measure(bencher, &CROWD, name);
}
