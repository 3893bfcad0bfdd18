//! Connections made and gathered in advance, so that dialling has an offer and candidates at once.
//!
//! A prepared connection is a connection like any other, with a certificate of its own, up to its first offer. One task
//! keeps as many as are wanted: it fills up what was taken and throws away what is of no use any more. Whoever takes one
//! looks again, so that between two looks nothing stale is used; without one, a connection is made as ever.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{self, Instant};

use crate::addresses::{Interfaces, usable};
use crate::channel::RawChannel;
use crate::config::Config;
use crate::description::{CandidateKind, Description};
use crate::engine::{Connection, Engine, EngineError, Inbox, Signal};

/// How often prepared connections are looked at. 0.5 s: as often as addresses are, while there are connections.
const LOOK: Duration = Duration::from_millis(500);
/// How long after a failure the next one is made. 5 s: it is for saving less than a second, so it may not cost much where it
/// never works; other addresses or servers are tried at once.
const RETRY: Duration = Duration::from_secs(5);

/// A connection that has made its offer, and is gathering, or done with it.
pub(crate) struct Prepared {
    pub(crate) connection: Arc<dyn Connection>,
    pub(crate) inbox: Inbox,
    pub(crate) signaling: Arc<dyn RawChannel>,
    pub(crate) offer: Description,
    pub(crate) gathering_until: Instant,
    /// What it was made with.
    pub(crate) config: Arc<Config>,
    addresses: BTreeSet<IpAddr>,
    made: Instant,
}

pub(crate) struct Pool {
    engine: Arc<dyn Engine>,
    servers: watch::Receiver<Arc<Config>>,
    interfaces: Arc<dyn Interfaces>,
    state: Mutex<State>,
    /// Whether the task runs. It holds nothing else.
    kept: watch::Sender<bool>,
    /// For the task: something is to be done.
    wake: Notify,
}

#[derive(Default)]
struct State {
    wanted: usize,
    stopped: bool,
    /// The oldest first.
    ready: Vec<Prepared>,
    /// Of no use any more.
    spent: Vec<Prepared>,
    retry: Option<Retry>,
}

/// What did not work, and when it may be tried again.
struct Retry {
    at: Instant,
    config: Arc<Config>,
    addresses: BTreeSet<IpAddr>,
}

impl Pool {
    pub(crate) fn new(
        engine: Arc<dyn Engine>,
        servers: watch::Receiver<Arc<Config>>,
        interfaces: Arc<dyn Interfaces>,
    ) -> Arc<Self> {
        let (state, kept, wake) = (Mutex::default(), watch::Sender::new(false), Notify::new());
        Arc::new(Self { engine, servers, interfaces, state, kept, wake })
    }

    /// Keeps this many from now on.
    pub(crate) fn want(self: &Arc<Self>, wanted: usize, runtime: &tokio::runtime::Handle) {
        let mut state = self.state();
        state.wanted = if state.stopped { 0 } else { wanted };
        // Under the lock, so that it cannot end meanwhile.
        if state.wanted > 0 && !self.kept.send_replace(true) {
            runtime.spawn(Keeper(self.clone()).run());
        }
        drop(state);
        self.wake.notify_one();
    }

    /// Closes all that there are, for good.
    pub(crate) fn stop(&self) {
        let mut state = self.state();
        (state.wanted, state.stopped) = (0, true);
        drop(state);
        self.wake.notify_one();
    }

    /// Waits until nothing is left.
    pub(crate) async fn stopped(&self) {
        // The sender is in `self`.
        let _ = self.kept.subscribe().wait_for(|kept| !kept).await;
    }

    /// One that can be used with this configuration, if there is any.
    pub(crate) fn take(&self, config: &Arc<Config>) -> Option<Prepared> {
        if self.state().ready.is_empty() {
            return None;
        }
        let addresses = self.addresses();
        let mut state = self.state();
        state.sort_out(config, &addresses);
        let taken = (!state.ready.is_empty()).then(|| state.ready.remove(0));
        drop(state);
        self.wake.notify_one();
        taken
    }

    fn addresses(&self) -> BTreeSet<IpAddr> {
        usable(&self.interfaces.addresses().unwrap_or_default()).copied().collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs between two changes that belong together.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn sort_out(&mut self, config: &Arc<Config>, addresses: &BTreeSet<IpAddr>) {
        let now = Instant::now();
        let ready = std::mem::take(&mut self.ready);
        for mut prepared in ready {
            let keep = prepared.is_of_use(config, addresses, now);
            if keep { &mut self.ready } else { &mut self.spent }.push(prepared);
        }
    }
}

impl Prepared {
    fn is_of_use(&mut self, config: &Arc<Config>, addresses: &BTreeSet<IpAddr>, now: Instant) -> bool {
        // Without a server there is nothing that ages: no NAT has been asked to remember anything.
        let aged = !config.ice_servers.is_empty() && now >= self.made + config.timeouts.prepared;
        !aged && Arc::ptr_eq(config, &self.config) && *addresses == self.addresses && self.works(now)
    }

    fn works(&mut self, now: Instant) -> bool {
        let relay_only = self.config.relay_only;
        let Some(signals) = self.inbox.look() else { return false };
        let (mut candidates, mut done) = (0, false);
        for signal in signals {
            match signal {
                Signal::Candidate(candidate) if candidate.is_usable() => {
                    candidates += usize::from(!relay_only || candidate.kind() == CandidateKind::Relay);
                }
                Signal::GatheringDone => done = true,
                Signal::Stopped | Signal::Failed => return false,
                _ => {}
            }
        }
        candidates > 0 || !(done || now >= self.gathering_until)
    }
}

/// The task that keeps them. However it ends, it says so, and what is left is closed.
struct Keeper(Arc<Pool>);

enum Next {
    Close(Vec<Prepared>),
    Make,
    Wait,
    End,
}

impl Keeper {
    async fn run(self) {
        let mut servers = self.0.servers.clone();
        loop {
            let config = servers.borrow_and_update().clone();
            match self.next(&config) {
                Next::Close(spent) => {
                    for prepared in spent {
                        prepared.close().await;
                    }
                }
                Next::Make => {
                    let addresses = self.0.addresses();
                    let made = self.make(&config, addresses.clone()).await;
                    let mut state = self.0.state();
                    match made {
                        // What has become of wishes meanwhile is looked at next.
                        Ok(prepared) => state.ready.push(prepared),
                        Err(error) => {
                            tracing::debug!(?error, "no connection could be prepared");
                            state.retry = Some(Retry::after(config, addresses));
                        }
                    }
                }
                Next::Wait => tokio::select! {
                    () = self.0.wake.notified() => {}
                    () = time::sleep(LOOK) => {}
                    Ok(()) = servers.changed() => {}
                },
                Next::End => return,
            }
        }
    }

    fn next(&self, config: &Arc<Config>) -> Next {
        let addresses = self.0.addresses();
        let mut state = self.0.state();
        let before = state.spent.len();
        state.sort_out(config, &addresses);
        let now = Instant::now();
        if state.spent[before..].iter_mut().any(|prepared| !prepared.works(now)) {
            state.retry = Some(Retry::after(config.clone(), addresses.clone()));
        }
        let wanted = state.wanted;
        let surplus = wanted.min(state.ready.len());
        let surplus = state.ready.split_off(surplus);
        state.spent.extend(surplus);
        if !state.spent.is_empty() {
            return Next::Close(std::mem::take(&mut state.spent));
        }
        if wanted == 0 {
            // Under the lock, so that whoever wants some from now on starts another task.
            self.0.kept.send_replace(false);
            return Next::End;
        }
        let may = state.retry.as_ref().is_none_or(|retry| retry.is_over(now, config, &addresses));
        if state.ready.len() < wanted && may { Next::Make } else { Next::Wait }
    }

    async fn make(&self, config: &Arc<Config>, addresses: BTreeSet<IpAddr>) -> Result<Prepared, EngineError> {
        let (engine, settings) = (self.0.engine.clone(), config.clone());
        // Opening must not be cancelled half way. What comes too late closes itself when it is dropped.
        let mut making = tokio::spawn(async move {
            let inbox = Inbox::new();
            let connection = engine.open(&settings, inbox.sender()).await?;
            let described = async {
                let signaling = connection.open_channel(None).await?;
                Ok((signaling, connection.offer(false).await?))
            };
            match described.await {
                Ok((signaling, offer)) => Ok((connection, inbox, signaling, offer)),
                Err(error) => {
                    connection.close().await;
                    Err(error)
                }
            }
        });
        let mut until = Instant::now() + config.timeouts.engine;
        let made = loop {
            tokio::select! {
                made = &mut making => break made,
                () = time::sleep_until(until) => {
                    return Err(EngineError::Failed { doing: "prepare a connection in time" });
                }
                () = self.0.wake.notified() => {
                    if self.0.state().stopped {
                        until = until.min(Instant::now() + config.timeouts.closing);
                    }
                }
            }
        };
        let panicked = EngineError::Failed { doing: "prepare a connection: it panicked" };
        let (connection, inbox, signaling, offer) = made.unwrap_or(Err(panicked))?;
        let made = Instant::now();
        let gathering_until = made + config.timeouts.gathering;
        let config = config.clone();
        Ok(Prepared { connection, inbox, signaling, offer, gathering_until, config, addresses, made })
    }
}

impl Retry {
    fn after(config: Arc<Config>, addresses: BTreeSet<IpAddr>) -> Self {
        Self { at: Instant::now() + RETRY, config, addresses }
    }

    fn is_over(&self, now: Instant, config: &Arc<Config>, addresses: &BTreeSet<IpAddr>) -> bool {
        now >= self.at || !Arc::ptr_eq(config, &self.config) || *addresses != self.addresses
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("the keeper of prepared connections panicked");
            let mut state = self.0.state();
            state.wanted = 0;
            state.ready.clear();
            state.spent.clear();
            self.0.kept.send_replace(false);
        }
    }
}

impl Prepared {
    async fn close(self) {
        drop(self.signaling);
        if time::timeout(self.config.timeouts.closing, self.connection.close()).await.is_err() {
            tracing::warn!("the engine did not let go of a prepared connection in time, it is abandoned");
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("Pool")
            .field("wanted", &state.wanted)
            .field("ready", &state.ready.len())
            .finish_non_exhaustive()
    }
}
