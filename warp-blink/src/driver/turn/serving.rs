//! What is the same over both transports: one message of somebody, through the gate and to the server.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
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
    desk::{Desk, Transport, Tuple},
    gate::{Gate, Verdict, prune},
    relay::{Current, Sockets},
};
use crate::driver::clock;

/// Says nothing of whose it is: it goes over the network in clear.
const REALM: &str = "blink";

/// How long a channel stays without being asked for again (RFC 8656 section 12).
const CHANNEL_LIFE: Duration = Duration::from_secs(600);

/// What all of one server have in common.
pub(super) struct Shared {
    pub(super) desk: Arc<Desk>,
    gate: Mutex<Gate>,
    nonces: Arc<tokio::sync::Mutex<HashMap<String, Instant>>>,
}

impl Shared {
    pub(super) fn new(desk: Arc<Desk>) -> Self {
        Self { desk, gate: Mutex::new(Gate::new(clock::now())), nonces: Arc::default() }
    }

    pub(super) async fn prune(&self) {
        prune(&mut *self.nonces.lock().await, Instant::now(), || self.desk.nonces());
    }
}

/// One socket or stream, and the allocations of those who talk with the server through it. These end when it is dropped.
///
/// The server of the crate takes everything for UDP: that two clients of the same address over different transports are not one is because
/// no two of these have allocations in common.
pub(super) struct Serving {
    shared: Arc<Shared>,
    transport: Transport,
    conn: Arc<dyn Conn + Send + Sync>,
    local: SocketAddr,
    current: Arc<Current>,
    manager: Arc<Manager>,
}

impl Serving {
    /// Answers go out through `conn`, and what is relayed to clients.
    pub(super) fn new(
        shared: Arc<Shared>,
        transport: Transport,
        conn: Arc<dyn Conn + Send + Sync>,
        local: SocketAddr,
    ) -> Self {
        let current = Arc::new(Current::default());
        let sockets = Sockets { desk: shared.desk.clone(), current: current.clone() };
        let config = ManagerConfig { relay_addr_generator: Box::new(sockets), alloc_close_notify: None };
        Self { shared, transport, conn, local, current, manager: Arc::new(Manager::new(config)) }
    }

    pub(super) fn desk(&self) -> &Desk {
        &self.shared.desk
    }

    /// One at a time, so that it is known for whom the server asks.
    pub(super) async fn take(&mut self, from: SocketAddr, message: &[u8]) {
        let tuple = Tuple { transport: self.transport, address: from };
        let verdict = {
            let mut gate = self.shared.gate.lock().unwrap_or_else(PoisonError::into_inner);
            gate.look(clock::now(), &self.shared.desk, tuple, message)
        };
        match verdict {
            Verdict::Drop => return,
            Verdict::Refuse(answer) => {
                let _ = self.conn.send_to(&answer, from).await;
                return;
            }
            Verdict::Pass(user) => self.current.set(user.map(|user| (tuple, user))),
        }
        let mut request = Request {
            conn: self.conn.clone(),
            src_addr: from,
            buff: message.to_vec(),
            allocation_manager: self.manager.clone(),
            nonces: self.shared.nonces.clone(),
            auth_handler: self.shared.desk.clone(),
            realm: REALM.to_owned(),
            channel_bind_timeout: CHANNEL_LIFE,
        };
        if let Err(error) = request.handle_request().await {
            tracing::trace!(%error, "a TURN request was not carried out");
        }
        self.current.set(None);
    }

    pub(super) async fn delete(&self, client: SocketAddr) {
        // Of the crate, which knows no other protocol.
        let five_tuple = FiveTuple { protocol: PROTO_UDP, src_addr: client, dst_addr: self.local };
        self.manager.delete_allocation(&five_tuple).await;
    }
}
