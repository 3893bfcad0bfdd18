use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The crates of the engine. Their targets in the log are these, or begin with one and `::`.
const ENGINE: [&str; 12] = [
    "webrtc",
    "rtc",
    "rtc_datachannel",
    "rtc_dtls",
    "rtc_ice",
    "rtc_interceptor",
    "rtc_mdns",
    "rtc_sctp",
    "rtc_shared",
    "rtc_srtp",
    "rtc_stun",
    "rtc_turn",
];
/// Lines of one crate that pass at once. 5: what belongs to one event of the engine.
const BURST: u32 = 5;
/// And then one each. 10 s: six lines a minute tell that something goes on; the events tell what.
const INTERVAL: Duration = Duration::from_secs(10);

/// Keeps what the engine logs within bounds.
///
/// The engine writes through the `log` crate, for instance one error for each packet that a network does not take, with
/// addresses in it. An app that wants to see those lines at all can ask this before it writes one: of each crate of the
/// engine five lines pass at once, and then one every 10 s. Lines of others always pass.
///
/// ```
/// use std::time::Instant;
/// use simple_webrtc::{LogVerdict, LogLimit};
///
/// let limit = LogLimit::default();
/// // In a `log::Log`, or in a filter of `tracing_subscriber`:
/// match limit.admit(Instant::now(), "webrtc::peer_connection::driver") {
///     LogVerdict::Passes { suppressed: 0 } => println!("the line"),
///     LogVerdict::Passes { suppressed } => println!("the line, and {suppressed} before it"),
///     _ => {}
/// }
/// ```
#[derive(Clone, Debug, Default)]
pub struct LogLimit {
    crates: Arc<Mutex<[Bucket; ENGINE.len()]>>,
}

/// What [`LogLimit`] says of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogVerdict {
    /// It may be written.
    Passes {
        /// Lines of the same crate that were suppressed since the last one that passed.
        suppressed: u64,
    },
    /// There were too many.
    Suppressed,
}

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    /// When it was last filled, and what is left.
    filled: Option<(Instant, u32)>,
    suppressed: u64,
}

impl LogLimit {
    /// Whether a line with this target may be written now.
    pub fn admit(&self, now: Instant, target: &str) -> LogVerdict {
        let of = target.split("::").next().unwrap_or_default();
        let Some(at) = ENGINE.iter().position(|name| *name == of) else {
            return LogVerdict::Passes { suppressed: 0 };
        };
        self.crates.lock().unwrap_or_else(PoisonError::into_inner)[at].admit(now)
    }
}

impl Bucket {
    fn admit(&mut self, now: Instant) -> LogVerdict {
        let (mut filled, mut left) = self.filled.unwrap_or((now, BURST));
        let passed = now.saturating_duration_since(filled).as_nanos() / INTERVAL.as_nanos();
        let refills = u32::try_from(passed).unwrap_or(u32::MAX);
        left = left.saturating_add(refills).min(BURST);
        filled = if left == BURST { now } else { filled + INTERVAL * refills };
        let passes = left > 0;
        self.filled = Some((filled, left.saturating_sub(1)));
        if passes {
            return LogVerdict::Passes { suppressed: std::mem::take(&mut self.suppressed) };
        }
        self.suppressed += 1;
        LogVerdict::Suppressed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_six_lines_a_minute_and_nothing_is_lost_count_of() {
        let (limit, start) = (LogLimit::default(), Instant::now());
        let (mut passed, mut told) = (0, 0);
        for ms in (0..60_000).step_by(20) {
            let now = start + Duration::from_millis(ms);
            match limit.clone().admit(now, "webrtc::peer_connection::driver") {
                LogVerdict::Passes { suppressed } => (passed, told) = (passed + 1, told + suppressed),
                LogVerdict::Suppressed => {}
            }
        }
        assert_eq!(passed, u64::from(BURST) + 5);
        // All but those since the last one that passed.
        assert!(3_000 - passed - told < 500, "{told}");
        // Each crate has its own, an app's lines are not counted, and silence fills it again.
        assert_eq!(limit.admit(start, "rtc_ice::agent"), LogVerdict::Passes { suppressed: 0 });
        for target in ["webrtcish", "app::webrtc", ""] {
            for _ in 0..100 {
                assert_eq!(limit.admit(start, target), LogVerdict::Passes { suppressed: 0 });
            }
        }
        let later = start + Duration::from_secs(600);
        let burst = (0..100).filter(|_| limit.admit(later, "webrtc") != LogVerdict::Suppressed).count();
        assert_eq!(burst, BURST as usize);
    }
}
