//! Turns the engine's loop once more where it would go to sleep with work in hand.
//!
//! The loop writes what it has, reads, and then sleeps until a packet comes or a timer is due. What reading gave rise to,
//! and what goes through a relay, waits for that (`docs/upstream/`): a ClientHello for up to the 20 ms between two checks,
//! each flight of a handshake over a relay likewise, and each relayed packet of speech for the next one, 20 ms later. Its
//! sleep comes from our runtime, so we can end it early: the loop then handles its timers, which flushes everything. That
//! is what a driver of the sans-I/O core below would do after each input.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

/// Turns after an input: one flushes what the core has made of it, the second what the relay client has made of that.
const TURNS: u32 = 2;

/// How the loop of one connection is turned.
#[derive(Debug)]
pub(super) struct Pace {
    /// Turns that are owed.
    owed: AtomicU32,
    /// Whether there is a path, and DTLS over it. Until then every input is followed by turns.
    up: AtomicBool,
    /// Whether the path is relayed. Then, too.
    relayed: AtomicBool,
    /// Wakes the loop from its sleep.
    sleeper: Mutex<Option<Waker>>,
    /// Turns that were made, for tests.
    turned: AtomicU64,
    off: bool,
}

impl Pace {
    pub(super) fn new(on: bool) -> Self {
        Self {
            owed: AtomicU32::new(0),
            up: AtomicBool::new(false),
            relayed: AtomicBool::new(false),
            sleeper: Mutex::new(None),
            turned: AtomicU64::new(0),
            off: !on,
        }
    }

    /// On a direct path that is up, everything leaves at once by itself.
    pub(super) fn set_up(&self, up: bool) {
        self.up.store(up, Ordering::Release);
    }

    pub(super) fn set_relayed(&self, relayed: bool) {
        self.relayed.store(relayed, Ordering::Release);
    }

    /// The loop was, or is about to be, given something.
    pub(super) fn input(&self) {
        if !self.up.load(Ordering::Acquire) || self.relayed.load(Ordering::Acquire) {
            self.turn();
        }
    }

    /// The loop has something to do that it does not know of.
    pub(super) fn turn(&self) {
        if self.off {
            return;
        }
        self.owed.store(TURNS, Ordering::Release);
        if let Some(sleeper) = self.sleeper().take() {
            sleeper.wake();
        }
    }

    /// Whether the engine's ways are mended at all.
    pub(super) fn is_on(&self) -> bool {
        !self.off
    }

    #[cfg(test)]
    pub(super) fn turned(&self) -> u64 {
        self.turned.load(Ordering::Relaxed)
    }

    fn owes(&self) -> bool {
        self.owed.load(Ordering::Acquire) > 0
    }

    fn take_turn(&self) -> bool {
        let taken =
            self.owed.fetch_update(Ordering::AcqRel, Ordering::Acquire, |owed| owed.checked_sub(1)).is_ok();
        if taken {
            self.turned.fetch_add(1, Ordering::Relaxed);
        }
        taken
    }

    fn sleeper(&self) -> std::sync::MutexGuard<'_, Option<Waker>> {
        self.sleeper.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A sleep of the engine's loop.
pub(super) struct Sleep {
    pace: Arc<Pace>,
    timer: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// Whether everything else that the loop waits for has had its chance.
    last: bool,
}

impl Sleep {
    pub(super) fn new(pace: Arc<Pace>, timer: Pin<Box<dyn Future<Output = ()> + Send>>) -> Self {
        Self { pace, timer, last: false }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        // First this, so that a turn owed from now on is not missed.
        *self.pace.sleeper() = Some(context.waker().clone());
        if self.pace.owes() {
            // The loop looks at what it waits for in random order. A turn made before what it is for is of no use, so
            // everything else goes first.
            if !std::mem::replace(&mut self.last, true) {
                context.waker().wake_by_ref();
            } else if self.pace.take_turn() {
                return Poll::Ready(());
            }
        }
        let due = self.timer.as_mut().poll(context);
        if due.is_ready() {
            // What a timer gives rise to can have to go through a relay, too.
            self.pace.input();
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn sleep(pace: &Arc<Pace>) -> Sleep {
        Sleep::new(pace.clone(), Box::pin(tokio::time::sleep(Duration::from_secs(3600))))
    }

    #[tokio::test(start_paused = true)]
    async fn an_input_turns_the_loop_twice_and_then_it_sleeps() {
        let pace = Arc::new(Pace::new(true));
        let start = tokio::time::Instant::now();
        pace.input();
        pace.input();
        sleep(&pace).await;
        sleep(&pace).await;
        assert_eq!((start.elapsed(), pace.turned()), (Duration::ZERO, 2));
        sleep(&pace).await;
        assert_eq!(start.elapsed(), Duration::from_secs(3600));
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_wakes_a_sleeper_and_a_direct_path_needs_none() {
        let pace = Arc::new(Pace::new(true));
        let start = tokio::time::Instant::now();
        pace.set_up(true);
        pace.input();
        let sleeper = tokio::spawn(sleep(&pace));
        tokio::task::yield_now().await;
        assert!(!sleeper.is_finished());
        pace.turn();
        sleeper.await.expect("woken");
        assert_eq!((start.elapsed(), pace.turned()), (Duration::ZERO, 1));
        sleep(&pace).await;
        pace.set_relayed(true);
        pace.input();
        sleep(&pace).await;
        assert_eq!((start.elapsed(), pace.turned()), (Duration::ZERO, 3));
    }
}
