//! Where only relays may be used, no packet goes anywhere else.

use std::collections::{BTreeMap, BTreeSet};

use rust_ipfs::{ConnectionId, Multiaddr, PeerId, swarm::FromSwarm};

use super::super::address::{is_relayed, peer_of, relay_of};

/// Refuses every connection that does not lead to, or through, a relay that the user named. It stands before the first packet, and for
/// whatever part of the node wants the connection.
///
/// - A relay that others name is refused like any other node: whoever is called could run it, to see who calls.
/// - A circuit is opened over a connection with its relay that is there. Without one libp2p would dial the relay, and where the address
///   says, which whoever is called has written.
/// - So a relay is dialed by those parts of this node only that know from the user where it is.
#[derive(Debug, Default)]
pub(super) struct OnlyRelays {
    /// The relays, each with the straight connections that are open. `None`: every way is allowed.
    relays: Option<BTreeMap<PeerId, BTreeSet<ConnectionId>>>,
}

impl OnlyRelays {
    pub(super) fn new(relay_only: bool, relays: BTreeSet<PeerId>) -> Self {
        let relays = relays.into_iter().map(|relay| (relay, BTreeSet::new()));
        Self { relays: relay_only.then(|| relays.collect()) }
    }

    /// What the swarm says of connections.
    pub(super) fn note(&mut self, event: &FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(new) if !new.endpoint.is_relayed() => {
                self.opened(&new.peer_id, new.connection_id);
            }
            FromSwarm::ConnectionClosed(old) => {
                if let Some(open) = self.relays.as_mut().and_then(|relays| relays.get_mut(&old.peer_id)) {
                    open.remove(&old.connection_id);
                }
            }
            _ => {}
        }
    }

    fn opened(&mut self, peer: &PeerId, connection: ConnectionId) {
        if let Some(open) = self.relays.as_mut().and_then(|relays| relays.get_mut(peer)) {
            open.insert(connection);
        }
    }

    /// Why a connection to this peer at these addresses is refused, if it is. `trusted`: they come from the user, if it is a relay.
    pub(super) fn refusal(
        &self,
        trusted: bool,
        peer: Option<&PeerId>,
        addresses: &[Multiaddr],
    ) -> Option<&'static str> {
        let relays = self.relays.as_ref()?;
        if peer.is_some_and(|peer| relays.contains_key(peer)) && !addresses.iter().any(is_relayed) {
            return (!trusted || addresses.is_empty())
                .then_some("where a relay is is nobody's word but this side's (relay-only)");
        }
        if addresses.is_empty() || !addresses.iter().all(is_relayed) {
            return Some("only relays may be used (relay-only), and this leads straight there");
        }
        let through = |address: &Multiaddr| relays.get(&relay_of(address).and_then(|relay| peer_of(&relay))?);
        let ways: Option<Vec<_>> = addresses.iter().map(through).collect();
        match ways {
            None => Some(
                "only relays that this side has named may be used (relay-only), and this is another one: name it too, if you trust it",
            ),
            Some(ways) if ways.iter().any(|open| open.is_empty()) => {
                Some("that relay is not connected yet, and only relays may be used (relay-only)")
            }
            Some(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leads_past_the_named_relays() {
        let [relay, stranger, callee] = [(); 3].map(|()| PeerId::random());
        let at = |text: String| text.parse::<Multiaddr>().unwrap();
        let straight = at(format!("/ip4/192.0.2.1/tcp/1/p2p/{callee}"));
        let through = |relay| at(format!("/ip4/192.0.2.2/tcp/1/p2p/{relay}/p2p-circuit/p2p/{callee}"));
        let mut only = OnlyRelays::new(true, BTreeSet::from([relay]));
        let there = [at(format!("/ip4/192.0.2.2/tcp/1/p2p/{relay}"))];
        assert!(only.refusal(true, Some(&relay), &there).is_none(), "the relay itself");
        assert!(
            only.refusal(false, Some(&relay), &there).is_some(),
            "whoever is called says that it is there"
        );
        assert!(only.refusal(true, Some(&relay), &[]).is_some(), "somebody else would add the addresses");
        let waits = only.refusal(true, Some(&callee), &[through(relay)]);
        assert!(waits.is_some_and(|why| why.contains("not connected")), "libp2p would dial the relay there");

        let (first, second) = (ConnectionId::new_unchecked(1), ConnectionId::new_unchecked(2));
        only.opened(&relay, first);
        only.opened(&stranger, second);
        let refused = |addresses: &[Multiaddr]| only.refusal(true, Some(&callee), addresses).is_some();
        assert!(refused(std::slice::from_ref(&straight)));
        assert!(refused(&[]), "somebody else would add the addresses");
        assert!(refused(&[through(relay), straight.clone()]), "one of both would be tried");
        assert!(refused(&[through(stranger)]), "its owner may be the callee");
        assert!(refused(&[at("/ip4/192.0.2.2/tcp/1/p2p-circuit".into())]), "a relay without a name");
        assert!(!refused(&[through(relay)]));
        assert!(only.refusal(true, None, std::slice::from_ref(&straight)).is_some());
        let all = OnlyRelays::new(false, BTreeSet::new());
        assert!(all.refusal(false, Some(&callee), &[straight]).is_none());
    }
}
