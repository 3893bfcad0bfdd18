//! A whole call without any network or sound card, as an app's own tests would make it: fast, and the same each time.
//!
//! ```text
//! cargo run -p blink-examples --example in_memory
//! ```

use warp_blink::{AppData, Blink, CallId, EndReason, Error, Event, Events, Identity, Memory};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Phones of one `Memory` can call each other. An app takes a `Blink` and does not see the difference.
    let memory = Memory::default();
    let [alice, bob] = [
        Blink::builder(Identity::from_seed([1; 32])).memory(&memory).spawn().await?,
        Blink::builder(Identity::from_seed([2; 32])).memory(&memory).spawn().await?,
    ];
    let (mut at_alice, mut at_bob) = (alice.events(), bob.events());

    // Alice calls, with data of her app.
    let call = alice.offer_with([bob.public_key()], AppData::new("Alice")?).await?;

    // It rings at Bob: he learns who calls, proven, and what her app sent.
    let Event::Incoming { from, app_data, .. } =
        wait(&mut at_bob, call, |e| matches!(e, Event::Incoming { .. })).await?
    else {
        unreachable!("that is what was waited for");
    };
    assert_eq!((from, app_data.as_bytes()), (alice.public_key(), &b"Alice"[..]));
    wait(&mut at_alice, call, |e| matches!(e, Event::Ringing { .. })).await?;

    // Bob picks up; both hear each other.
    bob.answer(call).await?;
    wait(&mut at_alice, call, |e| matches!(e, Event::FirstAudio { .. })).await?;
    wait(&mut at_bob, call, |e| matches!(e, Event::FirstAudio { .. })).await?;
    assert_eq!(alice.snapshot().calls.len(), 1);

    // Bob hangs up; both learn why the call is over, and who ended it.
    bob.hang_up(call).await?;
    for events in [&mut at_alice, &mut at_bob] {
        let ended = wait(events, call, |e| matches!(e, Event::Ended { .. })).await?;
        let Event::Ended { reason, by, .. } = ended else { unreachable!("that is what was waited for") };
        assert_eq!((reason, by), (EndReason::HungUp, Some(bob.public_key())));
    }

    alice.shutdown().await;
    bob.shutdown().await;
    println!("a whole call in memory");
    Ok(())
}

/// Waits for an event of this call. Other events pass by; the end of the stream is an error.
async fn wait(events: &mut Events, call: CallId, wanted: impl Fn(&Event) -> bool) -> Result<Event, Error> {
    loop {
        let event = events.next().await.ok_or(Error::Closed)?;
        if let Event::Ended { call: ended, reason, .. } = &event
            && *ended == call
            && !wanted(&event)
        {
            return Err(Error::Media(format!("the call ended early: {reason}")));
        }
        if wanted(&event) {
            return Ok(event);
        }
    }
}
