//! A handle for one call.

use std::path::PathBuf;

use crate::{
    Blink,
    error::{Error, Rejected},
    event::{CallSnapshot, EndedCall, Snapshot},
    id::{CallId, PublicKey},
    proto::{Other, signal::AppData},
};

/// One call of a [`Blink`]: what can be asked of it, and how it goes.
///
/// Cheap to clone. It keeps the phone running, as a clone of `Blink` does. If the call is merged into another one, because
/// both sides called each other, this is a handle for that one.
#[derive(Clone, Debug)]
pub struct Call {
    blink: Blink,
    id: CallId,
}

/// Why a call is not connected, and never will be.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Failed {
    /// It has ended.
    #[error("{}", text(.0))]
    Ended(Box<EndedCall>),
    /// There is no such call, or it has ended so long ago that nothing is known of it any more.
    #[error("nothing is known of call {0} (any more)")]
    Unknown(CallId),
    /// The phone has shut down.
    #[error("this Blink has shut down")]
    Closed,
}

fn text(ended: &EndedCall) -> String {
    match &ended.summary.failure {
        Some(failure) => failure.to_string(),
        None => ended.reason.to_string(),
    }
}

/// Where a call stands, as far as waiting for it goes.
enum Fate {
    Pending,
    Ended(Box<EndedCall>),
    Unknown,
}

impl Call {
    pub(super) fn new(blink: Blink, id: CallId) -> Self {
        Self { blink, id }
    }

    /// Its id; if it was merged into another call, that one's.
    pub fn id(&self) -> CallId {
        self.blink.ledger.resolve(self.id)
    }

    /// The phone that it belongs to.
    pub fn blink(&self) -> &Blink {
        &self.blink
    }

    /// The call as it is now; `None` if it has ended.
    pub fn snapshot(&self) -> Option<CallSnapshot> {
        self.blink.snapshot().call(self.id()).cloned()
    }

    /// Waits until it was accepted and the link to the first of the others is up. Can also be asked later: a call that was
    /// connected stays so for this, even when it has ended since.
    ///
    /// # Errors
    /// [`Failed`] if that will not happen: with the reason, and what the user can do about it.
    pub async fn connected(&self) -> Result<(), Failed> {
        let was = |call: &Self| call.blink.ledger.was_connected(call.id());
        self.until(|call, _| was(call).then_some(())).await.map_err(|fate| match fate {
            Fate::Ended(ended) => Failed::Ended(ended),
            Fate::Unknown => Failed::Unknown(self.id()),
            Fate::Pending => Failed::Closed,
        })
    }

    /// Waits until it has ended, and says how. Can also be asked later, as long as it is one of the
    /// [last](crate::event::MAX_ENDED_CALLS) that ended.
    ///
    /// # Errors
    /// [`Error::Rejected`] if nothing is known of such a call (any more), [`Error::Closed`].
    pub async fn ended(&self) -> Result<EndedCall, Error> {
        match self.until(|_, _| None::<()>).await {
            Err(Fate::Ended(ended)) => Ok(*ended),
            Err(Fate::Unknown) => Err(Rejected::NoSuchCall(self.id()).into()),
            Ok(()) | Err(Fate::Pending) => Err(Error::Closed),
        }
    }

    /// Waits until there is such a thing or the call is over. [`Fate::Pending`]: the phone is.
    async fn until<T>(&self, found: impl Fn(&Self, &Snapshot) -> Option<T>) -> Result<T, Fate> {
        let mut snapshots = self.blink.snapshots();
        loop {
            let snapshot = snapshots.borrow_and_update().clone();
            if let Some(found) = found(self, &snapshot) {
                return Ok(found);
            }
            match self.fate(&snapshot) {
                Fate::Pending => {}
                over => return Err(over),
            }
            if snapshots.changed().await.is_err() {
                return Err(Fate::Pending);
            }
        }
    }

    fn fate(&self, snapshot: &Snapshot) -> Fate {
        let id = self.id();
        // What it was merged into can be known before the snapshot shows it.
        if snapshot.call(id).is_some() || snapshot.call(self.id).is_some() {
            return Fate::Pending;
        }
        match snapshot.ended.iter().find(|ended| ended.id == id) {
            Some(ended) => Fate::Ended(Box::new(ended.clone())),
            None => Fate::Unknown,
        }
    }
}

macro_rules! commands {
    ($($name:ident($($argument:ident: $kind:ty),*)),* $(,)?) => {
        /// Commands: as those of [`Blink`] of the same names.
        impl Call {
            $(
                #[doc = concat!("See [`Blink::", stringify!($name), "`].")]
                ///
                /// # Errors
                #[doc = concat!("As [`Blink::", stringify!($name), "`].")]
                pub async fn $name(&self, $($argument: $kind),*) -> Result<(), Error> {
                    self.blink.$name(self.id, $($argument),*).await
                }
            )*
        }
    };
}

commands! {
    answer(),
    answer_holding(),
    decline(),
    cancel(),
    hang_up(),
    leave(),
    rejoin(other: Other),
    invite(to: impl IntoIterator<Item = PublicKey>),
    invite_with(to: impl IntoIterator<Item = PublicKey>, app_data: AppData),
    remove(peer: PublicKey),
    hold(),
    unhold(other: Other),
    resume(other: Other),
    record(folder: impl Into<PathBuf>),
    stop_recording(),
    play(file: impl Into<PathBuf>),
    stop_playing(),
}

impl Call {
    /// See [`Blink::export_offer`].
    ///
    /// # Errors
    /// As [`Blink::export_offer`].
    pub async fn export_offer(&self, peer: PublicKey) -> Result<Vec<u8>, Error> {
        self.blink.export_offer(self.id, peer).await
    }
}
