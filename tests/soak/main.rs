//! Calls one after another between two processes, then a long one over a network that loses packets, and what that leaves
//! behind: memory, sockets, tasks and delay must be where they were. `make soak` runs it.
//!
//! Real nodes and connections on loopback; the sound is made up. Processes are stopped and killed and links are cut at
//! moments that a seed decides. Linux: figures come from /proc.

#[cfg(target_os = "linux")]
mod calls;
#[cfg(target_os = "linux")]
mod child;
#[cfg(target_os = "linux")]
mod long;
#[cfg(target_os = "linux")]
mod pair;
#[cfg(target_os = "linux")]
mod phone;
#[cfg(target_os = "linux")]
mod report;

use std::process::ExitCode;

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    eprintln!("soak: memory and open files are read from /proc, which this system does not have");
    ExitCode::FAILURE
}

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    linux::main()
}

#[cfg(target_os = "linux")]
mod linux {
    use std::{path::PathBuf, process::ExitCode, time::Duration};

    use clap::{Parser, Subcommand};
    use peak_alloc::PeakAlloc;

    use crate::{calls, long, phone, report::Report};

    /// Counts what each phone holds on the heap.
    #[global_allocator]
    pub(crate) static HEAP: PeakAlloc = PeakAlloc;

    /// Calls one after another, and a long one: nothing may grow.
    #[derive(Debug, Parser)]
    #[command(name = "soak")]
    pub(crate) struct Arguments {
        #[command(subcommand)]
        phone: Option<Phone>,
        /// How many calls; without it, as many as fit into MINUTES
        #[arg(long)]
        pub(crate) calls: Option<u32>,
        /// How long calls are made one after another, where CALLS does not say how many
        #[arg(long, default_value = "3.5")]
        pub(crate) minutes: f64,
        /// How long the long call lasts; 0 for none
        #[arg(long, default_value = "0.06")]
        pub(crate) hours: f64,
        /// By how much the two clocks of the long call differ, in millionths. Cheap crystals: 50 each. With 500 a call of
        /// minutes collects what one of an hour would.
        #[arg(long, default_value = "500", allow_hyphen_values = true)]
        pub(crate) drift: i32,
        /// Decides what goes wrong, and when
        #[arg(long, default_value = "1")]
        pub(crate) seed: u64,
        /// Where the figures are written
        #[arg(long, default_value = "soak.json")]
        pub(crate) out: PathBuf,
    }

    #[derive(Debug, Subcommand)]
    enum Phone {
        /// One of the phones; the soak starts them itself
        #[command(hide = true)]
        Phone(phone::Arguments),
    }

    pub(crate) fn main() -> ExitCode {
        let arguments = Arguments::parse();
        if let Some(Phone::Phone(arguments)) = &arguments.phone {
            return phone::main(arguments);
        }
        let mut report = Report::new(&arguments);
        let talk = Duration::try_from_secs_f64(arguments.hours * 3600.0).unwrap_or_default();
        let done = calls::run(&arguments, &mut report)
            .and_then(|()| if talk.is_zero() { Ok(()) } else { long::run(&arguments, talk, &mut report) });
        if let Err(error) = &done {
            eprintln!("soak: {error}");
        }
        let written = report.write(&arguments.out, done.as_ref().err());
        if let Err(error) = &written {
            eprintln!("soak: {}: {error}", arguments.out.display());
        }
        print!("{report}");
        if done.is_ok() && written.is_ok() && report.is_flat() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}
