//! `blink demo`: that it makes its call and its report, says so when it cannot, and leaves nothing running.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

use blink_tests::e2e::{command, one_at_a_time};
use serde_json::Value;

/// Ends the demo with the test. Its own children end with it.
struct Demo(Child);

impl Drop for Demo {
    fn drop(&mut self) {
        // Either fails only if it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn demo(folder: &Path, more: &[&str]) -> Demo {
    let mut command = Command::new(command());
    command.arg("demo").arg("--out").arg(folder).args(more);
    Demo(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
}

/// A demo whose call has come to the first sound, and the rest of its standard output.
fn started(folder: &Path) -> (Demo, Receiver<String>) {
    let mut demo = demo(folder, &[]);
    let (sender, lines) = channel();
    let out = demo.0.stdout.take().unwrap();
    thread::spawn(move || {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            // The test may be over.
            let _ = sender.send(line);
        }
    });
    while !lines.recv_timeout(Duration::from_secs(60)).unwrap().contains("hears the first sound") {}
    (demo, lines)
}

/// Exit code, and what is left of standard output and standard error.
fn end(mut demo: Demo) -> (Option<i32>, String, String) {
    let (mut out, mut err) = (String::new(), String::new());
    if let Some(mut pipe) = demo.0.stdout.take() {
        pipe.read_to_string(&mut out).unwrap();
    }
    demo.0.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    (demo.0.wait().unwrap().code(), out, err)
}

#[test]
fn the_demo_makes_a_call_and_a_report() {
    let _alone = one_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("new/folder");
    let (code, text, errors) = end(demo(&out, &["--seconds", "4"]));
    assert_eq!(code, Some(0), "{text}{errors}");
    // What happens is told while it happens, and the figures at the end.
    for wanted in
        ["calls Bob", "is connected over WebRTC", "hears the first sound", "Mouth to ear", "report.html"]
    {
        assert!(text.contains(wanted), "{wanted}:\n{text}");
    }
    assert!(!text.contains('\x1b'), "colours are for terminals");
    let page = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(page.contains("The call worked"));
    // The page needs nothing but the sound files beside it.
    for name in page.split("src=\"").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert!(name.starts_with("data:image/png;base64,") || out.join(name).is_file(), "{name}");
    }
    for name in ["alice-said", "alice-heard", "bob-said", "bob-heard"] {
        assert!(fs::metadata(out.join(format!("{name}.wav"))).unwrap().len() > 100_000, "{name}");
    }
}

#[test]
fn an_interrupted_demo_leaves_nothing_running() {
    let _alone = one_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    let (mut demo, _lines) = started(folder.path());
    // To the demo alone: a terminal would tell its children too.
    let interrupt = format!("kill -INT {}", demo.0.id());
    assert!(Command::new("sh").args(["-c", &interrupt]).status().unwrap().success());
    let code = demo.0.wait().unwrap().code();
    assert_eq!(code, Some(1), "interrupted");
    assert!(!folder.path().join("report.html").exists());
    for name in ["alice", "bob"] {
        let events = fs::read_to_string(folder.path().join(format!("{name}.jsonl"))).unwrap();
        let lines: Vec<Value> = events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(lines.iter().any(|line| line["event"] == "ended"), "{name} hung up: {events}");
        // Nobody listens where its node did.
        let address = lines[0]["addresses"][0].as_str().unwrap();
        let port: u16 = address.split('/').nth(4).unwrap().parse().unwrap();
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "{name}'s node still listens");
    }
}

/// The process that this one started with this argument, as Linux tells it.
#[cfg(target_os = "linux")]
fn child_of(parent: u32, argument: &str) -> u32 {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let read = |id: &u32, file: &str| fs::read_to_string(format!("/proc/{id}/{file}")).unwrap_or_default();
    let wanted = |id: &u32| {
        // "PID (NAME) STATE PPID ...", where the name may hold anything.
        let stat = read(id, "stat");
        let of = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok());
        of == Some(parent) && read(id, "cmdline").split('\0').any(|a| a == argument)
    };
    ids.into_iter().find(wanted).unwrap()
}

#[cfg(target_os = "linux")]
#[test]
fn a_process_that_dies_ends_the_demo_with_a_report() {
    let _alone = one_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    let (demo, lines) = started(folder.path());
    // The caller, which the callee would wait for a minute for.
    let kill = format!("kill -KILL {}", child_of(demo.0.id(), "call"));
    assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    let text: Vec<String> = lines.iter().collect();
    let (code, _, errors) = end(demo);
    assert_eq!(code, Some(6), "{text:#?}{errors}");
    assert!(text.iter().any(|line| line.contains("Alice's process ended too early")), "{text:#?}");
    assert!(text.iter().any(|line| line.contains("alice.log")), "{text:#?}");
    let page = fs::read_to_string(folder.path().join("report.html")).unwrap();
    assert!(page.contains("The call did not work") && page.contains("ended too early"));
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let (code, _, errors) = end(demo(&file, &[]));
    assert_eq!(code, Some(2));
    assert!(errors.contains("file") && errors.lines().count() == 1, "{errors}");
}
