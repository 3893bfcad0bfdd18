//! docs/cli.md as data.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::LazyLock,
};

use serde_json::Value;

/// The contract.
pub(crate) static CONTRACT: LazyLock<Document> = LazyLock::new(|| {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/cli.md");
    Document::parse(&std::fs::read_to_string(path).expect("docs/cli.md is there"))
});

/// What docs/cli.md says.
#[derive(Debug, Default)]
pub(crate) struct Document {
    /// Options by the heading under which they stand, without what they take.
    pub(crate) options: BTreeMap<String, BTreeSet<String>>,
    /// Options that are said to be read and refused.
    pub(crate) not_built: BTreeSet<String>,
    pub(crate) events: BTreeMap<String, Vec<Field>>,
    pub(crate) reasons: BTreeSet<String>,
    pub(crate) link_states: BTreeSet<String>,
    pub(crate) participant_states: BTreeSet<String>,
    pub(crate) steps: BTreeSet<String>,
    /// Control commands, and whether they are built.
    pub(crate) commands: BTreeMap<String, bool>,
    pub(crate) exit_codes: BTreeSet<i32>,
}

/// A field of an event.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Field {
    name: String,
    kind: String,
    null: bool,
    optional: bool,
}

/// What stands between backticks.
fn spans(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

impl Document {
    fn parse(text: &str) -> Self {
        let mut document = Self::default();
        let mut heading = "";
        let paragraphs = text.split("\n\n").flat_map(|p| match p.starts_with('|') || p.starts_with('#') {
            true => p.lines().map(str::to_owned).collect(),
            false => vec![p.replace('\n', " ")],
        });
        let paragraphs: Vec<String> = paragraphs.collect();
        for line in &paragraphs {
            if let Some(title) = line.strip_prefix("## ") {
                heading = title.trim_matches('`');
                if heading.starts_with("blink ") {
                    document.options.entry(heading.to_owned()).or_default();
                }
            } else if let Some(row) = line.strip_prefix("| ") {
                document.row(heading, row);
            } else if let Some(rest) = line.strip_prefix("`ended` reasons:") {
                document.reasons.extend(until_stop(rest).map(str::to_owned));
            } else if let Some(rest) = line.strip_prefix("`participant` states:") {
                document.participant_states.extend(until_stop(rest).map(str::to_owned));
            } else if let Some(rest) = line.strip_prefix("`link` states:") {
                let (states, steps) =
                    rest.split_once("Their steps:").expect("the steps of a link are listed");
                document.link_states.extend(until_stop(states).map(str::to_owned));
                document.steps.extend(until_stop(steps).map(str::to_owned));
            }
        }
        document
    }

    fn row(&mut self, heading: &str, row: &str) {
        let cells: Vec<&str> = row.trim_end_matches('|').split(" | ").map(str::trim).collect();
        let [first, rest @ ..] = cells.as_slice() else { return };
        let last = rest.last().copied().unwrap_or_default();
        match heading {
            "Exit codes" => self.exit_codes.extend(first.parse::<i32>().ok()),
            "JSON lines" => {
                for event in spans(first) {
                    let fields = spans(rest[0]).into_iter().map(Field::parse).collect();
                    assert!(
                        self.events.insert(event.to_owned(), fields).is_none(),
                        "{event} stands there twice"
                    );
                }
            }
            "Control" => {
                for command in spans(first) {
                    self.commands.insert(command.to_owned(), last != "not built yet");
                }
            }
            _ => {
                for option in spans(first).into_iter().filter(|span| span.starts_with("--")) {
                    let name = option.split(' ').next().unwrap_or(option).to_owned();
                    if last.ends_with("Not built yet") {
                        self.not_built.insert(name.clone());
                    }
                    self.options.entry(heading.to_owned()).or_default().insert(name);
                }
            }
        }
    }

    /// The options that a command takes.
    pub(crate) fn options_of(&self, command: &str) -> BTreeSet<String> {
        let mut options = self.options.get(&format!("blink {command}")).cloned().unwrap_or_default();
        if ["answer", "call"].contains(&command) {
            options.extend(self.options["Common options"].iter().cloned());
        }
        options
    }

    /// Why a line of JSON breaks the contract.
    pub(crate) fn objection(&self, line: &Value) -> Option<String> {
        let Some(object) = line.as_object() else { return Some("not an object".to_owned()) };
        let Some(event) = object.get("event").and_then(Value::as_str) else {
            return Some("no event".to_owned());
        };
        let Some(fields) = self.events.get(event) else {
            return Some(format!("{event} is not in docs/cli.md"));
        };
        // From 2020 on: neither milliseconds nor a clock that begins with the program.
        if object.get("t").and_then(Value::as_f64).is_none_or(|t| !(1.577e9..1e11).contains(&t)) {
            return Some("t is no Unix time in seconds".to_owned());
        }
        for field in fields {
            match object.get(&field.name) {
                None if field.optional => {}
                None => return Some(format!("{event} has no {}", field.name)),
                Some(Value::Null) if field.null => {}
                Some(value) if fits(value, &field.kind) => {}
                Some(value) => {
                    return Some(format!("{event}: {} is {value}, not {}", field.name, field.kind));
                }
            }
        }
        let known = |name: &str| ["event", "t"].contains(&name) || fields.iter().any(|f| f.name == name);
        if let Some(stranger) = object.keys().find(|name| !known(name)) {
            return Some(format!("docs/cli.md does not say that {event} has {stranger}"));
        }
        let words = match event {
            "ended" | "missed" => ("reason", &self.reasons),
            "link" => ("state", &self.link_states),
            "participant" => ("state", &self.participant_states),
            _ => return None,
        };
        let word = object[words.0].as_str().unwrap_or_default();
        (!words.1.contains(word)).then(|| format!("docs/cli.md does not list the {event} {word}"))
    }
}

/// The spans before the first full stop.
fn until_stop(text: &str) -> impl Iterator<Item = &str> {
    spans(text.split(". ").next().unwrap_or(text)).into_iter().filter(|span| *span != "step")
}

impl Field {
    /// `name?: kind or null`
    fn parse(text: &str) -> Self {
        let (name, kind) =
            text.split_once(": ").unwrap_or_else(|| panic!("`{text}` is no field with its type"));
        let (kind, null) = kind.strip_suffix(" or null").map_or((kind, false), |kind| (kind, true));
        let (name, optional) = name.strip_suffix('?').map_or((name, false), |name| (name, true));
        Self { name: name.to_owned(), kind: kind.to_owned(), null, optional }
    }
}

fn fits(value: &Value, kind: &str) -> bool {
    let text = value.as_str().unwrap_or_default();
    match kind {
        "key" => text.parse::<warp_blink::PublicKey>().is_ok() && text.starts_with("did:key:z6Mk"),
        "node" => text.parse::<warp_blink::NodeId>().is_ok(),
        "call" => text.parse::<warp_blink::CallId>().is_ok(),
        "text" => !text.is_empty(),
        "number" => value.is_number(),
        "count" => value.is_u64(),
        "flag" => value.is_boolean(),
        "list" => value.is_array(),
        "object" => value.is_object(),
        _ => panic!("docs/cli.md does not say what a {kind} is"),
    }
}

#[test]
fn the_contract_is_read_whole() {
    let c = &*CONTRACT;
    assert_eq!(c.exit_codes, (0..=6).collect());
    assert!(c.options["Common options"].len() >= 21, "{:?}", c.options);
    assert!(c.not_built.is_empty(), "{:?}", c.not_built);
    assert_eq!((c.reasons.len(), c.link_states.len(), c.steps.len()), (12, 13, 6), "{c:?}");
    assert_eq!(c.participant_states.len(), 14, "{:?}", c.participant_states);
    assert_eq!((c.events.len(), c.commands.len()), (29, 28), "{:?}", c.events.keys());
    let ended = |name: &str| c.events["ended"].iter().find(|f| f.name == name).cloned();
    let by = Field { name: "by".into(), kind: "key".into(), null: true, optional: false };
    assert_eq!(ended("by"), Some(by));
    assert!(ended("step").is_some_and(|f| f.optional));
}

#[test]
fn objections_are_found() {
    let key = warp_blink::Identity::from_seed([1; 32]).public().to_string();
    let good = serde_json::json!({
        "event": "ended", "t": 1.8e9, "call": "00".repeat(16), "reason": "hung_up", "by": key,
    });
    assert_eq!(CONTRACT.objection(&good), None);
    for (field, value) in [
        ("t", 12.5.into()),
        ("t", 1_800_000_000_000_u64.into()),
        ("call", "00".into()),
        ("call", Value::Null),
        ("reason", "tired".into()),
        ("by", "bob".into()),
        ("extra", 1.into()),
        ("event", "over".into()),
    ] {
        let mut bad = good.clone();
        bad[field] = value;
        assert!(CONTRACT.objection(&bad).is_some(), "{bad}");
    }
    let mut short = good;
    short.as_object_mut().expect("an object").remove("by");
    assert!(CONTRACT.objection(&short).is_some());
}
