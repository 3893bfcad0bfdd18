//! What has to be known here of redundant sound (RFC 2198); making and reading it is for whoever encodes.

use bytes::Bytes;

use super::settings::OPUS_PAYLOAD_TYPE;

/// Blocks of one payload. 8: this frame and seven before it.
const MAX_BLOCKS: usize = 8;

/// The payload type of redundant sound in a description of ours, 0 if it has none: the peer uses it for what it sends.
pub(super) fn payload_type(sdp: &str) -> u8 {
    let mut maps = sdp.lines().filter_map(|line| line.strip_prefix("a=rtpmap:")?.split_once(' '));
    maps.find(|(_, codec)| codec.to_ascii_lowercase().starts_with("red/48000"))
        .and_then(|(number, _)| number.parse().ok())
        .unwrap_or_default()
}

/// The payload with this type of Opus in the headers of its blocks; `None` if it is no such payload.
pub(super) fn of_type(red: &Bytes, opus: u8) -> Option<Bytes> {
    let (mut at, mut blocks, mut heads) = (0, 0, Vec::with_capacity(MAX_BLOCKS));
    // RFC 2198 section 3: four bytes each, with the length of the block in ten bits; one byte for the last.
    while *red.get(at)? & 0x80 != 0 {
        let length = usize::from(u16::from_be_bytes([*red.get(at + 2)?, *red.get(at + 3)?]) & 0x3ff);
        heads.push(at);
        (at, blocks) = (at + 4, blocks + length);
        if heads.len() >= MAX_BLOCKS {
            return None;
        }
    }
    heads.push(at);
    if at + 1 + blocks > red.len() {
        return None;
    }
    if opus == OPUS_PAYLOAD_TYPE {
        return Some(red.clone());
    }
    let mut changed = red.to_vec();
    for head in heads {
        changed[head] = (changed[head] & 0x80) | (opus & 0x7f);
    }
    Some(changed.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame of three bytes, one of none, and the present one.
    const RED: [u8; 17] =
        [0x80 | 111, 0x0f, 0x00, 0x03, 0x80 | 111, 0x07, 0x80, 0x00, 111, 1, 2, 3, 4, 5, 6, 7, 8];

    #[test]
    fn only_the_types_in_the_headers_are_changed() {
        let red = Bytes::from_static(&RED);
        assert_eq!(of_type(&red, 111), Some(red.clone()));
        let changed = of_type(&red, 96).expect("well-formed");
        let mut wanted = RED;
        (wanted[0], wanted[4], wanted[8]) = (0x80 | 96, 0x80 | 96, 96);
        assert_eq!(changed[..], wanted);
        for length in 0..12 {
            assert_eq!(of_type(&red.slice(..length), 96), None, "{length}");
        }
        assert_eq!(of_type(&Bytes::from_static(&[0xff; 100]), 111), None);
    }

    #[test]
    fn the_type_is_found_in_a_description() {
        assert_eq!(payload_type("v=0\r\na=rtpmap:111 opus/48000/2\r\na=rtpmap:63 red/48000/2\r\n"), 63);
        assert_eq!(payload_type("v=0\r\na=rtpmap:63 red/8000\r\na=rtpmap:999 RED/48000/2\r\n"), 0);
    }
}
