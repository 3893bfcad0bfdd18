//! What the command ends with: an exit code, and one line on standard error if something is wrong.

use std::{fmt, process::ExitCode};

use warp_blink::{
    error::{Error, Rejected},
    event::EndReason,
};

/// The exit codes of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// The call took place, or was rejected as asked.
    Done = 0,
    /// Anything that no other code stands for.
    Other = 1,
    /// Bad usage.
    Usage = 2,
    /// Declined or busy.
    Declined = 3,
    /// No answer, or cancelled.
    NoAnswer = 4,
    /// The other side could not be reached.
    Unreachable = 5,
    /// The call failed or was lost.
    Failed = 6,
}

impl Exit {
    /// What an ended call comes to. `talked`: microphone and speaker ran.
    pub fn of(reason: &EndReason, talked: bool) -> Self {
        match reason {
            EndReason::HungUp | EndReason::Removed if talked => Self::Done,
            EndReason::HungUp | EndReason::Removed => Self::NoAnswer,
            EndReason::Declined | EndReason::Busy => Self::Declined,
            EndReason::Cancelled | EndReason::TimedOut | EndReason::AnsweredElsewhere => Self::NoAnswer,
            EndReason::Unreachable => Self::Unreachable,
            EndReason::Incompatible { .. }
            | EndReason::Lost
            | EndReason::FingerprintMismatch
            | EndReason::Failed { .. } => Self::Failed,
            // A reason that this build of the command does not know yet.
            _ => Self::Other,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why the command ends early.
#[derive(Debug)]
pub struct Failure {
    /// With which code.
    pub exit: Exit,
    /// What is wrong and what to do, on one line.
    pub message: String,
}

impl Failure {
    /// The user asked for something that cannot be.
    pub fn usage(message: impl fmt::Display) -> Self {
        Self { exit: Exit::Usage, message: one_line(&message.to_string()) }
    }

    /// Anything else.
    pub fn other(message: impl fmt::Display) -> Self {
        Self { exit: Exit::Other, message: one_line(&message.to_string()) }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Rejected(Rejected::SelfCall | Rejected::NobodyToCall | Rejected::CallFull { .. })
            | Error::AppData(_)
            | Error::Address(_)
            | Error::Media(_)
            | Error::SameFile { .. } => Self::usage(error),
            _ => Self::other(error),
        }
    }
}

/// The same without line breaks, since scripts read one line.
pub(super) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use warp_blink::event::{Mismatch, Step};

    #[test]
    fn each_end_has_the_code_of_the_contract() {
        let cases = [
            (EndReason::HungUp, true, 0),
            (EndReason::HungUp, false, 4),
            (EndReason::Declined, false, 3),
            (EndReason::Busy, false, 3),
            (EndReason::Cancelled, false, 4),
            (EndReason::TimedOut, false, 4),
            (EndReason::Unreachable, false, 5),
            (EndReason::Lost, true, 6),
            (EndReason::Incompatible { mismatch: Mismatch::Media }, false, 6),
            (EndReason::FingerprintMismatch, false, 6),
            (EndReason::Failed { step: Step::Checking }, false, 6),
        ];
        for (reason, talked, code) in cases {
            assert_eq!(Exit::of(&reason, talked) as u8, code, "{reason}");
        }
    }

    #[test]
    fn a_message_is_one_line() {
        assert_eq!(Failure::usage("a\n  b\n\nc").message, "a b c");
    }
}
