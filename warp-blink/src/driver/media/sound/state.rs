//! What is known of the sound: what the app wants, who is heard, and the engine that runs.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use host_media::{Engine, PeerId, PeerInput, SinkSpec, SourceSpec};

use super::{Followed, lock};
use crate::{
    driver::media::{Audio, Key, paths::Paths},
    id::{CallId, PublicKey},
    proto::LinkId,
};

/// Where the packets of a participant go; nowhere while no devices are open.
pub(super) type Slot = Arc<Mutex<Option<PeerInput>>>;

/// One opening of the devices. A call that is held and goes on has several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket(pub(super) u64);

pub(super) struct State {
    /// What the app wants, for the engine that runs and for later ones.
    pub(super) audio: Audio,
    pub(super) asked: Asked,
    /// The call for which devices are or will be open.
    wanted: Option<(CallId, Ticket)>,
    /// Of the last one.
    tickets: u64,
    engine: Option<Running>,
    /// Engines that nobody wants any more, and that still run. Nothing of theirs leaves.
    retired: Vec<Ending>,
    /// The opening whose recording is being begun, as long as it is meant to.
    recording_begins: Option<Ticket>,
    pub(super) links: BTreeMap<Key, Playing>,
    pub(super) paths: Paths,
    /// What engines call each participant of a call: the same after a reconnect, so that a recording goes on. Kept while
    /// there is a connection, and for the call whose devices are open.
    ids: BTreeMap<Key, PeerId>,
    gains: BTreeMap<PublicKey, f32>,
    next: u64,
    pub(super) muted: bool,
    pub(super) deafened: bool,
}

/// How often the app has chosen a microphone and a speaker: an engine that was being started meanwhile is told.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Asked {
    pub(super) source: u64,
    pub(super) sink: u64,
}

struct Running {
    ending: Ending,
    gate: Arc<AtomicBool>,
}

/// An engine that is to be stopped, and whose it was.
pub(super) struct Ending {
    pub(super) engine: Engine,
    pub(super) call: CallId,
    pub(super) ticket: Ticket,
}

pub(super) struct Playing {
    pub(super) link: LinkId,
    pub(super) id: PeerId,
    slot: Slot,
}

impl State {
    pub(super) fn new(audio: Audio) -> Self {
        Self {
            audio,
            asked: Asked::default(),
            wanted: None,
            tickets: 0,
            engine: None,
            retired: Vec::new(),
            recording_begins: None,
            links: BTreeMap::new(),
            paths: Paths::default(),
            ids: BTreeMap::new(),
            gains: BTreeMap::new(),
            next: 0,
            muted: false,
            deafened: false,
        }
    }

    /// From now on the devices are for this call.
    pub(super) fn want(&mut self, call: CallId) -> Ticket {
        self.retire();
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.wanted = Some((call, ticket));
        ticket
    }

    pub(super) fn want_nothing(&mut self) {
        self.wanted = None;
        self.retire();
        let Self { ids, links, paths, .. } = self;
        ids.retain(|key, _| links.contains_key(key) || paths.knows(key));
    }

    pub(super) fn wanted(&self) -> Option<CallId> {
        self.wanted.map(|(call, _)| call)
    }

    pub(super) fn wants(&self, ticket: Ticket) -> bool {
        self.wanted.is_some_and(|(_, of)| of == ticket)
    }

    /// Lets nothing leave any more, and nothing be heard.
    fn retire(&mut self) {
        if let Some(Running { ending, gate }) = self.engine.take() {
            gate.store(false, Ordering::Release);
            self.retired.push(ending);
        }
        for playing in self.links.values() {
            *lock(&playing.slot) = None;
        }
    }

    /// The next engine that is to be stopped.
    pub(super) fn ending(&mut self) -> Option<Ending> {
        self.retired.pop()
    }

    /// The recording that every call is to have is being begun.
    pub(super) fn begin_recording(&mut self, ticket: Ticket) {
        self.recording_begins = Some(ticket);
    }

    /// It is not meant to begin any more. False if none was about to.
    pub(super) fn end_recording(&mut self, call: CallId) -> bool {
        let opening = self.wanted.filter(|(of, _)| *of == call).map(|(_, ticket)| ticket);
        opening.is_some_and(|ticket| self.recording_begun(ticket))
    }

    /// It has begun, or failed to. False if it was ended before that.
    pub(super) fn recording_begun(&mut self, ticket: Ticket) -> bool {
        self.recording_begins.take_if(|begins| *begins == ticket).is_some()
    }

    /// The engine runs from now on, and hears everybody who is there.
    pub(super) fn run(&mut self, ending: Ending, gate: Arc<AtomicBool>) {
        let call = ending.call;
        ending.engine.set_deafened(self.deafened);
        self.engine = Some(Running { ending, gate });
        // All links of this call, not only new ones: those of a call that was held have stayed open while another call
        // had the devices, or none did. Their entries in `links` outlive each engine, and their readers have gone on,
        // discarding what came; so this engine takes them over like new ones. Nothing old is played, and no track has to
        // be told of again: a connection does that once.
        let keys: Vec<Key> = self.links.keys().copied().filter(|k| k.0 == call).collect();
        for key in keys {
            self.connect(key);
        }
        self.tell(|key| key.0 == call);
        if let Some(Running { ending, gate }) = &self.engine {
            // It was started muted, so that nothing of before lies in its copies. The gate opens first: then what is sent
            // begins with the fading in.
            gate.store(true, Ordering::Release);
            ending.engine.set_muted(self.muted);
        }
    }

    pub(super) fn engine(&self) -> Option<&Engine> {
        self.engine.as_ref().map(|running| &running.ending.engine)
    }

    pub(super) fn engine_of(&self, call: CallId) -> Option<&Engine> {
        self.engine().filter(|_| self.wanted() == Some(call))
    }

    /// The engine, whose it is, and by which opening.
    pub(super) fn running(&self) -> Option<&Ending> {
        self.engine.as_ref().map(|running| &running.ending)
    }

    pub(super) fn set_source(&mut self, source: SourceSpec) {
        self.asked.source += 1;
        self.audio.source = source.clone();
        if let Some(engine) = self.engine() {
            engine.set_source(source);
        }
    }

    pub(super) fn set_sink(&mut self, sink: SinkSpec) {
        self.asked.sink += 1;
        self.audio.sink = sink.clone();
        if let Some(engine) = self.engine() {
            engine.set_sink(sink);
        }
    }

    pub(super) fn set_gain(&mut self, peer: PublicKey, gain: f32) {
        self.gains.insert(peer, gain);
        if let Some(engine) = self.engine() {
            for (_, playing) in self.links.iter().filter(|((_, p), _)| *p == peer) {
                engine.set_gain(playing.id, gain);
            }
        }
    }

    pub(super) fn id(&mut self, key: Key) -> PeerId {
        let next = &mut self.next;
        *self.ids.entry(key).or_insert_with(|| {
            *next += 1;
            PeerId(*next)
        })
    }

    /// Something comes from there.
    pub(super) fn play(&mut self, key: Key, link: LinkId) -> Slot {
        self.hear_no_more(key);
        self.paths.begin(key, link.generation);
        let id = self.id(key);
        let slot = Slot::default();
        self.links.insert(key, Playing { link, id, slot: slot.clone() });
        if self.wanted() == Some(key.0) {
            self.connect(key);
        }
        slot
    }

    /// Gives a link's packets a way into the engine.
    fn connect(&mut self, key: Key) {
        let (Some(engine), Some(playing)) = (self.engine(), self.links.get(&key)) else { return };
        // Before they are there: a recording that runs names their file when they come.
        engine.set_label(playing.id, &label(&key.1));
        match engine.add_peer(playing.id) {
            Ok(input) => {
                if let Some(gain) = self.gains.get(&key.1) {
                    engine.set_gain(playing.id, *gain);
                }
                *lock(&playing.slot) = Some(input);
                self.tell(|of| *of == key);
            }
            Err(error) => tracing::warn!(%error, "a participant cannot be heard"),
        }
    }

    /// Tells the engine what is known of those paths of its call that are meant.
    pub(super) fn tell(&mut self, meant: impl Fn(&Key) -> bool) {
        let call = self.wanted();
        let known: Vec<_> =
            self.paths.advice().filter(|(key, _)| Some(key.0) == call && meant(key)).collect();
        for (key, advice) in known {
            let id = self.id(key);
            let Some(engine) = self.engine() else { return };
            // Who has sent nothing so far listens all the same; should they speak later, their file has their name.
            engine.set_label(id, &label(&key.1));
            if let Err(error) = engine.add_peer(id) {
                tracing::warn!(%error, "nothing is done about what a participant loses");
            }
            engine.advise(id, Some(advice));
        }
    }

    pub(super) fn drop_link(&mut self, key: Key, generation: u32) {
        self.paths.remove(key, generation);
        if self.links.get(&key).is_some_and(|playing| playing.link.generation > generation) {
            return;
        }
        self.hear_no_more(key);
        // A later connection may have brought no sound so far, and serves a listener all the same.
        self.tell(|of| *of == key);
        self.forget_id(key);
    }

    pub(super) fn forget_path(&mut self, key: Key, generation: u32) {
        self.paths.remove(key, generation);
        if !self.connected(&key) {
            self.hear_no_more(key);
        }
        self.forget_id(key);
    }

    fn connected(&self, key: &Key) -> bool {
        self.links.contains_key(key) || self.paths.knows(key)
    }

    /// Nobody needs it any more: there is no connection, and devices are not open for the call.
    fn forget_id(&mut self, key: Key) {
        if self.wanted() != Some(key.0) && !self.connected(&key) {
            self.ids.remove(&key);
        }
    }

    fn hear_no_more(&mut self, key: Key) {
        if let Some(playing) = self.links.remove(&key) {
            *lock(&playing.slot) = None;
        }
        if let (Some(id), Some(engine)) = (self.ids.get(&key), self.engine_of(key.0)) {
            engine.remove_peer(*id);
        }
    }

    pub(super) fn followed(&self) -> Vec<Followed> {
        let stats = |id| self.engine().and_then(|engine| engine.peer_stats(id));
        // What is played has a path as well.
        let followed = self.paths.generations().map(|((call, peer), generation)| {
            let link = LinkId { call, peer, generation };
            let playing = self.links.get(&(call, peer)).filter(|playing| playing.link == link);
            let stats = playing.and_then(|playing| stats(playing.id));
            Followed { link, plays: playing.is_some(), stats }
        });
        followed.collect()
    }

    #[cfg(test)]
    pub(super) fn known(&self) -> usize {
        self.ids.len()
    }
}

/// What a recording calls the file of somebody: their key without what all keys begin with.
fn label(peer: &PublicKey) -> String {
    let text = peer.to_string();
    text.rsplit(':').next().unwrap_or(&text).to_owned()
}
