//! Credentials that end by themselves, as coturn makes them (draft-uberti-behave-turn-rest-00): the name says until when they hold,
//! and the password is a MAC of the name. SHA-1 is what that draft and RFC 8489 name; as an HMAC it is not broken.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hmac::{Hmac, Mac};
use sha1::Sha1;
use zeroize::Zeroizing;

use crate::driver::clock::NoRandomness;

/// What names and passwords of one server are made with.
pub(super) struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    pub(super) fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Zeroizing::new(bytes.into()))
    }

    /// That lives as long as this process: what was granted before it ended holds no more.
    pub(super) fn random() -> Result<Self, NoRandomness> {
        Ok(Self::new(crate::driver::clock::random::<32>()?))
    }

    /// The password that goes with a name.
    pub(super) fn password(&self, name: &str) -> Zeroizing<String> {
        let mac = mac(&self.0).map(|mac| mac.chain_update(name.as_bytes()).finalize().into_bytes());
        Zeroizing::new(mac.map(|mac| BASE64_STANDARD.encode(mac)).unwrap_or_default())
    }
}

/// `None` never happens: an HMAC takes keys of any length.
pub(super) fn mac(key: &[u8]) -> Option<Hmac<Sha1>> {
    Hmac::<Sha1>::new_from_slice(key).ok()
}

/// A name that holds until then, in Unix seconds, and says nothing of whose it is: it goes over the network in clear.
pub(super) fn name(until: u64, random: [u8; 8]) -> String {
    format!("{until}:{:016x}", u64::from_be_bytes(random))
}

/// Until when a name holds, and whom it names.
pub(super) fn parts(name: &str) -> Option<(u64, &str)> {
    let (until, who) = name.split_once(':')?;
    Some((until.parse().ok()?, who)).filter(|_| !who.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As coturn computes it: `echo -n 1700000600:alice | openssl dgst -binary -sha1 -hmac north | base64`.
    #[test]
    fn passwords_are_those_of_coturn() {
        let secret = Secret::new(*b"north");
        assert_eq!(*secret.password("1700000600:alice"), *EXPECTED);
        assert_ne!(*secret.password("1700000601:alice"), *EXPECTED);
        assert_ne!(*Secret::new(*b"south").password("1700000600:alice"), *EXPECTED);
    }

    const EXPECTED: &str = "gthUwOpcRoLI0MMCziCEBOWYnpo=";

    #[test]
    fn a_name_says_until_when_and_not_who() {
        let name = name(1_700_000_600, [0xab; 8]);
        assert_eq!(parts(&name), Some((1_700_000_600, "abababababababab")));
        for none in ["1700000600", "1700000600:", "x:alice", ":alice", "", "-1:alice"] {
            assert_eq!(parts(none), None, "{none}");
        }
    }
}
