//! Phones with nodes of their own in one process: gossip and media over loopback, nothing played.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a helper of tests fails as a test does")]

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::atomic::{AtomicU8, Ordering},
    time::Duration,
};

use warp_blink::{
    Audio, Blink, Builder, CallId, Config, EndReason, Event, Events, Identity, PreConnect, PublicKey,
    event::Snapshot,
};

/// Long enough that only what hangs reaches it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Where media goes.
pub const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A phone and what it tells.
pub struct Phone {
    /// The phone.
    pub blink: Blink,
    /// What it told and nobody has read yet.
    pub events: Events,
}

/// An identity that no other phone of this process has.
pub fn fresh() -> Identity {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    Identity::from_seed([NEXT.fetch_add(1, Ordering::Relaxed); 32])
}

/// Connects while it rings.
pub fn early() -> Config {
    let mut config = Config::default();
    config.pre_connect = PreConnect::Always;
    config
}

impl Phone {
    /// Starts one of a fresh identity, which knows where these are.
    pub async fn start(config: Config, peers: &[&Phone]) -> Self {
        Self::of(fresh(), config, peers).await
    }

    /// Starts one of this identity.
    pub async fn of(identity: Identity, config: Config, peers: &[&Phone]) -> Self {
        Self::built(Blink::builder(identity).config(config), peers).await
    }

    /// Starts what was begun, with a node and media of its own on loopback.
    pub async fn built(builder: Builder, peers: &[&Phone]) -> Self {
        let mut builder = builder.media(Audio::silent()).listen("/ip4/127.0.0.1/tcp/0").ice_address(LOOPBACK);
        for peer in peers {
            builder = builder.peer(peer.address().await);
        }
        let blink = builder.spawn().await.unwrap();
        let events = blink.events();
        Self { blink, events }
    }

    /// Whom one calls to reach it.
    pub fn key(&self) -> PublicKey {
        self.blink.public_key()
    }

    /// Waits until the snapshot is like that.
    pub async fn seen(&self, what: &str, ready: impl Fn(&Snapshot) -> bool) {
        let mut watch = self.blink.snapshots();
        let done = tokio::time::timeout(PATIENCE, watch.wait_for(|s| ready(s))).await;
        assert!(matches!(done, Ok(Ok(_))), "{what} was not seen: {:#?}", self.blink.snapshot());
    }

    /// Where its node listens.
    pub async fn address(&self) -> String {
        self.seen("an address", |s| !s.addresses.is_empty()).await;
        self.blink.snapshot().addresses[0].clone()
    }

    /// Waits for an event; panics if it does not come.
    pub async fn wait<T>(&mut self, what: &str, mut pick: impl FnMut(&Event) -> Option<T>) -> T {
        let mut seen = Vec::new();
        let found = tokio::time::timeout(PATIENCE, async {
            loop {
                match self.events.next().await {
                    Some(event) => match pick(&event) {
                        Some(found) => return Some(found),
                        None => seen.push(event),
                    },
                    None => return None,
                }
            }
        })
        .await;
        match found {
            Ok(Some(found)) => found,
            other => panic!("{what} did not come (stream ended: {}); seen: {seen:#?}", other.is_ok()),
        }
    }

    /// Waits for a call.
    pub async fn incoming(&mut self) -> CallId {
        self.wait("a call", |e| if let Event::Incoming { call, .. } = e { Some(*call) } else { None }).await
    }

    /// Waits for the end of that call: why, and who ended it.
    pub async fn ended(&mut self, wanted: CallId) -> (EndReason, Option<PublicKey>) {
        self.wait("the end", |e| match e {
            Event::Ended { call, reason, by, .. } if *call == wanted => Some((*reason, *by)),
            _ => None,
        })
        .await
    }

    /// Waits for the first audio.
    pub async fn heard(&mut self) {
        self.wait("first audio", |e| matches!(e, Event::FirstAudio { .. }).then_some(())).await;
    }
}
