//! Delivery to one peer over a medium that loses, repeats, delays and reorders.
//!
//! Each message has a sequence number and is sent again until it is acknowledged; the receiver takes each once and
//! acknowledges what it has, cumulatively with a bitmap of the 32 after the next. Nothing is sent further ahead of
//! the oldest unacknowledged message than that bitmap reaches.

use std::{collections::VecDeque, time::Duration};

use super::{
    round_trip::RoundTrip,
    schedule::Schedule,
    signal::{Body, Packet},
};
use crate::{id::CallId, time::Instant};

/// At most one bare acknowledgement in this time, or in a quarter of a round trip where that is more: on a slow path each costs as much
/// as a message.
const ACK_EVERY: Duration = Duration::from_millis(50);

/// How many messages may wait before candidates are dropped: a description, an answer, and the candidates of a
/// machine with many addresses. What a call cannot do without is said a few times at most, and may stand above it.
pub(super) const MAX_QUEUE: usize = 128;

/// Transmissions of one message after which its session is doubted: 0.25, 0.5, 1, 2 and four times 4 s. At 20 % loss each
/// way, one message in 4,000 comes to that by itself. Where round trips are long fewer are sent in that time: then it is the time.
const STUCK: (u32, u32, Duration) = (8, 4, Duration::from_secs(16));

/// Messages sent ahead of the oldest unacknowledged one.
const WINDOW: u32 = 32;

#[derive(Clone, Debug, PartialEq)]
struct Waiting {
    seq: u32,
    generation: u32,
    body: Body,
    schedule: Schedule,
    /// When it was sent for the first time.
    since: Option<Instant>,
}

/// What became of a received sequence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Received {
    New,
    Duplicate,
    /// Further ahead than a correct sender goes.
    TooFar,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Delivery {
    call: CallId,
    confirmed: bool,
    next_seq: u32,
    queue: VecDeque<Waiting>,
    /// Everything up to this arrived.
    cumulative: u32,
    /// Bit n: `cumulative` + 2 + n arrived.
    bits: u32,
    ack_at: Option<Instant>,
    last_ack: Option<Instant>,
    trip: RoundTrip,
}

/// Takes a received sequence number into what has arrived.
pub(super) fn receive(cumulative: &mut u32, bits: &mut u32, seq: u32) -> Received {
    if seq <= *cumulative {
        return Received::Duplicate;
    }
    let ahead = seq - *cumulative - 1;
    if ahead > WINDOW {
        return Received::TooFar;
    }
    if ahead == 0 {
        *cumulative = seq;
        while *bits & 1 == 1 {
            *cumulative += 1;
            *bits >>= 1;
        }
        *bits >>= 1;
        return Received::New;
    }
    let bit = 1 << (ahead - 1);
    if *bits & bit != 0 {
        return Received::Duplicate;
    }
    *bits |= bit;
    Received::New
}

/// A packet to send, and whether it is its first time.
pub(super) struct Due {
    pub(super) packet: Packet,
    pub(super) again: bool,
}

impl Delivery {
    pub(super) fn new(call: CallId) -> Self {
        Self {
            call,
            confirmed: false,
            next_seq: 1,
            queue: VecDeque::new(),
            cumulative: 0,
            bits: 0,
            ack_at: None,
            last_ack: None,
            trip: RoundTrip::default(),
        }
    }

    pub(super) fn confirm(&mut self) {
        self.confirmed = true;
    }

    pub(super) fn is_confirmed(&self) -> bool {
        self.confirmed
    }

    pub(super) fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Nothing has been acknowledged for long. The other side may have lost the session.
    pub(super) fn is_stuck(&self, now: Instant) -> bool {
        let (times, few, long) = STUCK;
        self.queue.front().is_some_and(|w| {
            let sent = w.schedule.sent;
            sent >= times || sent >= few && w.since.is_some_and(|since| now.since(since) >= long)
        })
    }

    /// Something of this sort is on its way.
    pub(super) fn waits(&self, which: impl Fn(&Body) -> bool) -> bool {
        self.queue.iter().any(|w| which(&w.body))
    }

    /// Queues a message; it goes out as soon as the session is confirmed. `false`: a candidate, and the queue is full.
    pub(super) fn push(&mut self, now: Instant, generation: u32, body: Body) -> bool {
        if self.queue.len() >= MAX_QUEUE && matches!(body, Body::Candidate(_)) {
            return false;
        }
        self.enqueue(now, generation, body);
        true
    }

    fn enqueue(&mut self, now: Instant, generation: u32, body: Body) {
        let schedule = Schedule::at(now);
        self.queue.push_back(Waiting { seq: self.next_seq, generation, body, schedule, since: None });
        self.next_seq += 1;
    }

    /// Nothing but this still matters. What was queued keeps its sequence number, so that the receiver's window can
    /// move on, and becomes a bare confirmation. Said once per call, so it may stand above the bound.
    pub(super) fn only(&mut self, now: Instant, body: Body) -> u64 {
        for waiting in &mut self.queue {
            waiting.generation = 0;
            waiting.body = Body::Confirm;
        }
        let given_up = self.queue.len() as u64;
        self.enqueue(now, 0, body);
        given_up
    }

    /// Takes this back, wherever it is on its way: it keeps its number and becomes a bare confirmation.
    pub(super) fn take_back(&mut self, body: &Body) {
        self.withdraw(|b| b == body);
    }

    /// Takes back everything of this sort.
    pub(super) fn withdraw(&mut self, which: impl Fn(&Body) -> bool) {
        for waiting in self.queue.iter_mut().filter(|w| which(&w.body)) {
            waiting.body = Body::Confirm;
        }
    }

    /// Says this in place of everything of its sort that is on its way. What was not sent yet is replaced where it stands, so
    /// that who acknowledges nothing cannot make the queue longer and longer.
    pub(super) fn say_instead(
        &mut self,
        now: Instant,
        generation: u32,
        which: impl Fn(&Body) -> bool,
        body: Body,
    ) {
        let unsent = self.queue.iter().rposition(|w| w.schedule.sent == 0 && which(&w.body));
        self.withdraw(which);
        match unsent.and_then(|at| self.queue.get_mut(at)) {
            Some(waiting) => (waiting.generation, waiting.body) = (generation, body),
            None => self.enqueue(now, generation, body),
        }
    }

    /// Forgets what was not delivered; how much that was.
    pub(super) fn clear(&mut self) -> u64 {
        let n = self.queue.len() as u64;
        self.queue.clear();
        n
    }

    /// Takes a received sequence number.
    pub(super) fn receive(&mut self, now: Instant, seq: u32) -> Received {
        let received = receive(&mut self.cumulative, &mut self.bits, seq);
        if received != Received::TooFar {
            let every = ACK_EVERY.max(self.trip.quarter());
            let ack_at = self.last_ack.map_or(now, |t| (t + every).max(now));
            self.ack_at = self.ack_at.or(Some(ack_at));
        }
        received
    }

    /// Goes on in another session: what is not acknowledged is sent anew there, numbered from 1. Gives what was received
    /// in the one before.
    pub(super) fn restart(&mut self, now: Instant) -> (u32, u32) {
        let received = (self.cumulative, self.bits);
        self.trip = RoundTrip::default();
        (self.cumulative, self.bits, self.ack_at) = (0, 0, None);
        self.next_seq = 1;
        for waiting in &mut self.queue {
            waiting.seq = self.next_seq;
            (waiting.schedule, waiting.since) = (Schedule::at(now), None);
            self.next_seq += 1;
        }
        received
    }

    /// An answer came so long after what it answers was sent, before there was a session. The other side may have had to say it twice, so it
    /// counts as one to a message that was sent again.
    pub(super) fn answered(&mut self, time: Duration) {
        self.trip.took(time, true);
    }

    /// Takes an acknowledgement; how many messages it settled.
    pub(super) fn acknowledged(&mut self, now: Instant, ack: u32, bits: u32) -> u64 {
        let before = self.queue.len();
        let mut took = None;
        self.queue.retain(|w| {
            let settled = w.seq <= ack
                || (w.seq >= ack.saturating_add(2)
                    && w.seq - ack - 2 < 32
                    && bits >> (w.seq - ack - 2) & 1 == 1);
            // An acknowledgement of something never sent is nonsense.
            let settled = settled && w.schedule.sent > 0;
            if let Some(since) = w.since.filter(|_| settled) {
                // The last one has waited for the least of them.
                took = Some((now.since(since), w.schedule.sent > 1));
            }
            !settled
        });
        if let Some((time, again)) = took {
            self.trip.took(time, again);
        }
        (before - self.queue.len()) as u64
    }

    /// A packet that is not part of what is delivered in order.
    pub(super) fn unnumbered(&self, generation: u32, body: Body) -> Packet {
        Packet { seq: 0, ack: self.cumulative, ack_bits: self.bits, call: self.call, generation, body }
    }

    /// What is due now, acknowledgements included.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Due> {
        if !self.confirmed {
            return Vec::new();
        }
        let limit = self.limit();
        let (call, ack, ack_bits) = (self.call, self.cumulative, self.bits);
        let bare = self.unnumbered(0, Body::Ack);
        let trip = self.trip;
        let mut out: Vec<Due> = Vec::new();
        for w in self.queue.iter_mut().take_while(|w| w.seq < limit).filter(|w| w.schedule.is_due(now)) {
            let again = w.schedule.sent > 0;
            w.schedule.transmitted_over(now, trip);
            w.since = w.since.or(Some(now));
            let packet =
                Packet { seq: w.seq, ack, ack_bits, call, generation: w.generation, body: w.body.clone() };
            out.push(Due { packet, again });
        }
        if out.is_empty() && self.ack_at.is_some_and(|t| t <= now) {
            out.push(Due { packet: bare, again: false });
        }
        if !out.is_empty() {
            self.ack_at = None;
            self.last_ack = Some(now);
        }
        out
    }

    /// What waits to be sent for the first time. It still waits afterwards.
    pub(super) fn unsent(&self) -> impl Iterator<Item = Packet> + '_ {
        let limit = if self.confirmed { self.limit() } else { 0 };
        let first = move |w: &&Waiting| w.seq < limit && w.schedule.sent == 0;
        self.queue
            .iter()
            .filter(first)
            .map(|w| Packet { seq: w.seq, ..self.unnumbered(w.generation, w.body.clone()) })
    }

    /// The packet of that sequence number found no subscriber.
    pub(super) fn found_nobody(&mut self, now: Instant, seq: u32) {
        if let Some(w) = self.queue.iter_mut().find(|w| w.seq == seq) {
            w.schedule.found_nobody(now);
            w.since = w.since.filter(|_| w.schedule.sent > 0);
        }
    }

    /// The link did not take it: it goes over gossip, at once.
    pub(super) fn go_again(&mut self, now: Instant, seq: u32) {
        if let Some(w) = self.queue.iter_mut().find(|w| w.seq == seq) {
            w.schedule.next = Some(now);
        }
    }

    /// The peer subscribed to its topic.
    pub(super) fn somebody_came(&mut self, now: Instant) {
        for waiting in &mut self.queue {
            waiting.schedule.somebody_came(now);
        }
    }

    /// There is a way again: everything that waits is sent at once, as if for the first time.
    pub(super) fn send_anew(&mut self, now: Instant) {
        self.trip = RoundTrip::default();
        for waiting in &mut self.queue {
            (waiting.schedule, waiting.since) = (Schedule::at(now), None);
        }
    }

    /// When something is due next.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        if !self.confirmed {
            return None;
        }
        let limit = self.limit();
        let queue = self.queue.iter().take_while(|w| w.seq < limit).filter_map(|w| w.schedule.next).min();
        [queue, self.ack_at].into_iter().flatten().min()
    }

    fn limit(&self) -> u32 {
        self.queue.front().map_or(0, |w| w.seq.saturating_add(WINDOW))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_micros(ms * 1000)
    }

    fn delivery() -> Delivery {
        let mut d = Delivery::new(CallId::from_bytes([1; 16]));
        d.confirm();
        d
    }

    #[test]
    fn a_message_is_sent_again_on_the_ladder_until_it_is_acknowledged() {
        let mut d = delivery();
        assert!(d.push(at(0), 0, Body::Ringing));
        let mut times = Vec::new();
        while let Some(t) = d.next_timeout().filter(|t| *t < at(12_000)) {
            times.extend(d.due(t).iter().map(|_| t.as_micros() / 1000));
        }
        assert_eq!(times, [0, 250, 750, 1750, 3750, 7750, 11_750]);
        assert_eq!(d.acknowledged(at(0), 1, 0), 1);
        assert_eq!(d.next_timeout(), None);
    }

    #[test]
    fn on_a_slow_path_nothing_is_sent_again_before_its_acknowledgement_can_be_there() {
        let mut d = delivery();
        d.answered(Duration::from_millis(900));
        let mut sent = 0;
        for n in 0..20 {
            let now = n * 1_000;
            d.push(at(now), 0, Body::Confirm);
            for ms in (now..now + 900).step_by(50) {
                sent += d.due(at(ms)).len();
            }
            d.acknowledged(at(now + 900), n as u32 + 1, 0);
        }
        assert_eq!((sent, d.queued()), (20, 0));
        // Nor are acknowledgements said more often than that helps.
        d.receive(at(30_000), 1);
        assert_eq!(d.due(at(30_000)).len(), 1);
        d.receive(at(30_010), 2);
        let next = d.next_timeout().unwrap().since(at(30_000)).as_millis();
        assert!((200..=225).contains(&next), "{next}");
    }

    #[test]
    fn a_publish_that_finds_nobody_is_tried_again_soon_and_at_once_when_somebody_comes() {
        let mut d = delivery();
        d.push(at(0), 0, Body::Ringing);
        let mut now = at(0);
        let mut waits = Vec::new();
        for _ in 0..6 {
            assert_eq!(d.due(now).len(), 1);
            d.found_nobody(now, 1);
            let next = d.next_timeout().unwrap();
            waits.push(next.since(now).as_millis());
            now = next;
        }
        assert_eq!(waits, [20, 50, 100, 200, 250, 500]);
        d.somebody_came(at(700));
        assert_eq!(d.next_timeout(), Some(at(700)));
    }

    #[test]
    fn each_message_is_taken_once_in_any_order() {
        let mut d = delivery();
        let seen: Vec<_> = [2, 1, 1, 3, 2, 40, 5, 4].iter().map(|s| d.receive(at(0), *s)).collect();
        use Received::{Duplicate as D, New as N, TooFar as F};
        assert_eq!(seen, [N, N, D, N, D, F, N, N]);
        assert_eq!((d.cumulative, d.bits), (5, 0));
    }

    #[test]
    fn acknowledgements_go_at_most_every_50_ms_and_ride_on_what_is_sent_anyway() {
        let mut d = delivery();
        d.receive(at(0), 1);
        assert_eq!(d.due(at(0)).len(), 1);
        d.receive(at(10), 2);
        assert!(d.due(at(10)).is_empty());
        assert_eq!(d.next_timeout(), Some(at(50)));
        d.push(at(20), 0, Body::Ringing);
        let due = d.due(at(20));
        assert_eq!((due.len(), due[0].packet.seq, due[0].packet.ack), (1, 1, 2));
        assert_eq!(d.ack_at, None);
    }

    #[test]
    fn a_selective_acknowledgement_settles_what_arrived_and_no_more() {
        let mut d = delivery();
        for _ in 0..5 {
            d.push(at(0), 0, Body::Confirm);
        }
        d.due(at(0));
        assert_eq!(d.acknowledged(at(0), 1, 0b101), 3); // 1, 3 and 5
        assert_eq!(d.queue.iter().map(|w| w.seq).collect::<Vec<_>>(), [2, 4]);
        assert_eq!(d.acknowledged(at(0), u32::MAX, u32::MAX), 2);
    }

    #[test]
    fn another_session_starts_anew_with_what_was_not_acknowledged() {
        let mut d = delivery();
        for body in [Body::Ringing, Body::Confirm, Body::Decline] {
            d.push(at(0), 0, body);
        }
        d.due(at(0));
        d.acknowledged(at(0), 1, 0);
        d.receive(at(0), 1);
        d.receive(at(0), 3);
        assert_eq!(d.restart(at(10)), (1, 0b1));
        let due = d.due(at(10));
        let sent: Vec<_> = due.iter().map(|d| (d.packet.seq, d.packet.body.clone(), d.packet.ack)).collect();
        assert_eq!(sent, [(1, Body::Confirm, 0), (2, Body::Decline, 0)]);
        assert_eq!(d.receive(at(20), 1), Received::New);
    }

    #[test]
    fn what_was_never_sent_cannot_be_acknowledged() {
        let mut d = delivery();
        for _ in 0..40 {
            d.push(at(0), 0, Body::Confirm);
        }
        assert_eq!(d.due(at(0)).len(), WINDOW as usize);
        assert_eq!(d.acknowledged(at(0), 100, 0), u64::from(WINDOW));
        assert_eq!(d.queued(), 8);
    }
}
