//! Journals come from anybody, and may be cut, changed or made up.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{RngCore, SeedableRng},
};
use serde_json::{Value, json};
use warp_blink::{
    config::{Admission, Config, PreConnect},
    id::Identity,
    proto::{
        Command, Input, MediaInput, Other, SessionNo,
        journal::{Difference, Journal, JournalError, MAX_JOURNAL, MAX_LINE, Stop},
        signal::{Body, Candidate, Description, DescriptionKind, Packet},
    },
    time::Instant,
};

use crate::{call_of_two, golden::declined, group_of_three, kit::*, scrubbing::returned};

/// The lines, each with its end.
fn lines(text: &str) -> Vec<String> {
    text.split_inclusive('\n').map(str::to_owned).collect()
}

#[test]
fn hostile_cuts_leave_a_shorter_journal_or_none() {
    let text = declined().text;
    let whole = Journal::parse(&text).unwrap();
    let described = text.find("{\"step\"").unwrap();
    let mut replayed = 0;
    for cut in 0..text.len() {
        match Journal::parse(&text.as_bytes()[..cut]) {
            Ok(journal) => {
                assert!(cut >= described && journal.end().is_none(), "{cut}");
                assert_eq!(journal.steps(), &whole.steps()[..journal.steps().len()], "{cut}");
                if text.as_bytes()[cut - 1] == b'\n' {
                    replayed += 1;
                    journal.replay().unwrap();
                }
            }
            Err(error) => {
                assert!(cut < described, "{cut}");
                assert!(matches!(error, JournalError::CutOff | JournalError::NoJournal), "{cut}: {error}");
            }
        }
    }
    assert_eq!(replayed, whole.steps().len() + 1, "before the first step, and after each");
}

#[test]
fn hostile_removal_of_any_line_is_found() {
    let text = declined().text;
    let lines = lines(&text);
    for out in 0..lines.len() {
        let mut rest = lines.clone();
        rest.remove(out);
        let found = Journal::parse(rest.concat());
        if out == lines.len() - 1 {
            assert_eq!(found.unwrap().end(), None, "without its last line it is cut off");
        } else {
            let error = found.unwrap_err();
            assert!(matches!(error, JournalError::OutOfPlace(_) | JournalError::NoJournal), "{out}: {error}");
        }
        let mut twice = lines.clone();
        twice.insert(out, lines[out].clone());
        assert!(Journal::parse(twice.concat()).is_err(), "{out}");
        if out > 0 {
            let mut swapped = lines.clone();
            swapped.swap(out - 1, out);
            let head = out < 5 && out > 1;
            assert!(head || Journal::parse(swapped.concat()).is_err(), "{out}: {}", lines[out]);
        }
    }
}

#[test]
fn hostile_removal_of_a_step_is_found_by_replay_if_the_rest_is_renumbered() {
    let text = call_of_two().nodes[0].text.clone();
    let all = lines(&text);
    let first = all.iter().position(|line| line.starts_with("{\"step\"")).unwrap();
    let (mut found, mut harmless) = (0, Vec::new());
    for out in first..all.len() {
        let mut rest = all.clone();
        let removed = rest.remove(out);
        for (n, line) in (1..).zip(&mut rest[first..]) {
            let mut value: Value = serde_json::from_str(line).unwrap();
            value["step"]["n"] = json!(n);
            *line = format!("{value}\n");
        }
        match Journal::parse(rest.concat()).unwrap().replay() {
            Err(divergence) => {
                assert!(divergence.step as usize >= out - first, "{divergence}");
                found += 1;
            }
            Ok(_) => harmless.push(removed),
        }
    }
    // What changes nothing at all is not missed: that a message has left, and news of no interest.
    println!("{found} found, {} not missed", harmless.len());
    assert!(found > 25, "{found}");
    assert!(harmless.iter().all(|line| !line.contains("\"effects\":[")), "{harmless:#?}");
}

#[test]
fn a_changed_effect_is_found_and_named() {
    let text = declined().text;
    let all = lines(&text);
    let changes: [fn(&mut Vec<Value>); 4] = [
        |effects| {
            effects.pop();
        },
        |effects| {
            let last = effects.last().unwrap().clone();
            effects.push(last);
        },
        |effects| effects[0]["id"] = json!(effects[0]["id"].as_u64().unwrap() + 1),
        |effects| effects[0]["kind"] = json!({"SetMuted": true}),
    ];
    let mut tried = 0;
    for (at, line) in all.iter().enumerate() {
        let value: Value = serde_json::from_str(line).unwrap();
        let Some(effects) = value["step"]["effects"].as_array() else { continue };
        for change in changes {
            let mut value = value.clone();
            let mut changed = effects.clone();
            change(&mut changed);
            value["step"]["effects"] = Value::Array(changed);
            let mut other = all.clone();
            other[at] = format!("{value}\n");
            let divergence = Journal::parse(other.concat()).unwrap().replay().unwrap_err();
            assert_eq!(Some(divergence.step), value["step"]["n"].as_u64());
            assert!(matches!(divergence.difference, Difference::Effect { .. }));
            let said = divergence.to_string();
            assert!(said.contains("expected") && !said.contains('\n') && said.len() < 2000, "{said}");
            tried += 1;
        }
    }
    assert!(tried > 20, "{tried}");
    // A verdict is compared too.
    let other = text.replace("{\"NoSuchCall\":", "{\"NotIncoming\":");
    assert_ne!(other, text);
    let divergence = Journal::parse(other).unwrap().replay().unwrap_err();
    assert!(matches!(divergence.difference, Difference::Verdict { .. }), "{divergence}");
    println!("{divergence}");
}

#[test]
fn hostile_texts_are_refused() {
    let text = declined().text;
    let head = lines(&text)[0].clone();
    let long = format!("{}{{\"step\":\"{}\"}}\n", head, "x".repeat(MAX_LINE));
    let nested = format!("{}{}\n", head, "[".repeat(10_000));
    let cases = [
        (String::new(), JournalError::NoJournal),
        ("\n".to_owned(), JournalError::NoJournal),
        ("{}\n".to_owned(), JournalError::NoJournal),
        ("not a journal\n".to_owned(), JournalError::NoJournal),
        (head[..100].to_owned(), JournalError::CutOff),
        (head.clone(), JournalError::CutOff),
        ("{\"journal\":{\"format\":2,\"new\":[]}}\n".to_owned(), JournalError::Format(2)),
        (format!("{head}{head}"), JournalError::OutOfPlace(2)),
        (long, JournalError::LongLine(2)),
        (" ".repeat(MAX_JOURNAL + 1), JournalError::TooLarge(MAX_JOURNAL + 1)),
        (head.replace("\"contacts\":1", "\"contacts\":10001"), JournalError::OutOfPlace(1)),
    ];
    for (text, error) in cases {
        assert_eq!(Journal::parse(&text).map(drop), Err(error), "{text:.80}");
    }
    let bad = [
        nested,
        // Twice this is no time.
        text.replacen(
            "\"announce_period\":{\"secs\":5,",
            "\"announce_period\":{\"secs\":18446744073709551615,",
            1,
        ),
        text.replacen("\"step\"", "\"stop\"", 1),
        text.replacen("\"n\":1", "\"n\":1,\"m\":1", 1),
        text.replacen("did:key:z6Mk", "did:key:z6Mm", 1),
        text.replacen("\"Clock\":", "\"Cluck\":", 1),
    ];
    for text in bad {
        let error = Journal::parse(&text).unwrap_err();
        assert!(matches!(&error, JournalError::Line { cause, .. } if cause.len() < 1000), "{error}");
    }
    assert!(Journal::parse([0xff; 100]).is_err());
}

/// Numbers, words and keys exchanged at random: whatever can still be read is replayed to some end.
#[test]
fn hostile_changes_never_panic() {
    let mut random = ChaCha8Rng::seed_from_u64(5);
    let texts = [
        declined().text,
        returned().nodes[0].text.clone(),
        call_of_two().nodes[0].text.clone(),
        group_of_three().nodes[1].text.clone(),
    ];
    let (mut refused, mut diverged, mut same) = (0, 0, 0);
    for _ in 0..600 {
        let mut bytes = texts[random.next_u32() as usize % texts.len()].clone().into_bytes();
        for _ in 0..=random.next_u32() % 3 {
            let digits: Vec<usize> = (1..bytes.len())
                .filter(|i| bytes[*i].is_ascii_digit() && b":,[".contains(&bytes[i - 1]))
                .collect();
            let at = digits[random.next_u32() as usize % digits.len()];
            let end = (at..bytes.len()).find(|i| !bytes[*i].is_ascii_digit()).unwrap();
            let numbers = ["0", "1", "255", "65535", "4294967295", "18446744073709551615"];
            let number = numbers[random.next_u32() as usize % numbers.len()];
            bytes.splice(at..end, number.bytes());
        }
        match Journal::parse(&bytes) {
            Err(_) => refused += 1,
            Ok(journal) => match journal.replay() {
                Err(_) => diverged += 1,
                Ok(_) => same += 1,
            },
        }
    }
    println!("{refused} refused, {diverged} came out otherwise, {same} the same");
    assert!(refused > 50 && diverged > 50, "{refused} {diverged}");
}

#[test]
fn a_step_of_many_effects_continues_on_further_lines() {
    let mut config = Config::default();
    config.pre_connect = PreConnect::Never;
    let mut world = World::new(2, &config);
    let call = call_id(1);
    world.ask(1, world.offer(1, &[0], call)).unwrap();
    let from = world.key(1);
    let bodies = (0..64).map(|n| Body::Candidate(Candidate { text: format!("{n:1024}") }));
    let description = Description { kind: DescriptionKind::Offer, text: "v".repeat(12 * 1024) };
    for (seq, body) in (2..).zip(bodies.chain([Body::Description(description)])) {
        // The window of what may come out of order is smaller.
        let packet = Packet { seq, ack: 0, ack_bits: 0, call, generation: 1, body };
        world.feed(0, Input::Packet { from, session: SessionNo(1), packet: Box::new(packet) });
    }
    world.ask(0, Command::Accept { call, other: Other::End }).unwrap();
    let mut node = world.restart(0, Node::new(&beginning(&config, &identity(1)), 0));
    node.replay();
    let text = node.text.clone();
    assert!(text.matches("{\"more\":").count() > 0);
    assert!(text.lines().all(|line| line.len() < MAX_LINE));
    // Without a part of it the step is not there; a cut takes all of it away.
    let all = lines(&text);
    let more = all.iter().position(|line| line.starts_with("{\"more\":")).unwrap();
    let mut without = all.clone();
    without.remove(more);
    assert!(matches!(Journal::parse(without.concat()), Err(JournalError::OutOfPlace(_))));
    let cut = Journal::parse(all[..more].concat()).unwrap();
    assert_eq!(cut.steps().len() as u64 + 1, {
        let value: Value = serde_json::from_str(&all[more]).unwrap();
        value["more"]["n"].as_u64().unwrap()
    });
    cut.replay().unwrap();
}

#[test]
fn what_fits_on_no_line_ends_the_recording() {
    let keys = (0..2000u32).map(|n| {
        let mut seed = [1; 32];
        seed[..4].copy_from_slice(&n.to_be_bytes());
        Identity::from_seed(seed).public()
    });
    let mut node = Node::new(&beginning(&Config::default(), &identity(1)), LARGE);
    node.handle(Instant::default(), Command::SetMuted(true).into()).unwrap();
    let large = Command::SetAdmission(Admission::Only(keys.collect()));
    node.handle(Instant::default(), large.into()).unwrap();
    assert_eq!(node.recorder.stopped(), Some(Stop::TooLarge));
    let before = node.text.clone();
    node.handle(Instant::default(), Command::SetMuted(false).into()).unwrap();
    node.handle(Instant::default(), Input::Media(MediaInput::Speaking { call: call_id(1), speaking: true }))
        .unwrap();
    node.finish();
    assert_eq!(node.text, before, "nothing follows");
    let journal = Journal::parse(&node.text).unwrap();
    assert_eq!((journal.end(), journal.steps().len()), (Some(Stop::TooLarge), 1));
    journal.replay().unwrap();
}
