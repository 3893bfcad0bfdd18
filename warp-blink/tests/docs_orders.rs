//! What `docs/events.md` says of the order of events is what machines tell: each of its tables is made here.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod proto_kit;

use std::{fs, path::Path};

use proto_kit::{A, B, Pair, SECOND, SENT_AT, accept, call_id, offer_all, reject_when_busy};
use warp_blink::{
    CallId, PublicKey,
    config::Config,
    event::{Event, ParticipantState},
    proto::{
        Command, Input, MediaInput, Other, TopicRef,
        signal::{AppData, HelloKind, Lane},
    },
    time::UnixTime,
};

const C: usize = 2;
const D: usize = 3;

fn document() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/events.md")).unwrap()
}

/// What each side is told, step by step.
struct Story {
    room: Pair,
    sides: usize,
    table: String,
}

impl Story {
    fn of(room: Pair) -> Self {
        let sides = room.sides.len();
        let names: Vec<_> = (0..sides).map(letter).collect();
        let head = format!("| what happens | {} |\n| --- |{}", names.join(" | "), " --- |".repeat(sides));
        let mut story = Self { room, sides, table: head };
        (0..sides).for_each(|side| drop(story.told(side)));
        story
    }

    fn step(&mut self, what: &str, happens: impl FnOnce(&mut Pair)) -> &mut Self {
        happens(&mut self.room);
        let cells: Vec<_> = (0..self.sides).map(|side| self.told(side)).collect();
        self.table += &format!("\n| {what} | {} |", cells.join(" | "));
        self
    }

    /// In backticks what a side was told since the last time; links only once in a row.
    fn told(&mut self, side: usize) -> String {
        let mut words: Vec<String> = Vec::new();
        for event in std::mem::take(&mut self.room.sides[side].events) {
            let word = format!("`{}`", self.word(&event));
            let row = words.iter().rev().take_while(|w| w.starts_with("`Link"));
            if !word.starts_with("`Link") || !row.into_iter().any(|w| *w == word) {
                words.push(word);
            }
        }
        words.join(" ")
    }

    fn word(&self, event: &Event) -> String {
        let text = format!("{event:?}");
        let name = text.split([' ', '{']).next().unwrap();
        // Where there are only two it is the other one.
        let who = |peer: &PublicKey| if self.sides > 2 { letter(self.room.index(*peer)) } else { "" };
        let more = match event {
            Event::Reached { peer, .. } | Event::Offering { peer, .. } | Event::Ringing { peer, .. } => {
                who(peer).to_owned()
            }
            Event::Accepted { peer, .. } | Event::Link { peer, .. } | Event::FirstAudio { peer, .. } => {
                who(peer).to_owned()
            }
            Event::Incoming { from, .. } => who(from).to_owned(),
            Event::Participant { peer, state, .. } => format!("{} {}", who(peer), state_words(state)),
            Event::Missed { reason, ago, .. } => {
                format!("{reason:?}{}", if ago.is_some() { " with `ago`" } else { "" })
            }
            Event::Held { held, .. } => held.to_string(),
            Event::Ended { reason, .. } => format!("{reason:?}"),
            _ => String::new(),
        };
        let more = more.trim().replace('`', "");
        if more.is_empty() { name.to_owned() } else { format!("{name}({more})") }
    }

    fn is_told(&self) {
        assert!(document().contains(&self.table), "docs/events.md has no such table:\n\n{}\n", self.table);
    }
}

fn letter(side: usize) -> &'static str {
    ["A", "B", "C", "D"][side]
}

fn state_words(state: &ParticipantState) -> String {
    let presence = format!("{:?}", state.presence);
    let flags = [(state.muted, " muted"), (state.recording, " recording"), (state.held, " held")];
    flags.iter().filter(|(on, _)| *on).fold(presence, |text, (_, word)| text + word)
}

fn rings(room: &mut Pair, n: u8, from: usize, to: &[usize]) {
    let to: Vec<_> = to.iter().map(|side| room.key(*side)).collect();
    room.ask(from, offer_all(call_id(n), &to)).unwrap();
}

fn answers(room: &mut Pair, side: usize, call: CallId) {
    room.ask(side, accept(call)).unwrap();
    room.pass(10 * SECOND);
}

fn asks(room: &mut Pair, side: usize, command: Command) {
    room.ask(side, command).unwrap();
    room.pass(10 * SECOND);
}

fn invites(room: &mut Pair, side: usize, whom: usize, call: CallId) {
    let (to, app_data, sent_at) = (vec![room.key(whom)], AppData::default(), UnixTime::default());
    room.ask(side, Command::Invite { call, to, app_data, sent_at }).unwrap();
}

#[test]
fn two_people() {
    let call = call_id(1);
    Story::of(proto_kit::plain())
        .step("A calls B", |r| rings(r, 1, A, &[B]))
        .step("B answers: they talk", |r| {
            answers(r, B, call);
            for side in [A, B] {
                let link = r.link(side, call);
                r.feed(side, Input::Media(MediaInput::FirstAudio { link }));
            }
        })
        .step("A mutes", |r| asks(r, A, Command::SetMuted(true)))
        .step("the link is interrupted", |r| r.engine(call, warp_blink::proto::EngineLink::Disconnected))
        .step("it is back", |r| r.engine(call, warp_blink::proto::EngineLink::Connected))
        .step("B hangs up", |r| asks(r, B, Command::HangUp { call }))
        .is_told();
}

#[test]
fn it_does_not_come_to_a_call() {
    let mut story = Story::of(proto_kit::both(&reject_when_busy()));
    story
        .step("A calls, B declines", |r| {
            let call = call_id(1);
            rings(r, 1, A, &[B]);
            asks(r, B, Command::Decline { call });
        })
        .step("A calls, and cancels while it rings", |r| {
            let call = call_id(2);
            rings(r, 2, A, &[B]);
            asks(r, A, Command::Cancel { call });
        })
        .step("A calls, and B never answers", |r| {
            rings(r, 3, A, &[B]);
            r.pass(70 * SECOND);
        })
        .step("A calls, and A's process dies while it rings", |r| {
            let call = call_id(4);
            rings(r, 4, A, &[B]);
            r.crash(A, call);
            r.pass(30 * SECOND);
        })
        .is_told();
}

#[test]
fn busy() {
    let mut story = Story::of(Pair::many(3, &reject_when_busy()));
    story.room.ask(B, offer_all(call_id(9), &[story.room.key(C)])).unwrap();
    story.told(B);
    story.told(C);
    story
        .step("A calls B, who calls C and is set to `WhenBusy::Reject`", |r| {
            rings(r, 1, A, &[B]);
            r.pass(10 * SECOND);
        })
        .is_told();
}

#[test]
fn a_missed_call() {
    let mut story = Story::of(proto_kit::plain());
    story.room.feed(A, Input::Clock(SENT_AT));
    story
        .step("A calls, and B's node is not there", |r| {
            r.cut = |_, _| true;
            rings(r, 1, A, &[B]);
            r.pass(30 * SECOND);
        })
        .step("an hour later it is", |r| {
            r.cut = |_, _| false;
            r.feed(A, Input::Clock(UnixTime::from_millis(SENT_AT.as_millis() + 3_600_000)));
            let owner = r.key(B);
            r.feed(A, Input::PeerSubscribed(TopicRef::Inbox { owner, lane: Lane::Strangers }));
            r.pass(10 * SECOND);
        })
        .is_told();
}

#[test]
fn both_call_each_other() {
    let mut pair = proto_kit::plain();
    pair.hold = |_, w| w.is_hello(HelloKind::Offer);
    Story::of(pair)
        .step("A calls B and B calls A at the same time", |r| {
            rings(r, 1, A, &[B]);
            rings(r, 2, B, &[A]);
            r.release_all();
            r.pass(10 * SECOND);
        })
        .is_told();
}

#[test]
fn a_group() {
    let call = call_id(1);
    Story::of(Pair::many(4, &Config::default()))
        .step("A calls B and C", |r| rings(r, 1, A, &[B, C]))
        .step("B answers", |r| answers(r, B, call))
        .step("C answers", |r| answers(r, C, call))
        .step("B invites D", |r| invites(r, B, D, call))
        .step("D answers", |r| answers(r, D, call))
        .step("C hangs up", |r| asks(r, C, Command::HangUp { call }))
        .step("A removes D", |r| {
            let peer = r.key(D);
            asks(r, A, Command::Remove { call, peer });
        })
        .step("A invites D again", |r| invites(r, A, D, call))
        .step("D answers", |r| answers(r, D, call))
        .step("A and D hang up", |r| {
            asks(r, A, Command::HangUp { call });
            asks(r, D, Command::HangUp { call });
        })
        .step("30 s later", |r| r.pass(30 * SECOND))
        .is_told();
}

#[test]
fn leaving_and_coming_back() {
    let call = call_id(1);
    let mut story = Story::of(Pair::many(3, &Config::default()));
    rings(&mut story.room, 1, A, &[B, C]);
    answers(&mut story.room, B, call);
    answers(&mut story.room, C, call);
    (0..3).for_each(|side| drop(story.told(side)));
    story
        .step("B leaves", |r| asks(r, B, Command::Leave { call }))
        .step("B comes back", |r| asks(r, B, Command::Rejoin { call, other: Other::End }))
        .step("B holds", |r| asks(r, B, Command::Hold { call }))
        .step("B goes on", |r| asks(r, B, Command::Unhold { call, other: Other::End }))
        .step("C's process dies", |r| {
            r.crash(C, call);
            r.interrupted(C, call);
            r.pass(10 * SECOND);
        })
        .step("60 s later", |r| r.pass(60 * SECOND))
        .step("C is started anew, and resumes", |r| {
            asks(r, C, Command::Resume { call, sent_at: SENT_AT, other: Other::End });
        })
        .is_told();
}
