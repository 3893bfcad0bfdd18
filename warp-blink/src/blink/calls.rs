//! What an app asks of calls.

use tokio::sync::oneshot;

use super::Blink;
use crate::{
    driver::{clock, core::Request},
    error::Error,
    id::{CallId, PublicKey},
    proto::{Command, Other, signal::AppData},
};

/// Calls. Where a command takes an id, that of a call that was merged into another one will do.
impl Blink {
    /// Calls somebody, or several at once: whoever accepts first begins the call, and the others come in when they do. The
    /// future ends as soon as the call exists, before it rings; the rest comes as events.
    ///
    /// # Errors
    /// [`Error::Rejected`] if that is not possible now (calling oneself, more people than a call holds, being in a call that
    /// is not held), [`Error::Closed`].
    pub async fn offer(&self, to: impl IntoIterator<Item = PublicKey>) -> Result<CallId, Error> {
        self.offer_with(to, AppData::default()).await
    }

    /// The same, with data that each callee's app gets in [`Event::Incoming`](crate::Event::Incoming): a name, a conversation.
    ///
    /// If one person alone is called and their call rings here, or both call at once, one call comes of the two:
    /// [`Event::Merged`](crate::Event::Merged) names it, the id returned stays a name for it, and the app data of the call
    /// that goes is not delivered.
    ///
    /// # Errors
    /// As [`offer`](Self::offer).
    pub async fn offer_with(
        &self,
        to: impl IntoIterator<Item = PublicKey>,
        app_data: AppData,
    ) -> Result<CallId, Error> {
        let (reply, result) = oneshot::channel();
        let request = Request::Offer { to: to.into_iter().collect(), app_data, reply };
        self.requests.send(request).await.map_err(|_| Error::Closed)?;
        result.await.map_err(|_| Error::Closed)?
    }

    /// Accepts an incoming call. A call that was active until now is hung up.
    ///
    /// # Errors
    /// [`Error::Rejected`] if the call is not (any more) waiting for an answer, [`Error::Closed`].
    pub async fn answer(&self, call: CallId) -> Result<(), Error> {
        self.command(Command::Accept { call, other: Other::End }).await
    }

    /// Accepts an incoming call. A call that was active until now is held, and can be gone on with
    /// ([`unhold`](Self::unhold)).
    ///
    /// # Errors
    /// As [`answer`](Self::answer), and if too many calls are held.
    pub async fn answer_holding(&self, call: CallId) -> Result<(), Error> {
        self.command(Command::Accept { call, other: Other::Hold }).await
    }

    /// Declines an incoming call.
    ///
    /// # Errors
    /// As [`answer`](Self::answer).
    pub async fn decline(&self, call: CallId) -> Result<(), Error> {
        self.command(Command::Decline { call }).await
    }

    /// Withdraws an outgoing call that nobody has accepted. It has ended when this returns; the callee is told as
    /// soon as the network allows.
    ///
    /// # Errors
    /// [`Error::Rejected`] if the call was accepted or has ended, [`Error::Closed`].
    pub async fn cancel(&self, call: CallId) -> Result<(), Error> {
        self.command(Command::Cancel { call }).await
    }

    /// Ends a call for this side, wherever it stands: an unanswered one of ours is cancelled, one of theirs is declined. In a
    /// call of two that ends it for both; in a larger one the others go on. A call of an earlier run that could be resumed is
    /// not offered any more.
    ///
    /// # Errors
    /// [`Error::Rejected`] if there is no such call, [`Error::Closed`].
    pub async fn hang_up(&self, call: CallId) -> Result<(), Error> {
        self.command(Command::HangUp { call }).await
    }

    /// Leaves an active call, to come back with [`rejoin`](Self::rejoin) while it lasts. The others go on; one who is left
    /// alone waits for [`Config::empty_call_grace`](crate::Config::empty_call_grace).
    ///
    /// # Errors
    /// [`Error::Rejected`] if the call is not active, [`Error::Closed`].
    pub async fn leave(&self, call: CallId) -> Result<(), Error> {
        self.command(Command::Leave { call }).await
    }

    /// Comes back to a call that was left, within [`Config::rejoin_window`](crate::Config::rejoin_window). `other`: what
    /// becomes of a call that is active.
    ///
    /// # Errors
    /// [`Error::Rejected`] if the call was not left, has ended, or this side was removed from it; [`Error::Closed`].
    pub async fn rejoin(&self, call: CallId, other: Other) -> Result<(), Error> {
        self.command(Command::Rejoin { call, other }).await
    }

    /// Brings others into a call of ours that rings or is active: their phones ring. Also somebody who declined or left.
    ///
    /// # Errors
    /// [`Error::Rejected`] if they are in it already, it is full, or this side may not invite
    /// ([`Config::may_invite`](crate::Config::may_invite) of who made it); [`Error::Closed`].
    pub async fn invite(&self, call: CallId, to: impl IntoIterator<Item = PublicKey>) -> Result<(), Error> {
        self.invite_with(call, to, AppData::default()).await
    }

    /// The same, with data that each callee's app gets in [`Event::Incoming`](crate::Event::Incoming).
    ///
    /// # Errors
    /// As [`invite`](Self::invite).
    pub async fn invite_with(
        &self,
        call: CallId,
        to: impl IntoIterator<Item = PublicKey>,
        app_data: AppData,
    ) -> Result<(), Error> {
        let to = to.into_iter().collect();
        self.command(Command::Invite { call, to, app_data, sent_at: clock::unix() }).await
    }

    /// Removes somebody from a call that this side made, for good: they hear nothing more of it unless they are invited
    /// anew. Or calls off somebody whom this side called and who has not answered.
    ///
    /// # Errors
    /// [`Error::Rejected`] if they are not in it, or somebody else made the call; [`Error::Closed`].
    pub async fn remove(&self, call: CallId, peer: PublicKey) -> Result<(), Error> {
        self.command(Command::Remove { call, peer }).await
    }

    /// Holds an active call: nothing is sent and nobody is heard, and another call can be made or answered.
    ///
    /// # Errors
    /// [`Error::Rejected`] if the call is not active or is held, or if too many are
    /// ([`Config::max_held`](crate::Config::max_held)); [`Error::Closed`].
    pub async fn hold(&self, call: CallId) -> Result<(), Error> {
        self.command(Command::Hold { call }).await
    }

    /// Goes on with a held call. `other`: what becomes of a call that is active.
    ///
    /// # Errors
    /// [`Error::Rejected`] if the call is not held, or if too many calls would be; [`Error::Closed`].
    pub async fn unhold(&self, call: CallId, other: Other) -> Result<(), Error> {
        self.command(Command::Unhold { call, other }).await
    }

    /// Comes back to a call that an earlier run of this app was in when it crashed, without ringing anyone:
    /// [`Snapshot::resumable`](crate::Snapshot::resumable) lists those that a [store](crate::Builder::store) has kept.
    /// `other`: what becomes of a call that is active.
    ///
    /// # Errors
    /// [`Error::Rejected`] if there is no such call, [`Error::Closed`].
    pub async fn resume(&self, call: CallId, other: Other) -> Result<(), Error> {
        self.command(Command::Resume { call, sent_at: clock::unix(), other }).await
    }

    /// The first message of a call to somebody who has not answered it, sealed for them, so that the app can bring it to
    /// them over a channel of its own, such as a push service, where gossip does not reach a phone that sleeps. There it is
    /// [imported](Self::import_offer), and everything after it goes over gossip. It goes on being sent over gossip too: the
    /// two are one call. From now on they are waited for as long as their phone would ring, and not for
    /// [`Config::reach_timeout`](crate::config::Config::reach_timeout) only: a phone has to wake up first.
    ///
    /// Whoever carries the bytes learns whom they are for, if they know that key, and nothing of what they say. They are
    /// worth nothing once the call is over.
    ///
    /// # Errors
    /// [`Error::NothingToExport`] if they are not being called, or have answered; [`Error::Closed`].
    pub async fn export_offer(&self, call: CallId, peer: PublicKey) -> Result<Vec<u8>, Error> {
        let (reply, result) = oneshot::channel();
        let call = self.ledger.resolve(call);
        self.requests.send(Request::Export { call, peer, reply }).await.map_err(|_| Error::Closed)?;
        result.await.map_err(|_| Error::Closed)?
    }

    /// Takes in an [exported](Self::export_offer) offer as if it had arrived over gossip: whoever may not ring here is refused
    /// in silence, and the same offer rings once however often and by whatever way it comes. `Ok` says that it was taken in;
    /// that it rings is [`Event::Incoming`](crate::Event::Incoming). The caller's node is looked for, since the answer goes
    /// over gossip.
    ///
    /// # Errors
    /// [`Error::Import`] for what is no offer to this identity, [`Error::Closed`].
    pub async fn import_offer(&self, bytes: impl Into<Vec<u8>>) -> Result<(), Error> {
        let (reply, result) = oneshot::channel();
        let request = Request::Import { bytes: bytes.into(), reply };
        self.requests.send(request).await.map_err(|_| Error::Closed)?;
        result.await.map_err(|_| Error::Closed)?
    }

    /// Sends silence, or stops to. Holds for later calls too; the others are told.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub async fn set_muted(&self, muted: bool) -> Result<(), Error> {
        self.command(Command::SetMuted(muted)).await
    }

    /// Plays nothing, or stops to. Holds for later calls too; the others are told.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub async fn set_deafened(&self, deafened: bool) -> Result<(), Error> {
        self.command(Command::SetDeafened(deafened)).await
    }

    /// Tells the others that a camera picture is sent, or no more.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub async fn set_camera(&self, on: bool) -> Result<(), Error> {
        self.command(Command::SetCamera(on)).await
    }

    /// Tells the others that a screen is shared, or no more.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub async fn set_screen(&self, on: bool) -> Result<(), Error> {
        self.command(Command::SetScreen(on)).await
    }

    /// Tells the others that the call is recorded here by means of the app's own, or no more. What
    /// [`record`](Self::record) does is told without this, and whatever is said here.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub async fn set_recording(&self, on: bool) -> Result<(), Error> {
        self.command(Command::SetRecording(on)).await
    }
}
