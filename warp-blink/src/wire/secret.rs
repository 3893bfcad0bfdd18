//! The secrets that travel inside handshakes and sessions, and hashing with a label.

use std::fmt;

use sha2::{Digest, Sha256};
use zeroize::{ZeroizeOnDrop, Zeroizing};

/// Hashes `parts` under a label of its own. All parts of a label have fixed lengths, except the last, so that no two
/// inputs run into one another.
pub(super) fn labelled_hash(label: &'static [u8], parts: &[&[u8]]) -> [u8; 32] {
    debug_assert!(label.starts_with(b"warp-blink/1 ") && label.ends_with(b"\0"));
    let mut hash = Sha256::new_with_prefix(label);
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().into()
}

/// The bytes of a MAC in a frame.
pub(super) const MAC_LEN: usize = 16;

/// A MAC by which a receiver drops strangers' bytes before any costly arithmetic: the first half of a hash that
/// starts with the key. Half of the hash is withheld, and what is hashed says its own length (the suite stands at its
/// front), so a seen MAC cannot be carried on to a longer input.
pub(super) fn mac(label: &'static [u8], key: &[u8; 32], parts: &[&[u8]]) -> [u8; MAC_LEN] {
    let mut all = vec![&key[..]];
    all.extend_from_slice(parts);
    half(labelled_hash(label, &all))
}

/// The first half of a hash.
pub(super) fn half(hash: [u8; 32]) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&hash[..16]);
    half
}

/// Compares in a time that does not depend on where the two differ.
pub(super) fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && std::hint::black_box(a.iter().zip(b).fold(0, |diff, (a, b)| diff | (a ^ b))) == 0
}

macro_rules! secret {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// Overwritten when dropped, each copy by itself; never shown by `Debug`.
        #[derive(Clone)]
        pub struct $name(Zeroizing<[u8; 32]>);

        impl $name {
            /// Takes 32 bytes of a cryptographic random source, or those that the other side sent.
            pub fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(Zeroizing::new(bytes))
            }

            /// The bytes. Handle them as the secret that they are.
            pub fn expose(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                same(self.expose(), other.expose())
            }
        }

        impl Eq for $name {}

        // Its one field is.
        impl ZeroizeOnDrop for $name {}

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        }
    };
}

secret! {
    /// The seed of a participant's peer topic in one call. Only those who were told it know the topic's name.
    PeerSeed
}

secret! {
    /// The key of one epoch of a call: whoever has it reads and writes the call's topic of that epoch.
    CallKey
}

secret! {
    /// What somebody gives to contacts inside confirmed sessions: it opens the contacts' lane to the giver. When
    /// somebody is blocked, the others are given a new one.
    ContactToken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_compared_whole_and_never_shown() {
        let key = CallKey::from_bytes([0xaa; 32]);
        for byte in 0..32 {
            let mut other = [0xaa; 32];
            other[byte] ^= 0x10;
            assert_ne!(key, CallKey::from_bytes(other));
        }
        assert_eq!(key, key.clone());
        assert_eq!(format!("{key:?} {:?}", PeerSeed::from_bytes([1; 32])), "CallKey(..) PeerSeed(..)");
        assert_eq!(format!("{:?}", ContactToken::from_bytes([1; 32])), "ContactToken(..)");
    }

    #[test]
    fn secrets_are_overwritten_when_dropped() {
        const fn wiped<T: ZeroizeOnDrop>() {}
        wiped::<PeerSeed>();
        wiped::<CallKey>();
        wiped::<ContactToken>();
    }

    #[test]
    fn macs_differ_by_label_key_and_input() {
        let base = mac(b"warp-blink/1 a\0", &[1; 32], &[b"x", b"y"]);
        assert_eq!(base, mac(b"warp-blink/1 a\0", &[1; 32], &[b"xy"]));
        assert_ne!(base, mac(b"warp-blink/1 b\0", &[1; 32], &[b"xy"]));
        assert_ne!(base, mac(b"warp-blink/1 a\0", &[2; 32], &[b"xy"]));
        assert_ne!(base, mac(b"warp-blink/1 a\0", &[1; 32], &[b"xz"]));
    }
}
