//! The link's signaling channel: what shows that the link and the session are in the same hands, and what goes over it afterwards.
//!
//! The engine has checked by then that the certificate it met has the fingerprint of the description, which came inside the
//! session, so sound does not wait for this. But it rests on how the engine reads descriptions. So each end says once more, sealed
//! by the session and over the link itself, which certificates it sees at the two ends; a link is Connected when both have
//! said so, have heard it and agree. Each repeats what it says until it knows that the other has heard it, and answers all but what
//! says that this is known, so that the exchange ends whatever is lost.
//!
//! From then on signals are sent over the link first, which takes one way of the network and none of the nodes between, and over
//! gossip when they are not acknowledged, or when the link is interrupted. The last words of a call go both ways: the link is
//! closed behind them.

use super::{
    call::Call,
    effect::{EffectKind, LinkId, SessionNo},
    input::EngineLink,
    machine::{Machine, Out},
    participant::Participant,
    schedule::Schedule,
    signal::{Binding, Body, Fingerprint, Packet, Progress},
};
use crate::{
    error::Rejected,
    event::LinkState,
    id::{CallId, PublicKey},
    time::Instant,
};

/// How far the exchange of one link is.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Bind {
    /// The own certificate, and the one at the other end.
    pub(super) own: Fingerprint,
    pub(super) remote: Fingerprint,
    pub(super) progress: Progress,
    /// The session in which the other end last said so.
    pub(super) session: Option<SessionNo>,
    /// When it is said next.
    pub(super) schedule: Schedule,
}

impl Bind {
    fn is_over(&self) -> bool {
        self.progress == Progress::Done
    }
}

impl Machine {
    /// The signaling channel of a link is open.
    pub(super) fn on_secured(&mut self, now: Instant, link: LinkId, own: Fingerprint, remote: Fingerprint) {
        if let Some(p) = self.linked(link).filter(|p| p.link.bind.is_none()) {
            p.link.bind = Some(Bind {
                own,
                remote,
                progress: Progress::Alone,
                session: None,
                schedule: Schedule::at(now),
            });
        } else {
            self.counters.unexpected += 1;
        }
    }

    /// The link over which an app's data channel to somebody goes.
    ///
    /// # Errors
    /// [`Rejected::NoSuchCall`], [`Rejected::NotActive`] before the call is accepted, [`Rejected::NotInCall`] while there is no
    /// connection to them.
    pub fn channel_to(&self, call: CallId, peer: &PublicKey) -> Result<LinkId, Rejected> {
        let call = self.aliases.get(&call).copied().unwrap_or(call);
        self.existing(call, Call::is_active, Rejected::NotActive)?;
        let p = self.peer(call, peer).filter(|p| p.is_in() && p.link.state == LinkState::Connected);
        let generation = p.ok_or(Rejected::NotInCall(*peer))?.link.generation;
        Ok(LinkId { call, peer: *peer, generation })
    }

    /// Something came over a link.
    pub(super) fn on_link_packet(
        &mut self,
        now: Instant,
        link: LinkId,
        session: SessionNo,
        packet: Packet,
        out: &mut Out<'_>,
    ) {
        let said = match packet.body {
            _ if packet.call != link.call => {
                self.counters.unexpected += 1;
                return;
            }
            Body::Bound(binding) if packet.generation == link.generation => Some(binding),
            _ => None,
        };
        // What was replaced is of a life before this link.
        let present = self.peer(link.call, &link.peer).and_then(|p| p.session).map(|held| held.no);
        let said = said.filter(|_| present == Some(session));
        self.on_packet(now, link.peer, session, packet, true, out);
        if let Some(binding) = said {
            self.on_bound(now, link, session, binding, out);
        }
    }

    /// The other end says which certificates it sees.
    fn on_bound(&mut self, now: Instant, link: LinkId, session: SessionNo, said: Binding, out: &mut Out<'_>) {
        let Some(bind) = self.linked(link).and_then(|p| p.link.bind.as_mut()) else {
            self.counters.unexpected += 1;
            return;
        };
        if (said.own, said.remote) != (bind.remote, bind.own) {
            tracing::warn!(peer = %link.peer, "the two ends of a link see different certificates: it is closed");
            return self.on_engine(now, link, EngineLink::FingerprintMismatch, out);
        }
        let was_over = bind.is_over();
        let both = if said.progress == Progress::Alone { Progress::Heard } else { Progress::Done };
        bind.progress = bind.progress.max(both);
        bind.session = Some(session);
        if said.progress == Progress::Done {
            bind.schedule.next = None;
        } else {
            bind.schedule = Schedule::at(now);
        }
        if !was_over && bind.is_over() {
            self.link_works(now, link, out);
        }
    }

    /// Says which certificates this end sees, if it is time to.
    pub(super) fn say_bound(&mut self, now: Instant, id: CallId, key: &PublicKey, out: &mut Out<'_>) {
        let Some(p) = self.peer_mut(id, key).filter(|p| p.link.open) else { return };
        let generation = p.link.generation;
        let session = p.session.map(|held| held.no);
        let Some(bind) = p.link.bind.as_mut().filter(|b| b.schedule.is_due(now)) else { return };
        bind.schedule.transmitted(now);
        if bind.is_over() {
            bind.schedule.next = None;
        }
        let Some(session) = session else { return };
        let body = Body::Bound(Binding { own: bind.own, remote: bind.remote, progress: bind.progress });
        let packet = Box::new(p.delivery.unnumbered(generation, body));
        out.run(EffectKind::SendOnLink {
            link: LinkId { call: id, peer: *key, generation },
            session,
            packet,
        });
    }
}

impl Participant {
    /// Signals can go over the link now. In another session than the one it was made in they do not: whoever came back after a
    /// crash is not at the other end of this link any more.
    pub(super) fn is_linked(&self) -> bool {
        let same = |bind: &Bind| bind.is_over() && bind.session == self.session.map(|held| held.no);
        self.link.open && self.link.state == LinkState::Connected && self.link.bind.as_ref().is_some_and(same)
    }

    /// The last words before its link is closed go over it, and over gossip besides.
    pub(super) fn say_over_link(&self, link: LinkId, out: &mut Out<'_>) {
        if let Some(session) = self.session.map(|held| held.no).filter(|_| self.is_linked()) {
            for packet in self.delivery.unsent() {
                out.run(EffectKind::SendOnLink { link, session, packet: Box::new(packet) });
            }
        }
    }
}

impl super::link::Link {
    /// The engine has a path, and both ends have shown who they are.
    pub(super) fn is_bound(&self) -> bool {
        self.bind.as_ref().is_some_and(Bind::is_over)
    }

    /// When the own end is to say (again) what it sees.
    pub(super) fn bound_at(&self) -> Option<Instant> {
        self.bind.as_ref().filter(|_| self.open)?.schedule.next
    }
}
