//! Records, as others have stored them and as this node has them stored.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use futures::StreamExt;
use tokio::time::timeout_at;

use crate::{
    driver::clock,
    id::{Identity, NodeId, PublicKey},
    ports::gossip::Gossip,
    proto::signal::{SUITE_CLASSICAL, SUITE_HYBRID, VERSION},
    reach::{Addresses, Device, Found, OwnRecord},
    wire::{
        KemHash, SealError,
        record::{NodePlace, Record, read_record, record_key, seal_record},
    },
};

/// Of all that others have stored under somebody's name, the newest that they have signed. One that is over is better than
/// none: the clock of this machine may be wrong, and what it says of addresses is tried like everything else.
/// Newer ones are waited for so long.
pub(super) async fn newest_record(
    gossip: &dyn Gossip,
    who: &PublicKey,
    newer: Duration,
    forged: &AtomicU64,
) -> Option<Record> {
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
                    until.get_or_insert_with(|| tokio::time::Instant::now() + newer);
                }
            }
            // Whoever stores it lies, or was lied to.
            Ok(_) | Err(_) => {
                forged.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    best.map(|(_, record)| record)
}

pub(super) fn found(record: Record) -> Found {
    let nodes = record.nodes.into_iter().map(|place| (place.node, Addresses(place.addresses))).collect();
    Found { sequence: Some(record.sequence), nodes }
}

pub(super) fn devices(record: Record) -> Vec<Device> {
    let device = |place: NodePlace| Device {
        node: place.node,
        until: place.until,
        addresses: Addresses(place.addresses),
    };
    record.nodes.into_iter().map(device).collect()
}

/// The own record, signed. Of other devices it names as many as there is room for.
pub(super) fn sealed(
    identity: &Identity,
    node: NodeId,
    kem: KemHash,
    mut own: OwnRecord,
) -> Result<Vec<u8>, SealError> {
    loop {
        let here = Device { node, until: own.expires, addresses: own.addresses.clone() };
        let place = |device: Device| NodePlace {
            node: device.node,
            until: device.until,
            addresses: device.addresses.0,
        };
        let mut nodes: Vec<NodePlace> = own.others.iter().cloned().chain([here]).map(place).collect();
        nodes.sort_by_key(|place| place.node);
        let record = Record {
            sequence: own.sequence,
            expires: own.expires,
            nodes,
            versions: vec![VERSION],
            suites: vec![SUITE_HYBRID, SUITE_CLASSICAL],
            kem: Some(kem),
        };
        match seal_record(identity, &record) {
            Err(SealError::TooLong { .. }) if own.others.pop().is_some() => {}
            sealed => return sealed,
        }
    }
}
