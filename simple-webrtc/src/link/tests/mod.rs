//! Everything above the engine, in virtual time: the engine follows a script, and tokio's clock jumps to what comes next.

mod addresses;
mod dying;
mod pool;
mod random;
mod restarts;
mod time_limits;

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{self, Instant};

use crate::addresses::Interfaces;
use crate::engine::fake::{Call, Fake, FakeEngine, Script};
use crate::*;

type Name = &'static str;

/// Longer than anything here takes by itself. Virtual, so nobody waits for it.
const LONG: Duration = Duration::from_secs(3600);

struct Side {
    peers: Peers<Name>,
    events: Events<Name>,
    engine: Arc<FakeEngine>,
    made: UnboundedReceiver<Arc<Fake>>,
    machine: Arc<Machine>,
}

/// A machine with the addresses that the test says.
#[derive(Debug, Default)]
struct Machine(Mutex<BTreeSet<IpAddr>>);

impl Machine {
    fn has(&self, addresses: &[&str]) {
        let addresses = addresses.iter().map(|address| address.parse().expect("an address"));
        *self.0.lock().expect("not poisoned") = addresses.collect();
    }
}

impl Interfaces for Machine {
    fn addresses(&self) -> io::Result<BTreeSet<IpAddr>> {
        Ok(self.0.lock().expect("not poisoned").clone())
    }
}

impl Side {
    fn new(config: Config, script: Script) -> Self {
        let (engine, made) = FakeEngine::new(script);
        let machine = Arc::new(Machine::default());
        machine.has(&["192.0.2.7", "127.0.0.1"]);
        let (peers, events) =
            Peers::with_ports(config, engine.clone(), machine.clone()).expect("inside a runtime");
        Self { peers, events, engine, made, machine }
    }

    fn plain() -> Self {
        Self::new(Config::default(), Script::default())
    }

    async fn next(&mut self) -> Event<Name> {
        time::timeout(LONG, self.events.recv()).await.expect("an event").expect("open stream")
    }

    async fn state(&mut self) -> LinkState {
        loop {
            if let EventKind::State(state) = self.next().await.kind {
                return state;
            }
        }
    }

    async fn description(&mut self) -> Description {
        loop {
            if let EventKind::LocalDescription(description) = self.next().await.kind {
                return description;
            }
        }
    }

    async fn connection(&mut self) -> Arc<Fake> {
        time::timeout(LONG, self.made.recv()).await.expect("a connection").expect("the engine lives")
    }

    /// Nothing further comes, however long one waits, but the end of gathering.
    async fn silence(&mut self) {
        while let Ok(more) = time::timeout(LONG, self.events.recv()).await {
            assert!(matches!(more, Some(Event { kind: EventKind::GatheringDone, .. })), "{more:?}");
        }
    }

    /// A connection that was dialled, answered by nobody in particular, and is up.
    async fn connected(&mut self, peer: Name, generation: u32) -> Arc<Fake> {
        self.peers.dial(peer, Generation(generation)).expect("dial");
        let offer = self.description().await;
        let fake = self.connection().await;
        let answer = Remote::Answer(answer_to(&offer, 1, "theirs"));
        self.peers.apply(&peer, Generation(generation), answer).expect("apply");
        fake.connect();
        while self.state().await != LinkState::Connected {}
        fake
    }
}

fn answer_to(offer: &Description, version: u64, session: &str) -> Description {
    crate::engine::fake::description(DescriptionKind::Answer, version, session).answering(offer)
}

fn offer(version: u64, session: &str) -> Description {
    crate::engine::fake::description(DescriptionKind::Offer, version, session)
}

fn candidate(port: u16, session: Option<&str>) -> Candidate {
    let text = format!("candidate:1 1 udp 1 192.0.2.9 {port} typ host");
    Candidate::parse(&text).expect("valid").with_ufrag(session)
}

fn closes(fake: &Fake) -> usize {
    fake.calls().iter().filter(|call| **call == Call::Close).count()
}

/// How long it takes in virtual time.
async fn took<T>(what: impl Future<Output = T>) -> (T, Duration) {
    let start = Instant::now();
    let done = what.await;
    (done, start.elapsed())
}
