//! The threads that carry packets between the devices, as [`Mesh`] says.

use std::{
    fs,
    process::{Command, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use tun_tap::Iface;

use crate::{
    Error,
    mesh::{Mesh, Prefix},
};

/// The longest IP packet; the devices have an MTU of 1500.
const LONGEST: usize = 65_536;

/// Carries packets until it is dropped.
#[derive(Debug)]
pub(crate) struct Router {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    began: Instant,
    state: Mutex<State>,
    /// Something entered, or the end has come.
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    mesh: Mesh,
    devices: Vec<Arc<Iface>>,
    over: bool,
}

impl Shared {
    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A test that panics while it holds the lock has failed already, and should end tidily.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Router {
    pub(crate) fn new(seed: u64) -> Result<Self, Error> {
        let state = State { mesh: Mesh::new(seed), devices: Vec::new(), over: false };
        let shared =
            Arc::new(Shared { began: Instant::now(), state: Mutex::new(state), changed: Condvar::new() });
        let courier = shared.clone();
        let start = thread::Builder::new().name("lab courier".into()).spawn(move || deliver(&courier));
        start.map_err(Error::io("a thread"))?;
        Ok(Self { shared })
    }

    /// One more host, with its number. Its packets are taken until the device is deleted.
    pub(crate) fn join(&self, device: Iface, prefixes: Vec<Prefix>) -> Result<usize, Error> {
        let device = Arc::new(device);
        let number = {
            let mut state = self.shared.lock();
            state.devices.push(device.clone());
            state.mesh.join(prefixes)
        };
        let shared = self.shared.clone();
        let start = thread::Builder::new()
            .name(format!("lab host {number}"))
            .spawn(move || take(&shared, number, &device));
        start.map_err(Error::io("a thread"))?;
        Ok(number)
    }

    /// Changes the links, now.
    pub(crate) fn with<T>(&self, change: impl FnOnce(&mut Mesh, Duration) -> T) -> T {
        let now = self.shared.now();
        change(&mut self.shared.lock().mesh, now)
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        self.shared.lock().over = true;
        self.shared.changed.notify_all();
    }
}

/// Takes the packets of one host, as they come.
fn take(shared: &Shared, host: usize, device: &Iface) {
    punctual();
    let mut packet = vec![0; LONGEST];
    // The device ends with its namespace; nothing else makes reading fail.
    while let Ok(length) = device.recv(&mut packet) {
        let mut state = shared.lock();
        if state.over {
            return;
        }
        let before = state.mesh.next();
        state.mesh.enter(shared.now(), host, &packet[..length]);
        if state.mesh.next() != before {
            shared.changed.notify_all();
        }
    }
}

/// Hands each packet over when its time has come.
fn deliver(shared: &Shared) {
    punctual();
    let mut state = shared.lock();
    while !state.over {
        if let Some((to, packet)) = state.mesh.leave(shared.now()) {
            let Some(device) = state.devices.get(to).cloned() else { continue };
            drop(state);
            // What a host cannot take is lost, as on any wire.
            let _ = device.send(&packet);
            state = shared.lock();
            continue;
        }
        state = match state.mesh.next() {
            None => shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            Some(next) => {
                let wait = next.saturating_sub(shared.now());
                shared.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0
            }
        };
    }
}

/// Lets this thread run before the programs that it carries packets for: a machine with two cores is busy with them, and a
/// late packet looks like a bad network. Where that is not permitted the lab is less punctual, and works.
fn punctual() {
    let Ok(path) = fs::read_link("/proc/thread-self") else { return };
    let Some(id) = path.file_name() else { return };
    let mut command = Command::new("chrt");
    command.args(["--rr", "--pid", "20"]).arg(id).stdout(Stdio::null()).stderr(Stdio::null());
    let _ = command.status();
}
