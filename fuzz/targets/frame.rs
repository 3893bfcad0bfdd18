//! A frame at both doors of a callee, as it is and with the MAC that lets it in.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| warp_blink::wire::fuzz::frame(bytes));
