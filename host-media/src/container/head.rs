//! The two packets at the start of each file: what is in it (RFC 7845 section 5.1), and words about it (section 5.2).

use crate::SAMPLE_RATE;

/// Who made the file, as the comment header wants it.
const VENDOR: &str = concat!("host-media ", env!("CARGO_PKG_VERSION"));
/// Longer words about a recording are cut, in bytes: enough for any name.
const MAX_COMMENT: usize = 256;

/// What the identification header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// Channels, 1 or 2.
    pub(crate) channels: u8,
    /// Samples at 48 kHz that the decoder makes before the first one that is to be heard.
    pub(crate) pre_skip: u16,
    /// Gain to apply, in 1/256 dB.
    pub(crate) gain: i16,
}

impl Head {
    /// The header packet.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(19);
        bytes.extend_from_slice(b"OpusHead");
        // Version 1, and the number of channels.
        bytes.extend_from_slice(&[1, self.channels]);
        bytes.extend_from_slice(&self.pre_skip.to_le_bytes());
        bytes.extend_from_slice(&SAMPLE_RATE.to_le_bytes());
        bytes.extend_from_slice(&self.gain.to_le_bytes());
        // Mapping family 0: one stream, mono or stereo, and no table.
        bytes.push(0);
        bytes
    }

    /// Reads a header packet. The text says what is wrong with it.
    pub(crate) fn parse(packet: &[u8]) -> Result<Self, HeadFault> {
        let Some(rest) = packet.strip_prefix(b"OpusHead") else {
            return Err(HeadFault::NotOpus);
        };
        let Some((&[version, channels, s0, s1, _, _, _, _, g0, g1, family], table)) =
            rest.split_first_chunk::<11>()
        else {
            return Err(HeadFault::Broken("its header is too short".to_owned()));
        };
        // The upper half of the version changes when the format does.
        if version & 0xf0 != 0 {
            return Err(HeadFault::Unsupported(format!("its format has version {version}")));
        }
        if channels == 0 {
            return Err(HeadFault::Broken("it has no channels".to_owned()));
        }
        // Other families may hold one stream of one or two channels too, but then their table says so.
        let streams = if family == 0 { 1 } else { table.first().copied().unwrap_or(0) };
        if channels > 2 || streams != 1 {
            return Err(HeadFault::Unsupported(format!(
                "it has {channels} channels in {streams} streams; only mono and stereo can be read"
            )));
        }
        Ok(Self { channels, pre_skip: u16::from_le_bytes([s0, s1]), gain: i16::from_le_bytes([g0, g1]) })
    }

    /// The gain as a factor.
    pub(crate) fn factor(&self) -> f32 {
        10_f32.powf(f32::from(self.gain) / (20.0 * 256.0))
    }
}

/// Why a packet is no header that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HeadFault {
    /// It belongs to another codec.
    NotOpus,
    /// It cannot be understood.
    Broken(String),
    /// It is understood, but cannot be played.
    Unsupported(String),
}

/// The comment header.
pub(crate) fn tags(comments: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = b"OpusTags".to_vec();
    add(&mut bytes, VENDOR);
    bytes.extend_from_slice(&(comments.len() as u32).to_le_bytes());
    for (key, value) in comments {
        add(&mut bytes, &format!("{key}={}", cut(value)));
    }
    bytes
}

/// Adds a text with its length before it.
fn add(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend_from_slice(&(text.len() as u32).to_le_bytes());
    bytes.extend_from_slice(text.as_bytes());
}

fn cut(text: &str) -> &str {
    let mut end = text.len().min(MAX_COMMENT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_identification_header_is_laid_out_as_the_rfc_draws_it() {
        let head = Head { channels: 1, pre_skip: 312, gain: -256 };
        let bytes = head.encode();
        assert_eq!(
            bytes,
            [
                b'O', b'p', b'u', b's', b'H', b'e', b'a', b'd', // magic
                1, 1, // version, channels
                0x38, 0x01, // pre-skip 312, low byte first
                0x80, 0xbb, 0, 0, // 48000
                0x00, 0xff, // -1 dB in 1/256
                0,    // family
            ]
        );
        assert_eq!(Head::parse(&bytes).unwrap(), head);
        assert!((head.factor() - 0.891_25).abs() < 1e-4);
    }

    #[test]
    fn the_comment_header_is_laid_out_as_the_rfc_draws_it() {
        let bytes = tags(&[("TITLE", "Ann"), ("DATE", &"é".repeat(200))]);
        let n = VENDOR.len();
        let mut expected = b"OpusTags".to_vec();
        expected.extend_from_slice(&[n as u8, 0, 0, 0]);
        expected.extend_from_slice(VENDOR.as_bytes());
        expected.extend_from_slice(&[2, 0, 0, 0, 9, 0, 0, 0]);
        expected.extend_from_slice(b"TITLE=Ann");
        assert_eq!(bytes[..expected.len()], expected);
        let rest = &bytes[expected.len()..];
        assert_eq!(rest[..4], [5, 1, 0, 0], "5 bytes of name and 256 of text, cut between two letters");
        assert_eq!(rest.len(), 4 + 5 + 256);
    }

    #[test]
    fn headers_that_cannot_be_used_say_why() {
        let good = Head { channels: 2, pre_skip: 0, gain: 0 }.encode();
        let with = |at: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[at] = value;
            Head::parse(&bytes)
        };
        assert!(with(8, 15).is_ok(), "lower versions of the same format");
        assert!(matches!(with(8, 16), Err(HeadFault::Unsupported(_))));
        assert!(matches!(with(9, 0), Err(HeadFault::Broken(_))));
        assert!(matches!(with(9, 3), Err(HeadFault::Unsupported(_))));
        assert!(matches!(with(18, 1), Err(HeadFault::Unsupported(_))), "a table that is missing");
        assert_eq!(with(0, b'X'), Err(HeadFault::NotOpus));
        for n in 0..good.len() {
            assert!(Head::parse(&good[..n]).is_err(), "{n} bytes");
        }
    }
}
