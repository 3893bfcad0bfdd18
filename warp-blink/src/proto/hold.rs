//! Holding a call: it stays, and neither side hears anything of the other (3GPP TS 24.610, call hold).

use super::{
    call::Call,
    effect::{EffectKind, LinkCommand, LinkId},
    input::Other,
    machine::{Machine, Out},
    participant::{Participant, Stage},
};
use crate::{error::Rejected, event::Event, id::CallId, time::Instant};

impl Machine {
    pub(super) fn hold(&mut self, now: Instant, id: CallId, out: &mut Out<'_>) -> Result<(), Rejected> {
        self.existing(id, Call::is_active, Rejected::NotActive)?;
        self.existing(id, |c| !c.held, Rejected::IsHeld)?;
        if self.calls.values().filter(|c| c.held).count() >= self.config.max_held {
            return Err(Rejected::TooManyHeld(self.config.max_held));
        }
        self.set_held(now, id, true, out);
        self.silence(id, out);
        Ok(())
    }

    pub(super) fn unhold(
        &mut self,
        now: Instant,
        id: CallId,
        other: Other,
        out: &mut Out<'_>,
    ) -> Result<(), Rejected> {
        self.existing(id, Call::is_active, Rejected::NotActive)?;
        self.existing(id, |c| c.held, Rejected::NotHeld)?;
        // The place of the one that goes on is free for the one that is held.
        if let Some(call) = self.calls.get_mut(&id) {
            call.held = false;
        }
        let under_way =
            self.calls.values().find(|c| c.id != id && c.is_under_way()).map(|c| (c.id, c.is_active()));
        match (under_way, other) {
            (Some((active, true)), Other::Hold) => {
                if let Err(rejected) = self.hold(now, active, out) {
                    if let Some(call) = self.calls.get_mut(&id) {
                        call.held = true;
                    }
                    return Err(rejected);
                }
            }
            (Some((active, _)), _) => self.hang_up(now, active, out),
            (None, _) => {}
        }
        self.open_audio(id, out);
        self.set_held(now, id, false, out);
        // A link that gave way to another one with the same person is made anew.
        let without = |p: &Participant| {
            matches!(p.stage, Stage::In | Stage::Lost) && !p.link.open && p.session.is_some()
        };
        for key in self.peers_in(id, without) {
            self.enter(now, id, &key, out);
        }
        Ok(())
    }

    fn set_held(&mut self, now: Instant, id: CallId, held: bool, out: &mut Out<'_>) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        call.held = held;
        Self::news(now, call);
        for p in call.peers.values_mut().filter(|p| p.link.open) {
            p.link.sending = !held;
            let link = LinkId { call: id, peer: p.key, generation: p.link.generation };
            out.run(EffectKind::Link { link, command: LinkCommand::Send(!held) });
        }
        out.emit(Event::Held { call: id, held });
    }
}
