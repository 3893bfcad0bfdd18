//! Network namespaces, the devices in them, and the commands of the system that make both.

use std::{
    env,
    fs::{self, File},
    io::{self, Write as _},
    net::IpAddr,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tun_tap::{Iface, Mode};

use crate::Error;

/// What all our namespaces begin with, so that a later run knows those that a killed one has left.
pub(crate) const PREFIX: &str = "blink-lab-";
/// The device that leads to the router.
pub(crate) const DEVICE: &str = "em0";

/// What is in the directory of a namespace below this one is seen by programs in it in place of what is in `/etc` (ip-netns(8)).
const FILES: &str = "/etc/netns";

/// A network stack of its own, until it is dropped.
#[derive(Debug)]
pub(crate) struct Namespace {
    name: String,
}

impl Namespace {
    pub(crate) fn new(name: &str) -> Result<Self, Error> {
        command("ip", &["netns", "add", name], "")?;
        let namespace = Self { name: name.into() };
        namespace.ip(&["link set lo up".into()])?;
        Ok(namespace)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.name)
    }

    /// Carries out lines of `ip` in one process, so that there is no time between them.
    pub(crate) fn ip(&self, lines: &[String]) -> Result<(), Error> {
        command("ip", &["-netns", &self.name, "-batch", "-"], &lines.join("\n"))
    }

    /// Runs a program in here to its end.
    pub(crate) fn exec(&self, program: &str, arguments: &[&str], input: &str) -> Result<(), Error> {
        command("ip", &[&["netns", "exec", &self.name, program], arguments].concat(), input)
    }

    /// See [`crate::Host::run`].
    pub(crate) fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<thread::JoinHandle<Result<T, Error>>, Error> {
        let path = self.path();
        let inside = move || {
            let what = path.display().to_string();
            let file = File::open(&path).map_err(Error::io(&what))?;
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                .map_err(|error| Error::io(&what)(error.into()))?;
            Ok(work())
        };
        thread::Builder::new().name(self.name.clone()).spawn(inside).map_err(Error::io("a thread"))
    }

    /// Lets the programs in here ask this server for names.
    pub(crate) fn resolves_at(&self, server: IpAddr) -> Result<(), Error> {
        let directory = Path::new(FILES).join(&self.name);
        let what = directory.display().to_string();
        fs::create_dir_all(&directory).map_err(Error::io(&what))?;
        fs::write(directory.join("resolv.conf"), format!("nameserver {server}\n")).map_err(Error::io(&what))
    }

    /// The device to the router, which lives as long as the namespace.
    pub(crate) fn device(&self) -> Result<Iface, Error> {
        let open = self.run(|| Iface::without_packet_info(DEVICE, Mode::Tun))?;
        let opened =
            open.join().map_err(|_| Error::Program("the thread that opens a device has failed".into()))?;
        opened?.map_err(Error::io("a TUN device"))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // An open device keeps its namespace alive, so it goes first; some have none.
        let _ = command("ip", &["-netns", &self.name, "link", "del", DEVICE], "");
        let _ = command("ip", &["netns", "del", &self.name], "");
        // Most have none.
        let _ = fs::remove_dir_all(Path::new(FILES).join(&self.name));
    }
}

/// Removes the namespaces and directories of processes that are gone. Their programs have ended with them (see `process`).
pub(crate) fn sweep() {
    for name in left(Path::new("/run/netns")) {
        drop(Namespace { name });
    }
    let temporary = env::temp_dir();
    for name in left(&temporary) {
        let _ = fs::remove_dir_all(temporary.join(name));
    }
}

/// What is in a directory with the name of a lab whose process is gone.
fn left(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let gone = |owner: u32| !Path::new("/proc").join(owner.to_string()).exists();
    names.filter(|name| owner(name).is_some_and(gone)).collect()
}

/// The process that made a namespace, if it is one of ours.
fn owner(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.split('-').next()?.parse().ok()
}

/// Runs a command to its end, with this on its standard input.
pub(crate) fn command(program: &str, arguments: &[&str], input: &str) -> Result<(), Error> {
    let shown = || format!("{program} {}", arguments.join(" "));
    let failed = |cause: String| Error::Command { command: shown(), cause };
    let done = run(program, arguments, input).map_err(|error| failed(error.to_string()))?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr).trim().to_owned();
    Err(failed(if input.is_empty() { said } else { format!("{said} (given: {input})") }))
}

fn run(program: &str, arguments: &[&str], input: &str) -> io::Result<Output> {
    let mut process = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut to) = process.stdin.take() {
        // Who does not read it says so by its exit code.
        let _ = to.write_all(input.as_bytes());
    }
    process.wait_with_output()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_namespaces_of_ours_have_an_owner() {
        assert_eq!(owner("blink-lab-4711-0-a"), Some(4711));
        assert_eq!(owner("blink-lab-x"), None);
        assert_eq!(owner("other-4711-0-a"), None);
    }

    #[test]
    fn a_command_that_fails_says_what_it_was() {
        let error = command("ls", &["/nowhere/at/all"], "").expect_err("there is no such folder");
        let text = error.to_string();
        assert!(text.starts_with("`ls /nowhere/at/all`: ") && text.contains("No such file"), "{text}");
    }
}
