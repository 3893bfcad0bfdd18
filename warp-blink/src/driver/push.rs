//! First messages that the app carries itself, as over a push service.
//!
//! `format 1 | lane 1 | the frame`, which is the one that goes over gossip.

use bytes::Bytes;

use super::door::Turned;
use crate::{
    error::ImportError,
    proto::signal::Lane,
    wire::{FrameError, FrameKind, OpenError, frame},
};

/// The format of this build.
const FORMAT: u8 = 1;

pub(super) fn encode(lane: Lane, frame: &[u8]) -> Vec<u8> {
    let lane = match lane {
        Lane::Strangers => 0,
        Lane::Contacts => 1,
    };
    [&[FORMAT, lane], frame].concat()
}

/// The lane and the frame, which has the shape of a first message.
pub(super) fn decode(mut bytes: Bytes) -> Result<(Lane, Bytes), ImportError> {
    let lane = match bytes.as_ref() {
        [FORMAT, 0, ..] => Lane::Strangers,
        [FORMAT, 1, ..] => Lane::Contacts,
        [FORMAT, ..] | [] | [0, ..] => return Err(ImportError::Malformed),
        [later, ..] => return Err(ImportError::Newer(*later)),
    };
    let frame = bytes.split_off(2);
    match frame::check(&frame) {
        Ok(FrameKind::Hello) => Ok((lane, frame)),
        Err(FrameError::Version(version)) => Err(ImportError::Newer(version)),
        _ => Err(ImportError::Malformed),
    }
}

/// What the app is told of an offer that the gate turned away.
pub(super) fn refusal(turned: Turned) -> ImportError {
    match turned {
        Turned::Full(_) => ImportError::Busy,
        Turned::Refused(OpenError::Frame(_)) => ImportError::Malformed,
        Turned::Refused(OpenError::Suite(suite)) => ImportError::Newer(suite),
        Turned::Refused(_) | Turned::Waits => ImportError::NotForUs,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        id::{CallId, Identity},
        proto::signal::{AppData, Hello, HelloKind, MediaFormat, SUITE_CLASSICAL, VERSION},
        time::UnixTime,
        wire::{CallKey, Door, HelloSecrets, Initiator, PeerSeed},
    };

    fn offer() -> Vec<u8> {
        let [from, to] = [1, 2].map(|n| Identity::from_seed([n; 32]));
        let hello = Hello {
            kind: HelloKind::Offer,
            from: from.public(),
            node: from.public().into(),
            call: CallId::from_bytes([7; 16]),
            sent_at: UnixTime::default(),
            ring_ms: 1000,
            versions: vec![VERSION],
            suites: vec![SUITE_CLASSICAL],
            media: MediaFormat::default(),
            app_data: AppData::default(),
        };
        let secrets =
            HelloSecrets { peer_seed: PeerSeed::from_bytes([1; 32]), call_key: CallKey::from_bytes([2; 32]) };
        let initiator =
            Initiator::start(&from, &to.public(), &Door::Strangers, None, &hello, &secrets, [3; 32]);
        initiator.unwrap().frame([0; 8])
    }

    #[test]
    fn an_offer_comes_back_with_its_lane() {
        for lane in [Lane::Strangers, Lane::Contacts] {
            let bytes = encode(lane, &offer());
            assert_eq!(decode(bytes.into()), Ok((lane, offer().into())));
        }
    }

    #[test]
    fn hostile_bytes_are_errors_whatever_they_are() {
        let good = encode(Lane::Strangers, &offer());
        for len in 0..good.len() {
            assert_eq!(decode(good[..len].to_vec().into()), Err(ImportError::Malformed), "cut at {len}");
        }
        let with = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            decode(bytes.into())
        };
        assert_eq!(with(0, 2), Err(ImportError::Newer(2)));
        assert_eq!(with(1, 2), Err(ImportError::Malformed));
        assert_eq!(with(2, VERSION + 1), Err(ImportError::Newer(VERSION + 1)));
        assert_eq!(with(3, 0xff), Err(ImportError::Malformed), "no first message");
        let long = [good, vec![0; 1 << 20]].concat();
        assert_eq!(decode(long.into()), Err(ImportError::Malformed));
    }
}
