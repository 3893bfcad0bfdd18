//! How a TURN server for friends is set up.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use zeroize::Zeroizing;

use crate::proto::turn::TurnLimits;

/// A TURN server for friends, over UDP and TCP, which also says to whoever asks under which address they are seen (STUN). Nothing runs unless an app asks for it:
/// [`Builder::turn_for_friends`](crate::Builder::turn_for_friends).
#[derive(Clone)]
pub struct TurnConfig {
    pub(super) listen: SocketAddr,
    pub(super) public: Option<IpAddr>,
    pub(super) secret: Option<Zeroizing<String>>,
    pub(super) limits: TurnLimits,
    /// For tests: these are relayed to, whatever they are.
    pub(super) allowed: Vec<IpAddr>,
    /// For tests: nothing is heard over UDP.
    pub(super) only_tcp: bool,
}

impl TurnConfig {
    /// Listens here, over UDP and TCP; each allocation takes a UDP port that the system chooses beside it. Usual is port 3478 (RFC 8656
    /// section 5); 0 lets the system choose.
    pub fn new(listen: SocketAddr) -> Self {
        let (public, secret, limits, allowed) = Default::default();
        Self { listen, public, secret, limits, allowed, only_tcp: false }
    }

    /// Under this address others reach the machine, where that is not the address it listens on: behind a NAT that passes all
    /// ports on, as at many hosting companies, or where it listens on all addresses.
    pub fn public_address(mut self, address: IpAddr) -> Self {
        self.public = Some(address);
        self
    }

    /// Takes credentials besides that somebody else made with this secret, in the way of coturn's `use-auth-secret`: the name is
    /// the Unix time until which they hold, a colon and any name; the password the base64 of its HMAC-SHA-1 under the secret.
    pub fn shared_secret(mut self, secret: impl Into<String>) -> Self {
        self.secret = Some(Zeroizing::new(secret.into()));
        self
    }

    /// How much is granted.
    pub fn limits(mut self, limits: TurnLimits) -> Self {
        self.limits = limits;
        self
    }

    /// For tests: relays to this address, whatever it is.
    #[doc(hidden)]
    pub fn allow_target(mut self, address: IpAddr) -> Self {
        self.allowed.push(address);
        self
    }

    /// For tests: hears nothing over UDP, as behind a firewall that lets none of it in.
    #[doc(hidden)]
    pub fn only_tcp(mut self) -> Self {
        self.only_tcp = true;
        self
    }
}

impl fmt::Debug for TurnConfig {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TurnConfig").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// Why a TURN server does not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TurnError {
    /// It listens on every address, and nobody has said which one of them others reach.
    #[error("TURN listens on all addresses: say which one others reach, with `public_address`")]
    WhichAddress,
    /// One address is of IPv4 and the other of IPv6: what is relayed would never arrive.
    #[error("TURN listens on an address of another family than the one that others reach")]
    Family,
    /// The shared secret is too short to be one: 16 characters at least.
    #[error("the secret of the TURN server is too short: give 16 characters or more")]
    WeakSecret,
    /// The system does not let it listen there, over UDP or over TCP.
    #[error("TURN cannot listen on {at}: {cause}")]
    Listen {
        /// Where.
        at: SocketAddr,
        /// What the system says.
        cause: String,
    },
    /// The system gave no randomness.
    #[error("the system's random source failed")]
    Randomness,
}
