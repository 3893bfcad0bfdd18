//! Randomness that is the same on every machine and for ever: a seed that failed once is a test from then on.

use std::time::Duration;

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{RngCore, SeedableRng},
};

/// A seeded source of choices. ChaCha8, whose stream is fixed by its definition.
#[derive(Clone, Debug)]
pub struct Rng(ChaCha8Rng);

impl Rng {
    /// The source of this seed.
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// A number below `n`; 0 if `n` is 0. The bias of the remainder is below one in a billion for what tests ask.
    pub fn below(&mut self, n: u64) -> u64 {
        self.0.next_u64() % n.max(1)
    }

    /// A time in `[from, to]`.
    pub fn between(&mut self, (from, to): (Duration, Duration)) -> Duration {
        let span = to.saturating_sub(from).as_micros() as u64;
        from + Duration::from_micros(self.below(span + 1))
    }

    /// Yes with this probability.
    pub fn chance(&mut self, p: f64) -> bool {
        (self.below(1 << 32) as f64) < p * (1u64 << 32) as f64
    }

    /// One of these; `None` if there are none.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        from.get(self.below(from.len() as u64) as usize).copied()
    }

    /// 16 bytes for a call id.
    pub fn bytes(&mut self) -> [u8; 16] {
        let mut bytes = [0; 16];
        self.0.fill_bytes(&mut bytes);
        bytes
    }
}
