//! Whatever happens in whatever order: a connection ends exactly once, is closed exactly once, and nothing hangs.

use super::*;
use crate::engine::fake::Reply;
use crate::engine::{Dtls, EngineError, Signal};

/// Small and repeatable; quality does not matter here.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn reply(&mut self) -> Reply {
        match self.roll(24) {
            0 => Reply::Never,
            1 => Reply::Fail(EngineError::Failed { doing: "x" }),
            2 => Reply::Fail(EngineError::BadDescription),
            3..=7 => Reply::After(Duration::from_millis(self.roll(5_000))),
            _ => Reply::At,
        }
    }

    fn script(&mut self) -> Script {
        Script {
            open: self.reply(),
            offer: self.reply(),
            answer: self.reply(),
            accept: self.reply(),
            candidate: self.reply(),
            state: self.reply(),
            close: self.reply(),
        }
    }

    fn signal(&mut self, fake: &Fake) {
        match self.roll(12) {
            0 => fake.signal(Signal::GatheringDone),
            1..=3 => fake.path_found(),
            4 => fake.signal(Signal::PathSilent),
            5..=7 => {
                fake.set_dtls(Dtls::Connected);
                fake.signal(Signal::Secured);
            }
            8 => fake.signal(Signal::PerhapsClosed),
            9 if self.roll(6) == 0 => fake.signal(
                [Signal::Failed, Signal::Stopped].into_iter().nth(self.roll(2) as usize).expect("two"),
            ),
            10 if self.roll(6) == 0 => fake.set_dtls(Dtls::Closed),
            _ => fake.candidate(1 + self.roll(9) as u16),
        }
    }

    fn remote(&mut self) -> Remote {
        let (version, session) = (1 + self.roll(4), ["x", "y"][self.roll(2) as usize]);
        match self.roll(4) {
            0 => Remote::Offer(offer(version, session)),
            1 => Remote::Answer(answer_to(&offer(1 + self.roll(3), "s1"), version, session)),
            2 => Remote::EndOfCandidates,
            _ => Remote::Candidate(candidate(5, Some(session))),
        }
    }
}

async fn life(seed: u64) {
    let mut dice = Dice(seed);
    let config = Config::builder().event_capacity(1 + dice.roll(40) as usize).build().expect("valid");
    let mut a = Side::new(config, dice.script());
    let mut started = Vec::new();
    let mut fakes: Vec<Arc<Fake>> = Vec::new();
    let mut states: Vec<(Generation, LinkState)> = Vec::new();
    let mut generation = 0;
    for _ in 0..60 {
        while let Ok(fake) = a.made.try_recv() {
            fakes.push(fake);
        }
        let present = Generation(generation);
        match dice.roll(10) {
            0 | 1 if a.peers.generation(&"b").is_none() || dice.roll(4) == 0 => {
                generation += 1;
                a.engine.set(dice.script());
                let done = match dice.roll(2) {
                    0 => a.peers.dial("b", Generation(generation)),
                    _ => a.peers.accept("b", Generation(generation), offer(1, "x")),
                };
                done.expect("a higher generation, and room");
                started.push(Generation(generation));
            }
            2 if dice.roll(6) == 0 => drop(a.peers.hang_up(&"b", present)),
            3 => drop(a.peers.restart(&"b", present)),
            4 | 5 => drop(a.peers.apply(&"b", present, dice.remote())),
            6 => time::sleep(Duration::from_millis(dice.roll(30_000))).await,
            _ => {
                if let Some(fake) = fakes.get(dice.roll(1 + fakes.len() as u64) as usize) {
                    dice.signal(fake);
                }
            }
        }
        for _ in 0..dice.roll(8) {
            tokio::task::yield_now().await;
        }
        if dice.roll(3) == 0 {
            while let Ok(Some(event)) = time::timeout(Duration::from_millis(1), a.events.recv()).await {
                if let EventKind::State(state) = event.kind {
                    states.push((event.generation, state));
                }
            }
        }
    }
    let peers = a.peers.clone();
    time::timeout(LONG, async {
        let (_, ()) = tokio::join!(peers.shutdown(), async {
            while let Ok(Some(event)) = time::timeout(Duration::from_secs(60), a.events.recv()).await {
                if let EventKind::State(state) = event.kind {
                    states.push((event.generation, state));
                }
            }
        });
    })
    .await
    .unwrap_or_else(|_| panic!("seed {seed}: it hangs"));

    for generation in &started {
        let of: Vec<LinkState> = states.iter().filter(|(g, _)| g == generation).map(|(_, s)| *s).collect();
        let ends = of.iter().filter(|state| state.is_final()).count();
        let superseded = started.last() != Some(generation);
        assert!(ends <= 1 && (ends == 1 || superseded), "seed {seed}: {generation:?} {of:?}");
        assert!(
            of.iter().position(|s| s.is_final()).is_none_or(|at| at + 1 == of.len()),
            "seed {seed}: {of:?}"
        );
    }
    while let Ok(fake) = a.made.try_recv() {
        fakes.push(fake);
    }
    for fake in &fakes {
        assert_eq!(closes(fake), 1, "seed {seed}: {:?}", fake.calls());
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_ends_once_whatever_happens() {
    for seed in 0..2_000 {
        life(seed).await;
    }
}
