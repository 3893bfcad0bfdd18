//! Hosts: namespaces with a device and addresses, and what happens to them.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
    process,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, SystemTime},
};

use tempfile::TempDir;

use crate::{
    Conditions, Counters, Error,
    mesh::Prefix,
    namespace::{DEVICE, Namespace, PREFIX, sweep},
    nat::Nat,
    packet::Protocol,
    process::Process,
    router::Router,
    upnp,
};

/// What all addresses of IPv4 begin with. The networks that RFC 2544 and RFC 5180 set aside for measurements would be right, but
/// a relay passes nothing on to them, as to all that no host of the open network has. No packet leaves the namespaces.
const V4: [u8; 2] = [198, 20];
/// The same of IPv6.
const V6: [u16; 3] = [0x2a00, 2, 0];

/// Labs of this process.
static LABS: AtomicU32 = AtomicU32::new(0);

/// A world of hosts and links. Everything in it ends with it.
#[derive(Debug)]
pub struct Lab {
    router: Router,
    name: String,
    directory: TempDir,
}

impl Lab {
    /// A lab without hosts; all luck of its links comes from the seed. Removes what labs of dead processes have left.
    ///
    /// # Errors
    /// If this is not root, or the system refuses.
    pub fn new(seed: u64) -> Result<Self, Error> {
        if !rustix::process::geteuid().is_root() {
            return Err(Error::NotRoot);
        }
        sweep();
        let name = format!("{PREFIX}{}-{}", process::id(), LABS.fetch_add(1, Ordering::Relaxed));
        let keep = env::var_os("BLINK_LAB_KEEP").is_some();
        // What is kept has a name that no later lab removes.
        let prefix = if keep { format!("kept-{name}-") } else { format!("{name}-") };
        let mut directory =
            tempfile::Builder::new().prefix(&prefix).tempdir().map_err(Error::io("a directory"))?;
        if keep {
            directory.disable_cleanup(true);
            println!("kept: {}", directory.path().display());
        }
        Ok(Self { router: Router::new(seed)?, name, directory })
    }

    /// Where programs write. Removed with the lab, unless `BLINK_LAB_KEEP` is set, which keeps recordings and logs.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A new host with its first address of each family, and perfect links to all others.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn host(&self, name: &str) -> Result<Host, Error> {
        let namespace = Namespace::new(&format!("{}-{name}", self.name))?;
        self.attach(namespace)
    }

    /// A new host behind a router that translates its only address, which is of IPv4. The addresses of the [`Host`] are
    /// those of the router.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn host_behind(&self, nat: Nat, name: &str) -> Result<Host, Error> {
        let inside = Namespace::new(&format!("{}-{name}", self.name))?;
        let outside = Namespace::new(&format!("{}-{name}-nat", self.name))?;
        nat.set_up(&inside, &outside)?;
        let mut host = self.attach(outside)?;
        host.inside = Some(inside);
        if nat == Nat::OpensPorts {
            host.router = Some(upnp::start(&host.namespace, host.v4(1), self.directory())?);
        }
        Ok(host)
    }

    fn attach(&self, namespace: Namespace) -> Result<Host, Error> {
        let device = namespace.device()?;
        // A queue as long as that of an Ethernet device: what the router cannot take at once is not lost.
        namespace.ip(&[
            format!("link set {DEVICE} addrgenmode none"),
            format!("link set {DEVICE} mtu 1500 txqueuelen 1000 up"),
        ])?;
        // Numbers begin with 1, as those of addresses do; the router counts from 0.
        let next = self.router.with(|mesh, _| mesh.hosts()) + 1;
        let number = u8::try_from(next).map_err(|_| Error::Program("a lab has 255 hosts at most".into()))?;
        let prefixes =
            vec![Prefix::V4([V4[0], V4[1], number]), Prefix::V6([V6[0], V6[1], V6[2], u16::from(number)])];
        let index = self.router.join(device, prefixes)?;
        let mut host =
            Host { router: None, namespace, inside: None, number, index, addresses: BTreeSet::new() };
        host.add(1)?;
        Ok(host)
    }

    /// Other conditions from one host to another.
    pub fn one_way(&self, from: &Host, to: &Host, conditions: Conditions) {
        self.router.with(|mesh, _| mesh.change(from.index, to.index, conditions));
    }

    /// Other conditions between two hosts, the same both ways.
    pub fn link(&self, one: &Host, other: &Host, conditions: &Conditions) {
        self.one_way(one, other, conditions.clone());
        self.one_way(other, one, conditions.clone());
    }

    /// Nothing passes between two hosts for so long, from now on. Returns when that began.
    pub fn outage(&self, one: &Host, other: &Host, length: Duration) -> SystemTime {
        self.router.with(|mesh, now| {
            mesh.outage(one.index, other.index, now..now + length);
            mesh.outage(other.index, one.index, now..now + length);
            SystemTime::now()
        })
    }

    /// Lets no packets of this kind pass between two hosts, or lets them pass again.
    pub fn block(&self, one: &Host, other: &Host, protocol: Protocol, blocked: bool) {
        self.router.with(|mesh, _| {
            mesh.block(one.index, other.index, protocol, blocked);
            mesh.block(other.index, one.index, protocol, blocked);
        });
    }

    /// Puts an address out of reach, though its host keeps it and is told nothing; or back.
    pub fn reach(&self, address: IpAddr, reachable: bool) {
        self.router.with(|mesh, _| mesh.reach(address, reachable));
    }

    /// What has gone from one host to another so far.
    #[must_use]
    pub fn counters(&self, from: &Host, to: &Host) -> Counters {
        self.router.with(|mesh, _| mesh.counters(from.index, to.index))
    }

    /// Whom all packets so far said they were from and where they went, each with their number, whatever became of them.
    /// What stays in the private network of a router is not among them.
    #[must_use]
    pub fn seen(&self) -> BTreeMap<(IpAddr, IpAddr), u64> {
        self.router.with(|mesh, _| mesh.seen().clone())
    }
}

/// A machine in the lab. Its network ends when it is dropped.
#[derive(Debug)]
pub struct Host {
    /// What opens ports in the router, if something does. Ends before its network.
    router: Option<Process>,
    /// Where the device is.
    namespace: Namespace,
    /// Where programs run, if that is another one: behind a NAT.
    inside: Option<Namespace>,
    number: u8,
    index: usize,
    addresses: BTreeSet<IpAddr>,
}

impl Host {
    /// The k-th address of IPv4, whether the host has it now or not.
    #[must_use]
    pub fn v4(&self, k: u8) -> Ipv4Addr {
        Ipv4Addr::new(V4[0], V4[1], self.number, k)
    }

    /// The k-th address of IPv6.
    #[must_use]
    pub fn v6(&self, k: u8) -> Ipv6Addr {
        Ipv6Addr::new(V6[0], V6[1], V6[2], u16::from(self.number), 0, 0, 0, u16::from(k))
    }

    /// Whether an address is one that this host can have.
    #[must_use]
    pub fn may_have(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => address.octets()[..3] == self.v4(0).octets()[..3],
            IpAddr::V6(address) => address.segments()[..4] == self.v6(0).segments()[..4],
        }
    }

    /// Takes all addresses of IPv4 away.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn only_v6(&mut self) -> Result<(), Error> {
        let old: Vec<_> = self.addresses.iter().copied().filter(IpAddr::is_ipv4).collect();
        self.exchange(&old, &[])
    }

    /// The same with those of IPv6.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn only_v4(&mut self) -> Result<(), Error> {
        let old: Vec<_> = self.addresses.iter().copied().filter(IpAddr::is_ipv6).collect();
        self.exchange(&old, &[])
    }

    /// Gives the host its k-th addresses, one of each family, beside those that it has.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn add(&mut self, k: u8) -> Result<(), Error> {
        self.exchange(&[], &[self.v4(k).into(), self.v6(k).into()])
    }

    /// Takes the k-th addresses away.
    ///
    /// # Errors
    /// If the host does not have them.
    pub fn remove(&mut self, k: u8) -> Result<(), Error> {
        self.exchange(&[self.v4(k).into(), self.v6(k).into()], &[])
    }

    /// What a phone does between two networks: all old addresses are gone, and the k-th are there. Returns when.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn change(&mut self, k: u8) -> Result<SystemTime, Error> {
        let old: Vec<_> = self.addresses.iter().copied().collect();
        let when = SystemTime::now();
        self.exchange(&old, &[self.v4(k).into(), self.v6(k).into()])?;
        Ok(when)
    }

    /// The same with the addresses of IPv4 alone: what goes over IPv6 notices nothing.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn change_v4(&mut self, k: u8) -> Result<SystemTime, Error> {
        let old: Vec<_> = self.addresses.iter().copied().filter(IpAddr::is_ipv4).collect();
        let when = SystemTime::now();
        self.exchange(&old, &[self.v4(k).into()])?;
        Ok(when)
    }

    fn exchange(&mut self, old: &[IpAddr], new: &[IpAddr]) -> Result<(), Error> {
        let mut lines: Vec<_> = old.iter().map(|address| line("del", *address, "")).collect();
        // Nobody else can have it, so nobody waits until that is sure.
        lines.extend(
            new.iter().map(|address| line("add", *address, if address.is_ipv6() { " nodad" } else { "" })),
        );
        if !new.is_empty() {
            // The last address of a device takes its routes along.
            lines.extend(["default", "::/0"].map(|to| format!("route replace {to} dev {DEVICE}")));
        }
        self.namespace.ip(&lines)?;
        self.addresses.retain(|address| !old.contains(address));
        self.addresses.extend(new);
        Ok(())
    }

    /// The namespace in which programs of this host run.
    pub(crate) fn programs(&self) -> &Namespace {
        self.inside.as_ref().unwrap_or(&self.namespace)
    }

    /// Has the programs that are started from now on ask this server for names.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn resolves_at(&self, server: IpAddr) -> Result<(), Error> {
        self.programs().resolves_at(server)
    }

    /// Starts a program on this host. Its standard error goes to a file.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn spawn(&self, program: &Path, arguments: &[String], log: &Path) -> Result<Process, Error> {
        Process::spawn(self.programs(), program, arguments, log)
    }

    /// Runs a closure in a thread whose sockets, and those of all threads that it starts, are of this host.
    ///
    /// # Errors
    /// If the namespace cannot be entered.
    pub fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<thread::JoinHandle<Result<T, Error>>, Error> {
        self.programs().run(work)
    }
}

fn line(what: &str, address: IpAddr, more: &str) -> String {
    let length = if address.is_ipv4() { 32 } else { 128 };
    format!("addr {what} {address}/{length} dev {DEVICE}{more}")
}
