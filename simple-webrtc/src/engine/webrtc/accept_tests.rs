//! From the moment at which somebody accepts until both hear each other, where nothing connects before: counted in ways, one of which
//! is what anything takes from one side to the other, signals and datagrams alike.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::{self, Instant};

use super::net::Net;
use super::virtual_tests::*;
use super::*;
use crate::*;

const FIRST: Generation = Generation(1);
/// Frames come that often from each side, so that waiting for the next one takes next to nothing.
const FRAME: Duration = Duration::from_millis(1);

/// Who offers, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offers {
    /// The caller, when it hears of the acceptance.
    Caller,
    /// The caller, while it rings; its candidates follow when it hears of the acceptance.
    CallerAhead,
    /// The callee, together with the acceptance.
    Callee,
}

impl Offers {
    pub(super) const ALL: [Self; 3] = [Self::Caller, Self::CallerAhead, Self::Callee];
}

enum Signal {
    Accepted,
    Of(EventKind),
}

struct Call {
    sides: [Side; 2],
    delay: Duration,
    /// When, to whom, what.
    wire: VecDeque<(Instant, usize, Signal)>,
    /// What of the caller waits for the acceptance.
    waits: Option<Vec<EventKind>>,
}

const CALLER: usize = 0;
const CALLEE: usize = 1;

impl Call {
    fn peers(&self, side: usize) -> &Peers<&'static str> {
        &self.sides[side].peers
    }

    fn send(&mut self, from: usize, signal: Signal) {
        self.wire.push_back((Instant::now() + self.delay, 1 - from, signal));
    }

    fn said(&mut self, from: usize, kind: EventKind) {
        match (&mut self.waits, &kind) {
            (Some(waits), EventKind::LocalCandidate(_)) if from == CALLER => waits.push(kind),
            (_, EventKind::LocalCandidate(_) | EventKind::LocalDescription(_)) => {
                self.send(from, Signal::Of(kind));
            }
            _ => {}
        }
    }

    fn arrives(&mut self, offers: Offers) {
        let Some((_, to, signal)) = self.wire.pop_front() else { return };
        let applied = match signal {
            Signal::Accepted if offers == Offers::Caller => self.peers(to).dial("peer", FIRST),
            Signal::Accepted => {
                for kind in self.waits.take().into_iter().flatten() {
                    self.said(CALLER, kind);
                }
                Ok(())
            }
            Signal::Of(EventKind::LocalDescription(description)) => match description.kind() {
                DescriptionKind::Offer => self.peers(to).accept("peer", FIRST, description),
                DescriptionKind::Answer => self.peers(to).apply(&"peer", FIRST, Remote::Answer(description)),
            },
            Signal::Of(EventKind::LocalCandidate(candidate)) => {
                self.peers(to).apply(&"peer", FIRST, Remote::Candidate(candidate))
            }
            Signal::Of(_) => Ok(()),
        };
        applied.expect("the other side takes it");
    }

    async fn event(&mut self) -> (usize, EventKind) {
        let [a, b] = &mut self.sides;
        tokio::select! {
            event = a.events.recv() => (CALLER, event.expect("open").kind),
            event = b.events.recv() => (CALLEE, event.expect("open").kind),
        }
    }
}

/// After the acceptance: when the caller and the callee hear the other one.
pub(super) async fn heard(delay: Duration, offers: Offers) -> [Duration; 2] {
    let net = Net::new(delay);
    let sides = [(); 2].map(|()| Side::new(&net, true, loopback()));
    let mut call = Call { sides, delay, wire: VecDeque::new(), waits: None };
    let mut offer = None;
    // While it rings.
    match offers {
        Offers::Caller => call.peers(CALLER).prepare(1).expect("room"),
        Offers::Callee => call.peers(CALLEE).prepare(1).expect("room"),
        Offers::CallerAhead => {
            call.waits = Some(Vec::new());
            call.peers(CALLER).dial("peer", FIRST).expect("dial");
        }
    }
    let rings = time::sleep(Duration::from_secs(5));
    tokio::pin!(rings);
    loop {
        tokio::select! {
            () = &mut rings => break,
            (side, kind) = call.event() => match kind {
                EventKind::LocalDescription(description) => offer = Some(description),
                kind => call.said(side, kind),
            }
        }
    }
    assert!(net.log().is_empty(), "nothing leaves while it rings");
    let accepted = Instant::now();
    call.send(CALLEE, Signal::Accepted);
    match (offers, offer) {
        (Offers::CallerAhead, Some(offer)) => {
            assert!(!offer.as_str().contains("candidate"), "it names an address");
            call.peers(CALLEE).accept("peer", FIRST, offer).expect("accept");
        }
        (Offers::Callee, None) => call.peers(CALLEE).dial("peer", FIRST).expect("dial"),
        _ => {}
    }
    let mut heard = [None; 2];
    let (mut frames, mut n) = (time::interval(FRAME), 0);
    while heard.iter().any(Option::is_none) {
        assert!(accepted.elapsed() < Duration::from_secs(60), "{heard:?}");
        let next = call.wire.front().map_or(accepted + Duration::from_secs(60), |(at, ..)| *at);
        tokio::select! {
            biased;
            () = time::sleep_until(next) => call.arrives(offers),
            (side, kind) = call.event() => match kind {
                EventKind::RemoteTrack(mut track) => {
                    track.recv().await.expect("a packet");
                    heard[side] = Some(accepted.elapsed());
                }
                kind => call.said(side, kind),
            },
            _ = frames.tick() => {
                n += 1;
                call.sides.iter().for_each(|side| side.track.write(frame(n)).expect("fits"));
            }
        }
    }
    let [a, b] = call.sides;
    tokio::join!(a.peers.shutdown(), b.peers.shutdown());
    heard.map(|heard| heard.expect("heard"))
}

/// Where the caller offers after the acceptance: one way for that, one for the offer, one for the answer or the first check, three of
/// checks and nomination, six of DTLS with its cookie (its last one is the callee's own), and one of the first frame. An offer that went ahead
/// saves the first two of these and waits for one, until the caller's address is known. Where the callee offers, it learns last where
/// the other one is, and nominates: that takes a way longer.
#[tokio::test(start_paused = true)]
async fn an_offer_that_goes_ahead_saves_a_round_trip() {
    for delay in [20, 50, 200].map(Duration::from_millis) {
        for (offers, ways) in
            [(Offers::Caller, [13, 12]), (Offers::CallerAhead, [11, 10]), (Offers::Callee, [11, 12])]
        {
            let took = heard(delay, offers).await;
            println!("{delay:?} one way, {offers:?} offers: heard after {took:?}");
            for (took, ways) in took.into_iter().zip(ways) {
                // A frame is waited for, and the checks of ICE may be a moment apart.
                let late = took.checked_sub(ways * delay).expect("less than the protocols allow");
                assert!(late <= 2 * FRAME, "{offers:?}: {took:?} are {late:?} more than {ways} ways");
            }
        }
    }
}
