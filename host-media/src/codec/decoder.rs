//! From Opus packets to samples, and what to play where packets are missing.

use std::ops::Range;

use super::{failed, ffi, packet};
use crate::error::Error;

/// 5: losses are concealed by a neural vocoder; libopus itself takes 0, where they are not. From 6 on an enhancer of low
/// rates works too: it costs a steady voice its phases (a correlation of 0.95 instead of 0.98 with the original at 32
/// kbit/s) and most of the time of decoding.
pub(crate) const DECODER_COMPLEXITY: u8 = 5;

/// 4: concealment as it always was. In a pause the neural vocoder makes something louder of the noise that was heard
/// last, for a tenth of a second and by up to 20 dB; the classic one goes on with it as it was.
const CLASSIC_COMPLEXITY: u8 = 4;

/// Decodes Opus, mono or stereo, to 48 kHz mono.
#[derive(Debug)]
pub(crate) struct Decoder {
    // libopus mixes a stereo packet down by itself if the decoder is mono (RFC 6716 section 4.5.3).
    opus: ffi::Decoder,
    deep: ffi::DeepRedundancy,
    complexity: u8,
    /// What was decoded last was music (CELT): libopus then makes concealment of in-band copies.
    celt: bool,
}

impl Decoder {
    pub(crate) fn new() -> Result<Self, Error> {
        Self::with_complexity(DECODER_COMPLEXITY)
    }

    /// A decoder of another effort, 0 to 10.
    pub(crate) fn with_complexity(complexity: u8) -> Result<Self, Error> {
        let opus = ffi::Decoder::new().map_err(failed("make a decoder"))?;
        let deep = ffi::DeepRedundancy::new().map_err(failed("make a decoder of deep redundancy"))?;
        let mut decoder = Self { opus, deep, complexity: complexity.min(10), celt: false };
        decoder.set_complexity(decoder.complexity)?;
        Ok(decoder)
    }

    fn set_complexity(&mut self, complexity: u8) -> Result<(), Error> {
        self.opus.set_complexity(i32::from(complexity)).map_err(failed("set the complexity"))
    }

    /// Decodes a packet into `out`, which has room for [`packet::MAX_SAMPLES`]; tells how many samples it made.
    pub(crate) fn decode(&mut self, payload: &[u8], out: &mut [f32]) -> Result<usize, Error> {
        // libopus would take nothing as a wish for concealment.
        if payload.is_empty() || payload.len() > packet::MAX_PAYLOAD {
            return Err(Error::Codec { action: "decode a packet", cause: "its length cannot be".to_owned() });
        }
        let decoded = match packet::is_rest(payload) {
            true => self.rest(payload, out),
            false => self.opus.decode(payload, out, false),
        };
        let n = decoded.map_err(failed("decode a packet"))?;
        self.celt = packet::head(payload).is_some_and(|head| head.celt);
        Ok(n)
    }

    /// Decodes the redundancy in `payload`, the copy of the frame before it. The length of `out` is what is missing:
    /// a frame of that packet. An error if there is no copy, or none that can be decoded after what was decoded last;
    /// libopus would conceal the loss instead, without a word.
    pub(crate) fn recover(&mut self, payload: &[u8], out: &mut [f32]) -> Result<usize, Error> {
        let head = packet::head(payload).filter(|head| head.redundancy && head.frame == out.len());
        if self.celt || head.is_none() {
            return Err(Error::Codec { action: "decode redundancy", cause: "there is none".to_owned() });
        }
        self.opus.decode(payload, out, true).map_err(failed("decode redundancy"))
    }

    /// Makes up the next `out.len()` samples, which must be a multiple of 120 (2.5 ms).
    pub(crate) fn conceal(&mut self, out: &mut [f32]) -> Result<usize, Error> {
        self.opus.decode(&[], out, false).map_err(failed("conceal a loss"))
    }

    /// Makes the next `out.len()` samples, a multiple of 120, of a pause that the sender makes: the noise goes on.
    pub(crate) fn comfort(&mut self, out: &mut [f32]) -> Result<usize, Error> {
        self.rest(&[], out).map_err(failed("make comfort noise"))
    }

    fn rest(&mut self, payload: &[u8], out: &mut [f32]) -> Result<usize, ffi::Fault> {
        self.opus.set_complexity(i32::from(self.complexity.min(CLASSIC_COMPLEXITY)))?;
        let made = self.opus.decode(payload, out, false);
        self.opus.set_complexity(i32::from(self.complexity))?;
        made
    }

    /// Reads the deep redundancy of a packet and keeps it until the next call: of which samples before the packet's
    /// first there is some, 48,000 at most. It need not reach up to the packet: the encoder leaves silence out.
    /// Cheap; the work is done when it is decoded.
    pub(crate) fn read_dred(&mut self, payload: &[u8]) -> Result<Range<usize>, Error> {
        if payload.len() > packet::MAX_PAYLOAD {
            self.deep.clear();
            return Ok(0..0);
        }
        self.deep.parse(payload).map_err(failed("read deep redundancy"))
    }

    /// Decodes `out.len()` samples, a multiple of 120, that begin `offset` samples before the first sample of the
    /// packet that was read last. Where there is none it is concealment.
    pub(crate) fn dred(&mut self, offset: usize, out: &mut [f32]) -> Result<usize, Error> {
        self.opus.decode_deep(&mut self.deep, offset, out).map_err(failed("decode deep redundancy"))
    }

    /// Forgets everything, for a new stream.
    pub(crate) fn reset(&mut self) -> Result<(), Error> {
        self.deep.clear();
        self.celt = false;
        self.opus.reset().map_err(failed("reset the decoder"))
    }
}
