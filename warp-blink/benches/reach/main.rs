//! What it takes to be found: many phones in one process around one bootstrap node, over TCP on loopback. `make bench` runs
//! this and writes docs/benchmarks.md.
//!
//! `--phones 200` is how many; with 0, only what two take who are among themselves. It asserts nothing; it fails where somebody is not reached. Each line of figures is
//! `#kind name number`; what else is printed is for whoever waits.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a measurement, at the edge where time enters"
)]

mod process;
mod quiet;
mod signals;
mod town;

use std::time::{Duration, Instant};

use peak_alloc::PeakAlloc;
use process::{Processor, connections, memory, most_files};
use town::Town;

/// Counts what is held, where the system only tells what was ever taken.
#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// How long phones are left alone before they count as idle. What they have stored is looked for after 60 s
/// (`FindConfig::review_after`), and stored again if it is gone; strangers are let go after 30 s, unused connections after 60 s.
const SETTLE: Duration = Duration::from_secs(240);

/// The same after calls, which store nothing.
const SETTLE_AGAIN: Duration = Duration::from_secs(100);

/// How long idle phones are watched: four pings of each connection.
const WATCH: Duration = Duration::from_secs(60);

/// Where the callee of each phone stands in the circle, by round. No difference or sum of two makes two phones call each other twice.
const AWAY: [usize; 4] = [37, 61, 83, 91];

/// Open files that each phone is given room for, besides those of the process: both ends of connections are here.
const FILES: usize = 40;

fn main() {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--phones").skip(1);
    let phones: usize = arguments.next().map_or(200, |n| n.parse().expect("--phones takes a number"));
    assert!(
        phones > 2 * AWAY[3] || phones == 0,
        "too few: each calls {} others, and nobody twice",
        AWAY.len()
    );
    let (needed, most) = (phones * FILES + 256, most_files());
    if most < needed {
        eprintln!(
            "{phones} phones need {needed} open files, and this process may have {most}: `ulimit -n {needed}` first."
        );
        std::process::exit(1);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        // None: only what two take.
        if phones > 0 {
            measure(phones).await;
        }
        quiet::measure().await;
    });
}

async fn measure(phones: usize) {
    println!("#reach phones {phones}");
    println!("#reach optimised {}", u8::from(!cfg!(debug_assertions)));
    let nothing = memory();
    let mut town = Town::found().await;
    let empty = memory();
    println!("#reach bootstrap_kb {}", empty - nothing);

    let start = Instant::now();
    let before = Processor::now();
    for number in 0..phones {
        let phone = town.phone(number, |builder| builder).await;
        town.phones.push(phone);
    }
    eprintln!("{phones} phones after {:?}", start.elapsed());
    println!("#reach start_us {}", before.used_since().all.as_micros() / phones as u128);
    tokio::time::sleep(SETTLE).await;
    println!("#reach found_cpu_us {}", before.used_since().all.as_micros() / phones as u128);
    eprintln!("settled after {:?}", start.elapsed());
    let alone = idle("alone", &town, empty).await;

    // One after the other, so that nobody waits for the processor.
    let mut times = Vec::new();
    for caller in 0..phones {
        times.push(town.call(caller, (caller + AWAY[0]) % phones).await);
    }
    tell("one", times);
    let mut times = Vec::new();
    for away in &AWAY[1..] {
        // And all of them at once: each calls somebody, and is called.
        let calls = (0..phones).map(|caller| town.call(caller, (caller + away) % phones));
        times.extend(futures::future::join_all(calls).await);
    }
    tell("all", times);
    eprintln!("all have called after {:?}", start.elapsed());
    tokio::time::sleep(SETTLE_AGAIN).await;
    let met = idle("met", &town, empty).await;
    // Each connection has two ends here. Where the table of Kademlia still moves, there may be fewer than before: then this
    // says nothing.
    let more = met.connections.saturating_sub(alone.connections);
    if more >= phones {
        let ends = 2 * more as u64;
        // What is resident would say too little: what a crowd took at its start was not given back, and is used again.
        println!("#reach connection_end_heap_bytes {}", met.heap.saturating_sub(alone.heap) / ends);
        let ppb = met.ppb.saturating_sub(alone.ppb) * phones as u64;
        println!("#reach connection_end_idle_ppb {}", ppb / ends);
    }

    town.leave().await;
}

struct Idle {
    connections: usize,
    /// In use, of all phones and of the bootstrap node.
    heap: u64,
    ppb: u64,
}

/// What phones take that do nothing.
async fn idle(name: &str, town: &Town, empty: u64) -> Idle {
    let (phones, before) = (town.phones.len() as u64, Processor::now());
    tokio::time::sleep(WATCH).await;
    let used = before.used_since();
    let ppb =
        |used: Duration| u64::try_from(used.as_nanos() / u128::from(WATCH.as_secs())).unwrap_or(u64::MAX);
    let idle = Idle {
        connections: connections() / 2,
        heap: HEAP.current_usage() as u64,
        ppb: ppb(used.all.saturating_sub(used.bootstrap)) / phones,
    };
    println!("#reach {name}/connections {}", idle.connections);
    println!("#reach {name}/bootstrap_connections {}", town.bootstrap.connected());
    println!("#reach {name}/phone_kb {}", (memory() - empty) / phones);
    println!("#reach {name}/phone_heap_kb {}", idle.heap / 1024 / phones);
    println!("#reach {name}/phone_idle_ppb {}", idle.ppb);
    println!("#reach {name}/bootstrap_idle_ppb {}", ppb(used.bootstrap));
    idle
}

/// How long it took until the other one was reached, and rang.
fn tell(name: &str, times: Vec<Option<[Duration; 2]>>) {
    let (all, reached): (usize, Vec<_>) = (times.len(), times.into_iter().flatten().collect());
    println!("#reach {name}/failed {}", all - reached.len());
    if reached.is_empty() {
        return;
    }
    for (at, what) in ["reached", "rings"].into_iter().enumerate() {
        let mut all: Vec<_> = reached.iter().map(|times| times[at].as_micros()).collect();
        all.sort_unstable();
        for (share, part) in [("median", 50), ("p95", 95), ("worst", 100)] {
            println!("#reach {name}/{what}/{share}_us {}", all[(all.len() * part / 100).min(all.len() - 1)]);
        }
    }
}
