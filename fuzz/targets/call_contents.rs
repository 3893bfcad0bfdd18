//! What is signed in a call message, behind a seal.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| warp_blink::wire::fuzz::call_contents(bytes));
