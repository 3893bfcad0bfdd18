//! How many messages a call takes: counted in the journals of both ends.

use std::{
    io::Write,
    sync::{Arc, Mutex},
    time::Duration,
};

use warp_blink::{
    Blink, Event,
    proto::{EffectKind, journal::Journal},
};

use crate::town::{Town, wait};

/// How long they talk.
const TALK: Duration = Duration::from_secs(30);

#[derive(Clone, Default)]
pub(crate) struct Paper(Arc<Mutex<Vec<u8>>>);

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Two who write down what they send.
pub(crate) async fn two(town: &Town) -> ([Blink; 2], [Paper; 2]) {
    let papers = [Paper::default(), Paper::default()];
    let phone = |n: usize| {
        let paper = papers[n].clone();
        town.phone(n, |builder| builder.journal(paper, 1 << 20))
    };
    ([phone(0).await, phone(1).await], papers)
}

/// One calls, the other one answers, they talk and hang up.
pub(crate) async fn count([caller, callee]: &[Blink; 2], papers: &[Paper; 2]) {
    let (his, heard, over) = (callee.events(), caller.events(), callee.events());
    let call = caller.offer([callee.public_key()]).await.expect("an offer");
    wait(his, |e| matches!(e, Event::Incoming { .. }).then_some(())).await.expect("it rings");
    callee.answer(call).await.expect("answered");
    wait(heard, |e| matches!(e, Event::FirstAudio { .. }).then_some(())).await.expect("heard");
    let until = counted(papers);
    tokio::time::sleep(TALK).await;
    let talked = counted(papers);
    caller.hang_up(call).await.expect("hung up");
    wait(over, |e| matches!(e, Event::Ended { .. }).then_some(())).await.expect("the end");
    // The last words are acknowledged.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let whole = counted(papers);
    for (at, kind) in ["hello", "welcome", "session", "call_topic", "link"].into_iter().enumerate() {
        println!("#signals set_up/{kind} {}", until[at]);
        println!("#signals talk_30_s/{kind} {}", talked[at] - until[at]);
        println!("#signals end/{kind} {}", whole[at] - talked[at]);
    }
}

/// What both have sent so far, by kind.
fn counted(papers: &[Paper]) -> [usize; 5] {
    let mut sent = [0; 5];
    for paper in papers {
        let journal = Journal::parse(&*paper.0.lock().unwrap()).expect("a journal");
        for effect in journal.steps().iter().flat_map(|step| step.result.iter().flatten()) {
            let kind = match &effect.kind {
                EffectKind::SendHello { .. } => 0,
                EffectKind::SendWelcome { .. } => 1,
                EffectKind::Send { .. } => 2,
                EffectKind::SendCall { .. } => 3,
                EffectKind::SendOnLink { .. } => 4,
                _ => continue,
            };
            sent[kind] += 1;
        }
    }
    sent
}
