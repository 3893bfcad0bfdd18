//! A frame that arrives at a caller who waits for message 2.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| warp_blink::wire::fuzz::welcome(bytes));
