//! Gossip in memory.
