//! A bot that lets callers hear themselves: it answers every call, keeps what it hears, and plays it to the next one.
//! Call it, say something, hang up, call again.
//!
//! ```text
//! cargo run -p blink-examples --example echo_bot
//! blink call KEY --peer ADDRESS        as it prints them
//! ```
//!
//! Sound comes from memory and goes to memory here. The same two types carry speech from a synthesiser or to a
//! recogniser.

use std::sync::Arc;

use warp_blink::{
    Audio, Blink, Event, Identity,
    audio::{MemorySink, MemorySource, SAMPLE_RATE, SinkSpec, SourceSpec},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let identity = Identity::load_or_create("echo_bot.key")?;
    let mut message: Arc<[f32]> = beeps();
    loop {
        // What the next caller hears, from the moment that the call is answered; silence follows.
        let source = SourceSpec::Memory(MemorySource::new(message.clone()));
        let heard = MemorySink::new();
        let audio = Audio::new(source, SinkSpec::Memory(heard.clone()));
        // One phone for each message. The port stays, so that one address serves all calls.
        let blink =
            Blink::builder(identity.clone()).listen("/ip4/0.0.0.0/tcp/4077").media(audio).spawn().await?;
        let mut events = blink.events();
        println!("blink call {} --peer /ip4/127.0.0.1/tcp/4077/p2p/{}", blink.public_key(), blink.node_id());

        let stop = tokio::select! {
            () = one_call(&blink, &mut events) => false,
            _ = tokio::signal::ctrl_c() => true,
        };
        blink.shutdown().await;
        if stop {
            return Ok(());
        }
        // 48 kHz, mono, -1.0 to 1.0: what the caller said, in real time, with silence where packets were lost.
        let samples = heard.take();
        println!("heard {:.1} s", samples.len() as f64 / f64::from(SAMPLE_RATE));
        if !samples.is_empty() {
            message = samples.into();
        }
    }
}

/// Answers, and returns when an answered call has ended.
async fn one_call(blink: &Blink, events: &mut warp_blink::Events) {
    while let Some(event) = events.next().await {
        match event {
            Event::Incoming { call, from, .. } => match blink.answer(call).await {
                Ok(()) => println!("{from} calls"),
                // The caller gave up in this moment.
                Err(error) => println!("{error}"),
            },
            Event::Ended { reason, .. } => {
                println!("{reason}");
                return;
            }
            _ => {}
        }
    }
}

/// What the first caller hears: three beeps of 440 Hz, the pitch of a dial tone.
fn beeps() -> Arc<[f32]> {
    let beep = |i: u32| match i / (SAMPLE_RATE / 4) % 2 {
        0 => 0.2 * (i as f32 * std::f32::consts::TAU * 440.0 / SAMPLE_RATE as f32).sin(),
        _ => 0.0,
    };
    (0..SAMPLE_RATE * 3 / 2).map(beep).collect()
}
