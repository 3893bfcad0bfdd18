use super::*;
use crate::{
    driver::{door::Ask, keyring::Keyring, shelf::Shelf, vault::VaultError},
    id::{CallId, Identity, NodeId, PublicKey},
    proto::{
        Arrived, Gift, SessionNo,
        signal::{
            Announce, AppData, Body, CallBody, Epoch, EpochId, Hello, HelloKind, MayInvite, MediaFormat,
            Packet, Record, RecordKind, Roll, SUITE_CLASSICAL, SUITE_HYBRID, Status, VERSION, Welcome,
        },
    },
    time::{Instant, UnixTime},
    wire::Whereabouts,
};

const CALL: CallId = CallId::from_bytes([7; 16]);
const ONE: SessionNo = SessionNo(1);

fn hello(from: &Identity, kind: HelloKind) -> Hello {
    Hello {
        kind,
        from: from.public(),
        node: NodeId::from(from.public()),
        call: CALL,
        sent_at: UnixTime::default(),
        ring_ms: 1000,
        versions: vec![VERSION],
        suites: vec![SUITE_HYBRID, SUITE_CLASSICAL],
        media: MediaFormat::default(),
        app_data: AppData::default(),
    }
}

fn packet(seq: u32, body: Body) -> Packet {
    Packet { seq, ack: 0, ack_bits: 0, call: CALL, generation: 0, body }
}

fn welcome(from: PublicKey, suite: u8, status: Status) -> Welcome {
    Welcome { node: NodeId::from(from), version: VERSION, suite, status }
}

/// One side: its keys, and the way in.
struct Side {
    vault: Vault,
    gate: Gate,
    now: Instant,
}

impl Side {
    async fn new(seed: u8, ask: Option<Ask>) -> Self {
        let keys = Keyring::load(Identity::from_seed([seed; 32]), Shelf::new(None)).await.unwrap();
        let mut vault = Vault::new(keys);
        let owner = vault.keys().identity().public();
        for lane in [Lane::Contacts, Lane::Strangers] {
            vault.topic(TopicRef::Inbox { owner, lane }).unwrap();
        }
        Self { vault, gate: Gate::new(ask), now: Instant::from_micros(1_000_000_000) }
    }

    fn key(&self) -> PublicKey {
        self.vault.keys().identity().public()
    }

    /// What arrives, and what comes of it at once.
    fn takes(&mut self, topic: &Topic, frame: &[u8]) -> Result<Option<Input>, Dropped> {
        let input = open(&mut self.vault, &mut self.gate, topic, Bytes::copy_from_slice(frame))?;
        match input {
            Some(input) => Ok(Some(input)),
            None => self.gate.next(self.now, &mut self.vault).transpose().map_err(Dropped::from),
        }
    }

    fn hello(&mut self, to: PublicKey, kind: HelloKind, no: u32, lane: Lane, suite: u8) -> (Topic, Vec<u8>) {
        let hello = hello(self.vault.keys().identity(), kind);
        self.vault.hello(to, lane, suite, SessionNo(no), &hello).unwrap()
    }

    fn offer(&mut self, to: PublicKey) -> (Topic, Vec<u8>) {
        self.hello(to, HelloKind::Offer, 1, Lane::Strangers, SUITE_CLASSICAL)
    }

    fn answers(&mut self, to: PublicKey, no: u32, suite: u8) -> (Topic, Vec<u8>) {
        let welcome = welcome(self.key(), suite, Status::Open);
        let answer = self.vault.welcome(CALL, to, SessionNo(no), &welcome).unwrap();
        self.vault.step_over();
        let owner = self.key();
        self.vault.topic(TopicRef::Peer { call: CALL, owner }).unwrap();
        answer
    }

    fn says(&mut self, to: PublicKey, no: u32, packet: &Packet) -> (Topic, Vec<u8>) {
        self.vault.seal_packet(to, SessionNo(no), packet, None).unwrap()
    }
}

fn arrived(input: &Result<Option<Input>, Dropped>) -> Option<&Arrived> {
    match input {
        Ok(Some(Input::Hello(arrived))) => Some(arrived),
        _ => None,
    }
}

/// Two sides with an open session, and how they got there.
async fn session() -> (Side, Side) {
    let (mut a, mut b) = (Side::new(1, None).await, Side::new(2, None).await);
    let (to_a, to_b) = (a.key(), b.key());
    let (inbox, frame) = a.offer(to_b);
    let offer = hello(a.vault.keys().identity(), HelloKind::Offer);
    assert_eq!(arrived(&b.takes(&inbox, &frame)).unwrap().hello, offer);
    let (topic, answer) = b.answers(to_a, 1, SUITE_CLASSICAL);
    // The same under another salt is no second call.
    let (_, again) = a.offer(to_b);
    assert_ne!(frame, again);
    let repeated = Input::HelloAgain { call: CALL, from: to_a, session: ONE };
    assert_eq!(b.takes(&inbox, &again), Ok(Some(repeated)));
    assert_eq!(a.vault.topic(TopicRef::Peer { call: CALL, owner: to_a }).unwrap(), topic);
    let welcome = welcome(to_b, SUITE_CLASSICAL, Status::Open);
    let opened = a.takes(&topic, &answer);
    assert_eq!(opened, Ok(Some(Input::Welcome { call: CALL, from: to_b, session: ONE, welcome })));
    assert_eq!(a.takes(&topic, &answer), Err(Dropped::Duplicate));
    (a, b)
}

fn heard(from: PublicKey, session: u32, packet: Packet) -> Result<Option<Input>, Dropped> {
    Ok(Some(Input::Packet { from, session: SessionNo(session), packet: Box::new(packet) }))
}

#[tokio::test]
async fn a_session_carries_signals_and_the_call_key() {
    let (mut a, mut b) = session().await;
    let (to_a, to_b) = (a.key(), b.key());
    let epoch = EpochId { n: 1, key: a.vault.new_call_key(CALL, 1).unwrap() };
    let key = packet(1, Body::CallKey(Epoch { id: epoch, gone: vec![] }));
    let (topic, frame) = a.says(to_b, 1, &key);
    assert_eq!(b.takes(&topic, &frame), heard(to_a, 1, key));
    b.vault.keep_call_key(CALL, epoch).unwrap();
    assert_eq!(b.takes(&topic, &frame), Err(Dropped::Duplicate));
    let announce = CallBody::Announce(Announce { version: 1, joined: true, ..Announce::default() });
    let (room, frame) = b.vault.seal_call(CALL, epoch, &announce).unwrap();
    a.vault.topic(TopicRef::Call { call: CALL, epoch }).unwrap();
    let said = Input::CallMessage { call: CALL, epoch, from: to_b, body: announce };
    assert_eq!(a.takes(&room, &frame), Ok(Some(said)));
    // One's own words come back to nobody.
    assert_eq!(b.takes(&room, &frame), Err(Dropped::Stray));
    a.vault.drop_call_key(CALL, epoch);
    assert_eq!(a.takes(&room, &frame), Err(Dropped::Stray), "whose key is gone");
    assert!(a.vault.seal_call(CALL, epoch, &announce).is_err());
}

#[tokio::test]
async fn a_key_that_the_machine_does_not_keep_is_dropped() {
    let (mut a, mut b) = session().await;
    let to_b = b.key();
    let epoch = EpochId { n: 1, key: a.vault.new_call_key(CALL, 1).unwrap() };
    let (topic, frame) = a.says(to_b, 1, &packet(1, Body::CallKey(Epoch { id: epoch, gone: vec![] })));
    assert!(b.takes(&topic, &frame).is_ok());
    let other = EpochId { n: 2, ..epoch };
    assert_eq!(b.vault.keep_call_key(CALL, other), Err(VaultError::NoKey), "it has another name");
    b.vault.step_over();
    assert_eq!(b.vault.keep_call_key(CALL, epoch), Err(VaultError::NoKey));
    assert!(b.vault.room(CALL, epoch).is_err());
}

/// Each member has signatures of all, whoever made them.
#[tokio::test]
async fn a_roll_travels_with_the_signatures_of_those_who_said_it() {
    let (mut a, mut b) = session().await;
    let (to_a, to_b) = (a.key(), b.key());
    let (call, create) = a.vault.create(MayInvite::Members, 16).unwrap();
    let word = Record { subject: to_b, number: 1, kind: RecordKind::Add, by: to_a };
    a.vault.sign(call, &word).unwrap();
    let roll = Roll { create, records: vec![word] };
    a.vault.keep_roll(call, &roll).unwrap();
    // The session is that of another call: its packets name no other one.
    let stray = Packet { call, ..packet(1, Body::Roll(roll.clone())) };
    assert_eq!(a.vault.seal_packet(to_b, ONE, &stray, None), Err(VaultError::NoKey));
    for side in [&mut a, &mut b] {
        side.vault.forget(CALL);
    }
    let hello = |from: &Side| Hello { call, ..hello(from.vault.keys().identity(), HelloKind::Offer) };
    let (inbox, frame) = a.vault.hello(to_b, Lane::Strangers, SUITE_CLASSICAL, ONE, &hello(&a)).unwrap();
    assert!(b.takes(&inbox, &frame).is_ok());
    let answer = b.vault.welcome(call, to_a, ONE, &welcome(to_b, SUITE_CLASSICAL, Status::Open)).unwrap();
    for (side, owner) in [(&mut a, to_a), (&mut b, to_b)] {
        side.vault.topic(TopicRef::Peer { call, owner }).unwrap();
    }
    assert!(a.takes(&answer.0, &answer.1).is_ok());
    let said = Packet { call, ..packet(1, Body::Roll(roll.clone())) };
    let (topic, frame) = a.vault.seal_packet(to_b, ONE, &said, None).unwrap();
    assert_eq!(b.takes(&topic, &frame), heard(to_a, 1, said));
    assert_eq!(b.vault.signatures(call, &roll), Err(VaultError::Unsigned), "before it is kept");
    let name = b.vault.keep_roll(call, &roll);
    assert_eq!(b.vault.keep_roll(call, &roll), name, "twice in a step");
    b.vault.step_over();
    assert_eq!(b.vault.signatures(call, &roll), a.vault.signatures(call, &roll));
    // With a word of its own it says so to others.
    let left = Record { subject: to_b, number: 2, kind: RecordKind::Leave, by: to_b };
    b.vault.sign(call, &left).unwrap();
    let mut records = vec![word, left];
    records.sort_unstable();
    let more = Roll { create, records };
    b.vault.keep_roll(call, &more).unwrap();
    let said = Packet { call, ..packet(1, Body::Roll(more.clone())) };
    let (topic, frame) = b.vault.seal_packet(to_a, ONE, &said, None).unwrap();
    assert_eq!(a.takes(&topic, &frame), heard(to_b, 1, said));
    assert!(a.vault.keep_roll(call, &more).is_ok());
}

#[tokio::test]
async fn one_call_has_sessions_with_many_and_dropping_one_leaves_the_others() {
    let (mut a, mut b) = session().await;
    let mut c = Side::new(3, None).await;
    let (to_a, to_b, to_c) = (a.key(), b.key(), c.key());
    let (inbox, frame) = a.offer(to_c);
    assert!(arrived(&c.takes(&inbox, &frame)).is_some());
    let (topic, answer) = c.answers(to_a, 1, SUITE_CLASSICAL);
    let opened = a.takes(&topic, &answer);
    assert!(matches!(opened, Ok(Some(Input::Welcome { from, .. })) if from == to_c), "{opened:?}");
    for (n, (to, side)) in [(to_b, &mut b), (to_c, &mut c)].into_iter().enumerate() {
        let said = packet(1 + n as u32, Body::Confirm);
        let (topic, frame) = a.says(to, 1, &said);
        assert_eq!(side.takes(&topic, &frame), heard(to_a, 1, said));
        let (topic, frame) = side.says(to_a, 1, &packet(1, Body::Ringing));
        assert_eq!(a.takes(&topic, &frame), heard(to, 1, packet(1, Body::Ringing)));
    }
    assert!(a.vault.drop_peer(CALL, &to_b), "in no other call");
    assert!(!a.vault.drop_peer(CALL, &to_b), "once");
    assert!(a.vault.seal_packet(to_b, ONE, &packet(3, Body::Confirm), None).is_err());
    let (topic, frame) = b.says(to_a, 1, &packet(2, Body::Ringing));
    assert_eq!(a.takes(&topic, &frame), Err(Dropped::Stray));
    let (topic, frame) = c.says(to_a, 1, &packet(2, Body::Ringing));
    assert_eq!(a.takes(&topic, &frame), heard(to_c, 1, packet(2, Body::Ringing)));
    assert_eq!(a.vault.forget(CALL), [to_c]);
    assert!(a.vault.is_clean());
}

/// All answers may have been lost: the caller, who still sends the same, is answered when the call is forgotten here.
#[tokio::test]
async fn an_offer_that_was_forgotten_unconfirmed_can_be_answered_anew() {
    for confirmed in [false, true] {
        let (mut a, mut b) = session().await;
        let (to_a, to_b) = (a.key(), b.key());
        if confirmed {
            let (topic, frame) = a.says(to_b, 1, &packet(1, Body::Confirm));
            assert!(b.takes(&topic, &frame).is_ok());
        }
        b.vault.forget(CALL);
        let (inbox, frame) = a.offer(to_b);
        let again = Input::HelloAgain { call: CALL, from: to_a, session: ONE };
        let taken = b.takes(&inbox, &frame);
        assert_eq!(taken == Ok(Some(again)), confirmed);
        assert_eq!(arrived(&taken).is_some(), !confirmed);
    }
}

#[tokio::test]
async fn where_somebody_is_said_to_be_comes_with_the_packet_of_its_step() {
    let (mut a, mut b) = session().await;
    let (to_a, to_b, carol) = (a.key(), b.key(), Identity::from_seed([3; 32]).public());
    let place = Whereabouts::new(carol.into(), ["/ip4/192.0.2.7/tcp/4001".to_owned()]);
    let said = packet(1, Body::Where(carol));
    assert!(a.vault.seal_packet(to_b, ONE, &said, None).is_err());
    let (topic, frame) =
        a.vault.seal_packet(to_b, ONE, &said, Some(crate::wire::Attachment::Where(place.clone()))).unwrap();
    assert_eq!(b.takes(&topic, &frame), heard(to_a, 1, said));
    assert_eq!(b.vault.whereabouts(&to_a), None, "somebody else");
    assert_eq!(b.vault.whereabouts(&carol), Some(place));
    assert_eq!(b.vault.whereabouts(&carol), None, "once");
}

#[tokio::test]
async fn the_inbox_of_somebody_awaited_stays_known() {
    let (mut a, b) = (Side::new(1, None).await, Side::new(2, None).await);
    let to_b = b.key();
    let (inbox, _) = a.offer(to_b);
    let meaning = TopicRef::Inbox { owner: to_b, lane: Lane::Strangers };
    assert_eq!(a.vault.await_people([to_b].into()), [inbox].into(), "without a token it has one inbox");
    a.vault.forget(CALL);
    assert_eq!(a.vault.meaning(&inbox), Some(meaning));
    assert!(a.vault.await_people([].into()).is_empty());
    assert_eq!(a.vault.meaning(&inbox), None);
}

#[tokio::test]
async fn a_withdrawal_leaves_the_session_of_the_offer_alone() {
    let (mut a, mut b) = session().await;
    let (to_a, to_b) = (a.key(), b.key());
    let (inbox, frame) = a.hello(to_b, HelloKind::Cancel, 2, Lane::Strangers, SUITE_CLASSICAL);
    assert_eq!(arrived(&b.takes(&inbox, &frame)).unwrap().hello.kind, HelloKind::Cancel);
    b.vault.welcome(CALL, to_a, SessionNo(2), &welcome(to_b, SUITE_CLASSICAL, Status::Cancelled)).unwrap();
    b.vault.step_over();
    let said = packet(1, Body::Confirm);
    let (topic, frame) = a.says(to_b, 1, &said);
    assert_eq!(b.takes(&topic, &frame), heard(to_a, 1, said));
}

#[tokio::test]
async fn what_is_forgotten_is_gone() {
    let (mut a, mut b) = session().await;
    let to_b = b.key();
    let (topic, frame) = a.says(to_b, 1, &packet(1, Body::Confirm));
    b.vault.forget(CALL);
    assert!(b.vault.is_clean());
    assert_eq!(b.takes(&topic, &frame), Err(Dropped::Stray));
    a.vault.forget(CALL);
    assert!(a.vault.is_clean());
    assert!(a.vault.seal_packet(to_b, ONE, &packet(2, Body::Confirm), None).is_err());
}

#[tokio::test]
async fn an_offer_that_nobody_answers_leaves_nothing() {
    let (mut a, mut b) = (Side::new(1, None).await, Side::new(2, None).await);
    let (inbox, frame) = a.offer(b.key());
    assert!(arrived(&b.takes(&inbox, &frame)).is_some());
    b.vault.step_over();
    assert!(b.vault.is_clean());
    assert_eq!(b.gate.next_timeout(b.now), None);
}

#[tokio::test]
async fn a_token_opens_the_contacts_lane_until_it_is_replaced() {
    let (mut a, mut b) = session().await;
    let (to_a, to_b) = (a.key(), b.key());
    let (topic, frame) = a.says(to_b, 1, &packet(1, Body::Confirm));
    b.takes(&topic, &frame).unwrap();
    for (seq, body, gift) in [(1, Body::Token, Gift::Token), (2, Body::KemKey, Gift::KemKey)] {
        let (topic, frame) = b.says(to_a, 1, &packet(seq, body));
        a.takes(&topic, &frame).unwrap();
        assert!(!a.vault.keep(to_a, gift), "from somebody else");
        a.takes(&topic, &frame).unwrap_err();
        let (topic, frame) =
            b.says(to_a, 1, &packet(seq, if gift == Gift::Token { Body::Token } else { Body::KemKey }));
        a.takes(&topic, &frame).unwrap();
        assert!(a.vault.keep(to_b, gift));
        assert!(!a.vault.keep(to_b, gift), "once");
    }
    let (inbox, frame) = a.hello(to_b, HelloKind::Resume, 2, Lane::Contacts, SUITE_HYBRID);
    assert_eq!(inbox, b.vault.keys().contacts_inbox());
    let input = b.takes(&inbox, &frame);
    assert_eq!(arrived(&input).unwrap().suite, SUITE_HYBRID);
    // The same frame on the open inbox is not for there.
    let open_inbox = Topic::inbox(&to_b);
    assert_eq!(b.takes(&open_inbox, &frame), Err(Dropped::Refused(OpenError::Mac)));
    b.vault.keys_mut().new_token().unwrap();
    let again = a.hello(to_b, HelloKind::Pair, 3, Lane::Contacts, SUITE_HYBRID);
    assert_eq!(b.takes(&again.0, &again.1), Err(Dropped::Refused(OpenError::Mac)));
}

#[tokio::test]
async fn the_same_offer_over_both_lanes_has_one_session_whichever_copy_is_answered_when() {
    let (mut a, mut b) = (Side::new(1, None).await, Side::new(2, None).await);
    let (to_a, to_b) = (a.key(), b.key());
    let token = b.vault.keys().token().clone();
    assert!(a.vault.keys_mut().keep(to_b, Gift::Token, crate::wire::Attachment::Token(token)));
    let mut answers = Vec::new();
    for lane in [Lane::Strangers, Lane::Contacts] {
        let (inbox, frame) = a.hello(to_b, HelloKind::Offer, 1, lane, SUITE_CLASSICAL);
        assert!(arrived(&b.takes(&inbox, &frame)).is_some());
        // The machine repeats the answer to the first copy in the step in which the second one is opened.
        answers.push(b.answers(to_a, 1, SUITE_CLASSICAL));
        // From now on both are recognised.
        let (inbox, again) = a.hello(to_b, HelloKind::Offer, 1, lane, SUITE_CLASSICAL);
        let repeated = Input::HelloAgain { call: CALL, from: to_a, session: ONE };
        assert_eq!(b.takes(&inbox, &again), Ok(Some(repeated)));
    }
    a.vault.topic(TopicRef::Peer { call: CALL, owner: to_a }).unwrap();
    assert!(a.takes(&answers[0].0, &answers[0].1).is_ok());
    assert_eq!(a.takes(&answers[1].0, &answers[1].1), Err(Dropped::Duplicate));
    let said = packet(1, Body::Confirm);
    let (topic, frame) = a.says(to_b, 1, &said);
    assert_eq!(b.takes(&topic, &frame), heard(to_a, 1, said));
}

#[tokio::test]
async fn who_returns_has_a_session_of_its_own_and_the_old_one_goes() {
    let (mut a, mut b) = session().await;
    let (to_a, to_b) = (a.key(), b.key());
    let (topic, frame) = a.says(to_b, 1, &packet(1, Body::Confirm));
    b.takes(&topic, &frame).unwrap();
    // A starts anew, with nothing but its identity.
    let mut returned = Side::new(1, None).await;
    let (inbox, frame) = returned.hello(to_b, HelloKind::Resume, 1, Lane::Strangers, SUITE_CLASSICAL);
    assert_eq!(arrived(&b.takes(&inbox, &frame)).unwrap().hello.kind, HelloKind::Resume);
    let (topic, answer) = b.answers(to_a, 2, SUITE_CLASSICAL);
    returned.vault.topic(TopicRef::Peer { call: CALL, owner: to_a }).unwrap();
    assert!(returned.takes(&topic, &answer).is_ok());
    let confirm = packet(1, Body::Confirm);
    let (topic, frame) = returned.says(to_b, 1, &confirm);
    assert_eq!(b.takes(&topic, &frame), heard(to_a, 2, confirm));
    let (new, frame) = b.says(to_a, 2, &packet(1, Body::Ringing));
    assert_eq!(returned.takes(&new, &frame), heard(to_b, 1, packet(1, Body::Ringing)));
    // The old one still brings what was on its way, until it is dropped.
    let late = packet(2, Body::Confirm);
    let (topic, frame) = a.says(to_b, 1, &late);
    assert_eq!(b.takes(&topic, &frame), heard(to_a, 1, late));
    let (topic, frame) = a.says(to_b, 1, &packet(3, Body::Confirm));
    b.vault.drop_session(CALL, &to_a, ONE);
    assert_eq!(b.takes(&topic, &frame), Err(Dropped::Stray));
    assert!(b.vault.seal_packet(to_a, ONE, &packet(2, Body::Confirm), None).is_err());
}

#[tokio::test]
async fn hostile_flood_of_strangers_leaves_a_contact_its_place() {
    let mut b = Side::new(2, None).await;
    let to_b = b.key();
    let mut full = 0;
    for seed in 10..110 {
        let mut stranger = Side::new(seed, None).await;
        let (inbox, frame) = stranger.offer(to_b);
        let taken = open(&mut b.vault, &mut b.gate, &inbox, Bytes::from(frame));
        full += u32::from(taken == Err(Dropped::Full(Lane::Strangers)));
    }
    assert_eq!(full, 100 - 64);
    // A contact, whose token lane is empty.
    let mut a = Side::new(1, None).await;
    let token = b.vault.keys().token().clone();
    assert!(a.vault.keys_mut().keep(to_b, Gift::Token, crate::wire::Attachment::Token(token)));
    let (inbox, frame) = a.hello(to_b, HelloKind::Offer, 1, Lane::Contacts, SUITE_CLASSICAL);
    let next = b.takes(&inbox, &frame);
    assert_eq!(arrived(&next).unwrap().hello.from, a.key(), "before all of them");
    let mut opened = 0;
    while let Some(next) = b.gate.next(b.now, &mut b.vault) {
        assert!(next.is_ok());
        opened += 1;
    }
    assert_eq!(opened, 16, "and of them only the burst");
}

#[tokio::test]
async fn a_repetition_does_not_wait_twice() {
    let (mut a, mut b) = (Side::new(1, None).await, Side::new(2, None).await);
    for n in 0..3 {
        let (inbox, frame) = a.offer(b.key());
        let taken = open(&mut b.vault, &mut b.gate, &inbox, Bytes::from(frame));
        assert_eq!(taken, if n == 0 { Ok(None) } else { Err(Dropped::Duplicate) });
    }
}

#[tokio::test]
async fn the_callback_decides_and_one_that_panics_lets_nobody_in() {
    let asks: [(Ask, bool); 3] = [
        (std::sync::Arc::new(|_| true), true),
        (
            std::sync::Arc::new(|caller| {
                caller.app_data.as_bytes().is_empty() && caller.key.as_bytes()[0] == 0
            }),
            false,
        ),
        (std::sync::Arc::new(|_| panic!("a defect of the app")), false),
    ];
    for (ask, verdict) in asks {
        let (mut a, mut b) = (Side::new(1, None).await, Side::new(2, Some(ask)).await);
        let (inbox, frame) = a.offer(b.key());
        assert_eq!(arrived(&b.takes(&inbox, &frame)).unwrap().verdict, Some(verdict));
    }
}

#[test]
fn each_refusal_has_its_counter() {
    use OpenError as E;
    let errors = [
        E::Frame(FrameError::Length),
        E::Frame(FrameError::Version(9)),
        E::Suite(9),
        E::Mac,
        E::Handshake,
        E::Impostor,
        E::Downgrade,
        E::Decode,
        E::Signature,
    ];
    let mut counters = Counters::default();
    for (n, error) in errors.into_iter().enumerate() {
        Dropped::from(error).count(&mut counters);
        assert_eq!(counters.refused.total(), n as u64 + 1);
    }
    let r = counters.refused;
    let each = [r.shape, r.version, r.suite, r.mac, r.seal, r.sender, r.downgrade, r.contents, r.signature];
    assert_eq!(each, [1; 9]);
    for dropped in
        [Dropped::Full(Lane::Contacts), Dropped::Full(Lane::Strangers), Dropped::Stray, Dropped::Duplicate]
    {
        dropped.count(&mut counters);
    }
    let r = counters.refused;
    assert_eq!([r.contacts_full, r.strangers_full, counters.stray, counters.duplicate], [1; 4]);
}
