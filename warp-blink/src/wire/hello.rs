//! Message 1: it opens a session to a public key, and says why.
//!
//! `version 1 | kind 1 | suite 1 | salt 8 | MAC 16 | Noise message 1632`. The MAC is made under a key that follows
//! from the callee's public key: whoever does not know whom the inbox belongs to cannot make the callee compute
//! anything. It covers everything else in the frame. A resend keeps the Noise message and changes the salt.

use std::fmt;

use snow::HandshakeState;
use zeroize::Zeroizing;

use super::{
    CallKey, OpenError, PeerSeed, ResponderFrame, SealError, Session, Topic, WelcomeSecrets, codec,
    frame::{self, FrameKind, HELLO_BUCKET, HELLO_HEADER, HELLO_NOISE, SALT_LEN, WELCOME_NOISE},
    noise::{self, Ephemeral},
    secret::{MAC_LEN, labelled_hash, mac, same},
    session::Role,
    welcome::{self, WelcomeKey},
};
use crate::{
    id::{Identity, PublicKey},
    proto::signal::{Hello, SUITE_CLASSICAL, VERSION, Welcome},
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

/// Names a message 1 by its Noise bytes, whatever its salt: a receiver that has seen it repeats its stored answer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HandshakeId([u8; 32]);

impl HandshakeId {
    fn of(noise: &[u8]) -> Self {
        Self(labelled_hash(b"warp-blink/1 handshake-id\0", &[noise]))
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
/// identity's X25519 secret; all secrets are overwritten when it is dropped.
pub struct Initiator {
    secret: Zeroizing<[u8; 32]>,
    ephemeral: Zeroizing<[u8; 32]>,
    contents: codec::SecretBytes,
    callee: PublicKey,
    peer_seed: PeerSeed,
    noise: Vec<u8>,
    id: HandshakeId,
    key: WelcomeKey,
    used: Vec<[u8; 32]>,
}

impl Initiator {
    /// Makes message 1 from `identity` to `callee`. `entropy` is the ephemeral secret key: 32 bytes of a
    /// cryptographic random source, used for nothing else.
    ///
    /// # Errors
    /// [`SealError::WrongSender`] if `hello.from` is not this identity, [`SealError::Oneself`] if the callee is,
    /// [`SealError::TooLong`] for more than 8 versions or suites.
    pub fn start(
        identity: &Identity,
        callee: &PublicKey,
        hello: &Hello,
        secrets: &HelloSecrets,
        entropy: [u8; 32],
    ) -> Result<Self, SealError> {
        let ephemeral = Zeroizing::new(entropy);
        if hello.from != identity.public() {
            return Err(SealError::WrongSender);
        }
        if *callee == identity.public() {
            return Err(SealError::Oneself);
        }
        let contents = codec::pad(&codec::encode_hello(hello, secrets)?, &[HELLO_BUCKET], "hello")?;
        let secret = identity.x25519_secret();
        let (_, noise) = first_message(&secret, callee, &ephemeral, &contents)?;
        let id = HandshakeId::of(&noise);
        let key = WelcomeKey::new(&secrets.peer_seed, &id);
        let peer_seed = secrets.peer_seed.clone();
        Ok(Self { secret, ephemeral, contents, callee: *callee, peer_seed, noise, id, key, used: Vec::new() })
    }

    /// The frame for the callee's [inbox](Topic::inbox). Each resend takes another `salt`: gossip drops a frame
    /// that it has seen before.
    pub fn frame(&self, salt: [u8; 8]) -> Vec<u8> {
        let mut frame = Vec::with_capacity(HELLO_HEADER + HELLO_NOISE);
        frame.extend_from_slice(&[VERSION, FrameKind::Hello.byte(), SUITE_CLASSICAL]);
        frame.extend_from_slice(&salt);
        let mac = lane_mac(&self.callee, &frame, &self.noise);
        frame.extend_from_slice(&mac);
        frame.extend_from_slice(&self.noise);
        frame
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
    /// sessions from one would use every nonce twice. Otherwise the stage at which the frame failed.
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
        let (mut state, _) = first_message(&self.secret, &self.callee, &self.ephemeral, &self.contents)
            .map_err(|_| OpenError::Handshake)?;
        let mut padded = Zeroizing::new(vec![0; WELCOME_NOISE]);
        let len = state.read_message(noise, &mut padded).map_err(noise::open_error)?;
        let (welcome, secrets) = codec::decode_welcome(codec::unpad(&padded[..len])?)?;
        let session =
            Session::open_from(state, Role::Initiator, self.callee, &self.peer_seed, &secrets.peer_seed)?;
        self.used.push(answer);
        Ok((session, welcome, secrets))
    }
}

impl fmt::Debug for Initiator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Initiator")
            .field("callee", &self.callee)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

fn first_message(
    secret: &[u8; 32],
    callee: &PublicKey,
    entropy: &[u8; 32],
    contents: &[u8],
) -> Result<(HandshakeState, Vec<u8>), SealError> {
    let ephemeral = Ephemeral::default();
    ephemeral.give(entropy);
    let prologue = noise::prologue(SUITE_CLASSICAL, &Topic::inbox(callee), &[]);
    let mut state = noise::initiator(secret, &callee.to_x25519(), &prologue, &ephemeral)
        .map_err(|_| SealError::Engine)?;
    let mut noise = vec![0; HELLO_NOISE];
    match state.write_message(contents, &mut noise) {
        Ok(HELLO_NOISE) => Ok((state, noise)),
        Err(snow::Error::Dh) => Err(SealError::WeakKey),
        _ => Err(SealError::Engine),
    }
}

/// The callee's side: reads message 1.
#[derive(Clone, Copy, Debug)]
pub struct Responder;

impl Responder {
    /// Checks what costs a hash or two: the frame, its suite, and the MAC under the callee's key. Gives the name by
    /// which a receiver finds out whether it has seen this message 1 before, and then repeats its stored message 2
    /// instead of opening it again.
    ///
    /// # Errors
    /// [`OpenError::Frame`], [`OpenError::Suite`], [`OpenError::Mac`].
    pub fn screen(callee: &PublicKey, frame: &[u8]) -> Result<HandshakeId, OpenError> {
        Ok(HandshakeId::of(screened(callee, frame)?))
    }

    /// Reads message 1, [`Responder::screen`] included, and checks that the sender is who it says it is. No answer
    /// is made yet: whether one is sent is the receiver's to decide.
    ///
    /// What it says is authentic and sent to this callee, but may be a replay of an old message 1: only a confirmed
    /// session is fresh.
    ///
    /// # Errors
    /// The stage at which the frame failed.
    pub fn open(identity: &Identity, frame: &[u8]) -> Result<Opened, OpenError> {
        let me = identity.public();
        let noise = screened(&me, frame)?;
        let id = HandshakeId::of(noise);
        let ephemeral = Ephemeral::default();
        let prologue = noise::prologue(SUITE_CLASSICAL, &Topic::inbox(&me), &[]);
        let mut state = noise::responder(&identity.x25519_secret(), &prologue, &ephemeral)
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
        Ok(Opened { hello, secrets, id, state, ephemeral })
    }
}

/// A message 1 that was read, before its answer.
pub struct Opened {
    /// What it says.
    pub hello: Hello,
    /// Its secrets.
    pub secrets: HelloSecrets,
    /// Its name.
    pub id: HandshakeId,
    state: HandshakeState,
    ephemeral: Ephemeral,
}

impl Opened {
    /// Makes message 2 and the session, which is confirmed by the first transport message that it opens. `entropy`
    /// is the ephemeral secret key: 32 bytes of a cryptographic random source, used for nothing else.
    ///
    /// # Errors
    /// [`SealError::WeakKey`] if the caller's ephemeral key is of small order, otherwise [`SealError::Engine`].
    pub fn respond(
        mut self,
        welcome: &Welcome,
        secrets: &WelcomeSecrets,
        entropy: [u8; 32],
    ) -> Result<(Session, ResponderFrame), SealError> {
        self.ephemeral.give(&Zeroizing::new(entropy));
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
        f.debug_struct("Opened").field("hello", &self.hello).field("id", &self.id).finish_non_exhaustive()
    }
}

fn screened<'f>(callee: &PublicKey, frame: &'f [u8]) -> Result<&'f [u8], OpenError> {
    let (header, noise) = frame::open(frame, FrameKind::Hello, HELLO_HEADER)?;
    let (header, found) = header.split_at(HELLO_HEADER - MAC_LEN);
    let &[_, _, suite, ..] = header else { return Err(OpenError::Decode) };
    debug_assert_eq!(header.len(), 3 + SALT_LEN);
    if suite != SUITE_CLASSICAL {
        return Err(OpenError::Suite(suite));
    }
    if same(found, &lane_mac(callee, header, noise)) { Ok(noise) } else { Err(OpenError::Mac) }
}

/// The lane of strangers: under the public key. (That of contacts, under their token, has an inbox of its own.)
fn lane_mac(callee: &PublicKey, header: &[u8], noise: &[u8]) -> [u8; MAC_LEN] {
    mac(b"warp-blink/1 lane-strangers\0", callee.as_bytes(), &[header, noise])
}
