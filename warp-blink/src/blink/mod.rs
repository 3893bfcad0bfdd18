//! The public API: one handle, one event stream, one snapshot.

mod builder;
mod call;
mod calls;
mod events;
mod outside;
mod real;
mod sound;
mod watch;

use std::sync::Arc;

use simple_webrtc::{Channel, ChannelOptions};
use tokio::sync::{broadcast, mpsc, oneshot, watch as state};

pub use self::{
    builder::Builder,
    call::{Call, Failed},
    events::Events,
    outside::{Memory, Outside},
    watch::Watch,
};
pub use crate::driver::{door::Caller, media::Audio};
use crate::{
    config::Admission,
    driver::{
        core::{Request, Running},
        ledger::Ledger,
    },
    error::Error,
    event::{ChannelId, Event, Snapshot},
    id::{CallId, Identity, NodeId, PublicKey},
    ports::media::{MediaCommand, MediaError},
    proto::Command,
};

/// A phone: it calls and is called, by public key.
///
/// Cheap to clone; every clone is the same phone. Each command ends in exactly one result, and holds even if its
/// future is dropped. When the last clone is dropped, calls are hung up and the node stops in the background, as
/// [`shutdown`](Self::shutdown) does with waiting for it.
///
/// Runs on the tokio runtime that was current when it was made, on several threads or on one.
#[derive(Clone)]
pub struct Blink {
    public_key: PublicKey,
    node_id: NodeId,
    requests: mpsc::Sender<Request>,
    /// Weak, so that the streams end with the task that writes them.
    events: broadcast::WeakSender<Event>,
    snapshot: state::Receiver<Arc<Snapshot>>,
    ledger: Ledger,
}

impl Blink {
    /// Starts to build the phone of this identity.
    pub fn builder(identity: Identity) -> Builder {
        Builder::new(identity)
    }

    fn new(public_key: PublicKey, node_id: NodeId, running: Running) -> Self {
        let Running { requests, events, snapshot, ledger } = running;
        Self { public_key, node_id, requests, events, snapshot, ledger }
    }

    /// What others call.
    pub fn public_key(&self) -> PublicKey {
        self.public_key
    }

    /// The name of the libp2p node that carries the signals.
    pub fn node_id(&self) -> NodeId {
        self.node_id
    }

    /// What happens from now on, until the phone has shut down or its node is gone. Each reader sees everything; one that falls behind by 1,024 events is told so with
    /// [`Event::Lagged`], and finds the present state in the [`snapshot`](Self::snapshot).
    pub fn events(&self) -> Events {
        Events::new(self.events.upgrade().map(|events| events.subscribe()))
    }

    /// Everything that a screen needs, as it is now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.borrow().clone()
    }

    /// The whole snapshot, to wait for its changes: several a second while a call runs, since it has the statistics. For one
    /// part of it there is [`watch`](Self::watch).
    pub fn snapshots(&self) -> state::Receiver<Arc<Snapshot>> {
        self.snapshot.clone()
    }

    /// One part of the snapshot, to wait for its changes and no others. `selector` picks the part, as those in
    /// [`select`](crate::select) do; it runs whenever the snapshot has changed, so it must be quick.
    ///
    /// ```no_run
    /// # async fn example(blink: warp_blink::Blink) {
    /// let mut pending = blink.watch(warp_blink::select::pending_calls());
    /// while let Some(calls) = pending.changed().await {
    ///     println!("{} calls ring", calls.len());
    /// }
    /// # }
    /// ```
    pub fn watch<T: PartialEq + Clone>(
        &self,
        selector: impl Fn(&Snapshot) -> T + Send + Sync + 'static,
    ) -> Watch<T> {
        Watch::new(self.snapshot.clone(), selector)
    }

    /// A handle for one call: what can be asked of it, and how it goes. Any id will do; it is when something is asked of
    /// it that the call must be there.
    pub fn call(&self, id: CallId) -> Call {
        Call::new(self.clone(), id)
    }

    /// Counts somebody among the contacts, who is not blocked any more. In a call with us they get our contact token at
    /// once, else in the next one.
    ///
    /// # Errors
    /// [`Error::Rejected`] for the own key or a full list (10,000), [`Error::Closed`].
    pub async fn add_contact(&self, peer: PublicKey) -> Result<(), Error> {
        self.command(Command::AddContact(peer)).await
    }

    /// Counts somebody among the contacts no longer. The contact token that they hold opens nothing any more; other
    /// contacts get a new one in their next call, and call over the strangers' lane until then.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub async fn remove_contact(&self, peer: PublicKey) -> Result<(), Error> {
        self.command(Command::RemoveContact(peer)).await
    }

    /// Refuses somebody from now on: a running call with them is hung up, one that rings stops, and to them this side
    /// looks offline. A new contact token replaces the one that they may hold.
    ///
    /// # Errors
    /// As [`add_contact`](Self::add_contact).
    pub async fn block(&self, peer: PublicKey) -> Result<(), Error> {
        self.command(Command::Block(peer)).await
    }

    /// Refuses somebody no longer.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub async fn unblock(&self, peer: PublicKey) -> Result<(), Error> {
        self.command(Command::Unblock(peer)).await
    }

    /// Changes who may ring, from the next caller on.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub async fn set_admission(&self, admission: Admission) -> Result<(), Error> {
        self.command(Command::SetAdmission(admission)).await
    }

    /// Uses these STUN and TURN servers from now on, in place of those before: other servers, or new credentials for the same ones
    /// while calls go on. Links that exist take them with their next description; their present paths stay.
    ///
    /// # Errors
    /// [`Error::Media`] if one of them is no server's address; [`Error::Closed`].
    pub async fn set_ice_servers(&self, servers: Vec<crate::IceServer>) -> Result<(), Error> {
        self.media(MediaCommand::SetIceServers(servers)).await
    }

    /// Opens a data channel to a participant of an accepted call, straight between the two: for chat, files, or the state of a
    /// game. It comes to both sides as [`Event::Channel`](crate::Event::Channel) once it is open; each of the two can open some,
    /// 16 together. It ends with the link: after a crash, or a link that was lost, it is opened anew.
    ///
    /// # Errors
    /// [`Error::Rejected`] if the call is not accepted, or there is no connection to them; [`Error::Media`] if the name is empty or
    /// longer than [`MAX_CHANNEL_NAME_BYTES`](crate::channel::MAX_CHANNEL_NAME_BYTES); [`Error::Closed`].
    pub async fn open_channel(
        &self,
        call: CallId,
        peer: PublicKey,
        options: ChannelOptions,
    ) -> Result<(), Error> {
        let (reply, link) = oneshot::channel();
        self.requests.send(Request::ChannelTo(call, peer, reply)).await.map_err(|_| Error::Closed)?;
        let link = link.await.map_err(|_| Error::Closed)??;
        self.media(MediaCommand::OpenChannel { link, options }).await
    }

    /// The channel that [`Event::Channel`](crate::Event::Channel) told of. It is given once; `None`: somebody has it, or its link
    /// is over. One that nobody asks for is closed when 64 wait, the oldest first.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub async fn channel(&self, channel: ChannelId) -> Result<Option<Channel>, Error> {
        let (reply, found) = oneshot::channel();
        self.requests.send(Request::Channel(channel, reply)).await.map_err(|_| Error::Closed)?;
        found.await.map_err(|_| Error::Closed)
    }

    /// Remembers an address of a node, such as `/ip4/192.0.2.1/tcp/4001/p2p/12D3KooW…`, and connects to it.
    ///
    /// # Errors
    /// [`Error::Address`] if it is not an address of a node, [`Error::Closed`].
    pub async fn add_address(&self, address: &str) -> Result<NodeId, Error> {
        let (node, address) = builder::address(address)?;
        self.requests.send(Request::Learn { node, address }).await.map_err(|_| Error::Closed)?;
        Ok(node)
    }

    /// Hangs up, says goodbye to the other side, closes the devices and stops the node (an app's own node goes on).
    /// Waits for the other side to hear of it for a second at most (or
    /// [`Config::farewell`](crate::config::Config::farewell), if that is less), and for the node to close.
    pub async fn shutdown(self) {
        let (done, stopped) = oneshot::channel();
        if self.requests.send(Request::Shutdown(done)).await.is_ok() {
            // An error means that the task is gone, which is what was asked for.
            let _ = stopped.await;
        }
    }

    /// For tests: how many of these frames a key opens that this phone has, or had if it keeps everything.
    #[cfg(test)]
    pub(crate) async fn open_frames(&self, frames: Vec<Vec<u8>>) -> Result<usize, Error> {
        let (reply, opened) = oneshot::channel();
        self.requests.send(Request::Open(frames, reply)).await.map_err(|_| Error::Closed)?;
        opened.await.map_err(|_| Error::Closed)
    }

    /// For tests: whether a session with somebody in a call is still there.
    #[cfg(test)]
    pub(crate) async fn shares_keys(&self, call: CallId, with: PublicKey) -> Result<bool, Error> {
        let (reply, shares) = oneshot::channel();
        self.requests.send(Request::Shares(call, with, reply)).await.map_err(|_| Error::Closed)?;
        shares.await.map_err(|_| Error::Closed)
    }

    async fn media(&self, command: MediaCommand) -> Result<(), Error> {
        let (reply, result) = oneshot::channel();
        self.requests.send(Request::Media(command, reply)).await.map_err(|_| Error::Closed)?;
        result.await.map_err(|_| Error::Closed)?.map_err(|refused| match refused {
            MediaError::SameFile { file } => Error::SameFile { file },
            MediaError::Busy => Error::Busy,
            MediaError::Failed(cause) => Error::Media(cause),
        })
    }

    async fn command(&self, command: Command) -> Result<(), Error> {
        let (reply, result) = oneshot::channel();
        self.requests.send(Request::Command(command, reply)).await.map_err(|_| Error::Closed)?;
        result.await.map_err(|_| Error::Closed)?.map_err(Error::from)
    }
}

impl std::fmt::Debug for Blink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Blink").field("public_key", &self.public_key).finish_non_exhaustive()
    }
}
