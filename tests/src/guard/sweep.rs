//! Removal of what programs of one test left, and of what earlier, killed test runs left.

use std::path::Path;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::PREFIX;
use crate::leaks::{Process, Snapshot};

/// How long killed processes may take to go.
const PATIENCE: Duration = Duration::from_secs(10);

/// Clears up after test processes that are no more. Folders of living ones are not touched.
pub(super) fn sweep() {
    let temporary = std::env::temp_dir();
    for entry in std::fs::read_dir(&temporary).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if owner_is_dead(&name) && clear(&entry.path()) {
            std::fs::remove_dir_all(entry.path()).ok();
        }
    }
}

/// Kills, unmounts and removes everything that belongs to the folder; whether no mount is left, so that what lies
/// below may be deleted.
pub(super) fn clear(folder: &Path) -> bool {
    let deadline = Instant::now() + PATIENCE;
    let mut pause = Duration::from_millis(1);
    loop {
        let left = Snapshot::of(folder);
        if left.is_empty() {
            return true;
        }
        for process in &left.processes {
            kill(Pid::from_raw(process.pid), Signal::SIGKILL).ok();
        }
        for mount in left.mounts.iter().rev() {
            umount2(mount, MntFlags::MNT_DETACH).ok();
        }
        left.cgroups.iter().for_each(|cgroup| remove_cgroup(cgroup));
        if Instant::now() > deadline {
            return left.mounts.is_empty();
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

fn remove_cgroup(folder: &Path) {
    crate::leaks::subfolders(folder).iter().for_each(|below| remove_cgroup(below));
    std::fs::remove_dir(folder).ok();
}

/// `ol-test-<pid>-<start time>-<count>` whose process is gone, or is another one by now.
fn owner_is_dead(name: &str) -> bool {
    let mut parts = name.strip_prefix(PREFIX).unwrap_or_default().split('-');
    let (Some(Ok(pid)), Some(Ok(started))) =
        (parts.next().map(str::parse::<i32>), parts.next().map(str::parse::<u64>))
    else {
        return false;
    };
    Process::read(pid).is_none_or(|process| process.started != started)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_folders_of_dead_tests_are_swept() {
        let own = Process::read(std::process::id().cast_signed()).unwrap();
        assert!(!owner_is_dead(&format!("{PREFIX}{}-{}-0", own.pid, own.started)));
        assert!(owner_is_dead(&format!("{PREFIX}{}-{}-0", own.pid, own.started + 1)));
        assert!(!owner_is_dead("ol-test-"));
        assert!(!owner_is_dead("something-else"));
    }
}
