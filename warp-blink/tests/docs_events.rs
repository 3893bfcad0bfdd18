//! `docs/events.md` names every event, reason, state and refusal that an app can meet, and no other.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

#[path = "../../tests/tests/house/syntax.rs"]
#[allow(dead_code, reason = "of it this needs what blanks out comments")]
mod syntax;

use std::{collections::BTreeMap, fs, path::Path};

fn read(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

fn document() -> String {
    read("../docs/events.md")
}

/// What is public of a type: its fields, or its variants with theirs, in order.
type Parts = Vec<(String, Vec<String>)>;

/// All public enums or structs of these sources.
fn types(word: &str, files: &[&str]) -> BTreeMap<String, Parts> {
    let mut found = BTreeMap::new();
    for file in files {
        let code = syntax::code(&read(file));
        for (at, _) in code.match_indices(&format!("pub {word} ")) {
            let rest = &code[at + format!("pub {word} ").len()..];
            let name = ident(rest);
            let body = rest[name.len()..].trim_start();
            if let Some(body) = body.strip_prefix('{') {
                found.insert(name, items(inside(body)).into_iter().map(part).collect());
            }
        }
    }
    found
}

fn ident(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// Up to the bracket that closes what is open before the text.
fn inside(text: &str) -> &str {
    let mut depth = 1;
    for (at, c) in text.char_indices() {
        match c {
            '{' | '(' | '[' => depth += 1,
            '}' | ')' | ']' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return &text[..at];
        }
    }
    text
}

/// What stands between commas, without attributes.
fn items(mut text: &str) -> Vec<String> {
    let mut found = vec![String::new()];
    while let Some(c) = text.chars().next() {
        text = &text[c.len_utf8()..];
        let item = found.last_mut().unwrap();
        match c {
            ',' => found.push(String::new()),
            '#' if item.trim().is_empty() => {
                text = text[1..].strip_prefix(inside(&text[1..])).unwrap()[1..].into()
            }
            '{' | '(' | '[' => {
                let inner = inside(text);
                item.push(c);
                item.push_str(inner);
                text = &text[inner.len()..];
            }
            _ => item.push(c),
        }
    }
    found.into_iter().map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect()
}

/// `Name`, `Name { field: Type, .. }`, `Name(Type)` or `pub field: Type`.
fn part(item: String) -> (String, Vec<String>) {
    let item = item.strip_prefix("pub ").unwrap_or(&item);
    let name = ident(item);
    let fields = item[name.len()..].trim_start().strip_prefix('{').map(|body| items(inside(body)));
    (name, fields.unwrap_or_default().iter().map(|field| ident(field)).collect())
}

/// What an app is told of, or is refused with.
fn enums() -> BTreeMap<String, Parts> {
    let files = ["mod", "link", "node", "snapshot", "failure"].map(|name| format!("src/event/{name}.rs"));
    let mut files: Vec<&str> = files.iter().map(String::as_str).collect();
    files.extend(["src/error.rs", "src/blink/call.rs"]);
    let mut all = types("enum", &files);
    let told = ["Via", "LocalCause", "Advice"];
    let reach = types("enum", &["src/reach/mod.rs", "src/reach/standing.rs"]);
    all.extend(reach.into_iter().filter(|(name, _)| told.contains(&name.as_str())));
    all
}

/// The words in backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The rows of the tables below the heading of that name: what stands in backticks in their first cells.
fn rows(document: &str, name: &str) -> Option<Parts> {
    let heading = |line: &&str| line.starts_with('#') && quoted(line).any(|word| word == name);
    let mut lines = document.lines().skip_while(|line| !heading(line));
    lines.next()?;
    let section = lines.take_while(|line| !line.starts_with('#'));
    let cells = section.filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    let row = |cell: &str| {
        let words: Vec<String> = quoted(&format!("`{cell}")).map(str::to_owned).collect();
        (words[0].clone(), words[1..].to_vec())
    };
    Some(cells.map(row).collect())
}

/// What is missing in the document, or too much, or in another order.
fn catalogue(document: &str, enums: &BTreeMap<String, Parts>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, variants) in enums {
        let Some(mut rows) = rows(document, name) else {
            wrong.push(format!("docs/events.md has no heading for `{name}`"));
            continue;
        };
        for (variant, fields) in variants {
            match rows.iter().position(|(row, _)| row == variant) {
                None => wrong.push(format!("docs/events.md, {name}: `{variant}` is missing")),
                Some(at) => {
                    let (_, named) = rows.remove(at);
                    if named != *fields {
                        wrong.push(format!(
                            "docs/events.md, {name}: `{variant}` has {fields:?}, not {named:?}"
                        ));
                    }
                }
            }
        }
        let more = rows
            .iter()
            .map(|(row, _)| format!("docs/events.md, {name}: there is no `{row}`, or it is there twice"));
        wrong.extend(more);
    }
    wrong
}

/// Names such as `Type::Variant` and `Type.field` that stand for nothing.
fn mentions(
    document: &str,
    enums: &BTreeMap<String, Parts>,
    structs: &BTreeMap<String, Parts>,
) -> Vec<String> {
    let has = |all: &BTreeMap<String, Parts>, of: &str, part: &str| {
        all.get(of).is_some_and(|parts| parts.iter().any(|(name, _)| name == part))
    };
    let is_type = |text: &str| text.starts_with(char::is_uppercase) && ident(text) == text;
    let mut wrong = Vec::new();
    for line in document.lines().filter(|line| !line.starts_with("```")) {
        for word in quoted(line) {
            if let Some((of, variant)) = word.split_once("::")
                && is_type(of)
                && !has(enums, of, &ident(variant))
            {
                wrong.push(format!("docs/events.md: there is no `{word}`"));
            }
            if let Some((of, field)) = word.split_once('.')
                && is_type(of)
                && !has(structs, of, &ident(field))
            {
                wrong.push(format!("docs/events.md: there is no `{word}`"));
            }
        }
    }
    wrong
}

fn structs() -> BTreeMap<String, Parts> {
    let files = ["event/mod", "event/link", "event/snapshot", "event/failure", "stats", "config"];
    let files = files.map(|name| format!("src/{name}.rs"));
    types("struct", &files.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn the_document_names_every_variant_and_no_other() {
    let (document, mut enums, structs) = (document(), enums(), structs());
    let mut wrong = catalogue(&document, &enums);
    enums.extend(types("enum", &["src/config.rs"]));
    wrong.extend(mentions(&document, &enums, &structs));
    assert!(wrong.is_empty(), "{} finding(s)\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_sources_are_read_as_they_are() {
    let enums = enums();
    let of = |name: &str| enums.get(name).unwrap_or_else(|| panic!("{name} was not found"));
    let names = |name: &str| of(name).iter().map(|(variant, _)| variant.as_str()).collect::<Vec<_>>();
    assert_eq!(names("Phase"), ["Outgoing", "Incoming", "Active", "Left"]);
    assert_eq!(names("Via"), ["Direct", "Relay"]);
    assert_eq!(names("NodeState"), ["Starting", "Offline", "LocalOnly", "Relayed", "Public"]);
    assert!(of("Advice").len() >= 9 && of("LocalCause").len() >= 6);
    for name in
        ["Event", "EndReason", "Presence", "Rejected", "Error", "Warning", "Mismatch", "Step", "Milestone"]
    {
        assert!(of(name).len() >= 4, "{name}: {:?}", of(name));
    }
    let reached = of("Event").iter().find(|(name, _)| name == "Reached").unwrap();
    assert_eq!(reached.1, ["peer", "via", "ms"]);
    assert!(of("Rejected").contains(&("CallFull".into(), vec!["most".into()])), "{:?}", of("Rejected"));
    assert!(of("Rejected").contains(&("NotInCall".into(), vec![])));
    assert!(structs()["Snapshot"].iter().any(|(field, _)| field == "resumable"));
}

#[test]
fn what_is_wrong_in_a_document_is_found() {
    let enums: BTreeMap<String, Parts> =
        [("E".to_owned(), vec![("One".to_owned(), vec!["a".to_owned()]), ("Two".to_owned(), vec![])])].into();
    let structs: BTreeMap<String, Parts> = [("S".to_owned(), vec![("f".to_owned(), vec![])])].into();
    let good = "# `E`\n\n| variant | means |\n|---|---|\n| `One` `a` | x |\n| `Two` | `E::One`, `S.f` |\n\n# Other\n| `Three` | x |\n";
    assert_eq!(catalogue(good, &enums), [""; 0]);
    assert_eq!(mentions(good, &enums, &structs), [""; 0]);
    for (bad, findings) in [
        (good.replace("# `E`", "# `F`"), 1),
        (good.replace("| `Two` ", "| `Tow` "), 2),
        (good.replace("`One` `a`", "`One`"), 1),
        (good.replace("`One` `a`", "`One` `b`"), 1),
        (good.replace("# Other\n", ""), 1),
        (good.replace("| `Two` ", "| `One` `a` | y |\n| `Two` "), 1),
    ] {
        assert_eq!(catalogue(&bad, &enums).len(), findings, "{bad}");
    }
    for bad in [
        good.replace("E::One", "E::Oen"),
        good.replace("E::One", "F::One"),
        good.replace("S.f", "S.g"),
        good.replace("S.f", "T.f"),
    ] {
        assert_eq!(mentions(&bad, &enums, &structs).len(), 1, "{bad}");
    }
}
