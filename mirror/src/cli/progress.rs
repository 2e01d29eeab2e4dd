//! What people see: bars on a terminal, plain lines elsewhere, results on standard output.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "CLI output")]

use std::collections::HashMap;
use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::Failure;
use crate::sync::{Progress, SyncError};

/// Shows how a sync goes, on standard error.
pub(super) struct Reporter {
    /// `None` where standard error is no terminal.
    bars: Option<(MultiProgress, ProgressBar)>,
    files: Mutex<HashMap<String, ProgressBar>>,
}

impl Reporter {
    pub(super) fn new() -> Reporter {
        let bars = std::io::stderr().is_terminal().then(|| {
            let all = MultiProgress::new();
            let step = all.add(ProgressBar::new_spinner());
            step.enable_steady_tick(Duration::from_millis(120));
            (all, step)
        });
        Reporter { bars, files: Mutex::new(HashMap::new()) }
    }

    /// Names what is being done.
    pub(super) fn step(&self, name: &str) {
        match &self.bars {
            Some((_, step)) => step.set_message(name.to_owned()),
            None => eprintln!("{name}"),
        }
    }

    /// Takes the bars away.
    pub(super) fn clear(&self) {
        if let Some((all, step)) = &self.bars {
            step.finish_and_clear();
            // Nothing is lost if the terminal is gone.
            let _ = all.clear();
        }
    }
}

impl Progress for Reporter {
    fn started(&self, filename: &str, size: Option<u64>) {
        let Some((all, step)) = &self.bars else { return };
        step.set_message("copying");
        let bar = all.add(size.map_or_else(ProgressBar::no_length, ProgressBar::new));
        let template = "{msg:40!} {wide_bar} {bytes}/{total_bytes}";
        bar.set_style(
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        bar.set_message(filename.to_owned());
        self.files.lock().unwrap_or_else(PoisonError::into_inner).insert(filename.to_owned(), bar);
    }

    fn received(&self, filename: &str, bytes: u64) {
        if let Some(bar) = self.files.lock().unwrap_or_else(PoisonError::into_inner).get(filename) {
            bar.set_position(bytes);
        }
    }

    fn ended(&self, filename: &str, outcome: Result<u64, &SyncError>) {
        let line = match outcome {
            Ok(size) => format!("copied {filename} ({})", bytes(size)),
            Err(error) => format!("failed {filename}: {}", crate::causes(error)),
        };
        match &self.bars {
            Some((all, _)) => {
                if let Some(bar) = self.files.lock().unwrap_or_else(PoisonError::into_inner).remove(filename)
                {
                    bar.finish_and_clear();
                }
                // Nothing is lost if the terminal is gone.
                let _ = all.println(line);
            }
            None => eprintln!("{line}"),
        }
    }
}

/// Prints a result.
pub(super) fn show(text: &str) {
    print!("{text}");
}

/// Says why the program ends.
pub(super) fn complain(failure: &Failure) {
    eprintln!("ol-mirror: {}", crate::causes(failure));
}

/// A number of bytes for people.
pub(super) fn bytes(count: u64) -> String {
    let mut value = count as f64;
    for unit in ["B", "KiB", "MiB"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{count} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} GiB")
}
