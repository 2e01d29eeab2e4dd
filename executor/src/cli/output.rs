#![expect(clippy::print_stderr, reason = "CLI output")]

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

/// What commands print. Logs go elsewhere.
pub(super) struct Output {
    progress: bool,
    shown: bool,
}

impl Output {
    pub(super) fn new() -> Output {
        Output { progress: io::stderr().is_terminal(), shown: false }
    }

    /// A result on standard output. A reader that has gone is no error.
    pub(super) fn line(&self, text: &str) {
        let _ = writeln!(io::stdout(), "{text}");
    }

    /// A step, on one line that the next one replaces; nothing where standard error is no terminal.
    pub(super) fn progress(&mut self, text: &str) {
        if self.progress {
            eprint!("\r\x1b[K\x1b[2mol-exec: {text} …\x1b[0m");
            self.shown = true;
        }
    }

    /// Takes the progress line away before something else is printed.
    pub(super) fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            eprint!("\r\x1b[K");
        }
    }

    /// A script's standard output; `false` where nobody reads it any more.
    pub(super) fn stdout(&mut self, bytes: &[u8]) -> bool {
        self.clear();
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes).and_then(|()| stdout.flush()).is_ok()
    }

    /// A script's standard error.
    pub(super) fn stderr(&mut self, bytes: &[u8]) {
        self.clear();
        let _ = io::stderr().write_all(bytes);
    }
}

/// One sentence about what went wrong, and the exit code that says so.
pub(super) fn failed(text: &str, code: u8) -> ExitCode {
    eprintln!("ol-exec: {text}");
    ExitCode::from(code)
}
