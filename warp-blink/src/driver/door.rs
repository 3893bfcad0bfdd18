//! What arrives on the inboxes, in the order of PROTOCOL: MAC, seen before, the lane's queue, the handshake. Admission
//! and the answer are the machine's.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use bytes::Bytes;

use super::{clock, keyring::Keyring, vault::Vault};
use crate::{
    id::{CallId, PublicKey},
    proto::{
        Arrived, Input, SessionNo,
        lanes::Lanes,
        signal::{AppData, Hello, HelloKind, Lane},
    },
    time::Instant,
    wire::{Door, HandshakeId, OpenError, Responder},
};

/// First messages that are remembered as answered, in each lane. The oldest is forgotten first, and would then be opened
/// again, which the machine's memory of calls makes harmless.
const MAX_SEEN: usize = 2048;

/// Who wants to ring, for the app's admission callback.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Caller<'a> {
    /// Its key, which the handshake has proven.
    pub key: PublicKey,
    /// What its app put into the offer.
    pub app_data: &'a AppData,
}

/// Says whether somebody may ring.
pub(crate) type Ask = Arc<dyn Fn(&Caller<'_>) -> bool + Send + Sync>;

/// A first message that waits to be opened.
struct Waiting {
    id: HandshakeId,
    frame: Bytes,
    /// The app brought it.
    pushed: bool,
}

/// Why a first message goes no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turned {
    /// It does not open.
    Refused(OpenError),
    /// The lane is full.
    Full(Lane),
    /// The same waits already.
    Waits,
}

/// What is known of an answered first message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answered {
    pub(super) call: CallId,
    pub(super) from: PublicKey,
    pub(super) session: SessionNo,
}

/// First messages that were answered, by their names.
#[derive(Default)]
pub(super) struct Seen {
    answered: BTreeMap<HandshakeId, Answered>,
    order: VecDeque<HandshakeId>,
}

impl Seen {
    pub(super) fn remember(&mut self, id: HandshakeId, answered: Answered) {
        if self.answered.insert(id, answered).is_none() {
            self.order.push_back(id);
        }
        if self.order.len() > MAX_SEEN
            && let Some(oldest) = self.order.pop_front()
        {
            self.answered.remove(&oldest);
        }
    }

    /// What came of that call from somebody may be answered anew.
    pub(super) fn forget(&mut self, call: CallId, from: &PublicKey) {
        self.answered.retain(|_, a| (a.call, a.from) != (call, *from));
        self.order.retain(|id| self.answered.contains_key(id));
    }
}

/// The way in.
pub(super) struct Gate {
    lanes: Lanes<Waiting>,
    ask: Option<Ask>,
}

impl Gate {
    pub(super) fn new(ask: Option<Ask>) -> Self {
        Self { lanes: Lanes::new(), ask }
    }

    /// Takes what arrived on an inbox, or by the app: it waits its turn, or it is the repetition of something answered.
    pub(super) fn arrived(
        &mut self,
        vault: &Vault,
        lane: Lane,
        frame: Bytes,
        pushed: bool,
    ) -> Result<Option<Input>, Turned> {
        let me = vault.keys().identity().public();
        let id = Responder::screen(&me, &door(vault.keys(), lane), &frame).map_err(Turned::Refused)?;
        if let Some(Answered { call, from, session }) = vault.seen(lane).answered.get(&id).copied() {
            return Ok(Some(Input::HelloAgain { call, from, session }));
        }
        if self.lanes.any(lane, |w| w.id == id) {
            return Err(Turned::Waits);
        }
        self.lanes.push(lane, Waiting { id, frame, pushed }).map_err(|_| Turned::Full(lane))?;
        Ok(None)
    }

    /// Opens the next one whose turn it is; `None` if nobody's is.
    pub(super) fn next(&mut self, now: Instant, vault: &mut Vault) -> Option<Result<Input, Turned>> {
        let (lane, Waiting { frame, pushed, .. }) = self.lanes.pop(now)?;
        let keys = vault.keys();
        Some(match Responder::open(keys.identity(), keys.kem(), &door(keys, lane), &frame) {
            Ok(opened) => {
                let mut arrived = Arrived::new(opened.hello.clone());
                arrived.suite = opened.suite;
                arrived.wall = clock::unix();
                let ask = self.ask.as_ref().filter(|_| opened.hello.kind == HelloKind::Offer);
                arrived.verdict = ask.map(|ask| verdict(ask, &opened.hello));
                vault.arrived(opened, pushed);
                Ok(Input::Hello(Box::new(arrived)))
            }
            Err(error) => Err(Turned::Refused(error)),
        })
    }

    pub(super) fn next_timeout(&self, now: Instant) -> Option<Instant> {
        self.lanes.next_timeout(now)
    }
}

fn door(keys: &Keyring, lane: Lane) -> Door<'_> {
    match lane {
        Lane::Strangers => Door::Strangers,
        Lane::Contacts => Door::Contacts(keys.token()),
    }
}

/// What the app's callback says. One that panics lets nobody in, and takes nothing else down.
fn verdict(ask: &Ask, hello: &Hello) -> bool {
    let caller = Caller { key: hello.from, app_data: &hello.app_data };
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| ask(&caller))).unwrap_or_else(|_| {
        tracing::error!("the admission callback panicked: nobody is let in by it");
        false
    })
}
