//! What commands say to people. A pipe that was closed, or a full disk under a file that it goes to, must not end what they do.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write as _};

/// Says a line on stdout. Where that cannot be, and somebody still listens on stderr, it is said there why.
pub(crate) fn out(text: Arguments<'_>) {
    if let Err(error) = writeln!(std::io::stdout(), "{text}")
        && error.kind() != ErrorKind::BrokenPipe
    {
        err(format_args!("cannot print: {error}"));
    }
}

/// Says a line on stderr, with the program's name before it.
pub(crate) fn err(text: Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "dawnwatch-server: {text}");
}
