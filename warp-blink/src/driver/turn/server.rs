//! The server as a whole: where it listens, and its loop over UDP. [`streams`](super::streams) is the one over TCP.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, UdpSocket},
    task::JoinHandle,
    time::MissedTickBehavior,
};

use super::{
    config::{TurnConfig, TurnError},
    credentials::Secret,
    desk::{Desk, Transport},
    framing::MAX_MESSAGE,
    relay::Listening,
    serving::{Serving, Shared},
    streams,
};

/// The shortest secret that is shared.
const MIN_SECRET: usize = 16;

/// Ports that are tried where none is named: any one of them may be taken over TCP.
const PORTS: usize = 16;

/// How often it is looked whose allocations are over.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A running TURN server, over UDP and TCP. It ends when it is dropped, with all that is relayed.
///
/// Alone it serves those who have credentials made with [`TurnConfig::shared_secret`]; friends are given theirs by a phone
/// ([`Builder::turn_for_friends`](crate::Builder::turn_for_friends)).
#[derive(Debug)]
pub struct TurnServer {
    desk: Arc<Desk>,
    address: SocketAddr,
    tasks: [JoinHandle<()>; 2],
}

impl TurnServer {
    /// Starts it, on the current tokio runtime.
    ///
    /// # Errors
    /// See [`TurnError`].
    pub async fn start(config: TurnConfig) -> Result<Self, TurnError> {
        let TurnConfig { listen, public, secret, limits, allowed, only_tcp } = config;
        let public = match public {
            Some(public) if public.is_ipv4() != listen.is_ipv4() => return Err(TurnError::Family),
            Some(public) => public,
            None if listen.ip().is_unspecified() => return Err(TurnError::WhichAddress),
            None => listen.ip(),
        };
        if public.is_unspecified() || public.is_multicast() {
            return Err(TurnError::WhichAddress);
        }
        let secret = match secret {
            Some(secret) if secret.len() < MIN_SECRET => return Err(TurnError::WeakSecret),
            Some(secret) => (Secret::new(secret.as_bytes()), true),
            None => (Secret::random().map_err(|_| TurnError::Randomness)?, false),
        };
        let (socket, listener) = listen_on(listen).await?;
        let cannot = |e: std::io::Error| TurnError::Listen { at: listen, cause: e.to_string() };
        let local = socket.local_addr().map_err(cannot)?;
        let address = SocketAddr::new(public, local.port());
        let desk = Arc::new(Desk::new(limits, secret, (address, listen.ip()), allowed));
        let shared = Arc::new(Shared::new(desk.clone()));
        let socket = Arc::new(socket);
        let conn = Arc::new(Listening(socket.clone()));
        let serving = Serving::new(shared.clone(), Transport::Udp, conn, local);
        let tasks = [
            tokio::spawn(datagrams(socket, serving, shared.clone(), !only_tcp)),
            tokio::spawn(streams::serve(listener, shared)),
        ];
        Ok(Self { desk, address, tasks })
    }

    /// What it grants, and to whom.
    pub(crate) fn desk(&self) -> &Arc<Desk> {
        &self.desk
    }

    /// Where others reach it.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for TurnServer {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Both on one port, which is the system's to choose if none is named.
async fn listen_on(listen: SocketAddr) -> Result<(UdpSocket, TcpListener), TurnError> {
    let cannot =
        |over: &str, e: std::io::Error| TurnError::Listen { at: listen, cause: format!("{over}: {e}") };
    let mut tries = if listen.port() == 0 { PORTS } else { 1 };
    loop {
        let socket = UdpSocket::bind(listen).await.map_err(|e| cannot("UDP", e))?;
        let local = socket.local_addr().map_err(|e| cannot("UDP", e))?;
        match TcpListener::bind(local).await {
            Ok(listener) => return Ok((socket, listener)),
            Err(error) => {
                // Somebody else has this one over TCP.
                tries -= 1;
                if tries == 0 {
                    return Err(cannot("TCP", error));
                }
            }
        }
    }
}

/// The server over UDP, and what is done for both from time to time.
async fn datagrams(socket: Arc<UdpSocket>, mut serving: Serving, shared: Arc<Shared>, hears: bool) {
    let mut buffer = vec![0; MAX_MESSAGE];
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            received = socket.recv_from(&mut buffer) => match received {
                Ok((len, from)) if hears => serving.take(from, &buffer[..len]).await,
                Ok(_) => {}
                // Some systems tell here of what could not be delivered; the socket works.
                Err(error) => {
                    tracing::debug!(kind = ?error.kind(), "the TURN socket told of an error");
                    tokio::task::yield_now().await;
                }
            },
            _ = look.tick() => {
                for client in shared.desk.over(Transport::Udp) {
                    serving.delete(client.address).await;
                }
                shared.prune().await;
            }
        }
    }
}
