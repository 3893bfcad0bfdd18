//! Phones as apps make them, and the one node that all of them know.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

use futures::future::Either;
use warp_blink::{
    Audio, Blink, Builder, Event, Events, Identity,
    driver::node::{RelayConfig, RelayLimits, RelayNode},
    id::NodeKey,
};

use crate::process::BOOTSTRAP;

/// Nothing that works takes so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// Who is nobody's phone here, from this number on.
const STRANGERS: usize = 1_000_000;

pub(crate) struct Town {
    pub(crate) bootstrap: RelayNode,
    address: String,
    pub(crate) phones: Vec<Blink>,
    /// The bootstrap node's, which is to be told apart.
    runtime: tokio::runtime::Runtime,
}

/// Far from each other, as keys are.
fn identity(number: usize) -> Identity {
    use sha2::{Digest, Sha256};
    Identity::from_seed(Sha256::digest(number.to_be_bytes()).into())
}

/// The first event that fits. `None`: it did not come in time.
pub(crate) async fn wait<T>(mut events: Events, mut fits: impl FnMut(&Event) -> Option<T>) -> Option<T> {
    let found = async {
        while let Some(event) = events.next().await {
            if let Some(found) = fits(&event) {
                return Some(found);
            }
        }
        None
    };
    tokio::time::timeout(PATIENCE, found).await.ok().flatten()
}

impl Town {
    /// What `blink relay` runs, and nobody else yet.
    pub(crate) async fn found() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name(BOOTSTRAP)
            .enable_all()
            .build()
            .expect("a runtime");
        // All phones are behind one address here.
        let mut limits = RelayLimits::default();
        limits.requests_per_ip = 100_000;
        let config = RelayConfig::new(NodeKey::from(&identity(0)))
            .with_listen(["/ip4/127.0.0.1/tcp/0"])
            .with_limits(limits);
        let bootstrap = runtime.spawn(config.start()).await.expect("it runs").expect("a node on loopback");
        let address = bootstrap.addresses().remove(0);
        eprintln!("the bootstrap node is at {address}");
        Self { bootstrap, address, phones: Vec::new(), runtime }
    }

    /// One who knows the bootstrap node and nobody.
    pub(crate) async fn phone(&self, number: usize, with: impl FnOnce(Builder) -> Builder) -> Blink {
        let builder = Blink::builder(identity(number + 1))
            .media(Audio::silent())
            .listen("/ip4/127.0.0.1/tcp/0")
            .ice_address(IpAddr::V4(Ipv4Addr::LOCALHOST))
            .bootstrap(self.address.clone());
        with(builder).spawn().await.expect("a phone starts")
    }

    /// Calls somebody until it rings there, and no longer: after how long they were reached, and it rang. `None`: never.
    pub(crate) async fn call(&self, caller: usize, callee: usize) -> Option<[Duration; 2]> {
        let (caller, callee) = (&self.phones[caller], &self.phones[callee]);
        let (hers, his, key) = (caller.events(), callee.events(), callee.public_key());
        let start = Instant::now();
        let call = caller.offer([key]).await.expect("an offer");
        let reached = async {
            let reached = wait(hers, |e| match e {
                Event::Reached { peer, .. } if *peer == key => Some(true),
                Event::Ended { call: c, .. } if *c == call => Some(false),
                _ => None,
            });
            (reached.await == Some(true)).then(|| start.elapsed())
        };
        let rings = async {
            wait(his, |e| matches!(e, Event::Incoming { call: c, .. } if *c == call).then_some(())).await?;
            Some(start.elapsed())
        };
        let (reached, rings) = match futures::future::select(Box::pin(reached), Box::pin(rings)).await {
            // Whoever was not reached does not ring.
            Either::Left((None, _)) => (None, None),
            Either::Left((reached, rings)) => (reached, rings.await),
            Either::Right((rings, reached)) => (reached.await, rings),
        };
        // It may have ended by itself.
        let _ = caller.cancel(call).await;
        Some([reached?, rings?])
    }

    /// Each phone has so many contacts more, whom it has never met.
    pub(crate) async fn befriend(&self, phones: &[Blink], contacts: usize) {
        for phone in phones {
            for number in 0..contacts {
                let key = identity(STRANGERS + number).public();
                phone.add_contact(key).await.expect("a contact");
            }
        }
    }

    pub(crate) async fn leave(self) {
        futures::future::join_all(self.phones.into_iter().map(Blink::shutdown)).await;
        let ending = self.runtime.spawn(self.bootstrap.shutdown());
        ending.await.expect("it ends");
        self.runtime.shutdown_background();
    }
}
