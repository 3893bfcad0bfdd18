//! The signaling channel of a connection: what is sent over it arrives as long as both ends and the path hold, however often it has
//! to come again; in any order, which is harsher than real ones are.

use std::time::Duration;

use warp_blink::{
    proto::{
        Input, LinkId, MediaInput, SessionNo,
        signal::{Fingerprint, Packet},
    },
    time::Instant,
};

use super::{
    Fault, Happening, World,
    link::Name,
    net::{Wire, ms},
};

/// From keys that are agreed on to an open channel: two round trips (RFC 9260 section 5.1).
const OPENS: (Duration, Duration) = ms(2, 150);

/// What was lost comes again.
const AGAIN: (Duration, Duration) = ms(50, 1000);

/// The certificate of that end of a connection.
fn fingerprint(name: Name, end: usize) -> Fingerprint {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&name.to_be_bytes());
    bytes[31] = end as u8;
    Fingerprint(bytes)
}

/// Something on its way over a connection.
#[derive(Clone, Debug)]
pub(super) struct Parcel {
    name: Name,
    /// The end that it is for.
    end: usize,
    wire: std::rc::Rc<Wire>,
}

impl World {
    /// One end has agreed on keys for the first time: its channel opens soon. When it does.
    pub(super) fn opens(&mut self, node: usize, link: LinkId, name: Name, end: usize) -> Instant {
        let wait = self.rng.between(self.conditions.driver) + self.rng.between(OPENS);
        let (own, remote) = (fingerprint(name, end), fingerprint(name, 1 - end));
        self.media(node, wait, MediaInput::Secured { link, own, remote });
        self.now + wait
    }

    pub(super) fn send_on_link(
        &mut self,
        node: usize,
        link: LinkId,
        session: SessionNo,
        packet: Box<Packet>,
    ) -> Result<(), Fault> {
        let Some(name) = self.nodes[node].links.get(&link).copied() else {
            return Err(self.fault(node, format!("speaks over a link that is not open: {link:?}")));
        };
        let wire = std::rc::Rc::new(self.seal(node, link.peer, session, packet)?);
        let Some(connection) = self.links.get(&name) else { return Ok(()) };
        let own = connection.end_of(node);
        if !connection.is_open_at(own, self.now) {
            return Err(self.fault(node, format!("speaks over {link:?} before its channel is open")));
        }
        self.carry(Parcel { name, end: 1 - own, wire }, true);
        Ok(())
    }

    /// Something goes on its way, or again.
    fn carry(&mut self, parcel: Parcel, first: bool) {
        let wait = self.rng.between(if first { self.conditions.delay } else { AGAIN });
        self.later(wait, Happening::Carry(parcel));
    }

    /// Something would arrive now.
    pub(super) fn carried(&mut self, parcel: Parcel) -> Result<(), Fault> {
        let Some(connection) = self.links.get(&parcel.name) else { return Ok(()) };
        let [from, to] = [connection.nodes[1 - parcel.end], connection.nodes[parcel.end]];
        if !connection.exists(parcel.end) {
            return Ok(());
        }
        let ready = connection.passes() && connection.is_open_at(parcel.end, self.now);
        let ready = ready && self.apart_since(from, to).is_none();
        if !ready || self.rng.chance(self.conditions.loss) {
            // Whoever has closed its end, or died, sends nothing again.
            if connection.exists(1 - parcel.end) {
                self.carry(parcel, false);
            }
            return Ok(());
        }
        let (call, generation) = (connection.call, connection.generation);
        let link = LinkId { call, peer: self.nodes[from].key, generation };
        let Wire::Packet { secret, packet, attachment, frame } = &*parcel.wire else { return Ok(()) };
        let opened = self.nodes[to].vault.open(*secret, packet.call, attachment.clone());
        let Some((_, session)) = opened else { return Ok(()) };
        if !self.open_packet(to, *secret, packet, frame)? {
            self.nodes[to].vault.step_over();
            return Ok(());
        }
        self.learns(to, packet.call);
        self.feed(to, Input::PacketOnLink { link, session, packet: packet.clone() })
    }
}
