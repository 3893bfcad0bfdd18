//! What the user should be told about the microphone.

use std::time::Duration;

use crate::{Block, TICK, level};

/// Speech while muted counts from 300 ms on: a word, not a cough.
const WORD: u16 = 30;
/// It is told once in 10 s at most.
const AGAIN: u16 = 1_000;
/// So long nothing may come from a microphone: 10 s, longer than a device takes to wake up.
const SILENT: u32 = 1_000;
/// Below this root of the mean square a microphone is silent: -90 dBov, the last bit of 16.
const FLOOR: f32 = 3.2e-5;

/// Something worth telling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hint {
    SpeakingWhileMuted,
    /// Nothing has come from the source for this long.
    Silent(Duration),
    /// Something comes again.
    Audible,
}

#[derive(Debug, Default)]
pub(super) struct Hints {
    voiced: u16,
    rest: u16,
    silent: u32,
    told: bool,
}

impl Hints {
    /// Looks at what comes from the source, before any processing. Whoever muted does not expect anything of a microphone,
    /// so that time does not count.
    pub(super) fn source(&mut self, block: &Block, muted: bool, alive: bool) -> Option<Hint> {
        if level::rms(block) >= FLOOR || !alive {
            self.silent = 0;
            return std::mem::take(&mut self.told).then_some(Hint::Audible);
        }
        if !muted && self.silent < SILENT {
            self.silent += 1;
        }
        if self.silent < SILENT || self.told || muted {
            return None;
        }
        self.told = true;
        Some(Hint::Silent(TICK * SILENT))
    }

    /// Takes whether the user speaks.
    pub(super) fn voice(&mut self, speaking: bool, muted: bool) -> Option<Hint> {
        self.rest = self.rest.saturating_sub(1);
        self.voiced = if speaking && muted { self.voiced.saturating_add(1) } else { 0 };
        if self.voiced < WORD || self.rest > 0 {
            return None;
        }
        self.rest = AGAIN;
        Some(Hint::SpeakingWhileMuted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BLOCK, SILENT as NOTHING};

    #[test]
    fn speech_while_muted_is_told_once_in_ten_seconds() {
        let mut hints = Hints::default();
        let told: Vec<usize> = (0..2_500).filter(|t| hints.voice(*t >= 100, *t < 2_400).is_some()).collect();
        assert_eq!(told, [129, 1_129, 2_129]);
        let mut hints = Hints::default();
        assert!((0..500).all(|t| hints.voice(t % 40 < 20, true).is_none()), "no word is that short");
        assert!((0..500).all(|_| hints.voice(true, false).is_none()));
    }

    #[test]
    fn a_silent_microphone_is_told_once_and_so_is_its_end() {
        let mut hints = Hints::default();
        let faint = [2e-5; BLOCK];
        let told: Vec<_> = (0..3_000)
            .filter_map(|t| {
                let block = if t == 2_500 { [1e-3; BLOCK] } else { faint };
                hints.source(&block, false, true).map(|h| (t, h))
            })
            .collect();
        assert_eq!(told, [(999, Hint::Silent(Duration::from_secs(10))), (2_500, Hint::Audible)]);
    }

    #[test]
    fn time_under_mute_and_sources_that_ended_do_not_count() {
        let mut hints = Hints::default();
        assert!((0..5_000).all(|_| hints.source(&NOTHING, true, true).is_none()));
        assert!((0..999).all(|_| hints.source(&NOTHING, false, true).is_none()));
        assert!((0..500).all(|_| hints.source(&NOTHING, true, true).is_none()));
        assert!(hints.source(&NOTHING, false, true).is_some());
        let mut hints = Hints::default();
        assert!((0..5_000).all(|_| hints.source(&NOTHING, false, false).is_none()));
    }
}
