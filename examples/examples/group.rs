//! A call of several, without any network or sound card: one is invited late, one leaves and comes back, one is removed.
//!
//! ```text
//! cargo run -p blink-examples --example group
//! ```

use warp_blink::{Blink, CallId, EndReason, Error, Event, Identity, Memory, Other, select};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let memory = Memory::default();
    let [alice, bob, carol, dave] = [
        phone(&memory, 1).await?,
        phone(&memory, 2).await?,
        phone(&memory, 3).await?,
        phone(&memory, 4).await?,
    ];

    // Alice calls two at once. The call is up with the first who answers, and the others come in as they do.
    let call = alice.offer([bob.public_key(), carol.public_key()]).await?;
    alice.call(call).connected().await?;
    connected(&[&alice, &bob, &carol], call).await?;

    // Everybody in it may invite (`Config::may_invite`). The newcomer meets all the others by itself.
    bob.invite(call, [dave.public_key()]).await?;
    connected(&[&alice, &bob, &carol, &dave], call).await?;

    // Whoever has left can come back without ringing anybody, as long as the call lasts.
    carol.leave(call).await?;
    connected(&[&alice, &bob, &dave], call).await?;
    carol.rejoin(call, Other::End).await?;
    connected(&[&alice, &bob, &carol, &dave], call).await?;

    // Who made the call can remove somebody. The others change the key: the removed one can read nothing more of it.
    let mut at_dave = dave.events();
    alice.remove(call, dave.public_key()).await?;
    while let Some(event) = at_dave.next().await {
        if let Event::Ended { reason, .. } = event {
            assert_eq!(reason, EndReason::Removed);
            break;
        }
    }
    connected(&[&alice, &bob, &carol], call).await?;

    for phone in [alice, bob, carol, dave] {
        phone.shutdown().await;
    }
    println!("a whole group call in memory");
    Ok(())
}

/// A phone that answers every call.
async fn phone(memory: &Memory, seed: u8) -> Result<Blink, Error> {
    let phone = Blink::builder(Identity::from_seed([seed; 32])).memory(memory).spawn().await?;
    let (mut events, answers) = (phone.events(), phone.clone());
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            if let Event::Incoming { call, .. } = event
                && let Err(error) = answers.answer(call).await
            {
                eprintln!("{error}");
            }
        }
    });
    Ok(phone)
}

/// Waits until each of them has a link to all the others, and to nobody else.
async fn connected(phones: &[&Blink], call: CallId) -> Result<(), Error> {
    for phone in phones {
        let mut links = phone.watch(select::connected(call));
        links.wait_for(|with| with.len() == phones.len() - 1).await.ok_or(Error::Closed)?;
    }
    Ok(())
}
