//! The keys of one node, as names: who can open what.
//!
//! A handshake, a session and a call key are numbers here that nobody can guess or come by but in the way that the real
//! ones go. A machine that sends under a key that it was not given, or keeps what no packet brought, has a defect, and
//! the world says so.

use std::collections::{BTreeMap, BTreeSet};

use warp_blink::{
    id::{CallId, PublicKey},
    proto::{
        Gift, SessionNo,
        signal::{Body, Create, EpochId, HelloKind, Lane, MAX_RECORDS, Record, RecordKind, Roll},
    },
};

/// The secret of one handshake, or of the session that came of it.
pub(super) type Secret = u64;

/// What goes with a body of the same name.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Attachment {
    Nothing,
    CallKey(EpochId),
    /// Of the create, and of each record of the roll.
    Signatures(Vec<Record>),
    Token(u32),
    KemKey,
    /// Where that one was found.
    Where(PublicKey),
}

/// A first message that was opened in this step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fresh {
    pub(super) call: CallId,
    pub(super) from: PublicKey,
    pub(super) kind: HelloKind,
    pub(super) handshake: Secret,
}

/// The answer to a first message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    pub(super) handshake: Secret,
    /// The session that it opens; a withdrawal opens none.
    pub(super) session: Option<Secret>,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    secret: Secret,
    /// The other side has shown that it is there.
    confirmed: bool,
}

#[derive(Debug, Default)]
struct PeerKeys {
    initiators: BTreeMap<(SessionNo, Lane), (HelloKind, Secret)>,
    answers: BTreeMap<SessionNo, Answer>,
    sessions: BTreeMap<SessionNo, Open>,
}

#[derive(Debug, Default)]
struct CallKeys {
    peers: BTreeMap<PublicKey, PeerKeys>,
    rooms: BTreeSet<EpochId>,
    create: Option<Create>,
    signatures: BTreeSet<Record>,
}

/// What one process holds.
#[derive(Debug, Default)]
pub(super) struct Vault {
    calls: BTreeMap<CallId, CallKeys>,
    /// The words of calls of an earlier run, and with them their signatures.
    saved: BTreeMap<CallId, Roll>,
    /// Which session a secret is.
    opens: BTreeMap<Secret, (CallId, PublicKey, SessionNo)>,
    /// The first messages that were answered, as long as the session is there: who sends one again after that has got no
    /// answer, and waits for one.
    seen: BTreeMap<Secret, (CallId, PublicKey, SessionNo)>,
    pub(super) fresh: Option<Fresh>,
    /// What the packet of this step brought.
    brought: Option<(PublicKey, Attachment)>,
}

type Checked<T> = Result<T, String>;

impl Vault {
    /// The keys of a call, new ones if there are none. What an earlier run has saved of it is taken over.
    fn call(&mut self, call: CallId) -> &mut CallKeys {
        let saved = self.saved.get(&call);
        self.calls.entry(call).or_insert_with(|| {
            let create = saved.map(|roll| roll.create);
            let signatures = saved.map(|roll| roll.records.iter().copied().collect());
            CallKeys { create, signatures: signatures.unwrap_or_default(), ..CallKeys::default() }
        })
    }

    fn peer(&mut self, call: CallId, peer: PublicKey) -> &mut PeerKeys {
        self.call(call).peers.entry(peer).or_default()
    }

    /// The step of the machine is over.
    pub(super) fn step_over(&mut self) {
        self.fresh = None;
        self.brought = None;
    }

    /// This side made the call and signed how.
    pub(super) fn create(&mut self, call: CallId, create: Create) {
        self.call(call).create = Some(create);
    }

    /// The handshake of this session over this lane; made if there is none.
    pub(super) fn initiator(
        &mut self,
        call: CallId,
        to: PublicKey,
        (session, lane, kind): (SessionNo, Lane, HelloKind),
        new: Secret,
    ) -> Secret {
        self.peer(call, to).initiators.entry((session, lane)).or_insert((kind, new)).1
    }

    pub(super) fn answered(&self, handshake: Secret) -> Option<(CallId, PublicKey, SessionNo)> {
        self.seen.get(&handshake).copied()
    }

    /// The answer to the first message of this step, or the one that was given before.
    pub(super) fn answer(
        &mut self,
        call: CallId,
        to: PublicKey,
        no: SessionNo,
        new: Secret,
    ) -> Checked<Answer> {
        let fresh = self.fresh.take_if(|f| f.call == call && f.from == to);
        let before = self.calls.get(&call).and_then(|c| c.peers.get(&to)?.answers.get(&no)).copied();
        let Some(Fresh { kind, handshake, .. }) = fresh else {
            return before.ok_or_else(|| format!("answers nothing: session {no:?} with {to} in {call}"));
        };
        if kind == HelloKind::Cancel {
            return Ok(Answer { handshake, session: None });
        }
        self.seen.insert(handshake, (call, to, no));
        if let Some(before) = before {
            // The same offer over the other lane.
            return Ok(before);
        }
        let answer = Answer { handshake, session: Some(new) };
        let peer = self.peer(call, to);
        peer.answers.insert(no, answer);
        peer.sessions.insert(no, Open { secret: new, confirmed: false });
        self.opens.insert(new, (call, to, no));
        Ok(answer)
    }

    /// Opens the answer to a first message of ours.
    pub(super) fn welcomed(
        &mut self,
        call: CallId,
        from: PublicKey,
        answer: Answer,
    ) -> Option<(SessionNo, HelloKind)> {
        let peer = self.calls.get_mut(&call)?.peers.get_mut(&from)?;
        let ours = peer.initiators.iter().find(|(_, (_, secret))| *secret == answer.handshake);
        let (no, kind) = ours.map(|((no, _), (kind, _))| (*no, *kind))?;
        // The first device that answers has the session.
        if let Some(secret) = answer.session.filter(|_| kind != HelloKind::Cancel)
            && !peer.sessions.contains_key(&no)
        {
            peer.sessions.insert(no, Open { secret, confirmed: true });
            self.opens.insert(secret, (call, from, no));
        }
        Some((no, kind))
    }

    /// What a packet is sealed with, and what goes with it.
    pub(super) fn seal(
        &mut self,
        to: PublicKey,
        no: SessionNo,
        (call, body): (CallId, &Body),
        token: u32,
    ) -> Checked<(Secret, Attachment)> {
        let keys = self.calls.get(&call).ok_or_else(|| format!("{call} has no keys"))?;
        let open = keys.peers.get(&to).and_then(|p| p.sessions.get(&no));
        let open = open.ok_or_else(|| format!("sends to {to} in a session that is not there: {no:?}"))?;
        if !open.confirmed {
            return Err(format!("sends to {to} in a session that nobody has confirmed: {no:?}"));
        }
        let attachment = match body {
            Body::CallKey(epoch) if keys.rooms.contains(&epoch.id) => Attachment::CallKey(epoch.id),
            Body::CallKey(epoch) => return Err(format!("sends a key that it does not hold: {epoch:?}")),
            Body::Roll(roll) => Attachment::Signatures(keys.signed(roll)?),
            Body::Token => Attachment::Token(token),
            Body::KemKey => Attachment::KemKey,
            Body::Where(peer) => Attachment::Where(*peer),
            _ => Attachment::Nothing,
        };
        Ok((open.secret, attachment))
    }

    /// Opens a packet: whose, and in which session.
    pub(super) fn open(
        &mut self,
        secret: Secret,
        call: CallId,
        attachment: Attachment,
    ) -> Option<(PublicKey, SessionNo)> {
        let (of, from, no) = self.opens.get(&secret).copied().filter(|(of, ..)| *of == call)?;
        let open = self.calls.get_mut(&of)?.peers.get_mut(&from)?.sessions.get_mut(&no)?;
        open.confirmed = true;
        self.brought = Some((from, attachment));
        Some((from, no))
    }

    /// Keeps what the packet of this step brought: a token, or that there is a key.
    pub(super) fn keep(&mut self, peer: PublicKey, gift: Gift) -> Checked<Option<u32>> {
        match (&self.brought, gift) {
            (Some((from, Attachment::Token(token))), Gift::Token) if *from == peer => Ok(Some(*token)),
            (Some((from, Attachment::KemKey)), Gift::KemKey) if *from == peer => Ok(None),
            (brought, _) => Err(format!("keeps {gift:?} of {peer}, but was given {brought:?}")),
        }
    }

    /// Looks for somebody where the packet of this step says.
    pub(super) fn learn(&self, peer: PublicKey) -> Checked<()> {
        match &self.brought {
            Some((_, Attachment::Where(told))) if *told == peer => Ok(()),
            brought => Err(format!("looks for {peer}, but was given {brought:?}")),
        }
    }

    pub(super) fn add_key(&mut self, call: CallId, epoch: EpochId) {
        self.call(call).rooms.insert(epoch);
    }

    pub(super) fn keep_key(&mut self, call: CallId, epoch: EpochId) -> Checked<()> {
        match &self.brought {
            Some((_, Attachment::CallKey(id))) if *id == epoch => {
                self.add_key(call, epoch);
                Ok(())
            }
            brought => Err(format!("keeps the key of {epoch:?}, but was given {brought:?}")),
        }
    }

    pub(super) fn drop_key(&mut self, call: CallId, epoch: EpochId) -> Checked<()> {
        let held = self.calls.get_mut(&call).is_some_and(|keys| keys.rooms.remove(&epoch));
        if held { Ok(()) } else { Err(format!("drops a key that it does not hold: {epoch:?} of {call}")) }
    }

    pub(super) fn holds(&self, call: CallId, epoch: EpochId) -> bool {
        self.calls.get(&call).is_some_and(|c| c.rooms.contains(&epoch))
    }

    /// The secret of the epoch that is carried by packets of this step.
    pub(super) fn brought_key(&self) -> Option<EpochId> {
        match self.brought {
            Some((_, Attachment::CallKey(id))) => Some(id),
            _ => None,
        }
    }

    pub(super) fn sign(&mut self, call: CallId, record: Record) {
        self.call(call).signatures.insert(record);
    }

    /// Keeps the signatures of these words and no others.
    pub(super) fn keep_roll(&mut self, call: CallId, roll: &Roll) -> Checked<()> {
        shape(roll)?;
        let brought = self.brought.clone();
        let keys = self.call(call);
        if let Some((_, Attachment::Signatures(more))) = brought {
            keys.create.get_or_insert(roll.create);
            keys.signatures.extend(more);
        }
        if keys.create != Some(roll.create) {
            return Err(format!("keeps a roll whose creation nobody signed: {roll:?}"));
        }
        let all: BTreeSet<Record> = roll.records.iter().copied().collect();
        if let Some(record) = all.iter().find(|r| !keys.signatures.contains(r)) {
            return Err(format!("keeps a roll with a word that nobody signed: {record:?}"));
        }
        keys.signatures = all;
        Ok(())
    }

    /// The words of an earlier run.
    pub(super) fn restore(&mut self, call: CallId, roll: Roll) {
        self.saved.insert(call, roll);
    }

    /// Nobody comes back to that call any more.
    pub(super) fn unsave(&mut self, call: CallId) {
        self.saved.remove(&call);
    }

    pub(super) fn drop_session(&mut self, call: CallId, peer: PublicKey, no: SessionNo) {
        self.opens.retain(|_, (c, p, n)| (*c, *p, *n) != (call, peer, no));
        self.seen.retain(|_, (c, p, n)| (*c, *p, *n) != (call, peer, no));
        if let Some(keys) = self.calls.get_mut(&call).and_then(|c| c.peers.get_mut(&peer)) {
            keys.answers.remove(&no);
            keys.sessions.remove(&no);
            keys.initiators.retain(|(n, _), _| *n != no);
        }
    }

    pub(super) fn drop_peer(&mut self, call: CallId, peer: PublicKey) {
        self.opens.retain(|_, (c, p, _)| (*c, *p) != (call, peer));
        self.seen.retain(|_, (c, p, _)| (*c, *p) != (call, peer));
        if let Some(keys) = self.calls.get_mut(&call) {
            keys.peers.remove(&peer);
        }
    }

    pub(super) fn forget(&mut self, call: CallId) {
        self.opens.retain(|_, (c, ..)| *c != call);
        self.seen.retain(|_, (c, ..)| *c != call);
        self.calls.remove(&call);
    }

    /// The calls of which anything is left.
    pub(super) fn left(&self) -> Vec<CallId> {
        self.calls.keys().copied().collect()
    }
}

impl CallKeys {
    /// The signatures of this roll.
    fn signed(&self, roll: &Roll) -> Checked<Vec<Record>> {
        shape(roll)?;
        if self.create != Some(roll.create) {
            return Err("sends a roll without the signature of how the call came to be".into());
        }
        match roll.records.iter().find(|r| !self.signatures.contains(r)) {
            Some(record) => Err(format!("sends a word whose signature it has not: {record:?}")),
            None => Ok(roll.records.clone()),
        }
    }
}

/// What `wire` would refuse.
fn shape(roll: &Roll) -> Checked<()> {
    let may_say = |r: &Record| match r.kind {
        RecordKind::Add => true,
        RecordKind::Leave => r.by == r.subject,
        RecordKind::Remove => r.by == roll.create.creator && r.subject != roll.create.creator,
    };
    let ordered = roll.records.is_sorted_by(|a, b| a < b);
    if ordered && roll.records.len() <= MAX_RECORDS && roll.records.iter().all(may_say) {
        return Ok(());
    }
    Err(format!("a roll that no correct side makes: {roll:?}"))
}
