//! A program whose reader ends, as `head` does, ends too, without a word.
#![cfg(unix)]

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

#[test]
fn a_reader_that_ends_first_is_no_error() {
    let mut program = Command::new(env!("CARGO_BIN_EXE_step-bench"));
    program.args(["--shapes", "tiny", "--steps", "1000"]);
    let mut running = program.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(running.stdout.take());
    let ended = running.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&ended.stderr), "");
    assert_eq!(ended.status.signal(), Some(13), "SIGPIPE");
}
