//! A chat beside a call: messages go over a data channel, straight between the two, as the sound does.
//!
//! ```text
//! cargo run -p blink-examples --example chat
//! ```

use warp_blink::{
    Blink, Error, Event, Events, Identity, Memory,
    channel::{Channel, ChannelOptions, Message},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Over a network it is the same: leave `memory` out, and see `caller` and `answerer`.
    let memory = Memory::default();
    let [alice, bob] = [
        Blink::builder(Identity::from_seed([1; 32])).memory(&memory).spawn().await?,
        Blink::builder(Identity::from_seed([2; 32])).memory(&memory).spawn().await?,
    ];
    let (mut at_alice, mut at_bob) = (alice.events(), bob.events());
    let call = alice.offer([bob.public_key()]).await?;
    wait(&mut at_bob, |e| matches!(e, Event::Incoming { .. })).await?;
    bob.answer(call).await?;
    alice.call(call).connected().await?;
    bob.call(call).connected().await?;

    // Either side opens a channel; it comes to both as an event once it is open.
    alice.open_channel(call, bob.public_key(), ChannelOptions::reliable("chat")).await?;
    let mut here = channel(&alice, &mut at_alice).await?;
    let mut there = channel(&bob, &mut at_bob).await?;

    here.send(Message::Text("Can you hear me?".into())).await?;
    println!("Bob reads: {:?}", text(&mut there).await);
    there.send(Message::Text("Loud and clear.".into())).await?;
    println!("Alice reads: {:?}", text(&mut here).await);

    // A channel ends with its call, at the latest.
    alice.hang_up(call).await?;
    alice.shutdown().await;
    bob.shutdown().await;
    Ok(())
}

/// The channel named "chat". Others are somebody else's: whoever opens one in a call can name it as they like.
async fn channel(phone: &Blink, events: &mut Events) -> Result<Channel, Error> {
    loop {
        let event = wait(events, |e| matches!(e, Event::Channel { name, .. } if name == "chat")).await?;
        if let Event::Channel { channel, .. } = event
            && let Some(channel) = phone.channel(channel).await?
        {
            return Ok(channel);
        }
    }
}

async fn text(channel: &mut Channel) -> Option<String> {
    match channel.recv().await? {
        Message::Text(text) => Some(text),
        Message::Binary(bytes) => Some(format!("{} bytes", bytes.len())),
    }
}

async fn wait(events: &mut Events, wanted: impl Fn(&Event) -> bool) -> Result<Event, Error> {
    loop {
        let event = events.next().await.ok_or(Error::Closed)?;
        if wanted(&event) {
            return Ok(event);
        }
    }
}
