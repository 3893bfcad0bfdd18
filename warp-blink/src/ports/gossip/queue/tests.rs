use super::*;
use crate::{
    ports::gossip::{NodeState, OfflineCause},
    wire::PeerSeed,
};

fn topic(n: u16) -> Topic {
    let mut seed = [7; 32];
    seed[..2].copy_from_slice(&n.to_be_bytes());
    Topic::peer(&PeerSeed::from_bytes(seed))
}

fn on(n: u16, fill: u8, size: usize) -> GossipEvent {
    GossipEvent::Message { topic: topic(n), data: Bytes::from(vec![fill; size]) }
}

fn message(size: usize) -> GossipEvent {
    on(0, 0, size)
}

fn rest(events: &mut GossipEvents) -> Vec<GossipEvent> {
    std::iter::from_fn(|| events.try_recv()).collect()
}

/// What is accounted for is what is there.
fn check(sink: &EventSink) {
    let queue = lock(&sink.0);
    let bytes = |lane: &Lane| lane.messages.iter().map(Bytes::len).sum::<usize>();
    assert_eq!(queue.messages, queue.lanes.values().map(|lane| lane.messages.len()).sum::<usize>());
    assert_eq!(queue.bytes, queue.lanes.values().map(bytes).sum::<usize>());
    assert!(queue.lanes.values().all(|lane| !lane.messages.is_empty() && lane.bytes == bytes(lane)));
    assert!(queue.turns.iter().all(|turn| queue.lanes.contains_key(turn)));
    assert_eq!(queue.turns.len(), queue.lanes.len());
    assert!(queue.messages <= MAX_QUEUED_MESSAGES && queue.bytes <= MAX_QUEUED_BYTES);
}

#[test]
fn hostile_flood_of_one_topic_leaves_room_and_time_for_the_others() {
    let (sink, mut events) = channel();
    let flood = 10_000;
    for _ in 0..flood / 2 {
        sink.push(on(1, 0xff, 1659));
    }
    sink.push(on(2, 1, 546));
    sink.push(GossipEvent::State(NodeState::Public));
    for _ in 0..flood / 2 {
        sink.push(on(1, 0xff, 1659));
    }
    sink.push(on(2, 2, 546));
    check(&sink);
    let dropped = flood - MAX_QUEUED_PER_TOPIC as u64;
    assert_eq!(sink.dropped(), Dropped { topic_full: dropped, ..Dropped::default() });
    assert_eq!(events.try_recv(), Some(GossipEvent::Lagged { dropped }));
    assert_eq!(events.try_recv(), Some(GossipEvent::State(NodeState::Public)));
    assert_eq!(events.try_recv(), Some(on(1, 0xff, 1659)));
    assert_eq!(events.try_recv(), Some(on(2, 1, 546)), "the second message that is read");
    assert_eq!(events.try_recv(), Some(on(1, 0xff, 1659)));
    assert_eq!(events.try_recv(), Some(on(2, 2, 546)), "in the order of its topic");
    assert_eq!(rest(&mut events).len(), MAX_QUEUED_PER_TOPIC - 2);
    check(&sink);
}

#[test]
fn hostile_flood_of_all_topics_is_bounded_and_gives_way_to_an_emptier_one() {
    let (sink, mut events) = channel();
    let flooded = (MAX_QUEUED_MESSAGES / MAX_QUEUED_PER_TOPIC) as u16 + 4;
    for _ in 0..1000 {
        for n in 1..=flooded {
            sink.push(on(n, 0xff, 100));
        }
    }
    check(&sink);
    let before = sink.dropped();
    assert_eq!(before.messages(), 1000 * u64::from(flooded) - MAX_QUEUED_MESSAGES as u64);
    assert!(before.all_full > 0);
    for fill in 0..10 {
        sink.push(on(0, fill, 100));
    }
    check(&sink);
    let after = sink.dropped();
    assert_eq!((after.displaced - before.displaced, after.all_full), (10, before.all_full));
    let read = rest(&mut events);
    assert_eq!(read.len(), 1 + MAX_QUEUED_MESSAGES);
    for fill in 0..10 {
        let at = read.iter().position(|event| *event == on(0, fill, 100)).expect("it was not dropped");
        assert!(at <= 1 + usize::from(fill + 1) * usize::from(flooded + 1), "{fill} was read at {at}");
    }
    check(&sink);
}

#[test]
fn hostile_flood_of_bytes_is_bounded_and_gives_way_to_an_emptier_topic() {
    let (sink, mut events) = channel();
    let large = 16 * 1024;
    let flooded = (MAX_QUEUED_BYTES / MAX_QUEUED_BYTES_PER_TOPIC) as u16 + 4;
    for _ in 0..100 {
        for n in 1..=flooded {
            sink.push(on(n, 0xff, large));
        }
    }
    check(&sink);
    sink.push(on(0, 1, large));
    sink.push(on(0, 2, 546));
    check(&sink);
    let read = rest(&mut events);
    assert!(read.contains(&on(0, 1, large)) && read.contains(&on(0, 2, 546)));
    // Room comes back when it is read.
    assert_eq!(lock(&sink.0).bytes, 0);
    let dropped = sink.dropped();
    sink.push(on(1, 0, large));
    assert_eq!(sink.dropped(), dropped);
}

#[test]
fn hostile_flood_of_large_messages_on_one_topic_stops_at_its_bytes() {
    let (sink, _events) = channel();
    let size = 16 * 1024;
    for _ in 0..100 {
        sink.push(message(size));
    }
    check(&sink);
    assert_eq!(lock(&sink.0).bytes, MAX_QUEUED_BYTES_PER_TOPIC);
    assert_eq!(sink.dropped().topic_full, 100 - (MAX_QUEUED_BYTES_PER_TOPIC / size) as u64);
}

#[test]
fn hostile_flood_of_subscriptions_holds_up_neither_messages_nor_states() {
    let (sink, mut events) = channel();
    for _ in 0..MAX_QUEUED_CONTROL {
        sink.push(GossipEvent::PeerSubscribed { topic: topic(1) });
    }
    let after_subscriptions = (MAX_QUEUED_CONTROL - MAX_QUEUED_SUBSCRIPTIONS) as u64;
    assert_eq!(sink.dropped(), Dropped { subscriptions: after_subscriptions, ..Dropped::default() });
    sink.push(message(1));
    sink.push(GossipEvent::State(NodeState::Starting));
    assert_eq!(sink.dropped().events(), after_subscriptions);
    assert_eq!(events.try_recv(), Some(GossipEvent::Lagged { dropped: after_subscriptions }));
    assert_eq!(events.try_recv(), Some(GossipEvent::PeerSubscribed { topic: topic(1) }));
    assert_eq!(events.try_recv(), Some(message(1)), "although more subscriptions wait");
    assert!(rest(&mut events).contains(&GossipEvent::State(NodeState::Starting)));
    for _ in 0..MAX_QUEUED_CONTROL {
        sink.push(GossipEvent::State(NodeState::Offline { cause: OfflineCause::NoListener }));
    }
    assert_eq!(sink.dropped().others, MAX_QUEUED_SUBSCRIPTIONS as u64);
}

#[test]
fn hostile_subscriptions_that_never_stop_hold_up_nothing() {
    let (sink, mut events) = channel();
    for _ in 0..MAX_QUEUED_CONTROL {
        sink.push(GossipEvent::PeerSubscribed { topic: topic(1) });
    }
    sink.push(message(1));
    // One more is dropped for each event that is read.
    let mut read = Vec::new();
    for _ in 0..6 {
        sink.push(GossipEvent::PeerSubscribed { topic: topic(1) });
        sink.push(GossipEvent::PeerSubscribed { topic: topic(1) });
        read.extend(events.try_recv());
    }
    assert!(read.contains(&message(1)), "{read:?}");
    let told = read.iter().filter(|e| matches!(e, GossipEvent::Lagged { .. })).count();
    assert!((1..=3).contains(&told), "{read:?}");
}

#[test]
fn topics_of_equal_size_do_not_displace_each_other() {
    let (sink, _events) = channel();
    let topics = (MAX_QUEUED_MESSAGES / 4) as u16;
    for _ in 0..4 {
        for n in 0..topics {
            sink.push(on(n, 0, 1));
        }
    }
    assert_eq!(sink.dropped(), Dropped::default());
    for n in 0..topics {
        sink.push(on(n, 0, 1));
    }
    check(&sink);
    assert_eq!(sink.dropped(), Dropped { all_full: u64::from(topics), ..Dropped::default() });
    // A topic that has nothing yet takes the place of one of the others.
    sink.push(on(topics, 0, 1));
    check(&sink);
    assert_eq!(sink.dropped().displaced, 1);
}

#[test]
fn topics_take_turns_in_the_order_in_which_they_came() {
    let (sink, mut events) = channel();
    for (n, fill) in [(1, 0), (1, 1), (1, 2), (2, 3), (3, 4), (2, 5)] {
        sink.push(on(n, fill, 1));
    }
    let read = rest(&mut events);
    let order: Vec<GossipEvent> =
        [(1, 0), (2, 3), (3, 4), (1, 1), (2, 5), (1, 2)].map(|(n, fill)| on(n, fill, 1)).into();
    assert_eq!(read, order);
}

#[test]
fn the_end_is_the_last_event_and_comes_once() {
    let (sink, mut events) = channel();
    sink.push(message(1));
    sink.push(message(2));
    sink.push(GossipEvent::State(NodeState::Offline { cause: OfflineCause::Stopped }));
    sink.push(GossipEvent::Stopped);
    sink.push(message(3));
    let read = rest(&mut events);
    assert_eq!(read.len(), 4);
    assert_eq!(read.last(), Some(&GossipEvent::Stopped));
    assert!(read.contains(&message(1)) && read.contains(&message(2)));
}

#[tokio::test]
async fn the_stream_wakes_its_reader_and_ends_after_the_last_event() {
    let (sink, mut events) = channel();
    let reader = tokio::spawn(async move { (events.recv().await, events.recv().await) });
    tokio::task::yield_now().await;
    sink.push(GossipEvent::Stopped);
    sink.push(message(1));
    let (first, second) = reader.await.unwrap();
    assert_eq!(first, Some(GossipEvent::Stopped));
    assert_eq!(second, None);
}

#[test]
fn a_reader_that_left_holds_no_memory() {
    let (sink, events) = channel();
    sink.push(message(100));
    sink.push(GossipEvent::State(NodeState::Public));
    drop(events);
    sink.push(message(100));
    check(&sink);
    let queue = lock(&sink.0);
    assert_eq!((queue.messages, queue.control.len()), (0, 0));
}
