//! The decoded sound of one peer: what waits to be played, behind what was played last.

/// Samples that are kept of what was played, for comparing with: the longest lag and the window of the search.
pub(super) const PAST: usize = 1_440;
/// Samples that can wait: two of the longest packets, a block and what a stretch adds. More is never decoded ahead.
const ROOM: usize = 16_384;
/// A jump of the signal is smoothed over 2 ms.
const DECLICK: usize = 96;

/// A queue in one piece of memory of fixed size, so that neither playing nor stretching allocates.
#[derive(Debug)]
pub(super) struct Line {
    samples: Vec<f32>,
    start: usize,
    end: usize,
    /// What is appended next does not go on where the last sample stopped.
    jump: bool,
}

impl Line {
    pub(super) fn new() -> Self {
        Self { samples: vec![0.0; PAST + 2 * ROOM], start: PAST, end: PAST, jump: false }
    }

    /// Samples that wait.
    pub(super) fn len(&self) -> usize {
        self.end - self.start
    }

    pub(super) fn is_empty(&self) -> bool {
        self.end == self.start
    }

    /// The last [`PAST`] samples that were played and all that wait; the first one that waits has the index [`PAST`].
    pub(super) fn all(&self) -> &[f32] {
        &self.samples[self.start - PAST..self.end]
    }

    /// What waits.
    pub(super) fn waiting(&mut self) -> &mut [f32] {
        &mut self.samples[self.start..self.end]
    }

    /// The next sample that is appended begins something else: it is led over to.
    pub(super) fn jump(&mut self) {
        self.jump = true;
    }

    /// Drops what waits. What comes next is led over to from what was played last.
    pub(super) fn clear(&mut self) {
        self.end = self.start;
        self.jump = true;
    }

    /// Appends samples; returns how many did not fit, which is none unless somebody decodes without end.
    pub(super) fn append(&mut self, samples: &[f32]) -> usize {
        let n = samples.len().min(ROOM.saturating_sub(self.len()));
        self.make_room(n);
        let at = self.end;
        self.samples[at..at + n].copy_from_slice(&samples[..n]);
        if self.jump && n > 0 {
            let by = self.samples[at - 1] - samples[0];
            for (i, sample) in self.samples[at..at + n].iter_mut().take(DECLICK).enumerate() {
                *sample += by * (1.0 - i as f32 / DECLICK as f32);
            }
            self.jump = false;
        }
        self.end += n;
        samples.len() - n
    }

    /// Takes the next samples; what is missing is silence, smoothly.
    pub(super) fn take(&mut self, out: &mut [f32]) {
        let n = out.len().min(self.len());
        let (sound, rest) = out.split_at_mut(n);
        sound.copy_from_slice(&self.samples[self.start..self.start + n]);
        self.start += n;
        if rest.is_empty() {
            return;
        }
        let last = self.samples[self.start - 1];
        for (i, sample) in rest.iter_mut().enumerate() {
            *sample = last * (1.0 - i as f32 / DECLICK as f32).max(0.0);
        }
        self.make_room(rest.len());
        self.samples[self.end..self.end + rest.len()].copy_from_slice(rest);
        self.end += rest.len();
        self.start = self.end;
    }

    /// Leaves out the first `by` samples that wait; the `fade.len()` samples after them are replaced by `fade`.
    pub(super) fn leave_out(&mut self, by: usize, fade: &[f32]) {
        let from = (self.start + by).min(self.end);
        let n = fade.len().min(self.end - from);
        self.samples[from..from + n].copy_from_slice(&fade[..n]);
        // What was played stays right in front of what waits.
        let past = self.start - PAST;
        self.samples.copy_within(past..self.start, from - PAST);
        self.start = from;
    }

    /// Puts samples in front of what waits.
    pub(super) fn put_in(&mut self, samples: &[f32]) {
        let n = samples.len().min(ROOM.saturating_sub(self.len()));
        self.make_room(n);
        self.samples.copy_within(self.start..self.end, self.start + n);
        self.samples[self.start..self.start + n].copy_from_slice(&samples[..n]);
        self.end += n;
    }

    fn make_room(&mut self, n: usize) {
        if self.end + n > self.samples.len() {
            self.samples.copy_within(self.start - PAST..self.end, 0);
            self.end -= self.start - PAST;
            self.start = PAST;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp(from: usize, n: usize) -> Vec<f32> {
        (from..from + n).map(|i| i as f32).collect()
    }

    #[test]
    fn what_goes_in_comes_out_in_order_for_ever() {
        let mut line = Line::new();
        let (mut put, mut got) = (0, 0);
        for round in 0..2_000 {
            let n = [120, 960, 2_880, 480, 0][round % 5];
            assert_eq!(line.append(&ramp(put, n)), 0);
            put += n;
            while line.len() >= 480 {
                let mut out = [0.0; 480];
                line.take(&mut out);
                assert_eq!(out[..], ramp(got, 480)[..]);
                got += 480;
            }
            if got >= PAST {
                assert_eq!(line.all()[..PAST], ramp(got - PAST, PAST)[..]);
            }
        }
        assert!(put > 1_000_000 && put - got == line.len());
    }

    #[test]
    fn leaving_out_and_putting_in_touch_nothing_else() {
        let mut line = Line::new();
        line.append(&ramp(0, 3_000));
        line.take(&mut [0.0; 1_500]);
        line.leave_out(100, &[7.0; 10]);
        assert_eq!(line.all()[..PAST], ramp(60, PAST)[..], "the past is what was played");
        assert_eq!((line.len(), line.all()[PAST], line.all()[PAST + 10]), (1_400, 7.0, 1_610.0));
        line.put_in(&[9.0; 50]);
        assert_eq!((line.len(), line.all()[PAST], line.all()[PAST + 50]), (1_450, 9.0, 7.0));
        assert_eq!(line.all()[PAST - 1], 1_499.0);
    }

    #[test]
    fn what_is_missing_is_silence_and_jumps_are_smooth() {
        let mut line = Line::new();
        line.append(&[0.8; 100]);
        let mut out = [0.0; 480];
        line.take(&mut out);
        assert!(out.windows(2).all(|w| (w[1] - w[0]).abs() < 0.02 || w[0] == 0.0), "{out:?}");
        assert_eq!(out[479], 0.0);
        line.append(&[0.0; 10]);
        line.jump();
        line.append(&[-0.5; 200]);
        let mut out = [0.0; 210];
        line.take(&mut out);
        assert!(out.windows(2).all(|w| (w[1] - w[0]).abs() < 0.01));
        assert_eq!(out[209], -0.5);
    }

    #[test]
    fn it_is_bounded() {
        let mut line = Line::new();
        for _ in 0..10 {
            line.append(&[0.1; 5_760]);
        }
        assert_eq!(line.len(), ROOM);
        line.put_in(&[0.0; 480]);
        assert_eq!(line.len(), ROOM);
    }
}
