//! What the stages are made of.

use chacha20poly1305::{AeadInPlace, ChaCha20Poly1305, KeyInit};
use divan::{Bencher, black_box};
use ml_kem::{B32, Decapsulate, DecapsulationKey768, Seed};
use sha2::{Digest, Sha256};
use warp_blink::{
    PublicKey,
    id::Label,
    wire::{KemKey, KemSecret},
};
use x25519_dalek::{PublicKey as X25519Public, StaticSecret};

use crate::frames::{alice, bob};

/// A Diffie-Hellman: a scalar times any point.
#[divan::bench(name = "primitive/x25519_any_point")]
fn x25519(bencher: Bencher<'_, '_>) {
    let (secret, public) = (StaticSecret::from([7; 32]), X25519Public::from(bob().public().to_x25519()));
    bencher.bench(|| black_box(&secret).diffie_hellman(black_box(&public)).was_contributory());
}

/// A public key: a scalar times the base point, which has a table.
#[divan::bench(name = "primitive/x25519_base_point")]
fn x25519_base(bencher: Bencher<'_, '_>) {
    let secret = StaticSecret::from([7; 32]);
    bencher.bench(|| X25519Public::from(black_box(&secret)));
}

/// The check of a sender's key: is it a point, canonical, without a small-order part.
#[divan::bench(name = "primitive/ed25519_key_check")]
fn key_check(bencher: Bencher<'_, '_>) {
    let bytes = *alice().public().as_bytes();
    bencher.bench(|| PublicKey::from_bytes(black_box(bytes)).unwrap());
}

/// The X25519 form of an Ed25519 key.
#[divan::bench(name = "primitive/ed25519_to_x25519")]
fn form(bencher: Bencher<'_, '_>) {
    let key = alice().public();
    bencher.bench(|| black_box(&key).to_x25519());
}

#[divan::bench(name = "primitive/ed25519_sign")]
fn sign(bencher: Bencher<'_, '_>) {
    let alice = alice();
    bencher.bench(|| alice.sign(Label::CallMessage, black_box(&[5; 150])));
}

#[divan::bench(name = "primitive/ed25519_verify")]
fn verify(bencher: Bencher<'_, '_>) {
    let (alice, message) = (alice(), [5; 150]);
    let (key, signature) = (alice.public(), alice.sign(Label::CallMessage, &message));
    bencher.bench(|| key.verify(Label::CallMessage, black_box(&message), &signature).unwrap());
}

/// As many bytes as the MAC of message 1 covers, in each suite.
#[divan::bench(name = "primitive/sha256", args = [1659, 2747])]
fn sha256(bencher: Bencher<'_, '_>, len: usize) {
    let bytes = vec![3; len];
    bencher.bench(|| Sha256::digest(black_box(&bytes)));
}

/// As many bytes as the padded hello has.
#[divan::bench(name = "primitive/chacha20poly1305_1536")]
fn chacha(bencher: Bencher<'_, '_>) {
    let cipher = ChaCha20Poly1305::new(&[1; 32].into());
    let mut bytes = vec![3; 1536];
    bencher.bench_local(|| {
        cipher.encrypt_in_place_detached(&[0; 12].into(), &[0; 32], black_box(&mut bytes)).unwrap()
    });
}

/// From the identity's seed, with its two hashes.
#[divan::bench(name = "kem/generate")]
fn generate(bencher: Bencher<'_, '_>) {
    let bob = bob();
    bencher.bench(|| KemSecret::of(black_box(&bob)));
}

/// A received key: the check of its coefficients, and the matrix that follows from it.
#[divan::bench(name = "kem/key_from_bytes")]
fn from_bytes(bencher: Bencher<'_, '_>) {
    let key = KemSecret::of(&bob()).public();
    bencher.bench(|| KemKey::from_bytes(black_box(key.as_bytes())).unwrap());
}

#[divan::bench(name = "kem/encapsulate")]
fn encapsulate(bencher: Bencher<'_, '_>) {
    let secret = DecapsulationKey768::from_seed(Seed::default());
    let key = secret.encapsulation_key();
    bencher.bench(|| key.encapsulate_deterministic(black_box(&B32::from([8; 32]))));
}

#[divan::bench(name = "kem/decapsulate")]
fn decapsulate(bencher: Bencher<'_, '_>) {
    let secret = DecapsulationKey768::from_seed(Seed::default());
    let (ciphertext, _) = secret.encapsulation_key().encapsulate_deterministic(&B32::from([8; 32]));
    bencher.bench(|| secret.decapsulate(black_box(&ciphertext)));
}
