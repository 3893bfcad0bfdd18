//! The least that calls somebody, with this machine's microphone and speaker.
//!
//! ```text
//! cargo run -p blink-examples --example caller -- KEY [ADDRESS]
//! ```
//! KEY is the callee's `did:key:z6Mk...`, ADDRESS one of its addresses (`/ip4/192.0.2.1/tcp/4001/p2p/12D3KooW...`),
//! as `answerer` prints them.

use std::env::args;

use warp_blink::{Audio, Blink, Event, Identity, PublicKey};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let callee: PublicKey = args().nth(1).ok_or("whom to call? give a key")?.parse()?;

    let identity = Identity::load_or_create("caller.key")?;
    let mut builder = Blink::builder(identity).media(Audio::devices());
    if let Some(address) = args().nth(2) {
        builder = builder.peer(&address);
    }
    let blink = builder.spawn().await?;

    // Read events from before the call on, so that none is missed.
    let mut events = blink.events();
    let call = blink.offer([callee]).await?;

    loop {
        tokio::select! {
            Some(event) = events.next() => match event {
                Event::Ringing { .. } => println!("it rings"),
                Event::Accepted { .. } => println!("accepted"),
                // What a call takes to set up, step by step: a screen shows why it is slow.
                Event::Link { state, .. } => println!("connection: {}", state.name()),
                Event::FirstAudio { .. } => println!("the other side is heard"),
                // A missing microphone is such a warning: the call goes on, and the others hear nothing from here.
                Event::Warning { warning } => println!("{warning:?}"),
                // Every call ends exactly once, and says why.
                Event::Ended { reason, .. } => {
                    println!("{reason}");
                    break;
                }
                _ => {}
            },
            // Fails if the call has ended in this moment; its `Ended` ends the loop either way.
            _ = tokio::signal::ctrl_c() => drop(blink.hang_up(call).await),
        }
    }
    blink.shutdown().await;
    Ok(())
}
