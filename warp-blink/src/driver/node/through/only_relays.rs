//! Where only relays may be used, no packet goes anywhere else.

use std::{
    collections::BTreeSet,
    convert::Infallible,
    task::{Context, Poll},
};

use rust_ipfs::{
    ConnectionId, Multiaddr, NetworkBehaviour, PeerId,
    swarm::{
        ConnectionDenied, FromSwarm, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
        derive_prelude::{Endpoint, PortUse},
        dummy,
    },
};

use super::super::address::{is_relayed, peer_of, relay_of};

/// Refuses every connection that does not lead to, or through, a relay that the user named. It stands before the first packet, and for
/// whatever part of the node wants the connection.
///
/// A relay that others name is refused like any other node: whoever is called could run it, to see who calls.
#[derive(Debug, Default)]
#[allow(unreachable_pub, reason = "a part of the handler of a public behaviour")]
pub struct OnlyRelays {
    /// `None`: every way is allowed.
    relays: Option<BTreeSet<PeerId>>,
}

impl OnlyRelays {
    pub(super) fn new(relay_only: bool, relays: BTreeSet<PeerId>) -> Self {
        Self { relays: relay_only.then_some(relays) }
    }

    /// Why a connection to this peer at these addresses is refused, if it is.
    pub(super) fn refusal(&self, peer: Option<&PeerId>, addresses: &[Multiaddr]) -> Option<&'static str> {
        let relays = self.relays.as_ref()?;
        if peer.is_some_and(|peer| relays.contains(peer)) {
            return None;
        }
        if addresses.is_empty() || !addresses.iter().all(is_relayed) {
            return Some("only relays may be used (relay-only), and this leads straight there");
        }
        let through = |address: &Multiaddr| relay_of(address).and_then(|relay| peer_of(&relay));
        let named = addresses.iter().all(|address| through(address).is_some_and(|r| relays.contains(&r)));
        (!named).then_some(
            "only relays that this side has named may be used (relay-only), and this is another one: name it too, if you trust it",
        )
    }
}

impl NetworkBehaviour for OnlyRelays {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        match self.refusal(peer.as_ref(), addresses) {
            Some(why) => Err(ConnectionDenied::new(why)),
            None => Ok(Vec::new()),
        }
    }

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        Poll::Pending
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
        let only = OnlyRelays::new(true, BTreeSet::from([relay]));
        let refused = |addresses: &[Multiaddr]| only.refusal(Some(&callee), addresses).is_some();
        assert!(refused(&[straight.clone()]));
        assert!(refused(&[]), "somebody else would add the addresses");
        assert!(refused(&[through(relay), straight.clone()]), "one of both would be tried");
        assert!(refused(&[through(stranger)]), "its owner may be the callee");
        assert!(refused(&[at("/ip4/192.0.2.2/tcp/1/p2p-circuit".into())]), "a relay without a name");
        assert!(!refused(&[through(relay)]));
        assert!(only.refusal(None, &[straight.clone()]).is_some());
        assert!(only.refusal(Some(&relay), &[]).is_none(), "the relay itself");
        let all = OnlyRelays::new(false, BTreeSet::new());
        assert!(all.refusal(Some(&callee), &[straight]).is_none());
    }
}
