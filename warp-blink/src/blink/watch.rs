//! Waiting for the change of one part of the snapshot.

use std::{fmt, sync::Arc};

use tokio::sync::watch::Receiver;

use crate::event::Snapshot;

/// One part of the snapshot: see [`Blink::watch`](crate::Blink::watch). It does not keep the phone running.
pub struct Watch<T> {
    snapshots: Receiver<Arc<Snapshot>>,
    selector: Box<dyn Fn(&Snapshot) -> T + Send + Sync>,
    seen: T,
}

impl<T: PartialEq + Clone> Watch<T> {
    pub(super) fn new(
        mut snapshots: Receiver<Arc<Snapshot>>,
        selector: impl Fn(&Snapshot) -> T + Send + Sync + 'static,
    ) -> Self {
        let seen = selector(&snapshots.borrow_and_update());
        Self { snapshots, selector: Box::new(selector), seen }
    }

    /// The part as it was when it was last looked at.
    #[allow(
        clippy::should_implement_trait,
        reason = "as tokio's watch names it, for those who know that one"
    )]
    pub fn borrow(&self) -> &T {
        &self.seen
    }

    /// The part as it is now.
    pub fn now(&mut self) -> T {
        self.look();
        self.seen.clone()
    }

    /// Waits until the part is another one than when it was last looked at, and gives the new one; changes that were undone
    /// in between are not seen. `None`: the phone has shut down. Dropping the future loses nothing.
    pub async fn changed(&mut self) -> Option<T> {
        loop {
            self.snapshots.changed().await.ok()?;
            if self.look() {
                return Some(self.seen.clone());
            }
        }
    }

    /// Waits until the part is as wanted, which it may be already, and gives it. `None`: the phone has shut down before.
    pub async fn wait_for(&mut self, mut wanted: impl FnMut(&T) -> bool) -> Option<T> {
        self.look();
        while !wanted(&self.seen) {
            self.changed().await?;
        }
        Some(self.seen.clone())
    }

    /// Whether it has changed.
    fn look(&mut self) -> bool {
        let present = self.snapshots.borrow_and_update().clone();
        let part = (self.selector)(&present);
        let new = part != self.seen;
        self.seen = part;
        new
    }
}

impl<T: fmt::Debug> fmt::Debug for Watch<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watch").field(&self.seen).finish()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use tokio::sync::watch;

    use super::*;
    use crate::{event::NodeState, select};

    #[test]
    fn a_watch_does_not_wake_for_another_part() {
        let (write, snapshots) = watch::channel(Arc::new(Snapshot::default()));
        let mut local = Watch::new(snapshots.clone(), select::local_media());
        let mut node = Watch::new(snapshots, select::node());
        let change = |change: fn(&mut Snapshot)| write.send_modify(|s| change(Arc::make_mut(s)));
        change(|s| s.node = NodeState::Public);
        change(|s| s.statistics.counters.sent += 1);
        assert_eq!(local.changed().now_or_never(), None);
        assert_eq!(node.changed().now_or_never(), Some(Some(NodeState::Public)));
        assert_eq!((node.changed().now_or_never(), node.borrow()), (None, &NodeState::Public));
        change(|s| s.local.muted = true);
        assert_eq!(node.changed().now_or_never(), None);
        let (before, told) = (local.borrow().muted, local.changed().now_or_never());
        assert_eq!((before, told.flatten().map(|l| l.muted)), (false, Some(true)));
        // What was looked at is no news, nor is what is as it was before.
        change(|s| s.local.deafened = true);
        assert!(local.now().deafened);
        assert_eq!(local.changed().now_or_never(), None);
        change(|s| s.local.deafened = false);
        change(|s| s.local.deafened = true);
        assert_eq!(local.changed().now_or_never(), None);
        // The last change is told before the end.
        change(|s| s.local.muted = false);
        drop(write);
        assert_eq!(local.changed().now_or_never().flatten().map(|l| l.muted), Some(false));
        assert_eq!(local.changed().now_or_never(), Some(None));
        assert_eq!(local.wait_for(|l| l.muted).now_or_never(), Some(None));
        assert!(local.wait_for(|l| !l.muted).now_or_never().flatten().is_some(), "it is so");
    }
}
