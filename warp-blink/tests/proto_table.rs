//! The table of enabling conditions: every command and every message in every state of a call, and what it does.
//!
//! `proto_table.txt` is the table, to be read and reviewed; the test holds the machine to it. A command that is
//! refused leaves the machine equal, and whatever the table calls nothing leaves all that an app can see as it was.

#![allow(clippy::unwrap_used)] // helpers of tests fail as tests do

mod proto_kit;

use proto_kit::{A, B, Pair, SECOND, Wire, call_id, create, effect_name, identities, offer, plain, said};
use warp_blink::{
    config::{Admission, Config},
    event::Snapshot,
    id::{CallId, Identity, NodeId, NodeKey, PublicKey},
    proto::{
        Arrived, Command, Input, LinkId, MediaInput, Other, SessionNo, TopicRef,
        signal::{
            Announce, AppData, Binding, Body, CallBody, Candidate, Description, DescriptionKind, Epoch,
            EpochId, Fingerprint, Gone, Hello, HelloKind, KeyHash, Lane, MediaFormat, Packet, Progress,
            Record, RecordKind, Roll, SUITE_CLASSICAL, Status, Sync, VERSION, Welcome,
        },
    },
    stats::Counters,
    time::UnixTime,
};

/// The call that the states speak of.
const CALL: u8 = 1;

/// How a machine gets into a state, and the side to look at.
type Reach = fn() -> (Pair, usize);

/// The states.
const STATES: [(&str, Reach); 13] = [
    ("no call", || (plain(), A)),
    ("outgoing, unanswered", || {
        let mut pair = plain();
        pair.hold = |_, w| matches!(w, Wire::Welcome(..));
        pair.ring();
        (pair, A)
    }),
    ("outgoing, ringing", || {
        let mut pair = plain();
        pair.ring();
        (pair, A)
    }),
    ("arriving", || {
        let mut pair = plain();
        pair.hold = |_, w| matches!(w, Wire::Packet(..));
        pair.ring();
        (pair, B)
    }),
    ("incoming", || {
        let mut pair = plain();
        pair.ring();
        (pair, B)
    }),
    ("active, ours", || {
        let mut pair = plain();
        pair.connected();
        (pair, A)
    }),
    ("active, theirs", || {
        let mut pair = plain();
        pair.connected();
        (pair, B)
    }),
    ("active, held", || {
        let mut pair = plain();
        let call = pair.connected();
        pair.ask(B, Command::Hold { call }).unwrap();
        (pair, B)
    }),
    ("left", || {
        let mut pair = plain();
        let call = pair.connected();
        pair.ask(B, Command::Leave { call }).unwrap();
        (pair, B)
    }),
    ("active, of three, made here", || {
        let (room, _) = Pair::conference(3, &Config::default());
        (room, A)
    }),
    ("active, of three, made by the other", || {
        let (room, _) = Pair::conference(3, &Config::default());
        (room, B)
    }),
    ("leaving", || {
        let mut pair = plain();
        let call = pair.connected();
        pair.ask(A, Command::HangUp { call }).unwrap();
        (pair, B)
    }),
    ("shutting down", || {
        let mut pair = plain();
        pair.connected();
        pair.hold = |_, _| true;
        pair.ask(B, Command::Shutdown).unwrap();
        (pair, B)
    }),
];

/// What is put in: a name, and the input for that pair and side.
type Row = (String, Input);

fn hello(kind: HelloKind, call: CallId, from: PublicKey, node: NodeId) -> Input {
    Input::Hello(Box::new(Arrived::new(Hello {
        kind,
        from,
        node,
        call,
        sent_at: UnixTime::from_millis(5),
        ring_ms: 60_000,
        versions: vec![VERSION],
        suites: vec![SUITE_CLASSICAL],
        media: MediaFormat::default(),
        app_data: AppData::default(),
    })))
}

fn commands(pair: &Pair, side: usize) -> Vec<Row> {
    let (call, none, third) = (call_id(CALL), call_id(7), identities(3).remove(2).public());
    let far = Identity::from_seed([9; 32]).public();
    let invite = |call, peer| Command::Invite {
        call,
        to: vec![peer],
        app_data: AppData::default(),
        sent_at: UnixTime::default(),
    };
    let two = Command::Offer {
        call: call_id(2),
        create: create(pair.key(side)),
        to: vec![third, pair.key(1 - side)],
        app_data: AppData::default(),
        sent_at: UnixTime::default(),
    };
    let nobody = Command::Offer {
        call: call_id(2),
        create: create(pair.key(side)),
        to: vec![],
        app_data: AppData::default(),
        sent_at: UnixTime::default(),
    };
    let rows = [
        ("Offer", offer(call_id(2), third)),
        ("Offer to nobody", nobody),
        ("Offer to oneself", offer(call_id(2), pair.key(side))),
        ("Offer to two", two),
        ("Offer of the same id", offer(call, third)),
        ("Accept", proto_kit::accept(call)),
        ("Accept of another", proto_kit::accept(none)),
        ("Decline", Command::Decline { call }),
        ("Decline of another", Command::Decline { call: none }),
        ("Cancel", Command::Cancel { call }),
        ("Cancel of another", Command::Cancel { call: none }),
        ("Leave", Command::Leave { call }),
        ("Leave of another", Command::Leave { call: none }),
        ("Rejoin", Command::Rejoin { call, other: Other::End }),
        ("Invite", invite(call, far)),
        ("Invite of the other side", invite(call, pair.key(1 - side))),
        ("Invite of oneself", invite(call, pair.key(side))),
        ("Remove", Command::Remove { call, peer: pair.key(1 - side) }),
        ("Remove of a third", Command::Remove { call, peer: far }),
        ("Export", Command::Export { call, peer: pair.key(1 - side) }),
        ("AskTurn of the other side", Command::AskTurn { call: none, friend: pair.key(1 - side) }),
        ("AskTurn under the call's name", Command::AskTurn { call, friend: pair.key(1 - side) }),
        ("Hold", Command::Hold { call }),
        ("Unhold", Command::Unhold { call, other: Other::End }),
        ("Resume", Command::Resume { call: none, sent_at: UnixTime::default(), other: Other::End }),
        ("HangUp", Command::HangUp { call }),
        ("HangUp of another", Command::HangUp { call: none }),
        ("SetMuted", Command::SetMuted(true)),
        ("SetDeafened", Command::SetDeafened(true)),
        ("SetRecording", Command::SetRecording(true)),
        ("AddContact", Command::AddContact(pair.key(1 - side))),
        ("AddContact of oneself", Command::AddContact(pair.key(side))),
        ("RemoveContact of none", Command::RemoveContact(third)),
        ("Block", Command::Block(pair.key(1 - side))),
        ("Block of a third", Command::Block(third)),
        ("Unblock", Command::Unblock(third)),
        ("SetAdmission", Command::SetAdmission(Admission::Contacts)),
        ("Shutdown", Command::Shutdown),
    ];
    rows.into_iter().map(|(name, command)| (format!("command {name}"), command.into())).collect()
}

fn first_messages(pair: &Pair, side: usize) -> Vec<Row> {
    let (call, other) = (call_id(CALL), call_id(7));
    let (peer, own) = (pair.key(1 - side), pair.key(side));
    let stranger = &identities(3)[2];
    let node = NodeKey::from(stranger).node_id();
    let from_peer = |kind| hello(kind, call, peer, node);
    let mut rows: Vec<(String, Input)> = vec![
        ("hello Offer".into(), from_peer(HelloKind::Offer)),
        ("hello Cancel".into(), from_peer(HelloKind::Cancel)),
        ("hello Pair".into(), from_peer(HelloKind::Pair)),
        ("hello Resume".into(), from_peer(HelloKind::Resume)),
        ("hello Missed".into(), from_peer(HelloKind::Missed)),
        ("hello Turn".into(), from_peer(HelloKind::Turn)),
        ("hello Offer of another call".into(), hello(HelloKind::Offer, other, peer, node)),
        ("hello Cancel of another call".into(), hello(HelloKind::Cancel, other, peer, node)),
        (
            "hello Offer of this call by a stranger".into(),
            hello(HelloKind::Offer, call, stranger.public(), node),
        ),
        (
            "hello Cancel of this call by a stranger".into(),
            hello(HelloKind::Cancel, call, stranger.public(), node),
        ),
        ("hello Offer by oneself".into(), hello(HelloKind::Offer, other, own, node)),
        ("hello again".into(), Input::HelloAgain { call, from: peer, session: SessionNo(1) }),
        (
            "hello again by a stranger".into(),
            Input::HelloAgain { call, from: stranger.public(), session: SessionNo(1) },
        ),
    ];
    for status in
        [Status::Open, Status::Busy, Status::Incompatible, Status::Cancelled, Status::Version, Status::Suite]
    {
        let session = SessionNo(1);
        let welcome = Welcome { node, version: VERSION, suite: SUITE_CLASSICAL, status };
        rows.push((
            format!("welcome {status:?}"),
            Input::Welcome { call, from: peer, session, welcome: welcome.clone() },
        ));
        rows.push((
            format!("welcome {status:?} by a stranger"),
            Input::Welcome { call, from: stranger.public(), session, welcome },
        ));
    }
    rows
}

/// The sequence number that the other side would use next.
fn next_seq(pair: &Pair, side: usize) -> u32 {
    pair.sides[1 - side].log.iter().filter_map(said).map(|(.., packet)| packet.seq).max().unwrap_or(0) + 1
}

/// The creator removes that one.
fn removes(creator: PublicKey, subject: PublicKey) -> Roll {
    let record = Record { subject, number: 9, kind: RecordKind::Remove, by: creator };
    Roll { create: create(creator), records: vec![record] }
}

/// A key of that number which nobody has heard of.
fn key(n: u32, gone: Vec<Gone>) -> Epoch {
    Epoch { id: EpochId { n, key: KeyHash([9; 16]) }, gone }
}

fn session_messages(pair: &Pair, side: usize) -> Vec<Row> {
    let (call, peer, seq) = (call_id(CALL), pair.key(1 - side), next_seq(pair, side));
    let stranger = identities(3)[2].public();
    let session = SessionNo(1);
    let listens = |t: &TopicRef| matches!(t, TopicRef::Call { .. });
    let epoch =
        if pair.sides[side].topics.iter().any(listens) { pair.epoch(side, call) } else { EpochId::default() };
    let describe = |kind| Body::Description(Description { kind, text: "sdp".into() });
    let mut wide = MediaFormat::default();
    wide.channels = 2;
    let bodies = [
        ("Confirm", Body::Confirm),
        ("Ringing", Body::Ringing),
        ("Accept", Body::Accept(MediaFormat::default())),
        ("Accept that widens", Body::Accept(wide)),
        ("Decline", Body::Decline),
        ("Busy", Body::Busy),
        ("Cancel", Body::Cancel),
        ("HangUp", Body::HangUp),
        ("TimedOut", Body::TimedOut),
        ("CallKey 2", Body::CallKey(key(2, vec![]))),
        ("CallKey 1 of another", Body::CallKey(key(1, vec![]))),
        ("offer of the link", describe(DescriptionKind::Offer)),
        ("answer of the link", describe(DescriptionKind::Answer)),
        ("candidate", Body::Candidate(Candidate { text: "c".into() })),
        ("end of candidates", Body::EndOfCandidates),
        ("Roll", Body::Roll(Roll { create: create(pair.key(0)), records: Vec::new() })),
        ("Roll of another call", Body::Roll(Roll { create: create(stranger), records: Vec::new() })),
        ("Roll that removes", Body::Roll(removes(pair.key(0), pair.key(side)))),
        ("Sync", Body::Sync(Sync::default())),
        ("Removed", Body::Removed),
        ("Here", Body::Here),
        ("LinkLost", Body::LinkLost),
        ("Again", Body::Again),
        ("Incompatible", Body::Incompatible),
        ("Token", Body::Token),
        ("KemKey", Body::KemKey),
    ];
    let packet =
        |seq, generation, body| Box::new(Packet { seq, ack: 0, ack_bits: 0, call, generation, body });
    let mut rows: Vec<Row> = bodies
        .into_iter()
        .map(|(name, body)| {
            let generation =
                u32::from(matches!(body, Body::Description(_) | Body::Candidate(_) | Body::EndOfCandidates));
            (
                format!("packet {name}"),
                Input::Packet { from: peer, session, packet: packet(seq, generation, body) },
            )
        })
        .collect();
    rows.extend([
        ("packet Ack".into(), Input::Packet { from: peer, session, packet: packet(0, 0, Body::Ack) }),
        ("packet again".into(), Input::Packet { from: peer, session, packet: packet(1, 0, Body::HangUp) }),
        (
            "packet too far ahead".into(),
            Input::Packet { from: peer, session, packet: packet(900, 0, Body::HangUp) },
        ),
        (
            "packet of no session".into(),
            Input::Packet { from: peer, session: SessionNo(7), packet: packet(seq, 0, Body::HangUp) },
        ),
        (
            "packet by a stranger".into(),
            Input::Packet { from: stranger, session, packet: packet(seq, 0, Body::HangUp) },
        ),
    ]);
    let link = pair.sides[side].links.first().copied().unwrap_or(LinkId { call, peer, generation: 1 });
    let [own, there] = [pair.key(side), peer].map(|key| Fingerprint(*key.as_bytes()));
    let over = |link, packet| Input::PacketOnLink { link, session, packet };
    let bound =
        |own, remote, progress| packet(0, link.generation, Body::Bound(Binding { own, remote, progress }));
    rows.extend([
        ("link: Bound".into(), over(link, bound(there, own, Progress::Alone))),
        ("link: Bound, heard".into(), over(link, bound(there, own, Progress::Heard))),
        ("link: Bound, done".into(), over(link, bound(there, own, Progress::Done))),
        ("link: Bound to another certificate".into(), over(link, bound(own, there, Progress::Done))),
        (
            "link: Bound of another generation".into(),
            over(LinkId { generation: link.generation + 1, ..link }, bound(there, own, Progress::Done)),
        ),
        (
            "packet Bound".into(),
            Input::Packet { from: peer, session, packet: bound(own, there, Progress::Done) },
        ),
        ("link: HangUp".into(), over(link, packet(seq, 0, Body::HangUp))),
        (
            "link: of another call".into(),
            over(LinkId { call: call_id(7), ..link }, packet(seq, 0, Body::HangUp)),
        ),
        ("link: channel opens".into(), Input::Media(MediaInput::Secured { link, own, remote: there })),
    ]);
    let mut announce = Announce::default();
    (announce.version, announce.joined, announce.muted) = (9, true, true);
    for (name, from, epoch, body) in [
        ("Announce", peer, epoch, CallBody::Announce(announce)),
        ("Announce, old", peer, epoch, CallBody::Announce(Announce::default())),
        ("Announce, other epoch", peer, key(2, vec![]).id, CallBody::Announce(announce)),
        ("Announce by a stranger", stranger, epoch, CallBody::Announce(announce)),
        ("Leave", peer, epoch, CallBody::Leave),
        ("Leave, other epoch", peer, key(2, vec![]).id, CallBody::Leave),
        ("Leave by a stranger", stranger, epoch, CallBody::Leave),
    ] {
        rows.push((format!("call {name}"), Input::CallMessage { call, epoch, from, body }));
    }
    for (name, topic) in [
        ("inbox", TopicRef::Inbox { owner: peer, lane: Lane::Strangers }),
        ("contacts inbox", TopicRef::Inbox { owner: peer, lane: Lane::Contacts }),
        ("peer topic", TopicRef::Peer { call, owner: peer }),
        ("call topic", TopicRef::Call { call, epoch }),
    ] {
        rows.push((format!("subscribed to {name}"), Input::PeerSubscribed(topic)));
    }
    rows.push(("tick".into(), Input::Tick));
    rows
}

/// Which counters rose.
fn counted(before: Counters, after: Counters) -> String {
    let all = [
        ("duplicate", after.duplicate - before.duplicate),
        ("unexpected", after.unexpected - before.unexpected),
        ("late", after.late - before.late),
        ("refused", after.refused.total() - before.refused.total()),
    ];
    let risen: Vec<_> = all.iter().filter(|(_, n)| *n > 0).map(|(name, n)| format!("{name} +{n}")).collect();
    if risen.is_empty() { "nothing".into() } else { risen.join(", ") }
}

fn visible(snapshot: &Snapshot) -> Snapshot {
    let mut visible = snapshot.clone();
    visible.statistics.counters = Counters::default();
    // What the app itself says of its recording needs no effect while nobody is there to be told.
    visible.local.recording = false;
    visible
}

/// One line of the table: what this input does in this state.
fn line(state: Reach, row: impl Fn(&Pair, usize) -> Row) -> (String, String) {
    let (mut pair, side) = state();
    // Out of the time in which an acknowledgement waits for company.
    pair.pass(SECOND / 2);
    let (name, input) = row(&pair, side);
    let before = pair.sides[side].machine.snapshot();
    let what = match pair.input(side, input) {
        Err(rejected) => {
            let rejected = format!("{rejected:?}");
            format!("refused: {}", rejected.split('(').next().unwrap_or_default())
        }
        Ok(effects) => {
            let after = pair.sides[side].machine.snapshot();
            let effects: Vec<_> = effects.iter().map(effect_name).filter(|name| name != "send Ack").collect();
            if effects.is_empty() {
                let (before, after) = (visible(&before), visible(&after));
                // A confirmation is the one thing that shows in a timeline without any effect.
                assert_eq!(before, after, "{name} has no effect and yet changes what is seen");
            }
            if effects.is_empty() {
                counted(before.statistics.counters, after.statistics.counters)
            } else {
                effects.join(", ")
            }
        }
    };
    (name, what)
}

#[test]
fn every_input_does_in_every_state_what_the_table_says() {
    let mut table = String::new();
    for (name, state) in STATES {
        table += &format!("\n== {name}\n");
        for rows in [commands, first_messages, session_messages] {
            let (pair, side) = state();
            for n in 0..rows(&pair, side).len() {
                let (input, what) = line(state, |pair, side| rows(pair, side).swap_remove(n));
                table += &format!("{input:<42}{what}\n");
            }
        }
    }
    let wanted = include_str!("proto_table.txt");
    for (n, (is, should)) in table.trim().lines().zip(wanted.trim().lines()).enumerate() {
        assert_eq!(is, should, "line {} of proto_table.txt; the whole table now:\n{table}", n + 1);
    }
    assert_eq!(table.trim().lines().count(), wanted.trim().lines().count(), "{table}");
}
