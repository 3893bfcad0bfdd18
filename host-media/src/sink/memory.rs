//! A sink in memory, for tests and for programs that listen.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Sink, Write};
use crate::{BLOCK, Block, SAMPLE_RATE};

/// Keeps what is played, as 48 kHz mono. Cheap to clone; all clones see the same samples.
///
/// It holds at most ten minutes; what comes after that is left out until [`take`](Self::take) makes room.
#[derive(Clone, Debug, Default)]
pub struct MemorySink {
    samples: Arc<Mutex<Vec<f32>>>,
}

/// Ten minutes.
const BOUND: usize = SAMPLE_RATE as usize * 600;

impl MemorySink {
    /// An empty sink.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Everything that was played and not taken yet; full scale is -1.0..=1.0.
    #[must_use]
    pub fn samples(&self) -> Vec<f32> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The same, and forgets it.
    #[must_use]
    pub fn take(&self) -> Vec<f32> {
        std::mem::take(&mut *self.samples.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn push(&self, block: &[f32]) {
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let room = BOUND.saturating_sub(samples.len());
        samples.extend_from_slice(&block[..block.len().min(room)]);
    }
}

impl Sink for MemorySink {
    fn write(&mut self, block: &Block) -> Write {
        self.push(block);
        Write::Done
    }

    fn skip(&mut self, ticks: u64) {
        for _ in 0..ticks.min((BOUND / BLOCK) as u64) {
            self.push(&crate::SILENT);
        }
    }
}
