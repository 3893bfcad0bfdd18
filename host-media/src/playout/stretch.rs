//! Makes sound shorter or longer by one period of its waveform, so that nobody hears it.
//!
//! Waveform-similarity overlap-add (W. Verhelst, M. Roelands: An overlap-add technique based on waveform similarity
//! (WSOLA) for high quality time-scale modification of speech, ICASSP 1993), as it is used for playout (Y. J. Liang,
//! N. Färber, B. Girod: Adaptive playout scheduling and loss concealment for voice communication over IP networks, IEEE
//! Transactions on Multimedia 5(4), 2003): the sound jumps ahead or back by the lag at which it is most similar to
//! itself, cross-faded. A voice has such a lag, the period of its pitch; where there is none, nothing is done unless it
//! is urgent. What was played already is compared too, so that little need lie ahead.

use super::line::{Line, PAST};

/// Lags from 2.5 ms to 15 ms: pitches from 400 Hz (above, two periods are as good) down to 67 Hz.
pub(super) const LEAST_LAG: usize = 120;
pub(super) const MOST_LAG: usize = 720;
/// Compared are the 10 ms before the jump and the 5 ms of the cross-fade: together a period of the lowest voice.
const BEFORE: usize = 480;
const FADE: usize = 240;
/// The first search is at a sixth of the rate, 8 kHz, where all of a voice's pitch is.
const COARSE: usize = 6;
const WINDOW: usize = (BEFORE + FADE) / COARSE;
const SPAN: usize = (PAST + MOST_LAG + FADE) / COARSE;

/// A jump that would go unnoticed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Jump {
    /// Samples.
    pub(super) lag: usize,
    /// How alike both sides are: 1 is the same, 0 nothing alike.
    pub(super) likeness: f32,
}

/// Where to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// Sound is left out.
    Ahead,
    /// Sound is played twice.
    Back,
}

/// Looks for jumps and makes them.
#[derive(Debug)]
pub(super) struct Stretcher {
    coarse: Vec<f32>,
    fade: Vec<f32>,
}

impl Stretcher {
    pub(super) fn new() -> Self {
        Self { coarse: vec![0.0; SPAN], fade: vec![0.0; MOST_LAG.max(FADE)] }
    }

    /// The best jump of at most `most` samples from where playing stands; none if too little lies ahead.
    pub(super) fn search(&mut self, line: &Line, direction: Direction, most: usize) -> Option<Jump> {
        let all = line.all();
        let ahead = all.len() - PAST;
        let most = match direction {
            Direction::Ahead => most.min(MOST_LAG).min(ahead.checked_sub(FADE)?),
            Direction::Back => most.min(MOST_LAG).min(if ahead < FADE { 0 } else { MOST_LAG }),
        };
        if most < LEAST_LAG {
            return None;
        }
        let used = match direction {
            Direction::Ahead => PAST + most + FADE,
            Direction::Back => PAST + FADE,
        };
        let n = used / COARSE;
        for (out, six) in self.coarse.iter_mut().zip(all[..n * COARSE].chunks_exact(COARSE)) {
            *out = six.iter().sum();
        }
        let from = (PAST - BEFORE) / COARSE;
        let shift = |at: usize, lag: usize| match direction {
            Direction::Ahead => at + lag,
            Direction::Back => at - lag,
        };
        let mut best = (0.0, 0);
        for lag in LEAST_LAG / COARSE..=most / COARSE {
            let to = shift(from, lag);
            let Some(there) = self.coarse.get(to..(to + WINDOW).min(n)) else { continue };
            let likeness = likeness(&self.coarse[from..from + there.len()], there);
            // A longer lag must be better to be taken: it is likely a multiple of the period.
            if likeness > best.0 + 0.01 {
                best = (likeness, lag * COARSE);
            }
        }
        if best.1 == 0 {
            return None;
        }
        let mut found = Jump { lag: 0, likeness: -1.0 };
        for lag in (best.1 - COARSE).max(LEAST_LAG)..=(best.1 + COARSE).min(most) {
            let likeness = self.likeness_at(line, direction, lag);
            if likeness > found.likeness {
                found = Jump { lag, likeness };
            }
        }
        (found.lag > 0).then_some(found)
    }

    /// How alike both sides of this jump are. The lag is at most [`MOST_LAG`], and as much and the fade lie ahead.
    pub(super) fn likeness_at(&self, line: &Line, direction: Direction, lag: usize) -> f32 {
        let all = line.all();
        let (from, to) = (PAST - BEFORE, PAST + FADE);
        match direction {
            Direction::Ahead => likeness(&all[from..to], &all[from + lag..to + lag]),
            Direction::Back => likeness(&all[from..to], &all[from - lag..to - lag]),
        }
    }

    /// Makes the jump.
    pub(super) fn jump(&mut self, line: &mut Line, direction: Direction, jump: Jump) {
        let all = line.all();
        let Jump { lag, likeness } = jump;
        // The sum of two sounds that are little alike is quieter than either; this makes up for it.
        let mix = |old: f32, new: f32, i: usize, n: usize| {
            let u = 0.5 - 0.5 * (std::f32::consts::PI * (i as f32 + 0.5) / n as f32).cos();
            let power = (1.0 - u) * (1.0 - u) + u * u + 2.0 * likeness.clamp(0.0, 1.0) * u * (1.0 - u);
            (old * (1.0 - u) + new * u) / power.sqrt()
        };
        match direction {
            Direction::Ahead => {
                let n = FADE.min((all.len() - PAST).saturating_sub(lag));
                let (old, new) = (&all[PAST..], &all[PAST + lag..]);
                for (i, out) in self.fade[..n].iter_mut().enumerate() {
                    *out = mix(old[i], new[i], i, n);
                }
                line.leave_out(lag, &self.fade[..n]);
            }
            Direction::Back => {
                let n = FADE.min(lag).min(all.len() - PAST);
                let (old, new) = (&all[PAST..], &all[PAST - lag..PAST]);
                self.fade[..lag].copy_from_slice(new);
                for (i, out) in self.fade[..n].iter_mut().enumerate() {
                    *out = mix(old[i], new[i], i, n);
                }
                line.put_in(&self.fade[..lag]);
            }
        }
    }
}

/// Normalised cross-correlation. Silence is like silence.
fn likeness(a: &[f32], b: &[f32]) -> f32 {
    let (mut ab, mut aa, mut bb) = ([0.0_f32; 8], [0.0_f32; 8], [0.0_f32; 8]);
    for (a, b) in a.chunks_exact(8).zip(b.chunks_exact(8)) {
        for i in 0..8 {
            ab[i] += a[i] * b[i];
            aa[i] += a[i] * a[i];
            bb[i] += b[i] * b[i];
        }
    }
    let (ab, aa, bb) = (ab.iter().sum::<f32>(), aa.iter().sum::<f32>(), bb.iter().sum::<f32>());
    let power = (aa * bb).sqrt();
    if power < 1e-9 { f32::from(u8::from(aa.max(bb) < 1e-4)) } else { ab / power }
}
