//! What a relay gives to others, and where it ends.

use std::{num::NonZeroU32, time::Duration};

use libp2p_relay::{Config, Event};
use tracing::debug;

/// How much a relay gives. It carries signals, not sound: a call of an hour has signals for about a megabyte, and sound would be ten
/// times as much.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RelayLimits {
    /// The most nodes for which it keeps a place at a time. Default 1024: a connection each, of about 100 kB.
    pub places: usize,
    /// How long a place is kept until it is asked for again. Default 1 hour, as libp2p's own (circuit relay v2 recommends it). It
    /// is renewed after three quarters.
    pub place_time: Duration,
    /// The most circuits at a time. Default 512: every other place is being called.
    pub circuits: usize,
    /// The most circuits of one node at a time. Default 16: a call of eight people, twice, while one replaces another.
    pub circuits_per_node: usize,
    /// The longest that a circuit may live. Default 1 hour: libp2p's default of two minutes interrupts every call's signals; the
    /// longest calls of all are made anew once an hour.
    pub circuit_time: Duration,
    /// The most bytes that go through a circuit, in each direction. Default 4 MiB: four times the signals of an hour. Sound at
    /// 24 kbit/s is through with it after 23 minutes, so this is no way to make calls through a stranger's relay.
    pub circuit_bytes: u64,
    /// How many places and circuits one node may ask for in a row; after that one more place each minute, and one more circuit each
    /// 10 s: in a conversation circuits are made anew each 105 s, and a node has up to sixteen. Default 30, as libp2p's own.
    pub requests_per_node: u32,
    /// The same for one IP address; one more each second. Default 120: a house or a carrier's NAT has many nodes, and they all come back at once after an
    /// outage; libp2p's own is 60.
    pub requests_per_ip: u32,
}

impl Default for RelayLimits {
    fn default() -> Self {
        Self {
            places: 1024,
            place_time: Duration::from_secs(3600),
            circuits: 512,
            circuits_per_node: 16,
            circuit_time: Duration::from_secs(3600),
            circuit_bytes: 4 << 20,
            requests_per_node: 30,
            requests_per_ip: 120,
        }
    }
}

/// The shortest and the longest time that a place is kept: libp2p counts it in whole seconds, and renews after three quarters; and a
/// place that is kept for days says nothing.
const PLACE: (Duration, Duration) = (Duration::from_secs(4), Duration::from_secs(86_400));

/// The longest life of a circuit: a day.
const LONGEST_CIRCUIT: Duration = Duration::from_secs(86_400);

impl RelayLimits {
    /// Another number of places.
    #[must_use]
    pub fn with_places(mut self, places: usize) -> Self {
        self.places = places;
        self
    }

    /// Another time for which a place is kept, from 4 s to a day.
    #[must_use]
    pub fn with_place_time(mut self, place_time: Duration) -> Self {
        self.place_time = place_time.clamp(PLACE.0, PLACE.1);
        self
    }

    /// Another time and another number of bytes for a circuit, from a second to a day.
    #[must_use]
    pub fn with_circuit(mut self, time: Duration, bytes: u64) -> Self {
        self.circuit_time = time;
        self.circuit_bytes = bytes;
        self
    }

    pub(super) fn config(&self) -> Config {
        let [every, circuit, second] = [60, 10, 1].map(Duration::from_secs);
        let config = Config {
            max_reservations: self.places,
            // Two, where one connection takes over from another.
            max_reservations_per_peer: 4,
            reservation_duration: self.place_time.clamp(PLACE.0, PLACE.1),
            reservation_rate_limiters: Vec::new(),
            max_circuits: self.circuits,
            max_circuits_per_peer: self.circuits_per_node,
            // Whole seconds, of which 32 bits go over the wire; libp2p panics beyond.
            max_circuit_duration: self.circuit_time.clamp(Duration::from_secs(1), LONGEST_CIRCUIT),
            max_circuit_bytes: self.circuit_bytes,
            circuit_src_rate_limiters: Vec::new(),
        };
        let [node, ip] = [self.requests_per_node, self.requests_per_ip].map(at_least_one);
        config
            .reservation_rate_per_peer(node, every)
            .circuit_src_per_peer(node, circuit)
            .reservation_rate_per_ip(ip, second)
            .circuit_src_per_ip(ip, second)
    }
}

fn at_least_one(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN)
}

/// Without names: who calls whom is nobody's business, also not that of a log.
pub(super) fn log(event: &Event) {
    match event {
        Event::ReservationReqAccepted { renewed, .. } => debug!(renewed, "a place is kept"),
        Event::ReservationReqDenied { status, .. } => debug!(?status, "a place was refused"),
        Event::ReservationClosed { .. } | Event::ReservationTimedOut { .. } => {
            debug!("a place is free again")
        }
        Event::CircuitReqAccepted { .. } => debug!("a circuit is open"),
        Event::CircuitReqDenied { status, .. } => debug!(?status, "a circuit was refused"),
        Event::CircuitClosed { error, .. } => debug!(cut = error.is_some(), "a circuit is closed"),
        _ => {}
    }
}
