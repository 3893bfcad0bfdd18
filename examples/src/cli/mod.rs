//! The command line around a [`Blink`](warp_blink::Blink). It does nothing that another app could not do.

pub mod args;
mod calls;
mod control;
mod devices;
pub mod failure;
mod line;
mod output;
mod relay;
mod session;
mod setup;
mod signals;
mod tally;

use std::{
    io::{self, IsTerminal},
    process::ExitCode,
    time::Duration,
};

use clap::{CommandFactory, Parser, error::ErrorKind};
use tracing_subscriber::EnvFilter;

use self::{
    args::{Arguments, Command, IdArguments},
    failure::{Exit, Failure, one_line},
    line::Line,
    output::Output,
};
use crate::demo;

/// What is logged without BLINK_LOG and RUST_LOG. The stacks below complain of everyday things, which the events tell
/// better: a peer that went away, a node whose address is not known, a protocol that a peer does not speak. WebRTC names addresses
/// in its errors, and ours tell the same without them.
const LOG: &str = "warn,webrtc=off,rtc=off,rtc_ice=off,rtc_dtls=off,rtc_sctp=off,rtc_mdns=off,turn=off,\
                   libp2p_swarm=error,libp2p_gossipsub=error,libp2p_kad=error,rust_ipfs=error,\
                   rust_ipfs::p2p::addressbook=off,connexa=off";

/// Runs the command with the process's arguments and ends with the exit code of the contract.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return refuse(&error),
    };
    log();
    let result = match arguments.command {
        Command::Id(arguments) => id(&arguments),
        Command::Devices(arguments) => devices::run(arguments.json),
        Command::Demo(arguments) => return demo::run(&arguments),
        Command::Relay(arguments) => run(None, relay::run(&arguments)),
        Command::Answer(arguments) => run(CALLING, session::answer(&arguments)),
        Command::Call(arguments) => run(CALLING, session::call(&arguments)),
    };
    match result {
        Ok(exit) => exit.into(),
        Err(Failure { exit, message }) => {
            eprintln!("blink: {message}");
            exit.into()
        }
    }
}

/// Worker threads of who calls. One: a packet each 10 ms is no work for two, which wake each other for it. A call takes a sixth less of
/// the processor so (6.4 and 5.2 % of a core, release, loopback), and all of one with 15 others fits into half a core.
const CALLING: Option<usize> = Some(1);

/// With so many worker threads, or one for each core.
fn run(
    workers: Option<usize>,
    session: impl Future<Output = Result<Exit, Failure>>,
) -> Result<Exit, Failure> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Some(workers) = workers {
        builder.worker_threads(workers);
    }
    let runtime = builder
        .enable_all()
        .build()
        .map_err(|e| Failure::other(format_args!("the system gave no threads: {e}")))?;
    let result = runtime.block_on(session);
    // What has not ended by itself does not hold the program.
    runtime.shutdown_timeout(Duration::from_millis(100));
    result
}

fn id(arguments: &IdArguments) -> Result<Exit, Failure> {
    let identity = setup::identity(arguments.key.as_deref())?;
    let did = identity.public();
    let line = Line::Id { did, peer_id: did.into() };
    Output { json: arguments.json, control: false, waits: false }.write(&line).map_err(Failure::other)?;
    Ok(Exit::Done)
}

fn log() {
    let text = ["BLINK_LOG", "RUST_LOG"].into_iter().find_map(|name| std::env::var(name).ok());
    let filter = match &text {
        Some(text) => EnvFilter::try_new(text).unwrap_or_else(|error| {
            eprintln!("blink: BLINK_LOG or RUST_LOG: {error}; logging warnings");
            EnvFilter::new(LOG)
        }),
        None => EnvFilter::new(LOG),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
}

/// Help goes to standard output; an error becomes one line.
fn refuse(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // Nobody is left to tell if standard output is closed.
            let _ = error.print();
            ExitCode::SUCCESS
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            let command = Arguments::command();
            let names: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
            eprintln!("blink: say what to do: {}; `blink --help` says more", names.join(", "));
            Exit::Usage.into()
        }
        _ => {
            eprintln!("blink: {}", clap_line(&error.render().to_string()));
            Exit::Usage.into()
        }
    }
}

/// clap's message without its usage lines.
fn clap_line(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let kept: Vec<&str> = lines.take_while(|line| !line.starts_with("Usage:")).collect();
    let text = one_line(&kept.join(" "));
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let text = text.split(" For more information, try").next().unwrap_or(text);
    format!("{text}; --help says more")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_usage_is_one_line_that_names_the_option() {
        for (arguments, wanted) in [
            (&["blink", "call"][..], "KEY"),
            (&["blink", "call", "x"], "did:key:z6Mk"),
            (&["blink", "answer", "--frame-ms", "30"], "10, 20, 40 or 60"),
            (&["blink", "answer", "--peer", "/ip4/127.0.0.1/tcp/1"], "/p2p/"),
            (&["blink", "answer", "--mic", "null"], "FILE.wav"),
            (&["blink", "answer", "--bitrate", "1"], "6000"),
            (&["blink", "answer", "--pre-connect", "maybe"], "always"),
            (&["blink", "answer", "--jsn"], "--json"),
            (&["blink", "phone"], "phone"),
        ] {
            let error = Arguments::try_parse_from(arguments).unwrap_err();
            let line = clap_line(&error.render().to_string());
            assert!(line.contains(wanted) && !line.contains('\n'), "{arguments:?}: {line}");
            assert!(!line.contains("For more information"), "{line}");
        }
    }
}
