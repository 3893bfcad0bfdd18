//! The path in use, and the others that there are.

use std::net::{IpAddr, SocketAddr};

use webrtc::peer_connection::{RTCIceCandidate, RTCIceCandidateType, RTCStatsReportEntry, StatsSelector};

use super::{WebrtcConnection, pairs};
use crate::description::CandidateKind;
use crate::engine::Path;
use crate::stats::{Family, PairStats, Protocol, Route, Security};

impl WebrtcConnection {
    pub(super) async fn find_path(&self) -> Path {
        let selected = match self.outlet.sender.transport().await {
            Ok(Some(dtls)) => dtls.ice_transport().get_selected_candidate_pair().await.ok().flatten(),
            _ => None,
        };
        let Some(pair) = selected else { return Path::default() };
        let (own, remote) = (pair.local(), pair.remote());
        let route = kind(own.typ).zip(kind(remote.typ)).and_then(|(local, of_peer)| {
            let address: IpAddr = remote.address.parse().ok()?;
            let family = if address.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 };
            let protocol = if local == CandidateKind::Relay { self.to_relay() } else { Protocol::Udp };
            Some(Route { local, remote: of_peer, family, protocol })
        });
        let now = tokio::time::Instant::now().into_std();
        let report = self.engine.get_stats(now, StatsSelector::None).await;
        let round_trip_ms = report.iter().find_map(|entry| match entry {
            RTCStatsReportEntry::IceCandidatePair(stats)
                if stats.local_candidate_id.ends_with(&pair.local().id)
                    && stats.remote_candidate_id.ends_with(&pair.remote().id)
                    && stats.responses_received > 0 =>
            {
                Some(stats.current_round_trip_time * 1000.0)
            }
            _ => None,
        });
        let security = report.iter().find_map(|entry| match entry {
            RTCStatsReportEntry::Transport(stats) if !stats.srtp_cipher.is_empty() => Some(Security {
                dtls_version: stats.tls_version.clone(),
                dtls_cipher: stats.dtls_cipher.clone(),
                srtp_profile: stats.srtp_cipher.clone(),
            }),
            _ => None,
        });
        let address = match own.typ {
            RTCIceCandidateType::Host => &own.address,
            _ => &own.related_address,
        };
        Path { round_trip_ms, route, local: address.parse().ok(), security }
    }

    pub(super) async fn list_pairs(&self) -> Vec<PairStats> {
        let Ok(Some(dtls)) = self.outlet.sender.transport().await else { return Vec::new() };
        let ice = dtls.ice_transport();
        let (own, theirs) = (ice.get_local_candidates().await, ice.get_remote_candidates().await);
        let selected = ice.get_selected_candidate_pair().await.ok().flatten();
        let address = |candidate: &RTCIceCandidate| {
            Some(SocketAddr::new(candidate.address.parse().ok()?, candidate.port))
        };
        let theirs: Vec<(SocketAddr, CandidateKind)> = theirs
            .unwrap_or_default()
            .iter()
            .filter_map(|candidate| Some((address(candidate)?, kind(candidate.typ)?)))
            .collect();
        let selected = selected.and_then(|pair| {
            Some((kind(pair.local().typ)? == CandidateKind::Relay, address(pair.remote())?))
        });
        let now = tokio::time::Instant::now().into_std();
        let checked = self.watch.pairs.list();
        let family = |address: SocketAddr| if address.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 };
        let mut pairs: Vec<PairStats> = checked
            .iter()
            .map(|pair| {
                let of_peer = theirs.iter().find(|(address, _)| *address == pair.remote);
                PairStats {
                    local: if pair.relay.is_some() { CandidateKind::Relay } else { CandidateKind::Host },
                    remote: of_peer.map_or(CandidateKind::PeerReflexive, |(_, kind)| *kind),
                    family: family(pair.remote),
                    state: pair.state(now),
                    round_trip_ms: pair.round_trip.map(|trip| trip.as_secs_f64() * 1000.0),
                    nominated: pair.nominated,
                    selected: false,
                }
            })
            .collect();
        // Of several sockets the one that was nominated is in use; there may be more than one with the same peer.
        if let Some(selected) = selected {
            let is = |pair: &pairs::Pair| (pair.relay.is_some(), pair.remote) == selected;
            let at = checked.iter().rposition(|pair| is(pair) && pair.nominated);
            if let Some(pair) = at.or_else(|| checked.iter().rposition(is)).and_then(|at| pairs.get_mut(at)) {
                pair.selected = true;
            }
        }
        for own in own.unwrap_or_default() {
            let (Some(local), Some(kind)) = (address(&own), kind(own.typ)) else { continue };
            // The others are checked from the sockets of these (RFC 8445 section 6.1.2.4).
            if !matches!(kind, CandidateKind::Host | CandidateKind::Relay) {
                continue;
            }
            let is_relay = kind == CandidateKind::Relay;
            for (remote, of_peer) in theirs.iter().filter(|(remote, _)| remote.is_ipv4() == local.is_ipv4()) {
                let is = |pair: &pairs::Pair| {
                    pair.remote == *remote
                        && pair.relay.is_some() == is_relay
                        && (is_relay || pair.local == local)
                };
                if !checked.iter().any(is) {
                    pairs.push(PairStats::waiting(kind, *of_peer, family(*remote)));
                }
            }
        }
        pairs
    }

    /// How packets get to the relay in use.
    fn to_relay(&self) -> Protocol {
        let pairs = self.watch.pairs.list();
        let relay = pairs.iter().rev().filter(|pair| pair.nominated).find_map(|pair| pair.relay);
        match relay.and_then(|relay| self.servers.exit(relay)) {
            None => Protocol::Udp,
            Some((_, exit)) if exit.tls.is_some() => Protocol::Tls,
            Some(_) => Protocol::Tcp,
        }
    }
}

fn kind(typ: RTCIceCandidateType) -> Option<CandidateKind> {
    match typ {
        RTCIceCandidateType::Host => Some(CandidateKind::Host),
        RTCIceCandidateType::Srflx => Some(CandidateKind::ServerReflexive),
        RTCIceCandidateType::Prflx => Some(CandidateKind::PeerReflexive),
        RTCIceCandidateType::Relay => Some(CandidateKind::Relay),
        _ => None,
    }
}
