//! What two phones take who are among themselves around the bootstrap node: at rest, for a contact, and for a call.

use std::time::Duration;

use crate::{HEAP, process::Processor, signals, town::Town};

/// Both have stored their records by then.
const STORED: Duration = Duration::from_secs(20);

/// Two pings of each connection.
const WATCH: Duration = Duration::from_secs(30);

const CONTACTS: usize = 1000;

pub(crate) async fn measure() {
    let town = Town::found().await;
    let before = HEAP.current_usage();
    let (phones, papers) = signals::two(&town).await;
    tokio::time::sleep(STORED).await;
    let cpu = Processor::now();
    tokio::time::sleep(WATCH).await;
    let used = cpu.used_since();
    let each = used.all.saturating_sub(used.bootstrap).as_nanos() / u128::from(WATCH.as_secs()) / 2;
    println!("#reach quiet/phone_idle_ppb {each}");
    println!("#reach quiet/phone_heap_kb {}", (HEAP.current_usage() - before) / 2 / 1024);

    signals::count(&phones, &papers).await;

    // They know each other by now; these nobody knows.
    let before = HEAP.current_usage();
    town.befriend(&phones, CONTACTS).await;
    println!("#reach contact_bytes {}", HEAP.current_usage().saturating_sub(before) / (2 * CONTACTS));
    for phone in phones {
        phone.shutdown().await;
    }
    town.leave().await;
}
