//! `blink demo`: that it makes its call and its report, says so when it cannot, and leaves nothing running.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::channel,
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

/// Exit code, standard output and standard error.
fn end(mut demo: Demo) -> (Option<i32>, String, String) {
    let (mut out, mut err) = (String::new(), String::new());
    demo.0.stdout.take().unwrap().read_to_string(&mut out).unwrap();
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
    let mut demo = demo(folder.path(), &[]);
    let (sender, lines) = channel();
    let out = demo.0.stdout.take().unwrap();
    thread::spawn(move || {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            // The test may be over.
            let _ = sender.send(line);
        }
    });
    loop {
        let line = lines.recv_timeout(Duration::from_secs(60)).unwrap();
        if line.contains("hears the first sound") {
            break;
        }
    }
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

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let (code, _, errors) = end(demo(&file, &[]));
    assert_eq!(code, Some(2));
    assert!(errors.contains("file") && errors.lines().count() == 1, "{errors}");
}
