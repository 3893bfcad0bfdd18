//! Sends the first words of a connection again before the engine does: the DTLS handshake, and what opens the data channels.
//!
//! The engine waits for 1 s each time (RFC 6347 section 4.2.4.1, RFC 9260 section 16) and has no setting for it. With one packet in
//! five lost, of seven connections six took 0.5 to 9.5 s and one did not come about; first messages took several seconds more. Here the same datagrams are sent again, sooner. What did arrive at the first time is dropped by the other side's
//! DTLS as a replay (RFC 6347 section 4.1.2.6), so nothing is said twice.
//!
//! The engine's own timer ends with the first record of an incomplete flight and does not begin again: where that happens to both
//! sides, neither would ever say anything more. So a flight is sent again until the engine has said what comes next.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Content types (RFC 6347 section 4.1): a change of ciphers, the handshake itself, and what is carried for others, which is SCTP.
const CHANGE_CIPHER_SPEC: u8 = 20;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
/// The header of what goes through a relay's channel (RFC 8656 section 12.4).
const CHANNEL_HEADER: usize = 4;

/// The least time until something is sent again. 50 ms, as BoringSSL waits in WebRTC.
const LEAST: Duration = Duration::from_millis(50);
/// While no round trip is known. 100 ms: two of the usual ones.
const UNKNOWN: Duration = Duration::from_millis(100);
/// The longest time, which is the engine's.
const MOST: Duration = Duration::from_secs(1);
/// How often something is sent again. 8: for some 6 s, in which the engine's own repetitions begin it anew.
const ROUNDS: u32 = 8;
/// What carries SCTP is not sent again beyond one time if it is longer than this. 1,400 bytes: what opens association and channel is far
/// below, and the first messages may be more; before a narrow place they wait longer than any round trip says, and four times as much
/// waits four times as long. SCTP itself sends again after a second.
const SHORT: usize = 1_400;
/// What is sent so long after a flight began is the engine's own repetition: it replaces what is kept. Below its 1 s, and more than
/// anything needs to write one flight.
const ENGINE: Duration = Duration::from_millis(900);
/// Datagrams of a flight that are kept: a certificate of 2 kB in pieces of 1,200 bytes, and what is around it, are 6. What is beyond
/// that is left to the engine.
const MAX_DATAGRAMS: usize = 12;
/// Datagrams with SCTP that are sent again. Four make an association (RFC 9260 section 5.1), two each open a channel (RFC 8832
/// section 6) and the first message of each side takes two more; 16 are those of both sides. What comes later is the app's, and SCTP's
/// own matter.
const MAX_CARRIED: u32 = 16;
/// Records of the peer that are known by their number: those of both sides' first words, several in each datagram.
const MAX_HEARD: usize = 64;

/// Epoch and sequence number of a record.
type Number = [u8; 8];

/// What one side has said last, until the other one answers.
#[derive(Debug, Default)]
pub(super) struct Handshake {
    flight: Vec<(SocketAddr, Vec<u8>)>,
    began: Option<Instant>,
    /// When it is to be sent again, and how often it was.
    next: Option<Instant>,
    rounds: u32,
    /// The peer has said something new since: what is sent next is another flight.
    answered: bool,
    heard: VecDeque<Number>,
    /// Datagrams with SCTP that were sent.
    carried: u32,
}

impl Handshake {
    /// Something was sent. `round_trip` is that of the path, if it is known.
    pub(super) fn sent(
        &mut self,
        now: Instant,
        to: SocketAddr,
        datagram: &[u8],
        round_trip: Option<Duration>,
    ) {
        match content(datagram) {
            Some(CHANGE_CIPHER_SPEC | HANDSHAKE) => {}
            Some(APPLICATION_DATA) if self.carried < MAX_CARRIED => self.carried += 1,
            _ => return,
        }
        let again = self.began.is_none_or(|began| now.saturating_duration_since(began) >= ENGINE);
        if self.answered || again {
            (self.answered, self.began, self.rounds) = (false, Some(now), 0);
            self.flight.clear();
        }
        if self.flight.len() < MAX_DATAGRAMS {
            self.flight.push((to, datagram.to_vec()));
        }
        self.next = Some(now + self.wait(round_trip));
    }

    /// Something came from the peer.
    pub(super) fn received(&mut self, now: Instant, datagram: &[u8], round_trip: Option<Duration>) {
        let content = content(datagram);
        let Some(CHANGE_CIPHER_SPEC | HANDSHAKE | APPLICATION_DATA) = content else { return };
        let Some(number) = number(datagram) else { return };
        // What it has sent again it has sent for want of an answer.
        if self.heard.contains(&number) {
            return;
        }
        if self.heard.len() >= MAX_HEARD {
            self.heard.pop_front();
        }
        self.heard.push_back(number);
        self.answered = true;
        if self.next.is_none() {
            return;
        }
        // A part of a flight is not enough to answer it; who carries something has all of the handshake, and SCTP minds itself.
        self.next = (content != Some(APPLICATION_DATA)).then(|| now + self.wait(round_trip));
    }

    /// When [`Self::due`] has something.
    pub(super) fn next(&self) -> Option<Instant> {
        self.next
    }

    /// What is to be sent again now.
    pub(super) fn due(&mut self, now: Instant, round_trip: Option<Duration>) -> &[(SocketAddr, Vec<u8>)] {
        if self.next.is_none_or(|next| next > now) {
            return &[];
        }
        self.rounds += 1;
        let rounds = if self.is_long() { 1 } else { ROUNDS };
        self.next = (self.rounds < rounds).then(|| now + self.wait(round_trip));
        &self.flight
    }

    /// Whether these are messages, and many.
    fn is_long(&self) -> bool {
        let carries = |datagram: &[u8]| content(datagram) == Some(APPLICATION_DATA);
        let bytes: usize = self.flight.iter().map(|(_, datagram)| datagram.len()).sum();
        bytes > SHORT && self.flight.iter().all(|(_, datagram)| carries(datagram))
    }

    /// A quarter more than the round trip, so that what is only on its way is not sent again, and each time twice as long (RFC 6347
    /// section 4.2.4.1), in case it is the path that is slow.
    fn wait(&self, round_trip: Option<Duration>) -> Duration {
        let first = round_trip.map_or(UNKNOWN, |trip| trip + trip / 4).max(LEAST);
        first.saturating_mul(1 << self.rounds.min(ROUNDS)).min(MOST)
    }
}

/// The first byte of what the peers say to each other (RFC 7983), also through the channel of a relay.
fn content(datagram: &[u8]) -> Option<u8> {
    inside(datagram).first().copied()
}

fn inside(datagram: &[u8]) -> &[u8] {
    match datagram.first() {
        Some(0x40..=0x4f) => datagram.get(CHANNEL_HEADER..).unwrap_or_default(),
        _ => datagram,
    }
}

fn number(datagram: &[u8]) -> Option<Number> {
    inside(datagram).get(3..11)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TO: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9);
    const TRIP: Option<Duration> = Some(Duration::from_millis(80));

    fn record(content: u8, number: u8) -> Vec<u8> {
        vec![content, 254, 253, 0, 0, 0, 0, 0, 0, 0, number, 0, 1, 7]
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// When something was sent again until the end of time, and how many datagrams.
    fn repeats(handshake: &mut Handshake, start: Instant) -> Vec<(Duration, usize)> {
        let mut all = Vec::new();
        while let Some(next) = handshake.next() {
            all.push((next - start, handshake.due(next, TRIP).len()));
        }
        all
    }

    #[test]
    fn a_flight_is_sent_again_until_the_next_one_is_there() {
        let start = Instant::now();
        let mut one = Handshake::default();
        assert_eq!(one.next(), None);
        one.sent(start, TO, &record(HANDSHAKE, 1), TRIP);
        one.sent(start, TO, &record(HANDSHAKE, 2), TRIP);
        assert!(one.due(start + ms(99), TRIP).is_empty());
        let times = [100, 300, 700, 1_500, 2_500, 3_500, 4_500, 5_500].map(|at| (ms(at), 2));
        assert_eq!(repeats(&mut one, start), times);
        // The engine's own, with numbers of its own.
        let later = start + ms(1_000);
        one.sent(later, TO, &record(HANDSHAKE, 3), TRIP);
        assert_eq!(one.due(later + ms(100), TRIP), [(TO, record(HANDSHAKE, 3))]);
        // A part of an answer puts it off, the peer's repetition does not.
        one.received(later + ms(200), &record(HANDSHAKE, 1), TRIP);
        assert_eq!(one.next(), Some(later + ms(400)));
        one.received(later + ms(210), &record(HANDSHAKE, 1), TRIP);
        assert_eq!(one.due(later + ms(400), TRIP), [(TO, record(HANDSHAKE, 3))]);
        // The next flight takes its place.
        one.sent(later + ms(450), TO, &record(CHANGE_CIPHER_SPEC, 4), TRIP);
        assert_eq!(one.due(later + ms(550), TRIP), [(TO, record(CHANGE_CIPHER_SPEC, 4))]);
        one.received(later + ms(600), &record(APPLICATION_DATA, 2), TRIP);
        assert_eq!(one.next(), None);
        let mut other = Handshake::default();
        other.sent(start, TO, &record(HANDSHAKE, 1), None);
        assert_eq!(other.next(), Some(start + UNKNOWN));
    }

    #[test]
    fn what_the_peer_repeats_is_no_answer_also_if_it_came_while_nothing_was_open() {
        let start = Instant::now();
        let mut one = Handshake::default();
        for n in 1..=2 {
            one.received(start, &record(APPLICATION_DATA, n), TRIP);
        }
        one.sent(start, TO, &record(APPLICATION_DATA, 1), TRIP);
        for n in 1..=2 {
            one.received(start + ms(50), &record(APPLICATION_DATA, n), TRIP);
        }
        assert_eq!(one.due(start + ms(100), TRIP), [(TO, record(APPLICATION_DATA, 1))]);
    }

    #[test]
    fn sound_answers_nothing_and_what_apps_send_is_left_alone() {
        let start = Instant::now();
        let mut one = Handshake::default();
        one.sent(start, TO, &record(APPLICATION_DATA, 1), TRIP);
        one.received(start, &[0x90; 60], TRIP);
        assert_eq!(one.due(start + ms(100), TRIP), [(TO, record(APPLICATION_DATA, 1))]);
        for n in 0..100 {
            one.received(start, &record(APPLICATION_DATA, n), TRIP);
            one.sent(start + ms(200), TO, &record(APPLICATION_DATA, n), TRIP);
        }
        assert_eq!((one.next(), one.carried), (None, MAX_CARRIED));
        assert!(one.heard.len() <= MAX_HEARD && one.flight.len() <= MAX_DATAGRAMS);
    }

    #[test]
    fn long_messages_are_sent_again_once() {
        let start = Instant::now();
        let mut one = Handshake::default();
        for n in 0..3 {
            one.sent(start, TO, &[record(APPLICATION_DATA, n), vec![0; 600]].concat(), TRIP);
        }
        assert_eq!(repeats(&mut one, start), [(ms(100), 3)]);
        // A certificate is as long, and has nobody else who sends it again soon.
        let mut other = Handshake::default();
        for n in 0..3 {
            other.sent(start, TO, &[record(HANDSHAKE, n), vec![0; 600]].concat(), TRIP);
        }
        assert_eq!(repeats(&mut other, start).len(), ROUNDS as usize);
    }

    #[test]
    fn what_goes_through_the_channel_of_a_relay_counts_and_anything_may_pass() {
        let start = Instant::now();
        let mut one = Handshake::default();
        let relayed = |inside: Vec<u8>| [vec![0x40, 1, 0, inside.len() as u8], inside].concat();
        one.sent(start, TO, &relayed(record(HANDSHAKE, 1)), TRIP);
        assert!(one.next().is_some());
        one.received(start, &relayed(record(APPLICATION_DATA, 9)), TRIP);
        assert_eq!(one.next(), None);
        for first in 0..=255 {
            for len in 0..30 {
                let mut datagram = vec![first; len];
                if let Some(inside) = datagram.get_mut(4) {
                    *inside = HANDSHAKE;
                }
                one.sent(start, TO, &datagram, TRIP);
                one.received(start, &datagram, TRIP);
            }
        }
        assert!(one.flight.len() <= MAX_DATAGRAMS && one.heard.len() <= MAX_HEARD);
    }
}
