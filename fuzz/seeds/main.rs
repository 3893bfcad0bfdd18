//! Writes the seeds in `corpus/`: what a fuzzer starts from, so that it need not guess what a handshake is.
//!
//! They are the golden vectors, what is sealed inside them, one message of every kind between the two people that
//! the targets know, and short files of sound. What is sealed is read by [`noise`], not by the code that the targets test.

mod noise;
mod people;
mod sound;

use std::{
    collections::BTreeMap,
    error::Error,
    fs,
    path::{Path, PathBuf},
};

use noise::Reader;
use warp_blink::wire::{FrameKind, KemKey, frame, read_record};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// A longer one teaches a fuzzer nothing that a shorter one does not, and each mutation of it costs more.
const MOST_BYTES: usize = 4200;

/// What was found for each target, without repeats.
#[derive(Default)]
struct Seeds(BTreeMap<&'static str, Vec<Vec<u8>>>);

impl Seeds {
    fn add(&mut self, target: &'static str, bytes: &[u8]) {
        let found = self.0.entry(target).or_default();
        if bytes.len() <= MOST_BYTES && !found.iter().any(|seed| seed == bytes) {
            found.push(bytes.to_vec());
        }
    }

    /// A frame, for the targets that take frames of its kind.
    fn add_frame(&mut self, bytes: &[u8]) {
        match frame::check(bytes) {
            Ok(FrameKind::Hello) => self.add("frame", bytes),
            Ok(FrameKind::Welcome) => self.add("welcome", bytes),
            Ok(FrameKind::Transport) => self.add("transport", bytes),
            Ok(FrameKind::Call) => self.add("call", bytes),
            _ => {}
        }
    }

    /// What was sealed, for the target that decodes it, and its bucket.
    fn add_sealed(&mut self, target: &'static str, padded: &[u8]) -> Outcome<()> {
        let len = padded.first_chunk().map(|len| usize::from(u16::from_be_bytes(*len))).ok_or("no length")?;
        self.add(target, padded.get(2..2 + len).ok_or("padding that is too short")?);
        self.add("padding", padded);
        Ok(())
    }

    /// Everything in a handshake, and those of the frames that belong to its session. Gives their number.
    fn add_session(&mut self, reader: &Reader, frames: &[Vec<u8>]) -> Outcome<usize> {
        self.add_sealed("hello_contents", &reader.hello)?;
        self.add_sealed("welcome_contents", &reader.welcome)?;
        let opened: Vec<_> = frames.iter().filter_map(|frame| reader.open(frame)).collect();
        for padded in &opened {
            self.add("transport", padded);
            self.add_sealed("packet_contents", padded)?;
        }
        Ok(opened.len())
    }

    fn write(&self, corpus: &Path) -> Outcome<()> {
        let mut total = 0;
        for (target, seeds) in &self.0 {
            let folder = corpus.join(target);
            if folder.exists() {
                fs::remove_dir_all(&folder)?;
            }
            fs::create_dir_all(&folder)?;
            for (number, seed) in (1..).zip(seeds) {
                fs::write(folder.join(format!("seed-{number:02}")), seed)?;
                total += seed.len();
            }
            println!("{target}: {} seeds", seeds.len());
        }
        println!("{} KiB", total.div_ceil(1024));
        Ok(())
    }
}

/// The byte strings in a file of golden vectors: a name, lines of hexadecimal digits, an empty line.
fn golden(file: &Path) -> Outcome<Vec<(String, Vec<u8>)>> {
    let mut found = Vec::new();
    for entry in fs::read_to_string(file)?.split_terminator("\n\n") {
        let (name, digits) = entry.split_once('\n').unwrap_or_default();
        let digits: Vec<u32> = digits.chars().filter_map(|digit| digit.to_digit(16)).collect();
        let bytes = digits.chunks_exact(2).map(|pair| u8::try_from(pair[0] << 4 | pair[1]));
        found.push((name.to_owned(), bytes.collect::<Result<_, _>>()?));
    }
    Ok(found)
}

fn add_golden(seeds: &mut Seeds, folder: &Path) -> Outcome<()> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Outcome<_>>()?;
    files.sort();
    let mut frames = Vec::new();
    let mut handshake = Vec::new();
    for file in files {
        let entries = golden(&file)?;
        if file.ends_with("handshake.txt") {
            handshake.clone_from(&entries);
        }
        for (_, bytes) in entries {
            seeds.add_frame(&bytes);
            if KemKey::from_bytes(&bytes).is_ok() {
                seeds.add("kem_key", &bytes);
            }
            if read_record(&bytes).is_ok() {
                seeds.add("record", &bytes);
                // Version, key and signature stand before what it says.
                seeds.add("record", bytes.get(97..).ok_or("a record that is too short")?);
            }
            frames.push(bytes);
        }
    }
    let message = |name: &str| {
        handshake.iter().find(|entry| entry.0 == name).map(|entry| &entry.1[..]).ok_or("no such vector")
    };
    let reader = Reader::new(message("message 1")?, message("message 2")?)?;
    let opened = seeds.add_session(&reader, &frames)?;
    if opened < 5 {
        return Err(format!("only {opened} golden transport messages could be read").into());
    }
    Ok(())
}

fn main() -> Outcome<()> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut seeds = Seeds::default();
    add_golden(&mut seeds, &here.join("../warp-blink/tests/golden"))?;
    people::add(&mut seeds)?;
    sound::add(&mut seeds)?;
    seeds.write(&here.join("corpus"))
}
