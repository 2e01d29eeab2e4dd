//! One cgroup for each process tree that must be limited: version 1 and 2, chosen by what the host has mounted.

mod find;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::StartError;
use crate::sys::process;
pub(super) use find::Parents;

/// How long a folder may stay busy after its last process is gone.
const REMOVAL_LIMIT: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_micros(200);

/// All cgroups of one daemon, below one folder of ours in each hierarchy.
#[derive(Clone, Debug)]
pub(super) struct Cgroups {
    top: Folders,
}

/// The same cgroup in each hierarchy that is used; with version 2 both are one folder.
#[derive(Clone, Debug)]
struct Folders {
    memory: PathBuf,
    pids: PathBuf,
}

/// One cgroup.
#[derive(Clone, Debug)]
pub(super) struct Cgroup {
    folders: Folders,
}

impl Folders {
    fn each(&self) -> impl Iterator<Item = &Path> {
        let second = (self.pids != self.memory).then_some(self.pids.as_path());
        std::iter::once(self.memory.as_path()).chain(second)
    }

    fn join(&self, name: &str) -> Folders {
        Folders { memory: self.memory.join(name), pids: self.pids.join(name) }
    }

    fn is_v2(&self) -> bool {
        self.memory == self.pids
    }
}

impl Cgroups {
    /// Makes our folder below `parents`, after removing what a killed run left in it.
    pub(super) fn start(parents: Parents, name: &str) -> Result<Cgroups, StartError> {
        let top = Folders { memory: parents.memory.join(name), pids: parents.pids.join(name) };
        let cgroups = Cgroups { top };
        let wrong = |source: io::Error| StartError::Cgroup {
            reason: format!("{} cannot be set up ({source})", cgroups.top.memory.display()),
        };
        cgroups.remove_children().map_err(wrong)?;
        for folder in cgroups.top.each() {
            make(folder).map_err(wrong)?;
        }
        if cgroups.top.is_v2() {
            fs::write(cgroups.top.memory.join("cgroup.subtree_control"), "+memory +pids").map_err(wrong)?;
        }
        Ok(cgroups)
    }

    /// Makes one with limits.
    pub(super) fn make(&self, name: &str, memory_bytes: u64, max_processes: u64) -> io::Result<Cgroup> {
        let group = Cgroup { folders: self.top.join(name) };
        for folder in group.folders.each() {
            make(folder)?;
        }
        group.limit(memory_bytes, max_processes)?;
        Ok(group)
    }

    /// Ends whatever lives below our folder and removes what is there.
    fn remove_children(&self) -> io::Result<()> {
        if let Ok(entries) = fs::read_dir(&self.top.pids) {
            entries.flatten().for_each(|entry| forbid_forks(&entry.path()));
        }
        for top in self.top.each() {
            let Ok(entries) = fs::read_dir(top) else { continue };
            for entry in entries {
                let path = entry?.path();
                if path.is_dir() {
                    kill_all(&path);
                    remove(&path)?;
                }
            }
        }
        Ok(())
    }

    /// Removes everything of ours.
    pub(super) fn stop(&self) -> io::Result<()> {
        self.remove_children()?;
        self.top.each().try_for_each(remove)
    }
}

impl Cgroup {
    /// Folders that need not be cgroups.
    #[cfg(test)]
    pub(super) fn at(memory: PathBuf, pids: PathBuf) -> Cgroup {
        Cgroup { folders: Folders { memory, pids } }
    }

    fn limit(&self, memory_bytes: u64, max_processes: u64) -> io::Result<()> {
        let memory = &self.folders.memory;
        let bytes = memory_bytes.to_string();
        if self.folders.is_v2() {
            fs::write(memory.join("memory.max"), &bytes)?;
            optional(&memory.join("memory.swap.max"), "0")?;
            // All of a sandbox or nothing: half a process tree is of no use to a handler.
            optional(&memory.join("memory.oom.group"), "1")?;
        } else {
            fs::write(memory.join("memory.limit_in_bytes"), &bytes)?;
            optional(&memory.join("memory.memsw.limit_in_bytes"), &bytes)?;
        }
        fs::write(self.folders.pids.join("pids.max"), max_processes.to_string())
    }

    /// Moves a process in; what it forks from now on is in too.
    pub(super) fn add(&self, pid: u32) -> io::Result<()> {
        self.folders.each().try_for_each(|folder| fs::write(folder.join("cgroup.procs"), pid.to_string()))
    }

    /// How many processes of it the kernel has killed for want of memory.
    pub(super) fn oom_kills(&self) -> u64 {
        let file = if self.folders.is_v2() { "memory.events" } else { "memory.oom_control" };
        let text = fs::read_to_string(self.folders.memory.join(file)).unwrap_or_default();
        text.lines()
            .filter_map(|line| line.strip_prefix("oom_kill "))
            .find_map(|count| count.trim().parse().ok())
            .unwrap_or(0)
    }

    /// Highest memory use so far; 0 where the kernel does not tell (version 2 before Linux 5.19).
    pub(super) fn memory_peak_bytes(&self) -> u64 {
        let file = if self.folders.is_v2() { "memory.peak" } else { "memory.max_usage_in_bytes" };
        let text = fs::read_to_string(self.folders.memory.join(file)).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    }

    /// Its processes, as far as they live.
    pub(super) fn members(&self) -> Vec<u32> {
        members(&self.folders.pids)
    }

    /// Kills what is left in it and removes it. May take a moment: not for a thread that serves others.
    pub(super) fn remove(&self) -> io::Result<()> {
        forbid_forks(&self.folders.pids);
        self.folders.each().try_for_each(|folder| {
            kill_all(folder);
            remove(folder)
        })
    }
}

/// From here on no process in the folder can fork: what forks faster than it is looked up could not be killed
/// otherwise. A folder that is gone, or one beside a cgroup's (its own files), needs none of it.
fn forbid_forks(folder: &Path) {
    fs::write(folder.join("pids.max"), "0").ok();
}

fn make(folder: &Path) -> io::Result<()> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result,
    }
}

/// Writes a file that not every kernel has (swap accounting may be off).
fn optional(path: &Path, value: &str) -> io::Result<()> {
    match fs::write(path, value) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {
            Ok(())
        }
        result => result,
    }
}

/// Kills every process in the folder. Each is looked up again after its pidfd is open, so that none can be hit that
/// has taken over a number.
fn kill_all(folder: &Path) {
    if fs::write(folder.join("cgroup.kill"), "1").is_ok() {
        return;
    }
    for pid in members(folder) {
        if let Ok(pidfd) = process::open(pid)
            && members(folder).contains(&pid)
        {
            process::kill(pidfd);
        }
    }
}

fn members(folder: &Path) -> Vec<u32> {
    let text = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

/// Removes the folder, waiting for the kernel to let go of processes that have ended.
fn remove(folder: &Path) -> io::Result<()> {
    let deadline = Instant::now() + REMOVAL_LIMIT;
    let mut pause = FIRST_PAUSE;
    loop {
        match fs::remove_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            // Version 1 has nothing to wait on: an ended process leaves its cgroup a little after it was reaped.
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline => {
                kill_all(folder);
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(50));
            }
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_may_fork_while_it_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        let group = Cgroup::at(folder.path().join("memory"), folder.path().join("pids"));
        group.folders.each().for_each(|each| make(each).unwrap());
        fs::write(group.folders.pids.join("pids.max"), "20").unwrap();
        group.remove().unwrap_err();
        assert_eq!(fs::read_to_string(group.folders.pids.join("pids.max")).unwrap(), "0");
    }
}
