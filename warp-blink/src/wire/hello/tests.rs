use zeroize::ZeroizeOnDrop;

use super::*;
use crate::{
    id::{CallId, NodeId},
    proto::signal::{AppData, HelloKind, MediaFormat},
    time::UnixTime,
};

/// Every field is named: a new one is judged here before it holds a secret.
#[test]
fn secrets_are_overwritten_when_dropped() {
    const fn wiped<T: ZeroizeOnDrop>(_: &T) {}
    let (alice, bob) = (Identity::from_seed([1; 32]), Identity::from_seed([2; 32]));
    let kem = KemSecret::of(&bob);
    let hello = Hello {
        kind: HelloKind::Offer,
        from: alice.public(),
        node: NodeId::from(alice.public()),
        call: CallId::from_bytes([3; 16]),
        sent_at: UnixTime::from_millis(0),
        ring_ms: 0,
        versions: vec![VERSION],
        suites: vec![SUITE_HYBRID],
        media: MediaFormat::default(),
        app_data: AppData::default(),
    };
    let secrets =
        HelloSecrets { peer_seed: PeerSeed::from_bytes([4; 32]), call_key: CallKey::from_bytes([5; 32]) };
    let token = ContactToken::from_bytes([6; 32]);
    let (door, key) = (Door::Contacts(&token), kem.public());
    let key = Some((&key, [7; 32]));
    let to = bob.public();
    let initiator = Initiator::start(&alice, &to, &door, key, &hello, &secrets, [8; 32]).unwrap();
    let opened = Responder::open(&bob, &kem, &door, &initiator.frame([0; 8])).unwrap();

    let Initiator { start, token, peer_seed, suite: _, rest: _, id: _, key, used: _ } = &initiator;
    let Start { secret, ephemeral, psk, contents, callee: _, prologue: _ } = start;
    wiped(secret);
    wiped(ephemeral);
    wiped(psk);
    wiped(contents);
    wiped(peer_seed);
    wiped(key);
    wiped(token.as_ref().unwrap());
    // `state` is snow's: its keys are in our resolver, the rest is said in `noise`.
    let Opened { hello: _, secrets, id: _, suite: _, lane: _, state: _, ephemeral: _ } = &opened;
    let HelloSecrets { peer_seed, call_key } = secrets;
    wiped(peer_seed);
    wiped(call_key);
}
