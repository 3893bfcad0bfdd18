//! Carries out what the reach machines say.

use super::{ATTEMPTS, Answer, Reaches};
use crate::{
    id::NodeId,
    ports::gossip::ConnectError,
    reach::{Addresses, DialId, Effect, QueryId, Question, Reach, ReachConfig, ReachInput, ReachState, Via},
    time::Instant,
};

impl Reaches {
    pub(super) fn config(&self, node: &NodeId, attempts: u32) -> ReachConfig {
        let anchor = self.anchors.contains(node);
        ReachConfig::default()
            .with_max_attempts(if anchor { u32::MAX } else { attempts })
            .with_relay_only(self.seeker.relay_only() && !anchor)
    }

    pub(super) fn feed(&mut self, now: Instant, node: NodeId, input: ReachInput) {
        if !self.machines.contains_key(&node) && !matches!(input, ReachInput::Connect { .. }) {
            // Somebody else's connection: nothing here wants it.
            return;
        }
        let input = match input {
            ReachInput::Connect { addresses } if self.seeker.relay_only() => {
                ReachInput::Connect { addresses: self.as_given(&node, addresses) }
            }
            other => other,
        };
        let config = self.config(&node, ATTEMPTS);
        let reach = self.machines.entry(node).or_insert_with(|| Reach::new(node, config));
        let effects = reach.handle(now, input).unwrap_or_else(|rejected| {
            tracing::debug!(%rejected, "reach");
            Vec::new()
        });
        for effect in effects {
            match effect {
                Effect::Dial { dial, address, .. } => self.dial(node, dial, address.to_string()),
                Effect::Resolve { query, question } => self.resolve(node, query, question),
                Effect::Abort { dial } => {
                    if let Some((running, _)) = self.running.remove(&(node, dial)) {
                        running.abort();
                    }
                }
                Effect::Close => {
                    let gossip = self.gossip.clone();
                    self.dials.spawn(async move {
                        if gossip.disconnect(&node).await.is_err() {
                            tracing::debug!("the node was gone before its connection was closed");
                        }
                    });
                }
            }
        }
        while self.dials.try_join_next().is_some() {}
        // Machines that hold nothing are not kept: what they know is in the book.
        self.machines.retain(|_, r| !matches!(r.state(), ReachState::Disconnected));
        self.adopted.retain(|node| self.machines.contains_key(node));
    }

    /// A node is connected that is wanted, and not because it was dialed here: it is dialed here if it is lost.
    pub(super) fn adopt(&mut self, now: Instant, node: NodeId, via: Via) {
        if self.machines.contains_key(&node) {
            return;
        }
        if let Some(address) = self.gossip.dialed(&node) {
            self.learn(node, &address);
        }
        let addresses = Addresses(self.book.addresses(&node));
        let mut reach = Reach::new(node, self.config(&node, ATTEMPTS));
        if reach.handle(now, ReachInput::PeerConnected { via }).is_ok() {
            self.adopted.insert(node);
            self.machines.insert(node, reach);
            self.feed(now, node, ReachInput::Connect { addresses });
        }
    }

    /// Where only relays may be used, nobody but the user says where those are.
    fn as_given(&self, node: &NodeId, Addresses(addresses): Addresses) -> Addresses {
        Addresses(match self.given.of(node).filter(|_| self.anchors.contains(node)) {
            Some(given) => given.to_vec(),
            None => self.given.ways(addresses),
        })
    }

    fn dial(&mut self, node: NodeId, dial: DialId, address: String) {
        let (gossip, results) = (self.gossip.clone(), self.results.clone());
        let text = address.clone();
        let running = self.dials.spawn(async move {
            let result = gossip.connect(&node, &[address]).await.map_err(cause);
            // A driver that is gone needs no result.
            let _ = results.send(Answer::Dialed { node, dial, result }).await;
        });
        self.running.insert((node, dial), (running, text));
    }

    pub(super) fn call(&mut self, node: NodeId) {
        self.by_name.insert(node, None);
        let (gossip, results) = (self.gossip.clone(), self.results.clone());
        self.dials.spawn(async move {
            let result = gossip.connect(&node, &[]).await.map_err(cause);
            let _ = results.send(Answer::Called { node, result }).await;
        });
    }

    fn resolve(&mut self, node: NodeId, query: QueryId, question: Question) {
        let (gossip, results) = (self.gossip.clone(), self.results.clone());
        let refused = self.given.refuses(&question).filter(|_| self.seeker.relay_only());
        self.dials.spawn(async move {
            let result = match refused {
                Some(refused) => Err(refused),
                None => gossip.resolve(&question).await,
            };
            let _ = results.send(Answer::Resolved { node, query, result }).await;
        });
    }
}

/// What one address answered; the address itself is known.
fn cause(error: ConnectError) -> String {
    match &error {
        ConnectError::Failed(failures) if let [failure] = failures.as_slice() => failure.cause.clone(),
        other => other.to_string(),
    }
}
