//! Ways in for a fuzzer. Each takes any bytes and must return. They are for test programs; nothing else calls them.

use std::io::Cursor;

use crate::{container::OpusSamples, source::memory::Samples};

/// 10 s: what is in a file that is longer is decoded in the same way.
const MOST: usize = 480_000;

/// Reads an Ogg Opus file: an error, or sound that can be played.
///
/// # Panics
///
/// If what comes of it is no sound, which is what a fuzzer looks for.
pub fn opus_file(bytes: &[u8]) {
    let Ok(mut samples) = OpusSamples::begin(Cursor::new(bytes)) else { return };
    let (mut out, mut read) = ([0.0; 1_000], 0);
    while read < MOST {
        let Ok(n) = samples.next(&mut out) else { return };
        // The reader bounds what a gain of 128 dB would make of it.
        assert!(n <= out.len() && out[..n].iter().all(|s| s.abs() <= 8.0));
        if n < out.len() {
            return;
        }
        read += n;
    }
}
