//! `blink`: a telephone for the command line. `docs/cli.md` says what it promises to scripts.

use std::process::ExitCode;

fn main() -> ExitCode {
    blink_examples::cli::main()
}
