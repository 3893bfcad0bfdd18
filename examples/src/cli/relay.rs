//! `blink relay`: a node that others find each other through, and reach each other through.

use std::{
    collections::BTreeSet,
    io::{self, Write as _},
    net::SocketAddr,
    sync::Arc,
};

use tokio::{sync::watch, time::timeout};
use warp_blink::{
    Audio, Blink, NodeKey, RelayConfig, RelayNode, TurnConfig, TurnFor,
    config::{Admission, Config},
    event::{NodeState, Snapshot},
    id::Identity,
};

use super::{
    args::RelayArguments,
    failure::{Exit, Failure},
    line::Line,
    output::Output,
    setup,
    signals::Signals,
};

/// What runs.
enum Running {
    /// A relay alone.
    Relay(Box<RelayNode>, watch::Receiver<NodeState>),
    /// A phone on the relay's node that no call reaches: friends ask it for a place on its TURN server.
    Friend(Blink, watch::Receiver<Arc<Snapshot>>),
}

/// Runs until it is told to stop.
pub(super) async fn run(arguments: &RelayArguments) -> Result<Exit, Failure> {
    let identity = setup::identity(arguments.key.as_deref())?;
    let did = identity.public();
    let mut signals = Signals::new().map_err(Failure::other)?;
    let config = RelayConfig::new(NodeKey::from(&identity))
        .with_announce(&arguments.announce)
        .with_listen(setup::listen(&arguments.listen));
    let (mut running, ready) = match arguments.turn {
        Some(turn) => serving(arguments, identity, config, turn).await?,
        None => {
            let relay = config.start().await.map_err(Failure::other)?;
            let (peer_id, addresses) = (relay.node(), relay.addresses());
            let states = relay.states();
            let ready = Line::Ready { did, peer_id, addresses, resumable: Vec::new() };
            (Running::Relay(Box::new(relay), states), ready)
        }
    };
    let output = Output { json: arguments.json, control: false, waits: false };
    match arguments.json {
        true => output.write(&ready).map_err(Failure::other)?,
        false => say(&ready, arguments.turn.is_some()).map_err(Failure::other)?,
    }
    let mut told = running.state();
    output.write(&Line::node(&told)).map_err(Failure::other)?;
    loop {
        tokio::select! {
            () = signals.recv() => break,
            changed = running.changed() => {
                if !changed {
                    return Err(Failure::other("the node ended"));
                }
                let state = running.state();
                if state != told {
                    output.write(&Line::node(&state)).map_err(Failure::other)?;
                    told = state;
                }
            }
        }
    }
    match running {
        Running::Relay(relay, _) => relay.shutdown().await,
        Running::Friend(blink, _) => blink.shutdown().await,
    }
    Ok(Exit::Done)
}

/// A relay that serves TURN, too.
async fn serving(
    arguments: &RelayArguments,
    identity: Identity,
    relay: RelayConfig,
    listen: SocketAddr,
) -> Result<(Running, Line), Failure> {
    if listen.ip().is_unspecified() && arguments.turn_public.is_none() {
        return Err(Failure::usage(
            "--turn listens on every address: say with --turn-public IP under which one others reach it",
        ));
    }
    let mut config = Config::default();
    config.admission = Admission::Only(BTreeSet::new());
    config.turn_for = TurnFor::Only(arguments.friends.iter().copied().collect());
    let mut turn = TurnConfig::new(listen);
    if let Some(public) = arguments.turn_public {
        turn = turn.public_address(public);
    }
    let builder = Blink::builder(identity).media(Audio::silent()).config(config);
    let blink = builder.relay_node(relay).turn_for_friends(turn).spawn().await?;
    let mut snapshots = blink.snapshots();
    let listens = snapshots.wait_for(|s| s.node.is_up() && !s.addresses.is_empty());
    let snapshot = match timeout(setup::START, listens).await {
        Ok(Ok(snapshot)) => snapshot.clone(),
        _ => return Err(Failure::other("the node listens on no address: check --listen")),
    };
    let ready = setup::told(&blink, &snapshot);
    Ok((Running::Friend(blink, snapshots), ready))
}

impl Running {
    fn state(&mut self) -> NodeState {
        match self {
            Self::Relay(_, states) => states.borrow_and_update().clone(),
            Self::Friend(_, snapshots) => snapshots.borrow_and_update().node.clone(),
        }
    }

    /// Waits for something new; false at the end.
    async fn changed(&mut self) -> bool {
        match self {
            Self::Relay(_, states) => states.changed().await.is_ok(),
            Self::Friend(_, snapshots) => snapshots.changed().await.is_ok(),
        }
    }
}

/// For a person: what to type elsewhere.
fn say(ready: &Line, turn: bool) -> io::Result<()> {
    let Line::Ready { did, peer_id, addresses, .. } = ready else { return Ok(()) };
    let mut out = io::stdout().lock();
    writeln!(out, "This relay is {peer_id}. Others use it with any of:")?;
    for address in addresses {
        writeln!(out, "  --relay {address}")?;
    }
    if turn {
        writeln!(out, "Those whom --friends names have their calls relayed with:\n  --turn-friend {did}")?;
    }
    out.flush()
}
