//! Ogg Opus files (RFC 7845) of every kind that the reader knows: short ones, written by the crate `ogg`.

use std::{
    sync::{Arc, Mutex},
    time::{Instant, SystemTime},
};

use host_media::{Engine, Format, FrameLength, SinkSpec, SourceSpec, TICK};
use ogg::{PacketWriteEndInfo, PacketWriter};

use super::{Outcome, Seeds};

/// The packets of this many milliseconds of a tone, and the samples in each.
fn packets(frame: FrameLength, ms: u32, bitrate: u32) -> Outcome<(Vec<Vec<u8>>, u64)> {
    let made = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&made);
    let start = Instant::now();
    let mut core = Engine::builder()
        .format(Format::new(frame))
        .source(SourceSpec::Tone)
        .sink(SinkSpec::Null)
        .bitrate(bitrate)
        .on_frame(move |frame| sink.lock().unwrap_or_else(|e| e.into_inner()).push(frame.payload.to_vec()))
        .build(start, SystemTime::UNIX_EPOCH)?;
    for tick in 0..ms / 10 {
        core.tick(start + TICK * tick);
    }
    let made = std::mem::take(&mut *made.lock().unwrap_or_else(|e| e.into_inner()));
    Ok((made, frame.samples() as u64))
}

/// The first header. The table is that of the families that have one.
fn head(channels: u8, pre_skip: u16, gain: i16, family: u8, table: &[u8]) -> Vec<u8> {
    let mut head = b"OpusHead".to_vec();
    head.extend_from_slice(&[1, channels]);
    head.extend_from_slice(&pre_skip.to_le_bytes());
    head.extend_from_slice(&48_000_u32.to_le_bytes());
    head.extend_from_slice(&gain.to_le_bytes());
    head.push(family);
    head.extend_from_slice(table);
    head
}

/// A second header with one comment.
fn tags() -> Vec<u8> {
    let mut tags = b"OpusTags".to_vec();
    for text in ["me", "TITLE=x"] {
        tags.extend_from_slice(&(text.len() as u32).to_le_bytes());
        tags.extend_from_slice(text.as_bytes());
        if text == "me" {
            tags.extend_from_slice(&1_u32.to_le_bytes());
        }
    }
    tags
}

type Out = PacketWriter<'static, Vec<u8>>;

fn begin(out: &mut Out, serial: u32, head: Vec<u8>) -> Outcome<()> {
    out.write_packet(head, serial, PacketWriteEndInfo::EndPage, 0)?;
    Ok(out.write_packet(tags(), serial, PacketWriteEndInfo::EndPage, 0)?)
}

/// Packets of so many samples each, in pages of so many, and how much of the last one is left out.
fn sound(
    out: &mut Out,
    serial: u32,
    packets: &[Vec<u8>],
    samples: u64,
    page: usize,
    cut: u64,
) -> Outcome<()> {
    for (n, packet) in (1..).zip(packets) {
        let last = n == packets.len();
        let info = match (last, n % page) {
            (true, _) => PacketWriteEndInfo::EndStream,
            (_, 0) => PacketWriteEndInfo::EndPage,
            _ => PacketWriteEndInfo::NormalPacket,
        };
        let granule = n as u64 * samples - if last { cut } else { 0 };
        out.write_packet(packet.clone(), serial, info, granule)?;
    }
    Ok(())
}

fn file(head: Vec<u8>, packets: &[Vec<u8>], samples: u64, page: usize, cut: u64) -> Outcome<Vec<u8>> {
    let mut out = PacketWriter::new(Vec::new());
    begin(&mut out, 7, head)?;
    sound(&mut out, 7, packets, samples, page, cut)?;
    Ok(out.into_inner())
}

/// All of them.
pub fn add(seeds: &mut Seeds) -> Outcome<()> {
    let mut add = |bytes: &[u8]| seeds.add("opus_file", bytes);
    let mono = || head(1, 312, 0, 0, &[]);
    for frame in [FrameLength::Ms10, FrameLength::Ms20, FrameLength::Ms60] {
        let (packets, samples) = packets(frame, 240, 12_000)?;
        add(&file(mono(), &packets, samples, 4, 100)?);
    }
    let (packets, samples) = packets(FrameLength::Ms20, 100, 24_000)?;
    let whole = file(mono(), &packets, samples, 2, 0)?;
    add(&whole);
    // Cut off; quieter and louder; stereo; one stream in a family with a table; more than can be played.
    add(&whole[..whole.len() - 20]);
    for head in [
        head(1, 0, -3_000, 0, &[]),
        head(2, u16::MAX, i16::MAX, 0, &[]),
        head(1, 312, 0, 255, &[1, 0, 0]),
        head(2, 312, 0, 1, &[1, 1, 0, 1]),
        head(6, 312, 0, 1, &[4, 2, 0, 4, 1, 2, 3, 5]),
    ] {
        add(&file(head, &packets, samples, 50, 50)?);
    }
    // Two that are chained; two side by side, of which one is played.
    let mut out = PacketWriter::new(whole.clone());
    begin(&mut out, 8, head(1, 100, 256, 0, &[]))?;
    sound(&mut out, 8, &packets[..2], samples, 50, 7)?;
    add(&out.into_inner());
    let mut out = PacketWriter::new(Vec::new());
    out.write_packet(mono(), 1, PacketWriteEndInfo::EndPage, 0)?;
    out.write_packet(b"\x80theora".to_vec(), 2, PacketWriteEndInfo::EndPage, 0)?;
    out.write_packet(tags(), 1, PacketWriteEndInfo::EndPage, 0)?;
    out.write_packet(vec![0x81; 300], 2, PacketWriteEndInfo::EndPage, 0)?;
    sound(&mut out, 1, &packets, samples, 2, 0)?;
    add(&out.into_inner());
    // Silence, pauses, several frames in one packet, the longest packet, and what is none (RFC 6716 section 3.2).
    let odd: Vec<Vec<u8>> = vec![
        vec![31 << 3, 0xff, 0xfe],
        vec![9 << 3],
        [vec![packets[1][0] | 1], packets[1][1..].to_vec(), packets[1][1..].to_vec()].concat(),
        vec![9 << 3 | 2, 3, 1, 2, 3, 4, 5, 6],
        vec![11 << 3 | 3, 2],
        vec![31 << 3 | 3, 0xc6, 4, 1, 1, 1, 1, 1, 9, 9, 9, 9, 9, 9, 0, 0, 0, 0],
        vec![31 << 3 | 3, 63],
        vec![],
        packets[2].clone(),
    ];
    add(&file(mono(), &odd, 960, 3, 0)?);
    Ok(())
}
