//! `blink relay`: a node that others find each other through, and reach each other through.

use std::io::{self, Write as _};

use warp_blink::{NodeKey, RelayConfig, RelayNode};

use super::{
    args::RelayArguments,
    failure::{Exit, Failure},
    line::Line,
    output::Output,
    setup,
    signals::Signals,
};

/// Runs until it is told to stop.
pub(super) async fn run(arguments: &RelayArguments) -> Result<Exit, Failure> {
    let identity = setup::identity(arguments.key.as_deref())?;
    let mut signals = Signals::new().map_err(Failure::other)?;
    let mut config = RelayConfig::new(NodeKey::from(&identity)).with_announce(&arguments.announce);
    if !arguments.listen.is_empty() {
        config = config.with_listen(&arguments.listen);
    }
    let relay = config.start().await.map_err(Failure::other)?;
    let mut states = relay.states();
    let output = Output { json: arguments.json, control: false, waits: false };
    let ready = Line::Ready {
        did: identity.public(),
        peer_id: relay.node(),
        addresses: relay.addresses(),
        resumable: Vec::new(),
    };
    match arguments.json {
        true => output.write(&ready).map_err(Failure::other)?,
        false => say(&relay).map_err(Failure::other)?,
    }
    output.write(&Line::node(&states.borrow_and_update())).map_err(Failure::other)?;
    loop {
        tokio::select! {
            () = signals.recv() => break,
            changed = states.changed() => {
                if changed.is_err() {
                    return Err(Failure::other("the node ended"));
                }
                let state = states.borrow_and_update().clone();
                output.write(&Line::node(&state)).map_err(Failure::other)?;
            }
        }
    }
    relay.shutdown().await;
    Ok(Exit::Done)
}

/// For a person: what to type elsewhere.
fn say(relay: &RelayNode) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "This relay is {}. Others use it with any of:", relay.node())?;
    for address in relay.addresses() {
        writeln!(out, "  --relay {address}")?;
    }
    out.flush()
}
