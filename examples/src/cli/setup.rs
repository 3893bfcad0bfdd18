//! From the options to a phone that runs.

use std::{net::UdpSocket, path::Path, sync::Arc, time::Duration};

use tokio::time::timeout;
use warp_blink::{
    Audio, Blink, FileStore, IceServer,
    config::{Admission, Config, PostQuantum, PreConnect, WhenBusy},
    event::Snapshot,
    id::Identity,
};

use super::{
    args::{self, Common, Switch, Turn},
    failure::Failure,
    line::Line,
};

/// How long the node may take until it listens. It takes some milliseconds; a name or a port that does not come up
/// within this time does not come up at all.
pub(super) const START: Duration = Duration::from_secs(10);

/// Where `blink` listens that was not told where.
const LISTEN: [&str; 2] = ["/ip4/0.0.0.0/tcp/0", "/ip4/0.0.0.0/udp/0/quic-v1"];

/// The same on a machine that reaches nobody over IPv4.
const LISTEN_IP6: [&str; 2] = ["/ip6/::/tcp/0", "/ip6/::/udp/0/quic-v1"];

/// Where to listen: as told, or the default.
pub(super) fn listen(told: &[String]) -> Vec<String> {
    if !told.is_empty() {
        return told.to_vec();
    }
    // Nothing is sent: the system says whether there is a way to there (addresses of documentation, RFC 5737 and RFC 3849).
    let leads = |from: &str, to: &str| UdpSocket::bind(from).and_then(|socket| socket.connect(to)).is_ok();
    let ip6_only = !leads("0.0.0.0:0", "192.0.2.1:9") && leads("[::]:0", "[2001:db8::1]:9");
    let also: &[&str] = if ip6_only { &LISTEN_IP6 } else { &[] };
    LISTEN.iter().chain(also).map(ToString::to_string).collect()
}

/// The identity of a key file, or a new one.
pub(super) fn identity(key: Option<&Path>) -> Result<Identity, Failure> {
    match key {
        Some(path) => Identity::load_or_create(path).map_err(Failure::usage),
        None => {
            let mut seed = [0; 32];
            getrandom::fill(&mut seed).map_err(|e| {
                Failure::other(format_args!("the system gave no random bytes for a new identity: {e}"))
            })?;
            Ok(Identity::from_seed(seed))
        }
    }
}

/// Refuses what makes no sense together.
pub(super) fn check(common: &Common) -> Result<(), Failure> {
    let wrong = [
        (
            common.relay_only && common.relay.is_empty() && common.bootstrap.is_empty(),
            "--relay-only needs --relay ADDR: signals have no other way then",
        ),
        (
            common.relay_only && !common.listen.is_empty(),
            "--relay-only and --listen do not go together: who connects there would see the address",
        ),
        (
            common.relay_only && common.turn.is_empty() && common.turn_friend.is_empty(),
            "--relay-only needs --turn URL,USER,PASSWORD or --turn-friend KEY: sound has no other way then",
        ),
        (
            common.store.is_some() && common.key.is_none(),
            "--store needs --key FILE: what is kept is sealed for one identity, and without a file each run is another",
        ),
        (
            common.resume && common.store.is_none(),
            "--resume needs --store DIR: calls of an earlier run are kept there",
        ),
    ];
    match wrong.into_iter().find(|(wrong, _)| *wrong) {
        Some((_, why)) => Err(Failure::usage(why)),
        None => Ok(()),
    }
}

/// Starts the phone.
pub(super) async fn start(common: &Common, identity: Identity) -> Result<Blink, Failure> {
    let mut config = Config::default();
    // A phone on a command line has one line: whoever calls during a call hears that it is busy.
    config.when_busy = WhenBusy::Reject;
    config.pre_connect = match common.pre_connect {
        args::PreConnect::Always => PreConnect::Always,
        args::PreConnect::Never => PreConnect::Never,
    };
    config.admission = match common.admit {
        args::Admit::Everyone => Admission::Everyone,
        args::Admit::Contacts => Admission::Contacts,
    };
    config.post_quantum = match common.post_quantum {
        args::PostQuantum::Require => PostQuantum::Require,
        args::PostQuantum::Prefer => PostQuantum::Prefer,
        args::PostQuantum::Off => PostQuantum::Off,
    };
    config.ring_timeout = common.ring_timeout.unwrap_or(config.ring_timeout);
    config.media.frame_ms = common.frame_ms;
    config.media.max_bitrate = common.bitrate.unwrap_or(config.media.max_bitrate);

    let mut audio = Audio::new(common.mic.clone(), common.speaker.clone());
    audio = match common.processing {
        Some(Switch::On) => audio.processing(warp_blink::audio::Processing::on()),
        Some(Switch::Off) => audio.processing(warp_blink::audio::Processing::off()),
        None => audio,
    };
    audio = audio.dtx(common.dtx == Switch::On);
    if let Some(folder) = &common.record {
        audio = audio.record(folder);
    }
    let mut builder =
        Blink::builder(identity).media(audio).config(config).contacts(common.contact.iter().copied());
    if !common.relay_only {
        for address in listen(&common.listen) {
            builder = builder.listen(address);
        }
    }
    for address in &common.peer {
        builder = builder.peer(address);
    }
    for address in &common.bootstrap {
        builder = builder.bootstrap(address);
    }
    builder = builder.mdns(common.mdns == Switch::On).dht(common.dht == Switch::On);
    builder = builder.publish(common.publish == Switch::On);
    for address in &common.relay {
        builder = builder.relay(address);
    }
    builder = builder
        .relay_only(common.relay_only)
        .port_mapping(common.upnp)
        .hole_punching(common.hole_punching == Switch::On)
        .dial_back(common.dial_back == Switch::On);
    for address in &common.ice_ip {
        builder = builder.ice_address(*address);
    }
    for url in &common.stun {
        builder = builder.ice_server(IceServer::stun(url));
    }
    for Turn { url, user, password } in &common.turn {
        builder = builder.ice_server(IceServer::turn(url, user, password));
    }
    for friend in &common.turn_friend {
        builder = builder.turn_friend(*friend);
    }
    if let Some(folder) = &common.store {
        builder = builder.store(FileStore::open(folder).map_err(Failure::usage)?);
    }
    Ok(builder.spawn().await?)
}

/// Waits until the node listens, and until a relay keeps a place for it if one was named.
pub(super) async fn ready(blink: &Blink, common: &Common) -> Result<Line, Failure> {
    let mut snapshots = blink.snapshots();
    let behind = |s: &Snapshot| s.addresses.iter().any(|address| address.contains("/p2p-circuit"));
    let wanted = |s: &Arc<Snapshot>| {
        s.node.is_up() && !s.addresses.is_empty() && (common.relay.is_empty() || behind(s))
    };
    let waited = timeout(START, snapshots.wait_for(wanted)).await.map(|found| found.map(|s| s.clone()));
    let snapshot = match waited {
        Ok(Ok(snapshot)) => snapshot,
        Ok(Err(_)) => return Err(Failure::other("the node ended while it started")),
        Err(_) if common.relay_only => {
            return Err(Failure::other(format_args!(
                "no relay keeps a place for this phone after {} s: check --relay (is it up, and has it room?)",
                START.as_secs()
            )));
        }
        // It goes on asking the relay.
        Err(_) if !blink.snapshot().addresses.is_empty() => blink.snapshot(),
        Err(_) => {
            return Err(Failure::other(format_args!(
                "the node listens on no address after {} s: check --listen (the port may be in use)",
                START.as_secs()
            )));
        }
    };
    Ok(told(blink, &snapshot))
}

/// What is told of a phone that listens.
pub(super) fn told(blink: &Blink, snapshot: &Snapshot) -> Line {
    let peer_id = blink.node_id();
    let suffix = format!("/p2p/{peer_id}");
    let addresses = snapshot.addresses.iter().map(|a| match a.ends_with(&suffix) {
        true => a.clone(),
        false => format!("{a}{suffix}"),
    });
    let resumable = snapshot.resumable.iter().map(|call| call.id).collect();
    Line::Ready { did: blink.public_key(), peer_id, addresses: addresses.collect(), resumable }
}
