//! The least that answers calls, with this machine's microphone and speaker.
//!
//! ```text
//! cargo run -p blink-examples --example answerer
//! ```
//! It prints the line with which `caller` calls it.

use warp_blink::{Audio, Blink, Event, Identity};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The key by which others call us. Keep the file: who has it answers in our name.
    let identity = Identity::load_or_create("answerer.key")?;
    let blink = Blink::builder(identity).media(Audio::devices()).spawn().await?;
    let mut events = blink.events();

    // Once the node listens, say where.
    let mut snapshots = blink.snapshots();
    let online = snapshots.wait_for(|s| s.node.is_up() && !s.addresses.is_empty()).await?.clone();
    for address in &online.addresses {
        println!("cargo run -p blink-examples --example caller -- {} {address}", blink.public_key());
    }

    loop {
        tokio::select! {
            Some(event) = events.next() => match event {
                // `from` is proven: nobody else can call with this key. A real app would ring and ask the user.
                Event::Incoming { call, from, .. } => {
                    println!("{from} calls");
                    // Fails if the caller has given up in this moment; the `Ended` says so too.
                    if let Err(error) = blink.answer(call).await {
                        println!("not answered: {error}");
                    }
                }
                Event::FirstAudio { .. } => println!("the other side is heard"),
                // A missing microphone is such a warning: the call goes on, and the others hear nothing from here.
                Event::Warning { warning } => println!("{warning:?}"),
                Event::Ended { reason, .. } => println!("{reason}"),
                _ => {}
            },
            _ = tokio::signal::ctrl_c() => break,
            else => break,
        }
    }
    // Hangs up and says goodbye. A dropped `Blink` does so too, but nobody waits for it.
    blink.shutdown().await;
    Ok(())
}
