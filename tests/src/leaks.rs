//! What programs started in one folder have on this machine: mounts, processes, cgroups.

mod system;

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

pub(crate) use self::system::subfolders;
pub use self::system::{Cgroup, Process, cgroups, mount_points, mounted_namespaces, processes};
use crate::wheel::hex;

/// Everything of ours that belongs to one folder, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Mount points in the folder or below it.
    pub mounts: Vec<PathBuf>,
    /// Processes that name the folder on their command line, live in it, or are in one of its cgroups.
    pub processes: Vec<Process>,
    /// Cgroup folders of states kept in the folder.
    pub cgroups: Vec<PathBuf>,
}

impl Snapshot {
    /// Looks at the machine. The calling process and other tests' folders are left out.
    pub fn of(folder: &Path) -> Self {
        let states = state_digests(folder);
        let cgroups: Vec<Cgroup> = cgroups().into_iter().filter(|cgroup| is_ours(cgroup, &states)).collect();
        let members: BTreeSet<i32> = cgroups.iter().flat_map(|cgroup| cgroup.pids.iter().copied()).collect();
        let own = std::process::id().cast_signed();
        let concerns = |process: &Process| members.contains(&process.pid) || process.mentions(folder);
        Self {
            mounts: mount_points().into_iter().filter(|mount| mount.starts_with(folder)).collect(),
            processes: processes()
                .into_iter()
                .filter(|process| process.pid != own && concerns(process))
                .collect(),
            cgroups: cgroups.into_iter().map(|cgroup| cgroup.path).collect(),
        }
    }

    /// Whether nothing is there.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for mount in &self.mounts {
            writeln!(out, "mount {}", mount.display())?;
        }
        for process in &self.processes {
            writeln!(out, "process {} (parent {}): {}", process.pid, process.parent, process.command)?;
        }
        for cgroup in &self.cgroups {
            writeln!(out, "cgroup {}", cgroup.display())?;
        }
        Ok(())
    }
}

/// Inodes of the namespaces of all kinds that a process is in or a mount holds.
pub fn namespaces() -> BTreeSet<u64> {
    processes().into_iter().flat_map(|process| process.namespaces).chain(mounted_namespaces()).collect()
}

/// Digests of every path that may be a state folder: the folder and what lies directly in it.
fn state_digests(folder: &Path) -> Vec<String> {
    let below = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    // The default state is looked for even where its folder is gone already.
    let mut paths: BTreeSet<PathBuf> = below.collect();
    paths.extend([folder.to_path_buf(), folder.join("state")]);
    paths.iter().map(|path| hex(&Sha256::digest(path.as_os_str().as_encoded_bytes()))).collect()
}

/// The executor names its cgroup `ol-<start of the sha256 of its state's path>`.
fn is_ours(cgroup: &Cgroup, states: &[String]) -> bool {
    let name = cgroup.path.file_name().unwrap_or_default().to_string_lossy();
    let digest = name.strip_prefix("ol-").unwrap_or_default();
    digest.len() >= 8 && states.iter().any(|state| state.starts_with(digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_is_recognised_by_its_state() {
        let states = state_digests(Path::new("/nonexistent/x"));
        let named = |name: String| Cgroup { path: Path::new("/sys/fs/cgroup").join(name), pids: Vec::new() };
        assert!(is_ours(&named(format!("ol-{}", &states[1][..16])), &states));
        assert!(!is_ours(&named("ol-0123456789abcdef".into()), &states));
        assert!(!is_ours(&named("ol-".into()), &states));
    }

    #[test]
    fn this_machine_can_be_looked_at() {
        assert!(mount_points().contains(&PathBuf::from("/proc")));
        let own = std::process::id().cast_signed();
        assert!(processes().iter().any(|process| process.pid == own));
        assert!(!namespaces().is_empty());
        assert!(Snapshot::of(Path::new("/nonexistent/x")).is_empty());
    }
}
