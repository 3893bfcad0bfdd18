//! What peers say to each other.

use super::{NoRoom, Scrub, Scrubber};
use crate::proto::{
    notice::KEPT,
    signal::{
        Announce, AppData, Binding, Body, CallBody, Candidate, Create, Description, DescriptionKind, Epoch,
        EpochId, Gone, Hello, HelloKind, KeyHash, Lane, MayInvite, MediaFormat, Packet, Progress, Record,
        RecordKind, Roll, RollHash, Status, Sync, Welcome,
    },
};

stays!(DescriptionKind, HelloKind, KeyHash, Lane, MayInvite, Progress, RecordKind, RollHash, Status);

impl Scrub for AppData {
    fn scrub(&mut self, _: &mut Scrubber) -> Result<(), NoRoom> {
        // It came from an offer, so it fits into one.
        *self = Self::new(vec![0; self.as_bytes().len()]).unwrap_or_default();
        Ok(())
    }
}

impl Scrub for Hello {
    fn scrub(&mut self, with: &mut Scrubber) -> Result<(), NoRoom> {
        let Self { kind, from, node, call, sent_at, ring_ms, versions, suites, media, app_data } = self;
        // How long ago a missed call was, in seconds. Without a clock its caller counts from 1970, which tells the time; the
        // machine only sees that it is too long ago.
        if *kind == HelloKind::Missed {
            *ring_ms = (*ring_ms).min(u32::try_from(KEPT.as_secs()).unwrap_or(u32::MAX - 1) + 1);
        }
        kind.scrub(with)?;
        from.scrub(with)?;
        node.scrub(with)?;
        call.scrub(with)?;
        sent_at.scrub(with)?;
        versions.scrub(with)?;
        suites.scrub(with)?;
        media.scrub(with)?;
        app_data.scrub(with)
    }
}

fields!(struct Announce {
    version => version, joined, muted, deafened, camera, screen, recording, speaking, held, roll,
});
fields!(struct Binding { own, remote, progress });
fields!(struct Candidate { text => fill });
fields!(struct Create { creator, random => zeros, may_invite, most });
fields!(struct Description { kind, text => fill });
fields!(struct Epoch { id, gone });
fields!(struct EpochId { n, key });
fields!(struct Gone { subject, number });
fields!(struct MediaFormat { frame_ms, channels, max_bitrate });
fields!(struct Packet { seq, ack, ack_bits, call, generation, body });
fields!(struct Record { subject, number, kind, by });
fields!(struct Roll { create, records });
fields!(struct Sync { roll, epoch, generation });
fields!(struct Welcome { node, version, suite, status });

variants!(
    enum Body {
        Confirm,
        Ringing,
        Accept(media),
        Decline,
        Busy,
        Cancel,
        HangUp,
        CallKey(epoch),
        Description(description),
        Candidate(candidate),
        EndOfCandidates,
        TimedOut,
        Ack,
        LinkLost,
        Incompatible,
        Again,
        Token,
        KemKey,
        Roll(roll),
        Sync(sync),
        Removed,
        Here,
        Where(peer),
        Bound(binding),
        Turn,
    }
);
variants!(
    enum CallBody {
        Announce(announce),
        Leave,
    }
);
