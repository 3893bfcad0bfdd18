use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use webrtc::runtime::{
    AsyncInterval, AsyncTcpListener, AsyncTcpStream, AsyncUdpSocket, JoinHandle, Runtime, TokioRuntime,
};

use super::pace::Sleep;
use super::servers::Lookup;
use super::socket::{Socket, Sockets, Watch};
use super::{Outbox, Signal};
use crate::event::ServerProblem;

/// How long looking up a STUN or TURN server may take. 5 s: the time in which a resolver asks its second server
/// (resolv.conf(5)). The engine does nothing else meanwhile, not even ICE.
const RESOLVE: Duration = Duration::from_secs(5);

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

tokio::task_local! {
    /// Set in the task that drives a connection.
    static DRIVER: ();
}

/// The tokio runtime as one connection sees it: on tokio's clock, without TCP, with sockets that are watched, and telling
/// when the engine's task ends, which the engine itself does not.
#[derive(Debug)]
pub(super) struct Watched {
    outbox: Outbox,
    started: AtomicBool,
    sockets: Arc<dyn Sockets>,
    watch: Arc<Watch>,
}

impl Watched {
    pub(super) fn new(outbox: Outbox, sockets: Arc<dyn Sockets>, watch: Arc<Watch>) -> Self {
        Self { outbox, started: AtomicBool::new(false), sockets, watch }
    }
}

/// Signals when it is dropped, however the task that holds it ends.
struct OnEnd(Outbox);

impl Drop for OnEnd {
    fn drop(&mut self) {
        self.0.put(Signal::Stopped);
    }
}

impl Runtime for Watched {
    fn spawn(&self, future: Boxed<'static, ()>) -> Box<dyn JoinHandle> {
        // The first task is the one that drives the connection.
        if self.started.swap(true, Ordering::AcqRel) {
            return TokioRuntime.spawn(future);
        }
        let on_end = OnEnd(self.outbox.clone());
        TokioRuntime.spawn(Box::pin(DRIVER.scope((), async move {
            let _on_end = on_end;
            future.await;
        })))
    }

    fn wrap_udp_socket(&self, socket: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        Ok(Arc::new(Socket::new(self.sockets.wrap(socket)?, self.watch.clone())))
    }

    fn wrap_tcp_listener(&self, _listener: std::net::TcpListener) -> io::Result<Arc<dyn AsyncTcpListener>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// A peer's candidate must not make this machine open TCP connections.
    fn connect_tcp<'a>(&'a self, _remote: SocketAddr) -> Boxed<'a, io::Result<Arc<dyn AsyncTcpStream>>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }

    fn resolve_host<'a>(&'a self, host: &'a str) -> Boxed<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move {
            let (index, name) = match self.watch.servers.lookup(host) {
                Some((_, Lookup::Aliases(aliases))) => return Ok(aliases),
                Some((index, Lookup::Name(name))) => (index, name),
                None => return Err(io::ErrorKind::NotFound.into()),
            };
            let found = tokio::time::timeout(RESOLVE, TokioRuntime.resolve_host(&name)).await;
            let found = found.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
            match &found {
                Ok(addresses) => self.watch.servers.found(index, addresses),
                Err(_) => self.watch.servers.failed(index, ServerProblem::Unresolved),
            }
            found
        })
    }

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn sleep(&self, duration: Duration) -> Boxed<'static, ()> {
        if DRIVER.try_with(|()| ()).is_err() {
            return TokioRuntime.sleep(duration);
        }
        // The loop sleeps when it has nothing left to do.
        self.watch.settled();
        Box::pin(Sleep::new(self.watch.pace.clone(), TokioRuntime.sleep(duration)))
    }

    fn interval(&self, period: Duration) -> Box<dyn AsyncInterval> {
        TokioRuntime.interval(period)
    }

    fn block_on(&self, future: Pin<Box<dyn Future<Output = ()> + '_>>) {
        TokioRuntime.block_on(future);
    }

    fn name(&self) -> &'static str {
        "tokio"
    }
}

#[cfg(test)]
mod tests {
    use super::super::pace::Pace;
    use super::super::socket::Real;
    use super::*;
    use crate::engine::Inbox;

    fn watched(inbox: &Inbox) -> Watched {
        let servers = Arc::new(super::super::servers::Servers::new(&[], inbox.sender()));
        let watch = Watch::new(Arc::new(Pace::new(true)), inbox.sender(), servers, Arc::default());
        Watched::new(inbox.sender(), Arc::new(Real), Arc::new(watch))
    }

    #[tokio::test]
    async fn the_end_of_the_engines_task_is_signalled_even_if_it_panics() {
        let mut inbox = Inbox::new();
        let runtime = watched(&inbox);
        let _driver = runtime.spawn(Box::pin(async { panic!("on purpose") }));
        assert!(matches!(inbox.recv().await, Some(Signal::Stopped)));

        let mut inbox = Inbox::new();
        let runtime = watched(&inbox);
        let driver = runtime.spawn(Box::pin(std::future::pending()));
        let helper = runtime.spawn(Box::pin(async {}));
        while !helper.is_finished() {
            tokio::task::yield_now().await;
        }
        driver.abort();
        assert!(matches!(inbox.recv().await, Some(Signal::Stopped)));
        drop(runtime);
    }
}
