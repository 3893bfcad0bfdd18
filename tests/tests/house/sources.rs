//! Rules over one source file, or over all of them.

use std::collections::BTreeMap;

use crate::syntax::{Named, names};

/// The only files in which `unsafe` may stand. A binding to a C library is the reason: libopus, whose deep
/// redundancy and deep concealment no safe binding reaches.
const UNSAFE_FILES: &[&str] = &[
    "host-media/src/codec/ffi.rs",
    // Built for tests only: a sound system of their own, and cpal has no safe way to hand samples to a callback.
    "host-media/src/device/cpal/fake.rs",
];

/// A file above this is two rooms.
const MOST_LINES: usize = 500;

/// The pure rooms of warp-blink and the modules of the crate that each may use beside itself.
const PURE_ROOMS: &[(&str, &[&str])] = &[
    ("proto", &["id", "config", "event", "error", "stats", "time"]),
    ("reach", &["id", "config", "event", "error", "stats", "time"]),
    ("wire", &["id", "time", "proto::signal"]),
];

/// Words that a pure room never says: runtimes, networks, devices, clocks, randomness, unordered maps.
const IMPURE: &[&str] = &[
    "tokio",
    "async_std",
    "smol",
    "webrtc",
    "simple_webrtc",
    "host_media",
    "cpal",
    "rust_ipfs",
    "connexa",
    "SystemTime",
    "HashMap",
    "HashSet",
    "RandomState",
    "getrandom",
    "OsRng",
    "thread_rng",
    "ThreadRng",
];

/// proto, wire and reach are pure: what they decide depends on their inputs alone, so that it can be replayed.
pub(crate) fn pure_rooms(file: &str, source: &str) -> Vec<String> {
    let Some(inside) = file.strip_prefix("warp-blink/src/") else { return Vec::new() };
    let Some((room, allowed)) = PURE_ROOMS
        .iter()
        .find(|(room, _)| inside.starts_with(&format!("{room}/")) || inside == format!("{room}.rs"))
    else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for name in names(source) {
        let shown = name.segments.join("::");
        if impure(&name) {
            found.push(format!(
                "{file}:{}: {room} names `{shown}`: time, randomness and I/O are inputs, maps are ordered",
                name.line
            ));
        }
        let within = name.segments.get(1).is_none_or(|module| {
            module == room
                || allowed
                    .iter()
                    .any(|path| name.starts(&["crate"]) && shown["crate::".len()..].starts_with(path))
                || module.chars().next().is_some_and(char::is_uppercase)
        });
        if name.starts(&["crate"]) && !within {
            found.push(format!(
                "{file}:{}: {room} may use {allowed:?} of its crate, not `{shown}`",
                name.line
            ));
        }
    }
    found
}

fn impure(name: &Named) -> bool {
    let clock = ["std", "core"].iter().any(|root| {
        name.starts(&[root, "time"])
            && matches!(
                name.segments.get(2).map(String::as_str),
                None | Some("Instant" | "SystemTime" | "UNIX_EPOCH" | "*")
            )
    });
    let system = ["fs", "net", "thread", "process", "env"].iter().any(|module| name.starts(&["std", module]));
    // Addresses are plain values.
    let address = name.starts(&["std", "net"])
        && name.segments.get(2).is_some_and(|item| item.starts_with("Ip") || item.starts_with("SocketAddr"));
    let word = name.segments.iter().any(|word| IMPURE.contains(&word.as_str()) || word.starts_with("libp2p"));
    clock || system && !address || word || name.is_of_crate("rand") || name.is_of_crate("rtc")
}

/// Each foreign library appears in one place, so that replacing it means replacing that place.
pub(crate) fn places(files: &[(String, String)]) -> Vec<String> {
    let mut found = Vec::new();
    let mut homes: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (file, source) in files {
        for name in names(source) {
            let first = name.segments.first().map_or("", String::as_str);
            let engine = first == "webrtc" || first == "rtc" || first.starts_with("rtc_");
            if engine && name.is_of_crate(first) && !file.starts_with("simple-webrtc/src/engine/") {
                found.push(format!("{file}:{}: `{first}` belongs in simple-webrtc/src/engine/", name.line));
            }
            let one_file = match first {
                "cpal" => "cpal",
                "opus" | "opusic_sys" => "opus",
                _ => continue,
            };
            if !name.is_of_crate(first) {
                continue;
            }
            if !file.starts_with("host-media/src/") {
                found.push(format!(
                    "{file}:{}: `{first}` belongs in one file or folder of host-media/src/",
                    name.line
                ));
            }
            // A folder of the library's name counts as one file.
            let folder = format!("/{one_file}/");
            let home = file.find(&folder).map_or(file.as_str(), |at| &file[..at + folder.len()]);
            let files = homes.entry(one_file).or_default();
            if !files.iter().any(|known| known == home) {
                files.push(home.to_owned());
            }
        }
    }
    for (library, files) in homes.into_iter().filter(|(_, files)| files.len() > 1) {
        found.push(format!(
            "`{library}` is named in {}: one file may, or one folder of that name (a module of that name is reached by `self::` or `super::`)",
            files.join(" and ")
        ));
    }
    found
}

/// No `unsafe` outside the listed files.
pub(crate) fn unsafe_code(file: &str, source: &str) -> Vec<String> {
    if UNSAFE_FILES.contains(&file) {
        return Vec::new();
    }
    let words = names(source).into_iter().filter(|name| name.starts(&["unsafe"]));
    words.map(|name| format!("{file}:{}: `unsafe` has no place here; see UNSAFE_FILES", name.line)).collect()
}

/// No program text above [`MOST_LINES`] lines.
pub(crate) fn length(file: &str, text: &str) -> Vec<String> {
    let lines = text.lines().count();
    let program = [".rs", ".py", ".sh", ".js"].iter().any(|end| file.ends_with(end));
    if program && lines > MOST_LINES {
        return vec![format!("{file}: {lines} lines, at most {MOST_LINES}: it is two rooms")];
    }
    Vec::new()
}

/// No path that exists on one person's machine only, and no registry but crates.io.
pub(crate) fn machine(file: &str, text: &str) -> Vec<String> {
    // In pieces, so that this file does not name what it forbids.
    let folders = ["home", "root", "Users", "work", "workspace", "builds"].map(|name| format!("/{name}/"));
    let mut found = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        for folder in &folders {
            // Only where the path begins: `docs/work/` and `https://host/home/` are something else.
            let begins =
                |at: usize| !line[..at].ends_with(|c: char| c.is_alphanumeric() || "._-/)}~".contains(c));
            if line.match_indices(folder.as_str()).any(|(at, _)| begins(at)) {
                found.push(format!("{file}:{number}: an absolute path under {folder}; make it relative"));
            }
        }
        for prefix in ["registry", "sparse"].map(|kind| format!("{kind}+http")) {
            let foreign = |rest: &str| {
                !rest.starts_with("s://github.com/rust-lang/crates.io-index")
                    && !rest.starts_with("s://index.crates.io/")
            };
            if line.match_indices(prefix.as_str()).any(|(at, _)| foreign(&line[at + prefix.len()..])) {
                found.push(format!("{file}:{number}: a registry other than crates.io"));
            }
        }
        if file.ends_with(".toml") && line.trim_start().starts_with("replace-with") {
            found.push(format!(
                "{file}:{number}: a replaced registry is a setting of one machine, not of the project"
            ));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, text: &str) -> (String, String) {
        (name.into(), text.into())
    }

    #[test]
    fn pure_rooms_rule_finds_each_kind() {
        let bad = [
            "use std::time::{Duration, Instant};",
            "use std::{time::SystemTime};",
            "use std::time;",
            "fn f() { tokio::spawn(g()) }",
            "use std::collections::{BTreeMap, HashMap};",
            "let x: std::collections::HashSet<u8>;",
            "use libp2p_gossipsub::Topic;",
            "let n: u8 = rand::random();",
            "getrandom::fill(&mut b);",
            "use std::fs;",
            "use std::net::UdpSocket;",
            "use crate::driver::Engine;",
            "use crate::{id::CallId, ports::Gossip};",
        ];
        for source in bad {
            for room in ["proto", "reach", "wire"] {
                assert_eq!(
                    pure_rooms(&format!("warp-blink/src/{room}/a.rs"), source).len(),
                    1,
                    "{room}: {source}"
                );
            }
            assert!(pure_rooms("warp-blink/src/driver/a.rs", source).is_empty(), "{source}");
        }
        assert_eq!(pure_rooms("warp-blink/src/wire/a.rs", "use crate::proto::machine::X;").len(), 1);
        assert_eq!(pure_rooms("warp-blink/src/proto/mod.rs", "use crate::wire::Topic;").len(), 1);
    }

    #[test]
    fn pure_rooms_rule_lets_the_rest_be() {
        let good = "//! No tokio, no HashMap.\nuse std::{collections::BTreeMap, net::IpAddr, time::Duration};\n\
            use crate::{id::CallId, time::Instant};\nlet brand = \"tokio\"; // std::time::Instant\nlet rand = 1;\n";
        for room in ["proto", "reach", "wire"] {
            assert_eq!(pure_rooms(&format!("warp-blink/src/{room}/a.rs"), good), [""; 0]);
        }
        assert_eq!(
            pure_rooms("warp-blink/src/wire/a.rs", "use crate::proto::signal::{Hello, Welcome};"),
            [""; 0]
        );
    }

    #[test]
    fn places_rule_finds_strangers() {
        let engine = file("simple-webrtc/src/engine/mod.rs", "use webrtc::a; use rtc::b;");
        let opus = file("host-media/src/opus.rs", "use opus::Encoder; use opusic_sys::x;");
        let device = file(
            "host-media/src/device.rs",
            "pub mod cpal { } use self::cpal::X; fn f() { super::opus::new() }",
        );
        assert_eq!(places(&[engine, opus.clone(), device]), [""; 0]);
        for text in [
            "use webrtc::x;",
            "use webrtc as w;",
            "fn f() { rtc::g() }",
            "use rtc_shared::x;",
            "use {rtc::x};",
        ] {
            assert_eq!(places(&[file("simple-webrtc/src/peers.rs", text)]).len(), 1, "{text}");
        }
        assert_eq!(places(&[file("examples/src/lib.rs", "use cpal::Device;")]).len(), 1);
        assert_eq!(places(&[opus, file("host-media/src/engine.rs", "fn f(e: opus::Encoder) {}")]).len(), 1);
        let folder = ["cpal/mod.rs", "cpal/stream.rs"]
            .map(|name| file(&format!("host-media/src/{name}"), "use cpal::Device;"));
        assert_eq!(places(&folder), [""; 0]);
        let beside = file("host-media/src/ring.rs", "use cpal::Device;");
        assert_eq!(places(&[folder[0].clone(), beside]).len(), 1);
    }

    #[test]
    fn unsafe_rule_finds_blocks_and_leaves_words() {
        assert_eq!(
            unsafe_code("a.rs", "fn f() {\n unsafe { g() } }"),
            ["a.rs:2: `unsafe` has no place here; see UNSAFE_FILES"]
        );
        assert_eq!(unsafe_code("a.rs", "#![forbid(unsafe_code)] // unsafe\nlet s = \"unsafe\";"), [""; 0]);
    }

    #[test]
    fn length_rule_counts_lines_of_programs() {
        assert_eq!(length("a.rs", &"x\n".repeat(MOST_LINES + 1)).len(), 1);
        assert!(length("a.rs", &"x\n".repeat(MOST_LINES)).is_empty());
        assert!(length("golden/a.txt", &"x\n".repeat(9000)).is_empty());
    }

    #[test]
    fn machine_rule_finds_paths_and_registries() {
        for (folder, rest) in [("home", "me/x"), ("Users", "me"), ("root", ".cargo"), ("work", "x")] {
            for before in ["", "see `", "path=\"", "("] {
                assert_eq!(
                    machine("a.md", &format!("{before}/{folder}/{rest}")).len(),
                    1,
                    "{before}/{folder}/{rest}"
                );
            }
            assert!(
                machine("a.md", &format!("https://example.org/{folder}/{rest}, a/{folder}/b")).is_empty()
            );
        }
        assert_eq!(
            machine("Cargo.lock", &["source = \"registry", "+https://crates.example/index\""].concat()).len(),
            1
        );
        assert_eq!(machine(".cargo/config.toml", "replace-with = \"mirror\"").len(), 1);
        let lock = ["source = \"registry", "+https://github.com/rust-lang/crates.io-index\""].concat();
        assert!(machine("Cargo.lock", &lock).is_empty());
    }
}
