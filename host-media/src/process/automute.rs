//! Mutes the microphone while nobody speaks into it.
//!
//! It costs no delay. Whether a sound is a voice is known 30 ms late at the earliest, so automute does not wait: it opens in
//! the very block in which something is louder than the background, and closes again if that was no voice. A cough or a key
//! is therefore heard for a fifth of a second; a syllable is never cut.

/// Nobody speaks for this long before it mutes: 1 s more than the pause that ends speech, so that the gaps between
/// sentences are open.
const CLOSE_AFTER: u16 = 100;
/// A sound must turn out to be a voice within 200 ms.
const PROVE_WITHIN: u16 = 20;
/// After a sound that was none, another one opens only if it is a voice, for 1 s: a fan that starts does not flutter.
const DOUBT: u16 = 100;

/// Decides when to mute; the ramp is the encoder's side of mute.
#[derive(Debug, Default)]
pub(super) struct AutoMute {
    muted: bool,
    /// Ticks since the last voice, or since it was opened.
    quiet: u16,
    /// Ticks for which an opening by mere loudness is still to be proven.
    proving: u16,
    doubt: u16,
}

impl AutoMute {
    pub(super) fn muted(&self) -> bool {
        self.muted
    }

    /// Takes the next block's findings; tells the new state if it changed.
    pub(super) fn feed(&mut self, on: bool, loud: bool, speaking: bool) -> Option<bool> {
        let before = self.muted;
        if !on {
            *self = Self::default();
            return before.then_some(false);
        }
        self.doubt = self.doubt.saturating_sub(1);
        if speaking {
            (self.muted, self.quiet, self.proving, self.doubt) = (false, 0, 0, 0);
        } else if self.muted {
            if loud && self.doubt == 0 {
                (self.muted, self.quiet, self.proving) = (false, 0, PROVE_WITHIN);
            }
        } else if self.proving > 0 {
            self.proving -= 1;
            if self.proving == 0 {
                (self.muted, self.doubt) = (true, DOUBT);
            }
        } else {
            self.quiet += 1;
            self.muted = self.quiet >= CLOSE_AFTER;
        }
        (self.muted != before).then_some(self.muted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(automute: &mut AutoMute, ticks: u16, loud: bool, speaking: bool) -> Vec<(u16, bool)> {
        (0..ticks).filter_map(|t| automute.feed(true, loud, speaking).map(|m| (t, m))).collect()
    }

    #[test]
    fn it_mutes_after_the_pause_and_opens_in_the_first_loud_block() {
        let mut automute = AutoMute::default();
        assert_eq!(run(&mut automute, 50, true, true), []);
        assert_eq!(run(&mut automute, 300, false, false), [(CLOSE_AFTER - 1, true)]);
        assert_eq!(run(&mut automute, 3, true, false), [(0, false)]);
        assert_eq!(run(&mut automute, 100, true, true), []);
    }

    #[test]
    fn what_turns_out_to_be_no_voice_is_shut_out_and_does_not_flutter() {
        let mut automute = AutoMute::default();
        run(&mut automute, CLOSE_AFTER, false, false);
        let noisy = run(&mut automute, 100, true, false);
        assert_eq!(noisy, [(0, false), (PROVE_WITHIN, true)]);
        assert_eq!(automute.feed(true, true, true), Some(false), "a voice is let through all the same");
    }

    #[test]
    fn switched_off_it_opens_and_stays_open() {
        let mut automute = AutoMute::default();
        run(&mut automute, CLOSE_AFTER, false, false);
        assert!(automute.muted());
        assert_eq!(automute.feed(false, false, false), Some(false));
        assert!((0..500).all(|_| automute.feed(false, false, false).is_none()));
    }
}
