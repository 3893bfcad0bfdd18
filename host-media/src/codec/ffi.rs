//! libopus behind a safe wrapper. The only file that names the binding, and the only one with `unsafe` code.
//!
//! Pointers never leave their type, requests are typed by what they take, and lengths are checked before they become
//! C integers. What the values mean is the business of [`encoder`](super::encoder) and [`decoder`](super::decoder).

// A C library cannot be called in any other way.
#![allow(unsafe_code)]

use std::{
    ffi::c_int,
    fmt,
    ops::Range,
    ptr::{self, NonNull},
};

use opusic_sys as sys;

/// An error code of libopus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fault(c_int);

impl Fault {
    pub(super) const ARGUMENT: Self = Self(sys::OPUS_BAD_ARG);
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.0 {
            sys::OPUS_BAD_ARG => "an argument is out of range",
            sys::OPUS_BUFFER_TOO_SMALL => "the buffer is too small",
            sys::OPUS_INTERNAL_ERROR => "an internal error",
            sys::OPUS_INVALID_PACKET => "the packet is broken",
            sys::OPUS_UNIMPLEMENTED => "the library is built without it",
            sys::OPUS_INVALID_STATE => "the state is broken",
            sys::OPUS_ALLOC_FAIL => "out of memory",
            other => return write!(f, "error {other}"),
        };
        f.write_str(text)
    }
}

/// What a call returned: a count, or an error code below zero.
fn counted(returned: c_int) -> Result<usize, Fault> {
    usize::try_from(returned).map_err(|_| Fault(returned))
}

fn length(n: usize) -> Result<c_int, Fault> {
    c_int::try_from(n).map_err(|_| Fault::ARGUMENT)
}

const RATE: c_int = crate::SAMPLE_RATE as c_int;

/// What an encoder can be told; each takes one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Set {
    /// Bit/s.
    Bitrate,
    /// 0 to 10.
    Complexity,
    /// 0: none; 1: in-band redundancy, for which the encoder leaves its music mode.
    Redundancy,
    /// Percent.
    ExpectedLoss,
    /// 0 or 1.
    Dtx,
    /// The most deep redundancy in one packet, in units of 10 ms up to 104.
    DeepRedundancy,
    /// 1 or 2.
    ForceChannels,
    /// 1: whatever it sounds like, it is a voice.
    Voice,
}

impl Set {
    fn request(self) -> c_int {
        match self {
            Self::Bitrate => sys::OPUS_SET_BITRATE_REQUEST,
            Self::Complexity => sys::OPUS_SET_COMPLEXITY_REQUEST,
            Self::Redundancy => sys::OPUS_SET_INBAND_FEC_REQUEST,
            Self::ExpectedLoss => sys::OPUS_SET_PACKET_LOSS_PERC_REQUEST,
            Self::Dtx => sys::OPUS_SET_DTX_REQUEST,
            Self::DeepRedundancy => sys::OPUS_SET_DRED_DURATION_REQUEST,
            Self::ForceChannels => sys::OPUS_SET_FORCE_CHANNELS_REQUEST,
            Self::Voice => sys::OPUS_SET_SIGNAL_REQUEST,
        }
    }

    fn value(self, value: i32) -> i32 {
        match self {
            Self::Voice if value != 0 => sys::OPUS_SIGNAL_VOICE,
            Self::Voice => sys::OPUS_AUTO,
            _ => value,
        }
    }
}

/// An encoder at 48 kHz.
pub(super) struct Encoder {
    raw: NonNull<sys::OpusEncoder>,
    channels: usize,
}

// SAFETY: an encoder is plain memory that it owns alone; libopus ties none of it to a thread.
unsafe impl Send for Encoder {}

impl Encoder {
    /// An encoder for one or two channels, without the filter of the voice-over-IP mode.
    pub(super) fn new(channels: usize) -> Result<Self, Fault> {
        let mut code = sys::OPUS_OK;
        // SAFETY: the arguments are numbers, which libopus checks, and `code` outlives the call.
        let raw = unsafe {
            sys::opus_encoder_create(RATE, length(channels)?, sys::OPUS_APPLICATION_AUDIO, &mut code)
        };
        match NonNull::new(raw) {
            Some(raw) if code == sys::OPUS_OK => Ok(Self { raw, channels }),
            _ => Err(Fault(code)),
        }
    }

    pub(super) fn set(&mut self, what: Set, value: i32) -> Result<(), Fault> {
        // SAFETY: the encoder lives as long as `self`, nobody else uses it meanwhile (`&mut`), and each request of
        // `Set` reads exactly one 32-bit integer, which is checked by libopus.
        let code = unsafe { sys::opus_encoder_ctl(self.raw.as_ptr(), what.request(), what.value(value)) };
        counted(code).map(drop)
    }

    /// Samples that the encoder looks ahead.
    pub(super) fn lookahead(&mut self) -> Result<usize, Fault> {
        let mut samples = 0_i32;
        // SAFETY: as in `set`; this request writes one 32-bit integer to the pointer, which outlives the call.
        let code = unsafe {
            sys::opus_encoder_ctl(
                self.raw.as_ptr(),
                sys::OPUS_GET_LOOKAHEAD_REQUEST,
                ptr::from_mut(&mut samples),
            )
        };
        counted(code)?;
        counted(samples)
    }

    /// Encodes one frame, with channels interleaved, and tells how many bytes it became.
    pub(super) fn encode(&mut self, samples: &[f32], out: &mut [u8]) -> Result<usize, Fault> {
        if !samples.len().is_multiple_of(self.channels) {
            return Err(Fault::ARGUMENT);
        }
        let (frame, room) = (length(samples.len() / self.channels)?, length(out.len())?);
        // SAFETY: `samples` holds `frame` samples per channel and `out` has `room` bytes; neither is kept. libopus
        // refuses lengths that are no frame of its own.
        counted(unsafe {
            sys::opus_encode_float(self.raw.as_ptr(), samples.as_ptr(), frame, out.as_mut_ptr(), room)
        })
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        // SAFETY: it was made by `opus_encoder_create`, and this is its last use.
        unsafe { sys::opus_encoder_destroy(self.raw.as_ptr()) }
    }
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder").field("channels", &self.channels).finish_non_exhaustive()
    }
}

/// A decoder to 48 kHz mono.
pub(super) struct Decoder {
    raw: NonNull<sys::OpusDecoder>,
}

// SAFETY: as for the encoder.
unsafe impl Send for Decoder {}

impl Decoder {
    pub(super) fn new() -> Result<Self, Fault> {
        let mut code = sys::OPUS_OK;
        // SAFETY: the arguments are numbers, and `code` outlives the call.
        let raw = unsafe { sys::opus_decoder_create(RATE, 1, &mut code) };
        match NonNull::new(raw) {
            Some(raw) if code == sys::OPUS_OK => Ok(Self { raw }),
            _ => Err(Fault(code)),
        }
    }

    /// Effort, 0 to 10: from 5 on concealment is deep, from 6 on low rates are enhanced, from 7 on more so.
    pub(super) fn set_complexity(&mut self, complexity: i32) -> Result<(), Fault> {
        // SAFETY: the decoder lives as long as `self`, nobody else uses it meanwhile, and this request reads one
        // 32-bit integer, which is checked by libopus.
        let code =
            unsafe { sys::opus_decoder_ctl(self.raw.as_ptr(), sys::OPUS_SET_COMPLEXITY_REQUEST, complexity) };
        counted(code).map(drop)
    }

    pub(super) fn reset(&mut self) -> Result<(), Fault> {
        // SAFETY: as above; this request takes nothing.
        let code = unsafe { sys::opus_decoder_ctl(self.raw.as_ptr(), sys::OPUS_RESET_STATE) };
        counted(code).map(drop)
    }

    /// Decodes a packet, or with `redundancy` the copy in it of what came before; of nothing it makes concealment.
    /// Tells how many samples it made, at most `out.len()`.
    pub(super) fn decode(
        &mut self,
        payload: &[u8],
        out: &mut [f32],
        redundancy: bool,
    ) -> Result<usize, Fault> {
        let data = if payload.is_empty() { ptr::null() } else { payload.as_ptr() };
        let (bytes, room) = (length(payload.len())?, length(out.len())?);
        // SAFETY: `data` has `bytes` bytes, or is null with none, which means concealment; `out` has room for `room`
        // samples of the one channel; neither is kept. Any bytes may stand in a packet.
        counted(unsafe {
            sys::opus_decode_float(
                self.raw.as_ptr(),
                data,
                bytes,
                out.as_mut_ptr(),
                room,
                c_int::from(redundancy),
            )
        })
    }

    /// Decodes `out.len()` samples that begin `offset` samples before the packet whose deep redundancy was parsed.
    pub(super) fn decode_deep(
        &mut self,
        deep: &mut DeepRedundancy,
        offset: usize,
        out: &mut [f32],
    ) -> Result<usize, Fault> {
        deep.process()?;
        // Beyond that nothing is ever coded, and libopus would run over the room it has for features.
        if offset > MAX_DEEP + MAX_PIECE || out.len() > MAX_PIECE {
            return Err(Fault::ARGUMENT);
        }
        let (offset, room) = (length(offset)?, length(out.len())?);
        // SAFETY: the redundancy was parsed and processed, so all of it that is read has been written; `out` has
        // `room` samples, few enough for the decoder's own store of features.
        counted(unsafe {
            sys::opus_decoder_dred_decode_float(
                self.raw.as_ptr(),
                deep.state.as_ptr(),
                offset,
                out.as_mut_ptr(),
                room,
            )
        })
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        // SAFETY: it was made by `opus_decoder_create`, and this is its last use.
        unsafe { sys::opus_decoder_destroy(self.raw.as_ptr()) }
    }
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder").finish_non_exhaustive()
    }
}

/// One second, the most that deep redundancy can cover. It is always parsed with the whole of it: what is asked for
/// is counted from the end of the packet's redundancy, not from the packet, and with less most of it is not read.
const MAX_DEEP: usize = 48_000;
/// The most that is decoded of it at once: the longest packet.
const MAX_PIECE: usize = super::packet::MAX_SAMPLES;

/// The deep redundancy of the packet that was parsed last, and the decoder for it.
pub(super) struct DeepRedundancy {
    decoder: NonNull<sys::OpusDREDDecoder>,
    state: NonNull<sys::OpusDRED>,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Empty,
    Parsed,
    Processed,
}

// SAFETY: as for the encoder.
unsafe impl Send for DeepRedundancy {}

impl DeepRedundancy {
    pub(super) fn new() -> Result<Self, Fault> {
        let mut code = sys::OPUS_OK;
        // SAFETY: `code` outlives the call.
        let decoder = unsafe { sys::opus_dred_decoder_create(&mut code) };
        let decoder = NonNull::new(decoder).ok_or(Fault(code))?;
        // SAFETY: as above.
        let state = unsafe { sys::opus_dred_alloc(&mut code) };
        let Some(state) = NonNull::new(state) else {
            // SAFETY: it was just made, and nobody else has it.
            unsafe { sys::opus_dred_decoder_destroy(decoder.as_ptr()) };
            return Err(Fault(code));
        };
        Ok(Self { decoder, state, stage: Stage::Empty })
    }

    pub(super) fn clear(&mut self) {
        self.stage = Stage::Empty;
    }

    /// Finds the redundancy in a packet: from how many samples before the packet's first to how many it is of; nothing
    /// if there is none. It costs little: the neural network runs when the first piece is decoded.
    pub(super) fn parse(&mut self, payload: &[u8]) -> Result<Range<usize>, Fault> {
        self.stage = Stage::Empty;
        if payload.is_empty() {
            return Err(Fault::ARGUMENT);
        }
        let bytes = length(payload.len())?;
        let mut end = 0;
        // SAFETY: both states live as long as `self` and nobody else uses them meanwhile; `payload` has `bytes` bytes
        // and is not kept; `end` outlives the call. Any bytes may stand in a packet.
        let covered = counted(unsafe {
            sys::opus_dred_parse(
                self.decoder.as_ptr(),
                self.state.as_ptr(),
                payload.as_ptr(),
                bytes,
                MAX_DEEP as c_int,
                RATE,
                &mut end,
                1,
            )
        })?;
        if covered > 0 {
            self.stage = Stage::Parsed;
        }
        // A hostile packet may claim more than there can be.
        let covered = covered.min(MAX_DEEP);
        Ok(counted(end)?.min(covered)..covered)
    }

    fn process(&mut self) -> Result<(), Fault> {
        match self.stage {
            Stage::Empty => Err(Fault(sys::OPUS_INVALID_STATE)),
            Stage::Processed => Ok(()),
            Stage::Parsed => {
                let state = self.state.as_ptr();
                // SAFETY: the state was filled by `parse`; libopus allows source and destination to be the same.
                let code = unsafe { sys::opus_dred_process(self.decoder.as_ptr(), state, state) };
                counted(code)?;
                self.stage = Stage::Processed;
                Ok(())
            }
        }
    }
}

impl Drop for DeepRedundancy {
    fn drop(&mut self) {
        // SAFETY: both were made by libopus, and this is their last use.
        unsafe {
            sys::opus_dred_free(self.state.as_ptr());
            sys::opus_dred_decoder_destroy(self.decoder.as_ptr());
        }
    }
}

impl fmt::Debug for DeepRedundancy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeepRedundancy").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::tests::voice;

    /// Another binding to the same library: what is wrong in the calls above shows as a difference.
    #[test]
    fn packets_and_samples_are_those_of_another_binding() {
        for channels in [1_usize, 2] {
            let kind = if channels == 1 { opus::Channels::Mono } else { opus::Channels::Stereo };
            let mut theirs = opus::Encoder::new(48_000, kind, opus::Application::Audio).unwrap();
            theirs.set_bitrate(opus::Bitrate::Bits(28_000)).unwrap();
            theirs.set_complexity(8).unwrap();
            theirs.set_inband_fec(true).unwrap();
            theirs.set_packet_loss_perc(12).unwrap();
            theirs.set_dtx(true).unwrap();
            theirs.set_signal(opus::Signal::Voice).unwrap();
            let mut ours = Encoder::new(channels).unwrap();
            for (what, value) in [
                (Set::Bitrate, 28_000),
                (Set::Complexity, 8),
                (Set::Redundancy, 1),
                (Set::ExpectedLoss, 12),
                (Set::Dtx, 1),
                (Set::Voice, 1),
            ] {
                ours.set(what, value).unwrap();
            }
            assert_eq!(ours.lookahead().unwrap(), theirs.get_lookahead().unwrap() as usize);
            let mut their_decoder = opus::Decoder::new(48_000, opus::Channels::Mono).unwrap();
            let mut our_decoder = Decoder::new().unwrap();
            let (mut a, mut b) = ([0; 1500], [0; 1500]);
            let (mut x, mut y) = ([0.0; 960], [0.0; 960]);
            for frame in 0..60 {
                let mono = voice(960, frame * 960);
                let pcm: Vec<f32> = mono
                    .iter()
                    .flat_map(|&v| std::iter::once(v).chain((channels == 2).then_some(v * 0.3)))
                    .collect();
                let n = theirs.encode_float(&pcm, &mut a).unwrap();
                assert_eq!(ours.encode(&pcm, &mut b), Ok(n), "frame {frame}");
                assert_eq!(a[..n], b[..n], "frame {frame}");
                let (payload, redundancy): (&[u8], _) = match frame % 10 {
                    7 => (&[], false),
                    8 => (&a[..n], true),
                    _ => (&a[..n], false),
                };
                let made = their_decoder.decode_float(payload, &mut x, redundancy).unwrap();
                assert_eq!(our_decoder.decode(payload, &mut y, redundancy), Ok(made));
                assert_eq!(x[..made], y[..made], "frame {frame}");
            }
        }
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(Encoder::new(0).is_err() && Encoder::new(3).is_err());
        let mut encoder = Encoder::new(2).unwrap();
        let mut out = [0; 100];
        assert_eq!(encoder.encode(&[0.0; 961], &mut out), Err(Fault::ARGUMENT));
        assert_eq!(encoder.encode(&[0.0; 100], &mut out), Err(Fault::ARGUMENT));
        assert!(encoder.encode(&[], &mut out).is_err() && encoder.encode(&[0.0; 1920], &mut []).is_err());
        assert!(encoder.set(Set::Complexity, 11).is_err() && encoder.set(Set::DeepRedundancy, 105).is_err());
        let mut decoder = Decoder::new().unwrap();
        assert!(decoder.set_complexity(11).is_err());
        assert!(decoder.decode(&[0xff, 0xff], &mut [0.0; 960], false).is_err());
        assert!(decoder.decode(&[], &mut [0.0; 121], false).is_err());
        let mut deep = DeepRedundancy::new().unwrap();
        assert!(deep.parse(&[]).is_err());
        assert_eq!(deep.parse(&[0xf8, 0xff, 0xfe]), Ok(0..0));
        let nothing = decoder.decode_deep(&mut deep, 960, &mut [0.0; 960]);
        assert_eq!(nothing, Err(Fault(sys::OPUS_INVALID_STATE)));
        assert_eq!(Fault(-99).to_string(), "error -99");
    }
}
