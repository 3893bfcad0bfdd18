//! Message 1: it opens a session to a public key, and says why.
//!
//! `version 1 | kind 1 | suite 1 | salt 8 | MAC 16 | ciphertext 1088, in the hybrid suite | Noise message 1632`. The MAC
//! is made under the contact token or, at the open inbox, under the callee's public key: whoever has neither cannot
//! make the callee compute anything. It covers everything else in the frame. A resend keeps ciphertext and Noise
//! message and changes the salt.
//!
//! The hybrid suite puts the ML-KEM secret into the handshake before anything else (psk0), so that all of message 1
//! but the caller's fresh public key is sealed under it too. Version, suite, topic and ciphertext are bound by the
//! prologue: a frame that says another of them than its author meant does not verify.

use std::fmt;

use snow::HandshakeState;
use zeroize::Zeroizing;

use super::{
    CallKey, ContactToken, Door, KemKey, KemSecret, OpenError, PeerSeed, ResponderFrame, SealError, Session,
    WelcomeSecrets, codec,
    frame::{self, FrameKind, HELLO_BUCKET, HELLO_HEADER, HELLO_NOISE, SALT_LEN, WELCOME_NOISE},
    kem::SharedSecret,
    noise::{self, Ephemeral, NO_PSK},
    secret::{MAC_LEN, labelled_hash, same},
    session::Role,
    welcome::{self, WelcomeKey},
};
use crate::{
    id::{Identity, PublicKey},
    proto::signal::{Hello, Lane, SUITE_CLASSICAL, SUITE_HYBRID, Status, VERSION, Welcome},
};

/// The most devices of one identity whose message 2 an [`Initiator`] takes: one would do today; a user has few.
pub const MAX_ANSWERS: usize = 8;

/// The secrets of a [`Hello`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HelloSecrets {
    /// The seed of the topic where the sender receives.
    pub peer_seed: PeerSeed,
    /// The call's key of epoch 0, which carries only what ringing needs: whoever later steals the callee's identity
    /// can read message 1, and so this key.
    pub call_key: CallKey,
}

/// Names a message 1 by its suite, ciphertext and Noise bytes, whatever its salt and MAC: a receiver that has answered
/// it repeats its stored answer. Before it opened it names nothing: whoever carries a frame can show its bytes at
/// another door.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HandshakeId([u8; 32]);

impl HandshakeId {
    /// Of what stands behind the header.
    fn of(suite: u8, rest: &[u8]) -> Self {
        Self(match suite {
            // As it was before there was another suite, so that builds of then and now understand each other.
            SUITE_CLASSICAL => labelled_hash(b"warp-blink/1 handshake-id\0", &[rest]),
            _ => labelled_hash(b"warp-blink/1 handshake-id-of-suite\0", &[&[suite], rest]),
        })
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for HandshakeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "HandshakeId({a:02x}{b:02x}{c:02x}{d:02x}..)")
    }
}

/// The caller's side of a handshake, from message 1 until it is dropped.
///
/// It holds what is needed to read any number of wrong message 2 and still read the right one, which includes the
/// identity's X25519 secret and the ML-KEM secret; all secrets are overwritten when it is dropped.
pub struct Initiator {
    start: Start,
    token: Option<ContactToken>,
    peer_seed: PeerSeed,
    suite: u8,
    /// Ciphertext and Noise message.
    rest: Vec<u8>,
    id: HandshakeId,
    key: WelcomeKey,
    used: Vec<[u8; 32]>,
}

impl Initiator {
    /// Makes message 1 from `identity` to `callee`. `entropy` is the ephemeral secret key: 32 bytes of a
    /// cryptographic random source, used for nothing else.
    ///
    /// With `kem`, the callee's ML-KEM key and 32 bytes of their own, the handshake runs in the hybrid suite, without
    /// it in the classical one. Whoever knows a key of the callee and leaves it out makes a call that can be recorded
    /// today and read by a quantum computer later.
    ///
    /// # Errors
    /// [`SealError::WrongSender`] if `hello.from` is not this identity, [`SealError::Oneself`] if the callee is,
    /// [`SealError::Suite`] if `hello.suites` lacks the suite used, [`SealError::TooLong`] for more than 8 versions or
    /// suites.
    pub fn start(
        identity: &Identity,
        callee: &PublicKey,
        door: &Door<'_>,
        kem: Option<(&KemKey, [u8; 32])>,
        hello: &Hello,
        secrets: &HelloSecrets,
        entropy: [u8; 32],
    ) -> Result<Self, SealError> {
        let ephemeral = Zeroizing::new(entropy);
        let kem = kem.map(|(key, entropy)| (key, Zeroizing::new(entropy)));
        let suite = if kem.is_some() { SUITE_HYBRID } else { SUITE_CLASSICAL };
        if hello.from != identity.public() {
            return Err(SealError::WrongSender);
        }
        if *callee == identity.public() {
            return Err(SealError::Oneself);
        }
        if !hello.suites.contains(&suite) {
            return Err(SealError::Suite { suite });
        }
        let contents = codec::pad(&codec::encode_hello(hello, secrets)?, &[HELLO_BUCKET], "hello")?;
        let (mut rest, psk) = match kem {
            Some((key, entropy)) => {
                let (ciphertext, secret) = key.encapsulate(&entropy);
                (ciphertext.to_vec(), secret)
            }
            None => (Vec::new(), Zeroizing::new(NO_PSK)),
        };
        let prologue = noise::prologue(suite, &door.topic(callee), &rest);
        let secret = identity.x25519_secret();
        let start = Start { secret, ephemeral, psk, contents, callee: *callee, prologue };
        rest.extend_from_slice(&start.message()?.1);
        let id = HandshakeId::of(suite, &rest);
        let key = WelcomeKey::new(&secrets.peer_seed, &id);
        let token = match door {
            Door::Strangers => None,
            Door::Contacts(token) => Some((*token).clone()),
        };
        let peer_seed = secrets.peer_seed.clone();
        Ok(Self { start, token, peer_seed, suite, rest, id, key, used: Vec::new() })
    }

    /// The frame for the [topic](Door::topic) of the door. Each resend takes another `salt`: gossip drops a frame that
    /// it has seen before.
    pub fn frame(&self, salt: [u8; 8]) -> Vec<u8> {
        let mut frame = Vec::with_capacity(HELLO_HEADER + self.rest.len());
        frame.extend_from_slice(&[VERSION, FrameKind::Hello.byte(), self.suite]);
        frame.extend_from_slice(&salt);
        let door = self.token.as_ref().map_or(Door::Strangers, Door::Contacts);
        let mac = door.mac(&self.start.callee, &frame, &self.rest);
        frame.extend_from_slice(&mac);
        frame.extend_from_slice(&self.rest);
        frame
    }

    /// The suite in which the handshake runs.
    pub const fn suite(&self) -> u8 {
        self.suite
    }

    /// The name of this message 1.
    pub const fn id(&self) -> HandshakeId {
        self.id
    }

    /// Reads message 2 and opens the session, which is confirmed at once. A wrong or hostile frame changes nothing;
    /// each device of the callee that answers opens a session of its own, up to [`MAX_ANSWERS`].
    ///
    /// A caller with several calls in flight offers the frame to each initiator: for all but one this costs a hash
    /// and gives [`OpenError::Mac`].
    ///
    /// # Errors
    /// [`OpenError::Repeated`] for a message 2 that has opened a session before, also under another salt: two
    /// sessions from one would use every nonce twice. [`OpenError::Downgrade`] if it names another suite than that of
    /// the handshake, except where it refuses the hello and names what its sender would rather have. Otherwise the
    /// stage at which the frame failed.
    pub fn finish(&mut self, frame: &[u8]) -> Result<(Session, Welcome, WelcomeSecrets), OpenError> {
        let noise = welcome::screen(&self.key, frame)?;
        let answer = labelled_hash(b"warp-blink/1 answer-id\0", &[noise]);
        if self.used.contains(&answer) {
            return Err(OpenError::Repeated);
        }
        if self.used.len() == MAX_ANSWERS {
            return Err(OpenError::TooManyAnswers);
        }
        // `snow` cannot copy a handshake, and one that has read a wrong message is not to be trusted with the right
        // one: it is made anew, which gives the same message 1.
        let (mut state, _) = self.start.message().map_err(|_| OpenError::Handshake)?;
        let mut padded = Zeroizing::new(vec![0; WELCOME_NOISE]);
        let len = state.read_message(noise, &mut padded).map_err(noise::open_error)?;
        let (welcome, secrets) = codec::decode_welcome(codec::unpad(&padded[..len])?)?;
        if !stays_in(self.suite, &welcome) {
            return Err(OpenError::Downgrade);
        }
        let callee = self.start.callee;
        let session =
            Session::open_from(state, Role::Initiator, callee, &self.peer_seed, &secrets.peer_seed)?;
        self.used.push(answer);
        Ok((session, welcome, secrets))
    }
}

impl fmt::Debug for Initiator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Initiator")
            .field("callee", &self.start.callee)
            .field("id", &self.id)
            .field("suite", &self.suite)
            .finish_non_exhaustive()
    }
}

/// Everything that message 1 is made of.
struct Start {
    secret: Zeroizing<[u8; 32]>,
    ephemeral: Zeroizing<[u8; 32]>,
    psk: SharedSecret,
    contents: codec::SecretBytes,
    callee: PublicKey,
    prologue: [u8; 32],
}

impl Start {
    /// Writes the Noise message: the same one each time.
    fn message(&self) -> Result<(HandshakeState, Vec<u8>), SealError> {
        let ephemeral = Ephemeral::default();
        ephemeral.give(&self.ephemeral);
        let callee = self.callee.to_x25519();
        let mut state = noise::initiator(&self.secret, &callee, &self.prologue, &self.psk, &ephemeral)
            .map_err(|_| SealError::Engine)?;
        let mut noise = vec![0; HELLO_NOISE];
        match state.write_message(&self.contents, &mut noise) {
            Ok(HELLO_NOISE) => Ok((state, noise)),
            Err(snow::Error::Dh) => Err(SealError::WeakKey),
            _ => Err(SealError::Engine),
        }
    }
}

/// Whether an answer stays in the suite of its handshake. One that refuses a hello for its version, suite or format
/// names what its sender would rather have.
fn stays_in(suite: u8, welcome: &Welcome) -> bool {
    welcome.suite == suite || matches!(welcome.status, Status::Version | Status::Suite | Status::Incompatible)
}

/// The callee's side: reads message 1.
#[derive(Clone, Copy, Debug)]
pub struct Responder;

impl Responder {
    /// Checks what costs a hash or two: the frame, its suite, and the MAC of the door at which it arrived. Gives the
    /// name by which a receiver finds out whether it has answered this message 1 before, and then repeats its stored
    /// message 2 instead of opening it again.
    ///
    /// # Errors
    /// [`OpenError::Frame`], [`OpenError::Suite`], [`OpenError::Mac`].
    pub fn screen(callee: &PublicKey, door: &Door<'_>, frame: &[u8]) -> Result<HandshakeId, OpenError> {
        Screened::of(callee, door, frame).map(|screened| screened.id())
    }

    /// Reads message 1, [`Responder::screen`] included, and checks that the sender is who it says it is. No answer
    /// is made yet: whether one is sent is the receiver's to decide.
    ///
    /// What it says is authentic and sent to this callee by this way, but may be a replay of an old message 1: only a
    /// confirmed session is fresh.
    ///
    /// # Errors
    /// [`OpenError::Downgrade`] if the sender does not list the suite that the frame is in. Otherwise the stage at
    /// which the frame failed.
    pub fn open(
        identity: &Identity,
        kem: &KemSecret,
        door: &Door<'_>,
        frame: &[u8],
    ) -> Result<Opened, OpenError> {
        let me = identity.public();
        let screened = Screened::of(&me, door, frame)?;
        let Screened { suite, ciphertext, noise, .. } = screened;
        let psk = match ciphertext.try_into() {
            Ok(ciphertext) => kem.decapsulate(ciphertext),
            Err(_) => Zeroizing::new(NO_PSK),
        };
        let ephemeral = Ephemeral::default();
        let prologue = noise::prologue(suite, &door.topic(&me), ciphertext);
        let mut state = noise::responder(&identity.x25519_secret(), &prologue, &psk, &ephemeral)
            .map_err(|_| OpenError::Handshake)?;
        let mut padded = Zeroizing::new(vec![0; HELLO_NOISE]);
        let len = state.read_message(noise, &mut padded).map_err(noise::open_error)?;
        let (hello, secrets) = codec::decode_hello(codec::unpad(&padded[..len])?)?;
        if state.get_remote_static() != Some(&hello.from.to_x25519()) {
            return Err(OpenError::Impostor);
        }
        if hello.from == me {
            return Err(OpenError::Reflected);
        }
        if !hello.suites.contains(&suite) {
            return Err(OpenError::Downgrade);
        }
        Ok(Opened { hello, secrets, id: screened.id(), suite, lane: door.lane(), state, ephemeral })
    }
}

/// A message 1 that was read, before its answer. Its secrets are overwritten when it is dropped, apart from what `snow`
/// keeps.
pub struct Opened {
    /// What it says.
    pub hello: Hello,
    /// Its secrets.
    pub secrets: HelloSecrets,
    /// Its name.
    pub id: HandshakeId,
    /// The suite in which the handshake runs.
    pub suite: u8,
    /// The way by which it came.
    pub lane: Lane,
    state: HandshakeState,
    ephemeral: Ephemeral,
}

impl Opened {
    /// Makes message 2 and the session, which is confirmed by the first transport message that it opens. `entropy`
    /// is the ephemeral secret key: 32 bytes of a cryptographic random source, used for nothing else.
    ///
    /// # Errors
    /// [`SealError::Suite`] if the welcome names another suite than that of the handshake, unless it refuses the hello
    /// for its version, suite or format; [`SealError::WeakKey`] if the caller's ephemeral key is of small order;
    /// otherwise [`SealError::Engine`].
    pub fn respond(
        mut self,
        welcome: &Welcome,
        secrets: &WelcomeSecrets,
        entropy: [u8; 32],
    ) -> Result<(Session, ResponderFrame), SealError> {
        let entropy = Zeroizing::new(entropy);
        if !stays_in(self.suite, welcome) {
            return Err(SealError::Suite { suite: self.suite });
        }
        self.ephemeral.give(&entropy);
        let noise = welcome::seal(&mut self.state, welcome, secrets)?;
        let frame = ResponderFrame::new(WelcomeKey::new(&self.secrets.peer_seed, &self.id), noise);
        let session = Session::open_from(
            self.state,
            Role::Responder,
            self.hello.from,
            &self.secrets.peer_seed,
            &secrets.peer_seed,
        )
        .map_err(|_| SealError::Engine)?;
        Ok((session, frame))
    }
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened")
            .field("hello", &self.hello)
            .field("id", &self.id)
            .field("suite", &self.suite)
            .field("lane", &self.lane)
            .finish_non_exhaustive()
    }
}

/// A message 1 whose MAC was right.
struct Screened<'f> {
    suite: u8,
    rest: &'f [u8],
    ciphertext: &'f [u8],
    noise: &'f [u8],
}

impl<'f> Screened<'f> {
    fn of(callee: &PublicKey, door: &Door<'_>, frame: &'f [u8]) -> Result<Self, OpenError> {
        let (header, rest) = frame::open(frame, FrameKind::Hello, HELLO_HEADER)?;
        let (header, found) = header.split_at(HELLO_HEADER - MAC_LEN);
        let &[_, _, suite, ..] = header else { return Err(OpenError::Decode) };
        debug_assert_eq!(header.len(), 3 + SALT_LEN);
        let len = frame::ciphertext_len(suite).ok_or(OpenError::Suite(suite))?;
        if !same(found, &door.mac(callee, header, rest)) {
            return Err(OpenError::Mac);
        }
        let (ciphertext, noise) = rest.split_at_checked(len).ok_or(OpenError::Decode)?;
        Ok(Self { suite, rest, ciphertext, noise })
    }

    fn id(&self) -> HandshakeId {
        HandshakeId::of(self.suite, self.rest)
    }
}

#[cfg(test)]
mod tests;
