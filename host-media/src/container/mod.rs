//! Ogg Opus (RFC 7845): the file format of recordings, and of files that are played. Pages are the crate `ogg`'s; what
//! is in them is ours.

#[cfg(test)]
pub(crate) mod clicks;
mod head;
mod read;
#[cfg(test)]
mod tests;
mod write;

pub(crate) use read::{OpusSamples, open};
pub(crate) use write::{BeginFault, Writer};
