//! Who belongs to a call, as it is kept between runs.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| warp_blink::wire::fuzz::saved(bytes));

libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    blink_fuzz::mutate_contents(data, size, max_size, seed)
});
