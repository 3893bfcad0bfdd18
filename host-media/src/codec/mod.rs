//! Opus, and what goes around it: redundancy in packets of its own, and the policy that chooses among all of this.

mod advice;
mod decoder;
mod encoder;
mod ffi;
pub(crate) mod packet;
pub(crate) mod policy;
pub(crate) mod pool;
pub(crate) mod red;

pub use advice::PathAdvice;
pub(crate) use decoder::{DECODER_COMPLEXITY, Decoder};
pub(crate) use encoder::{DEFAULT_BITRATE, DEFAULT_COMPLEXITY, DEFAULT_EXPECTED_LOSS, Encoded, Encoder};

use crate::error::Error;

fn failed(action: &'static str) -> impl Fn(ffi::Fault) -> Error {
    move |fault| Error::Codec { action, cause: fault.to_string() }
}

#[cfg(test)]
mod tests;
