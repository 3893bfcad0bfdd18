//! A bot that lets callers hear themselves: it answers every call, and says every four seconds what it has heard in them.
//!
//! ```text
//! cargo run -p blink-examples --example echo_bot
//! blink call KEY --peer ADDRESS        as it prints them
//! ```
//!
//! Sound comes from memory and goes to memory here, and the microphone is changed while the call runs. The same two types
//! carry speech from a synthesiser or to a recogniser.

use std::{sync::Arc, time::Duration};

use warp_blink::{
    Audio, Blink, Event, Identity,
    audio::{MemorySink, MemorySource, SAMPLE_RATE, SinkSpec, SourceSpec},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let identity = Identity::load_or_create("echo_bot.key")?;
    let (beeps, heard) = (beeps(), MemorySink::new());
    let say = |samples: Arc<[f32]>| SourceSpec::Memory(MemorySource::new(samples));
    // The port stays, so that one address serves all calls.
    let blink = Blink::builder(identity)
        .listen("/ip4/0.0.0.0/tcp/4077")
        .media(Audio::new(say(beeps.clone()), SinkSpec::Memory(heard.clone())))
        .spawn()
        .await?;
    println!("blink call {} --peer /ip4/127.0.0.1/tcp/4077/p2p/{}", blink.public_key(), blink.node_id());

    let mut events = blink.events();
    let mut turns = tokio::time::interval(Duration::from_secs(4));
    let mut talking = false;
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(Event::Incoming { call, from, .. }) => match blink.answer(call).await {
                    Ok(()) => println!("{from} calls"),
                    // The caller gave up in this moment.
                    Err(error) => println!("{error}"),
                },
                Some(Event::FirstAudio { .. }) => {
                    turns.reset();
                    talking = true;
                }
                Some(Event::Ended { reason, .. }) => {
                    println!("{reason}");
                    talking = false;
                    drop(heard.take());
                    blink.set_microphone(say(beeps.clone())).await?;
                }
                Some(_) => {}
                None => break,
            },
            // 48 kHz, mono, -1.0 to 1.0: what the caller said, in real time, with losses concealed.
            _ = turns.tick(), if talking => blink.set_microphone(say(heard.take().into())).await?,
            _ = tokio::signal::ctrl_c() => break,
        }
    }
    blink.shutdown().await;
    Ok(())
}

/// What a caller hears first: three beeps of 440 Hz, the pitch of a dial tone.
fn beeps() -> Arc<[f32]> {
    let beep = |i: u32| match i / (SAMPLE_RATE / 4) % 2 {
        0 => 0.2 * (i as f32 * std::f32::consts::TAU * 440.0 / SAMPLE_RATE as f32).sin(),
        _ => 0.0,
    };
    (0..SAMPLE_RATE * 3 / 2).map(beep).collect()
}
