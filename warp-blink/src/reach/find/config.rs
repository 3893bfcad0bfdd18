//! Who may be asked, what may be told, and the numbers.

use std::time::Duration;

use super::{
    super::{Address, Addresses, Jitter, Place},
    Source,
};

/// The most addresses that an own record says: as many as a reader takes of one node.
pub(super) const MAX_PUBLISHED: usize = 8;

/// The most bytes of one of them: as many as a reader takes.
const MAX_PUBLISHED_BYTES: usize = 256;

/// Who may be asked and what may be told, and the numbers of a finder. Each default says where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FindConfig {
    /// Ask the local network, and answer there. Default true. Everybody in the same network learns the PeerId.
    pub mdns: bool,
    /// Ask other nodes for signed records. Default true. Those who are asked learn who looks for whom.
    pub records: bool,
    /// Ask other nodes for the addresses of a PeerId. Default true. As above.
    pub kademlia: bool,
    /// Publish the own record. Default true. Who knows the public key then learns where this node is.
    pub publish: bool,
    /// Tell nobody an address but those behind relays, and nothing to the local network. Default false.
    pub relay_only: bool,
    /// Addresses at nearer places than that are not published. Default [`Place::Public`]: nobody else can use them. Where the
    /// nodes that are asked are in the same house, so are those who look there.
    pub nearest: Place,
    /// How long what is known is tried before others are asked. Default 0.5 s: by then a node that is at home has answered
    /// over a bad mobile network.
    pub ask_after: Duration,
    /// How long one question takes at most. Default 10 s: three rounds of Kademlia, in each of which a node does not answer.
    pub lookup_timeout: Duration,
    /// The pause after the first round of questions that did not help. Default 1 s; it doubles. A call waits for four seconds before
    /// it says that somebody is out of reach, and who has just started is found two seconds later.
    pub again_first: Duration,
    /// The longest pause. Default 5 minutes: nobody need find within seconds who was away for an hour.
    pub again_most: Duration,
    /// How long a record lives. Default 6 hours: an address of a mobile phone is hardly older, and two renewals in a row may
    /// fail before it is gone.
    pub life: Duration,
    /// How long a change of address rests before it is published. Default 1 s: one change brings several addresses, one by one within
    /// tenths of a second, and who has just started is found by nobody before that.
    pub settle: Duration,
    /// The same for the first record of a run. Default 0.25 s: nobody finds this node before that, and what comes later is in the next.
    pub settle_first: Duration,
    /// In this time no more than six records are published. Default 30 s, for a network that comes and goes.
    pub between: Duration,
    /// How long after it was stored the own record is looked for, since another device may have put one in its place that does
    /// not name this node. Default 60 s: twice as long as storing takes at most, so that what ran beside it is over.
    pub review_after: Duration,
    /// How often it is looked for after that. Default one hour: who stores it may have been started anew and have forgotten it, and
    /// nobody finds this node as long as that goes unseen; but twenty others may have it, and looking for it asks as many. A node that
    /// is asked and comes back is looked at at once.
    pub review_every: Duration,
    /// The pause after a record that nobody stored. Default 10 s; it doubles up to [`FindConfig::again_most`].
    pub publish_again: Duration,
}

impl Default for FindConfig {
    fn default() -> Self {
        Self {
            mdns: true,
            records: true,
            kademlia: true,
            publish: true,
            relay_only: false,
            nearest: Place::Public,
            ask_after: Duration::from_millis(500),
            lookup_timeout: Duration::from_secs(10),
            again_first: Duration::from_secs(1),
            again_most: Duration::from_secs(300),
            life: Duration::from_secs(6 * 3600),
            settle: Duration::from_secs(1),
            settle_first: Duration::from_millis(250),
            between: Duration::from_secs(30),
            review_after: Duration::from_secs(60),
            review_every: Duration::from_secs(3600),
            publish_again: Duration::from_secs(10),
        }
    }
}

impl FindConfig {
    /// One that asks nobody and tells nobody anything.
    #[must_use]
    pub fn silent() -> Self {
        Self { mdns: false, records: false, kademlia: false, publish: false, ..Self::default() }
    }

    /// The same with the local network asked, or not.
    #[must_use]
    pub fn with_mdns(self, mdns: bool) -> Self {
        Self { mdns, ..self }
    }

    /// The same with records asked for, or not.
    #[must_use]
    pub fn with_records(self, records: bool) -> Self {
        Self { records, ..self }
    }

    /// The same with PeerIds asked for, or not.
    #[must_use]
    pub fn with_kademlia(self, kademlia: bool) -> Self {
        Self { kademlia, ..self }
    }

    /// The same with the own record published, or not.
    #[must_use]
    pub fn with_publish(self, publish: bool) -> Self {
        Self { publish, ..self }
    }

    /// The same where nothing but relays is told.
    #[must_use]
    pub fn with_relay_only(self, relay_only: bool) -> Self {
        Self { relay_only, ..self }
    }

    /// The same where addresses of this kind of place, and all further ones, are published.
    #[must_use]
    pub fn with_nearest(self, nearest: Place) -> Self {
        Self { nearest, ..self }
    }

    /// Whether the local network may be asked.
    pub fn asks_near(&self) -> bool {
        self.mdns && !self.relay_only
    }

    /// Whether any node far away may be asked.
    pub fn asks_far(&self) -> bool {
        self.far().next().is_some()
    }

    pub(super) fn far(&self) -> impl Iterator<Item = Source> + use<> {
        let sources = [(self.records, Source::Record), (self.kademlia, Source::Kademlia)];
        sources.into_iter().filter(|(on, _)| *on).map(|(_, source)| source)
    }

    /// The pause after so many rounds: it doubles up to the longest, and jitter takes up to half of it away.
    pub(super) fn pause(&self, rounds: u32, jitter: Jitter) -> Duration {
        backoff(self.again_first, self.again_most, rounds, jitter)
    }

    /// What may be said of these addresses to everybody: what others can use, and what the owner wants to show. Addresses
    /// of the same house are for mDNS.
    pub(super) fn publishable(&self, addresses: &Addresses) -> Vec<String> {
        let mut good: Vec<(Place, String)> = Vec::new();
        for text in &addresses.0 {
            let Ok(address) = Address::parse(text) else { continue };
            let fits = match address.place() {
                // Through a relay in this house nobody else gets in.
                Place::Relayed => address.first_hop() >= self.nearest,
                place => place >= self.nearest && !self.relay_only,
            };
            let text = address.to_string();
            let fits = fits && text.len() <= MAX_PUBLISHED_BYTES;
            if fits && !good.iter().any(|(_, known)| *known == text) {
                good.push((address.place(), text));
            }
        }
        // Straight ones first. The same addresses are the same record, in whatever order they came.
        good.sort();
        // Half is for ways through relays: a machine with many addresses may be behind a firewall with all of them.
        let (relayed, straight): (Vec<_>, Vec<_>) =
            good.into_iter().partition(|(place, _)| *place == Place::Relayed);
        let kept = relayed.len().min(MAX_PUBLISHED / 2);
        let all = straight.into_iter().take(MAX_PUBLISHED - kept).chain(relayed);
        all.map(|(_, text)| text).take(MAX_PUBLISHED).collect()
    }
}

/// What doubles from `first` to `most`; jitter takes up to half of it away.
pub(super) fn backoff(first: Duration, most: Duration, times: u32, jitter: Jitter) -> Duration {
    let whole = first.saturating_mul(1 << times.saturating_sub(1).min(20)).min(most);
    let half = whole / 2;
    half + half.mul_f64(f64::from(jitter.0) / f64::from(u16::MAX))
}
