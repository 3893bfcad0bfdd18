//! What the engine writes to the log when a network takes nothing. Alone in its process, since there is one logger in each.

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use simple_webrtc::{Candidate, LogLimit, LogVerdict, Remote};
use support::*;

#[derive(Default)]
struct Counter {
    limit: LogLimit,
    engine: AtomicUsize,
    errors: AtomicUsize,
    passed: AtomicUsize,
    last: Mutex<String>,
}

static COUNTER: OnceLock<Counter> = OnceLock::new();

impl log::Log for Counter {
    fn enabled(&self, _metadata: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        if !record.target().starts_with("webrtc") && !record.target().starts_with("rtc") {
            return;
        }
        self.engine.fetch_add(1, Ordering::Relaxed);
        self.errors.fetch_add(usize::from(record.level() == log::Level::Error), Ordering::Relaxed);
        if self.limit.admit(Instant::now(), record.target()) != LogVerdict::Suppressed {
            self.passed.fetch_add(1, Ordering::Relaxed);
        }
        *self.last.lock().expect("not poisoned") = record.args().to_string();
    }

    fn flush(&self) {}
}

/// A peer at addresses that this machine cannot send to: each check is an error of the system.
#[tokio::test]
async fn a_network_that_takes_nothing_does_not_fill_the_log() {
    let counter = COUNTER.get_or_init(Counter::default);
    log::set_logger(counter).expect("the only one");
    log::set_max_level(log::LevelFilter::Warn);
    let (mut a, mut b) =
        (Side::new(loopback().build().expect("valid")), Side::new(loopback().build().expect("valid")));
    a.peers.dial("b", FIRST).expect("dial");
    let until = Instant::now() + Duration::from_secs(2);
    while Instant::now() < until {
        tokio::select! {
            event = a.next() => {
                // Its own candidates are kept back, so that nothing works.
                if !matches!(event.kind, simple_webrtc::EventKind::LocalCandidate(_)) {
                    carry("a", event, &b);
                }
            }
            event = b.next() => {
                let generation = event.generation;
                if matches!(event.kind, simple_webrtc::EventKind::LocalDescription(_)) {
                    carry("b", event, &a);
                    for n in 1..20 {
                        let text = format!("candidate:{n} 1 udp 1 203.0.113.{n} 9 typ host");
                        let candidate = Candidate::parse(&text).expect("valid");
                        a.peers.apply(&"b", generation, Remote::Candidate(candidate)).expect("applied");
                    }
                }
            }
            () = tokio::time::sleep(Duration::from_millis(50)) => {}
        }
    }
    let [engine, errors, passed] =
        [&counter.engine, &counter.errors, &counter.passed].map(|count| count.load(Ordering::Relaxed));
    let last = counter.last.lock().expect("not poisoned").clone();
    println!("{engine} lines at warn and above, {errors} of them errors; {passed} pass");
    // 19 pairs are checked 50 times a second each, for two seconds; what the system refuses is counted by our sockets.
    assert!(errors < 20, "{errors} errors, the last line: {last}");
    // The other side, which has nothing to check, complains of that 50 times a second. Of each crate five lines pass.
    assert!(engine > 20, "{engine}: the engine has become quiet, the limit is of less use");
    assert!(passed <= 10, "{passed} of {engine}, the last line: {last}");
    tokio::join!(a.peers.shutdown(), b.peers.shutdown());
}
