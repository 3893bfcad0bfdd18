//! A wire for TCP on loopback: it counts what passes, and can be cut.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

/// Who connects to it is connected to whom it leads. Connections that are open when it is dropped stay until either end
/// closes them.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    wire: Arc<Wire>,
}

#[derive(Debug)]
struct Wire {
    to: Mutex<SocketAddr>,
    cut: Mutex<bool>,
    healed: Condvar,
    over: AtomicBool,
    /// There, and back.
    passed: [Tally; 2],
}

#[derive(Debug, Default)]
struct Tally {
    bytes: AtomicU64,
    pieces: AtomicU64,
}

/// What has passed in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// Bytes.
    pub bytes: u64,
    /// How often something came: what was written at once counts once, unless the machine was busy.
    pub pieces: u64,
}

impl Proxy {
    /// One that leads there.
    ///
    /// # Errors
    /// If the system gives no port or no thread.
    pub fn new(to: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let (to, cut, healed, over) = (Mutex::new(to), Mutex::new(false), Condvar::new(), false.into());
        let wire = Arc::new(Wire { to, cut, healed, over, passed: Default::default() });
        let own = wire.clone();
        thread::Builder::new().name("proxy".into()).spawn(move || own.listen(&listener))?;
        Ok(Self { port, wire })
    }

    /// Where to connect to.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Leads there from the next connection on.
    pub fn lead(&self, to: SocketAddr) {
        *self.wire.to.lock().unwrap_or_else(PoisonError::into_inner) = to;
    }

    /// Lets nothing pass, or lets what has waited pass, as TCP does once the network is back.
    pub fn cut(&self, cut: bool) {
        *self.wire.cut.lock().unwrap_or_else(PoisonError::into_inner) = cut;
        self.wire.healed.notify_all();
    }

    /// How many bytes have passed so far, in both directions together.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.passed().iter().map(|passed| passed.bytes).sum()
    }

    /// What has passed so far to whom it leads, and back.
    #[must_use]
    pub fn passed(&self) -> [Passed; 2] {
        let read = |of: &AtomicU64| of.load(Ordering::Relaxed);
        self.wire.passed.each_ref().map(|of| Passed { bytes: read(&of.bytes), pieces: read(&of.pieces) })
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.wire.over.store(true, Ordering::Relaxed);
        // Whoever listens wakes up and sees it; nobody listens any more if that fails.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

impl Wire {
    fn listen(self: &Arc<Self>, listener: &TcpListener) {
        for from in listener.incoming() {
            if self.over.load(Ordering::Relaxed) {
                return;
            }
            let to = *self.to.lock().unwrap_or_else(PoisonError::into_inner);
            // Who cannot be connected sees the connection close, as at a router.
            if let (Ok(from), Ok(to)) = (from, TcpStream::connect(to)) {
                let _ = self.join(from, to);
            }
        }
    }

    fn join(self: &Arc<Self>, from: TcpStream, to: TcpStream) -> io::Result<()> {
        for stream in [&from, &to] {
            stream.set_nodelay(true)?;
        }
        let (back, forth) = ((to.try_clone()?, from.try_clone()?), (from, to));
        for (direction, (from, to)) in [forth, back].into_iter().enumerate() {
            let wire = self.clone();
            let carry = move || wire.carry(from, to, &wire.passed[direction]);
            thread::Builder::new().name("proxy wire".into()).spawn(carry)?;
        }
        Ok(())
    }

    fn carry(&self, mut from: TcpStream, mut to: TcpStream, passed: &Tally) {
        let mut buffer = [0; 16 * 1024];
        while let Ok(read) = from.read(&mut buffer)
            && read > 0
        {
            let cut = self.cut.lock().unwrap_or_else(PoisonError::into_inner);
            drop(self.healed.wait_while(cut, |cut| *cut));
            passed.bytes.fetch_add(read as u64, Ordering::Relaxed);
            passed.pieces.fetch_add(1, Ordering::Relaxed);
            if to.write_all(&buffer[..read]).is_err() {
                break;
            }
        }
        // The other direction ends with this one; either may have ended already.
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn it_carries_counts_holds_back_while_it_is_cut_and_closes_both_ends() {
        let there = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let proxy = Proxy::new(there.local_addr().unwrap()).unwrap();
        let mut here = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).unwrap();
        let (mut other, _) = there.accept().unwrap();
        let mut buffer = [0; 4];
        here.write_all(b"ping").unwrap();
        other.read_exact(&mut buffer).unwrap();
        other.write_all(b"pong").unwrap();
        here.read_exact(&mut buffer).unwrap();
        assert_eq!((&buffer, proxy.bytes()), (b"pong", 8));
        here.write_all(b"and").unwrap();
        other.read_exact(&mut buffer[..3]).unwrap();
        assert_eq!(proxy.passed(), [Passed { bytes: 7, pieces: 2 }, Passed { bytes: 4, pieces: 1 }]);

        proxy.cut(true);
        here.write_all(b"held").unwrap();
        other.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        assert!(other.read_exact(&mut buffer).is_err(), "it is cut");
        proxy.cut(false);
        other.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        other.read_exact(&mut buffer).unwrap();
        assert_eq!(&buffer, b"held");

        drop(here);
        assert_eq!(other.read(&mut buffer).unwrap(), 0, "the end of one is the end of the other");
    }
}
