//! The loop of the server: one task, one request after the other.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{net::UdpSocket, sync::Mutex, task::JoinHandle, time::MissedTickBehavior};
use turn::{
    allocation::{
        allocation_manager::{Manager, ManagerConfig},
        five_tuple::FiveTuple,
    },
    proto::PROTO_UDP,
    server::request::Request,
};
use webrtc_util::Conn;

use super::{
    config::{TurnConfig, TurnError},
    credentials::Secret,
    desk::Desk,
    gate::{Gate, Verdict, prune},
    relay::{Current, Listening, Sockets},
};
use crate::driver::clock;

/// Says nothing of whose it is: it goes over the network in clear.
const REALM: &str = "blink";

/// The shortest secret that is shared.
const MIN_SECRET: usize = 16;

/// The largest datagram that comes: RFC 8656 leaves the size to the path, and no path of a call carries more than 1,500.
const MAX_DATAGRAM: usize = 2048;

/// How often it is looked whose allocations are over.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How long a channel stays without being asked for again (RFC 8656 section 12).
const CHANNEL_LIFE: Duration = Duration::from_secs(600);

/// A running TURN server. It ends when it is dropped, with all that is relayed.
///
/// Alone it serves those who have credentials made with [`TurnConfig::shared_secret`]; friends are given theirs by a phone
/// ([`Builder::turn_for_friends`](crate::Builder::turn_for_friends)).
#[derive(Debug)]
pub struct TurnServer {
    desk: Arc<Desk>,
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl TurnServer {
    /// Starts it, on the current tokio runtime.
    ///
    /// # Errors
    /// See [`TurnError`].
    pub async fn start(config: TurnConfig) -> Result<Self, TurnError> {
        let TurnConfig { listen, public, secret, limits, allowed } = config;
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
        let cannot = |e: std::io::Error| TurnError::Listen { at: listen, cause: e.to_string() };
        let socket = Arc::new(UdpSocket::bind(listen).await.map_err(cannot)?);
        let local = socket.local_addr().map_err(cannot)?;
        let address = SocketAddr::new(public, local.port());
        let desk = Arc::new(Desk::new(limits, secret, (address, listen.ip()), allowed));
        let current = Arc::new(Current::default());
        let sockets = Sockets { desk: desk.clone(), current: current.clone() };
        let manager =
            Manager::new(ManagerConfig { relay_addr_generator: Box::new(sockets), alloc_close_notify: None });
        let this = Loop {
            socket: socket.clone(),
            conn: Arc::new(Listening(socket)),
            local,
            desk: desk.clone(),
            current,
            manager: Arc::new(manager),
            nonces: Arc::default(),
            gate: Gate::new(clock::now()),
        };
        Ok(Self { desk, address, task: tokio::spawn(this.run()) })
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
        self.task.abort();
    }
}

struct Loop {
    socket: Arc<UdpSocket>,
    conn: Arc<dyn Conn + Send + Sync>,
    local: SocketAddr,
    desk: Arc<Desk>,
    current: Arc<Current>,
    manager: Arc<Manager>,
    nonces: Arc<Mutex<HashMap<String, tokio::time::Instant>>>,
    gate: Gate,
}

impl Loop {
    async fn run(mut self) {
        let mut buffer = vec![0; MAX_DATAGRAM];
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                received = self.socket.recv_from(&mut buffer) => match received {
                    Ok((len, from)) => self.take(from, &buffer[..len]).await,
                    // Some systems tell here of what could not be delivered; the socket works.
                    Err(error) => {
                        tracing::debug!(kind = ?error.kind(), "the TURN socket told of an error");
                        tokio::task::yield_now().await;
                    }
                },
                _ = look.tick() => {
                    for client in self.desk.over() {
                        self.delete(client).await;
                    }
                    prune(&mut *self.nonces.lock().await, tokio::time::Instant::now(), || self.desk.nonces());
                }
            }
        }
    }

    async fn take(&mut self, from: SocketAddr, datagram: &[u8]) {
        match self.gate.look(clock::now(), &self.desk, from, datagram) {
            Verdict::Drop => return,
            Verdict::Refuse(answer) => {
                let _ = self.socket.send_to(&answer, from).await;
                return;
            }
            Verdict::Pass(user) => self.current.set(user.map(|user| (from, user))),
        }
        let mut request = Request {
            conn: self.conn.clone(),
            src_addr: from,
            buff: datagram.to_vec(),
            allocation_manager: self.manager.clone(),
            nonces: self.nonces.clone(),
            auth_handler: self.desk.clone(),
            realm: REALM.to_owned(),
            channel_bind_timeout: CHANNEL_LIFE,
        };
        if let Err(error) = request.handle_request().await {
            tracing::trace!(%error, "a TURN request was not carried out");
        }
        self.current.set(None);
    }

    async fn delete(&self, client: SocketAddr) {
        let five_tuple = FiveTuple { protocol: PROTO_UDP, src_addr: client, dst_addr: self.local };
        self.manager.delete_allocation(&five_tuple).await;
    }
}
