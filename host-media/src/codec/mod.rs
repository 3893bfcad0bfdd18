//! Opus. The only file that knows the binding; the rest of the crate sees [`Encoder`] and [`Decoder`].

pub(crate) mod packet;

use opus::{Application, Bitrate, Channels, Signal};

use crate::{
    SAMPLE_RATE,
    error::Error,
    format::{Format, FrameLength},
};

/// 32 kbit/s: inside of 28 to 40 kbit/s that RFC 7587 section 3.1.1 gives for fullband speech.
pub(crate) const DEFAULT_BITRATE: u32 = 32_000;
/// Below 6 kbit/s Opus does not go (RFC 6716 section 2.1.1).
pub(crate) const MIN_BITRATE: u32 = 6_000;
/// 5 %: so that packets carry redundancy before the first receiver has reported what it loses. At 0 libopus sends none.
pub(crate) const DEFAULT_EXPECTED_LOSS: u8 = 5;
/// 9, which libopus itself takes if nothing is set.
pub(crate) const DEFAULT_COMPLEXITY: u8 = 9;

/// Encodes 48 kHz mono in frames of one length.
#[derive(Debug)]
pub(crate) struct Encoder {
    opus: opus::Encoder,
    frame: FrameLength,
    max_bitrate: u32,
    bitrate: u32,
    expected_loss: u8,
    complexity: u8,
    lookahead: usize,
    buffer: Vec<u8>,
}

impl Encoder {
    pub(crate) fn new(format: Format) -> Result<Self, Error> {
        // Not for voice over IP: that turns on a high-pass filter which shifts the phases of low voices by up to half a
        // millisecond and costs a tenth of the correlation with the original (0.88 instead of 0.98 at 32 kbit/s).
        // Redundancy and the choice of the codec's mode are the same, since voice is expected anyway.
        let mut opus = opus::Encoder::new(SAMPLE_RATE, Channels::Mono, Application::Audio)
            .map_err(failed("make an encoder"))?;
        opus.set_inband_fec(true).map_err(failed("use in-band redundancy"))?;
        // Left to itself the encoder takes some voices for music and then codes them without any redundancy.
        opus.set_signal(Signal::Voice).map_err(failed("expect voice"))?;
        let lookahead = opus.get_lookahead().map_err(failed("tell its look-ahead"))?;
        let mut encoder = Self {
            opus,
            frame: format.frame,
            max_bitrate: format.max_bitrate.max(MIN_BITRATE),
            bitrate: 0,
            expected_loss: u8::MAX,
            complexity: u8::MAX,
            lookahead: usize::try_from(lookahead).unwrap_or(0),
            buffer: vec![0; packet::MAX_PAYLOAD],
        };
        encoder.set_bitrate(DEFAULT_BITRATE)?;
        encoder.set_expected_loss(DEFAULT_EXPECTED_LOSS)?;
        encoder.set_complexity(DEFAULT_COMPLEXITY)?;
        Ok(encoder)
    }

    pub(crate) fn frame(&self) -> FrameLength {
        self.frame
    }

    pub(crate) fn bitrate(&self) -> u32 {
        self.bitrate
    }

    /// Samples that the encoder adds to the delay beyond the frame itself.
    pub(crate) fn lookahead(&self) -> usize {
        self.lookahead
    }

    /// Sets the bit rate in bit/s, within what Opus and the format allow; does nothing if it is set already.
    pub(crate) fn set_bitrate(&mut self, bits_per_second: u32) -> Result<(), Error> {
        let bitrate = bits_per_second.clamp(MIN_BITRATE, self.max_bitrate.min(510_000));
        if bitrate != self.bitrate {
            self.opus.set_bitrate(Bitrate::Bits(bitrate as i32)).map_err(failed("set the bit rate"))?;
            self.bitrate = bitrate;
        }
        Ok(())
    }

    /// Sets the loss, in percent, that the redundancy is made for; does nothing if it is set already.
    pub(crate) fn set_expected_loss(&mut self, percent: u8) -> Result<(), Error> {
        let percent = percent.min(100);
        if percent != self.expected_loss {
            self.opus.set_packet_loss_perc(i32::from(percent)).map_err(failed("set the expected loss"))?;
            self.expected_loss = percent;
        }
        Ok(())
    }

    /// Sets the effort, 0 to 10; does nothing if it is set already.
    pub(crate) fn set_complexity(&mut self, complexity: u8) -> Result<(), Error> {
        let complexity = complexity.min(10);
        if complexity != self.complexity {
            self.opus.set_complexity(i32::from(complexity)).map_err(failed("set the complexity"))?;
            self.complexity = complexity;
        }
        Ok(())
    }

    /// Encodes exactly one frame.
    pub(crate) fn encode(&mut self, samples: &[f32]) -> Result<&[u8], Error> {
        let n = self.opus.encode_float(samples, &mut self.buffer).map_err(failed("encode a frame"))?;
        Ok(&self.buffer[..n])
    }
}

/// Decodes Opus, mono or stereo, to 48 kHz mono.
#[derive(Debug)]
pub(crate) struct Decoder {
    // libopus mixes a stereo packet down by itself if the decoder is mono (RFC 6716 section 4.5.3).
    opus: opus::Decoder,
}

impl Decoder {
    pub(crate) fn new() -> Result<Self, Error> {
        let opus = opus::Decoder::new(SAMPLE_RATE, Channels::Mono).map_err(failed("make a decoder"))?;
        Ok(Self { opus })
    }

    /// Decodes a packet into `out`, which has room for [`packet::MAX_SAMPLES`]; tells how many samples it made.
    pub(crate) fn decode(&mut self, payload: &[u8], out: &mut [f32]) -> Result<usize, Error> {
        // An empty slice would mean concealment to the binding.
        if payload.is_empty() {
            return Err(Error::Codec { action: "decode a packet", cause: "it is empty".to_owned() });
        }
        self.opus.decode_float(payload, out, false).map_err(failed("decode a packet"))
    }

    /// Decodes the redundancy in `payload`, the copy of the frame before it. The length of `out` is what is missing.
    pub(crate) fn recover(&mut self, payload: &[u8], out: &mut [f32]) -> Result<usize, Error> {
        self.opus.decode_float(payload, out, true).map_err(failed("decode redundancy"))
    }

    /// Makes up the next `out.len()` samples, which must be a multiple of 120 (2.5 ms).
    pub(crate) fn conceal(&mut self, out: &mut [f32]) -> Result<usize, Error> {
        self.opus.decode_float(&[], out, false).map_err(failed("conceal a loss"))
    }

    /// Forgets everything, for a new stream.
    pub(crate) fn reset(&mut self) -> Result<(), Error> {
        self.opus.reset_state().map_err(failed("reset the decoder"))
    }
}

fn failed(action: &'static str) -> impl Fn(opus::Error) -> Error {
    move |e| Error::Codec { action, cause: e.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voice(n: usize, from: usize) -> Vec<f32> {
        (from..from + n)
            .map(|i| {
                let t = i as f32 / 48_000.0;
                (1..20).map(|h| (t * 140.0 * h as f32 * std::f32::consts::TAU).sin() / h as f32).sum::<f32>()
                    * 0.15
            })
            .collect()
    }

    #[test]
    fn each_frame_length_is_encoded_and_described() {
        for frame in [FrameLength::Ms10, FrameLength::Ms20, FrameLength::Ms40, FrameLength::Ms60] {
            let mut encoder = Encoder::new(Format::new(frame)).unwrap();
            let n = frame.samples();
            let payload = encoder.encode(&voice(n, 0)).unwrap().to_vec();
            let head = packet::head(&payload).unwrap();
            assert_eq!(head.samples, n, "{frame:?}");
            let mut out = vec![0.0; packet::MAX_SAMPLES];
            assert_eq!(Decoder::new().unwrap().decode(&payload, &mut out).unwrap(), n);
        }
    }

    #[test]
    fn redundancy_is_present_and_found_at_the_default_settings() {
        let mut encoder = Encoder::new(Format::default()).unwrap();
        let with = (0..50)
            .filter(|i| packet::head(encoder.encode(&voice(960, i * 960)).unwrap()).unwrap().redundancy)
            .count();
        assert!(with >= 20, "{with} of 50 packets of voice carry redundancy");
        encoder.set_expected_loss(0).unwrap();
        let without = (0..50)
            .filter(|i| packet::head(encoder.encode(&voice(960, i * 960)).unwrap()).unwrap().redundancy)
            .count();
        assert!(without <= 1, "{without} of 50 packets carry redundancy though no loss is expected");
    }

    #[test]
    fn a_lost_frame_comes_back_from_the_packet_after_it() {
        let mut encoder = Encoder::new(Format::default()).unwrap();
        let packets: Vec<_> =
            (0..20).map(|i| encoder.encode(&voice(960, i * 960)).unwrap().to_vec()).collect();
        let run = |lost: Option<usize>| {
            let mut decoder = Decoder::new().unwrap();
            let mut all = Vec::new();
            let mut out = vec![0.0; packet::MAX_SAMPLES];
            for (i, p) in packets.iter().enumerate() {
                let n = match lost == Some(i) {
                    true => decoder.recover(&packets[i + 1], &mut out[..960]).unwrap(),
                    false => decoder.decode(p, &mut out).unwrap(),
                };
                all.extend_from_slice(&out[..n]);
            }
            all
        };
        let (whole, recovered) = (run(None), run(Some(15)));
        let (a, b) = (&whole[15 * 960..16 * 960], &recovered[15 * 960..16 * 960]);
        let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f32>();
        let similarity = dot(a, b) / (dot(a, a) * dot(b, b)).sqrt();
        assert!(similarity > 0.8, "{similarity}");
    }

    #[test]
    fn a_low_voice_keeps_its_phases() {
        // Strong in its lowest harmonics, as real men's voices are, and louder and softer as in words.
        let said: Vec<f32> = (0..96_000)
            .map(|i| {
                let t = f64::from(i) / 48_000.0;
                let pitch = 95.0 * t + (t * 5.0).sin();
                let wave: f64 = (1..16)
                    .map(|h| (pitch * f64::from(h) * std::f64::consts::TAU).sin() / f64::from(h))
                    .sum();
                (0.1 * wave * (t * 9.0).sin().abs()) as f32
            })
            .collect();
        let (mut encoder, mut decoder) = (Encoder::new(Format::default()).unwrap(), Decoder::new().unwrap());
        let mut heard = Vec::new();
        let mut out = vec![0.0; packet::MAX_SAMPLES];
        for frame in said.chunks(960) {
            let payload = encoder.encode(frame).unwrap();
            let n = decoder.decode(payload, &mut out).unwrap();
            heard.extend_from_slice(&out[..n]);
        }
        let found = crate::measure::align(&said, &heard, SAMPLE_RATE);
        assert!(found.correlation > 0.97, "{found:?}: is a filter in the way?");
    }

    #[test]
    fn nothing_is_an_error_and_not_concealment() {
        let mut out = vec![0.0; packet::MAX_SAMPLES];
        assert!(Decoder::new().unwrap().decode(&[], &mut out).is_err());
    }

    #[test]
    fn settings_stay_within_what_the_codec_and_the_format_allow() {
        let mut encoder = Encoder::new(Format::default().max_bitrate(24_000)).unwrap();
        assert_eq!(encoder.bitrate(), 24_000);
        encoder.set_bitrate(1).unwrap();
        assert_eq!(encoder.bitrate(), MIN_BITRATE);
        encoder.set_bitrate(u32::MAX).unwrap();
        assert_eq!(encoder.bitrate(), 24_000);
        encoder.set_expected_loss(255).unwrap();
        encoder.set_complexity(255).unwrap();
        assert_eq!(encoder.lookahead(), 312, "6.5 ms for voice");
    }
}
