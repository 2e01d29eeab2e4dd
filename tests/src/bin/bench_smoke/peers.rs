use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use tests::guard::{TestDir, finish};
use tests::skip;

/// Times of `ol-exec run` and of `uv run`, run by turns; each once untimed before.
pub(crate) fn in_turns(
    dir: &TestDir,
    script: &Path,
    url: &str,
    count: usize,
) -> (Vec<Duration>, Vec<Duration>) {
    let mut ours = Vec::new();
    let mut theirs = Vec::new();
    let python = python();
    for round in 0..=count {
        let mut command = dir.command("ol-exec");
        command.arg("run").arg(script);
        let our = timed(command);
        let their = uv(dir, script, url, &python).map(|mut command| {
            // Compiled once, into uv's cache; afterwards the flag would only cost time.
            command.env("UV_COMPILE_BYTECODE", if round == 0 { "1" } else { "0" });
            timed(command)
        });
        if round > 0 {
            ours.push(our);
            theirs.extend(their);
        }
    }
    (ours, theirs)
}

/// The interpreter behind `python3`, which may be a slow shim: uv shall not pay for that.
fn python() -> String {
    let output = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output();
    output
        .map_or_else(|_| "python3".into(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// `uv run` with a cache of its own, which the first run fills.
fn uv(dir: &TestDir, script: &Path, url: &str, python: &str) -> Option<Command> {
    let mut command = Command::new(skip::uv()?);
    command.args(["run", "--quiet", "--no-config", "--python", python, "--default-index", url, "--script"]);
    command.arg(script).env("UV_CACHE_DIR", dir.path().join("uv-cache")).env("UV_PYTHON_DOWNLOADS", "never");
    command
        .env_remove("PYTHONDONTWRITEBYTECODE")
        .env("NO_PROXY", "127.0.0.0/8,localhost")
        .current_dir(dir.path());
    Some(command)
}

fn timed(command: Command) -> Duration {
    let begun = Instant::now();
    let finished = finish(command);
    let took = begun.elapsed();
    assert_eq!((finished.code, finished.stdout.trim()), (Some(0), "45"), "{}", finished.stderr);
    took
}
