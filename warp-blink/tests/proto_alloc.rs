//! What the machine holds in memory, measured: of calls as they are, and of the largest that others can make of them.
//! Alone in its program: every thread is counted. `make bench` writes the lines with `#held` into docs/benchmarks.md.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod proto_kit;

use peak_alloc::PeakAlloc;
use proto_kit::{A, Pair, SECOND, Trace, feed_alone, first_message, packet};
use warp_blink::{
    config::Config,
    event::Phase,
    id::{Identity, NodeKey},
    proto::{
        Input, Machine, SessionNo,
        signal::{
            AppData, Body, Candidate, Description, DescriptionKind, HelloKind, MAX_APP_DATA, MAX_CANDIDATE,
            MAX_DESCRIPTION, MAX_SUBJECTS, Packet, Record, RecordKind, Roll,
        },
    },
    time::Instant,
};

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// The most that a call that rings may take, in bytes. All of these are twice what was measured: 3,277 here.
const PENDING: usize = 6 * 1024 + 512;

/// The most if its caller sends all that it can: measured 137,253, of which 64 KiB are candidates that wait for a link.
const PENDING_MOST: usize = 268 * 1024;

/// The most that an active call of sixteen may take: measured 44,790.
const ACTIVE: usize = 88 * 1024;

/// The most if all fifteen others send all that they can: measured 1,050,870.
const ACTIVE_MOST: usize = 2053 * 1024;

const NOW: Instant = Instant::from_micros(1_000_000);

/// What is held for each, over so many, as a line for the tables.
fn held<T>(name: &str, n: usize, each: usize, make: impl Fn() -> T) -> (usize, Vec<T>) {
    let mut all = Vec::with_capacity(n);
    let before = HEAP.current_usage();
    all.extend((0..n).map(|_| make()));
    let bytes = (HEAP.current_usage() - before) / n / each;
    println!("#held {name} {bytes}");
    (bytes, all)
}

/// A machine at which strangers call, as many as may ring, each of whom then says these.
fn rung(
    strangers: &[Identity],
    app_data: usize,
    confirms: bool,
    says: &dyn Fn(&Identity) -> Vec<Body>,
) -> Machine {
    let me = Identity::from_seed([1; 32]);
    let mut config = Config::default();
    config.max_pending = 63;
    let mut machine = Machine::new(config, me.public(), NodeKey::from(&me).node_id());
    for (n, caller) in (100..).zip(strangers) {
        let mut hello = first_message(caller, n, HelloKind::Offer);
        hello.hello.app_data = AppData::new(vec![7; app_data]).unwrap();
        feed_alone(&mut machine, NOW, Input::Hello(Box::new(hello)));
        let first = confirms.then_some(Body::Confirm);
        for (seq, body) in (1..).zip(first.into_iter().chain(says(caller))) {
            let mut packet = packet(n, seq, body);
            packet.generation = 1;
            let input = Input::Packet { from: caller.public(), session: SessionNo(1), packet };
            feed_alone(&mut machine, NOW, input);
        }
    }
    let ring = machine.snapshot().calls.iter().filter(|c| c.phase == Phase::Incoming).count();
    assert_eq!(ring, if confirms { strangers.len() } else { 0 });
    machine
}

/// What a link is told, as much as is kept of it before there is one.
fn link_signals(description: bool) -> Vec<Body> {
    let text = "x".repeat(MAX_DESCRIPTION);
    let offer = Body::Description(Description { kind: DescriptionKind::Offer, text });
    let candidate = || Body::Candidate(Candidate { text: "x".repeat(MAX_CANDIDATE) });
    let more = std::iter::repeat_with(candidate).take(100);
    description.then_some(offer).into_iter().chain(more).collect()
}

/// Those of [`roll`].
fn crowd() -> Vec<Identity> {
    (0..MAX_SUBJECTS as u8 - 1).map(|n| Identity::from_seed([200 + n; 32])).collect()
}

/// As many people as a call can ever have had, each with three words: added, left, and added again by somebody else.
fn roll(creator: &Identity, crowd: &[Identity]) -> Roll {
    let create = proto_kit::create(creator.public());
    let word = |subject: &Identity, number, kind, by: &Identity| Record {
        subject: subject.public(),
        number,
        kind,
        by: by.public(),
    };
    let words = |(n, who): (usize, &Identity)| {
        let other = &crowd[(n + 1) % crowd.len()];
        [
            word(who, 1, RecordKind::Add, creator),
            word(who, 2, RecordKind::Add, other),
            word(who, 1, RecordKind::Leave, who),
        ]
    };
    Roll { create, records: crowd.iter().enumerate().flat_map(words).collect() }
}

/// A call of so many in which nothing is on its way, as each machine in it took it.
fn active(n: usize) -> (Trace, Pair) {
    let mut room = Pair::many(n as u8, &Config::default());
    let call = room.join_all();
    room.pass(20 * SECOND);
    room.assert_joined(&(0..n).collect::<Vec<_>>(), call);
    (room.recorded(), room)
}

#[test]
fn calls_hold_no_more_than_their_share() {
    // Begun first: by the time it is done, what starts the test allocates nothing any more.
    let sizes = [1, 15].map(|others| (others, active(others + 1)));
    let strangers: Vec<_> = (0..32).map(|n| Identity::from_seed([100 + n; 32])).collect();
    let calls = strangers.len();
    held("unconfirmed", 10, calls, || rung(&strangers, 0, false, &|_| Vec::new()));
    let (pending, _) = held("pending", 10, calls, || rung(&strangers, 0, true, &|_| Vec::new()));
    let crowd = crowd();
    let all = |caller: &Identity| {
        let mut all = link_signals(true);
        all.push(Body::Roll(roll(caller, &crowd)));
        all
    };
    let (pending_most, machines) =
        held("pending_most", 2, calls, || rung(&strangers, MAX_APP_DATA, true, &all));
    let snapshot = machines[0].snapshot();
    assert!(snapshot.calls.iter().all(|c| c.participants.len() == MAX_SUBJECTS), "all were believed");
    assert!(snapshot.statistics.counters.unexpected > 0, "more than is kept was sent");

    let mut by_size = Vec::new();
    for (others, (trace, _)) in &sizes {
        let (bytes, machines) = held(&format!("active/{others}"), 10, 1, || trace.replay(A));
        by_size.push(bytes);
        held(&format!("snapshot/{others}"), 10, 1, || machines[0].snapshot());
    }
    let [pair, sixteen] = by_size[..] else { panic!("two sizes") };
    println!("#held participant {}", (sixteen - pair) / 14);

    // The others of sixteen tell of candidates of a link that never comes.
    let [_, (_, (trace, room))] = &sizes;
    let (active_most, machines) = held("active_most/15", 2, 1, || {
        let mut machine = trace.replay(A);
        for from in (1..16).map(|side| room.key(side)) {
            let (session, last) = trace.last_of(A, from);
            for (seq, body) in (last.seq + 1..).zip(link_signals(false)) {
                let packet = Box::new(Packet { seq, generation: 1000, body, ..last.clone() });
                feed_alone(&mut machine, room.now, Input::Packet { from, session, packet });
            }
        }
        machine
    });
    assert!(machines[0].snapshot().statistics.counters.unexpected >= 15 * 36, "more than is kept was sent");

    for (what, found, most) in [
        ("a call that rings", pending, PENDING),
        ("one whose caller sends what it can", pending_most, PENDING_MOST),
        ("a call of sixteen", sixteen, ACTIVE),
        ("one whose participants send what they can", active_most, ACTIVE_MOST),
    ] {
        assert!(found <= most, "{what}: {found} bytes, at most {most}");
        assert!(
            2 * found >= most / 2,
            "{what}: {found} bytes are so much less than {most} that this guards nothing"
        );
    }
}
