//! Which parts there are, and how long each looks.

use std::{path::PathBuf, process::ExitCode, thread, time::Duration};

use clap::{Parser, Subcommand, ValueEnum};

use crate::{alone, contacts, crowd, groups, phone, speech, talkers, watch};

/// What people and contacts take of a machine.
#[derive(Debug, Parser)]
#[command(name = "scale")]
struct Arguments {
    #[command(subcommand)]
    child: Option<Child>,
    /// The smallest run that shows that everything works; its figures say nothing
    #[arg(long = "try")]
    tiny: bool,
    /// These parts only
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
}

#[derive(Debug, Subcommand)]
enum Child {
    /// One phone; the program starts them itself
    #[command(hide = true)]
    Phone(phone::Arguments),
    /// Many phones
    #[command(hide = true)]
    Crowd(crowd::Arguments),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    Alone,
    Groups,
    Talkers,
    Contacts,
}

/// How much is measured, and for how long.
#[derive(Debug)]
pub(crate) struct Scale {
    /// Before anything is looked at: what a start, or the beginning of a call, takes is over.
    pub(crate) settle: Duration,
    /// How long a call is looked at.
    pub(crate) look: Duration,
    /// How long a node is looked at that does nothing.
    pub(crate) watch: Duration,
    /// Nodes in a call.
    pub(crate) groups: &'static [u32],
    /// Who talk to one node.
    pub(crate) talkers: &'static [u32],
    /// Contacts, and how many of them are online.
    pub(crate) contacts: &'static [(u32, u32)],
    /// Contacts of a node that is connected with none.
    pub(crate) not_kept: u32,
    /// What everybody says.
    pub(crate) speech: PathBuf,
}

impl Scale {
    fn whole(speech: PathBuf) -> Self {
        Self {
            settle: Duration::from_secs(5),
            look: Duration::from_secs(15),
            // Four pings of each connection, 60 heartbeats of gossip.
            watch: Duration::from_secs(60),
            groups: &[2, 4, 8],
            talkers: &[1, 2, 4, 8, 15],
            // `keep_contacts` keeps 128 connections at most; and of a thousand people not all are there.
            contacts: &[(10, 10), (100, 100), (1000, 100)],
            not_kept: 100,
            speech,
        }
    }

    fn tiny(speech: PathBuf) -> Self {
        Self {
            settle: Duration::from_secs(1),
            look: Duration::from_secs(2),
            watch: Duration::from_secs(2),
            groups: &[2],
            talkers: &[2],
            contacts: &[(3, 2)],
            not_kept: 3,
            speech,
        }
    }
}

pub(crate) fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match &arguments.child {
        Some(Child::Phone(arguments)) => phone::main(arguments),
        Some(Child::Crowd(arguments)) => crowd::main(arguments),
        None => measure(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("scale: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &Arguments) -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| format!("a folder: {error}"))?;
    let speech = folder.path().join("speech.wav");
    speech::write(&speech)?;
    let scale = if arguments.tiny { Scale::tiny(speech) } else { Scale::whole(speech) };
    watch::tell("optimised", u8::from(!cfg!(debug_assertions)));
    watch::tell("cores", thread::available_parallelism().map_or(1, usize::from));
    for part in [Part::Alone, Part::Groups, Part::Talkers, Part::Contacts] {
        if arguments.only.is_empty() || arguments.only.contains(&part) {
            eprintln!("{part:?} ...");
            match part {
                Part::Alone => alone::measure(&scale),
                Part::Groups => groups::measure(&scale),
                Part::Talkers => talkers::measure(&scale),
                Part::Contacts => contacts::measure(&scale),
            }?;
        }
    }
    watch::conclude();
    Ok(())
}
