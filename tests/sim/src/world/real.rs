//! The real bytes. In some worlds every signal is sealed as it is on the wire, with real identities and in real sessions,
//! and opened at the other end.
//!
//! Who can open what is still decided by the names in the vaults. Here the bytes must agree with them: what a side may
//! seal can be sealed, within the bounds of the codec; what the other side may open opens, to the same contents; a door
//! that is not the right one stays shut. What gossip and sessions take for repeated is dropped here.

use std::{
    collections::BTreeMap,
    fmt::{Debug, Display},
    rc::Rc,
    sync::LazyLock,
};

use warp_blink::{
    id::{CallId, Identity, NodeKey, PublicKey, Signature},
    proto::signal::{CallBody, Create, EpochId, KeyHash, Lane, Packet, Record, Roll, SUITE_HYBRID, Welcome},
    wire::{
        self, Attachment as Real, CallKey, CallRoom, ContactToken, Door, HelloSecrets, Initiator, KemKey,
        KemSecret, OpenError, Opened, PeerSeed, Responder, ResponderFrame, Session, WelcomeSecrets,
        Whereabouts,
    },
};

use super::{
    Fault, Rng, World,
    net::First,
    vault::{Answer, Attachment, Secret},
};

/// What travels; `None` in worlds of names alone.
pub(super) type Frame = Option<Rc<[u8]>>;

/// Somebody's lasting keys.
struct Person {
    identity: Identity,
    kem: KemSecret,
    kem_key: KemKey,
}

static PEOPLE: LazyLock<BTreeMap<PublicKey, Person>> = LazyLock::new(|| {
    let person = |seed| {
        let identity = Identity::from_seed([seed; 32]);
        let kem = KemSecret::of(&identity);
        let kem_key = kem.public();
        (identity.public(), Person { identity, kem, kem_key })
    };
    (1..=32).map(person).collect()
});

/// The keys of all sides, by their names.
pub(super) struct Keys {
    rng: Rng,
    initiators: BTreeMap<Secret, Initiator>,
    answers: BTreeMap<(usize, Secret), ResponderFrame>,
    sessions: BTreeMap<(Secret, usize), Session>,
    rooms: BTreeMap<KeyHash, CallKey>,
    creates: BTreeMap<CallId, Signature>,
    words: BTreeMap<(CallId, Record), Signature>,
    /// The first message of this step.
    opened: Option<(usize, Secret, Opened)>,
    /// How many frames were opened.
    count: u64,
}

impl Keys {
    pub(super) fn new(seed: u64) -> Box<Self> {
        Box::new(Self {
            // Another stream: what happens is the same as without it.
            rng: Rng::new(seed ^ 0x5ea1_ed00),
            initiators: BTreeMap::new(),
            answers: BTreeMap::new(),
            sessions: BTreeMap::new(),
            rooms: BTreeMap::new(),
            creates: BTreeMap::new(),
            words: BTreeMap::new(),
            opened: None,
            count: 0,
        })
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        for chunk in out.chunks_mut(16) {
            let bytes = self.rng.bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
        out
    }

    /// The name of a call is the hash of how it was made.
    pub(super) fn create(&mut self, create: &Create) -> Option<CallId> {
        let signature = wire::sign_create(&PEOPLE.get(&create.creator)?.identity, create);
        let call = wire::call_id(create, &signature);
        self.creates.insert(call, signature);
        Some(call)
    }

    /// A key of an epoch.
    pub(super) fn call_key(&mut self) -> KeyHash {
        let key = CallKey::from_bytes(self.bytes());
        let hash = key.hash();
        self.rooms.insert(hash, key);
        hash
    }

    fn signatures(&mut self, call: CallId, roll: &Roll) -> Option<Vec<Signature>> {
        let mut all = vec![self.creates.get(&call)?.to_owned()];
        for record in &roll.records {
            let identity = &PEOPLE.get(&record.by)?.identity;
            let word = self.words.entry((call, *record));
            all.push(word.or_insert_with(|| wire::sign_record(identity, call, record)).to_owned());
        }
        Some(all)
    }

    fn room(&self, call: CallId, epoch: EpochId) -> Option<CallRoom> {
        Some(CallRoom::new(call, epoch, self.rooms.get(&epoch.key)?.clone()))
    }
}

/// The token that its owner has given so many times.
fn token(owner: &PublicKey, number: u32) -> ContactToken {
    let mut bytes = *owner.as_bytes();
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    ContactToken::from_bytes(bytes)
}

impl World {
    /// From now on every signal is sealed and opened for real.
    pub fn seal_for_real(&mut self) {
        self.real = Some(Keys::new(self.seed));
    }

    fn amiss(&self, node: usize, what: &str, why: impl Display) -> Fault {
        self.fault(node, format!("{what}: {why}"))
    }

    /// How many signals were opened for real.
    pub fn opened(&self) -> u64 {
        self.real.as_ref().map_or(0, |real| real.count)
    }

    fn same<T: PartialEq + Debug>(&mut self, node: usize, opened: &T, said: &T) -> Result<(), Fault> {
        if let Some(real) = &mut self.real {
            real.count += 1;
        }
        if opened == said {
            Ok(())
        } else {
            Err(self.fault(node, format!("opens {opened:?}, said was {said:?}")))
        }
    }

    pub(super) fn seal_hello(
        &mut self,
        index: usize,
        to: &PublicKey,
        (door, first): (Option<u32>, &First),
    ) -> Result<Frame, Fault> {
        let Some(me) = PEOPLE.get(&self.nodes[index].key) else { return Ok(None) };
        let Some(kem) = PEOPLE.get(to).map(|p| &p.kem_key) else { return Ok(None) };
        let Some(real) = &mut self.real else { return Ok(None) };
        if !real.initiators.contains_key(&first.handshake) {
            let secrets = HelloSecrets {
                peer_seed: PeerSeed::from_bytes(real.bytes()),
                call_key: CallKey::from_bytes(real.bytes()),
            };
            let token = door.map(|number| token(to, number));
            let door = token.as_ref().map_or(Door::Strangers, Door::Contacts);
            let kem = (first.suite == SUITE_HYBRID).then(|| (kem, real.bytes()));
            let entropy = real.bytes();
            let made = Initiator::start(&me.identity, to, &door, kem, &first.hello, &secrets, entropy);
            match made {
                Ok(initiator) => real.initiators.insert(first.handshake, initiator),
                Err(why) => return Err(self.amiss(index, "cannot seal a first message", why)),
            };
        }
        let salt = real.bytes();
        Ok(real.initiators.get(&first.handshake).map(|i| i.frame(salt).into()))
    }

    /// A first message at a door: whether it is the right one.
    pub(super) fn screen_hello(&self, to: usize, lane: Lane, fits: bool, frame: &Frame) -> Result<(), Fault> {
        let (Some(_), Some(frame)) = (&self.real, frame) else { return Ok(()) };
        let node = &self.nodes[to];
        let token = token(&node.key, node.token);
        let door = if lane == Lane::Contacts { Door::Contacts(&token) } else { Door::Strangers };
        match Responder::screen(&node.key, &door, frame) {
            Ok(_) if fits => Ok(()),
            Err(OpenError::Mac) if !fits => Ok(()),
            other => Err(self.fault(to, format!("at the door {lane:?}: {other:?}, and it fits: {fits}"))),
        }
    }

    pub(super) fn open_hello(&mut self, to: usize, lane: Lane, first: &First) -> Result<(), Fault> {
        let (Some(_), Some(frame)) = (&self.real, &first.frame) else { return Ok(()) };
        let node = &self.nodes[to];
        let Some(me) = PEOPLE.get(&node.key) else { return Ok(()) };
        let token = token(&node.key, first.token.unwrap_or(node.token));
        let door = if lane == Lane::Contacts { Door::Contacts(&token) } else { Door::Strangers };
        let opened = match Responder::open(&me.identity, &me.kem, &door, frame) {
            Ok(opened) => opened,
            Err(why) => return Err(self.amiss(to, "cannot open a first message", why)),
        };
        let said = (&*first.hello, first.suite, lane);
        self.same(to, &(&opened.hello, opened.suite, opened.lane), &said)?;
        if let Some(real) = &mut self.real {
            real.opened = Some((to, first.handshake, opened));
        }
        Ok(())
    }

    pub(super) fn hello_over(&mut self) {
        if let Some(real) = &mut self.real {
            real.opened = None;
        }
    }

    pub(super) fn seal_welcome(
        &mut self,
        index: usize,
        answer: Answer,
        welcome: &Welcome,
    ) -> Result<Frame, Fault> {
        let Some(real) = &mut self.real else { return Ok(None) };
        let name = (index, answer.handshake);
        if let Some((_, _, opened)) = real.opened.take_if(|(node, handshake, _)| (*node, *handshake) == name)
        {
            let secrets = WelcomeSecrets { peer_seed: PeerSeed::from_bytes(real.bytes()) };
            match opened.respond(welcome, &secrets, real.bytes()) {
                Ok((session, frame)) => {
                    if let Some(secret) = answer.session {
                        real.sessions.insert((secret, index), session);
                    }
                    real.answers.insert(name, frame);
                }
                Err(why) => return Err(self.amiss(index, "cannot answer a first message", why)),
            }
        }
        let salt = real.bytes();
        Ok(real.answers.get(&name).map(|frame| frame.frame(salt).into()))
    }

    pub(super) fn open_welcome(
        &mut self,
        to: usize,
        answer: Answer,
        welcome: &Welcome,
        frame: &Frame,
    ) -> Result<(), Fault> {
        let (Some(real), Some(frame)) = (&mut self.real, frame) else { return Ok(()) };
        if answer.session.is_some_and(|secret| real.sessions.contains_key(&(secret, to))) {
            return Ok(());
        }
        let Some(initiator) = real.initiators.get_mut(&answer.handshake) else { return Ok(()) };
        match initiator.finish(frame) {
            Ok((session, opened, _)) => {
                if let Some(secret) = answer.session {
                    real.sessions.insert((secret, to), session);
                }
                self.same(to, &opened, welcome)
            }
            Err(OpenError::Repeated) => Ok(()),
            Err(why) => Err(self.amiss(to, "cannot open the answer to its first message", why)),
        }
    }

    pub(super) fn seal_packet(
        &mut self,
        index: usize,
        secret: Secret,
        (packet, with): (&Packet, &Attachment),
    ) -> Result<Frame, Fault> {
        let key = self.nodes[index].key;
        let Some(real) = &mut self.real else { return Ok(None) };
        let node = |key: &PublicKey| PEOPLE.get(key).map(|p| NodeKey::from(&p.identity).node_id());
        let attachment = match with {
            Attachment::Nothing => None,
            Attachment::CallKey(epoch) => real.rooms.get(&epoch.key).cloned().map(Real::CallKey),
            Attachment::Signatures(_) => match &packet.body {
                warp_blink::proto::signal::Body::Roll(roll) => {
                    real.signatures(packet.call, roll).map(Real::Signatures)
                }
                _ => None,
            },
            Attachment::Token(number) => Some(Real::Token(token(&key, *number))),
            Attachment::KemKey => PEOPLE.get(&key).map(|p| Real::KemKey(p.kem_key.clone())),
            Attachment::Where(whom) => node(whom).map(|node| Real::Where(Whereabouts::new(node, []))),
        };
        let sealed = real.sessions.get_mut(&(secret, index)).map(|s| s.seal(packet, attachment.as_ref()));
        match sealed {
            Some(Ok(frame)) => Ok(Some(frame.into())),
            Some(Err(why)) => Err(self.amiss(index, &format!("cannot seal {packet:?}"), why)),
            None => Err(self.fault(index, format!("has no real session for {packet:?}"))),
        }
    }

    /// Whether it is taken: a session takes every frame once.
    pub(super) fn open_packet(
        &mut self,
        to: usize,
        secret: Secret,
        packet: &Packet,
        frame: &Frame,
    ) -> Result<bool, Fault> {
        let (Some(real), Some(frame)) = (&mut self.real, frame) else { return Ok(true) };
        match real.sessions.get_mut(&(secret, to)).map(|s| s.open(frame)) {
            Some(Ok((opened, _))) => self.same(to, &opened, packet).map(|()| true),
            Some(Err(OpenError::Replay | OpenError::TooOld)) => Ok(false),
            Some(Err(why)) => Err(self.amiss(to, &format!("cannot open {packet:?}"), why)),
            None => Err(self.fault(to, format!("has no real session to open {packet:?}"))),
        }
    }

    pub(super) fn seal_call(
        &mut self,
        index: usize,
        (call, epoch): (CallId, EpochId),
        body: &CallBody,
    ) -> Result<Frame, Fault> {
        let Some(me) = PEOPLE.get(&self.nodes[index].key) else { return Ok(None) };
        let Some(real) = &mut self.real else { return Ok(None) };
        let Some(room) = real.room(call, epoch) else { return Ok(None) };
        let version = match body {
            CallBody::Announce(announce) => announce.version,
            _ => u64::MAX,
        };
        match wire::seal_call(&me.identity, &room, version, body, real.bytes()) {
            Ok(frame) => Ok(Some(frame.into())),
            Err(why) => Err(self.amiss(index, &format!("cannot seal {body:?}"), why)),
        }
    }

    pub(super) fn open_call(
        &mut self,
        to: usize,
        (call, epoch, from): (CallId, EpochId, PublicKey),
        body: &CallBody,
        frame: &Frame,
    ) -> Result<(), Fault> {
        let (Some(real), Some(frame)) = (&self.real, frame) else { return Ok(()) };
        let Some(room) = real.room(call, epoch) else { return Ok(()) };
        match wire::open_call(&room, &self.nodes[to].key, frame) {
            Ok(opened) => self.same(to, &(opened.from, opened.body), &(from, *body)),
            Err(why) => Err(self.amiss(to, &format!("cannot open {body:?}"), why)),
        }
    }
}
