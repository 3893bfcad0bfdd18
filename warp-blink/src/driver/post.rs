//! Frames in, inputs out: which key opens what, and who has proven to have sent it.

use super::vault::Vault;
use crate::{
    proto::{Input, TopicRef},
    wire::{FrameKind, OpenError, Responder, Topic, frame, open_call},
};

/// Why a frame led to nothing. Counted, never answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dropped {
    /// No key of ours opens it.
    Unreadable,
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
            _ => Self::Unreadable,
        }
    }
}

/// Opens what arrived on a topic.
pub(super) fn open(vault: &mut Vault, topic: &Topic, data: &[u8]) -> Result<Input, Dropped> {
    let own = vault.identity().public();
    let kind = frame::check(data).map_err(|_| Dropped::Unreadable)?;
    let meaning = vault.meaning(topic).ok_or(Dropped::Stray)?;
    match (meaning, kind) {
        (TopicRef::Inbox(owner), FrameKind::Hello) if owner == own => {
            let id = Responder::screen(&own, data)?;
            if let Some((call, from)) = vault.seen(&id) {
                return Ok(Input::HelloAgain { call, from });
            }
            let opened = Responder::open(vault.identity(), data)?;
            let hello = opened.hello.clone();
            vault.arrived(opened);
            Ok(Input::Hello(Box::new(hello)))
        }
        (TopicRef::Peer { call, owner }, FrameKind::Welcome) if owner == own => {
            let (from, welcome) = vault.open_welcome(call, data)?;
            Ok(Input::Welcome { call, from, welcome })
        }
        (TopicRef::Peer { call, owner }, FrameKind::Transport) if owner == own => {
            let session = frame::session_id(data).ok_or(Dropped::Unreadable)?;
            if vault.session_call(&session) != Some(call) {
                return Err(Dropped::Stray);
            }
            let (from, packet) = vault.open_packet(call, data)?;
            // A session belongs to one call; a packet that names another one is not of our making.
            if packet.call != call {
                return Err(Dropped::Stray);
            }
            Ok(Input::Packet { from, packet: Box::new(packet) })
        }
        (TopicRef::Call { call, epoch }, FrameKind::Call) => {
            let room = vault.room(call, epoch).map_err(|_| Dropped::Stray)?;
            let message = open_call(room, &own, data)?;
            Ok(Input::CallMessage { call, epoch, from: message.from, body: message.body })
        }
        _ => Err(Dropped::Stray),
    }
}
