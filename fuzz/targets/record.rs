//! Where somebody is reached: a signed record, and what it says.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| warp_blink::wire::fuzz::record(bytes));

libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    blink_fuzz::mutate_contents(data, size, max_size, seed)
});
