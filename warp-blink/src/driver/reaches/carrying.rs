//! Carries out what the reach machines say.

use super::{ATTEMPTS, Answer, Reaches};
use crate::{
    id::{NodeId, PublicKey},
    ports::gossip::ConnectError,
    reach::{Addresses, DialId, Effect, Holder, QueryId, Question, ReachConfig, ReachInput, Via},
    time::Instant,
};

impl Reaches {
    pub(super) fn config(&self, node: &NodeId, attempts: u32) -> ReachConfig {
        let anchor = self.anchors.contains(node);
        ReachConfig::default()
            .with_max_attempts(if anchor { u32::MAX } else { attempts })
            .with_relay_only(self.seeker.relay_only() && !anchor)
    }

    /// Wants a connection with a node, at these addresses or those that are known.
    pub(super) fn wish(&mut self, now: Instant, node: NodeId, addresses: Addresses) {
        let config = self.config(&node, ATTEMPTS);
        self.connect(now, node, Holder::App, addresses, config);
    }

    /// The same for nobody in particular.
    pub(super) fn visit(&mut self, now: Instant, node: NodeId, addresses: Addresses) {
        let config = self.config(&node, ATTEMPTS);
        self.connect(now, node, Holder::Visit, addresses, config);
    }

    pub(super) fn connect(
        &mut self,
        now: Instant,
        node: NodeId,
        holder: Holder,
        addresses: Addresses,
        config: ReachConfig,
    ) {
        let addresses = self.may_be_dialed(&node, addresses);
        match self.pool.want_with(now, node, holder, addresses, config) {
            Ok(effects) => self.carry_out(effects),
            Err(rejected) => tracing::debug!(%rejected, "reach"),
        }
    }

    /// What the network says of a node.
    pub(super) fn feed(&mut self, now: Instant, node: NodeId, input: ReachInput) {
        let effects = self.pool.handle(now, &node, input);
        self.carry_out(effects);
    }

    pub(super) fn carry_out(&mut self, effects: Vec<(NodeId, Effect)>) {
        for (node, effect) in effects {
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
    }

    /// A node is connected that is wanted, and not because it was dialed here: it is dialed here if it is lost.
    pub(super) fn adopt(&mut self, now: Instant, node: NodeId, via: Via) {
        if self.pool.is_held(&node) {
            return;
        }
        if let Some(address) = self.gossip.dialed(&node) {
            self.learn(node, &address);
        }
        let addresses = self.may_be_dialed(&node, Addresses(self.book.addresses(&node)));
        let config = self.config(&node, ATTEMPTS);
        match self.pool.adopt(now, node, Holder::App, addresses, config, via) {
            Ok(effects) => self.carry_out(effects),
            Err(rejected) => tracing::debug!(%rejected, "reach"),
        }
    }

    /// Where only relays may be used, the addresses that may be.
    fn may_be_dialed(&self, node: &NodeId, addresses: Addresses) -> Addresses {
        match self.seeker.relay_only() {
            true => self.as_given(node, addresses),
            false => addresses,
        }
    }

    /// From now on the connections of these are kept, and of no others: they are made where these people were last, as far as that is
    /// known. Those for whom there is no room are reached when they are called.
    pub(in crate::driver) fn keep(&mut self, now: Instant, people: &[PublicKey]) {
        let gone: Vec<_> = self.kept.extract_if(.., |who, _| !people.contains(who)).collect();
        for (_, node) in gone {
            let effects = self.pool.keep_no_more(now, &node);
            self.carry_out(effects);
        }
        for who in people {
            if !self.kept.contains_key(who) {
                self.keep_one(now, *who);
            }
        }
    }

    fn keep_one(&mut self, now: Instant, who: PublicKey) {
        let node = self.home(who);
        if let Some(before) = self.kept.insert(who, node).filter(|before| *before != node) {
            let effects = self.pool.keep_no_more(now, &before);
            self.carry_out(effects);
        }
        let addresses = self.may_be_dialed(&node, Addresses(self.book.addresses(&node)));
        match self.pool.keep(now, node, addresses) {
            Ok(effects) => self.carry_out(effects),
            Err(rejected) => {
                self.kept.remove(&who);
                tracing::debug!(%rejected, "a contact is not kept connected");
            }
        }
    }

    /// Somebody was met: if they are kept, then where they are now.
    pub(in crate::driver) fn keep_here(&mut self, now: Instant, who: PublicKey) {
        if self.kept.contains_key(&who) {
            self.keep_one(now, who);
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
