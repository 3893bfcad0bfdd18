//! Real nodes over loopback: whoever was removed, and has kept all that they had, reads nothing more.

use std::{future::Future, net::Ipv4Addr, time::Duration};

use super::*;
use crate::{
    Audio, Blink, CallId, Identity,
    event::{Phase, Presence, Snapshot},
};

/// Long enough that only what hangs reaches it.
const PATIENCE: Duration = Duration::from_secs(60);

struct Phone {
    blink: Blink,
    tap: Tap,
}

impl Phone {
    async fn start(seed: u8, tap: Tap, others: &[&Phone]) -> Self {
        let mut builder = Blink::builder(Identity::from_seed([seed; 32])).media(Audio::silent()).tap(&tap);
        builder = builder.listen("/ip4/127.0.0.1/tcp/0").ice_address(Ipv4Addr::LOCALHOST.into());
        for other in others {
            other.sees("an address", |s| !s.addresses.is_empty()).await;
            builder = builder.peer(other.blink.snapshot().addresses[0].clone());
        }
        Self { blink: builder.spawn().await.expect("it starts"), tap }
    }

    fn key(&self) -> PublicKey {
        self.blink.public_key()
    }

    async fn sees(&self, what: &str, ready: impl Fn(&Snapshot) -> bool) {
        let mut watch = self.blink.snapshots();
        let seen = tokio::time::timeout(PATIENCE, watch.wait_for(|s| ready(s))).await;
        assert!(matches!(seen, Ok(Ok(_))), "{what} was not seen: {:#?}", self.blink.snapshot());
    }

    /// This one sees all of those so.
    async fn all(&self, call: CallId, others: &[&Phone], presence: Presence) {
        let keys: Vec<PublicKey> = others.iter().map(|p| p.key()).filter(|key| *key != self.key()).collect();
        let shows = |s: &Snapshot| {
            let Some(call) = s.call(call) else { return false };
            let is = |key| call.participants.iter().any(|p| p.peer == key && p.state.presence == presence);
            keys.iter().all(|key| is(*key))
        };
        self.sees("the participants", shows).await;
    }

    async fn answers(&self, call: CallId) {
        self.sees("a call", |s| s.call(call).is_some_and(|c| c.phase == Phase::Incoming)).await;
        self.blink.answer(call).await.expect("it rings");
    }

    /// How many of these frames it can open.
    async fn opens(&self, frames: Vec<Vec<u8>>) -> usize {
        self.blink.open_frames(frames).await.expect("it runs")
    }
}

/// Everybody among those says something to all, and everybody else of them sees it.
async fn all_say(call: CallId, phones: &[&Phone], muted: bool) {
    for phone in phones {
        phone.blink.set_muted(muted).await.expect("it runs");
    }
    for phone in phones {
        let others = phones.iter().filter(|other| other.key() != phone.key()).map(|other| other.key());
        let others: Vec<PublicKey> = others.collect();
        let heard = |s: &Snapshot| {
            let call = s.call(call).map(|c| c.participants.as_slice()).unwrap_or_default();
            others.iter().all(|key| call.iter().any(|p| p.peer == *key && p.state.muted == muted))
        };
        phone.sees("what the others say of themselves", heard).await;
    }
}

async fn each<F: Future<Output = ()>>(phones: &[&Phone], what: impl Fn(usize) -> F) {
    futures::future::join_all((0..phones.len()).map(what)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_removed_and_kept_every_key_opens_nothing_more() {
    let bob = Phone::start(0xb1, Tap::hoarding(), &[]).await;
    let carol = Phone::start(0xb2, Tap::default(), &[&bob]).await;
    let dave = Phone::start(0xb3, Tap::default(), &[&bob, &carol]).await;
    let alice = Phone::start(0xb4, Tap::default(), &[&bob, &carol, &dave]).await;
    let call = alice.blink.offer([bob.key(), carol.key()]).await.expect("nothing else is under way");
    bob.answers(call).await;
    carol.answers(call).await;
    let three = [&alice, &bob, &carol];
    each(&three, |n| three[n].all(call, &three, Presence::Joined)).await;

    // As long as it is in the call, it reads what is said to all: the measure works.
    let stay = [&alice, &carol];
    all_say(call, &three, true).await;
    let said: Vec<Vec<u8>> = stay.iter().flat_map(|phone| phone.tap.take_published()).collect();
    let before = to_all(&said);
    assert!(before >= 2, "{before}");
    assert!(bob.opens(said).await >= before);

    alice.blink.remove(call, bob.key()).await.expect("it made the call");
    let removed = [&bob];
    each(&stay, |n| stay[n].all(call, &removed, Presence::Removed)).await;
    bob.sees("its removal", |s| s.call(call).is_none()).await;
    // The one word that they may hear after it is that they were removed, until they have acknowledged it.
    for phone in stay {
        let told = async {
            while phone.blink.shares_keys(call, bob.key()).await.expect("it runs") {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, told).await.expect("who was removed acknowledges it");
    }
    // From here on nobody says anything that the removed one could read: neither under the new key, nor while
    // somebody is invited, leaves or comes back.
    for phone in three {
        phone.tap.take_published();
        phone.tap.take_opened();
    }
    all_say(call, &stay, false).await;
    carol.blink.invite(call, [dave.key()]).await.expect("everybody may invite");
    dave.answers(call).await;
    let stay = [&alice, &carol, &dave];
    each(&stay, |n| stay[n].all(call, &stay, Presence::Joined)).await;
    carol.blink.leave(call).await.expect("it is in it");
    alice.all(call, &[&carol], Presence::Left).await;
    carol.blink.rejoin(call, crate::Other::End).await.expect("it has left");
    each(&stay, |n| stay[n].all(call, &stay, Presence::Joined)).await;
    all_say(call, &stay, true).await;

    let said: Vec<Vec<u8>> = stay.iter().flat_map(|phone| phone.tap.take_published()).collect();
    let after = to_all(&said);
    assert!(after >= 5, "the others talk on: {after}");
    assert_eq!(bob.opens(said).await, 0);
    assert_eq!(bob.tap.take_opened(), [], "it went on listening on every topic that it knew");
    for phone in [alice, bob, carol, dave] {
        phone.blink.shutdown().await;
    }
}
