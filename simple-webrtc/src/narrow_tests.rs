//! A sender of speech on a path with a narrow place and a queue: [`crate::trend`], [`crate::standing`] and
//! [`crate::congestion`] together, in made-up time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::advice::{Advice, Adviser};
use crate::congestion::{Congestion, Fate, Total};
use crate::standing::Standing;
use crate::trend::Trend;

/// A packet of speech.
const STEP: Duration = Duration::from_millis(20);
/// One way, without the queue.
const WAY: Duration = Duration::from_millis(50);
/// From what is decided to the encoder.
const LAG: Duration = Duration::from_millis(50);
/// Bits of a packet that rates do not count: IPv4, UDP and the tag of SRTP.
const AROUND: f64 = 38.0 * 8.0;
/// Bits a second of packets of 20 ms: RTP with its extensions, and the least that is worth sending in them.
const SHORT: f64 = 24.0 * 8.0 * 50.0 + 16_000.0;
/// Bits a second beside speech: reports and checks.
const BESIDE: f64 = 8_000.0;
/// What speech takes where nothing limits it, in bits a second.
const WANTED: f64 = 61_000.0;

/// Speech, and the place that it has to get through.
struct Narrow {
    start: Instant,
    steps: u32,
    /// Bits a second of speech.
    wanted: f64,
    /// Bits a second, and bits that are held.
    carries: f64,
    most: f64,
    queue: f64,
    /// Bits a second beside speech in the first two seconds: what was said before the first word still is.
    first: f64,
    sent: VecDeque<(Instant, f64)>,
    total: Total,
    underway: VecDeque<Fate>,
    reports: VecDeque<(Instant, Vec<Fate>)>,
    told: VecDeque<(Instant, Option<u32>)>,
    limit: Option<u32>,
    /// Since when packets of 20 ms would do.
    short: Option<Instant>,
    congestion: Congestion,
    adviser: Adviser,
    said: Option<u32>,
    trend: Trend,
    standing: Standing,
}

/// What came of a second.
#[derive(Clone, Copy, Debug, Default)]
struct Second {
    /// Bits of RTP.
    sent: f64,
    packets: f64,
    lost: f64,
    /// The longest wait in the queue, in ms.
    wait: f64,
}

impl Narrow {
    /// The queue is of so many ms.
    fn new(carries: f64, queue: f64) -> Self {
        let start = Instant::now();
        let mut standing = Standing::default();
        standing.on_round_trip(start, 2 * WAY);
        Self {
            start,
            steps: 0,
            wanted: WANTED,
            carries,
            most: carries * queue / 1000.0,
            queue: 0.0,
            first: BESIDE,
            sent: VecDeque::new(),
            total: Total::default(),
            underway: VecDeque::new(),
            reports: VecDeque::new(),
            told: VecDeque::new(),
            limit: None,
            short: None,
            congestion: Congestion::default(),
            adviser: Adviser::default(),
            said: None,
            trend: Trend::default(),
            standing,
        }
    }

    fn talk(&mut self, seconds: u32) -> Vec<Second> {
        (0..seconds).map(|_| self.second()).collect()
    }

    fn second(&mut self) -> Second {
        let mut second = Second::default();
        for _ in 0..50 {
            let now = self.start + STEP * self.steps;
            while self.told.front().is_some_and(|(at, _)| *at <= now) {
                self.limit = self.told.pop_front().and_then(|(_, limit)| limit);
            }
            self.speak(now, &mut second);
            self.report(now);
            while self.reports.front().is_some_and(|(at, _)| *at <= now) {
                let Some((_, fates)) = self.reports.pop_front() else { break };
                self.hear(now, &fates);
            }
            self.advise(now);
            if self.steps.is_multiple_of(25) {
                self.standing.on_round_trip(now, 2 * WAY + self.wait());
            }
            self.steps += 1;
        }
        second
    }

    fn wait(&self) -> Duration {
        Duration::from_secs_f64(self.queue / self.carries)
    }

    /// Packets are longer where there is little for them, as the encoder's plans have it.
    fn speak(&mut self, now: Instant, second: &mut Second) {
        let beside = if self.steps < 100 { self.first } else { BESIDE };
        self.queue = (self.queue - (self.carries - beside) * STEP.as_secs_f64()).max(0.0);
        let rate = self.limit.map_or(self.wanted, |limit| self.wanted.min(limit.into()));
        if rate < SHORT {
            self.short = None;
        } else if rate * 0.9 >= SHORT {
            self.short.get_or_insert(now);
        }
        // The encoder takes its time for shorter packets, but for the first.
        let long = |since: Instant| self.steps < 50 || now - since >= Duration::from_secs(5);
        let every = if self.short.is_some_and(long) { 1 } else { 2 };
        if self.steps.is_multiple_of(every) {
            let bits = rate * STEP.as_secs_f64() * f64::from(every);
            let arrived = self.queue + bits + AROUND <= self.most;
            self.queue += if arrived { bits + AROUND } else { 0.0 };
            self.congestion.on_sound(now, self.standing.waits(now), self.standing.stood());
            self.total.packets += 1;
            self.total.bytes += (bits / 8.0) as u64;
            let came = (now - self.start) + WAY + self.wait();
            let came = arrived.then_some(came);
            self.underway.push_back(Fate { left: now, arrived, came, sent: self.total });
            self.sent.push_back((now, bits));
            second.sent += bits;
            second.packets += 1.0;
            second.lost += if arrived { 0.0 } else { 1.0 };
        }
        second.wait = second.wait.max(self.wait().as_secs_f64() * 1000.0);
        while self.sent.front().is_some_and(|(at, _)| now - *at >= Duration::from_secs(1)) {
            self.sent.pop_front();
        }
    }

    /// The peer says each 200 ms what came until then, and what it misses before that.
    fn report(&mut self, now: Instant) {
        let came = |fate: &Fate| fate.came.is_some_and(|came| came <= now - self.start);
        if self.steps.is_multiple_of(10)
            && let Some(last) = self.underway.iter().rposition(came)
        {
            self.reports.push_back((now + WAY, self.underway.drain(..=last).collect()));
        }
    }

    fn hear(&mut self, now: Instant, fates: &[Fate]) {
        let way = self.trend.on_report(fates.iter().filter_map(|fate| Some((fate.left, fate.came?))));
        let delay = self.standing.with(now, way);
        let sending = self.sent.iter().map(|(_, bits)| bits).sum::<f64>() as u64;
        self.congestion.on_feedback(now, fates, delay, (self.steps >= 50).then_some(sending));
    }

    /// Once a second, and at once if less may be sent.
    fn advise(&mut self, now: Instant) {
        let advice = Advice { bitrate: self.congestion.limit(), ..Advice::default() };
        let lower = advice.bitrate.is_some_and(|limit| self.said.is_none_or(|said| limit < said));
        if lower || self.steps.is_multiple_of(50) {
            self.said = advice.bitrate;
            let said = self.adviser.say(now, advice);
            self.told.extend(said.map(|said| (now + LAG, said.bitrate)));
        }
    }
}

#[test]
fn a_narrow_path_is_filled_and_not_overrun() {
    // What it carries, what of that is left to sound in the packets that go there, and its queue in ms.
    for (carries, room, queue) in [
        (60_000.0, 36_800.0, 500.0),
        (60_000.0, 36_800.0, 1500.0),
        (80_000.0, 56_800.0, 200.0),
        (40_000.0, 24_400.0, 500.0),
    ] {
        let told = Narrow::new(carries, queue).talk(120);
        let name = format!("{carries} bit/s, {queue} ms");
        let lost = |seconds: &[Second]| seconds.iter().map(|second| second.lost).sum::<f64>();
        // Nobody knows what it carries before the first second is over.
        assert!(lost(&told) < 30.0, "{name}: {told:?}");
        let later = &told[8..];
        assert_eq!(lost(later), 0.0, "{name}: {told:?}");
        let mean = |of: fn(&Second) -> f64| later.iter().map(of).sum::<f64>() / later.len() as f64;
        let (sent, wait) = (mean(|second| second.sent), mean(|second| second.wait));
        let longest = later.iter().map(|second| second.wait).fold(0.0, f64::max);
        println!("{name}: {sent:.0} bit/s of {room} are used; {wait:.0} ms of queue, {longest:.0} once");
        assert!(sent > 0.85 * room && wait < 80.0 && longest < 200.0, "{name}: {told:?}");
    }
}

#[test]
fn a_queue_that_was_full_before_the_first_word_goes() {
    for (carries, room) in [(60_000.0, 36_800.0), (40_000.0, 24_400.0)] {
        let mut narrow = Narrow::new(carries, 500.0);
        (narrow.queue, narrow.first) = (narrow.most, 0.4 * carries);
        let told = narrow.talk(60);
        let below = |ms: f64| told.iter().position(|second| second.wait < ms).expect("some time");
        let (half, empty) = (below(250.0), below(100.0));
        let lost: f64 = told.iter().map(|second| second.lost).sum();
        let later = &told[10..];
        let sent = later.iter().map(|second| second.sent).sum::<f64>() / later.len() as f64;
        println!(
            "{carries} bit/s: half after {half} s, gone after {empty}, {lost} packets lost; then {sent:.0} bit/s"
        );
        assert!(half <= 5 && empty < 10 && lost < 60.0 && sent > 0.85 * room, "{told:?}");
    }
}

/// What the checks of a path saw during the handshake: two that waited so many ms, and one that did not.
fn checked(narrow: &mut Narrow, queues: [u64; 2]) {
    for queue in queues.into_iter().chain([0]) {
        narrow.standing.on_round_trip(narrow.start, 2 * WAY + Duration::from_millis(queue));
    }
}

#[test]
fn a_path_that_the_handshake_has_filled_is_not_filled_again() {
    for (carries, queues, most_wait) in
        [(60_000.0, [600, 500], 200.0), (60_000.0, [300, 250], 250.0), (40_000.0, [900, 700], 200.0)]
    {
        // Speech is there at once, or somebody listens at first.
        for silent in [0, 3] {
            let mut narrow = Narrow::new(carries, 500.0);
            // Of the handshake a tenth of a second is left, and signals follow it.
            (narrow.queue, narrow.first) = (0.1 * carries, 0.3 * carries);
            checked(&mut narrow, queues);
            narrow.wanted = 10_000.0;
            narrow.talk(silent);
            narrow.wanted = WANTED;
            let told = narrow.talk(30);
            let longest = told.iter().map(|second| second.wait).fold(0.0, f64::max);
            let lost: f64 = told.iter().map(|second| second.lost).sum();
            println!("{carries} bit/s, silent for {silent} s: {longest:.0} ms of queue at most, {lost} lost");
            assert!(longest < most_wait && lost == 0.0, "{carries}, {queues:?}, {silent}: {told:?}");
        }
    }
}

#[test]
fn a_path_that_only_jitters_has_soon_what_speech_wants() {
    let mut wide = Narrow::new(1_000_000.0, 500.0);
    checked(&mut wide, [120, 110]);
    let told = wide.talk(12);
    assert!(told[0].sent < 30_000.0, "{told:?}");
    assert!(told[8..].iter().all(|second| second.sent > 0.98 * WANTED), "{told:?}");
}

#[test]
fn a_path_that_becomes_wider_is_used() {
    let mut narrow = Narrow::new(40_000.0, 500.0);
    assert!(narrow.talk(20).last().is_some_and(|second| second.sent < 30_000.0));
    narrow.carries = 200_000.0;
    let told = narrow.talk(60);
    let free = told.iter().position(|second| second.sent > 0.98 * WANTED);
    println!("used after {free:?} s");
    assert!(free.is_some_and(|second| second < 40), "{told:?}");
}
