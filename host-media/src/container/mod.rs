//! Ogg Opus (RFC 7845): the file format of recordings, and of files that are played. Pages are the crate `ogg`'s; what
//! is in them is ours.

mod head;
mod read;
#[cfg(test)]
mod tests;
mod write;

#[cfg(test)]
pub(crate) use read::OpusSamples;
pub(crate) use read::open;
pub(crate) use write::{BeginFault, Writer};
