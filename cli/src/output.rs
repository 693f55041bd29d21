//! Where words go: results to standard output, talk to standard error.

use std::io::{self, IsTerminal as _, Write as _};

/// Writes a result, with a line's end.
pub fn result(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

/// Says something to the person at the terminal. A standard error that is gone is nobody to talk to.
pub fn say(text: &str) {
    drop(writeln!(io::stderr().lock(), "{text}"));
}

/// Whether there is a person who sees progress bars.
pub fn is_interactive() -> bool {
    io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Whether results may be coloured: on a terminal, unless NO_COLOR is set (<https://no-color.org>).
pub fn is_coloured() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A reader of our output that went away has seen what it wanted.
pub fn forgive_broken_pipe(error: anyhow::Error) -> anyhow::Result<()> {
    let broken = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe);
    if broken { Ok(()) } else { Err(error) }
}
