//! Which certificates a connection is secured with, as the engine itself counts them after the handshake.

use rtc::statistics::report::{RTCStatsReport, RTCStatsReportEntry};

use crate::certificate::{Certificates, Fingerprint};

/// `None` before the handshake is over.
pub(super) fn of(report: &RTCStatsReport) -> Option<Certificates> {
    let transport = report.iter().find_map(|entry| match entry {
        RTCStatsReportEntry::Transport(transport) => Some(transport),
        _ => None,
    })?;
    let named = |id: &str| {
        report.iter().find_map(|entry| match entry {
            RTCStatsReportEntry::Certificate(certificate)
                if !id.is_empty() && certificate.stats.id.ends_with(id) =>
            {
                let algorithm = &certificate.fingerprint_algorithm;
                Fingerprint::parse(&format!("{algorithm} {}", certificate.fingerprint)).ok()
            }
            _ => None,
        })
    };
    let local = named(&transport.local_certificate_id)?;
    Some(Certificates { local, remote: named(&transport.remote_certificate_id)? })
}
