//! Coming back after a crash or a restart to a call that is still going on, without ringing anyone.

use super::{
    call::{Call, State},
    effect::EffectKind,
    input::{Other, Saved},
    machine::{Machine, Out},
    membership::Membership,
    participant::{Participant, Stage},
    signal::{AppData, HelloKind},
};
use crate::{
    error::Rejected,
    event::{Event, Milestone, ResumableCall},
    id::CallId,
    time::{Instant, UnixTime},
};

/// Calls of an earlier run that are offered to the app: one that was active, and those that were held.
const MAX_SAVED: usize = 8;

impl Machine {
    pub(super) fn on_saved(&mut self, saved: Saved) {
        let members = Membership::from_roll(&saved.roll);
        let usable = members.is_present(&self.own) && !self.calls.contains_key(&saved.call);
        if usable && self.saved.len() < MAX_SAVED {
            self.saved.insert(saved.call, saved);
        }
    }

    pub(super) fn resumable(&self) -> Vec<ResumableCall> {
        let others = |saved: &Saved| {
            Membership::from_roll(&saved.roll).present().filter(|key| *key != self.own).collect()
        };
        // One that rings here, since somebody invites this side anew, is to be answered.
        let gone = |s: &&Saved| self.calls.get(&s.call).is_none_or(|c| c.phase().is_none());
        self.saved
            .values()
            .filter(gone)
            .map(|s| ResumableCall { id: s.call, participants: others(s) })
            .collect()
    }

    pub(super) fn resume(
        &mut self,
        now: Instant,
        id: CallId,
        sent_at: UnixTime,
        other: Other,
        out: &mut Out<'_>,
    ) -> Result<(), Rejected> {
        let rings = self.calls.get(&id).is_some_and(|c| c.phase().is_some());
        if !self.saved.contains_key(&id) || rings {
            return Err(Rejected::NothingToResume(id));
        }
        self.make_way(now, other, out)?;
        // A notice of it that is on its way, or an invitation that nobody has confirmed.
        self.forget(id, out);
        let Some(saved) = self.saved.remove(&id) else { return Err(Rejected::NothingToResume(id)) };
        let members = Membership::from_roll(&saved.roll);
        self.make_room(true, out);
        let mut call = Call::new(id, now, State::Active { empty_until: None }, saved.media);
        call.sent_at = sent_at;
        call.roll = saved.hash;
        // Higher than whatever the earlier run has told.
        call.announce_version = sent_at.as_millis();
        let others: Vec<_> = members.present().filter(|key| *key != self.own).collect();
        for key in &others {
            let mut p = Participant::new(id, *key, Stage::In);
            p.mark(now, Milestone::Started);
            p.link.until = Some(now + self.config.connect_timeout);
            call.peers.insert(*key, p);
        }
        call.members = Some(members);
        Self::listen(id, self.own, &mut call, out);
        self.calls.insert(id, call);
        self.ended.retain(|ended| *ended != id);
        out.emit(Event::Rejoined { call: id });
        self.open_audio(id, out);
        self.rolled(now, id, out);
        for key in &others {
            self.open_session(now, id, key, HelloKind::Resume, (sent_at, AppData::default()), out);
            self.tell(id, key, out);
        }
        self.look_around(now, id, out);
        Ok(())
    }

    /// Nobody comes back to it any more.
    pub(super) fn unsave(&mut self, id: CallId, out: &mut Out<'_>) {
        if let Some(call) = self.calls.get_mut(&id)
            && std::mem::take(&mut call.saved)
        {
            out.run(EffectKind::UnsaveCall { call: id });
        }
    }
}
