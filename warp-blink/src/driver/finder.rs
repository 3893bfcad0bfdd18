//! Carries out what the [`Finder`] says: asks, signs, has records stored, and tells what was found. It decides nothing.

mod numbers;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::StreamExt;
use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinSet},
    time::{sleep, timeout, timeout_at},
};

use super::{clock, reaches::Answer, shelf::Shelf};
use crate::{
    id::{Identity, NodeId, PublicKey},
    ports::gossip::Gossip,
    proto::signal::{SUITE_CLASSICAL, SUITE_HYBRID, VERSION},
    reach::{
        Addresses, FindConfig, FindEffect, FindInput, Finder, Found, Jitter, LookupId, OwnRecord, Seen,
        Source,
    },
    time::Instant,
    wire::{
        KemHash, KemSecret,
        record::{MAX_ADDRESS_BYTES, NodePlace, Record, read_record, record_key, seal_record},
    },
};

/// How long a newer record is waited for when one was found. An honest node that has an old one answers as quickly as one that
/// has the new one: a round trip, of which 250 ms is a bad one.
const NEWER: Duration = Duration::from_millis(250);

/// How long the local network may take to say where somebody is who was not heard of yet. RFC 6762, section 6: answers
/// come within 120 ms; a node that has just started is asked for by itself after half a second.
const NEARBY: Duration = Duration::from_secs(1);

/// How long it may take to store the own record: until somebody is connected who can (one attempt of a reach), and then a query.
const STORED: Duration = Duration::from_secs(20);

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
    /// Questions that are open, so that they can be ended. Bounded by the finder.
    open: BTreeMap<LookupId, (PublicKey, AbortHandle)>,
    /// Who is looked for. Bounded by the finder.
    sought: BTreeSet<PublicKey>,
    jobs: JoinSet<()>,
    results: mpsc::Sender<Answer>,
    /// Records of others than they say, among the answers.
    forged: Arc<AtomicU64>,
}

impl Seeker {
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

    /// Whether questions about somebody are open.
    pub(super) fn is_asking(&self, who: &PublicKey) -> bool {
        self.open.values().any(|(about, _)| about == who)
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

    /// The own record is stored, or not.
    pub(super) fn published(&mut self, now: Instant, stored: bool) -> Vec<Tip> {
        self.feed(now, FindInput::Published { stored, jitter: jitter() })
    }

    /// The local network says where a node is.
    pub(super) fn nearby(&mut self, now: Instant, node: NodeId, addresses: Vec<String>) -> Vec<Tip> {
        self.feed(now, FindInput::Seen(Seen { node, addresses: Addresses(addresses) }))
    }

    /// Where others reach this node, as far as is known now.
    pub(super) fn own(&mut self, now: Instant, addresses: Vec<String>) -> Vec<Tip> {
        self.feed(now, FindInput::Own { addresses: Addresses(addresses), wall: clock::unix() })
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
                    if let Some((_, job)) = self.open.remove(&lookup) {
                        job.abort();
                    }
                }
                FindEffect::Tell { who, node, source, addresses } => {
                    tips.push(Tip { who, node, source, addresses: addresses.0 });
                }
                FindEffect::Publish(record) => self.publish(record),
            }
        }
        tips
    }

    fn ask(&mut self, lookup: LookupId, source: Source, who: PublicKey, node: NodeId) {
        tracing::debug!(?source, "somebody is looked for");
        let (gossip, results, forged) = (self.gossip.clone(), self.results.clone(), self.forged.clone());
        let job = self.jobs.spawn(async move {
            let found = match source {
                Source::Record => newest_record(&*gossip, &who, &forged).await,
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
        self.open.insert(lookup, (who, job));
    }

    fn publish(&mut self, own: OwnRecord) {
        // Before anybody has it: a number is never used twice.
        self.save();
        let addresses = own.addresses.0.into_iter().filter(|address| address.len() <= MAX_ADDRESS_BYTES);
        let record = Record {
            sequence: own.sequence,
            expires: own.expires,
            nodes: vec![NodePlace { node: self.gossip.node(), addresses: addresses.collect() }],
            versions: vec![VERSION],
            suites: vec![SUITE_HYBRID, SUITE_CLASSICAL],
            kem: Some(self.kem),
        };
        let (gossip, results) = (self.gossip.clone(), self.results.clone());
        let name = record_key(&self.identity.public());
        let life = own.expires.as_millis().saturating_sub(clock::unix().as_millis());
        let sealed = seal_record(&self.identity, &record);
        self.jobs.spawn(async move {
            let stored = match sealed {
                Ok(bytes) => {
                    let storing = gossip.store_record(name, bytes.into(), Duration::from_millis(life));
                    timeout(STORED, storing).await.unwrap_or(0)
                }
                Err(error) => {
                    tracing::warn!(%error, "the own record cannot be signed");
                    0
                }
            };
            tracing::debug!(stored, "the own record went out");
            let _ = results.send(Answer::Published { stored: stored > 0 }).await;
        });
    }

    fn save(&mut self) {
        // A failure is logged where it happens.
        drop(numbers::save(&mut self.shelf, self.finder.own_sequence(), self.finder.numbers()));
    }
}

/// Of all that others have stored under somebody's name, the newest that they have signed. One that is over is better than
/// none: the clock of this machine may be wrong, and what it says of addresses is tried like everything else.
async fn newest_record(gossip: &dyn Gossip, who: &PublicKey, forged: &AtomicU64) -> Option<Found> {
    let mut all = gossip.records(record_key(who)).await;
    let mut best: Option<(bool, Record)> = None;
    let mut until = None;
    loop {
        let next = match until {
            None => all.next().await,
            Some(until) => timeout_at(until, all.next()).await.unwrap_or(None),
        };
        let Some(bytes) = next else { break };
        match read_record(&bytes) {
            Ok((signer, record)) if signer == *who => {
                let fresh = record.expires > clock::unix();
                let better = best
                    .as_ref()
                    .is_none_or(|(was_fresh, known)| (fresh, record.sequence) > (*was_fresh, known.sequence));
                if better {
                    best = Some((fresh, record));
                }
                if fresh {
                    until.get_or_insert_with(|| tokio::time::Instant::now() + NEWER);
                }
            }
            // Whoever stores it lies, or was lied to.
            Ok(_) | Err(_) => {
                forged.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    let (_, record) = best?;
    let nodes = record.nodes.into_iter().map(|place| (place.node, Addresses(place.addresses))).collect();
    Some(Found { sequence: Some(record.sequence), nodes })
}

fn at(node: NodeId, addresses: Vec<String>) -> Option<Found> {
    let found = !addresses.is_empty();
    found.then(|| Found { sequence: None, nodes: vec![(node, Addresses(addresses))] })
}

fn jitter() -> Jitter {
    // Without randomness there is no spreading, and nothing worse.
    Jitter(clock::random().map(u16::from_le_bytes).unwrap_or_default())
}
