//! An ML-KEM-768 key.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| warp_blink::wire::fuzz::kem_key(bytes));
