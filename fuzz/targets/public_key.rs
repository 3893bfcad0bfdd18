//! A public key, from its bytes and from text.

#![no_main]

use warp_blink::{NodeId, PublicKey};

/// A key that was read names one owner, whose texts and bytes all lead back to it.
fn check(key: PublicKey) {
    assert_eq!(PublicKey::from_bytes(*key.as_bytes()), Ok(key));
    assert_eq!(key.to_string().parse(), Ok(key));
    assert_eq!(key.to_peer_id_string().parse(), Ok(key));
    assert_eq!(NodeId::from_bytes(NodeId::from(key).as_bytes()), Ok(NodeId::from(key)));
    // All that are of small order, and their forms on the other curve, are refused.
    assert_ne!(key.to_x25519(), [0; 32]);
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(key) = bytes.try_into()
        && let Ok(key) = PublicKey::from_bytes(key)
    {
        check(key);
    }
    if let Ok(text) = str::from_utf8(bytes)
        && let Ok(key) = text.parse::<PublicKey>()
    {
        check(key);
        // Each form has one text.
        assert!(key.to_string() == text || key.to_peer_id_string() == text);
    }
});
