//! Real browsers, without a window, talk with simple-webrtc. Run by `make test-browser`, which installs them; ignored
//! otherwise, since not every machine has them.

#![cfg(unix)]
#![allow(clippy::panic, reason = "only a test's own functions are taken for tests")]

#[path = "support/browser.rs"]
mod browser;
#[path = "../examples/browser/call.rs"]
mod call;
#[path = "../examples/browser/server.rs"]
mod server;

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use browser::{Browser, Kind};
use call::{Call, Seen, Wish};
use server::Page;
use simple_webrtc::{Config, LinkState};

use LinkState::{Closed, Connected, Reconnecting};

/// Ends a test that hangs; no test waits for it to pass. A browser takes some seconds to start for the first time.
const PATIENCE: Duration = Duration::from_secs(30);
/// Packets at each of the four counters: a second of sound.
const A_SECOND: u64 = 50;

struct Guest {
    call: Call,
    // After the call: its page would say that its end is gone.
    _browser: Browser,
}

impl Guest {
    async fn open(kind: Kind) -> Self {
        let page = Page::serve(0).await.expect("loopback");
        let browser = Browser::open(kind, &format!("{}{}", page.url(), kind.query()));
        let config = Config::builder().addresses([IpAddr::from(Ipv4Addr::LOCALHOST)]).build().expect("valid");
        let mut call = Call::new(config, page).expect("inside a runtime");
        let wish = tokio::time::timeout(PATIENCE, async {
            loop {
                if let Some(wish) = call.step().await.expect("no trouble") {
                    break wish;
                }
            }
        });
        match wish.await.expect("the page opens in time") {
            Wish::Hello(agent) => println!("{kind:?}: {agent}"),
            Wish::Button(button) => panic!("nobody is there to press {button}"),
        }
        Self { call, _browser: browser }
    }

    /// Goes on until something has happened.
    async fn until(&mut self, what: &str, happened: impl Fn(&Seen) -> bool) {
        let wait = async {
            while !happened(&self.call.seen) {
                self.call.step().await.unwrap_or_else(|error| panic!("until {what}: {error}"));
            }
        };
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            panic!("not seen in time: {what}; seen: {:?}", self.call.seen);
        }
    }

    async fn connect(&mut self, we_offer: bool) -> Duration {
        let start = Instant::now();
        self.call.begin(we_offer).expect("begun");
        self.until("both connected", |seen| {
            seen.state() == Some(Connected) && seen.page_states.iter().any(|(state, _)| state == "connected")
        })
        .await;
        start.elapsed()
    }

    /// What the four counters say: sent and received here, sent and received there, and the energy of what is heard there.
    async fn counters(&mut self) -> ([u64; 4], f64) {
        self.call.ask_for_report();
        self.until("a report", |seen| seen.report.is_some()).await;
        let report = self.call.seen.report.take().expect("just seen");
        let stats = self.call.stats().await.expect("connected");
        let there = |key: &str| report[key].as_u64().unwrap_or_default();
        let counters = [stats.sent.packets, stats.received.packets, there("sent"), there("received")];
        (counters, report["energy"].as_f64().unwrap_or_default())
    }

    /// A second of sound more at both ends, and no silence.
    async fn sound_flows(&mut self) {
        let wait = async {
            let (before, silent) = self.counters().await;
            loop {
                let (now, energy) = self.counters().await;
                let grown = now.iter().zip(before).all(|(now, before)| *now >= before + A_SECOND);
                if grown && energy > silent {
                    return;
                }
                // A report is an exchange over loopback: without this, the two would do nothing else.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            panic!("no sound: {:?}", self.counters().await);
        }
    }

    /// Text and bytes on each channel, at both ends.
    async fn channels_speak(&mut self, names: &[&str]) {
        for name in names {
            let came = |list: &[(String, String)], text: &str| {
                list.iter().any(|(channel, heard)| channel == name && heard == text)
            };
            let bytes = "16384 bytes";
            let (page, program) =
                (format!("hello from the page on {name}"), format!("hello from the program on {name}"));
            self.until(&format!("messages on {name}"), |seen| {
                came(&seen.heard, &page)
                    && came(&seen.heard, bytes)
                    && came(&seen.page_heard, &program)
                    && came(&seen.page_heard, bytes)
            })
            .await;
        }
    }

    async fn reconnected(&mut self) {
        self.until("the path changes", |seen| {
            seen.state() == Some(Connected) && seen.states.iter().any(|(state, _)| *state == Reconnecting)
        })
        .await;
    }

    async fn restart(&mut self, ours: bool) -> Duration {
        self.call.seen.states.clear();
        let start = Instant::now();
        if ours {
            self.call.restart().expect("connected")
        } else {
            self.call.ask_for_restart()
        }
        self.reconnected().await;
        start.elapsed()
    }

    async fn close(&mut self, ours: bool) -> Duration {
        let start = Instant::now();
        if ours {
            self.call.hang_up().expect("connected")
        } else {
            self.call.close_at_the_page()
        }
        self.until("the end", |seen| seen.state().is_some_and(LinkState::is_final)).await;
        assert_eq!(self.call.seen.state(), Some(Closed { by_remote: !ours }));
        start.elapsed()
    }
}

fn channels(we_offer: bool) -> &'static [&'static str] {
    if we_offer { &["signaling", "of the program"] } else { &["signaling", "of the program", "of the page"] }
}

fn side(ours: bool) -> &'static str {
    if ours { "we" } else { "it" }
}

async fn talks(kind: Kind, we_offer: bool) {
    let mut guest = Guest::open(kind).await;
    let offerer = if we_offer { "we offer" } else { "it offers" };
    let took = guest.connect(we_offer).await;
    println!("{kind:?}, {offerer}: connected after {took:?}, it says {:?}", guest.call.seen.page_states);
    guest.sound_flows().await;
    guest.channels_speak(channels(we_offer)).await;
    for ours in [true, false, true, false] {
        let took = guest.restart(ours).await;
        println!("{kind:?}, {offerer}: another path after {took:?}, {} asked", side(ours));
        guest.sound_flows().await;
    }
    for n in 0..10 {
        let ours = n % 2 == 0;
        let closed = guest.close(ours).await;
        let took = guest.connect(we_offer).await;
        guest.channels_speak(channels(we_offer)).await;
        // Whose checks win where both choose the path is drawn anew in each connection.
        let (first, second) = (guest.restart(ours).await, guest.restart(!ours).await);
        guest.sound_flows().await;
        println!(
            "{kind:?}, {offerer}: {} closed, over after {closed:?}, connected after {took:?}, other paths after {first:?} \
             and {second:?}",
            side(ours)
        );
    }
    guest.call.peers.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Chromium: run by `make test-browser`"]
async fn chromium_is_called() {
    talks(Kind::Chromium, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Chromium: run by `make test-browser`"]
async fn chromium_calls() {
    talks(Kind::Chromium, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Firefox ESR: run by `make test-browser`"]
async fn firefox_is_called() {
    talks(Kind::Firefox, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Firefox ESR: run by `make test-browser`"]
async fn firefox_calls() {
    talks(Kind::Firefox, false).await;
}
