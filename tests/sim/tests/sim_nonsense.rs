//! One machine and arbitrary inputs: whatever arrives in whatever order, it does not panic, its invariants hold, each
//! effect is sane, and in the end it comes to rest.

#![allow(clippy::unwrap_used)] // helpers of tests fail as tests do

mod words;

use std::{collections::BTreeSet, time::Duration};

use proptest::prelude::*;
use warp_blink::{
    config::{Admission, Config, PreConnect, WhenBusy},
    event::{Event, Findable, NodeState, Step, Via, Warning},
    id::{CallId, Identity, NodeKey, PublicKey},
    proto::{
        Arrived, Command, EffectId, EffectKind, EngineLink, Input, Known, LinkCommand, LinkId, Machine,
        MediaInput, Notice, Outcome, ReplayMemory, Saved, SessionNo, TopicRef,
        signal::{
            Announce, AppData, Body, CallBody, Candidate, Description, DescriptionKind, Hello, HelloKind,
            KeyHash, Lane, MediaFormat, Packet, RollHash, SUITE_CLASSICAL, Status, Sync, VERSION, Welcome,
        },
    },
    time::{Instant, UnixTime},
};
use words::{create, epochs, others, rolls};

/// Few keys and few calls, so that nonsense meets what is there.
fn identity(n: u8) -> Identity {
    Identity::from_seed([n % 3 + 1; 32])
}

fn key(n: u8) -> PublicKey {
    identity(n).public()
}

fn keys() -> impl Strategy<Value = PublicKey> {
    (0..3u8).prop_map(key)
}

fn call_ids() -> impl Strategy<Value = CallId> {
    prop_oneof![4 => 0..4u8, 1 => any::<u8>()].prop_map(|n| CallId::from_bytes([n; 16]))
}

fn small() -> impl Strategy<Value = u32> {
    prop_oneof![8 => 0..6u32, 1 => 0..80u32, 1 => any::<u32>(), 1 => Just(u32::MAX)]
}

fn formats() -> impl Strategy<Value = MediaFormat> {
    (any::<u8>(), 0..4u8, any::<u32>(), 0..4u8).prop_map(|(frame, channels, rate, plain)| {
        let mut media = MediaFormat::default();
        if plain == 0 {
            (media.frame_ms, media.channels, media.max_bitrate) = (frame, channels, rate);
        }
        media
    })
}

fn descriptions() -> impl Strategy<Value = Description> {
    any::<bool>().prop_map(|offer| Description {
        kind: if offer { DescriptionKind::Offer } else { DescriptionKind::Answer },
        text: "v=0".into(),
    })
}

fn bodies() -> impl Strategy<Value = Body> {
    prop_oneof![
        Just(Body::Confirm),
        Just(Body::Ringing),
        formats().prop_map(Body::Accept),
        Just(Body::Accept(MediaFormat::default())),
        Just(Body::Decline),
        Just(Body::Busy),
        Just(Body::Cancel),
        Just(Body::HangUp),
        epochs().prop_map(Body::CallKey),
        descriptions().prop_map(Body::Description),
        Just(Body::Candidate(Candidate { text: "candidate".into() })),
        Just(Body::EndOfCandidates),
        Just(Body::TimedOut),
        Just(Body::Ack),
        Just(Body::Token),
        Just(Body::KemKey),
        rolls().prop_map(Body::Roll),
        rolls().prop_map(Body::Roll),
        (any::<bool>(), small(), epochs()).prop_map(|(same, generation, epoch)| {
            let roll = RollHash([u8::from(same); 16]);
            Body::Sync(Sync { roll, epoch: epoch.id, generation })
        }),
        Just(Body::Removed),
        Just(Body::Here),
        Just(Body::LinkLost),
        small().prop_map(|_| Body::Again),
        Just(Body::Incompatible),
        keys().prop_map(Body::Where),
    ]
}

fn commands() -> impl Strategy<Value = Command> {
    prop_oneof![
        3 => (call_ids(), keys(), prop::collection::vec(keys(), 0..3)).prop_map(|(call, by, to)| Command::Offer {
            call,
            create: create(by),
            to,
            app_data: AppData::default(),
            sent_at: UnixTime::default(),
        }),
        4 => (call_ids(), others()).prop_map(|(call, other)| Command::Accept { call, other }),
        1 => call_ids().prop_map(|call| Command::Decline { call }),
        1 => call_ids().prop_map(|call| Command::Cancel { call }),
        1 => call_ids().prop_map(|call| Command::HangUp { call }),
        1 => call_ids().prop_map(|call| Command::Leave { call }),
        1 => (call_ids(), others()).prop_map(|(call, other)| Command::Rejoin { call, other }),
        2 => (call_ids(), prop::collection::vec(keys(), 0..3)).prop_map(|(call, to)| Command::Invite {
            call,
            to,
            app_data: AppData::default(),
            sent_at: UnixTime::default(),
        }),
        1 => (call_ids(), keys()).prop_map(|(call, peer)| Command::Remove { call, peer }),
        1 => (call_ids(), keys()).prop_map(|(call, peer)| Command::Export { call, peer }),
        1 => call_ids().prop_map(|call| Command::Hold { call }),
        1 => (call_ids(), others()).prop_map(|(call, other)| Command::Unhold { call, other }),
        1 => (call_ids(), small(), others()).prop_map(|(call, at, other)| {
            let sent_at = UnixTime::from_millis(if at == u32::MAX { u64::MAX } else { at.into() });
            Command::Resume { call, sent_at, other }
        }),
        1 => any::<bool>().prop_map(Command::SetRecording),
        1 => any::<bool>().prop_map(Command::SetMuted),
        1 => any::<bool>().prop_map(Command::SetDeafened),
        2 => keys().prop_map(Command::AddContact),
        1 => keys().prop_map(Command::RemoveContact),
        1 => keys().prop_map(Command::Block),
        1 => keys().prop_map(Command::Unblock),
        1 => prop_oneof![Just(Admission::Everyone), Just(Admission::Contacts)].prop_map(Command::SetAdmission),
    ]
}

fn hellos() -> impl Strategy<Value = Input> {
    let kinds = prop_oneof![
        6 => Just(HelloKind::Offer),
        2 => Just(HelloKind::Cancel),
        1 => Just(HelloKind::Pair),
        1 => Just(HelloKind::Resume),
        1 => Just(HelloKind::Missed),
    ];
    (kinds, keys(), call_ids(), small(), formats(), 0..6u8).prop_map(
        |(kind, from, call, ring_ms, media, odd)| {
            Input::Hello(Box::new(Arrived::new(Hello {
                kind,
                from,
                node: NodeKey::from(&identity(0)).node_id(),
                call,
                sent_at: UnixTime::from_millis(u64::from(ring_ms)),
                ring_ms: ring_ms.saturating_mul(10_000),
                versions: if odd == 0 { vec![] } else { vec![9, VERSION] },
                suites: vec![SUITE_CLASSICAL],
                media,
                app_data: AppData::default(),
            })))
        },
    )
}

/// Sessions: mostly the first one.
fn numbers() -> impl Strategy<Value = SessionNo> {
    prop_oneof![6 => Just(1), 2 => Just(2), 1 => 0..5u32].prop_map(SessionNo)
}

fn lanes() -> impl Strategy<Value = Lane> {
    prop_oneof![Just(Lane::Contacts), Just(Lane::Strangers)]
}

fn outcomes() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        4 => Just(Outcome::Ok),
        3 => (0..3u8).prop_map(|n| Outcome::Key(KeyHash([n; 16]))),
        2 => any::<bool>().prop_map(|same| Outcome::Roll(RollHash([u8::from(same); 16]))),
        1 => Just(Outcome::Reached(Via::Direct)),
        2 => Just(Outcome::NoPeers),
        1 => Just(Outcome::Failed("it broke".into())),
    ]
}

fn links() -> impl Strategy<Value = LinkId> {
    (call_ids(), keys(), small()).prop_map(|(call, peer, generation)| LinkId { call, peer, generation })
}

fn media() -> impl Strategy<Value = MediaInput> {
    let states = prop_oneof![
        Just(EngineLink::Checking),
        Just(EngineLink::Securing),
        Just(EngineLink::Connected),
        Just(EngineLink::Connected),
        Just(EngineLink::Disconnected),
        Just(EngineLink::Reconnecting),
        Just(EngineLink::FingerprintMismatch),
        Just(EngineLink::Failed(Step::Checking)),
        Just(EngineLink::Closed),
    ];
    let candidate = || Candidate { text: "candidate".into() };
    prop_oneof![
        2 => (links(), descriptions())
            .prop_map(|(link, description)| MediaInput::LocalDescription { link, description }),
        1 => links().prop_map(move |link| MediaInput::LocalCandidate { link, candidate: candidate() }),
        1 => links().prop_map(|link| MediaInput::GatheringDone { link }),
        5 => (links(), states).prop_map(|(link, state)| MediaInput::State { link, state }),
        1 => links().prop_map(|link| MediaInput::FirstAudio { link }),
        1 => call_ids().prop_map(|call| MediaInput::Started { call, mic_us: None, speaker_us: Some(1) }),
        1 => Just(MediaInput::Warning(Warning::ListenOnly { cause: "denied".into() })),
    ]
}

/// What is put in: an input, or the result of one of the effects that wait for theirs.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "there are a few dozen of them")]
enum Move {
    Input(Input),
    /// The result of the effect at this place among those that wait, counted around.
    Done(usize, Outcome),
    /// The result of an effect that had its result already.
    DoneAgain,
}

fn moves() -> impl Strategy<Value = Move> {
    let statuses = prop_oneof![
        3 => Just(Status::Open),
        1 => Just(Status::Busy),
        1 => Just(Status::Incompatible),
        1 => Just(Status::Cancelled),
        1 => Just(Status::Version),
        1 => Just(Status::Suite),
    ];
    let welcome =
        (call_ids(), keys(), statuses, 0..9u8, numbers()).prop_map(|(call, from, status, odd, session)| {
            let node = NodeKey::from(&identity(0)).node_id();
            let version = if odd == 0 { 200 } else { VERSION };
            Input::Welcome {
                call,
                from,
                session,
                welcome: Welcome { node, version, suite: SUITE_CLASSICAL, status },
            }
        });
    let packet = (keys(), call_ids(), (small(), small(), any::<u32>()), small(), bodies(), numbers())
        .prop_map(|(from, call, (seq, ack, ack_bits), generation, body, session)| {
            let packet = Box::new(Packet { seq, ack, ack_bits, call, generation, body });
            Input::Packet { from, session, packet }
        });
    let call_message = (call_ids(), epochs(), keys(), any::<u64>(), any::<bool>(), 0..4u8).prop_map(
        |(call, epoch, from, version, muted, leave)| {
            let mut announce = Announce::default();
            (announce.version, announce.muted) = (version, muted);
            let body = if leave == 0 { CallBody::Leave } else { CallBody::Announce(announce) };
            Input::CallMessage { call, epoch: epoch.id, from, body }
        },
    );
    let topics = prop_oneof![
        (keys(), lanes()).prop_map(|(owner, lane)| TopicRef::Inbox { owner, lane }),
        (call_ids(), keys()).prop_map(|(call, owner)| TopicRef::Peer { call, owner }),
        (call_ids(), epochs()).prop_map(|(call, epoch)| TopicRef::Call { call, epoch: epoch.id }),
    ];
    let input = prop_oneof![
        5 => commands().prop_map(Input::Command),
        6 => hellos(),
        1 => (call_ids(), keys(), numbers()).prop_map(|(call, from, session)| Input::HelloAgain { call, from, session }),
        4 => welcome,
        12 => packet,
        2 => call_message,
        1 => topics.prop_map(Input::PeerSubscribed),
        1 => Just(Input::Node(NodeState::Offline { cause: "no network".into() })),
        1 => Just(Input::Findable(Findable::NotStored)),
        6 => media().prop_map(Input::Media),
        2 => Just(Input::Tick),
        1 => (call_ids(), rolls()).prop_map(|(call, roll)| {
            let saved = Saved::new(call, roll, MediaFormat::default(), RollHash::default());
            Input::Saved(Box::new(saved))
        }),
        1 => (call_ids(), keys(), small()).prop_map(|(call, to, at)| {
            Input::Notice(Notice::new(to, call, UnixTime::from_millis(at.into())))
        }),
        1 => any::<u64>().prop_map(|at| Input::Clock(UnixTime::from_millis(at))),
        1 => (keys(), any::<bool>(), any::<bool>())
            .prop_map(|(peer, token, kem)| Input::Known { peer, known: Known::new(token, kem) }),
    ];
    prop_oneof![
        8 => input.prop_map(Move::Input),
        4 => (any::<usize>(), outcomes()).prop_map(|(n, outcome)| Move::Done(n, outcome)),
        1 => Just(Move::DoneAgain),
    ]
}

/// What the effects so far have opened and not closed.
#[derive(Default)]
struct Held {
    topics: BTreeSet<TopicRef>,
    links: BTreeSet<LinkId>,
    audio: Option<CallId>,
    ended: BTreeSet<CallId>,
    waiting: Vec<EffectId>,
    done: Option<EffectId>,
}

impl Held {
    fn take(&mut self, effect: warp_blink::proto::Effect) {
        let (id, kind) = (effect.id, effect.kind);
        match kind {
            EffectKind::Emit(event) => {
                let call = match &event {
                    Event::Ended { call, .. } => {
                        assert!(self.ended.insert(*call), "{call} ended twice");
                        None
                    }
                    Event::Offering { call, .. } | Event::Incoming { call, .. } => Some(call),
                    Event::Ringing { call, .. } | Event::Accepted { call, .. } => Some(call),
                    Event::Link { call, .. } | Event::Participant { call, .. } => Some(call),
                    Event::FirstAudio { call, .. } | Event::MediaStarted { call, .. } => Some(call),
                    _ => None,
                };
                // An invitation, or coming back, begins the call anew.
                if let Event::Incoming { call, .. } | Event::Rejoined { call } = &event {
                    self.ended.remove(call);
                }
                assert!(call.is_none_or(|c| !self.ended.contains(c)), "after its end: {event:?}");
                return;
            }
            EffectKind::Subscribe(topic) => assert!(self.topics.insert(topic), "{topic:?} twice"),
            EffectKind::Unsubscribe(topic) => assert!(self.topics.remove(&topic), "{topic:?} not there"),
            EffectKind::OpenAudio { call, .. } => assert_eq!(self.audio.replace(call), None),
            EffectKind::CloseAudio { call } => assert_eq!(self.audio.take(), Some(call)),
            EffectKind::Link { link, command } => match command {
                LinkCommand::Dial | LinkCommand::Accept(_) => {
                    assert!(self.links.iter().all(|l| l.peer != link.peer), "a second link to a peer");
                    self.links.insert(link);
                }
                LinkCommand::Close => assert!(self.links.remove(&link), "{link:?} is not open"),
                _ => assert!(self.links.contains(&link), "{link:?} is not open"),
            },
            _ => {}
        }
        self.waiting.push(id);
    }
}

fn configs() -> impl Strategy<Value = Config> {
    (any::<bool>(), any::<bool>(), prop_oneof![Just(0usize), Just(1), Just(16), Just(1000)]).prop_map(
        |(early, reject, max_pending)| {
            let mut config = Config::default();
            config.pre_connect = if early { PreConnect::Always } else { PreConnect::Contacts };
            config.when_busy = if reject { WhenBusy::Reject } else { WhenBusy::Pend };
            config.max_pending = max_pending;
            config
        },
    )
}

/// Lives through the moves, with these pauses in milliseconds between them, and then lets everything run out.
fn live(config: Config, own: u8, moves: Vec<(u16, Move)>) {
    let identity = identity(own);
    let mut machine = Machine::new(config, identity.public(), NodeKey::from(&identity).node_id())
        .with_memory(ReplayMemory::restored(UnixTime::default(), []));
    let mut held = Held::default();
    machine.start().into_iter().for_each(|e| held.take(e));
    let mut now = Instant::from_micros(1);
    let step = |machine: &mut Machine, held: &mut Held, now: Instant, input: Input| {
        let before = machine.clone();
        let command = matches!(input, Input::Command(_));
        match machine.handle(now, input) {
            Ok(effects) => effects.into_iter().for_each(|e| held.take(e)),
            Err(_) => {
                assert!(command, "only a command is refused");
                assert_eq!(*machine, before);
            }
        }
        machine.check(now).unwrap();
        assert!(machine.next_timeout().is_none_or(|t| t > now), "a timeout that is over already");
        assert_eq!(machine.snapshot().local.open, held.audio.is_some());
    };
    let pass = |machine: &mut Machine, held: &mut Held, now: &mut Instant, until: Instant| {
        while let Some(t) = machine.next_timeout().filter(|t| *t <= until) {
            *now = t;
            step(machine, held, t, Input::Tick);
        }
        *now = until;
    };
    for (pause, action) in moves {
        let until = now + Duration::from_millis(pause.into());
        pass(&mut machine, &mut held, &mut now, until);
        let input = match action {
            Move::Input(input) => input,
            Move::Done(_, _) if held.waiting.is_empty() => continue,
            Move::Done(n, outcome) => {
                let effect = held.waiting.swap_remove(n % held.waiting.len());
                held.done = Some(effect);
                Input::Done { effect, outcome }
            }
            Move::DoneAgain => match held.done {
                Some(effect) => Input::Done { effect, outcome: Outcome::NoPeers },
                None => continue,
            },
        };
        step(&mut machine, &mut held, now, input);
    }
    step(&mut machine, &mut held, now, Command::Shutdown.into());
    assert_eq!((held.audio, &held.links), (None, &BTreeSet::new()));
    let until = now + Duration::from_secs(600);
    pass(&mut machine, &mut held, &mut now, until);
    assert!(machine.is_idle());
    assert_eq!(machine.next_timeout(), None);
    assert_eq!(held.topics, BTreeSet::new());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_inputs_do_no_harm(
        config in configs(),
        own in 0..3u8,
        moves in prop::collection::vec((prop_oneof![4 => 0..30u16, 2 => 0..3000u16, 1 => any::<u16>()], moves()), 0..200),
    ) {
        live(config, own, moves);
    }

    /// The same with calls that get somewhere first: nonsense in the middle of a call.
    #[test]
    fn arbitrary_inputs_in_the_middle_of_a_call_do_no_harm(
        config in configs(),
        own in 0..3u8,
        accepted in any::<bool>(),
        moves in prop::collection::vec((0..2000u16, moves()), 0..100),
    ) {
        let peer = key(own + 1);
        let call = CallId::from_bytes([0; 16]);
        let packet = |seq, body| {
            let packet = Box::new(Packet { seq, ack: 0, ack_bits: 0, call, generation: 0, body });
            (10, Move::Input(Input::Packet { from: peer, session: SessionNo(1), packet }))
        };
        let node = NodeKey::from(&identity(own + 1)).node_id();
        let welcome = Welcome { node, version: VERSION, suite: SUITE_CLASSICAL, status: Status::Open };
        let mut start = vec![
            (0, Move::Input(Command::Offer {
                call,
                create: create(key(own)),
                to: vec![peer],
                app_data: AppData::default(),
                sent_at: UnixTime::default(),
            }.into())),
            (10, Move::Input(Input::Welcome { call, from: peer, session: SessionNo(1), welcome })),
            packet(1, Body::Ringing),
        ];
        if accepted {
            start.push(packet(2, Body::Accept(MediaFormat::default())));
        }
        start.extend(moves);
        live(config, own, start);
    }

    /// A crowd of strangers: more calls than there is room for.
    #[test]
    fn a_crowd_stays_within_the_bounds(
        config in configs(),
        crowd in prop::collection::vec((any::<u8>(), 1..3u8, 0..4u8), 0..300),
    ) {
        let moves = crowd.into_iter().map(|(n, from, what)| {
            let (call, from) = (CallId::from_bytes([n; 16]), key(from));
            let node = NodeKey::from(&identity(1)).node_id();
            let input = match what {
                0 | 1 => Input::Hello(Box::new(Arrived::new(Hello {
                    kind: HelloKind::Offer,
                    from,
                    node,
                    call,
                    sent_at: UnixTime::default(),
                    ring_ms: 60_000,
                    versions: vec![VERSION],
                    suites: vec![SUITE_CLASSICAL],
                    media: MediaFormat::default(),
                    app_data: AppData::default(),
                }))),
                2 => {
                    let packet = Packet { seq: 1, ack: 0, ack_bits: 0, call, generation: 0, body: Body::Confirm };
                    Input::Packet { from, session: SessionNo(1), packet: Box::new(packet) }
                }
                _ => Command::Offer {
                    call,
                    create: create(key(0)),
                    to: vec![from],
                    app_data: AppData::default(),
                    sent_at: UnixTime::default(),
                }.into(),
            };
            (1, Move::Input(input))
        });
        live(config, 0, moves.collect());
    }
}
