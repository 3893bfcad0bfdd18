//! The numbers of our gossipsub, each with its reason. All nodes must agree on the first four; the others are local.
//! What its numbers cannot bound, [`gate`](super::gate) does.

use std::time::Duration;

use libp2p_gossipsub as gossipsub;
use sha2::{Digest, Sha256};

use crate::ports::gossip::MAX_MESSAGE;

/// The name under which nodes agree on this gossip. It is not gossipsub's own, so that an app's gossipsub on the same
/// node is left alone.
pub const PROTOCOL: &str = "/warp-blink/gossip/1";

/// The largest thing on the wire, in bytes: gossipsub's default. A receiver that meets a larger one drops the whole
/// stream, and gives the connection up after four.
pub(super) const MAX_WIRE: usize = 64 * 1024;

/// What the topic and the framing of one message take at most: 64 digits and a few lengths.
const OVERHEAD: usize = 128;
const _: () = assert!(MAX_MESSAGE + OVERHEAD < MAX_WIRE, "a message of the largest size must fit the wire");

/// What waits for one peer, at most: half is for what this node writes, half for what it hands on. The default of 5000
/// could hold 300 MB each.
const QUEUE: usize = 256;

/// The most message ids in one announcement, and the most that are asked for in one heartbeat. What is asked for must
/// fit into the half of the [`QUEUE`] that answers. Gossipsub's default of 5000 would also be larger than
/// [`MAX_WIRE`], at 34 bytes each.
const MAX_IHAVE: usize = 100;
const _: () = assert!(MAX_IHAVE < QUEUE / 2, "the answers to a request must fit the queue");
const _: () =
    assert!(MAX_IHAVE * 34 + OVERHEAD < MAX_WIRE, "an announcement of the most ids must fit the wire");

/// For how many heartbeats a message that was handed on is kept, to be announced and sent again. Gossipsub's 5 would
/// keep it longer than it announces it.
const HISTORY: usize = 3;

/// The most topics that one peer subscribes to, and the most changes in one message of a peer. Above, its
/// subscriptions are ignored. A node with a few calls has ten.
const MAX_PEER_TOPICS: usize = 512;
const MAX_PEER_CHANGES: usize = 512;

/// The gossipsub that takes subscriptions to our topics only.
pub(super) type Gossipsub =
    gossipsub::Behaviour<gossipsub::IdentityTransform, gossipsub::MaxCountSubscriptionFilter<OurTopics>>;

/// Topics that look like ours: 64 hexadecimal digits. Others cost memory and mean nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct OurTopics;

impl gossipsub::TopicSubscriptionFilter for OurTopics {
    fn can_subscribe(&mut self, topic: &gossipsub::TopicHash) -> bool {
        let name = topic.as_str().as_bytes();
        name.len() == 64 && name.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    }
}

/// SHA-256 over the length of the topic, the topic and the data.
fn message_id(message: &gossipsub::Message) -> gossipsub::MessageId {
    let topic = message.topic.as_str().as_bytes();
    let mut hash = Sha256::new();
    hash.update((topic.len() as u64).to_be_bytes());
    hash.update(topic);
    hash.update(&message.data);
    gossipsub::MessageId::new(&hash.finalize())
}

fn config() -> gossipsub::Config {
    gossipsub::ConfigBuilder::default()
        .protocol_id(PROTOCOL, gossipsub::Version::V1_1)
        .validation_mode(gossipsub::ValidationMode::Anonymous)
        .message_id_fn(message_id)
        .max_transmit_size(MAX_WIRE)
        // We say of each message whether it goes further.
        .validate_messages()
        // Without it, an anonymous message that comes back costs its bearer, who did nothing wrong.
        .allow_self_origin(true)
        // A few peers: whoever publishes sends to all that subscribe, so no first message waits for a mesh.
        .flood_publish(true)
        .mesh_n(4)
        .mesh_n_low(2)
        .mesh_n_high(8)
        .mesh_outbound_min(1)
        // The mesh of a topic that was just subscribed mends within this time. 700 ms is what Ethereum runs with.
        .heartbeat_interval(Duration::from_millis(700))
        .heartbeat_initial_delay(Duration::from_millis(100))
        .max_ihave_length(MAX_IHAVE)
        .history_length(HISTORY)
        .history_gossip(HISTORY)
        .connection_handler_queue_len(QUEUE)
        .max_messages_per_rpc(Some(256))
        .build()
        .expect("the constants above meet the constraints of gossipsub, which a test checks")
}

/// A gossipsub with these numbers.
pub(super) fn gossipsub() -> Gossipsub {
    let filter = gossipsub::MaxCountSubscriptionFilter {
        filter: OurTopics,
        max_subscribed_topics: MAX_PEER_TOPICS,
        max_subscriptions_per_request: MAX_PEER_CHANGES,
    };
    gossipsub::Behaviour::new_with_subscription_filter(
        gossipsub::MessageAuthenticity::Anonymous,
        config(),
        filter,
    )
    .expect("anonymous messages pass anonymous validation, which a test checks")
}

#[cfg(test)]
mod tests {
    use gossipsub::TopicSubscriptionFilter;

    use super::*;

    fn id(topic: &str, data: &[u8]) -> gossipsub::MessageId {
        message_id(&gossipsub::Message {
            source: None,
            data: data.to_vec(),
            sequence_number: None,
            topic: gossipsub::TopicHash::from_raw(topic),
        })
    }

    #[test]
    fn the_numbers_meet_gossipsubs_constraints() {
        let somebody = rust_ipfs::PeerId::random();
        assert_eq!(gossipsub().peer_score(&somebody), None, "scoring is off: the gate says why");
        let config = config();
        assert!(config.allow_self_origin() && config.validate_messages() && config.flood_publish());
        assert_eq!(config.prune_peers(), 0, "peers that others name are not dialed");
    }

    #[test]
    fn the_message_id_is_that_of_topic_and_data_and_never_changes() {
        assert_eq!(id("ab", b"cd"), id("ab", b"cd"));
        assert_ne!(id("ab", b"cd"), id("abc", b"d"), "the border counts");
        // printf '\0\0\0\0\0\0\0\2abcd' | sha256sum
        assert_eq!(id("ab", b"cd").to_string(), GOLDEN);
    }

    const GOLDEN: &str = "11f40427ec751e8a1e727be792558c4244d74f7faa44151810a92de9a5884048";

    #[test]
    fn only_names_that_look_like_ours_are_topics() {
        let mut filter = OurTopics;
        let mut ok = |name: String| filter.can_subscribe(&gossipsub::TopicHash::from_raw(name));
        assert!(ok("0123456789abcdef".repeat(4)));
        assert!(!ok("0123456789ABCDEF".repeat(4)));
        assert!(!ok("0".repeat(63)) && !ok("0".repeat(65)) && !ok(String::new()) && !ok("ä".repeat(32)));
    }
}
