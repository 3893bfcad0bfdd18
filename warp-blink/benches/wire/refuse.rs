//! First messages that are refused, by the stage at which they end.

use std::collections::{BTreeMap, BTreeSet};

use divan::{Bencher, black_box};
use warp_blink::wire::{FrameError, HandshakeId, OpenError, Responder};

use crate::frames::*;

/// Answered first messages that a phone remembers (`ARCHITECTURE.md`, "Bounds").
const REMEMBERED: u32 = 4096;

fn flipped(mut frame: Vec<u8>, at: usize) -> Vec<u8> {
    frame[at] ^= 1;
    frame
}

/// A frame that nobody made for this door.
fn wrong_mac(way: &str) -> Vec<u8> {
    flipped(offer(way).frame([0; 8]), MAC_AT)
}

fn wrong_length() -> Vec<u8> {
    let mut frame = offer(WAYS[0]).frame([0; 8]);
    frame.pop();
    frame
}

fn wrong_version() -> Vec<u8> {
    let mut frame = offer(WAYS[0]).frame([0; 8]);
    frame[0] = 200;
    frame
}

/// Bytes that nobody sealed, with the right MAC: the costliest thing that whoever knows the public key can send
/// without a handshake.
fn random_noise(way: &str) -> Vec<u8> {
    let frame = offer(way).frame([0; 8]);
    let mut rest = frame[HELLO_HEADER..].to_vec();
    scramble(&mut rest);
    readdressed(way, &frame[..HELLO_HEADER], &rest)
}

/// A handshake that somebody made who claims to be somebody else.
fn impostor() -> Vec<u8> {
    let frame = offer(WAYS[0]).frame([0; 8]);
    readdressed(WAYS[0], &frame[..HELLO_HEADER], &forged(&frame[HELLO_HEADER..]))
}

fn refused(way: &str, frame: &[u8]) -> OpenError {
    let people = People::of(way);
    Responder::open(&people.bob, &people.kem, &people.door(), frame).unwrap_err()
}

/// Each frame ends where its name says.
pub(crate) fn check() {
    assert_eq!(refused(WAYS[0], &wrong_length()), OpenError::Frame(FrameError::Length));
    assert_eq!(refused(WAYS[0], &wrong_version()), OpenError::Frame(FrameError::Version(200)));
    for way in WAYS {
        assert_eq!(refused(way, &wrong_mac(way)), OpenError::Mac, "{way}");
        assert_eq!(refused(way, &random_noise(way)), OpenError::Handshake, "{way}");
    }
    assert_eq!(refused(WAYS[0], &impostor()), OpenError::Impostor);
}

fn refuse(bencher: Bencher<'_, '_>, way: &str, frame: &[u8]) {
    let people = People::of(way);
    bencher.bench(|| {
        Responder::open(&people.bob, &people.kem, &people.door(), black_box(frame)).map(|o| o.id).unwrap_err()
    });
}

#[divan::bench(name = "refuse/1_length")]
fn length(bencher: Bencher<'_, '_>) {
    refuse(bencher, WAYS[0], &wrong_length());
}

#[divan::bench(name = "refuse/1_version")]
fn version(bencher: Bencher<'_, '_>) {
    refuse(bencher, WAYS[0], &wrong_version());
}

#[divan::bench(name = "refuse/2_mac", args = WAYS)]
fn mac(bencher: Bencher<'_, '_>, way: &str) {
    refuse(bencher, way, &wrong_mac(way));
}

/// The MAC, the name, and the look into a full memory of answered ones.
#[divan::bench(name = "refuse/3_seen_before", args = WAYS)]
fn seen_before(bencher: Bencher<'_, '_>, way: &str) {
    let (people, frame) = (People::of(way), offer(way).frame([0; 8]));
    let me = people.bob.public();
    let mut seen: BTreeMap<[u8; 32], u32> = (1..REMEMBERED).map(|n| (name(n), n)).collect();
    let id = |frame: &[u8]| Responder::screen(&me, &people.door(), frame).unwrap();
    seen.insert(*HandshakeId::as_bytes(&id(&frame)), 0);
    bencher.bench(|| seen.get(id(black_box(&frame)).as_bytes()).copied().unwrap());
}

#[divan::bench(name = "refuse/4_handshake", args = WAYS)]
fn handshake(bencher: Bencher<'_, '_>, way: &str) {
    refuse(bencher, way, &random_noise(way));
}

#[divan::bench(name = "refuse/5_impostor")]
fn claims_another(bencher: Bencher<'_, '_>) {
    refuse(bencher, WAYS[0], &impostor());
}

/// Valid, and of somebody who is blocked: opened in full, then dropped.
#[divan::bench(name = "refuse/6_not_admitted", args = WAYS)]
fn not_admitted(bencher: Bencher<'_, '_>, way: &str) {
    let (people, frame) = (People::of(way), offer(way).frame([0; 8]));
    let blocked = BTreeSet::from([people.alice.public(), people.bob.public()]);
    bencher.bench(|| {
        let opened = Responder::open(&people.bob, &people.kem, &people.door(), black_box(&frame)).unwrap();
        blocked.contains(&opened.hello.from)
    });
}
