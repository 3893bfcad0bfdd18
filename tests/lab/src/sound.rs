//! A signal that is known at every moment, and an ear that finds it again in a recording. Pure, but for the files.

use std::path::Path;

use hound::{SampleFormat, WavReader, WavSpec, WavWriter};

use crate::{Error, link::Random};

/// Rate at which everything is compared: all that the signal has lies below 4 kHz, and 0.125 ms is fine enough.
pub const RATE: u32 = 8000;
/// Rate of the files, that of the codec.
const FILE_RATE: u32 = 48_000;
const FACTOR: usize = (FILE_RATE / RATE) as usize;
/// Nothing is later than this.
const LATEST: usize = RATE as usize * 3;
/// Correlation at which something is recognised. What went through the codec has 0.8 and more; of 24,000 places of
/// unrelated noise of this bandwidth the best has 0.4, seldom 0.6.
const ALIKE: f64 = 0.6;
/// Two findings agree if their delays differ by less: one packet.
const AGREE: usize = RATE as usize * 20 / 1000;
/// Quieter than this is a pause, as is what a decoder invents for long losses.
const QUIET: f64 = 0.005;

/// A signal with the rhythm of speech, different at every moment: syllables of noise between 300 and 1200 Hz, 0.3 to 0.9 s
/// long, with pauses of 60 to 160 ms, in which a jitter buffer may change its length.
#[must_use]
pub fn speech(seed: u64, seconds: u32) -> Vec<f32> {
    let mut random = Random::new(seed);
    let length = (seconds * RATE) as usize;
    let mut out = Vec::with_capacity(length);
    let (mut low, mut lower, mut slow) = (0.0, 0.0, 0.0);
    while out.len() < length {
        let spoken = (f64::from(RATE) * (0.3 + 0.6 * random.draw())) as usize;
        let pause = (f64::from(RATE) * (0.06 + 0.1 * random.draw())) as usize;
        for k in 0..spoken + pause {
            // Two low passes at 1200 Hz, and what lies below 300 Hz taken away.
            low += 0.6 * (random.draw() * 2.0 - 1.0 - low);
            lower += 0.6 * (low - lower);
            slow += 0.21 * (lower - slow);
            // Edges of 10 ms make no clicks.
            let edge = (k.min(spoken.saturating_sub(k)) as f64 / (f64::from(RATE) * 0.01)).min(1.0);
            out.push((0.5 * edge * (lower - slow)) as f32);
        }
    }
    out.truncate(length);
    out
}

/// Writes a signal as 48 kHz, one channel, 16 bits.
///
/// # Errors
/// If the file cannot be written.
pub fn write(path: &Path, samples: &[f32]) -> Result<(), Error> {
    let between = |k: usize| {
        let next = samples.get(k + 1).copied().unwrap_or(0.0);
        (0..FACTOR).map(move |step| {
            let share = step as f32 / FACTOR as f32;
            ((samples[k] * (1.0 - share) + next * share) * 32_767.0) as i16
        })
    };
    write_raw(path, FILE_RATE, &(0..samples.len()).flat_map(between).collect::<Vec<_>>())
}

/// Writes samples as they are: one channel.
///
/// # Errors
/// If the file cannot be written.
pub fn write_raw(path: &Path, rate: u32, samples: &[i16]) -> Result<(), Error> {
    let spec =
        WavSpec { channels: 1, sample_rate: rate, bits_per_sample: 16, sample_format: SampleFormat::Int };
    let work = || -> Result<(), hound::Error> {
        let mut writer = WavWriter::create(path, spec)?;
        for sample in samples {
            writer.write_sample(*sample)?;
        }
        writer.finalize()
    };
    work().map_err(|error| Error::Program(format!("{}: {error}", path.display())))
}

/// Reads a recording at [`RATE`], all channels as one.
///
/// # Errors
/// If it cannot be read, or its rate is below [`RATE`].
pub fn read(path: &Path) -> Result<Vec<f32>, Error> {
    let failed = |cause: String| Error::Program(format!("{}: {cause}", path.display()));
    let mut reader = WavReader::open(path).map_err(|error| failed(error.to_string()))?;
    let spec = reader.spec();
    if spec.sample_rate < RATE {
        return Err(failed(format!("{} Hz", spec.sample_rate)));
    }
    let samples: Result<Vec<f32>, _> = match spec.sample_format {
        SampleFormat::Float => reader.samples::<f32>().collect(),
        SampleFormat::Int => {
            let most = 2_f32.powi(i32::from(spec.bits_per_sample) - 1);
            reader.samples::<i32>().map(|sample| sample.map(|sample| sample as f32 / most)).collect()
        }
    };
    let samples = samples.map_err(|error| failed(error.to_string()))?;
    Ok(narrow(&samples, spec.channels, spec.sample_rate))
}

/// The same at [`RATE`] and with one channel: the mean of what falls into each sample.
#[must_use]
pub fn narrow(samples: &[f32], channels: u16, rate: u32) -> Vec<f32> {
    let channels = usize::from(channels.max(1));
    let frames = samples.len() / channels;
    let begin = |k: usize| (k as u64 * u64::from(rate) / u64::from(RATE)) as usize;
    let all = (0..).map(|k| begin(k)..begin(k + 1).max(begin(k) + 1)).take_while(|span| span.end <= frames);
    all.map(|span| {
        let part = &samples[span.start * channels..span.end * channels];
        part.iter().sum::<f32>() / part.len() as f32
    })
    .collect()
}

/// A moment in which something was heard that the other side has said.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Moment {
    /// When it was heard: seconds on the clock of the recording.
    pub at: f64,
    /// How much earlier it was said, in seconds.
    pub delay: f64,
}

/// How somebody listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ear {
    /// Length of what is looked for, in samples.
    window: usize,
    /// The distance between two of them.
    hop: usize,
    /// Something else must be recognised within so many samples, at the same delay: chance does not strike twice.
    soon: usize,
}

impl Ear {
    /// For [`speech`], which is noise and hence new at every moment: three packets, each packet.
    pub const NOISE: Self = Self {
        window: RATE as usize * 60 / 1000,
        hop: RATE as usize * 20 / 1000,
        soon: RATE as usize * 3 / 10,
    };
    /// For people, whose vowels repeat themselves with each swing of the vocal cords: long enough for the pitch to change.
    pub const PEOPLE: Self =
        Self { window: RATE as usize * 320 / 1000, hop: RATE as usize * 80 / 1000, soon: RATE as usize };
}

/// Finds noise like [`speech`] again: [`Ear::NOISE`] listens.
#[must_use]
pub fn recognise(said: &[f32], said_from: f64, heard: &[f32], heard_from: f64) -> Vec<Moment> {
    Ear::NOISE.recognise(said, said_from, heard, heard_from)
}

impl Ear {
    /// Finds in `heard`, whose sample 0 was at `heard_from`, what was said in `said`, whose sample 0 was at `said_from`; both
    /// at [`RATE`], in seconds of one clock. In the order of hearing; pauses and what is not recognised are left out.
    #[must_use]
    pub fn recognise(self, said: &[f32], said_from: f64, heard: &[f32], heard_from: f64) -> Vec<Moment> {
        let rate = f64::from(RATE);
        // A sample of `heard` is at this place of `said`, if there were no delay.
        let shift = ((heard_from - said_from) * rate).round() as i64;
        let said = Said::new(said);
        let mut found = Vec::new();
        let mut last: Option<usize> = None;
        for start in (0..heard.len().saturating_sub(self.window)).step_by(self.hop) {
            let piece = &heard[start..start + self.window];
            if level(piece) < QUIET {
                continue;
            }
            let place = start as i64 + shift;
            // Where it was found before, in case that nothing has changed by more than 20 ms; else anywhere.
            let near =
                last.and_then(|delay| said.best(piece, place, delay.saturating_sub(AGREE)..delay + AGREE));
            let near = near.filter(|(_, alike)| *alike >= ALIKE);
            let any =
                near.or_else(|| said.best(piece, place, 0..LATEST)).filter(|(_, alike)| *alike >= ALIKE);
            if let Some((delay, _)) = any {
                last = Some(delay);
                found.push(Moment { at: heard_from + start as f64 / rate, delay: delay as f64 / rate });
            }
        }
        // Windows that overlap are no witnesses of each other.
        let (window, soon) = (self.window as f64 / rate, self.soon as f64 / rate);
        let agree = |a: &Moment, b: &Moment| {
            (window..soon).contains(&(a.at - b.at).abs()) && (a.delay - b.delay).abs() < AGREE as f64 / rate
        };
        let near = |k: usize| &found[k.saturating_sub(20)..(k + 20).min(found.len())];
        (0..found.len())
            .filter(|k| near(*k).iter().any(|other| agree(other, &found[*k])))
            .map(|k| found[k])
            .collect()
    }

    /// Where something is heard for the first time after `from` with about this delay, to a packet: in seconds of the clock of
    /// the recording. For somebody who knows the delay already, short windows are enough.
    #[must_use]
    pub fn first(
        said: &[f32],
        said_from: f64,
        heard: &[f32],
        heard_from: f64,
        from: f64,
        delay: f64,
    ) -> Option<f64> {
        let rate = f64::from(RATE);
        let Self { window, hop, .. } = Self::NOISE;
        let said = Said::new(said);
        let shift = ((heard_from - said_from) * rate).round() as i64;
        let about = (delay * rate).round() as usize;
        let begin = ((from - heard_from).max(0.0) * rate) as usize;
        let starts = (begin..heard.len().saturating_sub(window)).step_by(hop);
        let mut starts = starts.filter(|start| {
            let piece = &heard[*start..start + window];
            let place = *start as i64 + shift;
            let near = || said.best(piece, place, about.saturating_sub(AGREE)..about + AGREE);
            level(piece) >= QUIET && near().is_some_and(|(_, alike)| alike >= ALIKE)
        });
        starts.next().map(|start| heard_from + start as f64 / rate)
    }
}

fn level(samples: &[f32]) -> f64 {
    (samples.iter().map(|s| f64::from(*s).powi(2)).sum::<f64>() / samples.len() as f64).sqrt()
}

/// What was said, and the energy of all of it up to each sample.
struct Said<'a> {
    samples: &'a [f32],
    energy: Vec<f64>,
}

impl<'a> Said<'a> {
    fn new(samples: &'a [f32]) -> Self {
        let mut sum = 0.0;
        let sums = samples.iter().map(|sample| {
            sum += f64::from(*sample).powi(2);
            sum
        });
        Self { samples, energy: [0.0].into_iter().chain(sums).collect() }
    }

    /// The delay in this range at which `piece`, heard at `place`, is most like what was said, and how much.
    fn best(&self, piece: &[f32], place: i64, delays: std::ops::Range<usize>) -> Option<(usize, f64)> {
        let own = f64::from(product(piece, piece));
        let mut best: Option<(usize, f64)> = None;
        for delay in delays {
            let Ok(from) = usize::try_from(place - delay as i64) else { continue };
            let Some(original) = self.samples.get(from..from + piece.len()) else { continue };
            let other = self.energy[from + piece.len()] - self.energy[from];
            if other <= 1e-9 {
                continue;
            }
            let alike = f64::from(product(piece, original)) / (own * other).sqrt();
            if best.is_none_or(|(_, most)| alike > most) {
                best = Some((delay, alike));
            }
        }
        best
    }
}

/// The sum of products, in eight sums that do not wait for each other: nearly all time of the ear is spent here.
fn product(one: &[f32], other: &[f32]) -> f32 {
    let mut sums = [0.0_f32; 8];
    let (ones, others) = (one.chunks_exact(8), other.chunks_exact(8));
    let rest: f32 = ones.remainder().iter().zip(others.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in ones.zip(others) {
        for k in 0..8 {
            sums[k] += a[k] * b[k];
        }
    }
    sums.iter().sum::<f32>() + rest
}

/// The middle one of some delays between two times, in seconds. `None`: nothing was heard there.
#[must_use]
pub fn delay(moments: &[Moment], from: f64, to: f64) -> Option<f64> {
    let mut delays: Vec<f64> =
        moments.iter().filter(|m| (from..to).contains(&m.at)).map(|m| m.delay).collect();
    delays.sort_by(f64::total_cmp);
    delays.get(delays.len() / 2).copied()
}

/// A time in which nothing was heard.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Gap {
    /// When the last sound before it was over.
    pub gone: f64,
    /// When the first sound after it was heard. `None`: none was.
    pub back: Option<f64>,
}

/// The longest gap that ends after `from` and begins before `until`, when listening was over. Pauses of the speech are gaps
/// as well, so a sound call has some of 0.2 s.
#[must_use]
pub fn longest_gap(moments: &[Moment], from: f64, until: f64) -> Gap {
    let window = Ear::NOISE.window as f64 / f64::from(RATE);
    let mut gap = Gap { gone: from, back: None };
    let mut longest = 0.0;
    let mut gone = from;
    let heard = moments.iter().map(|m| m.at).filter(|at| *at < until);
    for back in heard.map(Some).chain([None]) {
        let end = back.unwrap_or(until);
        if end > from && end - gone > longest {
            longest = end - gone;
            gap = Gap { gone, back };
        }
        gone = end + window;
    }
    gap
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signal_survives_a_file_and_is_new_at_every_moment() {
        let said = speech(1, 10);
        assert_eq!(said.len(), 80_000);
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("said.wav");
        write(&path, &said).expect("written");
        let read = read(&path).expect("read");
        let (delay, alike) =
            Said::new(&said).best(&read[20_000..22_000], 20_000, 0..15_000).expect("it is there");
        assert!(delay <= 1 && alike > 0.9, "{delay} {alike}");
        // Another seed is somebody else.
        let moments = recognise(&speech(2, 10), 0.0, &said, 0.5);
        assert!(moments.is_empty(), "{} moments of somebody else", moments.len());
    }

    #[test]
    fn the_ear_finds_delay_and_gap_and_another_delay_after_it() {
        let said = speech(3, 20);
        let mut heard = vec![0.0; 1600];
        heard.extend_from_slice(&said[..56_000]);
        heard.extend(vec![0.0; 24_000]);
        // From the tenth second on it is 300 ms late.
        heard.extend_from_slice(&said[79_200..150_000]);
        let moments = recognise(&said, 100.0, &heard, 100.05);
        let before = delay(&moments, 100.0, 107.0).expect("heard");
        let after = delay(&moments, 112.0, 118.0).expect("heard");
        assert!((before - 0.25).abs() < 0.001, "{before}");
        assert!((after - 0.35).abs() < 0.001, "{after}");
        let Gap { gone, back } = longest_gap(&moments, 105.0, 118.0);
        let back = back.expect("it comes back");
        assert!((gone - 107.25).abs() < 0.25 && (back - 110.25).abs() < 0.25, "{gone} {back}");
        // Who listens no longer has not heard it come back.
        assert_eq!(longest_gap(&moments, 105.0, 110.0), Gap { gone, back: None });
        assert_eq!(delay(&moments, 108.0, 109.0), None);
    }

    #[test]
    fn a_recording_of_another_rate_keeps_its_clock() {
        let said = speech(5, 4);
        // Each sample stands for a while: 44.1 kHz have no whole number of them.
        let stretched: Vec<f32> =
            (0..4 * 44_100_usize).map(|k| said[(k * RATE as usize / 44_100).min(said.len() - 1)]).collect();
        let narrow = narrow(&stretched, 1, 44_100);
        assert!(narrow.len().abs_diff(said.len()) <= 1);
        let late = &said[16_000..24_000];
        let (delay, alike) = Said::new(&narrow).best(late, 16_000, 0..10_000).expect("it is there");
        assert!(delay <= 1 && alike > 0.95, "{delay} {alike}");
    }

    #[test]
    fn the_longer_ear_finds_the_same_and_the_moment_at_which_it_comes_back() {
        let said = speech(6, 20);
        let mut heard = vec![0.0; 960];
        heard.extend_from_slice(&said[..60_000]);
        heard.extend(vec![0.0; 20_000]);
        heard.extend_from_slice(&said[79_200..150_000]);
        let moments = Ear::PEOPLE.recognise(&said, 10.0, &heard, 10.0);
        let before = delay(&moments, 10.0, 17.0).expect("heard");
        let after = delay(&moments, 22.0, 27.0).expect("heard");
        assert!((before - 0.12).abs() < 0.001, "{before}");
        assert!((after - 0.22).abs() < 0.001, "{after}");
        let back = Ear::first(&said, 10.0, &heard, 10.0, 17.7, after).expect("it comes back");
        // A pause of the speech is 0.16 s long at most.
        assert!((back - 20.12).abs() < 0.2, "{back}");
        assert_eq!(Ear::first(&said, 10.0, &heard, 10.0, 17.7, 0.12), None, "not with the delay of before");
    }

    #[test]
    fn a_sound_call_has_no_gap_but_its_pauses() {
        let said = speech(4, 30);
        let moments = recognise(&said, 0.0, &said, 0.1);
        let Gap { gone, back } = longest_gap(&moments, 5.0, 30.0);
        let length = back.expect("only pauses") - gone;
        assert!((0.02..0.25).contains(&length), "{gone} {length}");
    }
}
