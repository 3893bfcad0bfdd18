//! The task that owns one connection from its first description to the last of its sockets.

mod drive;
mod exchange;
mod judging;
mod lease;
mod negotiation;
mod probe;
#[cfg(test)]
mod tests;
mod tracks;

use std::collections::BTreeSet;
use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::time;

use self::drive::Live;
use crate::channel::ChannelOptions;
use crate::config::Config;
use crate::description::Description;
use crate::engine::{Engine, EngineError};
use crate::event::{Event, EventKind, FailReason, LinkState, Step};
use crate::peers::Remote;
use crate::pool::Prepared;
use crate::track::LocalTrack;

pub(crate) use self::lease::Lease;
pub(crate) use self::probe::Probe;

#[derive(Debug)]
pub(crate) enum Role {
    Dial,
    Accept(Description),
}

/// What is to be done with a connection, as told from outside.
#[derive(Debug)]
pub(crate) enum Command {
    Apply(Remote),
    Restart,
    OpenChannel(ChannelOptions),
}

/// How long the end of a connection waits until what was said last on its signaling channel has arrived. 200 ms: a round trip and
/// half of one, over a path of 130 ms; beyond that the last words are as lost as the close_notify that follows them may be.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Why a connection is to end, as told from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    HangUp,
    Superseded,
    Shutdown,
}

pub(crate) struct Link<K: Clone + Ord> {
    pub(crate) config: Arc<Config>,
    /// The same, with the servers of the moment.
    pub(crate) servers: watch::Receiver<Arc<Config>>,
    pub(crate) engine: Arc<dyn Engine>,
    /// Made in advance, and to be used as it is.
    pub(crate) prepared: Option<Prepared>,
    pub(crate) role: Role,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) stop: watch::Receiver<Option<Stop>>,
    pub(crate) tracks: watch::Receiver<Vec<LocalTrack>>,
    pub(crate) addresses: watch::Receiver<Arc<BTreeSet<IpAddr>>>,
    pub(crate) probe: Arc<Probe>,
    pub(crate) lease: Lease<K>,
}

/// How a connection ends.
enum End {
    Told(Stop),
    ByItself(LinkState),
}

impl From<Stop> for End {
    fn from(stop: Stop) -> Self {
        Self::Told(stop)
    }
}

impl<K: Clone + Ord + Send + Sync + 'static> Link<K> {
    #[tracing::instrument(level = "debug", name = "link", skip_all, fields(generation = self.lease.generation.0))]
    pub(crate) async fn run(mut self) {
        let mut live = None;
        let end = match self.drive(&mut live).await {
            Ok(never) => match never {},
            Err(end) => end,
        };
        if let Some(live) = live {
            let told = matches!(end, End::Told(Stop::HangUp | Stop::Shutdown));
            self.close(live, told).await;
        }
        let state = match end {
            End::Told(Stop::Superseded) => {
                tracing::debug!("superseded");
                self.lease.release();
                return;
            }
            End::Told(Stop::HangUp | Stop::Shutdown) => LinkState::Closed { by_remote: false },
            End::ByItself(state) => state,
        };
        tracing::debug!(%state, "ended");
        let event = self.event(EventKind::State(state));
        // First this: whoever reads the event may dial again, and whoever waits for the end of everything does not have
        // to wait for a slow reader of events.
        self.lease.release();
        if self.lease.events.send(event).await.is_err() {
            tracing::debug!("nobody reads events any more");
        }
    }

    async fn close(&self, mut live: Live, told: bool) {
        drop(live.subscription.take());
        self.probe.outgoing.clear();
        self.probe.outgoing.close();
        live.tasks.append(&mut live.videos.end());
        if let Some((ending, mut task)) = live.last_words.take() {
            drop(ending);
            // What ends by itself has nobody left to talk to.
            if !told || time::timeout(LAST_WORDS, &mut task).await.is_err() {
                tracing::debug!("the last words on the signaling channel may not have arrived");
                live.tasks.push(task);
            }
        }
        if time::timeout(self.config.timeouts.closing, live.connection.close()).await.is_err() {
            tracing::warn!("the engine did not let go of the connection in time, it is abandoned");
        }
        for task in &live.tasks {
            task.abort();
        }
        for task in live.tasks {
            if let Err(error) = task.await
                && error.is_panic()
            {
                tracing::error!("a media task panicked");
            }
        }
        for heard in &live.heard {
            heard.sink.end();
        }
    }

    /// Waits for the engine, but no longer than it may take, nor than until the connection is to end.
    async fn ask<T>(&mut self, step: Step, call: impl Future<Output = T>) -> Result<T, End> {
        let limit = self.config.timeouts.engine;
        tokio::select! {
            biased;
            stop = stopped(&mut self.stop) => Err(stop.into()),
            done = call => Ok(done),
            () = time::sleep(limit) => {
                Err(End::ByItself(LinkState::Failed { step, reason: FailReason::Engine { doing: "answer in time" } }))
            }
        }
    }

    fn event(&self, kind: EventKind) -> Event<K> {
        let at = now();
        if let EventKind::State(state) = &kind {
            self.probe.counters.on_state(*state, at);
        }
        Event { peer: self.lease.peer.clone(), generation: self.lease.generation, at, kind }
    }

    async fn emit_state(&mut self, state: LinkState) -> Result<(), End> {
        tracing::debug!(%state, "state");
        self.emit(EventKind::State(state)).await
    }

    /// Waits for a slow reader, but not longer than until the connection is to end.
    async fn emit(&mut self, kind: EventKind) -> Result<(), End> {
        let event = self.event(kind);
        tokio::select! {
            biased;
            stop = stopped(&mut self.stop) => Err(stop.into()),
            sent = self.lease.events.send(event) => sent.map_err(|_| Stop::HangUp.into()),
        }
    }
}

fn failed(step: Step, reason: FailReason) -> End {
    End::ByItself(LinkState::Failed { step, reason })
}

impl From<EngineError> for FailReason {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::BadDescription => Self::BadDescription,
            EngineError::NoAddress => Self::NoLocalCandidates,
            EngineError::Failed { doing } => Self::Engine { doing },
        }
    }
}

fn now() -> Instant {
    time::Instant::now().into_std()
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

async fn stopped(stop: &mut watch::Receiver<Option<Stop>>) -> Stop {
    match stop.wait_for(Option::is_some).await.map(|stop| *stop) {
        Ok(Some(stop)) => stop,
        // The entry among the peers is gone without a word, so nobody could stop this connection any more.
        Ok(None) | Err(_) => Stop::Superseded,
    }
}
