use std::fmt;
use std::net::IpAddr;

use crate::certificate::Fingerprint;

/// The longest session description, in bytes. 16 KiB: one of an audio call has about 1 KiB.
pub const MAX_DESCRIPTION_BYTES: usize = 16 * 1024;

/// The longest candidate, in bytes. 1 KiB: real ones have about 100.
pub const MAX_CANDIDATE_BYTES: usize = 1024;

/// Offer or answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DescriptionKind {
    /// Made by the side that dials.
    Offer,
    /// Made by the side that accepts.
    Answer,
}

/// A session description. `Debug` shows its kind and size only.
#[derive(Clone, PartialEq, Eq)]
pub struct Description {
    kind: DescriptionKind,
    sdp: String,
    fingerprint: Fingerprint,
    version: Option<u64>,
    ufrag: Option<String>,
    answers: Option<u64>,
}

/// Says in an answer which offer it is for, so that the answer to an offer that was replaced meanwhile is told apart.
/// Who does not know it ignores it (RFC 8866 section 5.13), and answers without it are taken as they come.
const ANSWERS: &str = "a=x-answers:";

impl Description {
    /// Reads a description from the peer.
    ///
    /// # Errors
    /// [`DescriptionError`], if it is too long, is no SDP, or does not carry exactly one SHA-256 fingerprint value
    /// (repeated in several sections is fine): the engine would accept any certificate out of a list.
    pub fn parse(kind: DescriptionKind, sdp: &str) -> Result<Self, DescriptionError> {
        if sdp.len() > MAX_DESCRIPTION_BYTES {
            return Err(DescriptionError::TooLong { len: sdp.len(), max: MAX_DESCRIPTION_BYTES });
        }
        if !sdp.starts_with("v=0") {
            return Err(DescriptionError::NotSdp);
        }
        let mut found: Option<Fingerprint> = None;
        let (mut version, mut ufrag, mut answers) = (None, None, None);
        for line in sdp.lines() {
            if let Some(origin) = line.strip_prefix("o=") {
                version = version.or_else(|| origin.split(' ').nth(2)?.parse().ok());
            } else if let Some(value) = line.strip_prefix("a=ice-ufrag:") {
                ufrag = ufrag.or_else(|| Some(value.trim_end().to_owned()));
            } else if let Some(value) = line.strip_prefix(ANSWERS) {
                answers = answers.or_else(|| value.trim_end().parse().ok());
            }
            let Some(attribute) = line.strip_prefix("a=fingerprint:") else { continue };
            let fingerprint = Fingerprint::parse(attribute)?;
            if found.is_some_and(|before| before != fingerprint) {
                return Err(DescriptionError::SeveralFingerprints);
            }
            found = Some(fingerprint);
        }
        let fingerprint = found.ok_or(DescriptionError::NoFingerprint)?;
        Ok(Self { kind, sdp: sdp.to_owned(), fingerprint, version, ufrag, answers })
    }

    /// The SDP text, to be sent to the peer.
    pub fn as_str(&self) -> &str {
        &self.sdp
    }

    /// Offer or answer.
    pub fn kind(&self) -> DescriptionKind {
        self.kind
    }

    /// The SHA-256 fingerprint of the certificate that the describing side will show.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Counts the descriptions of one side of one connection (RFC 8866 section 5.2); `None` if the text has no number.
    pub(crate) fn version(&self) -> Option<u64> {
        self.version
    }

    /// Names the ICE session, which a restart replaces.
    pub(crate) fn ufrag(&self) -> Option<&str> {
        self.ufrag.as_deref()
    }

    /// Whether this can be the answer to an offer of this version.
    pub(crate) fn can_answer(&self, offer: Option<u64>) -> bool {
        self.answers.is_none() || offer.is_none() || self.answers == offer
    }

    /// Whether the describing side sends the track of this name (RFC 8830); `None` if it names no such track.
    pub(crate) fn sends(&self, name: &str) -> Option<bool> {
        let section = self.sdp.split("\r\nm=").skip(1).find(|section| {
            let names = section.lines().filter_map(|line| line.strip_prefix("a=msid:")?.split(' ').nth(1));
            names.into_iter().any(|of| of == name)
        })?;
        Some(!section.lines().any(|line| line == "a=recvonly" || line == "a=inactive"))
    }

    /// The same description with another version.
    pub(crate) fn numbered(mut self, version: u64) -> Self {
        let renumber = |line: &str| match line.strip_prefix("o=") {
            Some(origin) => {
                let mut fields: Vec<String> = origin.split(' ').map(str::to_owned).collect();
                if let Some(field) = fields.get_mut(2) {
                    *field = version.to_string();
                }
                format!("o={}", fields.join(" "))
            }
            None => line.to_owned(),
        };
        self.sdp = self.sdp.split("\r\n").map(renumber).collect::<Vec<_>>().join("\r\n");
        self.version = Some(version);
        self
    }

    /// The same answer, marked as that to this offer.
    pub(crate) fn answering(mut self, offer: &Self) -> Self {
        // What concerns the whole session stands before the first section.
        if let (Some(version), Some(at)) = (offer.version, self.sdp.find("\r\nm=")) {
            self.sdp.insert_str(at, &format!("\r\n{ANSWERS}{version}"));
            self.answers = Some(version);
        }
        self
    }
}

impl fmt::Debug for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Description").field("kind", &self.kind).field("bytes", &self.sdp.len()).finish()
    }
}

/// Why a text is no usable session description.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DescriptionError {
    /// More than [`MAX_DESCRIPTION_BYTES`].
    #[error("the description has {len} bytes, {max} are allowed")]
    TooLong {
        /// Bytes in the text.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// Does not begin as SDP does.
    #[error("the text is no session description: it must begin with `v=0`")]
    NotSdp,
    /// No fingerprint at all.
    #[error("the description has no certificate fingerprint: the peer could not be authenticated")]
    NoFingerprint,
    /// Two different fingerprints.
    #[error("the description has more than one certificate fingerprint: exactly one is allowed")]
    SeveralFingerprints,
    /// A fingerprint that is not SHA-256, or is malformed.
    #[error(
        "the description's certificate fingerprint is no SHA-256 value (32 bytes in hex, separated by colons)"
    )]
    BadFingerprint,
}

/// What kind of address a candidate, or the end of a path, is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CandidateKind {
    /// An address of the machine itself.
    Host,
    /// The address that a STUN server sees.
    ServerReflexive,
    /// The address that the peer sees, learned from its checks.
    PeerReflexive,
    /// An address at a TURN server.
    Relay,
}

/// An ICE candidate in the form of RFC 8839 (`candidate:...`). `Debug` shows its kind only.
#[derive(Clone, PartialEq, Eq)]
pub struct Candidate {
    text: String,
    kind: CandidateKind,
    usable: bool,
}

impl Candidate {
    /// Reads a candidate from the peer.
    ///
    /// # Errors
    /// [`CandidateError`], if it is too long or no candidate line.
    pub fn parse(text: &str) -> Result<Self, CandidateError> {
        if text.len() > MAX_CANDIDATE_BYTES {
            return Err(CandidateError::TooLong { len: text.len(), max: MAX_CANDIDATE_BYTES });
        }
        if !text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
            return Err(CandidateError::Malformed);
        }
        let rest = text.strip_prefix("candidate:").ok_or(CandidateError::Malformed)?;
        let fields: Vec<&str> = rest.split(' ').collect();
        let [_foundation, component, transport, priority, address, port, "typ", kind, ..] = fields[..] else {
            return Err(CandidateError::Malformed);
        };
        let kind = match kind {
            "host" => CandidateKind::Host,
            "srflx" => CandidateKind::ServerReflexive,
            "prflx" => CandidateKind::PeerReflexive,
            "relay" => CandidateKind::Relay,
            _ => return Err(CandidateError::Malformed),
        };
        let component: u16 = component.parse().map_err(|_| CandidateError::Malformed)?;
        let _: u32 = priority.parse().map_err(|_| CandidateError::Malformed)?;
        let port: u16 = port.parse().map_err(|_| CandidateError::Malformed)?;
        // The engine would open a TCP connection to any passive TCP candidate it is given, and resolves host names; RTCP
        // shares the one component.
        let usable = component == 1
            && port != 0
            && transport.eq_ignore_ascii_case("udp")
            && address.parse::<IpAddr>().is_ok_and(|ip| !ip.is_unspecified() && !ip.is_multicast());
        Ok(Self { text: text.to_owned(), kind, usable })
    }

    /// The candidate's text, to be sent to the peer.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What kind of address it is.
    pub fn kind(&self) -> CandidateKind {
        self.kind
    }

    /// Whether a connection can use it: UDP, an IP address, the component that carries media. Others are ignored.
    pub fn is_usable(&self) -> bool {
        self.usable
    }

    /// The ICE session that the candidate belongs to, if it says so (RFC 8839 section 5.1 leaves room for such extensions;
    /// browsers write this one).
    pub(crate) fn ufrag(&self) -> Option<&str> {
        let mut fields = self.text.split(' ').skip(8);
        fields.by_ref().find(|field| *field == "ufrag")?;
        fields.next()
    }

    /// The same candidate, saying which ICE session it belongs to.
    pub(crate) fn with_ufrag(mut self, ufrag: Option<&str>) -> Self {
        if let (Some(ufrag), None) = (ufrag, self.ufrag()) {
            self.text = format!("{} ufrag {ufrag}", self.text);
        }
        self
    }

    /// The same candidate without the address it was derived from (RFC 8839 section 5.1 allows these values to hide it).
    pub(crate) fn without_related_address(&self) -> Self {
        let mut fields: Vec<&str> = self.text.split(' ').collect();
        for i in 1..fields.len() {
            match fields[i - 1] {
                "raddr" => fields[i] = "0.0.0.0",
                "rport" => fields[i] = "9",
                _ => {}
            }
        }
        Self { text: fields.join(" "), ..*self }
    }
}

impl fmt::Debug for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Candidate").field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// Why a text is no ICE candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CandidateError {
    /// More than [`MAX_CANDIDATE_BYTES`].
    #[error("the candidate has {len} bytes, {max} are allowed")]
    TooLong {
        /// Bytes in the text.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// Not of the form `candidate:foundation component transport priority address port typ kind`.
    #[error("the text is no candidate in the form of RFC 8839 section 5.1")]
    Malformed,
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str =
        "00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF";

    fn sdp(lines: &[&str]) -> String {
        format!("v=0\r\n{}\r\n", lines.join("\r\n"))
    }

    fn parse(sdp: &str) -> Result<Description, DescriptionError> {
        Description::parse(DescriptionKind::Offer, sdp)
    }

    #[test]
    fn one_fingerprint_however_often_it_is_repeated() {
        let upper = format!("a=fingerprint:sha-256 {HASH}");
        let lower = format!("a=fingerprint:SHA-256 {}", HASH.to_lowercase());
        let description = parse(&sdp(&[&upper, "m=audio 9 x 0", &lower])).expect("same value twice");
        assert_eq!(description.fingerprint().as_bytes()[1], 0x11);
        assert_eq!(description.fingerprint().as_bytes()[31], 0xff);

        let other = upper.replace("00:11", "00:12");
        assert_eq!(parse(&sdp(&[&upper, &other])), Err(DescriptionError::SeveralFingerprints));
        assert_eq!(parse(&sdp(&[])), Err(DescriptionError::NoFingerprint));
        for bad in [
            format!("a=fingerprint:sha-1 {HASH}"),
            format!("a=fingerprint:sha-256 {HASH}:00"),
            "a=fingerprint:sha-256 00:11".to_owned(),
            "a=fingerprint:sha-256".to_owned(),
            upper.replace("00:11", "0x:+1"),
        ] {
            assert_eq!(parse(&sdp(&[&bad])), Err(DescriptionError::BadFingerprint), "{bad}");
            // A second, good one does not make up for it.
            assert_eq!(parse(&sdp(&[&upper, &bad])), Err(DescriptionError::BadFingerprint), "{bad}");
        }
    }

    #[test]
    fn descriptions_are_bounded_and_hidden() {
        let fingerprint = format!("a=fingerprint:sha-256 {HASH}");
        let base = sdp(&[&fingerprint]);
        let full = base.clone() + &"x".repeat(MAX_DESCRIPTION_BYTES - base.len());
        assert!(parse(&full).is_ok());
        let over = full + "x";
        assert_eq!(
            parse(&over),
            Err(DescriptionError::TooLong { len: MAX_DESCRIPTION_BYTES + 1, max: MAX_DESCRIPTION_BYTES })
        );
        assert_eq!(parse("hello"), Err(DescriptionError::NotSdp));
        let shown = format!("{:?}", parse(&base).expect("valid"));
        assert!(shown.contains("Offer") && !shown.contains("AA:BB") && !shown.contains("v=0"), "{shown}");
    }

    #[test]
    fn candidates_are_checked_and_hidden() {
        let text = "candidate:1 1 udp 2130706431 192.0.2.7 5000 typ host";
        let candidate = Candidate::parse(text).expect("valid");
        assert_eq!((candidate.as_str(), candidate.kind()), (text, CandidateKind::Host));
        assert!(candidate.is_usable());
        assert!(!format!("{candidate:?}").contains("192.0.2.7"));

        for unusable in [
            "candidate:1 1 tcp 1 192.0.2.7 5000 typ host tcptype passive",
            "candidate:1 1 udp 1 3f6a.local 5000 typ host",
            "candidate:1 2 udp 1 192.0.2.7 5000 typ host",
            "candidate:1 1 udp 1 0.0.0.0 5000 typ host",
            "candidate:1 1 udp 1 224.0.0.1 5000 typ host",
            "candidate:1 1 udp 1 192.0.2.7 0 typ host",
        ] {
            assert!(!Candidate::parse(unusable).expect(unusable).is_usable(), "{unusable}");
        }
        for malformed in [
            "",
            "candidate:",
            "1 1 udp 1 192.0.2.7 5000 typ host",
            "candidate:1 1 udp 1 192.0.2.7 5000 typ",
            "candidate:1 1 udp 1 192.0.2.7 99999 typ host",
            "candidate:1 1 udp 1 192.0.2.7 5000 typ moon",
            "candidate:1 1 udp 1 192.0.2.7 5000 typ host\r\na=x",
        ] {
            assert_eq!(Candidate::parse(malformed), Err(CandidateError::Malformed), "{malformed}");
        }
        let long = format!("{text} {}", "x".repeat(MAX_CANDIDATE_BYTES));
        assert!(matches!(Candidate::parse(&long), Err(CandidateError::TooLong { .. })));
    }

    #[test]
    fn an_answer_says_which_offer_it_is_for() {
        let fingerprint = format!("a=fingerprint:sha-256 {HASH}");
        let text = |version| {
            sdp(&[
                &format!("o=- 77 {version} IN IP4 0.0.0.0"),
                "a=ice-ufrag:abCD",
                &fingerprint,
                "m=audio 9 x 0",
            ])
        };
        let offer = parse(&text("4")).expect("valid");
        assert_eq!((offer.version(), offer.ufrag()), (Some(4), Some("abCD")));
        let answer = parse(&text("9")).expect("valid");
        assert!(answer.can_answer(Some(3)) && answer.can_answer(Some(4)), "a browser says nothing");
        let sent = answer.clone().answering(&offer);
        let read = Description::parse(DescriptionKind::Offer, sent.as_str()).expect("still valid");
        assert_eq!(read, sent);
        assert!(read.can_answer(Some(4)) && read.can_answer(None) && !read.can_answer(Some(3)));
        assert_eq!(read.as_str().replace("a=x-answers:4\r\n", ""), answer.as_str());
        let renumbered = offer.clone().numbered(12);
        assert_eq!(renumbered.as_str(), offer.as_str().replace("o=- 77 4 ", "o=- 77 12 "));
        assert_eq!(parse(renumbered.as_str()), Ok(renumbered));
        let unnumbered = parse(&sdp(&["o=-", &fingerprint])).expect("valid");
        assert_eq!(unnumbered.version(), None);
    }

    #[test]
    fn a_description_says_which_tracks_are_sent() {
        let fingerprint = format!("a=fingerprint:sha-256 {HASH}");
        let section =
            |name: &str, direction: &str| format!("m=video 9 x 96\r\na=msid:- {name}\r\na={direction}");
        let text = sdp(&[
            &fingerprint,
            &section("one", "sendonly"),
            &section("two", "inactive"),
            &section("three", "recvonly"),
        ]);
        let description = parse(&text).expect("valid");
        let sends = ["one", "two", "three", "on"].map(|name| description.sends(name));
        assert_eq!(sends, [Some(true), Some(false), Some(false), None]);
    }

    #[test]
    fn a_candidate_says_which_session_it_belongs_to() {
        let text = "candidate:1 1 udp 1 203.0.113.9 5000 typ srflx raddr 192.168.1.5 rport 40000";
        let plain = Candidate::parse(text).expect("valid");
        assert_eq!(plain.ufrag(), None);
        let marked = plain.clone().with_ufrag(Some("abCD"));
        assert_eq!(marked.as_str(), format!("{text} ufrag abCD"));
        let read = Candidate::parse(marked.as_str()).expect("valid");
        assert_eq!(read.ufrag(), Some("abCD"));
        assert_eq!(read.with_ufrag(Some("other")), marked, "it knows better");
        let browser =
            Candidate::parse("candidate:1 1 udp 1 192.0.2.7 9 typ host generation 0 ufrag x network-id 1");
        assert_eq!(browser.expect("valid").ufrag(), Some("x"));
        assert_eq!(plain.clone().with_ufrag(None), plain);
    }

    #[test]
    fn a_related_address_can_be_hidden() {
        let text = "candidate:1 1 udp 1 203.0.113.9 5000 typ relay raddr 192.168.1.5 rport 40000";
        let hidden = Candidate::parse(text).expect("valid").without_related_address();
        assert_eq!(hidden.as_str(), "candidate:1 1 udp 1 203.0.113.9 5000 typ relay raddr 0.0.0.0 rport 9");
    }
}
