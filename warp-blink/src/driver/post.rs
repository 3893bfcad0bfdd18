//! Frames in, inputs out: which key opens what, and who has proven to have sent it.

use bytes::Bytes;

use super::{
    door::{Gate, Turned},
    vault::Vault,
};
use crate::{
    proto::{Input, LinkId, TopicRef, signal::Lane},
    stats::Counters,
    wire::{FrameError, FrameKind, OpenError, Topic, frame, open_call},
};

/// Why a frame led to nothing. Counted, never answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dropped {
    /// It does not open.
    Refused(OpenError),
    /// A first message that its lane has no place for.
    Full(Lane),
    /// For a topic or a session that is not ours (any more).
    Stray,
    /// Opened before.
    Duplicate,
}

impl From<OpenError> for Dropped {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Replay | OpenError::TooOld | OpenError::Repeated => Self::Duplicate,
            OpenError::Session | OpenError::Reflected => Self::Stray,
            error => Self::Refused(error),
        }
    }
}

impl From<Turned> for Dropped {
    fn from(turned: Turned) -> Self {
        match turned {
            Turned::Refused(error) => error.into(),
            Turned::Full(lane) => Self::Full(lane),
            Turned::Waits => Self::Duplicate,
        }
    }
}

impl Dropped {
    /// Counts it under its reason.
    pub(super) fn count(self, counters: &mut Counters) {
        let refused = &mut counters.refused;
        let counter = match self {
            Self::Stray => &mut counters.stray,
            Self::Duplicate => &mut counters.duplicate,
            Self::Full(Lane::Contacts) => &mut refused.contacts_full,
            Self::Full(Lane::Strangers) => &mut refused.strangers_full,
            Self::Refused(error) => match error {
                OpenError::Frame(FrameError::TooLong | FrameError::Length) => &mut refused.shape,
                OpenError::Frame(_) => &mut refused.version,
                OpenError::Suite(_) => &mut refused.suite,
                OpenError::Mac => &mut refused.mac,
                OpenError::Identity(_) | OpenError::Impostor | OpenError::WeakKey => &mut refused.sender,
                OpenError::Downgrade => &mut refused.downgrade,
                OpenError::Signature => &mut refused.signature,
                OpenError::Padding | OpenError::Decode | OpenError::Unknown | OpenError::KemKey => {
                    &mut refused.contents
                }
                _ => &mut refused.seal,
            },
        };
        *counter += 1;
    }
}

/// Takes what arrived on a topic: at once, or `None` if it is a first message that waits its turn at the gate.
pub(super) fn open(
    vault: &mut Vault,
    gate: &mut Gate,
    topic: &Topic,
    data: Bytes,
) -> Result<Option<Input>, Dropped> {
    let own = vault.keys().identity().public();
    let kind = frame::check(&data).map_err(|e| Dropped::Refused(OpenError::Frame(e)))?;
    let meaning = vault.meaning(topic).ok_or(Dropped::Stray)?;
    Ok(Some(match (meaning, kind) {
        (TopicRef::Inbox { owner, lane }, FrameKind::Hello) if owner == own => {
            return Ok(gate.arrived(vault, lane, data, false)?);
        }
        (TopicRef::Peer { call, owner }, FrameKind::Welcome) if owner == own => {
            let (from, session, welcome) = vault.open_welcome(call, &data)?;
            Input::Welcome { call, from, session, welcome }
        }
        (TopicRef::Peer { call, owner }, FrameKind::Transport) if owner == own => {
            let id = frame::session_id(&data).ok_or(Dropped::Stray)?;
            let named = vault.session_of(&id).filter(|(of, ..)| *of == call);
            let (_, from, session) = named.ok_or(Dropped::Stray)?;
            let packet = vault.open_packet(call, from, session, &data)?;
            Input::Packet { from, session, packet: Box::new(packet) }
        }
        (TopicRef::Call { call, epoch }, FrameKind::Call) => {
            let room = vault.room(call, epoch).map_err(|_| Dropped::Stray)?;
            let message = open_call(room, &own, &data)?;
            Input::CallMessage { call, epoch, from: message.from, body: message.body }
        }
        _ => return Err(Dropped::Stray),
    }))
}

/// Takes what came over the signaling channel of a link: from whom is at its other end, and of its call.
pub(super) fn open_on_link(vault: &mut Vault, link: LinkId, data: &[u8]) -> Result<Input, Dropped> {
    let kind = frame::check(data).map_err(|e| Dropped::Refused(OpenError::Frame(e)))?;
    let id = frame::session_id(data).filter(|_| kind == FrameKind::Transport).ok_or(Dropped::Stray)?;
    let named = vault.session_of(&id).filter(|(call, from, _)| (*call, *from) == (link.call, link.peer));
    let (call, from, session) = named.ok_or(Dropped::Stray)?;
    let packet = vault.open_packet(call, from, session, data)?;
    Ok(Input::PacketOnLink { link, session, packet: Box::new(packet) })
}

#[cfg(test)]
mod tests;
