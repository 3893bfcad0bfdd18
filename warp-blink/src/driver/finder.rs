//! Carries out what the [`Finder`] says: asks, signs, has records stored, and tells what was found. It decides nothing.

mod numbers;
mod records;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinSet},
    time::{sleep, timeout},
};

use self::records::{devices, found, newest_record, sealed};
use super::{clock, reaches::Answer, shelf::Shelf};
use crate::{
    event::Findable,
    id::{Identity, NodeId, PublicKey},
    ports::gossip::Gossip,
    reach::{
        Address, Addresses, FindConfig, FindEffect, FindInput, Finder, Found, Jitter, LookupId, OwnRecord,
        OwnSeen, Seen, Source,
    },
    time::Instant,
    wire::{KemHash, KemSecret, record::record_key},
};

/// How long a newer record is waited for when one was found. An honest node that has an old one answers as quickly as one that
/// has the new one: a round trip, of which 250 ms is a bad one.
const NEWER: Duration = Duration::from_millis(250);

/// How long the local network may take to say where somebody is who was not heard of yet. RFC 6762, section 6: answers
/// come within 120 ms; a node that has just started is asked for by itself after half a second.
const NEARBY: Duration = Duration::from_secs(1);

/// How long it may take to store the own record: until somebody is connected who can (one attempt of a reach), then a query for
/// what is stored already, and one to store.
const STORED: Duration = Duration::from_secs(30);

/// How long what other devices have stored is looked for before the own record goes out. 2 s: the nodes that are there have answered, and
/// for those that are not nobody waits. What was overlooked is seen when the record is looked after, and mended by whose it is.
const BESIDE: Duration = Duration::from_secs(2);

/// How long the own record is waited for after one was found, when it is looked after: until all have answered, since one that is overlooked drives
/// another device out. A query ends by itself before that.
const ALL: Duration = Duration::from_secs(15);

/// Somebody may be at a node, at these addresses.
pub(super) struct Tip {
    pub(super) who: PublicKey,
    pub(super) node: NodeId,
    pub(super) source: Source,
    pub(super) addresses: Vec<String>,
}

/// Looks for people, and tells others where this node is.
pub(super) struct Seeker {
    gossip: Arc<dyn Gossip>,
    finder: Finder,
    config: FindConfig,
    identity: Identity,
    kem: KemHash,
    shelf: Shelf,
    /// Questions that are open: about whom, to whom, and so that they can be ended. Bounded by the finder.
    open: BTreeMap<LookupId, (PublicKey, Source, AbortHandle)>,
    /// Who is looked for. Bounded by the finder.
    sought: BTreeSet<PublicKey>,
    jobs: JoinSet<()>,
    results: mpsc::Sender<Answer>,
    /// Records of others than they say, among the answers.
    forged: Arc<AtomicU64>,
}

impl Seeker {
    /// Nobody is dialed straight.
    pub(super) fn relay_only(&self) -> bool {
        self.config.relay_only
    }

    pub(super) async fn load(
        gossip: Arc<dyn Gossip>,
        config: FindConfig,
        identity: Identity,
        mut shelf: Shelf,
        results: mpsc::Sender<Answer>,
    ) -> Self {
        let (own, numbers) = numbers::load(&mut shelf).await;
        let mut finder = Finder::new(config.clone(), own);
        for (who, number) in numbers {
            finder.remember(clock::now(), who, number);
        }
        let kem = KemSecret::of(&identity).public().hash();
        Self {
            gossip,
            finder,
            config,
            identity,
            kem,
            shelf,
            open: BTreeMap::new(),
            sought: BTreeSet::new(),
            jobs: JoinSet::new(),
            results,
            forged: Arc::default(),
        }
    }

    /// Somebody is to be found; again with the same it changes nothing.
    pub(super) fn look(&mut self, now: Instant, who: PublicKey, node: NodeId) -> Vec<Tip> {
        let nothing = Addresses::default();
        let input = FindInput::Look { who, node, given: nothing.clone(), remembered: nothing };
        match self.finder.handle(now, input) {
            Ok(effects) => {
                self.sought.insert(who);
                self.carry_out(effects)
            }
            Err(rejected) => {
                tracing::debug!(%rejected, "nobody is asked");
                Vec::new()
            }
        }
    }

    /// As [`look`](Self::look), where addresses are known already and are tried first.
    pub(super) fn look_later(
        &mut self,
        now: Instant,
        who: PublicKey,
        node: NodeId,
        known: &[String],
    ) -> Vec<Tip> {
        let remembered = Addresses(known.to_vec());
        let input = FindInput::Look { who, node, given: Addresses::default(), remembered };
        let Ok(effects) = self.finder.handle(now, input) else { return Vec::new() };
        self.sought.insert(who);
        let mut tips = self.carry_out(effects);
        // These are being dialed.
        tips.retain(|tip| tip.source != Source::Remembered);
        tips
    }

    /// Somebody was found, or is wanted no more.
    pub(super) fn stop(&mut self, now: Instant, who: PublicKey) {
        if self.sought.remove(&who) {
            self.feed(now, FindInput::Stop { who });
        }
    }

    /// Nothing that is known of somebody works.
    pub(super) fn missed(&mut self, now: Instant, who: PublicKey) -> Vec<Tip> {
        self.feed(now, FindInput::Missed { who })
    }

    /// Whether questions about somebody are open; `far`: also those to nodes far away.
    pub(super) fn is_asking(&self, who: &PublicKey, far: bool) -> bool {
        self.open.values().any(|(about, source, _)| about == who && (far || !source.is_far()))
    }

    /// Who was asked in vain, in words; nothing if nobody may be.
    pub(super) fn tried(&self) -> String {
        let sources = [
            (self.config.asks_near(), "the local network"),
            (self.config.records, "signed records"),
            (self.config.kademlia, "the nodes that others know"),
        ];
        let asked: Vec<&str> = sources.iter().filter(|(on, _)| *on).map(|(_, what)| *what).collect();
        if asked.is_empty() { String::new() } else { format!(" (asked in vain: {})", asked.join(", ")) }
    }

    /// Whether others find this identity by its key.
    pub(super) fn findable(&self) -> Findable {
        self.finder.findable()
    }

    /// Records that were found and are not of whom they should be.
    pub(super) fn forged(&self) -> u64 {
        self.forged.load(Ordering::Relaxed)
    }

    /// A question is answered.
    pub(super) fn answered(&mut self, now: Instant, lookup: LookupId, found: Option<Found>) -> Vec<Tip> {
        self.open.remove(&lookup);
        let numbered = found.as_ref().is_some_and(|found| found.sequence.is_some());
        let tips = self.feed(now, FindInput::Answered { lookup, found, jitter: jitter() });
        if numbered {
            self.save();
        }
        tips
    }

    /// The own record is stored under this number, or not.
    pub(super) fn published(&mut self, now: Instant, sequence: u64, stored: bool) -> Vec<Tip> {
        let tips = self.feed(now, FindInput::Published { sequence, stored, jitter: jitter() });
        self.save();
        tips
    }

    /// Others have stored this under the own name.
    pub(super) fn reviewed(&mut self, now: Instant, seen: OwnSeen) -> Vec<Tip> {
        self.feed(now, FindInput::OwnSeen { seen, jitter: jitter() })
    }

    /// The local network says where a node is.
    pub(super) fn nearby(&mut self, now: Instant, node: NodeId, addresses: Vec<String>) -> Vec<Tip> {
        self.feed(now, FindInput::Seen(Seen { node, addresses: Addresses(addresses) }))
    }

    /// Where others reach this node, as far as is known now.
    pub(super) fn own(&mut self, now: Instant, addresses: Vec<String>) -> Vec<Tip> {
        self.feed(now, FindInput::Own { addresses: Addresses(addresses), wall: clock::unix() })
    }

    /// A node that is asked was reached at this address.
    pub(super) fn through(&mut self, now: Instant, node: NodeId, address: &str) -> Vec<Tip> {
        let Ok(address) = Address::parse(address) else { return Vec::new() };
        self.feed(now, FindInput::Through { node, place: address.first_hop() })
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.finder.next_timeout()
    }

    pub(super) fn on_time(&mut self, now: Instant) -> Vec<Tip> {
        if self.next_timeout().is_none_or(|at| at > now) {
            return Vec::new();
        }
        self.feed(now, FindInput::Timeout { wall: clock::unix(), jitter: jitter() })
    }

    /// Ends all questions; saves what was learnt, and waits for it.
    pub(super) async fn close(&mut self) {
        self.jobs.abort_all();
        self.shelf.close().await;
    }

    fn feed(&mut self, now: Instant, input: FindInput) -> Vec<Tip> {
        // Only the command that looks for somebody is ever refused.
        let effects = self.finder.handle(now, input).unwrap_or_default();
        self.carry_out(effects)
    }

    fn carry_out(&mut self, effects: Vec<FindEffect>) -> Vec<Tip> {
        while self.jobs.try_join_next().is_some() {}
        let mut tips = Vec::new();
        for effect in effects {
            match effect {
                FindEffect::Lookup { lookup, source, who, node } => self.ask(lookup, source, who, node),
                FindEffect::Cancel { lookup } => {
                    if let Some((.., job)) = self.open.remove(&lookup) {
                        job.abort();
                    }
                }
                FindEffect::Tell { who, node, source, addresses } => {
                    tips.push(Tip { who, node, source, addresses: addresses.0 });
                }
                FindEffect::Publish(record) => self.publish(record),
                FindEffect::Review => self.review(),
            }
        }
        tips
    }

    fn ask(&mut self, lookup: LookupId, source: Source, who: PublicKey, node: NodeId) {
        tracing::debug!(?source, "somebody is looked for");
        let (gossip, results, forged) = (self.gossip.clone(), self.results.clone(), self.forged.clone());
        let job = self.jobs.spawn(async move {
            let found = match source {
                Source::Record => newest_record(&*gossip, &who, NEWER, &forged).await.map(found),
                Source::Kademlia => at(node, gossip.whereabouts(&node).await),
                Source::Mdns => match gossip.nearby(&node).await {
                    // Who is heard of meanwhile is told by an event.
                    none if none.is_empty() => {
                        sleep(NEARBY).await;
                        None
                    }
                    addresses => at(node, addresses),
                },
                _ => None,
            };
            // A driver that is gone needs no answer.
            let _ = results.send(Answer::Found { lookup, found }).await;
        });
        self.open.insert(lookup, (who, source, job));
    }

    fn publish(&mut self, own: OwnRecord) {
        // Before anybody has it: a number is never used twice.
        self.save();
        let (gossip, results, forged) = (self.gossip.clone(), self.results.clone(), self.forged.clone());
        let (identity, kem) = (self.identity.clone(), self.kem);
        self.jobs.spawn(async move {
            let mut sequence = own.sequence;
            let storing = async {
                let (who, wall) = (identity.public(), clock::unix());
                let reading = newest_record(&*gossip, &who, NEWER, &forged);
                let own = match timeout(BESIDE, reading).await.unwrap_or_default() {
                    Some(known) => own.beside(gossip.node(), wall, known.sequence, devices(known)),
                    None => own,
                };
                sequence = own.sequence;
                let life = Duration::from_millis(own.expires.as_millis().saturating_sub(wall.as_millis()));
                match sealed(&identity, gossip.node(), kem, own) {
                    Ok(bytes) => gossip.store_record(record_key(&who), bytes.into(), life).await,
                    Err(error) => {
                        tracing::warn!(%error, "the own record cannot be signed");
                        0
                    }
                }
            };
            let stored = timeout(STORED, storing).await.unwrap_or(0);
            tracing::debug!(stored, "the own record went out");
            let _ = results.send(Answer::Published { sequence, stored: stored > 0 }).await;
        });
    }

    fn review(&mut self) {
        let (gossip, results, forged) = (self.gossip.clone(), self.results.clone(), self.forged.clone());
        let (who, here) = (self.identity.public(), self.gossip.node());
        self.jobs.spawn(async move {
            let reading = newest_record(&*gossip, &who, ALL, &forged);
            let seen = match timeout(STORED, reading).await {
                Ok(Some(known)) => {
                    let sequence = known.sequence;
                    let here = devices(known).into_iter().find(|device| device.node == here);
                    OwnSeen { sequence, here: here.map(|device| device.addresses) }
                }
                // Nobody has it, or nobody answers: then it is not stored either, and that is tried until it is.
                Ok(None) | Err(_) => OwnSeen { sequence: 0, here: None },
            };
            let _ = results.send(Answer::Reviewed(seen)).await;
        });
    }

    fn save(&mut self) {
        // A failure is logged where it happens.
        drop(numbers::save(&mut self.shelf, self.finder.own_sequence(), self.finder.numbers()));
    }
}

fn at(node: NodeId, addresses: Vec<String>) -> Option<Found> {
    let found = !addresses.is_empty();
    found.then(|| Found { sequence: None, nodes: vec![(node, Addresses(addresses))] })
}

fn jitter() -> Jitter {
    // Without randomness there is no spreading, and nothing worse.
    Jitter(clock::random().map(u16::from_le_bytes).unwrap_or_default())
}
