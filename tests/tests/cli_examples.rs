//! The one-file examples: short, runnable as they say, and those that need no network run here.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// More than this is nothing that one copies.
const MOST_LINES: usize = 80;

fn examples() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/examples");
    let files = fs::read_dir(folder).expect("the examples are there");
    let files = files.map(|file| file.expect("the folder can be read").path());
    let read = |path: PathBuf| {
        let name = path.file_stem().and_then(|stem| stem.to_str()).expect("a name in UTF-8").to_owned();
        (name, fs::read_to_string(&path).expect("an example is text"))
    };
    files.map(read).collect()
}

#[test]
fn examples_are_short_and_say_how_to_run_them() {
    let mut names: Vec<String> = Vec::new();
    for (name, text) in examples() {
        assert!(text.lines().count() < MOST_LINES, "{name} has {} lines", text.lines().count());
        let command = format!("//! cargo run -p blink-examples --example {name}");
        assert!(text.contains(&command), "{name} does not say `{command}`");
        names.push(name);
    }
    names.sort();
    assert_eq!(
        names,
        ["answerer", "caller", "chat", "echo_bot", "embed", "group", "in_memory", "sound_check"]
    );
}

/// Runs an example that needs nothing, and gives what it prints.
fn run(name: &str) -> String {
    let test = env::current_exe().expect("a test knows where it is");
    let folder = test.parent().and_then(Path::parent).expect("tests lie in target/PROFILE/deps");
    let path = folder.join("examples").join(format!("{name}{}", env::consts::EXE_SUFFIX));
    assert!(path.exists(), "{} is missing: cargo build -p blink-examples --examples", path.display());
    let run = Command::new(path).output().expect("it can be run");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    String::from_utf8_lossy(&run.stdout).into_owned()
}

#[test]
fn the_calls_in_memory_take_place() {
    assert_eq!(run("in_memory"), "a whole call in memory\n");
    let chat = "Bob reads: Some(\"Can you hear me?\")\nAlice reads: Some(\"Loud and clear.\")\n";
    assert_eq!(run("chat"), chat);
    assert_eq!(run("group"), "a whole group call in memory\n");
}
