//! A frame that arrives in a session, and padded contents that its other side seals.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| warp_blink::wire::fuzz::transport(bytes));
