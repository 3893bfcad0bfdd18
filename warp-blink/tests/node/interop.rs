//! Gossip with nodes of js-libp2p, each a process of its own (`tests/interop/peer.mjs`). Run by `make test-interop`, which
//! installs them; ignored otherwise, since not every machine has Node.js.

mod js;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use js::Js;
use rust_ipfs::{Keypair, builder::IpfsBuilder};
use warp_blink::{driver::node::BlinkBehaviour, ports::gossip::GossipCounters};

use super::*;

/// Of a transport frame with this inside: header and tag (`wire/frame.rs`).
const fn transport(bucket: usize) -> usize {
    18 + bucket + 16
}
const SMALLEST: usize = transport(512);
const CALL: usize = 298;
const TRANSPORT_KIND: u8 = 3;
const CALL_KIND: u8 = 4;

/// A node of ours, with the key that it signs words with. On the wire nothing is signed: nobody but the words says whose they are.
struct Ours {
    node: Node,
    key: SigningKey,
}

impl Ours {
    /// As this crate starts one for an app.
    async fn own() -> Self {
        let key = seed();
        let config = NodeConfig::new(NodeKey::from_seed(key)).with_listen([TCP]);
        let node = Node::of(config.start().await.expect("a node starts on loopback"));
        Self { node, key: SigningKey::from_bytes(&key) }
    }

    /// As an app starts one itself.
    async fn of_an_app() -> Self {
        let key = seed();
        let keypair = Keypair::ed25519_from_bytes(key).unwrap();
        let (behaviour, link) = BlinkBehaviour::new();
        let ipfs = IpfsBuilder::with_keypair(&keypair)
            .unwrap()
            .enable_tcp()
            .with_identify(Default::default())
            .with_custom_behaviour(move |_| Ok(behaviour))
            .start()
            .await
            .unwrap();
        ipfs.add_listening_address(TCP.parse().unwrap()).await.unwrap();
        let node = Node::of(IpfsGossip::attach(ipfs, link).await.unwrap());
        Self { node, key: SigningKey::from_bytes(&key) }
    }

    fn address(&self) -> String {
        self.node.gossip.listening().remove(0)
    }

    fn name(&self) -> String {
        self.node.id().to_string()
    }

    /// Says this as its words, and gives back what others have to see.
    async fn say(&mut self, topic: Topic, mut text: Vec<u8>) -> Bytes {
        let signature = self.key.sign(&text);
        text.extend(signature.to_bytes());
        frame::check(&text).expect("what is said has the right shape");
        let said = Bytes::from(text);
        self.node.publish(topic, said.clone()).await;
        said
    }

    /// The next message, which has to be these words of that node.
    async fn hears(&mut self, on: Topic, text: &[u8], author: &Js) {
        let (topic, data) = self.node.message().await;
        assert_eq!(topic, on);
        let (words, signature) = data.split_last_chunk::<64>().expect("a signature stands last");
        assert!(words == text, "what was heard is what was said");
        let author = author.node();
        let key: &[u8; 32] = author.as_bytes()[6..].try_into().expect("an Ed25519 name");
        let key = VerifyingKey::from_bytes(key).expect("a key");
        key.verify_strict(words, &Signature::from_bytes(signature)).expect("the words are its author's");
        assert!(self.node.gossip.connected().contains(&(author, Via::Direct)));
    }

    fn counters(&self) -> GossipCounters {
        self.node.gossip.counters()
    }
}

fn seed() -> [u8; 32] {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).expect("the system has randomness");
    seed
}

/// The words of a frame of this kind and size, without the signature that makes it whole.
fn words(kind: u8, size: usize, fill: u8) -> Vec<u8> {
    let mut bytes = vec![fill; size - 64];
    (bytes[0], bytes[1]) = (VERSION, kind);
    bytes
}

/// Both hear topic 1, and each knows that of the other; `js` has dialed if it says so.
async fn meet(ours: &mut Ours, js: &mut Js, js_dials: bool) {
    ours.node.gossip.subscribe(topic(1)).await.unwrap();
    js.subscribe(topic(1));
    if js_dials {
        js.dial(&ours.address());
    } else {
        let via = ours.node.gossip.connect(&js.node(), &js.addresses()).await;
        assert_eq!(via, Ok(Via::Direct));
    }
    js.subscribed(&ours.name(), topic(1)).await;
    ours.node.subscribed(topic(1)).await;
}

/// Each says something small and something as large as it can be, and the other hears it.
async fn talk(ours: &mut Ours, js: &mut Js) {
    for (n, size) in [(1, SMALLEST), (2, frame::MAX_FRAME)] {
        let said = ours.say(topic(1), words(TRANSPORT_KIND, size, n)).await;
        let heard = js.message().await;
        assert_eq!(heard.bearer, ours.name(), "the neighbour that handed it over");
        assert!(heard.by_bearer, "and its words");
        assert_eq!(heard.author, None, "no name stands on it");
        assert_eq!(heard.topic, topic(1).to_string());
        assert!(heard.data == said, "what js-libp2p heard is what was said");

        let text = words(TRANSPORT_KIND, size, n + 100);
        assert_eq!(js.say(topic(1), &text).await, [ours.name()]);
        ours.hears(topic(1), &text, js).await;
    }
    let counters = ours.counters();
    assert_eq!((counters.published, counters.received, counters.rejected), (2, 2, 0), "{counters:?}");
    assert_eq!(counters.control_stopped, 0, "all that js-libp2p says is understood: {counters:?}");
}

#[tokio::test]
#[ignore = "needs Node.js: make test-interop"]
async fn js_libp2p_that_dials_us_and_we_hear_each_other() {
    let (mut ours, mut js) = (Ours::own().await, Js::start());
    meet(&mut ours, &mut js, true).await;
    talk(&mut ours, &mut js).await;
    ours.node.end().await;
    js.lost().await;
}

#[tokio::test]
#[ignore = "needs Node.js: make test-interop"]
async fn js_libp2p_that_we_dial_and_we_hear_each_other() {
    let (mut ours, mut js) = (Ours::own().await, Js::start());
    meet(&mut ours, &mut js, false).await;
    talk(&mut ours, &mut js).await;
    let node = js.node();
    drop(js);
    ours.node.until(|e| (*e == GossipEvent::PeerDisconnected { node }).then_some(())).await;
    ours.node.end().await;
}

#[tokio::test]
#[ignore = "needs Node.js: make test-interop"]
async fn js_libp2p_and_an_apps_own_node_hear_each_other() {
    let (mut ours, mut js) = (Ours::of_an_app().await, Js::start());
    meet(&mut ours, &mut js, true).await;
    talk(&mut ours, &mut js).await;
    ours.node.end().await;
}

/// Two of ours that know js-libp2p only, and the other way round: call messages are for all, and go on.
#[tokio::test]
#[ignore = "needs Node.js: make test-interop"]
async fn call_messages_cross_js_libp2p_and_it_hears_others_through_us() {
    let (mut a, mut b) = (Ours::own().await, Ours::own().await);
    let (mut js, mut far) = (Js::start(), Js::start());
    meet(&mut a, &mut js, true).await;
    meet(&mut b, &mut js, true).await;
    meet(&mut b, &mut far, true).await;
    // A - js - B - far. Meshes are made with a heartbeat: until then what is handed on may have nowhere to go, so it is
    // said again, as announces are. Each time in other words: the same would be taken for the same message.
    let mut said = Vec::new();
    for n in 1.. {
        said.push(a.say(topic(1), words(CALL_KIND, CALL, n)).await);
        assert!(n < 60, "nothing gets through");
        assert!(said.contains(&js.message().await.data), "in A's words");
        if let Some(heard) = far.message_within(Duration::from_secs(1)).await {
            assert_eq!((heard.bearer, heard.author), (b.name(), None));
            assert!(said.contains(&heard.data) && !heard.by_bearer, "they are A's words, not B's");
            break;
        }
    }
    for n in 101.. {
        let text = words(CALL_KIND, CALL, n);
        assert!(n < 160, "nothing gets through");
        assert_eq!(far.say(topic(1), &text).await, [b.name()]);
        if let Ok((_, data)) = tokio::time::timeout(Duration::from_secs(1), a.node.message()).await {
            assert!(data.starts_with(&text[..]), "far's words, through B and js-libp2p");
            break;
        }
    }
    for ours in [a, b] {
        assert_eq!(ours.counters().rejected, 0, "js-libp2p hands on what it should");
        ours.node.end().await;
    }
}

/// What ours refuses of it, and that it is heard again afterwards.
#[tokio::test]
#[ignore = "needs Node.js: make test-interop"]
async fn what_has_a_wrong_shape_or_size_is_refused() {
    let (mut ours, mut js) = (Ours::own().await, Js::start());
    meet(&mut ours, &mut js, true).await;
    let right = words(TRANSPORT_KIND, SMALLEST, 1);
    let wrong: [(&str, Vec<u8>, Topic); 5] = [
        ("nothing", Vec::new(), topic(1)),
        ("no size of this kind", vec![VERSION; 100], topic(1)),
        ("one byte more than any", words(TRANSPORT_KIND, frame::MAX_FRAME + 65, 1), topic(1)),
        ("a later version", vec![VERSION + 1; SMALLEST], topic(1)),
        ("a kind that nobody knows", [&[VERSION, 99][..], &right[2..]].concat(), topic(1)),
    ];
    for (_, data, on) in &wrong {
        assert_eq!(js.publish(*on, data).await, [ours.name()]);
    }
    // A topic that is not heard here is not sent here.
    js.publish_refused(topic(2), &right, "NoPeersSubscribedToTopic").await;
    assert_eq!(js.say(topic(1), &right).await, [ours.name()]);
    ours.hears(topic(1), &right, &js).await;
    let counters = ours.counters();
    assert_eq!((counters.received, counters.rejected, counters.ignored), (1, 3, 2), "{counters:?}");
    ours.node.end().await;
}

#[tokio::test]
#[ignore = "needs Node.js: make test-interop"]
async fn what_is_larger_than_the_wire_takes_ends_the_stream_and_nothing_else() {
    let (mut ours, mut js) = (Ours::own().await, Js::start());
    meet(&mut ours, &mut js, true).await;
    js.publish(topic(1), &words(TRANSPORT_KIND, 70_000, 1)).await;
    let said = ours.say(topic(1), words(TRANSPORT_KIND, SMALLEST, 2)).await;
    assert!(js.message().await.data == said, "the other way is as before");
    // js-libp2p's gossip opens a stream with a connection, and not again.
    js.hang_up().await;
    let node = js.node();
    ours.node.until(|e| (*e == GossipEvent::PeerDisconnected { node }).then_some(())).await;
    js.dial(&ours.address());
    ours.node.subscribed(topic(1)).await;
    let text = words(TRANSPORT_KIND, SMALLEST, 3);
    js.say(topic(1), &text).await;
    ours.hears(topic(1), &text, &js).await;
    assert_eq!(ours.counters().received, 1);
    ours.node.end().await;
}

/// Gossipsub's own default: every message with the author's name, number and signature.
#[tokio::test]
#[ignore = "needs Node.js: make test-interop"]
async fn who_signs_messages_is_refused_and_in_the_end_not_listened_to() {
    let (mut ours, mut signing, mut js) = (Ours::own().await, Js::signing(), Js::start());
    meet(&mut ours, &mut signing, true).await;
    for n in 1..=12 {
        let recipients = signing.say(topic(1), &words(TRANSPORT_KIND, SMALLEST, n)).await;
        assert_eq!(recipients, [ours.name()]);
    }
    let arrived = async {
        while ours.counters().rejected + ours.counters().refused < 12 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(STUCK, arrived).await.expect("all of them arrive");
    let counters = ours.counters();
    // The ninth is one too many, or the tenth where a little of the first is forgiven already.
    assert_eq!(counters.received, 0, "{counters:?}");
    assert!((9..=10).contains(&counters.rejected), "{counters:?}");
    // It alone: another one is heard.
    meet(&mut ours, &mut js, true).await;
    let text = words(TRANSPORT_KIND, SMALLEST, 1);
    js.say(topic(1), &text).await;
    ours.hears(topic(1), &text, &js).await;
    ours.node.end().await;
}

/// A node of the public network, which speaks gossipsub under the name that everybody uses.
#[tokio::test]
#[ignore = "needs Node.js: make test-interop"]
async fn who_speaks_everybodys_gossip_only_is_told_apart() {
    let (mut ours, js) = (Ours::own().await, Js::of_everybody());
    ours.node.gossip.subscribe(topic(1)).await.unwrap();
    assert_eq!(ours.node.gossip.connect(&js.node(), &js.addresses()).await, Ok(Via::Direct));
    let node = js.node();
    ours.node.until(|e| (*e == GossipEvent::PeerUnsupported { node }).then_some(())).await;
    ours.node.end().await;
}
