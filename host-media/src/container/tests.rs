//! Files that are written and read again: by this, by the crate `ogg` alone, and by other people's programs.

use std::{
    io::{Cursor, Write},
    process::{Command, Stdio},
    sync::LazyLock,
};

use ogg::{PacketReader, PacketWriteEndInfo, PacketWriter};
use proptest::prelude::*;

use super::{
    clicks::{CLICK, click, found},
    head::Head,
    read::OpusSamples,
    write::Writer,
};
use crate::{BLOCK, Block, source::memory::Samples};

/// A file of so many blocks, made by `sound` from the number of the sample.
fn file(blocks: usize, sound: impl Fn(usize) -> f32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = Writer::begin(&mut bytes, 7, 32_000, 0, &[("TITLE", "a test")]).unwrap();
    for i in 0..blocks {
        let block: Block = std::array::from_fn(|j| sound(i * BLOCK + j));
        writer.push(&block).unwrap();
    }
    writer.finish().unwrap();
    bytes
}

/// A click every quarter of a second, the first one at its middle.
fn clicks(i: usize) -> f32 {
    let at = i % 12_000;
    if (6_000..6_000 + CLICK).contains(&at) { click(at - 6_000) } else { 0.0 }
}

fn tone(i: usize) -> f32 {
    0.3 * (i as f32 * 0.05).sin()
}

fn read(bytes: &[u8]) -> Result<Vec<f32>, String> {
    let mut samples = OpusSamples::begin(Cursor::new(bytes)).map_err(|fault| format!("{fault:?}"))?;
    let mut all = Vec::new();
    let mut out = [0.0; 1000];
    loop {
        let n = samples.next(&mut out)?;
        all.extend_from_slice(&out[..n]);
        if n < out.len() {
            return Ok(all);
        }
    }
}

/// The pages of a file: flags, granule position, number, and the bytes up to its end.
fn pages(bytes: &[u8]) -> Vec<(u8, u64, u32, usize)> {
    let (mut all, mut at) = (Vec::new(), 0);
    while let Some(head) = bytes.get(at..at + 27) {
        assert_eq!(&head[..5], b"OggS\0");
        let segments = usize::from(head[26]);
        let body: usize = bytes[at + 27..at + 27 + segments].iter().map(|n| usize::from(*n)).sum();
        at += 27 + segments + body;
        let granule = u64::from_le_bytes(head[6..14].try_into().unwrap());
        all.push((head[5], granule, u32::from_le_bytes(head[18..22].try_into().unwrap()), at));
    }
    assert_eq!(at, bytes.len());
    all
}

#[test]
fn pages_are_laid_out_as_the_rfc_wants_and_count_every_sample() {
    let bytes = file(305, tone);
    let pages = pages(&bytes);
    let heads: Vec<_> = pages.iter().map(|(flags, granule, number, _)| (*flags, *granule, *number)).collect();
    assert_eq!(
        heads,
        [
            (2, 0, 0), // the first page holds the identification header alone
            (0, 0, 1),
            (0, 48_000, 2),
            (0, 96_000, 3),
            (0, 144_000, 4),
            (4, 305 * 480 + 312, 5), // the end, to the sample, with the samples to skip
        ]
    );
    // The crate checks each page's checksum by itself.
    let mut reader = PacketReader::new(Cursor::new(&bytes));
    let mut packets = Vec::new();
    while let Some(packet) = reader.read_packet().unwrap() {
        packets.push(packet.data.len());
    }
    assert_eq!(packets.len(), 2 + 153, "as many as hold what was given and what the encoder looks ahead");
}

#[test]
fn what_is_written_is_read_again_to_the_sample() {
    for blocks in [0, 1, 2, 3, 49, 50, 99, 100, 101, 333] {
        let sound = read(&file(blocks, tone)).unwrap();
        assert_eq!(sound.len(), blocks * BLOCK);
    }
    let sweep = |i: usize| 0.3 * (i as f32 * (0.02 + i as f32 * 1e-6)).sin();
    let said: Vec<f32> = (0..96_000).map(sweep).collect();
    let found = crate::measure::align(&said, &read(&file(200, sweep)).unwrap(), 48_000);
    assert!(found.delay_samples.abs() <= 4 && found.correlation > 0.99, "{found:?}");
}

#[test]
fn sound_is_where_it_was_after_long_silence_and_silence_costs_little() {
    let at = |i: usize| if (480_000..960_000).contains(&i) { 0.0 } else { clicks(i) };
    let bytes = file(3000, at);
    let heard = found(&read(&bytes).unwrap());
    let expected: Vec<_> =
        (0..120).filter(|n| !(40..80).contains(n)).map(|n| f64::from(n) * 250.0 + 125.0).collect();
    assert_eq!(heard.len(), expected.len());
    for (heard, expected) in heard.iter().zip(expected) {
        assert!((heard - expected).abs() < 1.0, "{heard} instead of {expected} ms");
    }
    let silent = file(6000, |_| 0.0).len();
    assert!(silent < 16_000, "a minute of silence takes {silent} bytes");
}

#[test]
fn silence_is_silent_and_what_follows_it_is_as_good_as_without_rest() {
    // A tone, 5 s of nothing, a tone; and the same with a whisper that keeps the encoder awake.
    let with = |floor: f32| {
        move |i: usize| if (48_000..288_000).contains(&i) { floor * ((i % 2) as f32 - 0.5) } else { tone(i) }
    };
    let rested = read(&file(800, with(0.0))).unwrap();
    let awake = read(&file(800, with(1e-5))).unwrap();
    let loudest = rested[60_000..287_000].iter().fold(0.0_f32, |a, s| a.max(s.abs()));
    assert!(loudest < 1e-4, "silence of {loudest}");
    let said: Vec<f32> = (288_000..384_000).map(tone).collect();
    let [a, b] =
        [&rested, &awake].map(|heard| crate::measure::align(&said, &heard[288_000..], 48_000).correlation);
    assert!(a > 0.98 && a > b - 0.01, "{a} after rest, {b} without");
}

#[test]
fn a_file_that_was_cut_anywhere_plays_to_its_last_whole_page() {
    // Mostly silence, so that it is short.
    let bytes = file(250, |i| if i % 48_000 < 2_400 { tone(i) } else { 0.0 });
    let pages = pages(&bytes);
    let whole = read(&bytes).unwrap();
    // Everywhere in the headers, in the pages' own headers and at their ends; elsewhere in some of the packets.
    let near = |cut: usize| pages.iter().any(|page| (page.3.saturating_sub(3)..page.3 + 90).contains(&cut));
    for cut in (0..=bytes.len()).filter(|cut| cut % 11 == 0 || near(*cut)) {
        let last = pages.iter().rev().find(|page| page.3 <= cut);
        let got = read(&bytes[..cut]);
        let Some((_, granule, number, _)) = last.filter(|page| page.2 > 0) else {
            assert!(got.is_err(), "{cut} bytes hold no header");
            continue;
        };
        let samples = (*granule as usize).saturating_sub(312);
        let got = got.unwrap();
        assert_eq!(got.len(), samples, "{cut} bytes, page {number}");
        assert_eq!(got, whole[..samples]);
    }
}

#[test]
fn gain_pre_skip_and_other_streams_are_respected() {
    let plain = file(100, tone);
    let edit = |edit: &dyn Fn(&mut Head)| {
        let mut out = PacketWriter::new(Vec::new());
        let mut reader = PacketReader::new(Cursor::new(&plain));
        let mut first = true;
        // A stream of something else beside it: its first page before any sound, the others among it.
        out.write_packet(b"fishead\0....".to_vec(), 99, PacketWriteEndInfo::EndPage, 0).unwrap();
        while let Some(packet) = reader.read_packet().unwrap() {
            let (granule, page) = (packet.absgp_page(), packet.last_in_page());
            let info = match (packet.last_in_stream(), page) {
                (true, _) => PacketWriteEndInfo::EndStream,
                (_, true) => PacketWriteEndInfo::EndPage,
                _ => PacketWriteEndInfo::NormalPacket,
            };
            let mut data = packet.data;
            if std::mem::take(&mut first) {
                let mut head = Head::parse(&data).unwrap();
                edit(&mut head);
                data = head.encode();
            }
            out.write_packet(data, 7, info, granule).unwrap();
            if page {
                out.write_packet(vec![0; 100], 99, PacketWriteEndInfo::EndPage, granule).unwrap();
            }
        }
        read(&out.into_inner()).unwrap()
    };
    let normal = edit(&|_| {});
    assert_eq!(normal, read(&plain).unwrap());
    let quiet = edit(&|head| head.gain = -1541);
    for (a, b) in normal.iter().zip(&quiet) {
        assert!((a * 0.5 - b).abs() < 1e-3, "-6.02 dB are half: {a} became {b}");
    }
    let later = edit(&|head| head.pre_skip = 312 + 4_800);
    assert_eq!(later, normal[4_800..]);
}

#[test]
fn chained_files_are_one_sound() {
    let (a, b) = (file(100, tone), file(70, clicks));
    let chain: Vec<u8> = [&a[..], &b[..]].concat();
    // Streams in a chain have different numbers.
    let mut other = Vec::new();
    let mut writer = Writer::begin(&mut other, 8, 32_000, 0, &[]).unwrap();
    for i in 0..70 {
        writer.push(&std::array::from_fn(|j| clicks(i * BLOCK + j))).unwrap();
    }
    writer.finish().unwrap();
    let both = read(&[&a[..], &other].concat()).unwrap();
    assert_eq!(both.len(), 170 * BLOCK);
    assert_eq!(both[..100 * BLOCK], read(&a).unwrap());
    assert_eq!(both[100 * BLOCK..], read(&other).unwrap());
    // The first one was cut off.
    let cut = pages(&a)[2].3;
    let both = read(&[&a[..cut], &other].concat()).unwrap();
    assert_eq!(both.len(), 48_000 - 312 + 70 * BLOCK);
    // One number twice is against RFC 3533, and is refused instead of being mistaken.
    assert!(read(&chain).unwrap_err().contains("Ogg Opus"));
}

#[test]
fn what_is_no_ogg_opus_says_so() {
    let error = |bytes: &[u8]| read(bytes).unwrap_err();
    assert!(error(b"").contains("not an Ogg file"));
    assert!(error(b"RIFF....WAVEfmt ").contains("not an Ogg file"));
    let mut vorbis = PacketWriter::new(Vec::new());
    vorbis.write_packet(b"\x01vorbis...".to_vec(), 1, PacketWriteEndInfo::EndPage, 0).unwrap();
    vorbis.write_packet(b"\x03vorbis...".to_vec(), 1, PacketWriteEndInfo::EndPage, 0).unwrap();
    assert!(error(&vorbis.into_inner()).contains("not Opus"));
    let mut untagged = PacketWriter::new(Vec::new());
    let head = Head { channels: 1, pre_skip: 0, gain: 0 }.encode();
    untagged.write_packet(head, 1, PacketWriteEndInfo::EndPage, 0).unwrap();
    untagged.write_packet(vec![0xf8, 0xff, 0xfe], 1, PacketWriteEndInfo::EndStream, 960).unwrap();
    assert!(error(&untagged.into_inner()).contains("second header"));
    let mut broken = file(100, tone);
    let n = broken.len();
    broken[n - 10] ^= 1;
    assert!(error(&broken).contains("checksum"), "{}", error(&broken));
}

#[test]
fn a_file_that_never_comes_to_its_sound_is_given_up() {
    let mut out = PacketWriter::new(Vec::new());
    let head = Head { channels: 1, pre_skip: 0, gain: 0 }.encode();
    out.write_packet(head, 1, PacketWriteEndInfo::EndPage, 0).unwrap();
    out.write_packet(vec![0; 20 << 20], 1, PacketWriteEndInfo::EndPage, 0).unwrap();
    assert!(read(&out.into_inner()).unwrap_err().contains("16 MiB"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Pages with right checksums and anything in them: an error or sound, no panic, no loop.
    #[test]
    fn no_stream_makes_it_panic(
        packets in prop::collection::vec(
            (prop::collection::vec(any::<u8>(), 0..600), 0..3_u32, 0..3_u8, any::<u64>()), 0..40),
        real in any::<bool>(),
    ) {
        let mut out = PacketWriter::new(if real { file(30, tone) } else { Vec::new() });
        let head = Head { channels: 2, pre_skip: 9, gain: 3 }.encode();
        out.write_packet(head, 1, PacketWriteEndInfo::EndPage, 0).unwrap();
        out.write_packet(b"OpusTags".to_vec(), 1, PacketWriteEndInfo::EndPage, 0).unwrap();
        for (data, serial, info, granule) in packets {
            let info = [
                PacketWriteEndInfo::NormalPacket, PacketWriteEndInfo::EndPage, PacketWriteEndInfo::EndStream,
            ][usize::from(info)];
            out.write_packet(data, serial, info, granule).unwrap();
        }
        if let Ok(sound) = read(&out.into_inner()) {
            prop_assert!(sound.iter().all(|s| s.is_finite()));
        }
    }

    /// Bytes that were changed: the checksums find it, and nothing worse happens.
    #[test]
    fn no_change_makes_it_panic(at in 0..4_000_usize, value in any::<u8>(), cut in 0..6_000_usize) {
        static FILE: LazyLock<Vec<u8>> = LazyLock::new(|| file(100, tone));
        let mut bytes = FILE.clone();
        let n = bytes.len();
        bytes[at % n] = value;
        let _ = read(&bytes[..cut.min(n)]);
    }
}

/// Runs a program of Debian's opus-tools; none if it is not there.
fn tool(name: &str, arguments: &[&str]) -> Option<(bool, Vec<u8>, String)> {
    let run = Command::new(name).args(arguments).stdin(Stdio::null()).output();
    match run {
        Ok(run) => {
            let text = String::from_utf8_lossy(&run.stderr).into_owned();
            Some((run.status.success(), run.stdout, text))
        }
        Err(_) => {
            println!("skipped: {name} is not installed (Debian: opus-tools)");
            None
        }
    }
}

#[test]
fn other_programs_read_the_files_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.opus");
    // With 5 s of silence in it, and a length that is no whole number of packets.
    let bytes = file(2001, |i| if (96_000..336_000).contains(&i) { 0.0 } else { clicks(i) });
    std::fs::File::create(&path).unwrap().write_all(&bytes).unwrap();
    let path = path.to_str().unwrap();
    if let Some((well, words, _)) = tool("opusinfo", &[path]) {
        let words = String::from_utf8_lossy(&words).into_owned();
        assert!(well && !words.to_lowercase().contains("warning"), "{words}");
        assert!(words.contains("Playback length: 0m:20.010s"), "{words}");
        assert!(words.contains("TITLE=a test") && words.contains("Channels: 1"), "{words}");
    }
    let raw = dir.path().join("a.raw");
    let raw = raw.to_str().unwrap();
    let arguments = ["--quiet", "--float", "--rate", "48000", "--no-dither", path, raw];
    if let Some((well, _, words)) = tool("opusdec", &arguments) {
        assert!(well, "{words}");
        let bytes = std::fs::read(raw).unwrap();
        let sound: Vec<f32> =
            bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        assert_eq!(sound.len(), 2001 * BLOCK);
        let silent = 2_000.0..7_000.0;
        let expected = (0..80).map(|n| f64::from(n) * 250.0 + 125.0).filter(|t| !silent.contains(t));
        let expected: Vec<_> = expected.collect();
        let heard = found(&sound);
        assert_eq!(heard.len(), expected.len());
        assert!(heard.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1.0), "{heard:?}");
    }
}
