//! What a phone needs from outside, where it is not a network and devices of its own.

use std::{fmt, sync::Arc};

use crate::{
    driver::{memory_gossip::MemoryHub, memory_media::MemoryLinks},
    ports::{gossip::Gossip, media::Media},
};

/// Gossip and links in memory: where phones of one test meet.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// The gossip between them.
    pub hub: MemoryHub,
    /// The links between them.
    pub links: MemoryLinks,
}

/// The two ports of a phone, for measurements that count what passes or put something else in its place.
#[doc(hidden)]
#[derive(Clone)]
pub struct Outside {
    /// Topics, and the connections that carry them.
    pub gossip: Arc<dyn Gossip>,
    /// Links and devices.
    pub media: Arc<dyn Media>,
}

impl fmt::Debug for Outside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outside").field("node", &self.gossip.node()).finish_non_exhaustive()
    }
}

/// What is done to them before the phone uses them.
pub(super) type Change = Box<dyn FnOnce(Outside) -> Outside + Send>;
