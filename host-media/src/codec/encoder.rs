//! From samples to Opus packets. What is set takes effect with the next frame, and costs nothing if it is set already.

use super::{
    failed,
    ffi::{self, Set},
    packet,
    policy::Settings,
};
use crate::{
    error::Error,
    format::{Format, FrameLength},
};

/// 32 kbit/s: inside of 28 to 40 kbit/s that RFC 7587 section 3.1.1 gives for fullband speech.
pub(crate) const DEFAULT_BITRATE: u32 = 32_000;
/// Below 6 kbit/s Opus does not go (RFC 6716 section 2.1.1).
pub(crate) const MIN_BITRATE: u32 = 6_000;
/// 510 kbit/s: above that it does not go either (RFC 6716 section 2.1.1).
pub(crate) const MAX_BITRATE: u32 = 510_000;
/// 5 %: so that packets carry redundancy before the first receiver has reported what it loses. At 0 libopus sends none.
pub(crate) const DEFAULT_EXPECTED_LOSS: u8 = 5;
/// 9, which libopus itself takes if nothing is set.
pub(crate) const DEFAULT_COMPLEXITY: u8 = 9;
/// The most deep redundancy, in ms: 104 frames of 10 ms, the bound in libopus.
pub(crate) const MAX_DRED_MS: u16 = 1040;

/// The longest packet that is made: one frame of Opus (RFC 6716 section 3.2.1), which also fits into a datagram. Only
/// at rates above 170 kbit/s in packets of 60 ms would more be asked for.
const MAX_FRAME: usize = 1275;

/// Encodes 48 kHz mono sound, in frames of a length that may change from frame to frame.
#[derive(Debug)]
pub(crate) struct Encoder {
    opus: ffi::Encoder,
    channels: usize,
    max_bitrate: u32,
    lookahead: usize,
    frame: FrameLength,
    /// The value of each setting, as the library has it; none before it was set.
    bitrate: Setting,
    expected_loss: Setting,
    complexity: Setting,
    fec: Setting,
    dtx: Setting,
    dred: Setting,
    /// The pause that goes on has been announced.
    resting: bool,
    /// Samples for both channels, interleaved.
    input: Vec<f32>,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct Setting {
    what: Set,
    value: Option<i32>,
}

impl Setting {
    fn new(what: Set) -> Self {
        Self { what, value: None }
    }

    fn set(&mut self, opus: &mut ffi::Encoder, value: i32) -> Result<(), Error> {
        if self.value != Some(value) {
            opus.set(self.what, value).map_err(failed(match self.what {
                Set::Bitrate => "set the bit rate",
                Set::ExpectedLoss => "set the expected loss",
                Set::Complexity => "set the complexity",
                Set::Dtx => "set discontinuous transmission",
                Set::DeepRedundancy => "set deep redundancy",
                Set::Redundancy => "set in-band redundancy",
                Set::ForceChannels => "set the number of channels",
                Set::Voice => "expect voice",
            }))?;
            self.value = Some(value);
        }
        Ok(())
    }

    fn value(&self) -> i32 {
        self.value.unwrap_or_default()
    }
}

/// What became of a frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Encoded<'a> {
    /// A packet to send. The first one of a pause has no content: it tells the receiver that nothing more comes.
    Packet(&'a [u8]),
    /// Nothing needs to be sent: the receiver goes on with the noise that it has heard.
    Silence,
}

impl Encoder {
    /// An encoder of mono packets.
    pub(crate) fn new(format: Format) -> Result<Self, Error> {
        Self::with_channels(format, 1)
    }

    /// An encoder of mono (1) or stereo (2) packets; stereo only where the format allows it.
    pub(crate) fn with_channels(format: Format, channels: u8) -> Result<Self, Error> {
        let channels = usize::from(channels.min(format.channels).clamp(1, 2));
        // Not for voice over IP: that turns on a high-pass filter which shifts the phases of low voices by up to half a
        // millisecond and costs a tenth of the correlation with the original (0.88 instead of 0.98 at 32 kbit/s).
        // Redundancy and the choice of the codec's mode are the same, since voice is expected anyway.
        let mut opus = ffi::Encoder::new(channels).map_err(failed("make an encoder"))?;
        // Left to itself the encoder takes some voices for music and then codes them without any redundancy.
        Setting::new(Set::Voice).set(&mut opus, 1)?;
        if channels == 2 {
            // Left to itself it makes mono of two equal channels.
            Setting::new(Set::ForceChannels).set(&mut opus, 2)?;
        }
        let lookahead = opus.lookahead().map_err(failed("tell its look-ahead"))?;
        let mut encoder = Self {
            opus,
            channels,
            max_bitrate: format.max_bitrate.clamp(MIN_BITRATE, MAX_BITRATE),
            lookahead,
            frame: format.frame,
            bitrate: Setting::new(Set::Bitrate),
            expected_loss: Setting::new(Set::ExpectedLoss),
            complexity: Setting::new(Set::Complexity),
            fec: Setting::new(Set::Redundancy),
            dtx: Setting::new(Set::Dtx),
            dred: Setting::new(Set::DeepRedundancy),
            resting: false,
            input: Vec::with_capacity(FrameLength::Ms60.samples() * channels),
            buffer: vec![0; MAX_FRAME],
        };
        encoder.set_bitrate(DEFAULT_BITRATE)?;
        encoder.set_expected_loss(DEFAULT_EXPECTED_LOSS)?;
        encoder.set_complexity(DEFAULT_COMPLEXITY)?;
        encoder.set_fec(true)?;
        encoder.set_dtx(false)?;
        encoder.set_dred(0)?;
        Ok(encoder)
    }

    pub(crate) fn frame(&self) -> FrameLength {
        self.frame
    }

    /// Bit rate in bit/s, redundancy inside of packets included.
    pub(crate) fn bitrate(&self) -> u32 {
        u32::try_from(self.bitrate.value()).unwrap_or(0)
    }

    pub(crate) fn fec(&self) -> bool {
        self.fec.value() != 0
    }

    /// The most deep redundancy in a packet, in ms.
    pub(crate) fn dred(&self) -> u16 {
        u16::try_from(self.dred.value() * 10).unwrap_or(0)
    }

    /// Samples that the encoder adds to the delay beyond the frame itself.
    pub(crate) fn lookahead(&self) -> usize {
        self.lookahead
    }

    /// Sets everything that may change from frame to frame, the length of frames apart.
    pub(crate) fn apply(&mut self, settings: &Settings) -> Result<(), Error> {
        self.set_bitrate(settings.bitrate)?;
        self.set_fec(settings.fec)?;
        self.set_expected_loss(settings.expected_loss)?;
        self.set_dred(settings.dred)
    }

    /// Sets the length of the next frame.
    pub(crate) fn set_frame(&mut self, frame: FrameLength) {
        self.frame = frame;
    }

    /// Sets the bit rate in bit/s, within what Opus and the format allow.
    pub(crate) fn set_bitrate(&mut self, bits_per_second: u32) -> Result<(), Error> {
        let bitrate = bits_per_second.clamp(MIN_BITRATE, self.max_bitrate);
        self.bitrate.set(&mut self.opus, bitrate as i32)
    }

    /// Sets the loss, in percent, that the redundancy is made for.
    pub(crate) fn set_expected_loss(&mut self, percent: u8) -> Result<(), Error> {
        self.expected_loss.set(&mut self.opus, i32::from(percent.min(100)))
    }

    /// Sets the effort, 0 to 10.
    pub(crate) fn set_complexity(&mut self, complexity: u8) -> Result<(), Error> {
        self.complexity.set(&mut self.opus, i32::from(complexity.min(10)))
    }

    /// Whether each packet carries a copy of the frame before it, at a lower rate, if loss is expected.
    pub(crate) fn set_fec(&mut self, on: bool) -> Result<(), Error> {
        self.fec.set(&mut self.opus, i32::from(on))
    }

    /// Whether silence may be left out, all but two packets in 400 ms: one of its noise, one that says that it goes on.
    pub(crate) fn set_dtx(&mut self, on: bool) -> Result<(), Error> {
        self.dtx.set(&mut self.opus, i32::from(on))
    }

    /// Sets the most deep redundancy in a packet, in ms; 0 is none. How much there is depends on the bit rate and the
    /// expected loss; without an expected loss there is none.
    pub(crate) fn set_dred(&mut self, ms: u16) -> Result<(), Error> {
        self.dred.set(&mut self.opus, i32::from(ms.min(MAX_DRED_MS) / 10))
    }

    /// Encodes exactly one frame of mono samples.
    pub(crate) fn encode(&mut self, samples: &[f32]) -> Result<Encoded<'_>, Error> {
        let samples = if self.channels == 1 {
            samples
        } else {
            self.input.clear();
            self.input.extend(samples.iter().flat_map(|&v| std::iter::repeat_n(v, self.channels)));
            &self.input
        };
        let n = self.opus.encode(samples, &mut self.buffer).map_err(failed("encode a frame"))?;
        let resting = packet::is_rest(&self.buffer[..n]) && self.dtx.value() != 0;
        // One is enough. It comes again after each frame of noise, of which libopus makes one in 400 ms (RFC 6716
        // section 2.1.9).
        if std::mem::replace(&mut self.resting, resting) && resting {
            return Ok(Encoded::Silence);
        }
        Ok(Encoded::Packet(&self.buffer[..n]))
    }
}
