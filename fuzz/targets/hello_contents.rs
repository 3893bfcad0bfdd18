//! The contents of message 1, which stand behind a seal.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| warp_blink::wire::fuzz::hello_contents(bytes));
