//! A padded bucket.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| warp_blink::wire::fuzz::padding(bytes));
