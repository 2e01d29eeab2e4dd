#![expect(clippy::print_stdout, clippy::print_stderr, reason = "CLI output")]

use std::process::{Command, ExitCode};
use std::time::Duration;

use super::Counts;

/// The lines of the report.
pub(crate) struct Table {
    machine: String,
    rows: Vec<String>,
}

impl Table {
    pub(crate) fn new(counts: &Counts) -> Table {
        let first = |program: &str, argument: &str| {
            let output = Command::new(program).arg(argument).output().ok();
            output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
        };
        let cpus = std::thread::available_parallelism().map_or(0, usize::from);
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = load.split(' ').next().unwrap_or_default();
        let build = if cfg!(debug_assertions) { "debug" } else { "release" };
        let (python, kernel) = (first("python3", "-V"), first("uname", "-r"));
        let repeats =
            format!("{} forks, {} cold starts, {} script runs", counts.forks, counts.cold, counts.runs);
        let machine =
            format!("{cpus} CPUs, Linux {kernel}, {python}, {build} build, load {load} before; {repeats}.");
        Table { machine, rows: Vec::new() }
    }

    /// Says on standard error what is being measured.
    #[expect(clippy::unused_self, reason = "all output goes through the table")]
    pub(crate) fn step(&self, text: &str) {
        eprintln!("{text} …");
    }

    /// One line from all its times; none measured leaves a dash.
    pub(crate) fn add(&mut self, case: &str, what: &str, mut times: Vec<Duration>) {
        times.sort();
        let at = |share: f64| -> String {
            let place = (times.len() as f64 * share).ceil() as usize;
            times
                .get(place.saturating_sub(1))
                .map_or("–".to_owned(), |time| format!("{:.1}", time.as_secs_f64() * 1000.0))
        };
        self.rows.push(format!("| {case} | {what} | {} | {} |", at(0.5), at(0.99)));
    }

    pub(crate) fn print(&self) {
        println!("{}\n", self.machine);
        println!("| handler | what | p50 ms | p99 ms |\n|---|---|---|---|");
        for row in &self.rows {
            println!("{row}");
        }
    }
}

/// One sentence on standard error.
pub(crate) fn fail(text: &str) -> ExitCode {
    eprintln!("bench_smoke: {text}");
    ExitCode::FAILURE
}
