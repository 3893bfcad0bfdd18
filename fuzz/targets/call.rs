//! A frame on the topic of a call, and a padded bucket that somebody with its key seals.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| warp_blink::wire::fuzz::call(bytes));
