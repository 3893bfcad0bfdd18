//! `blink answer` and `blink call`: one loop over what happens, what is typed and what time it is.

use std::{io, time::Duration};

use tokio::{
    sync::mpsc,
    time::{Instant, Interval, MissedTickBehavior, interval, sleep_until, timeout_at},
};
use warp_blink::{
    Blink, Event, Events, Other,
    event::{EndReason, Findable, NodeState, Phase, Summary, Warning},
    id::{CallId, PublicKey},
};

use super::{
    args::{Accept, AnswerArguments, CallArguments, Common},
    calls::{Calls, Stage},
    control,
    failure::{Exit, Failure, one_line},
    line::{Line, name},
    output::{Output, unix},
    setup,
    signals::Signals,
    tally::readable,
};

/// After Ctrl-C: how long calls have to end. A hang-up takes a few milliseconds here, the other side may be gone.
const HANG_UP: Duration = Duration::from_millis(700);

/// After Ctrl-C: how long everything has, so that the program is gone within the 2 s of the contract.
const GO: Duration = Duration::from_millis(1700);

/// The statistics are refreshed once a second.
const STATS: Duration = Duration::from_secs(1);

/// What the phone does by itself.
enum Plan {
    Answer { accept: Accept, reject: bool, once: bool, delay: Duration },
    Call { keys: Vec<PublicKey> },
}

/// What is due later.
enum Later {
    Accept,
    Decline,
    HangUp,
}

struct Session<'a> {
    blink: &'a Blink,
    output: Output,
    plan: Plan,
    duration: Option<Duration>,
    /// Comes back to a call of an earlier run.
    resume: bool,
    /// How the node was when that was last told.
    node: &'static str,
    common: &'a Common,
    calls: Calls,
    /// The call that the exit code speaks of.
    focus: Option<CallId>,
    exit: Option<Exit>,
    later: Vec<(Instant, CallId, Later)>,
    /// Set by Ctrl-C: when the last call must have ended.
    stopping: Option<Instant>,
}

/// `blink answer`.
pub(super) async fn answer(arguments: &AnswerArguments) -> Result<Exit, Failure> {
    let AnswerArguments { accept, reject, once, answer_delay, common } = arguments;
    let accept = accept.clone().unwrap_or(if *reject { Accept::None } else { Accept::All });
    let plan = Plan::Answer { accept, reject: *reject, once: *once, delay: *answer_delay };
    run(common, plan).await
}

/// `blink call`.
pub(super) async fn call(arguments: &CallArguments) -> Result<Exit, Failure> {
    run(&arguments.common, Plan::Call { keys: arguments.keys.clone() }).await
}

async fn run(common: &Common, plan: Plan) -> Result<Exit, Failure> {
    setup::check(common)?;
    let identity = setup::identity(common.key.as_deref())?;
    if matches!(&plan, Plan::Call { keys } if keys.contains(&identity.public())) {
        return Err(Failure::usage("that is your own key: give the key of somebody else"));
    }
    let mut signals = Signals::new().map_err(Failure::other)?;
    let blink = tokio::select! {
        blink = setup::start(common, identity) => blink?,
        () = signals.recv() => return Ok(Exit::NoAnswer),
    };
    let mut session = Session {
        blink: &blink,
        output: Output {
            json: common.json,
            control: common.control,
            waits: matches!(plan, Plan::Answer { .. }),
        },
        plan,
        duration: common.duration,
        resume: common.resume,
        node: "starting",
        common,
        calls: Calls::default(),
        focus: None,
        exit: None,
        later: Vec::new(),
        stopping: None,
    };
    let control = if common.control { Some(control::read().map_err(Failure::other)?) } else { None };
    let result = session.work(&mut signals, control).await;
    let stopping = session.stopping;
    shut_down(blink, &mut signals, stopping).await;
    result
}

/// Says goodbye. After Ctrl-C there is little time for that, and after a second one none.
async fn shut_down(blink: Blink, signals: &mut Signals, stopping: Option<Instant>) {
    let mut until = stopping.map(|hung_up| hung_up + (GO - HANG_UP));
    let goodbye = blink.shutdown();
    tokio::pin!(goodbye);
    loop {
        tokio::select! {
            () = &mut goodbye => return,
            () = sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => return,
            () = signals.recv() => match until {
                Some(_) => return,
                None => until = Some(Instant::now() + GO),
            }
        }
    }
}

impl Session<'_> {
    async fn work(
        &mut self,
        signals: &mut Signals,
        mut control: Option<mpsc::Receiver<control::Input>>,
    ) -> Result<Exit, Failure> {
        let mut events = self.blink.events();
        let ready = tokio::select! {
            ready = setup::ready(self.blink, self.common) => ready?,
            () = signals.recv() => {
                self.stop().await;
                return Ok(Exit::NoAnswer);
            }
        };
        self.write(&ready)?;
        self.begin().await?;
        let mut stats = seconds();
        loop {
            if let Some(exit) = self.finished() {
                return Ok(exit);
            }
            let due = self.later.iter().map(|(at, ..)| *at).chain(self.stopping).min();
            tokio::select! {
                event = events.next() => match event {
                    Some(event) => {
                        if matches!(event, Event::MediaStarted { .. }) {
                            stats = seconds();
                        }
                        self.on_event(event)?;
                    }
                    None => return Err(Failure::other("the node has ended")),
                },
                input = next(&mut control), if control.is_some() => match input {
                    Some(input) => {
                        // What happened before the command was typed is told, and known, first.
                        self.catch_up(&mut events).await?;
                        if let Some(line) = control::perform(input, self.blink, &self.calls).await {
                            self.write(&line)?;
                        }
                    }
                    // The end of standard input is not the end of the call.
                    None => control = None,
                },
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => self.on_time().await,
                _ = stats.tick(), if self.calls.any_talks() => self.on_second()?,
                () = signals.recv() => {
                    if self.stopping.is_some() {
                        return Ok(self.exit.unwrap_or(Exit::NoAnswer));
                    }
                    self.stop().await;
                }
            }
        }
    }

    /// Comes back to a call of an earlier run, if that is asked for and there is one; or calls.
    async fn begin(&mut self) -> Result<(), Failure> {
        let kept = self.blink.snapshot().resumable.first().cloned();
        if let Some(kept) = kept.filter(|_| self.resume) {
            self.blink.resume(kept.id, Other::End).await?;
            self.calls.begin(kept.id, kept.participants, Stage::Active);
            self.focus = Some(kept.id);
        } else if let Plan::Call { keys } = &self.plan {
            let call = self.blink.offer(keys.iter().copied()).await?;
            self.calls.begin(call, keys.iter().copied(), Stage::Outgoing);
            self.focus = Some(call);
        }
        Ok(())
    }

    /// Takes the events that are here already.
    async fn catch_up(&mut self, events: &mut Events) -> Result<(), Failure> {
        while let Ok(Some(event)) = timeout_at(Instant::now(), events.next()).await {
            self.on_event(event)?;
        }
        Ok(())
    }

    fn write(&mut self, line: &Line) -> Result<(), Failure> {
        self.output.write(line).map_err(|e| match e.kind() {
            // Whoever read the output has gone; the call is hung up on the way out.
            io::ErrorKind::BrokenPipe => Failure::other("nobody reads the output any more"),
            _ => Failure::other(format_args!("cannot write to standard output: {e}")),
        })
    }

    /// The exit code, once there is nothing more to wait for.
    fn finished(&self) -> Option<Exit> {
        let once = match self.plan {
            Plan::Answer { once, .. } => once,
            Plan::Call { .. } => true,
        };
        if once && let Some(exit) = self.exit {
            return Some(exit);
        }
        let stopping = self.stopping?;
        (self.calls.is_empty() || Instant::now() >= stopping).then_some(match self.focus {
            // A phone that waited for calls until it was told to stop has done its work.
            _ if !once => Exit::Done,
            // It was hung up from here, and there was no time to hear that it ended.
            Some(call) if self.calls.is_talking(call) => Exit::Done,
            _ => Exit::NoAnswer,
        })
    }

    /// That the node is up was written as `ready`; what else it is, when that changes.
    fn on_node(&mut self, state: &NodeState) -> Result<(), Failure> {
        let line = Line::node(state);
        let Line::Node { state: name, .. } = &line else { return Ok(()) };
        let before = std::mem::replace(&mut self.node, name);
        if before == *name || *name == "starting" || (before == "starting" && *name == "local_only") {
            return Ok(());
        }
        self.write(&line)
    }

    /// Where no bootstrap node is named nobody is to find this phone that way, and nothing is said of it.
    fn on_findable(&mut self, state: Findable) -> Result<(), Failure> {
        if self.common.bootstrap.is_empty() {
            return Ok(());
        }
        self.write(&Line::Findable { state: name(&state).0 })
    }

    fn on_event(&mut self, event: Event) -> Result<(), Failure> {
        match event {
            Event::Node { state } => self.on_node(&state),
            Event::Findable { state } => self.on_findable(state),
            Event::Reached { peer, via, ms } => {
                self.write(&Line::Reached { peer, via: name(&via).0.to_lowercase(), ms })
            }
            Event::Offering { call, peer } => {
                self.calls.begin(call, [peer], Stage::Outgoing);
                self.write(&Line::Offering { call, peer })
            }
            Event::Incoming { call, from, .. } => {
                self.calls.begin(call, [from], Stage::Incoming);
                self.decide(call, from);
                self.write(&Line::Incoming { call, peer: from })
            }
            Event::Ringing { call, peer } => self.write(&Line::Ringing { call, peer }),
            Event::Accepted { call, peer, media } => {
                self.calls.stands(call, Stage::Active);
                // One that is held while another is talked is still the one that the exit code speaks of.
                if !self.focus.is_some_and(|first| self.calls.is_talking(first)) {
                    self.focus = Some(call);
                }
                let (frame_ms, channels, max_bitrate) = (media.frame_ms, media.channels, media.max_bitrate);
                self.write(&Line::Accepted { call, peer, frame_ms, channels, max_bitrate })
            }
            Event::Merged { call, into, peer } => {
                self.calls.merge(call, into, peer);
                if self.focus == Some(call) {
                    self.focus = Some(into);
                }
                self.later.retain(|(_, of, _)| *of != call && *of != into);
                self.write(&Line::Merged { call, into, peer })
            }
            Event::Link { call, peer, state, route } => self.write(&Line::link(call, peer, &state, route)),
            Event::Participant { call, peer, state } => {
                let news = self.calls.changed(call, peer, state);
                self.write(&Line::participant(call, peer, state, news))
            }
            Event::Held { call, held } => {
                self.calls.hold(call, held);
                self.write(&Line::Held { call, held })
            }
            Event::Left { call } => {
                self.calls.stands(call, Stage::Left);
                self.write(&Line::Left { call })
            }
            Event::Rejoined { call } => {
                self.calls.begin(call, [], Stage::Active);
                self.calls.stands(call, Stage::Active);
                self.focus.get_or_insert(call);
                self.write(&Line::Rejoined { call })
            }
            Event::MediaStarted { call, mic_us, speaker_us } => {
                let first = self.calls.talks(call);
                if let Some(duration) = self.duration.filter(|_| first) {
                    self.later.push((Instant::now() + duration, call, Later::HangUp));
                }
                self.write(&Line::MediaStarted {
                    call,
                    mic_t: mic_us.map(unix),
                    speaker_t: speaker_us.map(unix),
                })
            }
            Event::FirstAudio { call, peer } => self.write(&Line::FirstAudio { call, peer }),
            Event::Device { call, kind, name: device } => {
                self.write(&Line::Device { call, kind: name(&kind).0, name: device })
            }
            Event::Recording { call, number, running, files, cause } => {
                let cause = cause.map(|cause| one_line(&cause));
                self.write(&Line::Recording { call, number, running, files, cause })
            }
            Event::Played { call, cause } => {
                self.write(&Line::Played { call, cause: cause.map(|cause| one_line(&cause)) })
            }
            Event::Warning { warning } => {
                let (kind, cause, peer) = warning_parts(warning);
                self.write(&Line::Warning { kind, cause: one_line(&cause), peer })
            }
            Event::Missed { call, from, reason, ago } => {
                self.write(&Line::Missed { call, peer: from, reason: name(&reason).0, ago })
            }
            Event::Lagged { missed } => {
                self.write(&Line::Lagged { missed })?;
                self.rebuild()
            }
            Event::Ended { call, reason, by, summary } => self.on_ended(call, reason, by, &summary),
            // An event that this build of the command does not know yet.
            _ => Ok(()),
        }
    }

    /// Accept, decline, or let it ring.
    fn decide(&mut self, call: CallId, from: PublicKey) {
        let Plan::Answer { accept, reject, delay, .. } = &self.plan else { return };
        let at = Instant::now() + *delay;
        if accept.covers(&from) {
            self.later.push((at, call, Later::Accept));
        } else if *reject {
            self.later.push((at, call, Later::Decline));
        }
        self.focus.get_or_insert(call);
    }

    fn on_ended(
        &mut self,
        call: CallId,
        reason: EndReason,
        by: Option<PublicKey>,
        summary: &Summary,
    ) -> Result<(), Failure> {
        let failure = summary.failure.clone();
        let (line, talked) = self.calls.end(call, summary);
        self.later.retain(|(_, of, _)| *of != call);
        if self.focus == Some(call) {
            let rejecting = matches!(self.plan, Plan::Answer { reject: true, .. });
            let as_asked = rejecting && reason == EndReason::Declined && by == Some(self.blink.public_key());
            self.exit = Some(if as_asked { Exit::Done } else { Exit::of(&reason, talked) });
            self.focus = None;
        }
        self.write(&Line::ended(call, &reason, by, failure.as_ref()))?;
        self.write(&line)
    }

    /// Events were lost: what the snapshot does not hold has ended.
    fn rebuild(&mut self) -> Result<(), Failure> {
        let snapshot = self.blink.snapshot();
        for call in &snapshot.calls {
            let stage = match call.phase {
                Phase::Incoming => Stage::Incoming,
                Phase::Outgoing => Stage::Outgoing,
                Phase::Left => Stage::Left,
                _ => Stage::Active,
            };
            self.calls.begin(call.id, call.participants.iter().map(|p| p.peer), stage);
            self.calls.stands(call.id, stage);
            self.calls.hold(call.id, call.held);
        }
        for call in self.calls.ids() {
            if snapshot.call(call).is_none() {
                self.calls.end(call, &Summary::default());
                if self.focus == Some(call) {
                    return Err(Failure::other(
                        "the output was read so slowly that the end of the call was missed",
                    ));
                }
            }
        }
        Ok(())
    }

    async fn on_time(&mut self) {
        let now = Instant::now();
        let (due, later) = std::mem::take(&mut self.later).into_iter().partition(|(at, ..)| *at <= now);
        self.later = later;
        let due: Vec<(Instant, CallId, Later)> = due;
        for (_, call, what) in due {
            let result = match what {
                Later::Accept => self.blink.answer(call).await,
                Later::Decline => self.blink.decline(call).await,
                Later::HangUp => self.blink.hang_up(call).await,
            };
            if let Err(error) = result {
                // It ended on its own in this moment; its event is on the way.
                tracing::debug!(%error, "too late for a call");
            }
        }
    }

    fn on_second(&mut self) -> Result<(), Failure> {
        let snapshot = self.blink.snapshot();
        for call in snapshot.calls.iter().filter(|c| self.calls.is_talking(c.id)).collect::<Vec<_>>() {
            for participant in call.participants.iter().filter(|p| p.state.presence.is_in()) {
                let known = snapshot.statistics.link(call.id, &participant.peer);
                let stats = known.map(|known| known.stats.clone()).unwrap_or_default();
                self.calls.stats(call.id, participant.peer, &stats);
                let stats = readable(stats);
                self.write(&Line::Stats { call: call.id, peer: participant.peer, stats })?;
            }
        }
        Ok(())
    }

    /// Hangs everything up.
    async fn stop(&mut self) {
        let until = Instant::now() + HANG_UP;
        self.stopping = Some(until);
        self.later.clear();
        for call in self.calls.ids().into_iter().chain(self.focus) {
            // It may have ended in this moment. If the phone is stuck, the way out is bounded all the same.
            let _ = timeout_at(until, self.blink.hang_up(call)).await;
        }
    }
}

fn seconds() -> Interval {
    let mut seconds = interval(STATS);
    // The first tick of an interval comes at once; nothing is measured then.
    seconds.reset();
    seconds.set_missed_tick_behavior(MissedTickBehavior::Skip);
    seconds
}

async fn next(control: &mut Option<mpsc::Receiver<control::Input>>) -> Option<control::Input> {
    match control {
        Some(control) => control.recv().await,
        None => None,
    }
}

fn warning_parts(warning: Warning) -> (&'static str, String, Option<PublicKey>) {
    match warning {
        Warning::ListenOnly { cause } => ("listen_only", format!("no microphone: {cause}"), None),
        Warning::NoSpeaker { cause } => ("no_speaker", format!("no speaker: {cause}"), None),
        Warning::DeviceLost { device } => ("device_lost", format!("{device} has gone"), None),
        warning @ Warning::DeviceRefused { .. } => ("device_refused", warning.to_string(), None),
        warning @ Warning::RecordingFailed { .. } => ("recording_failed", warning.to_string(), None),
        warning @ Warning::SpeakingWhileMuted => ("speaking_while_muted", warning.to_string(), None),
        warning @ Warning::MicrophoneSilent => ("microphone_silent", warning.to_string(), None),
        Warning::ServerFailed { url, cause } => {
            ("server_failed", format!("the server {url} is of no use: {cause}"), None)
        }
        Warning::NotReached { peer, cause } => {
            ("not_reached", format!("their node is not there: {cause}"), Some(peer))
        }
        warning @ Warning::FriendSilent { peer } => ("friend_silent", warning.to_string(), Some(peer)),
        _ => ("unknown", "something works less well than it should".to_owned(), None),
    }
}
