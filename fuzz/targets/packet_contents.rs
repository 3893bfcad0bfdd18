//! The contents of a transport message, which stand behind a seal.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| warp_blink::wire::fuzz::packet_contents(bytes));
