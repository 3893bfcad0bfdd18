//! What an Opus packet says about itself, without decoding it (RFC 6716 section 3).

use crate::SAMPLE_RATE;

/// The longest payload that is taken for an Opus packet: three frames of 1275 bytes, with room for their lengths and
/// some padding. A datagram rarely carries more than 1500.
pub(crate) const MAX_PAYLOAD: usize = 4000;

/// The longest packet: 120 ms (RFC 6716 section 3.4, requirement R5).
pub(crate) const MAX_SAMPLES: usize = 5760;

/// The head of an Opus packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// Length of one frame in samples at 48 kHz.
    pub(crate) frame: usize,
    /// Length of the whole packet in samples at 48 kHz.
    pub(crate) samples: usize,
    /// Whether the packet carries a copy of the frame before it, at a lower rate. What it is of is told by the decoder
    /// only if that decoded no music (CELT) last.
    pub(crate) redundancy: bool,
    /// Whether it is coded as music (CELT), which knows no such copies.
    pub(crate) celt: bool,
}

/// Whether a packet has no content and says "nothing more for now": the first byte, and a count of frames if there are
/// more than two (RFC 6716 section 3.2; opus.h on the result of its encoder).
pub(crate) fn is_rest(payload: &[u8]) -> bool {
    payload.len() <= 2
}

/// Reads the head of a packet; nothing if this cannot be an Opus packet.
pub(crate) fn head(payload: &[u8]) -> Option<Head> {
    let (&toc, rest) = payload.split_first()?;
    if payload.len() > MAX_PAYLOAD {
        return None;
    }
    let config = toc >> 3;
    let ms_x10 = match config {
        0..12 => [100, 200, 400, 600][usize::from(config & 3)],
        12..16 => [100, 200][usize::from(config & 1)],
        _ => [25, 50, 100, 200][usize::from(config & 3)],
    };
    let frame = ms_x10 * SAMPLE_RATE as usize / 10_000;
    let count = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => usize::from(rest.first()? & 0x3f),
    };
    let samples = frame * count;
    let plausible = count > 0 && samples <= MAX_SAMPLES;
    let celt = config >= 16;
    plausible.then(|| Head { frame, samples, redundancy: !celt && has_lbrr(toc, frame, rest), celt })
}

/// Whether the first SILK frame carries low bit rate redundancy (RFC 6716 section 4.2.3 and 4.2.4): for each channel
/// there is a voice bit per 20 ms and then the redundancy bit, and bits of probability one half stand plainly at the
/// start of the range coder's data. Of two channels the first is the middle, without which the other is of no use.
fn has_lbrr(toc: u8, frame: usize, rest: &[u8]) -> bool {
    let silk_frames = (frame / 960).max(1);
    first_byte(toc & 3, rest).is_some_and(|first| first >> (7 - silk_frames) & 1 == 1)
}

/// The first byte of the first frame, by the packet's code (RFC 6716 section 3.2).
fn first_byte(code: u8, rest: &[u8]) -> Option<u8> {
    let skip_length = |at: usize| Some(at + if *rest.get(at)? < 252 { 1 } else { 2 });
    match code {
        0 | 1 => rest.first().copied(),
        2 => rest.get(skip_length(0)?).copied(),
        _ => {
            let head = *rest.first()?;
            let mut at = 1;
            if head & 0x40 != 0 {
                while *rest.get(at)? == 255 {
                    at += 1;
                }
                at += 1;
            }
            if head & 0x80 != 0 {
                for _ in 1..(head & 0x3f) {
                    at = skip_length(at)?;
                }
            }
            rest.get(at).copied()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_by_configuration_and_code() {
        let samples = |bytes: &[u8]| head(bytes).map(|h| h.samples);
        assert_eq!(samples(&[0 << 3, 0]), Some(480));
        assert_eq!(samples(&[3 << 3, 0]), Some(2880));
        assert_eq!(samples(&[15 << 3, 0]), Some(960));
        assert_eq!(samples(&[28 << 3, 0]), Some(120));
        assert_eq!(samples(&[31 << 3 | 1, 0, 0]), Some(1920));
        assert_eq!(samples(&[31 << 3 | 3, 6]), Some(5760));
        assert_eq!(samples(&[31 << 3 | 3, 7]), None, "longer than 120 ms");
        assert_eq!(samples(&[31 << 3 | 3, 0]), None, "no frames");
        assert_eq!(samples(&[31 << 3 | 3]), None, "no frame count");
        assert_eq!(samples(&[]), None);
        assert_eq!(samples(&[0; MAX_PAYLOAD + 1]), None);
    }

    #[test]
    fn no_bytes_make_it_panic() {
        for toc in 0..=255u8 {
            for second in 0..=255u8 {
                for rest in [0x00, 0xff] {
                    let packet = [toc, second, rest, rest, rest];
                    for n in 0..=packet.len() {
                        head(&packet[..n]);
                    }
                }
            }
        }
    }
}
