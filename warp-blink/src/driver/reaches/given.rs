//! Where the user says that relays and bootstrap nodes are. Where only relays may be used, nobody else says so.
//!
//! Whoever is called names the whole way to their place at a relay, and could name a machine of their own as the relay's: the packet
//! that asks whether the relay lives there would show them who calls. A name would be asked of a server of theirs.

use std::collections::BTreeMap;

use crate::{
    id::NodeId,
    reach::{Address, MAX_ADDRESS, MAX_REACH_ADDRESSES, Question, ResolveError},
};

/// Bounded by what the user names.
#[derive(Default)]
pub(super) struct Given(BTreeMap<NodeId, Vec<String>>);

impl Given {
    /// The user says that this node is there.
    pub(super) fn add(&mut self, node: NodeId, address: &str) {
        let known = self.0.entry(node).or_default();
        if known.len() < MAX_REACH_ADDRESSES && !known.iter().any(|at| at == address) {
            known.push(address.to_owned());
        }
    }

    /// Where this node is: what others say does not count.
    pub(super) fn of(&self, node: &NodeId) -> Option<&[String]> {
        self.0.get(node).map(Vec::as_slice)
    }

    /// The same addresses, where the way to each relay is the one that the user gave. Other relays are left, so that an error can
    /// say which are missing.
    pub(super) fn ways(&self, addresses: Vec<String>) -> Vec<String> {
        let mut ways: Vec<String> = Vec::new();
        for address in addresses {
            match self.way(&address) {
                Some(own) => ways.extend(own),
                None => ways.push(address),
            }
        }
        let mut once = Vec::new();
        for way in ways {
            if way.len() <= MAX_ADDRESS && once.len() < MAX_REACH_ADDRESSES && !once.contains(&way) {
                once.push(way);
            }
        }
        once
    }

    fn way(&self, address: &str) -> Option<Vec<String>> {
        let given = self.0.get(&Address::parse(address).ok()?.relay()?)?;
        let (_, behind) = address.split_once("/p2p-circuit")?;
        Some(given.iter().map(|relay| format!("{relay}/p2p-circuit{behind}")).collect())
    }

    /// Why nobody is asked this, if it is a name that the user has not given.
    pub(super) fn refuses(&self, question: &Question) -> Option<ResolveError> {
        let name = match question {
            Question::Ip4(name) | Question::Ip6(name) => name,
            Question::Text(name) => name.strip_prefix("_dnsaddr.").unwrap_or(name),
        };
        let named = |address: &String| {
            Address::parse(address).is_ok_and(|own| own.lookup().is_some_and(|(own, _)| own == name))
        };
        let known = self.0.values().flatten().any(named);
        (!known).then(|| {
            // Asking again gives the same.
            ResolveError::NoSuchName(
                "only relays that this side has named may be used (relay-only), and no other name is asked for".to_owned(),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::NodeKey;

    fn node(n: u8) -> NodeId {
        NodeKey::from_seed([n; 32]).node_id()
    }

    #[test]
    fn the_way_to_a_relay_is_the_one_that_the_user_gave() {
        let (relay, other, callee) = (node(1), node(2), node(3));
        let mut given = Given::default();
        let own = format!("/dns4/relay.example.org/tcp/4001/p2p/{relay}");
        given.add(relay, &own);
        given.add(relay, &own);
        let behind = |at: &str, relay| format!("{at}/p2p/{relay}/p2p-circuit/p2p/{callee}");
        let trap = "/ip4/203.0.113.66/tcp/1";
        let found = vec![behind(trap, relay), behind("/dns4/spy.example/tcp/1", relay), behind(trap, other)];
        let straight = format!("{trap}/p2p/{callee}");
        let ways = given.ways([found, vec![straight.clone(), "nonsense".into()]].concat());
        let own = format!("{own}/p2p-circuit/p2p/{callee}");
        assert_eq!(ways, [own, behind(trap, other), straight, "nonsense".into()]);
        assert_eq!((given.of(&relay).map(<[_]>::len), given.of(&callee)), (Some(1), None));
    }

    #[test]
    fn names_are_asked_for_only_if_the_user_gave_them() {
        let mut given = Given::default();
        given.add(node(1), &format!("/dns4/relay.example.org/tcp/4001/p2p/{}", node(1)));
        assert!(given.refuses(&Question::Ip4("relay.example.org".into())).is_none());
        for spy in [
            Question::Ip4("spy.example".into()),
            Question::Ip6("spy.example".into()),
            Question::Text("_dnsaddr.spy.example".into()),
        ] {
            assert!(given.refuses(&spy).is_some());
        }
    }

    #[test]
    fn many_ways_are_bounded() {
        let mut given = Given::default();
        for port in 0..100 {
            given.add(node(1), &format!("/ip4/192.0.2.1/tcp/{port}/p2p/{}", node(1)));
        }
        let behind = |port| format!("/ip4/192.0.2.2/tcp/{port}/p2p/{}/p2p-circuit", node(1));
        assert!(given.ways((0..50).map(behind).collect()).len() <= MAX_REACH_ADDRESSES);
    }
}
