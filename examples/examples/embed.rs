//! Calls inside an app that runs a rust-ipfs node already: one node, one PeerId, one set of connections.
//!
//! ```text
//! cargo run -p blink-examples --example embed [ADDRESS_OF_ANOTHER_NODE]
//! ```

use rust_ipfs::builder::IpfsBuilder;
use warp_blink::{Audio, Blink, BlinkBehaviour, Event, Identity};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The app's own node, built as the app builds it. What is new is the custom behaviour: the part of calls that must
    // live inside the node. An app with a custom behaviour of its own makes one struct of both
    // (`#[derive(NetworkBehaviour)]`).
    let (behaviour, link) = BlinkBehaviour::new();
    let ipfs = IpfsBuilder::new()
        .enable_tcp()
        // The plain `enable_quic` of rust-ipfs 0.16 drops a connection after 300 ms of silence.
        .enable_quic_with_config(|mut quic| {
            quic.max_idle_timeout = 30_000;
            quic.keep_alive_interval = std::time::Duration::from_secs(5);
            quic
        })
        .with_custom_behaviour(move |_| Ok(behaviour))
        .start()
        .await?;
    ipfs.add_listening_address("/ip4/0.0.0.0/tcp/0".parse()?).await?;

    // Who is called is an identity, and not the node: the node's key stays what it is.
    let identity = Identity::load_or_create("embed.key")?;
    let blink = Blink::builder(identity).node(ipfs.clone(), link).media(Audio::devices()).spawn().await?;
    if let Some(address) = std::env::args().nth(1) {
        blink.add_address(&address).await?;
    }
    let online = blink.snapshots().wait_for(|s| !s.addresses.is_empty()).await?.clone();
    for address in &online.addresses {
        println!("cargo run -p blink-examples --example caller -- {} {address}", blink.public_key());
    }

    let mut events = blink.events();
    loop {
        tokio::select! {
            Some(event) = events.next() => match event {
                // Fails if the caller has given up in this moment.
                Event::Incoming { call, .. } => drop(blink.answer(call).await),
                Event::Ended { reason, .. } => println!("{reason}"),
                _ => {}
            },
            _ = tokio::signal::ctrl_c() => break,
            else => break,
        }
    }
    // Ends the calls. The node is the app's, and goes on until the app stops it.
    blink.shutdown().await;
    ipfs.exit_daemon().await;
    Ok(())
}
