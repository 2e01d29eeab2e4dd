//! After our programs stop, or are killed and stopped once more, the machine is as it was. One test, so that its
//! process has no other children: it looks at the whole machine, not only at its own folder.

use std::collections::BTreeSet;
use std::time::Duration;

use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use tests::guard::{Daemon, TestDir, poll};
use tests::index::FakeIndex;
use tests::leaks::{self, Process};
use tests::skip;
use tests::wheel::WheelBuilder;

const SOURCE: &str = "# /// script\n# dependencies = [\"demo\"]\n# ///\n\
                      import demo, subprocess\n\
                      def f(event):\n    \
                      subprocess.Popen(['/bin/sleep', '1000'])\n    \
                      return demo.VERSION\n\
                      if __name__ == '__main__':\n    print(f(None))\n";

/// Every process below this one, zombies too.
fn descendants() -> Vec<Process> {
    let all = leaks::processes();
    let mut known = BTreeSet::from([std::process::id().cast_signed()]);
    while let Some(next) =
        all.iter().find(|process| known.contains(&process.parent) && !known.contains(&process.pid))
    {
        known.insert(next.pid);
    }
    let own = std::process::id().cast_signed();
    all.into_iter().filter(|process| process.pid != own && known.contains(&process.pid)).collect()
}

fn assert_nothing_left(dir: &TestDir, after: &str) {
    let left = dir.leftovers();
    assert!(left.is_empty(), "after {after}:\n{left}");
    let living: Vec<Process> =
        descendants().into_iter().filter(|process| !process.command.is_empty()).collect();
    assert!(living.is_empty(), "after {after}: {living:#?}");
    // As child subreaper this process is the parent of whatever a killed daemon had, and must reap it as a machine's
    // init would; a PID namespace's first process ends only after the others were reaped.
    let gone = poll(Duration::from_secs(20), || {
        while waitpid(None, Some(WaitPidFlag::WNOHANG)).is_ok_and(|status| status != WaitStatus::StillAlive) {
        }
        descendants().is_empty().then_some(())
    });
    assert!(gone.is_some(), "after {after}: {:#?}", descendants());
}

/// The namespaces that these processes are in and this one is not.
fn namespaces_of_sandboxes(processes: Vec<Process>) -> BTreeSet<u64> {
    let ours = Process::read(std::process::id().cast_signed()).map(|own| own.namespaces).unwrap_or_default();
    processes.into_iter().flat_map(|process| process.namespaces).filter(|each| !ours.contains(each)).collect()
}

fn still_there(namespaces: &BTreeSet<u64>) -> BTreeSet<u64> {
    leaks::namespaces().intersection(namespaces).copied().collect()
}

#[test]
fn nothing_is_left_behind() {
    if !(skip::needs_fuse() && skip::needs_uv()) {
        return;
    }
    nix::sys::prctl::set_child_subreaper(true).unwrap();
    let index = FakeIndex::start([WheelBuilder::pure("demo", "1.0").build()]);
    let dir = TestDir::new();
    dir.set_index(&index.url());
    let path = dir.write("script.py", SOURCE);

    let finished = dir.run("ol-exec", ["run", path.to_str().unwrap()]);
    assert_eq!((finished.code, finished.stdout.as_str()), (Some(0), "1.0\n"), "{}", finished.stderr);
    assert_nothing_left(&dir, "a run");

    let exec = Daemon::start("ol-exec", &dir);
    assert_eq!(exec.send("PUT", "/functions/demo", SOURCE).status / 100, 2, "{}", exec.log());
    assert_eq!(exec.send("POST", "/run/demo", "{}").status, 200, "{}", exec.log());
    let running = descendants();
    assert!(running.len() > 1, "a zygote and a sandbox should be running: {running:#?}");
    let own = namespaces_of_sandboxes(running);
    assert!(own.len() >= 7, "a zygote and a sandbox have namespaces of their own: {own:?}");
    exec.stop();
    assert_nothing_left(&dir, "serve and stop");
    assert_eq!(still_there(&own), BTreeSet::new(), "namespaces outlived serve");

    let exec = Daemon::start("ol-exec", &dir);
    assert_eq!(exec.send("POST", "/run/demo", "{}").status, 200, "{}", exec.log());
    let own = namespaces_of_sandboxes(descendants());
    exec.kill();
    let mut exec = Daemon::start("ol-exec", &dir);
    exec.expect_in_log("left");
    assert_eq!(exec.send("POST", "/run/demo", "{}").status, 200, "{}", exec.log());
    exec.stop();
    assert_nothing_left(&dir, "kill -9, restart and stop");
    assert_eq!(still_there(&own), BTreeSet::new(), "namespaces outlived kill -9");
}
