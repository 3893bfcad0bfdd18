use std::collections::BTreeMap;

use zeroize::ZeroizeOnDrop;

use super::*;

fn computed_by_others() -> BTreeMap<&'static str, Vec<u8>> {
    let (_, vectors) = include_str!("../../../tests/golden/ml-kem-768.txt").split_once("\n\n").unwrap();
    let read = |entry: &'static str| {
        let (name, digits) = entry.split_once('\n').unwrap();
        let digits: Vec<u8> = digits.bytes().filter(|b| *b != b'\n').collect();
        let bytes =
            digits.chunks(2).map(|d| u8::from_str_radix(str::from_utf8(d).unwrap(), 16).unwrap()).collect();
        (name, bytes)
    };
    vectors.split("\n\n").map(read).collect()
}

fn fixed<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().unwrap()
}

#[test]
fn others_compute_the_same() {
    let vectors = computed_by_others();
    let (d, z) = vectors["example seed"].split_at(32);
    let secret = KemSecret::generate(&fixed(d), &fixed(z));
    assert!(secret.public().as_bytes()[..] == vectors["example ek"][..]);
    let key = KemKey::from_bytes(&vectors["example ek"]).unwrap();
    assert_eq!(key, secret.public());
    let (ciphertext, shared) = key.encapsulate(&fixed(&vectors["message"]));
    assert!(ciphertext[..] == vectors["ciphertext"][..]);
    assert_eq!(shared[..], vectors["secret"][..]);
    assert_eq!(secret.decapsulate(&ciphertext), shared);
}

#[test]
fn hostile_ciphertexts_are_rejected_implicitly_as_others_do() {
    let vectors = computed_by_others();
    let (d, z) = vectors["example seed"].split_at(32);
    let secret = KemSecret::generate(&fixed(d), &fixed(z));
    for (name, byte, bit) in [("first", 0, 0x01), ("last", CIPHERTEXT_LEN - 1, 0x80)] {
        let mut ciphertext: [u8; CIPHERTEXT_LEN] = fixed(&vectors["ciphertext"]);
        ciphertext[byte] ^= bit;
        let expected = &vectors[format!("secret after a flip of the {name} bit").as_str()];
        assert_eq!(secret.decapsulate(&ciphertext)[..], expected[..], "{name}");
    }
}

#[test]
fn a_secret_follows_from_its_identity_as_others_compute_it() {
    let vectors = computed_by_others();
    let secret = KemSecret::of(&Identity::from_seed([0xb0; 32]));
    assert!(secret.public().as_bytes()[..] == vectors["ek of the identity with seed b0"][..]);
    let shared = secret.decapsulate(&[0; CIPHERTEXT_LEN]);
    assert_eq!(shared[..], vectors["secret of that identity in a ciphertext of zeros"][..]);
}

#[test]
fn hostile_keys_beyond_the_modulus_are_refused() {
    // Each coefficient, twelve bits of little-endian order, at the largest that is one and at the modulus.
    let good = *KemSecret::of(&Identity::from_seed([1; 32])).public().as_bytes();
    for at in 0..768 {
        let with = |value: u16| {
            let mut key = good;
            let pair = &mut key[at / 2 * 3..][..3];
            let [low, high] = value.to_le_bytes();
            if at % 2 == 0 {
                (pair[0], pair[1]) = (low, pair[1] & 0xf0 | high);
            } else {
                (pair[1], pair[2]) = (pair[1] & 0x0f | low << 4, low >> 4 | high << 4);
            }
            KemKey::from_bytes(&key)
        };
        assert!(with(3328).is_ok(), "coefficient {at}");
        assert_eq!(with(3329), Err(KemKeyError), "coefficient {at}");
        assert_eq!(with(4095), Err(KemKeyError), "coefficient {at}");
    }
}

#[test]
fn hostile_keys_of_another_length_are_refused() {
    let good = *KemSecret::of(&Identity::from_seed([1; 32])).public().as_bytes();
    for len in (0..2 * KEM_KEY_LEN).filter(|len| *len != KEM_KEY_LEN) {
        let other: Vec<u8> = good.iter().cycle().take(len).copied().collect();
        assert_eq!(KemKey::from_bytes(&other), Err(KemKeyError), "{len} bytes");
    }
}

#[test]
fn a_secret_follows_from_its_identity_alone() {
    let identity = Identity::from_seed([1; 32]);
    let (secret, again) = (KemSecret::of(&identity), KemSecret::of(&identity));
    let other = KemSecret::of(&Identity::from_seed([2; 32]));
    assert_eq!(secret.public(), again.public());
    assert_ne!(secret.public(), other.public());
    let (ciphertext, shared) = secret.public().encapsulate(&[3; 32]);
    assert_eq!(again.decapsulate(&ciphertext), shared);
    assert_ne!(other.decapsulate(&ciphertext), shared);
}

#[test]
fn nothing_that_is_shown_holds_a_secret() {
    let secret = KemSecret::of(&Identity::from_seed([1; 32]));
    assert_eq!(format!("{secret:?}"), "KemSecret(..)");
    assert_eq!(format!("{:?}", secret.public()).len(), "KemKey(aabbccdd..)".len());
}

#[test]
fn secrets_are_overwritten_when_dropped() {
    const fn wiped<T: ZeroizeOnDrop>(_: &T) {}
    let secret = KemSecret::of(&Identity::from_seed([1; 32]));
    wiped(&secret.key);
    wiped(&secret.public().encapsulate(&[0; 32]).1);
}
