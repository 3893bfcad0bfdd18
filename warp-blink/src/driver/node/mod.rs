//! The rust-ipfs node.
