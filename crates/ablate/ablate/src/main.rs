//! The program.

use std::process::ExitCode;

use ablate::cli;
use ablate::registry::Registry;

fn main() -> ExitCode {
    cli::main(&Registry::shipped())
}
