//! What tells certificates apart.

use std::fmt;

use crate::description::DescriptionError;

/// The SHA-256 hash of a DTLS certificate.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The hash.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    #[cfg(test)]
    pub(crate) fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(crate) fn parse(attribute: &str) -> Result<Self, DescriptionError> {
        let bad = DescriptionError::BadFingerprint;
        let (algorithm, value) = attribute.trim_end().split_once(' ').ok_or(bad)?;
        if !algorithm.eq_ignore_ascii_case("sha-256") {
            return Err(bad);
        }
        let mut bytes = [0; 32];
        let mut parts = value.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2).ok_or(bad)?;
            if !part.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(bad);
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| bad)?;
        }
        if parts.next().is_some() {
            return Err(bad);
        }
        Ok(Self(bytes))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprint(..)")
    }
}

/// The certificates that a connection is secured with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Certificates {
    /// Ours.
    pub local: Fingerprint,
    /// The one that the peer has shown, and that its description named.
    pub remote: Fingerprint,
}
