//! Media links that behave as real ones do, without media: descriptions and candidates must cross, then ICE and DTLS
//! take their time, an interruption is noticed late, and a closed end says bye if it can.

use std::time::Duration;

use warp_blink::{
    event::Step,
    id::CallId,
    proto::{
        EngineLink, Input, LinkCommand, LinkId, MediaInput,
        signal::{Candidate, Description, DescriptionKind},
    },
    time::Instant,
};

use super::{Fault, Happening, World, net::ms};

/// How long a connection takes to notice what has changed on its path.
const NOTICES: (Duration, Duration) = ms(5, 55);

/// Without an answer for this long a connection says that it is interrupted (the ICE settings of simple-webrtc).
const INTERRUPTED: Duration = Duration::from_millis(1500);

/// Interrupted for this long it has failed.
const FAILED: Duration = Duration::from_secs(60);

/// How long it looks for a first path.
const CHECKING: Duration = Duration::from_secs(25);

/// One end of a connection.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    /// Not there yet.
    Absent,
    /// Waits for the other side's description.
    New,
    Checking(Instant),
    Securing,
    /// Connected; silence on the path since then.
    Connected(Option<Instant>),
    Interrupted(Instant),
    /// It has failed, or was told that the other is closed; to be closed by its owner.
    Over,
    /// Closed by its owner; whether its bye arrived.
    Closed(bool),
    /// Its process died.
    Died,
}

impl End {
    fn is_open(self) -> bool {
        !matches!(self, Self::Absent | Self::Closed(_) | Self::Died)
    }

    fn was_connected(self) -> bool {
        matches!(self, Self::Connected(_) | Self::Interrupted(_))
    }

    fn works(self) -> bool {
        self.is_open() && self != Self::Over
    }
}

/// A connection between two nodes; the first one dialed.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    pub(super) call: CallId,
    pub(super) generation: u32,
    pub(super) nodes: [usize; 2],
    ends: [End; 2],
    /// When each end's signaling channel opens.
    opens: [Option<Instant>; 2],
    /// The microphone's sound may go out.
    sending: [bool; 2],
    /// Somebody knows a candidate of the other, so that there is a path to try.
    candidates: bool,
    /// An end has another address now: nothing comes of the path until another one was agreed on.
    dead: bool,
    /// When it looks at its path next.
    review_at: Option<Instant>,
}

impl Connection {
    pub(super) fn end_of(&self, node: usize) -> usize {
        usize::from(self.nodes[0] != node)
    }

    /// Nobody has closed that end, and its process lives.
    pub(super) fn exists(&self, end: usize) -> bool {
        self.ends[end].is_open()
    }

    /// Both ends hold a path on which something would cross.
    pub(super) fn passes(&self) -> bool {
        !self.dead && self.ends.iter().all(|end| end.was_connected() || matches!(end, End::Closed(_)))
    }

    /// The signaling channel of that end is open.
    pub(super) fn is_open_at(&self, end: usize, now: Instant) -> bool {
        self.opens[end].is_some_and(|at| at <= now)
    }
}

/// The name of a connection, which its descriptions carry.
pub(super) type Name = u64;

/// The connection that a description or a candidate is of.
fn named(text: &str) -> Option<Name> {
    text.split(' ').next_back()?.parse().ok()
}

impl World {
    pub(super) fn drive(&mut self, node: usize, link: LinkId, command: LinkCommand) -> Result<(), Fault> {
        let Some(peer) = self.index(&link.peer) else {
            return Err(self.fault(node, "a link to nobody"));
        };
        match &command {
            LinkCommand::Dial => return self.dial(node, peer, link),
            LinkCommand::Accept(offer) => return self.pick_up(node, peer, link, &offer.text),
            _ => {}
        }
        let Some(name) = self.nodes[node].links.get(&link).copied() else {
            return Err(self.fault(node, format!("{command:?} to a link that is not open: {link:?}")));
        };
        let apart = self.apart_since(node, peer).is_some();
        let lost = self.rng.chance(self.conditions.loss);
        let Some(connection) = self.links.get_mut(&name) else { return Ok(()) };
        let end = usize::from(connection.nodes[0] != node);
        match command {
            // Of a connection of the same generation that the peer began after it had forgotten this one: its certificate is
            // another.
            LinkCommand::Apply(other)
                if named(&other.text) != Some(name) && connection.ends[end].was_connected() => {}
            LinkCommand::Apply(other) if named(&other.text) != Some(name) => {
                let what = format!("a description that is not of {link:?}: {}", other.text);
                return Err(self.fault(node, what));
            }
            // It is over, which the machine will hear in a moment.
            LinkCommand::Apply(_) | LinkCommand::Restart if connection.ends[end] == End::Over => {}
            LinkCommand::Apply(offer) if offer.kind == DescriptionKind::Offer => {
                if !connection.ends[end].was_connected() {
                    return Err(self.fault(node, format!("another offer for {link:?}")));
                }
                self.interrupt(node, link, name, end);
                self.describe(node, link, DescriptionKind::Answer, name);
            }
            LinkCommand::Apply(_) if connection.ends[end].was_connected() => connection.dead = false,
            LinkCommand::Restart => {
                self.interrupt(node, link, name, end);
                self.describe(node, link, DescriptionKind::Offer, name);
            }
            LinkCommand::Apply(answer) => {
                if connection.ends[end] != End::New {
                    return Err(
                        self.fault(node, format!("an answer that is not of {link:?}: {}", answer.text))
                    );
                }
                connection.ends[end] = End::Checking(self.now);
                self.tell(node, link, EngineLink::Checking);
            }
            LinkCommand::Candidate(candidate) => {
                connection.candidates |= named(&candidate.text) == Some(name)
            }
            LinkCommand::Send(sends) => connection.sending[end] = sends,
            LinkCommand::Close => {
                connection.ends[end] = End::Closed(!apart && !lost);
                self.nodes[node].links.remove(&link);
            }
            _ => {}
        }
        self.touch(name);
        Ok(())
    }

    /// The path is given up for another one.
    fn interrupt(&mut self, node: usize, link: LinkId, name: Name, end: usize) {
        let now = self.now;
        if let Some(connection) = self.links.get_mut(&name)
            && matches!(connection.ends[end], End::Connected(_))
        {
            connection.ends[end] = End::Interrupted(now);
        }
        self.tell(node, link, EngineLink::Reconnecting);
    }

    /// This node has another address.
    pub(super) fn roam(&mut self, node: usize) {
        let links: Vec<(LinkId, Name)> = self.nodes[node].links.iter().map(|(l, n)| (*l, *n)).collect();
        for (link, name) in links {
            if let Some(connection) = self.links.get_mut(&name) {
                connection.dead = true;
            }
            let wait = self.rng.between(ms(0, 500));
            self.media(node, wait, MediaInput::AddressChanged { link, lost: true });
            self.touch(name);
        }
    }

    fn dial(&mut self, node: usize, peer: usize, link: LinkId) -> Result<(), Fault> {
        self.only_link(node, link)?;
        let name = self.secret();
        let connection = Connection {
            call: link.call,
            generation: link.generation,
            nodes: [node, peer],
            ends: [End::New, End::Absent],
            opens: [None; 2],
            sending: [true; 2],
            candidates: false,
            dead: false,
            review_at: None,
        };
        self.links.insert(name, connection);
        self.nodes[node].links.insert(link, name);
        self.describe(node, link, DescriptionKind::Offer, name);
        Ok(())
    }

    fn pick_up(&mut self, node: usize, peer: usize, link: LinkId, offer: &str) -> Result<(), Fault> {
        self.only_link(node, link)?;
        let LinkId { call, generation, .. } = link;
        let Some(name) = named(offer) else { return Err(self.fault(node, "not an offer")) };
        // Its dialer may have closed it by now: then nothing comes of it.
        let connection = self.links.entry(name).or_insert_with(|| Connection {
            call,
            generation,
            nodes: [peer, node],
            ends: [End::Died, End::Absent],
            opens: [None; 2],
            sending: [true; 2],
            candidates: false,
            dead: false,
            review_at: None,
        });
        let fits = connection.nodes == [peer, node]
            && connection.call == call
            && connection.generation == generation;
        if !fits || connection.ends[1] != End::Absent {
            let what = format!("takes an offer for {link:?} that is of {connection:?}");
            return Err(self.fault(node, what));
        }
        connection.ends[1] = End::Checking(self.now);
        self.nodes[node].links.insert(link, name);
        self.describe(node, link, DescriptionKind::Answer, name);
        self.tell(node, link, EngineLink::Checking);
        self.touch(name);
        Ok(())
    }

    fn only_link(&self, node: usize, link: LinkId) -> Result<(), Fault> {
        match self.nodes[node].links.keys().find(|open| open.peer == link.peer) {
            Some(open) => Err(self.fault(node, format!("a second live link to a peer: {open:?}, {link:?}"))),
            None => Ok(()),
        }
    }

    /// For which calls this node's microphone is sent on some link.
    pub(super) fn sends_for(&self, node: usize) -> impl Iterator<Item = CallId> + '_ {
        self.nodes[node].links.iter().filter_map(move |(link, name)| {
            let connection = self.links.get(name)?;
            connection.sending[usize::from(connection.nodes[0] != node)].then_some(link.call)
        })
    }

    /// The process of this node died, and its sockets with it.
    pub(super) fn cut_off(&mut self, node: usize) {
        let names: Vec<Name> = std::mem::take(&mut self.nodes[node].links).into_values().collect();
        for name in names {
            if let Some(connection) = self.links.get_mut(&name) {
                connection.ends[usize::from(connection.nodes[0] != node)] = End::Died;
            }
            self.touch(name);
        }
    }

    fn describe(&mut self, node: usize, link: LinkId, kind: DescriptionKind, name: Name) {
        let mut wait = self.rng.between(ms(2, 30));
        let description = Description { kind, text: format!("{kind:?} {name}") };
        self.media(node, wait, MediaInput::LocalDescription { link, description });
        for n in 0..1 + self.rng.below(4) {
            wait += self.rng.between(ms(0, 60));
            let candidate = Candidate { text: format!("candidate {n} of {name}") };
            self.media(node, wait, MediaInput::LocalCandidate { link, candidate });
        }
        self.media(node, wait, MediaInput::GatheringDone { link });
    }

    fn tell(&mut self, node: usize, link: LinkId, state: EngineLink) {
        let wait = self.rng.between(self.conditions.driver);
        self.media(node, wait, MediaInput::State { link, state });
    }

    pub(super) fn media(&mut self, node: usize, wait: Duration, input: MediaInput) {
        let life = self.nodes[node].life;
        self.later(wait, Happening::Input { node, life, input: Box::new(Input::Media(input)) });
    }

    /// Something about that path has changed.
    fn touch(&mut self, name: Name) {
        let wait = self.rng.between(NOTICES);
        self.review_in(name, wait);
    }

    /// The paths of this node have changed.
    pub(super) fn touch_all(&mut self, node: usize) {
        let names: Vec<Name> = self.nodes[node].links.values().copied().collect();
        names.into_iter().for_each(|name| self.touch(name));
    }

    fn review_in(&mut self, name: Name, wait: Duration) {
        let at = self.now + wait;
        let Some(connection) = self.links.get_mut(&name) else { return };
        if !connection.ends.iter().any(|e| e.is_open()) {
            self.links.remove(&name);
        } else if connection.review_at.is_none_or(|t| at < t) {
            connection.review_at = Some(at);
            self.later(wait, Happening::Review(name));
        }
    }

    /// A connection looks at its path, and its ends tell what they see.
    pub(super) fn review(&mut self, name: Name) {
        let now = self.now;
        let due = |c: &&Connection| c.review_at == Some(now);
        let Some(connection) = self.links.get(&name).filter(due).cloned() else { return };
        let [a, b] = connection.nodes;
        let apart = self.apart_since(a, b).is_some();
        let described = |e: End| e.works() && e != End::New;
        let apart = apart || connection.dead;
        let path = !apart && connection.candidates && connection.ends.iter().all(|e| described(*e));
        let (mut changed, mut timer) = (false, None::<Instant>);
        let mut opened = Vec::new();
        for end in 0..2 {
            let (state, other) = (connection.ends[end], connection.ends[1 - end]);
            let silent = apart || !other.works();
            let over = |t: Instant, limit: Duration| now.since(t) >= limit;
            let (next, told) = match state {
                End::Checking(_) if path => (End::Securing, Some(EngineLink::Securing)),
                End::Checking(t) if over(t, CHECKING) => {
                    (End::Over, Some(EngineLink::Failed(Step::Checking)))
                }
                End::Securing if path => {
                    opened.push(end);
                    (End::Connected(None), Some(EngineLink::Connected))
                }
                End::Securing => (End::Checking(now), None),
                End::Connected(_) if other == End::Closed(true) => (End::Over, Some(EngineLink::Closed)),
                End::Connected(None) if silent => (End::Connected(Some(now)), None),
                End::Connected(Some(t)) if silent && over(t, INTERRUPTED) => {
                    (End::Interrupted(now), Some(EngineLink::Disconnected))
                }
                End::Connected(Some(_)) if !silent => (End::Connected(None), None),
                End::Interrupted(_) if path => (End::Connected(None), Some(EngineLink::Connected)),
                End::Interrupted(t) if over(t, FAILED) => {
                    (End::Over, Some(EngineLink::Failed(Step::Connected)))
                }
                same => (same, None),
            };
            let limit = match next {
                End::Checking(t) => Some(t + CHECKING),
                End::Connected(Some(t)) => Some(t + INTERRUPTED),
                End::Interrupted(t) => Some(t + FAILED),
                _ => None,
            };
            timer = timer.into_iter().chain(limit).min();
            changed |= next != state;
            if let Some(connection) = self.links.get_mut(&name) {
                connection.ends[end] = next;
                connection.review_at = None;
            }
            if let Some(told) = told {
                let peer = self.nodes[connection.nodes[1 - end]].key;
                let link = LinkId { call: connection.call, peer, generation: connection.generation };
                self.tell(connection.nodes[end], link, told);
                if opened.pop_if(|opened| *opened == end).is_some() {
                    let at = self.opens(connection.nodes[end], link, name, end);
                    if let Some(connection) = self.links.get_mut(&name) {
                        connection.opens[end] = Some(at);
                    }
                }
            }
        }
        if changed {
            self.touch(name);
        } else if let Some(timer) = timer {
            self.review_in(name, timer.since(now));
        }
    }
}
