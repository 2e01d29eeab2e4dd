//! The only place of this crate that prints.

use std::io::{self, Write};

use serde::Serialize;

/// One line on standard output; a reader that went away is no error.
pub(super) fn line(text: &str) {
    let _ = writeln!(io::stdout(), "{text}");
}

pub(super) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    line(&serde_json::to_string_pretty(value)?);
    Ok(())
}

/// The error and its causes, on one line.
pub(super) fn error(error: &anyhow::Error) {
    let _ = writeln!(io::stderr(), "ol-pkgfs: {error:#}");
}
