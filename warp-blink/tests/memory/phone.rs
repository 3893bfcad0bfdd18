//! A phone in memory, and waiting for what it tells.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use warp_blink::{
    Blink, Builder, CallId, Config, EndReason, Event, Events, Identity, Memory, MemoryStore, PublicKey,
    select,
};

/// Long enough that only what hangs reaches it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn identity(seed: u8) -> Identity {
    Identity::from_seed([seed; 32])
}

pub(crate) struct Phone {
    pub(crate) blink: Blink,
    pub(crate) events: Events,
}

impl Phone {
    pub(crate) async fn of(builder: Builder) -> Self {
        let blink = builder.spawn().await.unwrap();
        Self { events: blink.events(), blink }
    }

    pub(crate) async fn start(memory: &Memory, seed: u8, config: Config) -> Self {
        Self::of(Blink::builder(identity(seed)).memory(memory).config(config)).await
    }

    /// One that remembers.
    pub(crate) async fn keeping(memory: &Memory, seed: u8, store: &Arc<MemoryStore>) -> Self {
        Self::of(Blink::builder(identity(seed)).memory(memory).store(store.clone())).await
    }

    pub(crate) fn key(&self) -> PublicKey {
        self.blink.public_key()
    }

    /// Connects the two nodes.
    pub(crate) async fn meets(&self, other: &Self) {
        let address = format!("/memory/1/p2p/{}", other.blink.node_id());
        self.blink.add_address(&address).await.unwrap();
    }

    pub(crate) async fn wait<T>(&mut self, what: &str, mut pick: impl FnMut(&Event) -> Option<T>) -> T {
        let mut seen = Vec::new();
        let found = tokio::time::timeout(PATIENCE, async {
            while let Some(event) = self.events.next().await {
                if let Some(found) = pick(&event) {
                    return Some(found);
                }
                seen.push(event);
            }
            None
        });
        match found.await {
            Ok(Some(found)) => found,
            other => panic!(
                "{what} did not come ({}); seen: {seen:#?}",
                if other.is_err() { "waited" } else { "it has shut down" }
            ),
        }
    }

    pub(crate) async fn incoming(&mut self) -> CallId {
        self.wait("a call", |e| if let Event::Incoming { call, .. } = e { Some(*call) } else { None }).await
    }

    pub(crate) async fn ended(&mut self, id: CallId) -> (EndReason, Option<PublicKey>) {
        self.wait("the end", |e| match e {
            Event::Ended { call, reason, by, .. } if *call == id => Some((*reason, *by)),
            _ => None,
        })
        .await
    }

    pub(crate) async fn heard(&mut self, id: CallId, who: PublicKey) {
        let of = |e: &Event| matches!(e, Event::FirstAudio { call, peer } if *call == id && *peer == who);
        self.wait("their first sound", |e| of(e).then_some(())).await;
    }

    /// Waits until exactly these are connected.
    pub(crate) async fn with(&self, call: CallId, others: &[&Phone]) {
        let others: BTreeSet<PublicKey> = others.iter().map(|phone| phone.key()).collect();
        let mut connected = self.blink.watch(select::connected(call));
        let there = connected.wait_for(|c| c.iter().copied().collect::<BTreeSet<_>>() == others);
        let there = tokio::time::timeout(PATIENCE, there).await;
        assert!(matches!(there, Ok(Some(_))), "{others:?} in {:#?}", self.blink.snapshot().call(call));
    }

    /// Waits until somebody is seen so.
    pub(crate) async fn sees(
        &self,
        call: CallId,
        who: &Phone,
        wanted: impl Fn(&warp_blink::event::ParticipantState) -> bool,
    ) {
        let who = who.key();
        let mut all = self.blink.watch(select::participants(call));
        let seen = all.wait_for(|all| all.iter().any(|(key, state)| *key == who && wanted(state)));
        let seen = tokio::time::timeout(PATIENCE, seen).await;
        assert!(matches!(seen, Ok(Some(_))), "{who} in {:#?}", self.blink.snapshot().call(call));
    }
}

/// Rings all others, who answer; waits until everybody is connected with everybody.
pub(crate) async fn talking(caller: &Phone, others: &mut [&mut Phone]) -> CallId {
    let call = caller.blink.offer(others.iter().map(|phone| phone.key())).await.unwrap();
    for phone in others.iter_mut() {
        assert_eq!(phone.incoming().await, call);
        phone.blink.answer(call).await.unwrap();
    }
    let all: Vec<&Phone> = std::iter::once(caller).chain(others.iter().map(|phone| &**phone)).collect();
    for phone in &all {
        let rest: Vec<&Phone> = all.iter().copied().filter(|other| other.key() != phone.key()).collect();
        phone.with(call, &rest).await;
    }
    call
}
