//! What people do, and what happens to their machines.

use std::time::Duration;

use warp_blink::{
    error::Rejected,
    event::{CallSnapshot, Phase, Presence},
    id::{CallId, PublicKey},
    proto::{
        Command, Other,
        signal::{AppData, Create, MayInvite},
    },
};

use super::{Fault, Happening, Made, Nodes, World, rules::AT_ONCE};

/// What a person does, or what happens to a machine. What makes no sense at the moment is not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// Calls these.
    Offer(Nodes),
    /// Accepts what rings longest; what is active ends, or is held.
    Accept(Other),
    /// Declines what rings longest.
    Decline,
    /// Takes the own call back.
    Cancel,
    /// Hangs up whatever there is.
    HangUp,
    /// Leaves the active call.
    Leave,
    /// Comes back to what was left.
    Rejoin(Other),
    /// Brings these into the active call.
    Invite(Nodes),
    /// Removes that one from the active call, or calls it off.
    Remove(usize),
    /// Holds the active call.
    Hold,
    /// Goes on with a held call.
    Unhold(Other),
    /// Mutes the microphone, or stops to.
    Mute(bool),
    /// Turns the camera on or off.
    Camera(bool),
    /// The process dies, and is started anew after `down`; `resume` later it comes back to its calls.
    Crash {
        /// How long it is gone.
        down: Duration,
        /// How long until its user comes back to the calls; `None`: never.
        resume: Option<Duration>,
    },
    /// The process is stopped for this long.
    Suspend(Duration),
    /// The phone goes to another network: its address is another one.
    Roam,
    /// The wall clock is set so far off the true time, in milliseconds.
    Clock(i64),
    /// These and the others hear nothing of each other for so long.
    Cut(Nodes, Duration),
    /// So many of a hundred messages are lost from now on, anywhere.
    Loss(u32),
}

impl World {
    /// A command of the app at this node.
    ///
    /// # Errors
    /// A [`Fault`] if a rule is broken; the inner error if the machine refuses.
    pub fn command(&mut self, node: usize, command: Command) -> Result<Result<(), Rejected>, Fault> {
        let mut called: Option<(CallId, Vec<PublicKey>)> = None;
        match &command {
            Command::Accept { call, .. } => {
                self.accepted.insert(*call);
            }
            Command::Invite { call, to, .. } => {
                self.crowd(*call);
                called = Some((*call, to.clone()));
            }
            Command::Offer { call, to, .. } => called = Some((*call, to.clone())),
            Command::Leave { call } => self.crowd(*call),
            _ => {}
        }
        // Who is called may be told of in this very step.
        let until = self.now + self.nodes[node].config.ring_timeout;
        let before = called.as_ref().and_then(|(call, _)| self.nodes[node].watch.get(call)).cloned();
        if let Some((call, to)) = &called {
            let watch = self.nodes[node].watch.entry(*call).or_default();
            to.iter().for_each(|peer| watch.calls(*peer, until));
        }
        let result = self.try_feed(node, command.into())?;
        if let Some((call, to)) = called {
            if result.is_err() {
                match before {
                    Some(before) => self.nodes[node].watch.insert(call, before),
                    None => self.nodes[node].watch.remove(&call),
                };
            } else {
                let (life, wait) = (self.nodes[node].life, until.since(self.now) + AT_ONCE);
                for peer in to {
                    self.later(wait, Happening::Silent { node, life, call, peer: Some(peer) });
                }
            }
        }
        Ok(result)
    }

    /// More than two are meant to take part.
    fn crowd(&mut self, call: CallId) {
        if let Some(made) = self.calls.get_mut(&call) {
            made.crowd = true;
        }
    }

    /// `from` calls `to`.
    ///
    /// # Errors
    /// As [`Self::command`].
    pub fn offer(&mut self, from: usize, to: usize) -> Result<Result<CallId, Rejected>, Fault> {
        self.offer_all(from, Nodes::of(&[to]))
    }

    /// `from` calls all of them at once.
    ///
    /// # Errors
    /// As [`Self::command`].
    pub fn offer_all(&mut self, from: usize, to: Nodes) -> Result<Result<CallId, Rejected>, Fault> {
        let config = &self.nodes[from].config;
        let (creator, may_invite, most) = (self.nodes[from].key, config.may_invite, config.max_members);
        let create = Create { creator, random: self.rng.bytes(), may_invite, most };
        let named = CallId::from_bytes(self.rng.bytes());
        let call = self.real.as_mut().and_then(|real| real.create(&create)).unwrap_or(named);
        let command = Command::Offer {
            call,
            create,
            to: self.keys(to),
            app_data: AppData::default(),
            sent_at: self.wall(from),
        };
        self.nodes[from].vault.create(call, create);
        let crowd = to.iter().count() > 1;
        self.calls.insert(call, Made { from, to, crowd, torn: false });
        let result = self.command(from, command)?;
        if result.is_err() {
            self.calls.remove(&call);
        }
        // It was refused, or another one took its place.
        if self.phase(from, call).is_none() {
            self.nodes[from].vault.forget(call);
        }
        Ok(result.map(|()| call))
    }

    /// Accepts; what is active ends.
    ///
    /// # Errors
    /// As [`Self::command`].
    pub fn accept(&mut self, node: usize, call: CallId) -> Result<Result<(), Rejected>, Fault> {
        self.command(node, Command::Accept { call, other: Other::End })
    }

    /// Brings these into a call.
    ///
    /// # Errors
    /// As [`Self::command`].
    pub fn invite(&mut self, node: usize, call: CallId, to: Nodes) -> Result<Result<(), Rejected>, Fault> {
        let (to, sent_at) = (self.keys(to), self.wall(node));
        self.command(node, Command::Invite { call, to, app_data: AppData::default(), sent_at })
    }

    fn keys(&self, nodes: Nodes) -> Vec<PublicKey> {
        nodes.iter().filter_map(|n| self.nodes.get(n)).map(|n| n.key).collect()
    }

    /// Comes back to what an earlier run of it was in.
    pub(super) fn resume_all(&mut self, node: usize) -> Result<(), Fault> {
        for call in self.nodes[node].machine.snapshot().resumable {
            let sent_at = self.wall(node);
            let command = Command::Resume { call: call.id, sent_at, other: Other::End };
            if let Err(rejected) = self.command(node, command)? {
                return Err(self.fault(node, format!("cannot come back to {}: {rejected}", call.id)));
            }
        }
        Ok(())
    }

    pub(super) fn hang_up_all(&mut self, node: usize) -> Result<(), Fault> {
        for call in self.nodes[node].machine.snapshot().calls {
            // Another hang-up may have just ended it.
            let _ = self.command(node, Command::HangUp { call: call.id })?;
        }
        Ok(())
    }

    pub(super) fn act(&mut self, node: usize, action: Action) -> Result<(), Fault> {
        match action {
            Action::Cut(island, time) => {
                self.cut_nodes(Duration::ZERO, time, island);
                return Ok(());
            }
            Action::Loss(percent) => {
                self.conditions.loss = f64::from(percent.min(100)) / 100.0;
                // What is told is not told at once from now on, nor what was said shortly before.
                self.troubled = true;
                return Ok(());
            }
            Action::Clock(off) => {
                self.nodes[node].off = off;
                return Ok(());
            }
            Action::Crash { down, resume } => {
                if !self.nodes[node].up {
                    return Ok(());
                }
                self.kill(node);
                let life = self.nodes[node].life;
                self.later(down, Happening::Start { node, life });
                if let Some(wait) = resume {
                    self.later(down + wait, Happening::Resume { node, life: life + 1 });
                }
                return Ok(());
            }
            _ if !self.nodes[node].is_awake() => return Ok(()),
            Action::Roam => {
                self.roam(node);
                return Ok(());
            }
            Action::Suspend(time) => {
                self.suspend(node);
                let life = self.nodes[node].life;
                self.later(time, Happening::Wake { node, life });
                return Ok(());
            }
            _ => {}
        }
        self.act_as_user(node, action)
    }

    fn act_as_user(&mut self, node: usize, action: Action) -> Result<(), Fault> {
        let snapshot = self.nodes[node].machine.snapshot();
        let find = |fits: &dyn Fn(&&CallSnapshot) -> bool| snapshot.calls.iter().find(|c| fits(c));
        let first = |phase: Phase| find(&|c| c.phase == phase).map(|c| c.id);
        let active = find(&|c| c.phase == Phase::Active && !c.held);
        let held = find(&|c| c.held).map(|c| c.id);
        let (pending, outgoing) = (first(Phase::Incoming), first(Phase::Outgoing));
        let command = match action {
            Action::Offer(to) => {
                let to = without(to, node);
                if to == Nodes::default() {
                    return Ok(());
                }
                let free = outgoing.is_none() && active.is_none();
                let crowded = to.iter().count() >= usize::from(self.nodes[node].config.max_members);
                let refused = self.offer_all(node, to)?.err();
                if (free && !crowded) != refused.is_none() {
                    return Err(self.fault(node, format!("an offer is refused, or not: {refused:?}")));
                }
                return Ok(());
            }
            Action::Invite(to) => {
                let Some(call) = active else { return Ok(()) };
                return self.act_invite(node, call, to);
            }
            Action::Remove(other) => {
                let Some(call) = active else { return Ok(()) };
                return self.act_remove(node, call, other);
            }
            Action::Mute(muted) => Some(Command::SetMuted(muted)),
            Action::Camera(on) => Some(Command::SetCamera(on)),
            Action::Accept(other) => pending.map(|call| Command::Accept { call, other }),
            Action::Decline => pending.map(|call| Command::Decline { call }),
            Action::Cancel => outgoing.map(|call| Command::Cancel { call }),
            Action::Leave => active.map(|c| Command::Leave { call: c.id }),
            Action::Rejoin(other) => first(Phase::Left).map(|call| Command::Rejoin { call, other }),
            Action::Hold => active.map(|c| Command::Hold { call: c.id }),
            Action::Unhold(other) => held.map(|call| Command::Unhold { call, other }),
            Action::HangUp => snapshot.calls.first().map(|c| Command::HangUp { call: c.id }),
            _ => None,
        };
        let Some(command) = command else { return Ok(()) };
        let shown = format!("{command:?}");
        let rejoins = matches!(command, Command::Rejoin { .. });
        match self.command(node, command)? {
            Ok(()) => Ok(()),
            // Nothing says how many calls are held.
            Err(Rejected::TooManyHeld(_)) => Ok(()),
            // Nothing shows that those who stayed have lost their way in with somebody else's removal.
            Err(Rejected::NotInvited(_)) if rejoins => Ok(()),
            Err(rejected) => Err(self.fault(node, format!("{shown} fits the snapshot, and: {rejected}"))),
        }
    }

    fn act_invite(&mut self, node: usize, call: &CallSnapshot, to: Nodes) -> Result<(), Fault> {
        let there = |n: usize| {
            let of = call.participants.iter().find(|p| p.peer == self.nodes[n].key).map(|p| p.state.presence);
            of.is_some_and(|p| p.is_in() || matches!(p, Presence::Calling | Presence::Ringing))
        };
        let absent: Vec<usize> = without(to, node).iter().filter(|n| !there(*n)).collect();
        if absent.is_empty() {
            return Ok(());
        }
        match self.invite(node, call.id, Nodes::of(&absent))? {
            Err(Rejected::CallFull { .. } | Rejected::TooManySubjects(_)) => Ok(()),
            Err(Rejected::MayNotInvite(_)) if !call.may_invite => Ok(()),
            Ok(()) if call.may_invite => Ok(()),
            // Nothing shows that one of them is opening a session in the call at this moment.
            Err(Rejected::AlreadyInCall(_)) if call.may_invite => Ok(()),
            other => Err(self.fault(node, format!("an invitation is refused, or not: {other:?}"))),
        }
    }

    fn act_remove(&mut self, node: usize, call: &CallSnapshot, other: usize) -> Result<(), Fault> {
        let Some(peer) = self.nodes.get(other).map(|n| n.key) else { return Ok(()) };
        let creator = call.creator == Some(self.nodes[node].key);
        self.crowd(call.id);
        match self.command(node, Command::Remove { call: call.id, peer })? {
            Err(Rejected::NotInCall(_)) => Ok(()),
            Err(Rejected::MayNotRemove(_)) if !creator => Ok(()),
            Ok(()) => Ok(()),
            Err(rejected) => Err(self.fault(node, format!("a removal is refused: {rejected}"))),
        }
    }
}

fn without(nodes: Nodes, node: usize) -> Nodes {
    Nodes(nodes.0 & !(1 << node))
}

/// Who may invite, as one of two.
pub(super) const fn inviters(creator: bool) -> MayInvite {
    if creator { MayInvite::Creator } else { MayInvite::Members }
}
