//! A place on a friend's TURN server: where it is, and the credentials for it. What one person gives another in a session.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use zeroize::{Zeroize, Zeroizing};

use super::{
    OpenError, SealError,
    codec::{SecretBytes, at_most},
};
use crate::proto::signal::MAX_TURN_LIFE;

/// The most addresses of one server: one of each family.
pub const MAX_TURN_ADDRESSES: usize = 2;

/// The most bytes of a name, and of a password. Ours have 27 and 28.
pub const MAX_TURN_CREDENTIAL: usize = 64;

const V4: u8 = 4;
const V6: u8 = 6;

/// Credentials for a TURN server, over UDP and TCP. They are for whoever was given them, and never passed on.
#[derive(Clone, PartialEq, Eq)]
pub struct TurnPass {
    addresses: Vec<SocketAddr>,
    username: String,
    password: String,
    life: Duration,
}

impl TurnPass {
    /// For a server at these addresses, the first [`MAX_TURN_ADDRESSES`] of them. It holds for whole seconds of `life`.
    ///
    /// # Errors
    /// [`SealError::TooLong`] for a name or a password above [`MAX_TURN_CREDENTIAL`], or more than the ten minutes that credentials
    /// hold at most; [`SealError::Attachment`] where nothing is left: no address that can be sent to, no credentials, no second.
    pub fn new(
        addresses: impl IntoIterator<Item = SocketAddr>,
        username: impl Into<String>,
        password: impl Into<String>,
        life: Duration,
    ) -> Result<Self, SealError> {
        let addresses: Vec<_> = addresses.into_iter().filter(is_usable).take(MAX_TURN_ADDRESSES).collect();
        let life = Duration::from_secs(life.as_secs());
        let pass = Self { addresses, username: username.into(), password: password.into(), life };
        for (what, len, max) in [
            ("TURN user name", pass.username.len(), MAX_TURN_CREDENTIAL),
            ("TURN password", pass.password.len(), MAX_TURN_CREDENTIAL),
            ("life of TURN credentials", seconds(life), seconds(MAX_TURN_LIFE)),
        ] {
            at_most(what, len, max)?;
        }
        if pass.is_empty() { Err(SealError::Attachment) } else { Ok(pass) }
    }

    /// Where the server is.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The name to be shown there.
    pub fn username(&self) -> &str {
        &self.username
    }

    /// The password that goes with it.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// For how long it holds from when it was given. A duration, since clocks differ.
    pub const fn life(&self) -> Duration {
        self.life
    }

    fn is_empty(&self) -> bool {
        let nothing = self.username.is_empty() || self.password.is_empty();
        nothing || self.addresses.is_empty() || self.life.is_zero()
    }

    /// `life in seconds 2 | addresses 1 | (family 1, ip 4 or 16, port 2)* | length 1, name | length 1, password`.
    pub(super) fn encode(&self) -> Result<SecretBytes, SealError> {
        // Room for the largest, so that growth leaves no copy behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(2 + 1 + 19 * MAX_TURN_ADDRESSES + 2 + 2 * 255));
        let life = u16::try_from(self.life.as_secs()).map_err(|_| SealError::Engine)?;
        bytes.extend_from_slice(&life.to_be_bytes());
        bytes.push(u8::try_from(self.addresses.len()).map_err(|_| SealError::Engine)?);
        for address in &self.addresses {
            match address.ip() {
                IpAddr::V4(ip) => {
                    bytes.push(V4);
                    bytes.extend_from_slice(&ip.octets());
                }
                IpAddr::V6(ip) => {
                    bytes.push(V6);
                    bytes.extend_from_slice(&ip.octets());
                }
            }
            bytes.extend_from_slice(&address.port().to_be_bytes());
        }
        for text in [&self.username, &self.password] {
            bytes.push(u8::try_from(text.len()).map_err(|_| SealError::Engine)?);
            bytes.extend_from_slice(text.as_bytes());
        }
        Ok(bytes)
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, OpenError> {
        let (life, rest) = bytes.split_first_chunk::<2>().ok_or(OpenError::Decode)?;
        let (count, mut rest) = rest.split_first().ok_or(OpenError::Decode)?;
        let mut addresses = Vec::new();
        for _ in 0..*count {
            let (family, after) = rest.split_first().ok_or(OpenError::Decode)?;
            let (ip, after) = match *family {
                V4 => take::<4>(after).map(|(ip, after)| (IpAddr::V4(Ipv4Addr::from(ip)), after))?,
                V6 => take::<16>(after).map(|(ip, after)| (IpAddr::V6(Ipv6Addr::from(ip)), after))?,
                _ => return Err(OpenError::Decode),
            };
            let (port, after) = take(after)?;
            let address = SocketAddr::new(ip, u16::from_be_bytes(port));
            if addresses.len() >= MAX_TURN_ADDRESSES || !is_usable(&address) {
                return Err(OpenError::Decode);
            }
            addresses.push(address);
            rest = after;
        }
        let (username, rest) = text(rest)?;
        let (password, rest) = text(rest)?;
        let life = Duration::from_secs(u16::from_be_bytes(*life).into());
        if !rest.is_empty() {
            return Err(OpenError::Decode);
        }
        Self::new(addresses, username, password, life).map_err(|_| OpenError::Decode)
    }
}

fn seconds(life: Duration) -> usize {
    usize::try_from(life.as_secs()).unwrap_or(usize::MAX)
}

/// Something can be sent there.
fn is_usable(address: &SocketAddr) -> bool {
    address.port() != 0 && !address.ip().is_unspecified() && !address.ip().is_multicast()
}

fn take<const N: usize>(bytes: &[u8]) -> Result<([u8; N], &[u8]), OpenError> {
    bytes.split_first_chunk().map(|(taken, rest)| (*taken, rest)).ok_or(OpenError::Decode)
}

fn text(bytes: &[u8]) -> Result<(&str, &[u8]), OpenError> {
    let (len, rest) = bytes.split_first().ok_or(OpenError::Decode)?;
    let (text, rest) = rest.split_at_checked(usize::from(*len)).ok_or(OpenError::Decode)?;
    Ok((std::str::from_utf8(text).map_err(|_| OpenError::Decode)?, rest))
}

impl fmt::Debug for TurnPass {
    /// Neither credentials nor addresses belong in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TurnPass({} addresses, {:?})", self.addresses.len(), self.life)
    }
}

impl Drop for TurnPass {
    fn drop(&mut self) {
        self.password.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Duration = Duration::from_secs(600);

    fn pass() -> TurnPass {
        let addresses = ["203.0.114.7:3478", "[2a00::7]:3479"].map(|a| a.parse().unwrap());
        TurnPass::new(addresses, "1700000600:0011223344556677", "cGFzc3dvcmQ=", LIFE).unwrap()
    }

    #[test]
    fn a_pass_comes_back_as_it_was_and_never_in_part() {
        let bytes = pass().encode().unwrap();
        assert_eq!(TurnPass::decode(&bytes), Ok(pass()));
        for len in 0..bytes.len() {
            assert_eq!(TurnPass::decode(&bytes[..len]), Err(OpenError::Decode), "{len}");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(TurnPass::decode(&longer), Err(OpenError::Decode));
    }

    #[test]
    fn what_is_of_no_use_is_neither_made_nor_taken() {
        let one: SocketAddr = "203.0.114.7:3478".parse().unwrap();
        let make = |address: SocketAddr, name: &str, password: &str, life: u64| {
            TurnPass::new([address], name, password, Duration::from_secs(life))
        };
        assert!(make(one, "n", "p", 600).is_ok());
        for useless in ["203.0.114.7:0", "0.0.0.0:3478", "224.0.0.1:3478", "[::]:3478", "[ff02::1]:3478"] {
            let made = make(useless.parse().unwrap(), "n", "p", 600);
            assert_eq!(made, Err(SealError::Attachment), "{useless}");
        }
        for (name, password, life) in [("", "p", 1), ("n", "", 1), ("n", "p", 0)] {
            assert_eq!(make(one, name, password, life), Err(SealError::Attachment));
        }
        let long = "x".repeat(MAX_TURN_CREDENTIAL + 1);
        for (name, password, life) in [(&*long, "p", 1), ("n", &*long, 1), ("n", "p", 601)] {
            assert!(matches!(make(one, name, password, life), Err(SealError::TooLong { .. })));
        }
        // The same from outside.
        let good = make(one, "n", "p", 600).unwrap().encode().unwrap();
        let with = |at: usize, byte: u8| {
            let mut bytes = good.to_vec();
            bytes[at] = byte;
            TurnPass::decode(&bytes)
        };
        assert!(with(1, 0).is_ok(), "less than ten minutes");
        for (at, byte) in [(0, 0xff), (2, 0), (2, 2), (3, 5), (3, V6), (10, 0), (10, 9), (11, 0xff), (12, 9)]
        {
            assert_eq!(with(at, byte), Err(OpenError::Decode), "{at} {byte}");
        }
    }

    #[test]
    fn debug_shows_neither_credentials_nor_addresses() {
        let shown = format!("{:?}", pass());
        assert_eq!(shown, "TurnPass(2 addresses, 600s)");
    }
}
