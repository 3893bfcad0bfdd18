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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        id::{CallId, Identity, NodeId},
        proto::signal::{
            Announce, AppData, Body, CallBody, Hello, HelloKind, MediaFormat, Packet, SUITE_CLASSICAL,
            Status, VERSION, Welcome,
        },
        time::UnixTime,
    };

    const CALL: CallId = CallId::from_bytes([7; 16]);

    fn hello(from: &Identity, kind: HelloKind) -> Hello {
        Hello {
            kind,
            from: from.public(),
            node: NodeId::from(from.public()),
            call: CALL,
            sent_at: UnixTime::default(),
            ring_ms: 1000,
            versions: vec![VERSION],
            suites: vec![SUITE_CLASSICAL],
            media: MediaFormat::default(),
            app_data: AppData::default(),
        }
    }

    fn packet(seq: u32, body: Body) -> Packet {
        Packet { seq, ack: 0, ack_bits: 0, call: CALL, generation: 0, body }
    }

    /// Two sides with an open session, and how they got there.
    fn session() -> (Vault, Vault) {
        let (a, b) = (Identity::from_seed([1; 32]), Identity::from_seed([2; 32]));
        let (to_a, to_b) = (a.public(), b.public());
        let offer = hello(&a, HelloKind::Offer);
        let welcome = Welcome {
            node: NodeId::from(to_b),
            version: VERSION,
            suite: SUITE_CLASSICAL,
            status: Status::Open,
        };
        let (mut a, mut b) = (Vault::new(a), Vault::new(b));
        let inbox = a.topic(TopicRef::Inbox(to_b)).unwrap();
        let frame = a.hello(to_b, &offer).unwrap();
        assert_eq!(open(&mut b, &inbox, &frame), Ok(Input::Hello(Box::new(offer.clone()))));
        let (topic, answer) = b.welcome(CALL, to_a, &welcome).unwrap();
        b.step_over();
        // The same under another salt is no second call.
        let again = a.hello(to_b, &offer).unwrap();
        assert_ne!(frame, again);
        assert_eq!(open(&mut b, &inbox, &again), Ok(Input::HelloAgain { call: CALL, from: to_a }));
        assert_eq!(a.topic(TopicRef::Peer { call: CALL, owner: to_a }).unwrap(), topic);
        let opened = open(&mut a, &topic, &answer);
        assert_eq!(opened, Ok(Input::Welcome { call: CALL, from: to_b, welcome }));
        assert_eq!(open(&mut a, &topic, &answer), Err(Dropped::Duplicate));
        (a, b)
    }

    #[test]
    fn a_session_carries_signals_and_the_call_key() {
        let (mut a, mut b) = session();
        let (to_a, to_b) = (a.identity().public(), b.identity().public());
        a.new_call_key(CALL, 1).unwrap();
        let key = packet(1, Body::CallKey(1));
        let (topic, frame) = a.seal_packet(to_b, &key).unwrap();
        b.topic(TopicRef::Peer { call: CALL, owner: to_b }).unwrap();
        assert_eq!(open(&mut b, &topic, &frame), Ok(Input::Packet { from: to_a, packet: Box::new(key) }));
        assert_eq!(open(&mut b, &topic, &frame), Err(Dropped::Duplicate));
        let announce = CallBody::Announce(Announce { version: 1, joined: true, ..Announce::default() });
        let (room, frame) = b.seal_call(CALL, 1, &announce).unwrap();
        a.topic(TopicRef::Call { call: CALL, epoch: 1 }).unwrap();
        let opened = open(&mut a, &room, &frame);
        assert_eq!(opened, Ok(Input::CallMessage { call: CALL, epoch: 1, from: to_b, body: announce }));
        // One's own words come back to nobody.
        assert_eq!(open(&mut b, &room, &frame), Err(Dropped::Stray));
    }

    #[test]
    fn a_withdrawal_leaves_the_session_of_the_offer_alone() {
        let (mut a, mut b) = session();
        let (to_a, to_b) = (a.identity().public(), b.identity().public());
        let cancel = hello(a.identity(), HelloKind::Cancel);
        let frame = a.hello(to_b, &cancel).unwrap();
        let inbox = Topic::inbox(&to_b);
        assert_eq!(open(&mut b, &inbox, &frame), Ok(Input::Hello(Box::new(cancel))));
        let welcome = Welcome {
            node: NodeId::from(to_b),
            version: VERSION,
            suite: SUITE_CLASSICAL,
            status: Status::Cancelled,
        };
        b.welcome(CALL, to_a, &welcome).unwrap();
        b.step_over();
        let said = packet(1, Body::Confirm);
        let (topic, frame) = a.seal_packet(to_b, &said).unwrap();
        b.topic(TopicRef::Peer { call: CALL, owner: to_b }).unwrap();
        assert_eq!(open(&mut b, &topic, &frame), Ok(Input::Packet { from: to_a, packet: Box::new(said) }));
    }

    #[test]
    fn what_is_forgotten_is_gone() {
        let (mut a, mut b) = session();
        let to_b = b.identity().public();
        let (topic, frame) = a.seal_packet(to_b, &packet(1, Body::Confirm)).unwrap();
        b.forget(CALL);
        assert!(b.is_clean());
        assert_eq!(open(&mut b, &topic, &frame), Err(Dropped::Stray));
        a.forget(CALL);
        assert!(a.is_clean());
        assert!(a.seal_packet(to_b, &packet(2, Body::Confirm)).is_err());
    }

    #[test]
    fn an_offer_that_nobody_answers_leaves_nothing() {
        let (a, b) = (Identity::from_seed([1; 32]), Identity::from_seed([2; 32]));
        let offer = hello(&a, HelloKind::Offer);
        let to_b = b.public();
        let (mut a, mut b) = (Vault::new(a), Vault::new(b));
        let frame = a.hello(to_b, &offer).unwrap();
        assert!(open(&mut b, &Topic::inbox(&to_b), &frame).is_ok());
        b.step_over();
        assert!(b.is_clean());
    }
}
