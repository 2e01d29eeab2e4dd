//! A daemon that is killed with SIGKILL: the kernel ends its sandboxes, and the next start removes what is left.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::bench::{bench_in, call, cgroups_of};

const STATE: &str = "OL_TEST_VICTIM_STATE";

/// Not a test of its own: the daemon that `a_killed_daemon_leaves_nothing` kills. Run otherwise it ends at once.
#[tokio::test]
#[ignore = "run by a_killed_daemon_leaves_nothing"]
async fn victim() {
    let Some(folder) = std::env::var_os(STATE) else { return };
    let bench = bench_in(Path::new(&folder)).await;
    let source = "import os, time\ndef f(event):\n    if os.fork() == 0:\n        while True: time.sleep(1)\n    return 1\n";
    let mut leaf = bench.leaf(source).await;
    call(&mut leaf, "1").await;
    use std::io::Write as _;
    writeln!(std::io::stdout(), "\nready").unwrap();
    std::future::pending::<()>().await;
}

fn members(cgroups: &[PathBuf]) -> Vec<u32> {
    let folders = cgroups.iter().flat_map(|folder| std::fs::read_dir(folder).unwrap().flatten());
    let files = folders.map(|entry| entry.path().join("cgroup.procs"));
    let texts = files.filter_map(|file| std::fs::read_to_string(file).ok());
    let mut pids: Vec<u32> =
        texts.flat_map(|text| text.lines().map(|line| line.parse().unwrap()).collect::<Vec<_>>()).collect();
    pids.sort_unstable();
    pids.dedup();
    pids
}

/// The host user ids of sandboxes: nobody else's process can be taken for one.
fn lives(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let uid = status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().next()?.parse::<u32>().ok());
    uid.is_some_and(|uid| uid >= 0x7000_0000) && !status.contains("State:\tZ")
}

#[tokio::test]
async fn a_killed_daemon_leaves_nothing_after_the_next_start() {
    if !tests::skip::needs_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut daemon = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "sandbox::crash::victim", "--nocapture"])
        .env(STATE, folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(daemon.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.is_ok_and(|line| line == "ready")), "the daemon did not start");
    let state = folder.path().join("state");
    let pids = members(&cgroups_of(&state));
    assert_eq!(pids.len(), 3, "a zygote, a leaf and the leaf's child");
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    let bench = bench_in(folder.path()).await;
    assert!(!pids.iter().any(|&pid| lives(pid)), "processes of the killed daemon still run");
    bench.stop().await;
}
