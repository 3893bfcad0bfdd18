//! The event stream.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures::{Stream, future::BoxFuture};
use tokio::sync::broadcast::{self, error::RecvError};

use crate::event::Event;

/// What happens, in order. Ends when the phone has shut down.
///
/// Has a [`next`](Self::next) of its own, and is a [`Stream`] for those who need one.
pub struct Events {
    state: State,
}

enum State {
    Idle(broadcast::Receiver<Event>),
    Waiting(BoxFuture<'static, (Option<Event>, broadcast::Receiver<Event>)>),
    Over,
}

impl Events {
    /// `None`: the phone has shut down.
    pub(super) fn new(receiver: Option<broadcast::Receiver<Event>>) -> Self {
        Self { state: receiver.map_or(State::Over, State::Idle) }
    }

    /// The next event; `None` when the phone has shut down. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Event> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

async fn receive(mut receiver: broadcast::Receiver<Event>) -> (Option<Event>, broadcast::Receiver<Event>) {
    let event = match receiver.recv().await {
        Ok(event) => Some(event),
        Err(RecvError::Lagged(missed)) => Some(Event::Lagged { missed }),
        Err(RecvError::Closed) => None,
    };
    (event, receiver)
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let mut future = match std::mem::replace(&mut self.state, State::Over) {
            State::Idle(receiver) => Box::pin(receive(receiver)),
            State::Waiting(future) => future,
            State::Over => return Poll::Ready(None),
        };
        match future.as_mut().poll(cx) {
            Poll::Pending => {
                self.state = State::Waiting(future);
                Poll::Pending
            }
            Poll::Ready((Some(event), receiver)) => {
                self.state = State::Idle(receiver);
                Poll::Ready(Some(event))
            }
            Poll::Ready((None, _)) => Poll::Ready(None),
        }
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Events(..)")
    }
}
