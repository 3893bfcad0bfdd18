//! A friend behind the same forwarder as a flooder: both are connected to a forwarder only, and so is the callee.

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tokio::task::JoinHandle;
use warp_blink::{ports::gossip::MAX_QUEUED_PER_TOPIC, proto::signal::SUITE_CLASSICAL};

use super::*;

/// When a caller sends a first message again.
const LADDER: [Duration; 5] = [
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
];

/// The callee's two inboxes.
const OPEN: u8 = 1;
const CONTACTS: u8 = 2;

/// Who wrote a frame, in its body. The rest is there to make each frame another one.
const FLOOD: u8 = 0xff;
const FRIEND: u8 = 0x01;

/// Message 1 of the classical suite, as far as a node without a key can tell.
fn hello(author: u8, number: u64) -> Bytes {
    let mut frame = vec![author; 1659];
    (frame[0], frame[1], frame[2]) = (VERSION, 1, SUITE_CLASSICAL);
    frame[3..11].copy_from_slice(&number.to_be_bytes());
    frame::check(&frame).expect("this is what the wire module lets pass");
    frame.into()
}

fn wrong(number: u64) -> Bytes {
    let mut frame = vec![0; 100];
    (frame[0], frame[1]) = (VERSION, 4);
    frame[3..11].copy_from_slice(&number.to_be_bytes());
    assert!(frame::check(&frame).is_err_and(|error| error.is_violation()));
    frame.into()
}

struct Star {
    flooder: Node,
    friend: Node,
    forwarder: Node,
    callee: Node,
}

async fn star() -> Star {
    let (mut flooder, mut friend) = (Node::start(TCP).await, Node::start(TCP).await);
    let (forwarder, mut callee) = (Node::start(TCP).await, Node::start(TCP).await);
    for n in [OPEN, CONTACTS] {
        forwarder.gossip.forward(topic(n)).await.unwrap();
        callee.gossip.subscribe(topic(n)).await.unwrap();
    }
    callee.connect(&forwarder).await;
    // They come in any order.
    let known = Cell::new(0);
    let subscribed = |e: &GossipEvent| match e {
        GossipEvent::PeerSubscribed { .. } => {
            known.set(known.get() + 1);
            (known.get() == 2).then_some(())
        }
        _ => None,
    };
    callee.until(subscribed).await;
    for node in [&mut flooder, &mut friend] {
        node.connect(&forwarder).await;
        // Who publishes hears of the forwarder's subscription.
        for (n, number) in [(OPEN, 0), (CONTACTS, 1)] {
            node.publish(topic(n), hello(FLOOD, number)).await;
        }
    }
    // The way is open when the first of these has come through; the mesh may need a heartbeat.
    let node = &friend.gossip;
    for number in 2.. {
        node.publish(topic(OPEN), hello(FLOOD, number)).await.unwrap();
        let arrived = tokio::time::timeout(Duration::from_millis(500), callee.message()).await;
        if arrived.is_ok() {
            break;
        }
    }
    Star { flooder, friend, forwarder, callee }
}

/// Floods the open inbox until it is told to stop.
fn flood(node: Node, frame: fn(u64) -> Bytes) -> (Arc<AtomicBool>, Arc<AtomicU64>, JoinHandle<Node>) {
    let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (until, count) = (stop.clone(), sent.clone());
    let task = tokio::spawn(async move {
        for number in 1_000_000.. {
            if until.load(Ordering::Relaxed) {
                break;
            }
            match node.gossip.publish(topic(OPEN), frame(number)).await {
                Ok(()) => _ = count.fetch_add(1, Ordering::Relaxed),
                Err(PublishError::QueueFull { .. }) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
        node
    });
    (stop, sent, task)
}

async fn flooded(sent: &AtomicU64, frames: u64) {
    let enough = async {
        while sent.load(Ordering::Relaxed) < frames {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(STUCK, enough).await.expect("the flooder floods");
}

/// Publishes as a caller does, again with another salt, until the callee has read it.
async fn call(friend: &Node, callee: &mut Node, n: u8) {
    let mut salt = 1 << 40;
    for wait in LADDER.into_iter().cycle() {
        salt += u64::from(n) + 8;
        friend.gossip.publish(topic(n), hello(FRIEND, salt)).await.unwrap();
        let heard = async {
            loop {
                let (on, data) = callee.message().await;
                if on == topic(n) && data.last() == Some(&FRIEND) {
                    return;
                }
            }
        };
        if tokio::time::timeout(wait, heard).await.is_ok() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_flood_behind_the_same_forwarder_does_not_keep_a_friend_out() {
    let Star { flooder, friend, forwarder, mut callee } = star().await;
    let (stop, sent, task) = flood(flooder, |number| hello(FLOOD, number));
    // Nobody reads at first, so whatever comes through is queued.
    flooded(&sent, 3000).await;
    let friends = async {
        call(&friend, &mut callee, CONTACTS).await;
        call(&friend, &mut callee, OPEN).await;
    };
    tokio::time::timeout(STUCK, friends).await.expect("a friend gets through on both inboxes");
    flooded(&sent, 5000).await;
    stop.store(true, Ordering::Relaxed);
    let flooder = task.await.unwrap();
    // The forwarder did nothing wrong, and nobody thinks so.
    let (at_callee, at_forwarder) = (callee.gossip.counters(), forwarder.gossip.counters());
    assert_eq!(callee.gossip.connected(), [(forwarder.id(), Via::Direct)]);
    assert_eq!(forwarder.gossip.connected().len(), 3);
    assert_eq!((at_callee.rejected, at_callee.refused), (0, 0), "{at_callee:?}");
    assert_eq!((at_forwarder.rejected, at_forwarder.refused), (0, 0), "{at_forwarder:?}");
    assert_eq!(
        (at_forwarder.received, at_callee.forwarded),
        (0, 0),
        "who forwards does not read, nor the reverse"
    );
    assert!(at_forwarder.throttled > 1000, "{at_forwarder:?}");
    // The meshes were made in peace.
    assert_eq!((at_callee.control_stopped, at_forwarder.control_stopped), (0, 0));
    for node in [flooder, friend, forwarder, callee] {
        node.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_flood_leaves_a_slow_readers_queue_within_its_bounds_and_its_turns() {
    let Star { flooder, friend, forwarder, mut callee } = star().await;
    let (stop, _, task) = flood(flooder, |number| hello(FLOOD, number));
    // Until the lane of the open inbox has overflowed.
    let overflown = async {
        while callee.gossip.counters().dropped_topic_full == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(STUCK, overflown).await.expect("more came through than waits");
    let received = callee.gossip.counters().received;
    // A friend's message now: it arrives behind all of these.
    let friends = call(&friend, &mut callee, CONTACTS);
    tokio::time::timeout(STUCK, friends).await.expect("a friend gets through");
    stop.store(true, Ordering::Relaxed);
    let flooder = task.await.unwrap();
    let counters = callee.gossip.counters();
    assert!(received as usize > MAX_QUEUED_PER_TOPIC);
    assert_eq!((counters.dropped_displaced, counters.dropped_all_full), (0, 0), "{counters:?}");
    // What waits is what is left when nothing more comes.
    let mut left = 0;
    while let Some(event) = callee.events.try_recv() {
        left += usize::from(matches!(event, GossipEvent::Message { .. }));
    }
    assert!(left <= 2 * MAX_QUEUED_PER_TOPIC, "{left}");
    for node in [flooder, friend, forwarder, callee] {
        node.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_flood_of_wrong_shapes_silences_the_flooder_at_the_forwarder_only() {
    let Star { flooder, friend, forwarder, mut callee } = star().await;
    let (stop, sent, task) = flood(flooder, wrong);
    flooded(&sent, 3000).await;
    let silenced = async {
        while forwarder.gossip.counters().refused < 100 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(STUCK, silenced).await.expect("the forwarder stops listening to the flooder");
    let friends = async {
        call(&friend, &mut callee, CONTACTS).await;
        call(&friend, &mut callee, OPEN).await;
    };
    tokio::time::timeout(STUCK, friends).await.expect("a friend gets through on both inboxes");
    stop.store(true, Ordering::Relaxed);
    let flooder = task.await.unwrap();
    let (at_callee, at_forwarder) = (callee.gossip.counters(), forwarder.gossip.counters());
    // The ninth is one too many, or the tenth where the first was long ago.
    assert!((9..=10).contains(&at_forwarder.rejected), "{at_forwarder:?}");
    assert_eq!((at_callee.rejected, at_callee.refused), (0, 0), "nothing of it was handed on: {at_callee:?}");
    assert_eq!(callee.gossip.connected(), [(forwarder.id(), Via::Direct)]);
    // Not even what is right is taken of it now: what the friend sends after it overtakes it.
    let before = at_forwarder.refused;
    let last = async {
        let mut number = 5_000_000;
        // What it sent before may still fill its own queue.
        while let Err(PublishError::QueueFull { .. }) =
            flooder.gossip.publish(topic(CONTACTS), hello(FLOOD, number)).await
        {
            number += 1;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(STUCK, last).await.expect("its queue empties");
    let refused = async {
        while forwarder.gossip.counters().refused == before {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(STUCK, refused).await.expect("it arrived, and was refused");
    for node in [flooder, friend, forwarder, callee] {
        node.end().await;
    }
}
