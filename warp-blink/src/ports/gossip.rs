//! The gossip port.
