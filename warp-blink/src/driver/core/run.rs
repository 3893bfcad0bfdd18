//! The loop of the task: what happens, in the order in which it does.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::{Core, Found, Request};
use crate::{
    driver::{clock, post, reaches::Answer},
    event::NodeState,
    id::PublicKey,
    ports::{
        gossip::{self, GossipEvent},
        media::MediaEvent,
    },
    proto::{Command, EffectId, Input, LinkId, Outcome},
    time::Instant,
};

/// How long a shutdown waits for the app's store: half of the two seconds in which the command line promises to be gone.
const SAVED: Duration = Duration::from_secs(1);

/// How often the machine is told the wall clock, by which notices of missed calls grow old: they are kept for days.
const CLOCK_EVERY: Duration = Duration::from_secs(3600);

impl Core {
    pub(super) async fn run(
        mut self,
        mut requests: mpsc::Receiver<Request>,
        mut results: mpsc::Receiver<(EffectId, Outcome)>,
        mut dialed: mpsc::Receiver<Answer>,
        found: Found,
    ) {
        // Both were handed over fresh; a second reader would be a defect of the builder.
        let (Some(mut gossip), Some(mut media)) = (self.gossip.take_events(), self.media.take_events())
        else {
            tracing::error!("node or media are in use by somebody else");
            return;
        };
        let mut open = true;
        let mut stopping: Option<(Instant, Vec<oneshot::Sender<()>>)> = None;
        self.begin(found);
        let mut clock_at = clock::now() + CLOCK_EVERY;
        loop {
            self.ask_friends();
            self.tell_findable();
            self.publish();
            let now = clock::now();
            if let Some((until, _)) = &stopping
                && (self.machine.is_idle() || *until <= now)
            {
                break;
            }
            if clock_at <= now {
                clock_at = now + CLOCK_EVERY;
                self.feed(Input::Clock(clock::unix()));
            }
            let until = stopping.as_ref().map(|(until, _)| *until);
            let timeouts = [
                self.machine.next_timeout(),
                self.reaches.next_timeout(),
                self.gate.next_timeout(now),
                self.friends.next_timeout(),
                Some(clock_at),
                until,
            ];
            let due = timeouts.into_iter().flatten().min();
            let wait = due.map_or(CLOCK_EVERY, |t| t.since(now));
            tokio::select! {
                request = requests.recv(), if open => match request {
                    Some(Request::Shutdown(done)) => {
                        let (_, waiting) = stopping.get_or_insert_with(|| (now + self.goodbye, Vec::new()));
                        waiting.push(done);
                        // Already shutting down is as good.
                        let _ = self.step(Input::Command(Command::Shutdown));
                    }
                    Some(request) => self.on_request(request),
                    // The last handle is gone: what runs is hung up.
                    None => {
                        open = false;
                        stopping.get_or_insert_with(|| (now + self.goodbye, Vec::new()));
                        let _ = self.step(Input::Command(Command::Shutdown));
                    }
                },
                event = gossip.recv() => match event {
                    Some(event) => self.on_gossip(event),
                    None => {
                        self.feed(Input::Stopped { cause: "the node has ended: start a new one".to_owned() });
                        break;
                    }
                },
                input = media.recv() => match input {
                    Some(MediaEvent::Input(input)) => self.feed(Input::Media(input)),
                    Some(MediaEvent::Signal { link, frame }) => self.on_link(link, &frame),
                    None => {
                        self.feed(Input::Stopped { cause: "links and devices have ended".to_owned() });
                        break;
                    }
                },
                Some((effect, outcome)) = results.recv() => self.feed(Input::Done { effect, outcome }),
                Some(dialed) = dialed.recv() => {
                    let ended = self.reaches.on_answer(clock::now(), dialed);
                    self.finish(ended);
                }
                () = tokio::time::sleep(wait) => {
                    let ended = self.reaches.on_time(clock::now());
                    self.finish(ended);
                    self.open_next();
                    self.feed(Input::Tick);
                }
            }
        }
        self.stop().await;
        self.publish();
        // The store is free again when whoever asked goes on.
        drop(self);
        for done in stopping.into_iter().flat_map(|(_, waiting)| waiting) {
            // Whoever asked may have stopped waiting.
            let _ = done.send(());
        }
    }

    /// What the machine is told before anything happens.
    fn begin(&mut self, found: Found) {
        let effects = match &mut self.diary {
            Some(diary) => diary.start(&mut self.machine),
            None => self.machine.start(),
        };
        for effect in effects {
            self.carry_out(effect);
        }
        let known: Vec<_> = self.vault.keys().known().collect();
        for (peer, known) in known {
            self.feed(Input::Known { peer, known });
        }
        for (saved, words) in found.calls {
            self.vault.restore(saved.call, words);
            self.feed(Input::Saved(Box::new(saved)));
        }
        for notice in found.notices {
            self.feed(Input::Notice(notice));
        }
        self.await_people();
        self.feed(Input::Clock(clock::unix()));
        self.on_node_state(self.gossip.state());
        self.reaches.on_own(clock::now());
    }

    async fn stop(&mut self) {
        // Workers finish what is queued (a last goodbye), within the node's own bound, before the node ends.
        let (node_jobs, _) = mpsc::channel(1);
        let (media_jobs, _) = mpsc::channel(1);
        self.node_jobs = node_jobs;
        self.media_jobs = media_jobs;
        self.sounds.abort();
        for worker in self.workers.drain(..) {
            let abort = worker.abort_handle();
            if tokio::time::timeout(Duration::from_millis(500), worker).await.is_err() {
                abort.abort();
            }
        }
        let saved = async {
            self.reaches.close().await;
            self.vault.keys_mut().close().await;
            self.recalled.close().await;
            self.kept.close().await;
            self.missed.close().await;
        };
        if tokio::time::timeout(SAVED, saved).await.is_err() {
            tracing::warn!("the store takes too long: what changed last may not be remembered");
        }
        self.media.shutdown().await;
        self.gossip.shutdown().await;
        // Says nothing where something else has ended it before.
        if !matches!(self.machine.snapshot().node, NodeState::Offline { .. }) {
            self.feed(Input::Stopped { cause: "shut down".to_owned() });
        }
        if let Some(diary) = self.diary.take() {
            diary.close().await;
        }
    }

    fn on_gossip(&mut self, event: GossipEvent) {
        let now = clock::now();
        match event {
            GossipEvent::Message { topic, data } => {
                match post::open(&mut self.vault, &mut self.gate, &topic, data) {
                    Ok(Some(input)) => {
                        #[cfg(test)]
                        self.tap.opened(&input);
                        if let Input::Welcome { from, welcome, .. } = &input {
                            self.reaches.lives_at(*from, welcome.node);
                            self.reaches.keep_here(now, *from);
                        }
                        self.feed(input);
                    }
                    Ok(None) => self.open_next(),
                    Err(dropped) => dropped.count(&mut self.dropped),
                }
            }
            GossipEvent::PeerSubscribed { topic } => {
                if let Some(meaning) = self.vault.meaning(&topic) {
                    self.feed(Input::PeerSubscribed(meaning));
                }
            }
            GossipEvent::PeerConnected { node, via } => {
                let ended = self.reaches.on_connected(now, node, via);
                self.finish(ended);
            }
            GossipEvent::PeerDisconnected { node } => {
                let ended = self.reaches.on_disconnected(now, node);
                self.finish(ended);
            }
            GossipEvent::CutOff { node, addresses } => {
                let people: Vec<PublicKey> = self.machine.needed().collect();
                let ended = self.reaches.on_cut_off(now, node, addresses, &people);
                self.finish(ended);
            }
            GossipEvent::Nearby { node, addresses } => {
                let ended = self.reaches.on_nearby(now, node, addresses);
                self.finish(ended);
            }
            GossipEvent::Listening { .. } | GossipEvent::ListeningNoMore { .. } => self.reaches.on_own(now),
            GossipEvent::State(state) => {
                self.reaches.on_own(now);
                // Before it says that it is reached at an address: until others keep that they are told another one.
                self.tell_findable();
                self.on_node_state(state);
            }
            GossipEvent::Lagged { dropped } => tracing::warn!(dropped, "gossip events were dropped"),
            // Addresses are read with the snapshot; the rest says nothing about a call.
            _ => {}
        }
    }

    /// Something came over the signaling channel of a link.
    fn on_link(&mut self, link: LinkId, frame: &[u8]) {
        match post::open_on_link(&mut self.vault, link, frame) {
            Ok(input) => {
                #[cfg(test)]
                self.tap.opened(&input);
                self.feed(input);
            }
            Err(dropped) => dropped.count(&mut self.dropped),
        }
    }

    /// Opens the first messages whose turn it is. Each lane's burst bounds how long this takes.
    pub(super) fn open_next(&mut self) {
        while let Some(opened) = self.gate.next(clock::now(), &mut self.vault) {
            match opened {
                Ok(input) => self.feed(input),
                Err(turned) => post::Dropped::from(turned).count(&mut self.dropped),
            }
        }
    }

    /// Tells the machine whether others find this identity, if that has changed.
    fn tell_findable(&mut self) {
        let findable = self.reaches.findable();
        if std::mem::replace(&mut self.findable, findable) != findable {
            self.feed(Input::Findable(findable));
        }
    }

    fn on_node_state(&mut self, state: gossip::NodeState) {
        self.feed(Input::Node(state.into()));
    }
}
