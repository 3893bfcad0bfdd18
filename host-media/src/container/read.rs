//! Reads Ogg Opus files, ours and those of others.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom},
    path::Path,
};

use ogg::{OggReadError, PacketReader};

use super::head::{Head, HeadFault};
use crate::{
    SAMPLE_RATE,
    codec::{
        Decoder,
        packet::{self, MAX_SAMPLES},
    },
    error::{Error, OpusFault},
    source::memory::{Playing, Samples},
};

/// So much may lie between two packets of the sound that is read: other streams, pictures in the comments. RFC 7845
/// section 5.2 lets a reader refuse comments above 120 MiB; nothing that people play has 16.
const MAX_BETWEEN: u64 = 16 << 20;

/// An Ogg Opus file that plays in real time.
pub(crate) type OpusSource = Playing<OpusSamples<BufReader<File>>>;

/// Opens a file and reads its headers.
pub(crate) fn open(path: &Path) -> Result<OpusSource, Error> {
    let fail = |fault: OpusFault| Error::Opus { path: path.to_owned(), fault };
    let file = File::open(path).map_err(|e| fail(OpusFault::Io(e)))?;
    if file.metadata().map_err(|e| fail(OpusFault::Io(e)))?.is_dir() {
        return Err(fail(OpusFault::Io(io::ErrorKind::IsADirectory.into())));
    }
    let samples = match OpusSamples::begin(BufReader::new(file)) {
        Ok(samples) => samples,
        Err(OpenFault::File(fault)) => return Err(fail(fault)),
        Err(OpenFault::Codec(e)) => return Err(e),
    };
    Playing::new(samples, SAMPLE_RATE)
}

/// Why a file cannot be begun.
#[derive(Debug)]
pub(crate) enum OpenFault {
    File(OpusFault),
    Codec(Error),
}

/// The sound of an Ogg Opus file: 48 kHz, mixed to mono, gain applied, without what its headers say is to be left out.
/// Files that are chained behind each other are one sound.
pub(crate) struct OpusSamples<R: Read + Seek> {
    packets: PacketReader<Metered<R>>,
    decoder: Decoder,
    link: Link,
    /// The packets of a page that are still to be decoded.
    page: VecDeque<Vec<u8>>,
    /// Decoded samples that are still to be given: those of `pcm` in this range.
    pcm: Vec<f32>,
    from: usize,
    to: usize,
}

/// One of the streams that are chained in a file.
struct Link {
    serial: u32,
    factor: f32,
    /// Samples that are still to be left out at the start.
    skip: usize,
    /// Samples that the last page still allows.
    allowed: Option<u64>,
    /// The granule position of the last page.
    granule: Option<u64>,
    has_tags: bool,
    over: bool,
}

impl Link {
    fn new(serial: u32, head: Head) -> Self {
        Self {
            serial,
            factor: head.factor(),
            skip: usize::from(head.pre_skip),
            allowed: None,
            granule: None,
            has_tags: false,
            over: false,
        }
    }
}

impl<R: Read + Seek> OpusSamples<R> {
    pub(crate) fn begin(inner: R) -> Result<Self, OpenFault> {
        let mut packets = PacketReader::new(Metered { inner, since: 0 });
        let link = first(&mut packets).map_err(OpenFault::File)?;
        let decoder = Decoder::new().map_err(OpenFault::Codec)?;
        let mut samples = Self {
            packets,
            decoder,
            link,
            page: VecDeque::new(),
            pcm: vec![0.0; MAX_SAMPLES],
            from: 0,
            to: 0,
        };
        // So that a file without its second header is noticed at once.
        samples.fill().map_err(OpenFault::File)?;
        if !samples.link.has_tags {
            return Err(OpenFault::File(OpusFault::Broken("it ends in its header".to_owned())));
        }
        Ok(samples)
    }

    /// Reads the next page with packets of the sound. False at the end.
    fn fill(&mut self) -> Result<bool, OpusFault> {
        loop {
            let packet = match self.packets.read_packet() {
                Ok(Some(packet)) => packet,
                Ok(None) => return Ok(false),
                // Whoever wrote it was interrupted. What is whole has been read.
                Err(e) if is_cut(&e) => return Ok(false),
                Err(e) => return Err(explain(e)),
            };
            if packet.first_in_stream() {
                // Streams side by side all begin before the first sound: what begins later is the next one in a chain.
                let follows = self.link.over || self.link.granule.is_some();
                match Head::parse(&packet.data) {
                    Ok(head) if follows => {
                        self.link = Link::new(packet.stream_serial(), head);
                        // A failure would show at its first packet, which is then silence.
                        if let Err(e) = self.decoder.reset() {
                            tracing::warn!(error = %e, "the decoder keeps its old state");
                        }
                    }
                    Err(HeadFault::Broken(text)) if follows => return Err(OpusFault::Broken(text)),
                    Err(HeadFault::Unsupported(text)) if follows => return Err(OpusFault::Unsupported(text)),
                    _ => {}
                }
                continue;
            }
            if packet.stream_serial() != self.link.serial || self.link.over {
                continue;
            }
            self.packets.get_mut().since = 0;
            if !self.link.has_tags {
                if !packet.data.starts_with(b"OpusTags") {
                    return Err(OpusFault::Broken("its second header is missing".to_owned()));
                }
                self.link.has_tags = true;
                continue;
            }
            // Packets that say nothing of themselves are passed over (RFC 7845 section 3).
            let (granule, ends_page, last) =
                (packet.absgp_page(), packet.last_in_page(), packet.last_in_stream());
            if packet::head(&packet.data).is_some() {
                self.page.push_back(packet.data);
            }
            if !ends_page {
                continue;
            }
            self.end_page(granule, last);
            if !self.page.is_empty() {
                return Ok(true);
            }
        }
    }

    /// Takes note of what the head of a page says about its packets (RFC 7845 section 4).
    fn end_page(&mut self, granule: u64, last: bool) {
        let samples: u64 =
            self.page.iter().filter_map(|p| packet::head(p)).map(|head| head.samples as u64).sum();
        if last {
            // A stream may begin later than zero, unless it ends on its first page.
            let before = self.link.granule.unwrap_or(0);
            self.link.allowed = Some(granule.saturating_sub(before).min(samples));
            self.link.over = true;
        }
        self.link.granule = Some(granule);
    }

    /// Decodes the next packet into `pcm`. False at the end.
    fn decode(&mut self) -> Result<bool, OpusFault> {
        let Some(payload) = self.page.pop_front() else {
            if !self.fill()? {
                return Ok(false);
            }
            return self.decode();
        };
        let n = match self.decoder.decode(&payload, &mut self.pcm) {
            Ok(n) => n.min(self.pcm.len()),
            Err(e) => {
                tracing::debug!(error = %e, "a packet of a file cannot be decoded");
                let n = packet::head(&payload).map_or(0, |head| head.samples).min(self.pcm.len());
                self.pcm[..n].fill(0.0);
                n
            }
        };
        let skipped = self.link.skip.min(n);
        self.link.skip -= skipped;
        self.from = skipped;
        self.to = n;
        if let Some(allowed) = &mut self.link.allowed {
            let here = (*allowed).min(n as u64);
            *allowed -= here;
            self.to = (here as usize).max(self.from);
        }
        for sample in &mut self.pcm[self.from..self.to] {
            let loud = *sample * self.link.factor;
            // A gain of 128 dB is possible.
            *sample = if loud.is_finite() { loud.clamp(-8.0, 8.0) } else { 0.0 };
        }
        Ok(true)
    }
}

impl<R: Read + Seek + Send> Samples for OpusSamples<R> {
    fn next(&mut self, out: &mut [f32]) -> Result<usize, String> {
        let mut done = 0;
        while done < out.len() {
            if self.from == self.to {
                if !self.decode().map_err(|fault| fault.to_string())? {
                    break;
                }
                continue;
            }
            let n = (self.to - self.from).min(out.len() - done);
            out[done..done + n].copy_from_slice(&self.pcm[self.from..self.from + n]);
            self.from += n;
            done += n;
        }
        Ok(done)
    }
}

/// Looks for the first stream that is Opus.
fn first<R: Read + Seek>(packets: &mut PacketReader<Metered<R>>) -> Result<Link, OpusFault> {
    loop {
        let packet = match packets.read_packet() {
            Ok(Some(packet)) => packet,
            Ok(None) => return Err(OpusFault::Broken("there is no sound in it".to_owned())),
            Err(e) if is_cut(&e) => return Err(OpusFault::Broken("it ends in its header".to_owned())),
            Err(e) => return Err(explain(e)),
        };
        if !packet.first_in_stream() {
            return Err(OpusFault::Unsupported("the sound in it is not Opus".to_owned()));
        }
        match Head::parse(&packet.data) {
            Ok(head) => return Ok(Link::new(packet.stream_serial(), head)),
            Err(HeadFault::NotOpus) => {}
            Err(HeadFault::Broken(text)) => return Err(OpusFault::Broken(text)),
            Err(HeadFault::Unsupported(text)) => return Err(OpusFault::Unsupported(text)),
        }
    }
}

fn is_cut(e: &OggReadError) -> bool {
    matches!(e, OggReadError::ReadError(e) if e.kind() == io::ErrorKind::UnexpectedEof)
}

fn explain(e: OggReadError) -> OpusFault {
    match e {
        OggReadError::ReadError(e) if e.raw_os_error().is_none() => OpusFault::Broken(e.to_string()),
        OggReadError::ReadError(e) => OpusFault::Io(e),
        OggReadError::NoCapturePatternFound => OpusFault::Broken("it is not an Ogg file".to_owned()),
        OggReadError::HashMismatch(..) => OpusFault::Broken("a checksum is wrong".to_owned()),
        e => OpusFault::Broken(e.to_string()),
    }
}

/// Bounds what is read, and therefore kept, between two packets.
struct Metered<R> {
    inner: R,
    since: u64,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.since > MAX_BETWEEN {
            return Err(io::Error::other("there is no sound in its next 16 MiB"));
        }
        let n = self.inner.read(buf)?;
        self.since += n as u64;
        Ok(n)
    }
}

impl<R: Seek> Seek for Metered<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}
