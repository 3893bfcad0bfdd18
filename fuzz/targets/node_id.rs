//! The name of a libp2p node, from its bytes and from text.

#![no_main]

use warp_blink::NodeId;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(id) = NodeId::from_bytes(bytes) {
        assert_eq!(id.as_bytes(), bytes);
        assert_eq!(id.to_string().parse(), Ok(id));
    }
    if let Ok(text) = str::from_utf8(bytes)
        && let Ok(id) = text.parse::<NodeId>()
    {
        assert_eq!(id.to_string(), text);
        assert_eq!(NodeId::from_bytes(id.as_bytes()), Ok(id));
    }
});
