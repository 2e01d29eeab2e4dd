//! What packages, strangers and restarts do to a running `ol-exec`, and what no call may notice of it.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tests::guard::{Daemon, TestDir, poll};
use tests::index::FakeIndex;
use tests::leaks::Process;
use tests::skip;
use tests::wheel::WheelBuilder;

const ECHO: &str = "def f(event): return event\n";

fn deploy(exec: &Daemon, name: &str, source: &str) {
    let reply = exec.send("PUT", &format!("/functions/{name}"), source);
    assert!(matches!(reply.status, 200 | 201), "{}\n{}", reply.text(), exec.log());
}

/// The processes of the sandboxes that live now, as the host sees them.
fn sandboxed(dir: &TestDir) -> Vec<Process> {
    let in_leaf = |process: &Process| {
        let cgroups = std::fs::read_to_string(format!("/proc/{}/cgroup", process.pid)).unwrap_or_default();
        cgroups.lines().any(|line| line.contains("/leaf-"))
    };
    dir.leftovers().processes.into_iter().filter(in_leaf).collect()
}

#[test]
fn a_warm_instance_that_is_killed_from_outside_costs_no_call() {
    if !skip::needs_fuse() {
        return;
    }
    let dir = TestDir::new();
    let exec = Daemon::start("ol-exec", &dir);
    deploy(&exec, "echo", ECHO);
    let mut colder = 0;
    for number in 0..30 {
        let warm = sandboxed(&dir);
        assert_eq!(warm.len(), usize::from(number > 0), "{warm:#?}");
        for process in &warm {
            kill(Pid::from_raw(process.pid), Signal::SIGKILL).unwrap();
        }
        // At once: the daemon may or may not have noticed.
        let reply = exec.send("POST", "/run/echo", number.to_string());
        assert_eq!((reply.status, reply.json()), (200, json!(number)), "{}", exec.log());
        colder += usize::from(reply.header("x-ol-start") != Some("warm"));
        // The dead one is not counted as an instance for long.
        let counted = || exec.send("GET", "/healthz", "").json()["instances"] == 1;
        poll(std::time::Duration::from_secs(20), || (counted() && sandboxed(&dir).len() == 1).then_some(()))
            .unwrap_or_else(|| panic!("{:#?}", sandboxed(&dir)));
    }
    assert_eq!(colder, 30, "the killed were really those that would have served");
    let logs = exec.send("GET", "/functions/echo/logs", "").json();
    assert_eq!(logs["invocations"].as_array().unwrap().len(), 30, "each call is logged once");
    exec.stop();
}

#[test]
fn a_function_with_packages_runs_after_a_restart_without_an_index() {
    if !(skip::needs_fuse() && skip::needs_uv()) {
        return;
    }
    let mut index = FakeIndex::start([
        WheelBuilder::pure("demo", "1.0").requires("dep").build(),
        WheelBuilder::pure("dep", "1.5").build(),
    ]);
    let dir = TestDir::new();
    dir.set_index(&index.url());
    let source = "# /// script\n# dependencies = [\"demo\"]\n# ///\nimport demo, dep\ndef f(event): return [demo.hello(), dep.VERSION]\n";
    let exec = Daemon::start("ol-exec", &dir);
    deploy(&exec, "packed", source);
    assert_eq!(exec.send("POST", "/run/packed", "").json(), json!(["hello from demo 1.0", "1.5"]));
    let before = exec.send("GET", "/functions/packed", "").json();
    exec.stop();
    // All there is now is the lock, from which the environment is made again, and the store.
    index.stop();
    for file in std::fs::read_dir(dir.state().join("envs")).unwrap() {
        std::fs::remove_file(file.unwrap().path()).unwrap();
    }
    let exec = Daemon::start("ol-exec", &dir);
    assert_eq!(exec.send("GET", "/functions/packed", "").json(), before);
    let reply = exec.send("POST", "/run/packed", "");
    assert_eq!((reply.status, reply.json()), (200, json!(["hello from demo 1.0", "1.5"])), "{}", exec.log());
    assert_eq!(exec.send("POST", "/run/packed", "").header("x-ol-start"), Some("warm"));
    exec.stop();
}

/// Packages that import well and then spoil every fork of their zygote.
const SPOILERS: [(&str, &str); 3] = [
    ("hangs", "import os, time\nos.register_at_fork(before=lambda: time.sleep(3600))\n"),
    ("exits", "import os\nos.register_at_fork(before=lambda: os._exit(3))\n"),
    (
        "threaded",
        "import os\nreal = os.listdir\nturn = [0]\ndef listdir(path):\n    turn[0] += path == '/proc/self/task'\n    \
         return real(path) + ['late'] * (path == '/proc/self/task' and turn[0] > 1)\nos.listdir = listdir\n",
    ),
];

#[test]
fn packages_that_spoil_their_zygote_still_run() {
    if !skip::needs_fuse() || !skip::needs_uv() {
        return;
    }
    let spoiler = |(name, source): (&str, &str)| {
        WheelBuilder::new(name, "1.0").file(&format!("{name}.py"), source).build()
    };
    let index = FakeIndex::start(SPOILERS.map(spoiler));
    let dir = TestDir::new();
    dir.set_index(&index.url()).set_config("[executor]\nfork_timeout_ms = 3000\n");
    let exec = Daemon::start("ol-exec", &dir);
    for (name, _) in SPOILERS {
        let source = format!(
            "# /// script\n# dependencies = [\"{name}\"]\n# ///\nimport os, {name}\ndef f(event): return [{name}.__name__, event]\n"
        );
        for version in 0..2 {
            // Another version each time, so that a sandbox is forked again.
            deploy(&exec, name, &format!("{source}#{version}"));
            let reply = exec.send("POST", &format!("/run/{name}"), "1");
            assert_eq!((reply.status, reply.json()), (200, json!([name, 1])), "{}", exec.log());
            assert_eq!(reply.header("x-ol-start"), Some("cold"));
        }
    }
    // What did not work once was not tried again.
    let log = exec.log();
    assert_eq!(log.matches("a zygote cannot be forked").count(), SPOILERS.len(), "{log}");
}
