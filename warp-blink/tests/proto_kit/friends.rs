//! Two who know each other, first messages made by hand, and what was sent.

use warp_blink::{
    event::Phase,
    id::{Identity, NodeKey, PublicKey},
    proto::{
        Arrived, Command, EffectKind, ReplayMemory, SessionNo,
        signal::{AppData, Body, Hello, HelloKind, MediaFormat, Packet, SUITE_CLASSICAL, VERSION},
    },
    time::UnixTime,
};

use super::{A, B, Pair, SENT_AT, call_id, plain};

pub(crate) fn wall(offset_ms: i64) -> UnixTime {
    UnixTime::from_millis(SENT_AT.as_millis().saturating_add_signed(offset_ms))
}

/// B knows A as a contact, and remembers everything that rang on its first message since a while ago.
pub(crate) fn contacts() -> Pair {
    let mut pair = plain();
    befriend(&mut pair);
    pair
}

pub(crate) fn befriend(pair: &mut Pair) {
    let memory = ReplayMemory::restored(wall(-600_000), []);
    pair.sides[B].machine = pair.sides[B].machine.clone().with_memory(memory);
    let a = pair.key(A);
    pair.ask(B, Command::AddContact(a)).unwrap();
}

pub(crate) fn rings(pair: &Pair) -> bool {
    pair.sides[B].machine.snapshot().calls.iter().any(|c| c.phase == Phase::Incoming)
}

/// A first message of that identity, as it comes out of its handshake.
pub(crate) fn first_message(from: &Identity, n: u8, kind: HelloKind) -> Arrived {
    Arrived::new(Hello {
        kind,
        from: from.public(),
        node: NodeKey::from(from).node_id(),
        call: call_id(n),
        sent_at: SENT_AT,
        ring_ms: 60_000,
        versions: vec![VERSION],
        suites: vec![SUITE_CLASSICAL],
        media: MediaFormat::default(),
        app_data: AppData::default(),
    })
}

pub(crate) fn packet(n: u8, seq: u32, body: Body) -> Box<Packet> {
    Box::new(Packet { seq, ack: 0, ack_bits: 0, call: call_id(n), generation: 0, body })
}

/// What is said in a session, to whom, over gossip or over the link.
pub(crate) fn said(effect: &EffectKind) -> Option<(PublicKey, SessionNo, &Packet)> {
    match effect {
        EffectKind::Send { to, session, packet } => Some((*to, *session, packet)),
        EffectKind::SendOnLink { link, session, packet } => Some((link.peer, *session, packet)),
        _ => None,
    }
}

pub(crate) fn sent(pair: &Pair, side: usize, wanted: &Body) -> usize {
    let is = |e: &&EffectKind| said(e).is_some_and(|(_, _, packet)| packet.body == *wanted);
    pair.sides[side].log.iter().filter(is).count()
}
