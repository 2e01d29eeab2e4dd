//! `just bench-smoke`: what a user feels, measured in a minute or two, printed as Markdown for SPECIFICATION.md.
//!
//! A daemon with a state of its own answers calls of two handlers, one bare and one with numpy and pandas; the same
//! source as a script is run by `ol-exec run` and by `uv run`, in turns, so that a slow minute of the machine hits
//! both. Every call must succeed.

use std::process::ExitCode;
use std::time::Duration;

use tests::guard::{Daemon, TestDir};
use tests::index::FakeIndex;
use tests::skip;

#[path = "bench_smoke/calls.rs"]
mod calls;
#[path = "bench_smoke/peers.rs"]
mod peers;
#[path = "bench_smoke/table.rs"]
mod table;

use table::Table;

/// What both the handler and the script do.
struct Case {
    name: &'static str,
    header: &'static str,
    body: &'static str,
}

const CASES: [Case; 2] = [
    Case { name: "bare", header: "", body: "    return sum(range(10))\n" },
    Case {
        name: "numpy + pandas",
        header: "# /// script\n# dependencies = [\"numpy\", \"pandas\"]\n# ///\nimport numpy as np\nimport pandas as pd\n",
        body: "    return int(pd.DataFrame({\"x\": np.arange(10)}).x.sum())\n",
    },
];

impl Case {
    fn handler(&self) -> String {
        format!("{}def f(event):\n{}", self.header, self.body)
    }

    fn script(&self) -> String {
        format!("{}print(f(None))\n", self.handler())
    }
}

/// How often each thing is done.
struct Counts {
    calls: usize,
    clients: usize,
    forks: usize,
    cold: usize,
    runs: usize,
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let known = |argument: &String| argument == "--quick";
    match arguments.split_first() {
        None => {}
        Some((first, [])) if known(first) => {}
        Some((first, [_])) if first == "--index-url" => {}
        Some((first, [_, last])) if first == "--index-url" && known(last) => {}
        _ => return table::fail("usage: bench_smoke [--index-url URL] [--quick]"),
    }
    let quick = arguments.last().is_some_and(known);
    let counts = if quick {
        Counts { calls: 100, clients: 8, forks: 10, cold: 1, runs: 3 }
    } else {
        Counts { calls: 1000, clients: 32, forks: 200, cold: 5, runs: 20 }
    };
    let upstream = arguments.first().filter(|first| *first == "--index-url").map(|_| arguments[1].clone());
    let index = upstream
        .is_none()
        .then(|| skip::real_wheels(&["numpy", "pandas"]).map(|folder| FakeIndex::from_folder(&folder)));
    let url = match (&upstream, &index) {
        (Some(url), _) => url.clone(),
        (None, Some(Some(index))) => index.url(),
        _ => {
            return table::fail(
                "no wheels of numpy and pandas: run `.ci/run wheels`, or name an index with --index-url",
            );
        }
    };
    if !skip::needs_fuse() {
        return table::fail("this bench needs root and /dev/fuse");
    }
    let dir = TestDir::new();
    dir.set_index(&url);
    let mut table = Table::new(&counts);
    for case in &CASES {
        measure(case, &dir, &url, &counts, &mut table);
    }
    table.print();
    ExitCode::SUCCESS
}

fn measure(case: &Case, dir: &TestDir, url: &str, counts: &Counts, table: &mut Table) {
    table.step(&format!("{}: cold starts", case.name));
    let first = match case.header {
        "" => "first call after a start: forked from the root zygote",
        _ => "first call after a start: zygote made, packages imported (cold)",
    };
    table.add(case.name, first, cold_starts(case, dir, counts.cold));
    let exec = Daemon::start("ol-exec", dir);
    table.step(&format!("{}: forks", case.name));
    table.add(
        case.name,
        "first call of a function: forked from a zygote that has its packages (fork)",
        forks(case, &exec, counts.forks),
    );
    table.step(&format!("{}: calls", case.name));
    calls::deploy(&exec, "f", &case.handler());
    calls::call(&exec, "f");
    let sequential = calls::sequential(&exec, "f", counts.calls);
    table.add(case.name, &format!("{} calls in a row, warm", counts.calls), sequential);
    let (concurrent, took) = calls::concurrent(&exec, "f", counts.calls, counts.clients);
    let rate = counts.calls as f64 / took.as_secs_f64();
    table.add(
        case.name,
        &format!("{} calls by {} clients ({rate:.0}/s)", counts.calls, counts.clients),
        concurrent,
    );
    table.step(&format!("{}: scripts, in turns with uv", case.name));
    let script = dir.write(&format!("{}.py", case.name.replace(" + ", "_")), case.script());
    let (ours, theirs) = peers::in_turns(dir, &script, url, counts.runs);
    table.add(case.name, "`ol-exec run` of a script, through the daemon", ours);
    table.add(case.name, "`uv run` of the same script, cache warm, compiled", theirs);
    exec.stop();
}

/// Each in a daemon of its own: the state folder is warm, no zygote but the root exists.
fn cold_starts(case: &Case, dir: &TestDir, count: usize) -> Vec<Duration> {
    (0..=count)
        .map(|round| {
            let exec = Daemon::start("ol-exec", dir);
            let name = format!("cold{round}");
            calls::deploy(&exec, &name, &format!("{}# {round}\n", case.handler()));
            let (took, start) = calls::call(&exec, &name);
            let expected = if case.header.is_empty() { "fork" } else { "cold" };
            assert_eq!(start, expected, "the first call of {}", case.name);
            exec.stop();
            took
        })
        // The first one fetches the packages.
        .skip(1)
        .collect()
}

/// Functions of the same packages, each called for the first time.
fn forks(case: &Case, exec: &Daemon, count: usize) -> Vec<Duration> {
    let names: Vec<_> = (0..=count).map(|number| format!("fork{number}")).collect();
    for name in &names {
        calls::deploy(exec, name, &case.handler());
    }
    calls::call(exec, &names[count]);
    names[..count]
        .iter()
        .map(|name| {
            let (took, start) = calls::call(exec, name);
            assert_eq!(start, "fork", "{name}");
            took
        })
        .collect()
}
