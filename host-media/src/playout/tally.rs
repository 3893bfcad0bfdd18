//! What the decoder's side counts. Samples, where nothing else is said.

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) played: u64,
    /// Made up in place of packets that could not be decoded.
    pub(super) undecodable: u64,
    pub(super) fec: u64,
    /// Frames.
    pub(super) fec_frames: u64,
    pub(super) deep: u64,
    pub(super) deep_frames: Frames,
    pub(super) concealed_frames: Frames,
    pub(super) discarded: u64,
    /// What was concealed when it was last counted in frames.
    concealed: u64,
}

impl Tally {
    /// So much was rebuilt from deep redundancy, by the peer's frame length.
    pub(super) fn rebuilt(&mut self, samples: u64, frame: u64) {
        self.deep += samples;
        self.deep_frames.add(samples, frame);
    }

    /// So much was concealed until now.
    pub(super) fn count_frames(&mut self, concealed: u64, frame: u64) {
        // It becomes less when what was waited for turns out to have been a pause.
        self.concealed_frames.add(concealed.saturating_sub(self.concealed), frame);
        self.concealed_frames.take_back(self.concealed.saturating_sub(concealed));
        self.concealed = concealed;
    }
}

/// Time in frames, each as long as frames were then, and a part of one counted as a whole.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Frames {
    /// Of earlier lengths.
    before: u64,
    /// Samples in frames of the present length.
    samples: u64,
    frame: u64,
}

impl Frames {
    fn add(&mut self, samples: u64, frame: u64) {
        if samples > 0 && frame != self.frame {
            *self = Self { before: self.count(), samples: 0, frame };
        }
        self.samples += samples;
    }

    fn take_back(&mut self, samples: u64) {
        self.samples = self.samples.saturating_sub(samples);
    }

    pub(super) fn count(&self) -> u64 {
        self.before + if self.frame > 0 { self.samples.div_ceil(self.frame) } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_another_length_change_nothing_about_those_that_were_counted() {
        let mut frames = Frames::default();
        frames.add(960 * 10, 960);
        frames.add(480, 960);
        assert_eq!(frames.count(), 11);
        frames.add(0, 2_880);
        frames.add(2_880, 2_880);
        assert_eq!(frames.count(), 12);
        frames.add(480, 480);
        frames.add(480, 480);
        assert_eq!(frames.count(), 14);
        frames.take_back(5_000);
        assert_eq!(frames.count(), 12);
    }
}
