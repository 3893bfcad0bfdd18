//! The house rules that no compiler checks, read from the sources and from `cargo metadata`.
//!
//! Each rule is a function over text that returns what it found, one line per finding with the way out, so that each
//! is also tested on a text that breaks it. This file runs them over the real tree.

mod manifests;
mod sources;
mod syntax;

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
};

use serde_json::Value;

/// The folder of the workspace.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the tests crate lies in the workspace")
        .to_path_buf()
}

/// The standard output of a command in the workspace, or what went wrong.
fn output(program: &str, arguments: &[&str]) -> Result<String, String> {
    let shown = format!("{program} {}", arguments.join(" "));
    let run = Command::new(program).args(arguments).current_dir(root()).output();
    let run = run.map_err(|error| format!("cannot run `{shown}`: {error}"))?;
    if !run.status.success() {
        return Err(format!("`{shown}`: {}", String::from_utf8_lossy(&run.stderr)));
    }
    String::from_utf8(run.stdout).map_err(|error| format!("`{shown}`: {error}"))
}

/// What `cargo metadata` says of this machine's part of the dependency tree. Without `--filter-platform` it would ask
/// for the sources of every platform's crates, which a build has not downloaded.
static METADATA: LazyLock<Value> = LazyLock::new(|| {
    let cargo = env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let version = output("rustc", &["-vV"]).expect("rustc tells its version");
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc names its host");
    let arguments =
        ["metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform", host.trim()];
    let text = output(&cargo, &arguments).expect("cargo metadata works after a build");
    serde_json::from_str(&text).expect("cargo writes JSON")
});

/// Every text file that is tracked or about to be, as path relative to the workspace and content. Outside a git
/// checkout (an unpacked archive): every text file but those of the build.
static TEXTS: LazyLock<Vec<(String, String)>> = LazyLock::new(|| {
    // The command-line setting: a checkout that belongs to another user is still this checkout.
    let git = ["-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let names: BTreeSet<String> = match output("git", &git) {
        Ok(list) => list.split('\0').filter(|name| !name.is_empty()).map(str::to_owned).collect(),
        Err(_) => walk(&root(), ""),
    };
    let mut found = Vec::new();
    for name in names {
        // A file may be gone again, or hold sound: neither is text.
        if let Ok(content) = fs::read_to_string(root().join(&name)) {
            found.push((name, content));
        }
    }
    found
});

fn walk(folder: &Path, prefix: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && !["target", "demo", ".git"].contains(&name.as_str()) => {
                found.extend(walk(&entry.path(), &format!("{name}/")));
            }
            Ok(kind) if kind.is_file() => drop(found.insert(name)),
            _ => {}
        }
    }
    found
}

fn rust_sources() -> Vec<(String, String)> {
    let found: Vec<_> = TEXTS.iter().filter(|(name, _)| name.ends_with(".rs")).cloned().collect();
    assert!(
        found.iter().any(|(name, _)| name == "warp-blink/src/lib.rs"),
        "the sources are not where this looks"
    );
    found
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| format!("{name}: {error}"))
}

fn none(findings: Vec<String>) {
    assert!(findings.is_empty(), "{} finding(s)\n{}", findings.len(), findings.join("\n"));
}

/// Runs a rule that looks at one file at a time over all Rust sources.
fn each_source(rule: impl Fn(&str, &str) -> Vec<String>) {
    none(rust_sources().iter().flat_map(|(name, text)| rule(name, text)).collect());
}

#[test]
fn every_dependency_builds_with_the_stated_rust_version() {
    none(manifests::rust_versions(&METADATA));
}

#[test]
fn crates_depend_only_downwards_and_the_core_stands_alone() {
    none(manifests::tables(&METADATA));
}

#[test]
fn the_tree_holds_one_copy_of_each_stack_and_no_other_tls() {
    none(manifests::copies(&METADATA));
}

#[test]
fn every_crate_inherits_the_lints_of_the_workspace() {
    let manifests: Vec<_> = TEXTS.iter().filter(|(name, _)| name.ends_with("/Cargo.toml")).collect();
    assert!(manifests.len() >= 5, "five crates at least: {}", manifests.len());
    none(manifests.into_iter().flat_map(|(name, text)| manifests::lints(name, text)).collect());
}

#[test]
fn the_build_of_the_tests_carries_no_debug_information() {
    none(manifests::debug_information("Cargo.toml", &read("Cargo.toml")));
}

#[test]
fn the_pure_rooms_name_no_clock_no_network_and_no_room_above() {
    each_source(sources::pure_rooms);
}

#[test]
fn each_foreign_library_is_named_in_its_one_place() {
    none(sources::places(&rust_sources()));
}

#[test]
fn there_is_no_unsafe_code() {
    each_source(sources::unsafe_code);
}

#[test]
fn no_file_is_longer_than_a_reader_can_hold() {
    none(TEXTS.iter().flat_map(|(name, text)| sources::length(name, text)).collect());
}

#[test]
fn nothing_names_one_persons_machine() {
    none(TEXTS.iter().flat_map(|(name, text)| sources::machine(name, text)).collect());
}

#[test]
fn every_make_target_is_documented_and_every_documented_one_exists() {
    let targets = manifests::make_targets(&read("Makefile"));
    for wanted in ["demo", "test", "lint", "help", "setup", "fmt", "doc", "clean-demo"] {
        assert!(targets.contains_key(wanted), "the Makefile has no target {wanted}");
    }
    let undocumented = targets.iter().filter(|(_, has_text)| !**has_text);
    none(
        undocumented
            .map(|(name, _)| format!("Makefile: `{name}` has no `## text`, so help hides it"))
            .collect(),
    );
    none(TEXTS.iter().flat_map(|(name, text)| manifests::make_mentions(name, text, &targets)).collect());
}

#[test]
fn every_make_target_is_checked_or_is_no_check() {
    let targets = manifests::make_targets(&read("Makefile"));
    none(manifests::all_checked(&read("scripts/check-all.sh"), &targets));
}
