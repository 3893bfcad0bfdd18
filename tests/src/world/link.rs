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

use super::{Fault, Happening, World};

/// How often a connection looks at its path.
const POLL: Duration = Duration::from_millis(50);

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
    /// Closed by its owner, with a bye.
    Closed,
    /// Its process died.
    Died,
}

impl End {
    fn is_open(self) -> bool {
        !matches!(self, Self::Absent | Self::Closed | Self::Died)
    }

    fn works(self) -> bool {
        self.is_open() && self != Self::Over
    }
}

/// A connection between two nodes; the first one dialed.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    nodes: [usize; 2],
    ends: [End; 2],
    /// Somebody knows a candidate of the other, so that there is a path to try.
    candidates: bool,
}

/// The name of a connection.
pub(super) type Name = (CallId, [usize; 2], u32);

impl World {
    pub(super) fn drive(&mut self, node: usize, link: LinkId, command: LinkCommand) -> Result<(), Fault> {
        let Some(peer) = self.index(link.peer) else {
            return Err(self.fault(node, "a link to nobody"));
        };
        let dials = matches!(command, LinkCommand::Dial);
        let mut nodes = [node.min(peer), node.max(peer)];
        // The larger key dials; keys grow with the index.
        nodes.reverse();
        let name = (link.call, nodes, link.generation);
        let end = usize::from(nodes[0] != node);
        if dials || matches!(command, LinkCommand::Accept(_)) {
            self.open(node, peer, name, end)?;
        }
        let Some(connection) = self.links.get_mut(&name).filter(|c| c.ends[end].is_open()) else {
            return Err(self.fault(node, format!("{command:?} to a link that is not open: {link:?}")));
        };
        match command {
            LinkCommand::Dial => {
                connection.ends[end] = End::New;
                self.describe(node, link, DescriptionKind::Offer);
            }
            LinkCommand::Accept(_) => {
                connection.ends[end] = End::Checking(self.now);
                self.describe(node, link, DescriptionKind::Answer);
                self.tell(node, link, EngineLink::Checking);
            }
            LinkCommand::Apply(_) => {
                if connection.ends[end] != End::New {
                    return Err(self.fault(node, "an answer is applied twice"));
                }
                connection.ends[end] = End::Checking(self.now);
                self.tell(node, link, EngineLink::Checking);
            }
            LinkCommand::Candidate(_) => connection.candidates = true,
            LinkCommand::EndOfCandidates => {}
            LinkCommand::Close => {
                connection.ends[end] = End::Closed;
                if !connection.ends.iter().any(|e| e.is_open()) {
                    self.links.remove(&name);
                }
            }
        }
        Ok(())
    }

    fn open(&mut self, node: usize, peer: usize, name: Name, end: usize) -> Result<(), Fault> {
        if self.open_links(node).iter().any(|n| n.1.contains(&peer)) {
            return Err(self.fault(node, format!("a second live link to node {peer}")));
        }
        let fresh = Connection { nodes: name.1, ends: [End::Absent; 2], candidates: false };
        let connection = self.links.entry(name).or_insert(fresh);
        if connection.ends[end] != End::Absent {
            return Err(self.fault(node, "a connection is used again"));
        }
        connection.ends[end] = End::New;
        self.later(POLL, Happening::Poll(name));
        Ok(())
    }

    /// The names of the links that this node has open.
    pub(super) fn open_links(&self, node: usize) -> Vec<Name> {
        let open = |c: &Connection| (0..2).any(|e| c.nodes[e] == node && c.ends[e].is_open());
        self.links.iter().filter(|(_, c)| open(c)).map(|(name, _)| *name).collect()
    }

    /// The process of this node died, and its sockets with it.
    pub(super) fn cut_off(&mut self, node: usize) {
        for connection in self.links.values_mut() {
            for end in 0..2 {
                if connection.nodes[end] == node && connection.ends[end].is_open() {
                    connection.ends[end] = End::Died;
                }
            }
        }
        self.links.retain(|_, c| c.ends.iter().any(|e| e.is_open()));
    }

    fn describe(&mut self, node: usize, link: LinkId, kind: DescriptionKind) {
        let mut wait = self.rng.between((Duration::from_millis(2), Duration::from_millis(30)));
        let description = Description { kind, text: format!("{kind:?}") };
        self.media(node, wait, MediaInput::LocalDescription { link, description });
        for n in 0..1 + self.rng.below(4) {
            wait += self.rng.between((Duration::ZERO, Duration::from_millis(60)));
            let candidate = Candidate { text: format!("candidate {n}") };
            self.media(node, wait, MediaInput::LocalCandidate { link, candidate });
        }
        self.media(node, wait, MediaInput::GatheringDone { link });
    }

    fn tell(&mut self, node: usize, link: LinkId, state: EngineLink) {
        let wait = self.rng.between(self.conditions.driver);
        self.media(node, wait, MediaInput::State { link, state });
    }

    fn media(&mut self, node: usize, wait: Duration, input: MediaInput) {
        let life = self.nodes[node].life;
        self.later(wait, Happening::Input { node, life, input: Box::new(Input::Media(input)) });
    }

    /// A connection looks at its path, and its ends tell what they see.
    pub(super) fn poll(&mut self, name: Name) {
        let Some(connection) = self.links.get(&name).cloned() else { return };
        let apart = self.cut_since(connection.nodes[0], connection.nodes[1]).is_some();
        let described = |e: End| e.works() && e != End::New;
        let path = !apart && connection.candidates && connection.ends.iter().all(|e| described(*e));
        for end in 0..2 {
            let (state, other) = (connection.ends[end], connection.ends[1 - end]);
            let silent = apart || !other.works();
            let (next, told) = match state {
                End::Checking(_) if path => (End::Securing, Some(EngineLink::Securing)),
                End::Checking(t) if self.now.since(t) > CHECKING => {
                    (End::Over, Some(EngineLink::Failed(Step::Checking)))
                }
                End::Securing if path => (End::Connected(None), Some(EngineLink::Connected)),
                End::Securing => (End::Checking(self.now), None),
                End::Connected(_) if other == End::Closed && !apart => (End::Over, Some(EngineLink::Closed)),
                End::Connected(None) if silent => (End::Connected(Some(self.now)), None),
                End::Connected(Some(t)) if silent && self.now.since(t) > INTERRUPTED => {
                    (End::Interrupted(self.now), Some(EngineLink::Disconnected))
                }
                End::Connected(Some(_)) if !silent => (End::Connected(None), None),
                End::Interrupted(_) if path => (End::Connected(None), Some(EngineLink::Connected)),
                End::Interrupted(t) if self.now.since(t) > FAILED => {
                    (End::Over, Some(EngineLink::Failed(Step::Connected)))
                }
                same => (same, None),
            };
            if let Some(connection) = self.links.get_mut(&name) {
                connection.ends[end] = next;
            }
            if let Some(told) = told {
                let node = connection.nodes[end];
                let peer = self.nodes[connection.nodes[1 - end]].key;
                self.tell(node, LinkId { call: name.0, peer, generation: name.2 }, told);
            }
        }
        self.later(POLL, Happening::Poll(name));
    }
}
