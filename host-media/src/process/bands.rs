//! The three bands of 16 kHz in which echo and noise are worked on, and their division into blocks of 4 ms.

use sonora::three_band_filter_bank::ThreeBandFilterBank;
use sonora_aec3::block::Block as Slice;

use crate::Block;

/// Bands of a block: 0 to 8, 8 to 16 and 16 to 24 kHz, each with 160 samples per 10 ms.
pub(super) type Bands = [[f32; 160]; 3];

/// The scale of the voice processing: full scale is that of 16-bit integers.
pub(super) const SCALE: f32 = 32_768.0;

/// The canceller's block: 64 samples of each band, 4 ms.
const SLICE: usize = 64;

/// Splits sound into bands.
pub(super) fn split(bank: &mut ThreeBandFilterBank, block: &Block, bands: &mut Bands) {
    let scaled = std::array::from_fn(|i| block[i] * SCALE);
    bank.analysis(&scaled, bands);
}

/// Puts bands together again.
pub(super) fn merge(bank: &mut ThreeBandFilterBank, bands: &Bands, block: &mut Block) {
    bank.synthesis(bands, block);
    for sample in block {
        *sample /= SCALE;
    }
}

/// Collects bands of 10 ms and gives them on in slices of 4 ms, or the other way round.
#[derive(Debug)]
pub(super) struct Framer {
    /// What a block and the rest before it need, and a slice more.
    bands: [[f32; 160 + 2 * SLICE]; 3],
    len: usize,
}

impl Framer {
    pub(super) fn new() -> Self {
        Self { bands: [[0.0; 160 + 2 * SLICE]; 3], len: 0 }
    }

    /// One that holds a slice of silence, so that there always is a block after as many slices as a block fills.
    pub(super) fn primed() -> Self {
        Self { len: SLICE, ..Self::new() }
    }

    pub(super) fn push_bands(&mut self, bands: &Bands) {
        for (to, from) in self.bands.iter_mut().zip(bands) {
            to[self.len..self.len + 160].copy_from_slice(from);
        }
        self.len += 160;
    }

    /// Takes a slice out; false if there is none.
    pub(super) fn pull_slice(&mut self, slice: &mut Slice) -> bool {
        if self.len < SLICE {
            return false;
        }
        for (band, from) in self.bands.iter_mut().enumerate() {
            slice.view_mut(band, 0).copy_from_slice(&from[..SLICE]);
            from.copy_within(SLICE..self.len, 0);
        }
        self.len -= SLICE;
        true
    }

    pub(super) fn push_slice(&mut self, slice: &Slice) {
        for (band, to) in self.bands.iter_mut().enumerate() {
            to[self.len..self.len + SLICE].copy_from_slice(slice.view(band, 0));
        }
        self.len += SLICE;
    }

    pub(super) fn pull_bands(&mut self, bands: &mut Bands) {
        for (to, from) in bands.iter_mut().zip(&mut self.bands) {
            to.copy_from_slice(&from[..160]);
            from.copy_within(160..self.len.max(160), 0);
        }
        self.len = self.len.saturating_sub(160);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_come_out_as_blocks_one_slice_later() {
        let (mut cut, mut joined) = (Framer::new(), Framer::primed());
        let mut slice = Slice::new(3, 1);
        let mut out = Vec::new();
        for block in 0..50 {
            cut.push_bands(&std::array::from_fn(|b| {
                std::array::from_fn(|i| (b * 100_000 + block * 160 + i) as f32)
            }));
            while cut.pull_slice(&mut slice) {
                joined.push_slice(&slice);
            }
            let mut bands = [[0.0; 160]; 3];
            joined.pull_bands(&mut bands);
            out.extend_from_slice(&bands[2]);
        }
        assert!(out[..SLICE].iter().all(|s| *s == 0.0));
        assert!(out[SLICE..].iter().enumerate().all(|(i, s)| *s == (200_000 + i) as f32));
    }
}
