//! The bytes of protocol version 1, frozen.
//!
//! If a test here fails, builds of before and after cannot call each other: that needs a new protocol version, not
//! a new file. `WARP_BLINK_BLESS=1` writes the files anew; it is for the day a version is born.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod wire_common;

use std::{fmt::Write, fs, path::PathBuf};

use warp_blink::{
    proto::signal::{Announce, Body, CallBody, Description, DescriptionKind},
    wire::{Attachment, CallKey, Door, Responder, Topic, open_call, seal_call},
};
use wire_common::*;

/// Named byte strings in one file: `name`, then lines of hexadecimal digits, then an empty line.
struct Golden {
    path: PathBuf,
    made: Vec<(&'static str, Vec<u8>)>,
}

impl Golden {
    fn of(name: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
        Self { path, made: Vec::new() }
    }

    fn has(mut self, name: &'static str, bytes: &[u8]) -> Self {
        self.made.push((name, bytes.to_vec()));
        self
    }

    /// Compares with the file, and gives the file's bytes, so that what is opened below are the frozen bytes.
    fn check(self) -> Vec<Vec<u8>> {
        if std::env::var_os("WARP_BLINK_BLESS").is_some() {
            let mut text = String::new();
            for (name, bytes) in &self.made {
                writeln!(text, "{name}").unwrap();
                for line in bytes.chunks(48) {
                    line.iter().for_each(|b| write!(text, "{b:02x}").unwrap());
                    text.push('\n');
                }
                text.push('\n');
            }
            fs::write(&self.path, text).unwrap();
        }
        let text = fs::read_to_string(&self.path).unwrap();
        let found: Vec<(&str, Vec<u8>)> = text
            .split_terminator("\n\n")
            .map(|entry| {
                let (name, digits) = entry.split_once('\n').unwrap();
                let digits = digits.replace('\n', "");
                let bytes = digits
                    .as_bytes()
                    .chunks(2)
                    .map(|d| u8::from_str_radix(str::from_utf8(d).unwrap(), 16).unwrap());
                (name, bytes.collect())
            })
            .collect();
        let names =
            |entries: &[(&str, Vec<u8>)]| entries.iter().map(|(n, _)| (*n).to_owned()).collect::<Vec<_>>();
        assert_eq!(names(&found), names(&self.made));
        for ((name, found), (_, made)) in found.iter().zip(&self.made) {
            let at = found.iter().zip(made).position(|(a, b)| a != b);
            assert!(found == made, "{name} differs from {} at byte {at:?}", self.path.display());
        }
        found.into_iter().map(|(_, bytes)| bytes).collect()
    }
}

#[test]
fn topics() {
    Golden::of("topics.txt")
        .has("inbox of the identity with seed a1", Topic::inbox(&alice().public()).as_bytes())
        .has("peer topic of seed 51", Topic::peer(&hello_secrets().peer_seed).as_bytes())
        .has("call topic of key 54, epoch 0", Topic::call(&CallKey::from_bytes([0x54; 32]), 0).as_bytes())
        .has("call topic of key 54, epoch 1", room().topic().as_bytes())
        .check();
}

#[test]
fn handshake() {
    let mut initiator = start();
    let (_, answer) = respond(&initiator.frame([1; 8]));
    let frozen = Golden::of("handshake.txt")
        .has("message 1", &initiator.frame([1; 8]))
        .has("message 1, resent", &initiator.frame([2; 8]))
        .has("message 2", &answer.frame([3; 8]))
        .has("message 2, repeated", &answer.frame([4; 8]))
        .check();
    for frame in &frozen[..2] {
        let opened = Responder::open(&bob(), kem(), &Door::Strangers, frame).unwrap();
        assert_eq!((opened.hello, opened.secrets, opened.id), (hello(), hello_secrets(), initiator.id()));
    }
    let (_, read, secrets) = initiator.finish(&frozen[3]).unwrap();
    assert_eq!((read, secrets), (welcome(), welcome_secrets()));
}

#[test]
fn transport() {
    let (mut ours, mut theirs) = confirmed();
    let text = "v=0\r\n".repeat(150);
    let bodies = [
        Body::Ringing,
        Body::Accept(media()),
        Body::Description(Description { kind: DescriptionKind::Offer, text }),
    ];
    let key = CallKey::from_bytes([0x54; 32]);
    let golden = bodies
        .iter()
        .zip(["ringing", "accept", "description of 750 bytes"])
        .fold(Golden::of("transport.txt"), |golden, (body, name)| {
            golden.has(name, &theirs.seal(&packet(7, body.clone()), None).unwrap())
        });
    let frozen = golden
        .has(
            "call key of epoch 1",
            &theirs.seal(&packet(8, Body::CallKey(1)), Some(&Attachment::CallKey(key.clone()))).unwrap(),
        )
        .has("hang up, the caller's second frame", &ours.seal(&packet(2, Body::HangUp), None).unwrap())
        .check();
    for (frame, body) in frozen.iter().zip(bodies) {
        assert_eq!(ours.open(frame), Ok((packet(7, body), None)));
    }
    assert_eq!(ours.open(&frozen[3]), Ok((packet(8, Body::CallKey(1)), Some(Attachment::CallKey(key)))));
    assert_eq!(theirs.open(&frozen[4]), Ok((packet(2, Body::HangUp), None)));
}

#[test]
fn call_messages() {
    let mut announce = Announce::default();
    (announce.version, announce.joined, announce.muted) = (3, true, true);
    let bodies = [(3, CallBody::Announce(announce)), (4, CallBody::Leave)];
    let frozen = Golden::of("call.txt")
        .has("announce", &seal_call(&alice(), &room(), 3, &bodies[0].1, [9; 24]).unwrap())
        .has("leave", &seal_call(&alice(), &room(), 4, &bodies[1].1, [10; 24]).unwrap())
        .check();
    for (frame, (version, body)) in frozen.iter().zip(bodies) {
        let opened = open_call(&room(), &bob().public(), frame).unwrap();
        assert_eq!((opened.from, opened.version, opened.body), (alice().public(), version, body));
    }
}
