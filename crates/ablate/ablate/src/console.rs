//! Messages on standard error.

use std::fmt::Display;
use std::io::{self, Write};

/// Says a line, if anybody listens. A reader that has left, or a full disk, is no reason to lose what was computed;
/// `eprintln!` would panic.
pub(crate) fn say(line: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}
