//! Rules over `cargo metadata`, the manifests and the Makefile.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// The crates of the workspace, the crates of the workspace that each may use, and the foreign ones that it may not.
const MAY_USE: &[(&str, &[&str], &[&str])] = &[
    ("host-media", &[], &["tokio", "webrtc", "rtc", "rust-ipfs", "libp2p-gossipsub"]),
    ("simple-webrtc", &[], &["cpal", "opus", "opusic-sys", "rubato", "rust-ipfs", "libp2p-gossipsub"]),
    (
        "warp-blink",
        &["host-media", "simple-webrtc"],
        &["webrtc", "rtc", "cpal", "opus", "opusic-sys", "rubato"],
    ),
    ("blink-examples", &["warp-blink"], &["webrtc", "rtc", "cpal", "opus", "opusic-sys"]),
    (
        "blink-sim",
        &["warp-blink"],
        &["tokio", "webrtc", "rtc", "cpal", "opus", "opusic-sys", "rust-ipfs", "libp2p", "libp2p-gossipsub"],
    ),
    // The lab knows programs, not crates; simple-webrtc is for what the `blink` command cannot be told.
    ("blink-lab", &["simple-webrtc"], &["webrtc", "rtc", "cpal", "opus", "rust-ipfs", "libp2p"]),
    (
        "blink-tests",
        // Of the lab, how processor time is read.
        &["warp-blink", "blink-examples", "host-media", "simple-webrtc", "blink-lab"],
        &["webrtc", "rtc", "cpal", "opus"],
    ),
];

/// What may be in a crate only behind a feature: without features, the first is the pure core and the second needs no
/// sound system.
const OPTIONAL: &[(&str, &[&str])] = &[
    (
        "warp-blink",
        &[
            "host-media",
            "simple-webrtc",
            "rust-ipfs",
            "libp2p",
            "libp2p-autonat",
            "libp2p-dcutr",
            "libp2p-gossipsub",
            "libp2p-kad",
            "libp2p-mdns",
            "libp2p-relay",
            "libp2p-ping",
            "libp2p-upnp",
            "hickory-resolver",
            "tokio",
            "tokio-util",
            "tokio-stream",
            "futures",
            "async-trait",
            "getrandom",
            "rand",
            "rustix",
            "socket2",
            "turn",
            "webrtc-util",
        ],
    ),
    ("host-media", &["cpal"]),
];

/// Two copies of one of these do not understand each other, or build for minutes twice. (snow is not among them: the
/// Noise of libp2p keeps an older one to itself.)
const ONE_COPY: &[&str] = &[
    "libp2p",
    "libp2p-core",
    "libp2p-swarm",
    "libp2p-gossipsub",
    "libp2p-kad",
    "libp2p-mdns",
    "libp2p-relay",
    "rust-ipfs",
    "connexa",
    "webrtc",
    "rtc",
    "tokio",
    "cpal",
    "opusic-sys",
    "rubato",
    "x25519-dalek",
    "curve25519-dalek",
    "ed25519-dalek",
    "rustls",
    "ring",
];

/// Other TLS and crypto libraries, which would come with system packages of their own.
const NEVER: &[&str] =
    &["openssl", "openssl-sys", "native-tls", "aws-lc-rs", "aws-lc-sys", "aws-lc-fips-sys"];

fn items<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value[key].as_array().into_iter().flatten()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// The packages of the workspace itself.
fn members(metadata: &Value) -> Vec<&Value> {
    let ids: BTreeSet<&str> = items(metadata, "workspace_members").filter_map(Value::as_str).collect();
    items(metadata, "packages").filter(|package| ids.contains(text(package, "id"))).collect()
}

/// `1.93` and `1.93.0` are the same. `None`: not a version.
fn version(written: &str) -> Option<[u32; 3]> {
    let mut out = [0; 3];
    let mut parts = written.split('.');
    for (slot, part) in out.iter_mut().zip(&mut parts) {
        *slot = part.parse().ok()?;
    }
    parts.next().is_none().then_some(out)
}

/// The whole tree builds with the Rust version that the workspace promises, and each crate of it promises the same.
pub(crate) fn rust_versions(metadata: &Value) -> Vec<String> {
    let promised: BTreeSet<_> = members(metadata).iter().map(|member| text(member, "rust_version")).collect();
    let promise = match promised.iter().collect::<Vec<_>>()[..] {
        [one] => version(one),
        _ => None,
    };
    let Some(promise) = promise else {
        return vec![format!(
            "the crates of the workspace promise different Rust versions, or none: {promised:?}"
        )];
    };
    let mut found = Vec::new();
    for package in items(metadata, "packages") {
        // A crate that states nothing promises nothing: only a build with that version could tell.
        let Some(written) = package["rust_version"].as_str() else { continue };
        if version(written).is_none_or(|needed| needed > promise) {
            let (name, at) = (text(package, "name"), text(package, "version"));
            found.push(format!(
                "{name} {at} needs Rust {written}: raise rust-version in Cargo.toml, or use an older {name}"
            ));
        }
    }
    found
}

/// The dependency tables say who may know whom, and what is optional.
pub(crate) fn tables(metadata: &Value) -> Vec<String> {
    let members = members(metadata);
    let own: BTreeSet<&str> = members.iter().map(|member| text(member, "name")).collect();
    let mut found = Vec::new();
    for (name, ..) in MAY_USE {
        if !own.contains(name) {
            found.push(format!("the workspace has no crate {name}: this rule would watch nothing"));
        }
    }
    for member in members {
        let name = text(member, "name");
        let rule = MAY_USE.iter().find(|(rule, ..)| *rule == name);
        for dependency in items(member, "dependencies") {
            let on = text(dependency, "name");
            let test_only = text(dependency, "kind") == "dev";
            if let Some((_, allowed, never)) = rule
                && (own.contains(on) && !allowed.contains(&on) || never.contains(&on))
            {
                found.push(format!(
                    "{name} must not depend on {on}: examples, tests -> warp-blink -> the media crates"
                ));
            }
            let must = OPTIONAL.iter().any(|(of, list)| *of == name && list.contains(&on));
            if must && !test_only && dependency["optional"] != true {
                found.push(format!(
                    "{name} must have {on} as an optional dependency: it builds without its features"
                ));
            }
        }
    }
    found
}

/// One copy of each stack, and none of the libraries that we do without.
pub(crate) fn copies(metadata: &Value) -> Vec<String> {
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in items(metadata, "packages") {
        versions.entry(text(package, "name")).or_default().insert(text(package, "version"));
    }
    let mut found = Vec::new();
    for (name, of) in &versions {
        if ONE_COPY.contains(name) && of.len() > 1 {
            found.push(format!("{name} is there in versions {of:?}: one must do"));
        }
        if NEVER.contains(name) {
            found.push(format!(
                "{name} is in the tree: TLS is rustls with ring; turn off the feature that brings it"
            ));
        }
    }
    found
}

/// Each setting of a manifest with the section it stands in, without spaces and comments.
fn settings(manifest: &str) -> impl Iterator<Item = (&str, String)> {
    let mut section = "";
    manifest.lines().map(str::trim).map(move |line| {
        if line.starts_with('[') {
            section = line;
        }
        (section, line.split('#').next().unwrap_or_default().split_whitespace().collect())
    })
}

/// A manifest without `[lints] workspace = true` is a crate without lints.
pub(crate) fn lints(file: &str, manifest: &str) -> Vec<String> {
    let inherits = |(section, setting): (&str, String)| {
        section == "[lints]" && setting == "workspace=true"
            || section.is_empty() && setting == "lints.workspace=true"
    };
    if settings(manifest).any(inherits) {
        return Vec::new();
    }
    vec![format!("{file}: add `[lints]` with `workspace = true`")]
}

/// Debug information of the kind that cargo writes unless told otherwise fills a disk: see docs/traps.md.
pub(crate) fn debug_information(file: &str, manifest: &str) -> Vec<String> {
    if settings(manifest).any(|set| set == ("[profile.dev]", "debug=false".to_owned())) {
        return Vec::new();
    }
    vec![format!("{file}: `[profile.dev]` needs `debug = false`, or each test program takes 300 MB")]
}

/// The targets of a Makefile, and whether each has the `## text` that `make help` shows.
pub(crate) fn make_targets(makefile: &str) -> BTreeMap<String, bool> {
    let mut found = BTreeMap::new();
    for line in makefile.lines() {
        let Some((name, rest)) = line.split_once(':') else { continue };
        if !name.is_empty()
            && !rest.starts_with('=')
            && name.chars().all(|c| c.is_ascii_lowercase() || c == '-')
        {
            found.insert(name.to_owned(), rest.contains("## "));
        }
    }
    found
}

/// The names in an array of a script of the shell, each entry up to one of these characters.
fn array(script: &str, name: &str, end: &[char]) -> Vec<String> {
    let begin = format!("{name}=(");
    let entries = script.lines().skip_while(|line| *line != begin).skip(1).take_while(|line| *line != ")");
    let entries = entries.map(|line| line.trim().trim_start_matches('"'));
    entries.map(|entry| entry.split(end).next().unwrap_or_default().to_owned()).collect()
}

/// Every target is checked by scripts/check-all.sh, or stands there with the reason why not.
pub(crate) fn all_checked(script: &str, targets: &BTreeMap<String, bool>) -> Vec<String> {
    let mut named = array(script, "CHECKS", &['|']);
    named.extend(array(script, "NOT_HERE", &[':']));
    let missing = targets.keys().filter(|target| !named.contains(target));
    let mut found: Vec<String> = missing
        .map(|target| format!("scripts/check-all.sh: `{target}` is neither in CHECKS nor in NOT_HERE"))
        .collect();
    let unknown = named.iter().filter(|name| !targets.contains_key(*name));
    found.extend(unknown.map(|name| format!("scripts/check-all.sh: the Makefile has no target `{name}`")));
    found
}

/// `make something` as a reader would type it: in backticks, or as a command of a script or of a fenced block.
pub(crate) fn make_mentions(file: &str, text: &str, targets: &BTreeMap<String, bool>) -> Vec<String> {
    let document = file.ends_with(".md");
    let script = file.ends_with(".sh") || file.starts_with(".ci/");
    let mut found = Vec::new();
    let mut fenced = false;
    for (number, line) in (1..).zip(text.lines()) {
        fenced ^= document && line.trim_start().starts_with("```");
        let mut mentions: Vec<&str> = Vec::new();
        if document || script {
            mentions.extend(line.split("`make ").skip(1));
        }
        if fenced || script {
            let command = line.trim_start().trim_start_matches("$ ").trim_start_matches("exec ");
            mentions.extend(command.strip_prefix("make "));
        }
        for mention in mentions {
            let end = mention.find(|c: char| !(c.is_ascii_lowercase() || c == '-')).unwrap_or(mention.len());
            let name = &mention[..end];
            if !name.is_empty() && !targets.contains_key(name) {
                found.push(format!("{file}:{number}: `make {name}` does not exist"));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A tree that is in order, for the tests to break.
    fn tree() -> Value {
        let package = |name: &str, dependencies: Value| json!({"id": name, "name": name, "version": "0.1.0", "rust_version": "1.93", "dependencies": dependencies});
        let on = |name: &str, optional: bool| json!({"name": name, "optional": optional, "kind": null});
        json!({
            "workspace_members": ["host-media", "simple-webrtc", "warp-blink", "blink-examples", "blink-tests", "blink-sim", "blink-lab"],
            "packages": [
                package("host-media", json!([on("cpal", true), on("opus", false)])),
                package("simple-webrtc", json!([on("webrtc", false), on("tokio", false)])),
                package("warp-blink", json!([on("host-media", true), on("simple-webrtc", true), on("tokio", true)])),
                package("blink-examples", json!([on("warp-blink", false)])),
                package("blink-tests", json!([on("warp-blink", false), on("host-media", false)])),
                package("blink-sim", json!([on("warp-blink", false)])),
                {"id": "tokio", "name": "tokio", "version": "1.0.0", "rust_version": "1.71.0", "dependencies": []},
                {"id": "old", "name": "old", "version": "1.0.0", "rust_version": null, "dependencies": []},
                package("blink-lab", json!([])),
            ],
        })
    }

    fn push(list: &mut Value, item: Value) {
        list.as_array_mut().expect("a list").push(item);
    }

    #[test]
    fn a_tree_in_order_passes() {
        assert_eq!(rust_versions(&tree()), [""; 0]);
        assert_eq!(tables(&tree()), [""; 0]);
        assert_eq!(copies(&tree()), [""; 0]);
    }

    #[test]
    fn rust_version_rule_finds_newer_crates_and_broken_promises() {
        let mut newer = tree();
        newer["packages"][6]["rust_version"] = "1.93.1".into();
        assert_eq!(rust_versions(&newer).len(), 1);
        let mut other = tree();
        other["packages"][0]["rust_version"] = "1.92".into();
        assert_eq!(rust_versions(&other).len(), 1);
        let mut silent = tree();
        silent["packages"][0]["rust_version"] = Value::Null;
        assert_eq!(rust_versions(&silent).len(), 1);
        assert_eq!((version("1.93"), version("1.93.0.1"), version("x")), (Some([1, 93, 0]), None, None));
    }

    #[test]
    fn tables_rule_finds_upward_and_sideways_dependencies() {
        let cases = [
            (0, "simple-webrtc"),
            (0, "warp-blink"),
            (0, "tokio"),
            (1, "host-media"),
            (1, "cpal"),
            (2, "blink-examples"),
            (2, "webrtc"),
            (3, "host-media"),
            (4, "opus"),
            (5, "tokio"),
        ];
        for (package, on) in cases {
            for kind in [Value::Null, "dev".into()] {
                let mut bad = tree();
                push(
                    &mut bad["packages"][package]["dependencies"],
                    json!({"name": on, "optional": true, "kind": kind}),
                );
                assert_eq!(tables(&bad).len(), 1, "{package} on {on}");
            }
        }
    }

    #[test]
    fn tables_rule_finds_what_should_be_optional_and_missing_crates() {
        for (package, dependency) in [(0, 0), (2, 0), (2, 1), (2, 2)] {
            let mut bad = tree();
            bad["packages"][package]["dependencies"][dependency]["optional"] = false.into();
            assert_eq!(tables(&bad).len(), 1, "{package} {dependency}");
            bad["packages"][package]["dependencies"][dependency]["kind"] = "dev".into();
            assert_eq!(tables(&bad).len(), 0, "tests may use it");
        }
        let mut renamed = tree();
        renamed["packages"][1]["name"] = "webrtc-simple".into();
        assert!(!tables(&renamed).is_empty());
    }

    #[test]
    fn copies_rule_finds_a_second_version_and_a_banned_crate() {
        for (name, version) in [("tokio", "2.0.0"), ("openssl-sys", "0.9.0")] {
            let mut bad = tree();
            push(
                &mut bad["packages"],
                json!({"id": "x", "name": name, "version": version, "dependencies": []}),
            );
            assert_eq!(copies(&bad).len(), 1, "{name}");
        }
    }

    #[test]
    fn lints_rule_wants_the_section() {
        assert_eq!(lints("a", "[package]\nname = 'x'\n[lints]\nworkspace = true # all\n"), [""; 0]);
        for bad in [
            "[package]\nworkspace = true\n",
            "[lints]\n[dependencies]\nworkspace = true\n",
            "[lints]\n# workspace = true\n",
        ] {
            assert_eq!(lints("a", bad).len(), 1, "{bad}");
        }
    }

    #[test]
    fn debug_rule_wants_none_in_the_build_of_the_tests() {
        assert_eq!(debug_information("a", "[profile.dev]\nopt-level = 1\ndebug = false # why\n"), [""; 0]);
        for bad in ["", "[profile.dev]\ndebug = 1\n", "[profile.release]\ndebug = false\n"] {
            assert_eq!(debug_information("a", bad).len(), 1, "{bad}");
        }
    }

    #[test]
    fn check_rule_finds_forgotten_and_unknown_targets() {
        let targets = make_targets("a: ## x\nb-c: a ## y\nd: ## z\n");
        let script = "CHECKS=(\n    \"a|X=1|root\"\n    \"b-c||\"\n)\nNOT_HERE=(\n    \"d: why\"\n)\n";
        assert_eq!(all_checked(script, &targets), [""; 0]);
        assert_eq!(all_checked(&script.replace("\"d: why\"", ""), &targets).len(), 2, "d, and an empty name");
        assert_eq!(all_checked(&script.replace("a|", "e|"), &targets).len(), 2, "a, and e");
        assert_eq!(all_checked("", &targets).len(), 3);
    }

    #[test]
    fn make_rules_read_targets_and_mentions() {
        let targets = make_targets("X := 1\nPATH := a:b\n.PHONY: a\ntest: setup ## run\n\tcmd: x\nhidden:\n");
        assert_eq!(targets, BTreeMap::from([("test".into(), true), ("hidden".into(), false)]));
        let text = "Run `make test` or `make tset`. To make things.\n```\n$ make nothing\n```\nmake sense\n";
        assert_eq!(make_mentions("a.md", text, &targets).len(), 2);
        assert_eq!(make_mentions(".ci/run", "exec make tets\n", &targets).len(), 1);
        assert_eq!(make_mentions("a.rs", "`make tset`", &targets).len(), 0);
    }
}
