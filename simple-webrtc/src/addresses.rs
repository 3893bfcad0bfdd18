//! The addresses of this machine, and when they change.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{self, MissedTickBehavior};

/// How often to look. 0.5 s: as often as a path is checked, so that a change is known before the silence that it causes.
/// Looking costs 0.2 ms (measured on Linux with four addresses), and happens only while there are connections. It works
/// alike on every system, also where apps may not listen to the system's own notifications (Android since version 11).
const INTERVAL: Duration = Duration::from_millis(500);

/// Where the addresses of a machine come from.
pub(crate) trait Interfaces: Send + Sync + fmt::Debug + 'static {
    /// All of them, loopback included.
    fn addresses(&self) -> io::Result<BTreeSet<IpAddr>>;
}

/// This machine.
#[derive(Debug)]
pub(crate) struct System;

impl Interfaces for System {
    fn addresses(&self) -> io::Result<BTreeSet<IpAddr>> {
        let interfaces = if_addrs::get_if_addrs()?;
        Ok(interfaces.into_iter().filter(|interface| interface.is_oper_up()).map(|i| i.ip()).collect())
    }
}

/// What was found last. Tells of a change only.
pub(crate) type Known = watch::Sender<Arc<BTreeSet<IpAddr>>>;

/// Looks until no connection is live, and `idle` agrees.
pub(crate) async fn observe(
    interfaces: Arc<dyn Interfaces>,
    known: Known,
    mut live: watch::Receiver<usize>,
    mut idle: impl FnMut() -> bool,
) {
    let mut tick = time::interval(INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // What changed while nobody was interested concerns nobody.
    let mut fresh = true;
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            _ = live.wait_for(|live| *live == 0) => {}
        }
        if idle() {
            return;
        }
        match interfaces.addresses() {
            Ok(found) => {
                let found = Arc::new(found);
                known.send_if_modified(|known| {
                    let changed = !fresh && usable(known).ne(usable(&found));
                    *known = found;
                    changed
                });
                fresh = false;
            }
            Err(error) => tracing::debug!(%error, "the addresses of this machine cannot be read"),
        }
    }
}

/// Those that somebody else can reach.
pub(crate) fn usable(addresses: &BTreeSet<IpAddr>) -> impl Iterator<Item = &IpAddr> {
    addresses.iter().filter(|address| match address {
        IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_link_local() && !ip.is_unspecified(),
        IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unicast_link_local() && !ip.is_unspecified(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_loopback_at_least() {
        let found = System.addresses().expect("readable");
        assert!(found.iter().any(IpAddr::is_loopback), "{} found", found.len());
        let start = std::time::Instant::now();
        for _ in 0..100 {
            System.addresses().expect("readable");
        }
        println!("{} addresses, {:?} for each look", found.len(), start.elapsed() / 100);
    }
}
