//! Connections that are made ready while a phone rings: where nothing may connect before somebody accepts, offers and candidates can
//! wait all the same. Nobody but the app's own STUN and TURN servers sees anything of it.

use super::{
    call::Call,
    effect::EffectKind,
    machine::{Machine, Out},
    participant::Participant,
};

/// The most that are kept ready. Four: each holds sockets and some 250 kB, and those who are called in a group rarely accept
/// within one round trip of each other.
const MOST: u32 = 4;

impl Machine {
    /// Keeps as many connections ready as may soon be offered.
    pub(super) fn prepare(&mut self, out: &mut Out<'_>) {
        // The larger key offers, and an answer cannot be made ready.
        let waits = |p: &&Participant| {
            self.own > p.key && !self.connects_early(&p.key) && p.may_come() && p.link.generation == 0
        };
        let rings = |c: &&Call| c.is_outgoing() || c.is_incoming();
        let waiting = self.calls.values().filter(rings).flat_map(|c| c.peers.values()).filter(waits).count();
        let wanted = u32::try_from(waiting).unwrap_or(MOST).min(MOST);
        if std::mem::replace(&mut self.prepared, wanted) != wanted {
            out.run(EffectKind::Prepare { connections: wanted });
        }
    }
}
