//! The machine's mounts, processes and cgroups, as the kernel lists them.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Cgroup folders deeper than this below a hierarchy's root are not looked at.
const MAX_CGROUP_DEPTH: usize = 8;

/// A running process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id here.
    pub pid: i32,
    /// Its parent's.
    pub parent: i32,
    /// When it started, in clock ticks since boot: with the pid this tells it from a later one.
    pub started: u64,
    /// Its command line, words joined by spaces; empty for a zombie.
    pub command: String,
    /// Its working folder.
    pub cwd: Option<PathBuf>,
    /// Inodes of the namespaces it is in, of all kinds.
    pub namespaces: BTreeSet<u64>,
}

impl Process {
    /// Reads `/proc/<pid>`; `None` if there is no such process.
    pub fn read(pid: i32) -> Option<Self> {
        let folder = PathBuf::from(format!("/proc/{pid}"));
        let stat = fs::read_to_string(folder.join("stat")).ok()?;
        // The name before the last ')' may hold anything.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let command = fs::read(folder.join("cmdline")).unwrap_or_default();
        Some(Self {
            pid,
            parent: fields.get(1)?.parse().ok()?,
            started: fields.get(19)?.parse().ok()?,
            command: String::from_utf8_lossy(&command).replace('\0', " ").trim_end().to_owned(),
            cwd: fs::read_link(folder.join("cwd")).ok(),
            namespaces: namespaces(&folder.join("ns")),
        })
    }

    /// Whether it names the folder on its command line or lives in it.
    pub fn mentions(&self, folder: &Path) -> bool {
        let text = folder.to_string_lossy();
        // `/tmp/a-1` is not `/tmp/a-12`.
        let named = self.command.match_indices(&*text).any(|(start, _)| {
            self.command[start + text.len()..].chars().next().is_none_or(|next| !next.is_ascii_alphanumeric())
        });
        named || self.cwd.as_ref().is_some_and(|cwd| cwd.starts_with(folder))
    }
}

fn namespaces(folder: &Path) -> BTreeSet<u64> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some(fs::metadata(entry.path()).ok()?.ino())).collect()
}

/// The namespaces that a mount keeps alive without any process in them.
pub fn mounted_namespaces() -> BTreeSet<u64> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let of_namespaces = text.lines().filter(|line| line.contains(" - nsfs "));
    // The root of such a mount reads like net:[4026531840].
    let inode = |line: &str| line.split(' ').nth(3)?.split_once(":[")?.1.strip_suffix(']')?.parse().ok();
    of_namespaces.filter_map(inode).collect()
}

/// Every process that can be seen.
pub fn processes() -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| Process::read(entry.file_name().to_str()?.parse().ok()?)).collect()
}

/// Every mount point of this mount namespace, in the order of mounting.
pub fn mount_points() -> Vec<PathBuf> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    text.lines().filter_map(|line| line.split(' ').nth(4)).map(unescaped).collect()
}

/// A cgroup folder named `ol-…`, or one below such a folder's hierarchy root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    /// The folder.
    pub path: PathBuf,
    /// Processes in it and below it.
    pub pids: Vec<i32>,
}

/// The topmost cgroup folders named `ol-…` in every hierarchy.
pub fn cgroups() -> Vec<Cgroup> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let is_cgroup = |line: &&str| line.contains(" - cgroup ") || line.contains(" - cgroup2 ");
    let roots = text.lines().filter(is_cgroup).filter_map(|line| line.split(' ').nth(4)).map(unescaped);
    let mut found = Vec::new();
    for root in roots {
        find_cgroups(&root, 0, &mut found);
    }
    found
}

/// The folder's processes and those below it.
pub(crate) fn pids_below(folder: &Path) -> Vec<i32> {
    let text = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    let mut pids: Vec<i32> = text.lines().filter_map(|line| line.parse().ok()).collect();
    subfolders(folder).iter().for_each(|below| pids.extend(pids_below(below)));
    pids
}

/// Folders in a folder.
pub(crate) fn subfolders(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

fn find_cgroups(folder: &Path, depth: usize, found: &mut Vec<Cgroup>) {
    for path in subfolders(folder) {
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ol-")) {
            found.push(Cgroup { pids: pids_below(&path), path });
        } else if depth < MAX_CGROUP_DEPTH {
            find_cgroups(&path, depth + 1, found);
        }
    }
}

/// mountinfo writes space, tab, newline and backslash as three octal digits.
fn unescaped(text: &str) -> PathBuf {
    let bytes = text.as_bytes();
    let (mut out, mut index) = (Vec::new(), 0);
    while index < bytes.len() {
        let octal = text.get(index + 1..index + 4).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match (bytes[index], octal) {
            (b'\\', Some(byte)) => {
                out.push(byte);
                index += 4;
            }
            (byte, _) => {
                out.push(byte);
                index += 1;
            }
        }
    }
    std::ffi::OsString::from_vec(out).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_unescaped() {
        assert_eq!(unescaped(r"/a\040b\134c"), Path::new(r"/a b\c"));
    }

    #[test]
    fn a_longer_name_is_another_folder() {
        let mut process = Process::read(std::process::id().cast_signed()).unwrap();
        process.command = "ol-exec --state /tmp/ol-test-12/state".into();
        assert!(process.mentions(Path::new("/tmp/ol-test-12")));
        assert!(!process.mentions(Path::new("/tmp/ol-test-1")));
    }
}
