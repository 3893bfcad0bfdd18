//! The server over TCP (RFC 8656 section 2.1): whose connections are taken, and how long one stays.
//!
//! A connection is one client: what it is given ends with it. Who has no allocation is a stranger and has ten seconds to get one; of
//! strangers there are so many at a time. Everybody else is bounded as over UDP, by [`TurnLimits`](crate::proto::turn::TurnLimits).

use std::{
    collections::{BTreeMap, VecDeque},
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf},
    sync::Notify,
    task::JoinSet,
    time::{self, Instant, MissedTickBehavior},
};

use super::{
    desk::{Transport, Tuple},
    framing::{Broken, Frames},
    outgoing::Outgoing,
    server::LOOK_EVERY,
    serving::{Serving, Shared},
};

/// Connections of strangers at a time, in all and of one address (of one network of 64 bits over IPv6, which is what one home has). A
/// phone has one for each of its addresses and links, 15 for an address in a call of sixteen, and behind one router there may be four such; it
/// is a stranger for three round trips. Beyond that the oldest goes, of the address that has most: who floods drives itself out first.
pub(super) const STRANGERS: usize = 256;
pub(super) const STRANGERS_EACH: usize = 64;

/// So long somebody may be a stranger. 10 s: more than twice what three round trips take over the slowest paths of calls, with a packet
/// lost and sent again after 1 s and 2 s (RFC 6298).
const PATIENCE: Duration = Duration::from_secs(10);

/// So many messages of a stranger are looked at. A client sends three, and repeats them as over UDP: seven times each (RFC 8489 section 6.2.1).
const MESSAGES: u32 = 32;

/// Nothing came for so long: whoever had it is gone. The default life of an allocation (RFC 8656 section 3.2), which would have had to be
/// refreshed.
const IDLE: Duration = Duration::from_secs(600);

/// After the system had no connection for us, since too many files are open, for instance.
const PAUSE: Duration = Duration::from_millis(100);

/// The most bytes that the system keeps of what it has not sent yet, beside what is on its way: 60 ms at 1 Mbit/s. Otherwise it
/// keeps megabytes, which are minutes of speech for somebody whose network is slow.
const UNSENT: u32 = 8 * 1024;

/// Takes connections until it is dropped, and with it all of them.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let strangers = Arc::<Strangers>::default();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, from)) => {
                    let place = strangers.enter(from.ip());
                    connections.spawn(connection(stream, from, shared.clone(), place));
                }
                Err(error) => {
                    tracing::debug!(kind = ?error.kind(), "a TURN connection was not taken");
                    time::sleep(PAUSE).await;
                }
            },
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended {
                    tracing::warn!(%error, "a TURN connection has failed");
                }
            }
        }
    }
}

async fn connection(stream: TcpStream, from: SocketAddr, shared: Arc<Shared>, place: Place) {
    let Ok(local) = prepare(&stream) else { return };
    let outgoing = Arc::new(Outgoing::new(local));
    let (read, write) = stream.into_split();
    let tuple = Tuple { transport: Transport::Tcp, address: from };
    let serving = Serving::new(shared, Transport::Tcp, outgoing.clone(), local);
    let mut connection = Connection { tuple, serving, state: State::new(place) };
    tokio::select! {
        () = outgoing.write(write) => {}
        () = connection.run(read) => {}
    }
    connection.serving.delete(from).await;
}

/// What is relayed waits neither for more of it nor behind much of it.
fn prepare(stream: &TcpStream) -> std::io::Result<SocketAddr> {
    stream.set_nodelay(true)?;
    let socket = socket2::SockRef::from(stream);
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket.set_tcp_notsent_lowat(UNSENT)?;
    // Elsewhere it is one with what is on its way.
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    socket.set_send_buffer_size(4 * UNSENT as usize)?;
    stream.local_addr()
}

struct Connection {
    tuple: Tuple,
    serving: Serving,
    state: State,
}

impl Connection {
    /// Until it is to be closed.
    async fn run(&mut self, mut stream: OwnedReadHalf) {
        let mut frames = Frames::new();
        let mut look = time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let leave = self.state.leave();
            let mut looks = self.state.place.is_some();
            tokio::select! {
                () = leave.notified() => return,
                read = stream.read(frames.room()) => match read {
                    Ok(0) | Err(_) => return,
                    Ok(bytes) => {
                        frames.arrived(bytes);
                        if self.take(&mut frames).await.is_err() {
                            return;
                        }
                    }
                },
                _ = look.tick() => looks = true,
            }
            if !looks {
                continue;
            }
            let goes_on = self.serving.desk().goes_on(self.tuple);
            if !self.state.looks(Instant::now(), goes_on) {
                return;
            }
        }
    }

    async fn take(&mut self, frames: &mut Frames) -> Result<(), Broken> {
        while let Some(message) = frames.next()? {
            self.state.heard(Instant::now())?;
            self.serving.take(self.tuple.address, &message).await;
        }
        Ok(())
    }
}

/// How a connection stands.
struct State {
    strangers: Arc<Strangers>,
    network: IpAddr,
    /// While it is a stranger's.
    place: Option<Place>,
    since: Instant,
    messages: u32,
    heard: Instant,
}

impl State {
    fn new(place: Place) -> Self {
        let (strangers, network, now) = (place.strangers.clone(), place.network, Instant::now());
        Self { strangers, network, place: Some(place), since: now, messages: 0, heard: now }
    }

    /// Told when it has to make room. Who has an allocation never is.
    fn leave(&self) -> Arc<Notify> {
        self.place.as_ref().map(|place| place.leave.clone()).unwrap_or_default()
    }

    /// Something came.
    fn heard(&mut self, now: Instant) -> Result<(), Broken> {
        self.heard = now;
        self.messages += u32::from(self.place.is_some());
        if self.messages > MESSAGES { Err(Broken) } else { Ok(()) }
    }

    /// Whether it stays. `goes_on`: it has an allocation, which may stay or not.
    fn looks(&mut self, now: Instant, goes_on: Option<bool>) -> bool {
        match goes_on {
            Some(goes_on) => {
                (self.place, self.messages) = (None, 0);
                goes_on && now - self.heard < IDLE
            }
            None if self.place.is_none() => {
                // It has given back what it had, and may ask for another one.
                self.since = now;
                self.place = Some(self.strangers.enter(self.network));
                true
            }
            None => now - self.since < PATIENCE,
        }
    }
}

/// Who has no allocation, by network.
#[derive(Debug, Default)]
struct Strangers(Mutex<BTreeMap<IpAddr, VecDeque<Arc<Notify>>>>);

impl Strangers {
    fn enter(self: &Arc<Self>, address: IpAddr) -> Place {
        let network = network(address);
        let mut inner = self.lock();
        let of_it = inner.get(&network).map_or(0, VecDeque::len);
        let all = inner.values().map(VecDeque::len).sum::<usize>();
        let most = || inner.iter().max_by_key(|(_, places)| places.len()).map(|(network, _)| *network);
        let full = if of_it >= STRANGERS_EACH { Some(network) } else { most().filter(|_| all >= STRANGERS) };
        if let Some(full) = full {
            if let Some(oldest) = inner.get_mut(&full).and_then(VecDeque::pop_front) {
                oldest.notify_one();
            }
            inner.retain(|_, places| !places.is_empty());
        }
        let leave = Arc::<Notify>::default();
        inner.entry(network).or_default().push_back(leave.clone());
        Place { strangers: self.clone(), network, leave }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<IpAddr, VecDeque<Arc<Notify>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << 64))),
        v4 => v4,
    }
}

/// One of them. It is free again when this is dropped.
#[derive(Debug)]
struct Place {
    strangers: Arc<Strangers>,
    network: IpAddr,
    /// Somebody else needs it.
    leave: Arc<Notify>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inner = self.strangers.lock();
        if let Some(places) = inner.get_mut(&self.network) {
            places.retain(|place| !Arc::ptr_eq(place, &self.leave));
        }
        inner.retain(|_, places| !places.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn strangers_are_so_many_and_whoever_has_most_makes_room() {
        let strangers = Arc::<Strangers>::default();
        let of = |n: u32| IpAddr::V4(std::net::Ipv4Addr::from_bits(0xcb00_7100 + n));
        let count = |n: u32| strangers.lock().get(&of(n)).map_or(0, VecDeque::len);
        let all = || strangers.lock().values().map(VecDeque::len).sum::<usize>();
        let told = |place: &Place| place.leave.notified().now_or_never().is_some();
        let friend = strangers.enter(of(1));
        let mut flood: Vec<Place> = (0..1000).map(|_| strangers.enter(of(2))).collect();
        assert_eq!((count(2), all()), (STRANGERS_EACH, STRANGERS_EACH + 1), "of one address");
        assert!(flood[..1000 - STRANGERS_EACH].iter().all(told), "the oldest go");
        assert!(!flood[1000 - STRANGERS_EACH..].iter().any(told));
        flood.extend((3..3 + STRANGERS as u32 - 1).map(|n| strangers.enter(of(n))));
        assert_eq!((all(), count(1)), (STRANGERS, 1), "of all");
        assert!(!told(&friend), "who is one of few stays");
        drop(flood);
        drop(friend);
        assert!(strangers.lock().is_empty(), "nothing is kept of those who are gone");
    }

    #[test]
    fn addresses_of_one_home_are_one() {
        let of = |ip: &str| network(ip.parse().unwrap());
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }

    #[tokio::test(start_paused = true)]
    async fn who_stays_a_stranger_has_ten_seconds() {
        let strangers = Arc::<Strangers>::default();
        let mut state = State::new(strangers.enter([127, 0, 0, 1].into()));
        let begun = Instant::now();
        assert!(state.looks(begun + PATIENCE - Duration::from_millis(1), None));
        // Talking makes nobody a friend.
        assert_eq!(state.heard(begun + PATIENCE), Ok(()));
        assert!(!state.looks(begun + PATIENCE, None));
        for _ in 1..MESSAGES {
            assert_eq!(state.heard(begun), Ok(()));
        }
        assert_eq!(state.heard(begun), Err(Broken));
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_an_allocation_stays_while_it_is_heard() {
        let strangers = Arc::<Strangers>::default();
        let mut state = State::new(strangers.enter([127, 0, 0, 1].into()));
        let begun = Instant::now();
        assert!(state.looks(begun, Some(true)));
        assert!(strangers.lock().is_empty(), "it takes no stranger's place");
        for minutes in 1..30 {
            let now = begun + Duration::from_secs(60 * minutes);
            assert_eq!(state.heard(now), Ok(()));
            assert!(state.looks(now, Some(true)));
        }
        let last = begun + Duration::from_secs(60 * 29);
        assert!(state.looks(last + IDLE - Duration::from_millis(1), Some(true)));
        assert!(!state.looks(last + IDLE, Some(true)));
        assert!(!state.looks(last, Some(false)), "nobody vouches for it any more");
        // It gives back what it had: a stranger again, with all the time of one.
        assert!(state.looks(last, None) && state.looks(last + PATIENCE / 2, None));
        assert!(!state.looks(last + PATIENCE, None));
        assert_eq!(strangers.lock().len(), 1);
    }
}
