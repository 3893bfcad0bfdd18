//! An Ogg Opus file, as one that is played into a call.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| host_media::fuzz::opus_file(bytes));
