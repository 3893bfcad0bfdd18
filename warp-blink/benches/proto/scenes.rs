//! Machines in the states that are measured, and what is said to them.

use std::{sync::LazyLock, time::Duration};

use warp_blink::{
    config::{Config, PreConnect},
    id::{CallId, Identity, PublicKey},
    proto::{
        Command, Input, LinkId, Machine, SessionNo,
        signal::{
            Announce, Body, CallBody, Candidate, Description, DescriptionKind, Epoch, EpochId, HelloKind,
            KeyHash, MediaFormat, Packet, Record, RecordKind, Roll, RollHash, Sync,
        },
    },
    time::Instant,
};

use crate::proto_kit::{DESCRIPTION, Pair, SECOND, feed_alone, first_message, packet};

/// A machine in an active call in which nothing is on its way: that of the smallest key, to which all others offer links.
/// The largest key has called everybody.
pub(crate) struct Active {
    pub(crate) machine: Machine,
    pub(crate) now: Instant,
    pub(crate) call: CallId,
    /// Who called.
    pub(crate) creator: PublicKey,
    /// The link to them.
    pub(crate) link: LinkId,
    epoch: EpochId,
    announced: Announce,
    roll: Roll,
    session: SessionNo,
    /// The last message of theirs that has a number.
    last: Packet,
}

pub(crate) static TWO: LazyLock<Active> = LazyLock::new(|| Active::of(2, Config::default()));
pub(crate) static SIXTEEN: LazyLock<Active> = LazyLock::new(|| Active::of(16, Config::default()));

/// The call of two, and 63 others that ring: as many calls as there can be.
pub(crate) static CROWD: LazyLock<Active> = LazyLock::new(|| {
    let mut config = Config::default();
    config.max_pending = usize::MAX;
    // The callers of these are nobody, so nobody answers to a link.
    config.pre_connect = PreConnect::Never;
    let mut active = Active::of(2, config);
    for n in 0..63 {
        let caller = Identity::from_seed([100 + n; 32]);
        let from = caller.public();
        active.put(Command::AddContact(from).into());
        active.put(Input::Hello(Box::new(first_message(&caller, 100 + n, HelloKind::Offer))));
        for (seq, ack) in [(1, 0), (2, 1)] {
            let mut packet = packet(100 + n, seq, Body::Confirm);
            packet.ack = ack;
            active.put(Input::Packet { from, session: SessionNo(1), packet });
        }
    }
    active.now = active.now + Duration::from_millis(100);
    active.put(Input::Tick);
    assert_eq!(active.machine.snapshot().calls.len(), 64);
    active
});

/// What the other side can say in a session, in the order of their numbers; and again, what changes something.
pub(crate) const SAID: [&str; 26] = [
    "confirm",
    "ringing",
    "accept",
    "decline",
    "busy",
    "cancel",
    "hang_up",
    "call_key",
    "description",
    "candidate",
    "end_of_candidates",
    "timed_out",
    "ack",
    "link_lost",
    "incompatible",
    "again",
    "token",
    "kem_key",
    "roll",
    "sync",
    "removed",
    "here",
    "where",
    "call_key_new",
    "roll_new",
    "sync_old",
];

impl Active {
    fn of(n: u8, config: Config) -> Self {
        let mut room = Pair::many(n, &config);
        let call = room.join_all();
        // What the last announce has caused is over, and the next one is not yet due.
        room.pass(20 * SECOND);
        room.assert_joined(&(0..usize::from(n)).collect::<Vec<_>>(), call);
        let (trace, creator) = (room.recorded(), room.key(usize::from(n) - 1));
        let (session, last) = trace.last_of(0, creator);
        let last = last.clone();
        let said = |wanted: &dyn Fn(&Input) -> bool| trace.of(0).map(|(_, i)| i).filter(|i| wanted(i)).last();
        let roll =
            said(&|i| matches!(i, Input::Packet { packet, .. } if matches!(packet.body, Body::Roll(_))));
        let Some(Input::Packet { packet, .. }) = roll else { unreachable!("all are told who belongs to it") };
        let Body::Roll(roll) = packet.body.clone() else { unreachable!("it was looked for") };
        let announced = said(
            &|i| matches!(i, Input::CallMessage { from, body: CallBody::Announce(_), .. } if *from == creator),
        );
        let Some(Input::CallMessage { epoch, body: CallBody::Announce(announced), .. }) = announced else {
            unreachable!("all announce themselves")
        };
        let (epoch, announced) = (*epoch, *announced);
        let link = *room.sides[0].links.iter().find(|l| l.peer == creator).unwrap();
        let machine = trace.replay(0);
        assert_eq!(machine, room.sides[0].machine, "the same but for the length of descriptions");
        Self { machine, now: room.now, call, creator, link, epoch, announced, roll, session, last }
    }

    /// Puts this in, with the good end of each effect.
    fn put(&mut self, input: Input) {
        feed_alone(&mut self.machine, self.now, input);
    }

    /// The next message of whoever called, of this kind.
    pub(crate) fn packet(&self, said: &str) -> Input {
        let mut packet = Packet { seq: self.last.seq + 1, generation: 0, ..self.last.clone() };
        packet.body = self.body(said);
        match said {
            "ack" => packet.seq = 0,
            "description" => packet.generation = self.link.generation + 1,
            "candidate" | "end_of_candidates" | "again" => packet.generation = self.link.generation,
            _ => {}
        }
        Input::Packet { from: self.creator, session: self.session, packet: Box::new(packet) }
    }

    fn body(&self, said: &str) -> Body {
        let sync = |epoch| Sync { roll: self.announced.roll, epoch, generation: self.link.generation };
        let other = EpochId { n: self.epoch.n + 1, key: KeyHash([9; 16]) };
        match said {
            "confirm" => Body::Confirm,
            "ringing" => Body::Ringing,
            "accept" => Body::Accept(MediaFormat::default()),
            "decline" => Body::Decline,
            "busy" => Body::Busy,
            "cancel" => Body::Cancel,
            "hang_up" => Body::HangUp,
            "call_key" => Body::CallKey(Epoch { id: self.epoch, gone: Vec::new() }),
            "call_key_new" => Body::CallKey(Epoch { id: other, gone: Vec::new() }),
            "description" => {
                Body::Description(Description { kind: DescriptionKind::Offer, text: "x".repeat(DESCRIPTION) })
            }
            "candidate" => {
                let text = "candidate:1 1 udp 2130706431 192.0.2.1 50000 typ host".to_owned();
                Body::Candidate(Candidate { text })
            }
            "end_of_candidates" => Body::EndOfCandidates,
            "timed_out" => Body::TimedOut,
            "ack" => Body::Ack,
            "link_lost" => Body::LinkLost,
            "incompatible" => Body::Incompatible,
            "again" => Body::Again,
            "token" => Body::Token,
            "kem_key" => Body::KemKey,
            "roll" => Body::Roll(self.roll.clone()),
            "roll_new" => {
                let subject = Identity::from_seed([99; 32]).public();
                let record = Record { subject, number: 1, kind: RecordKind::Add, by: self.creator };
                let mut roll = self.roll.clone();
                roll.records.push(record);
                Body::Roll(roll)
            }
            "sync" => Body::Sync(sync(self.epoch)),
            "sync_old" => Body::Sync(Sync { roll: RollHash([9; 16]), ..sync(other) }),
            "removed" => Body::Removed,
            "here" => Body::Here,
            "where" => Body::Where(self.creator),
            _ => unreachable!("no message of that name: {said}"),
        }
    }

    /// Whoever called repeats what it does, or says something new of it.
    pub(crate) fn announce(&self, news: bool) -> Input {
        let mut announce = self.announced;
        if news {
            announce.version += 1;
            announce.muted = !announce.muted;
        }
        let body = CallBody::Announce(announce);
        Input::CallMessage { call: self.call, epoch: self.epoch, from: self.creator, body }
    }

    /// When the machine wants to tell the others what it does.
    pub(crate) fn announces_at(&self) -> Instant {
        self.machine.next_timeout().unwrap()
    }
}
