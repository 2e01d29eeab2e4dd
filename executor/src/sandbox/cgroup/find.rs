use std::fs;
use std::path::{Path, PathBuf};

use crate::sandbox::StartError;

/// Where our folder goes in the hierarchies of memory and pids; with version 2 both are the same.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::sandbox) struct Parents {
    pub memory: PathBuf,
    pub pids: PathBuf,
}

/// One cgroup hierarchy as `/proc/self/mountinfo` shows it.
struct Hierarchy {
    mount_point: PathBuf,
    root: String,
    controllers: Option<Vec<String>>,
}

impl Parents {
    /// Looks at this host. `parent`: `auto` or a path below each hierarchy's top.
    pub(in crate::sandbox) fn find(parent: &str) -> Result<Parents, StartError> {
        let read = |path: &str| {
            fs::read_to_string(path)
                .map_err(|error| StartError::Cgroup { reason: format!("{path} cannot be read ({error})") })
        };
        Parents::choose(&read("/proc/self/mountinfo")?, &read("/proc/self/cgroup")?, parent, &hands_down)
            .map_err(|reason| StartError::Cgroup { reason })
    }

    /// The choice itself; `hands_down` tells whether a version 2 folder limits memory and pids of its children.
    fn choose(
        mounts: &str,
        own: &str,
        parent: &str,
        hands_down: &dyn Fn(&Path) -> bool,
    ) -> Result<Parents, String> {
        let hierarchies: Vec<Hierarchy> = mounts.lines().filter_map(hierarchy).collect();
        if let Some(memory) = v1(&hierarchies, "memory") {
            let pids = v1(&hierarchies, "pids").ok_or("no cgroup hierarchy limits pids")?;
            return Ok(Parents {
                memory: v1_parent(memory, own, "memory", parent),
                pids: v1_parent(pids, own, "pids", parent),
            });
        }
        let unified = hierarchies
            .iter()
            .find(|each| each.controllers.is_none())
            .ok_or("no cgroup file system is mounted")?;
        let folder = v2_parent(unified, own, parent, hands_down)?;
        Ok(Parents { memory: folder.clone(), pids: folder })
    }
}

fn hierarchy(line: &str) -> Option<Hierarchy> {
    let (mount, source) = line.split_once(" - ")?;
    let mut mount = mount.split(' ').skip(3);
    let (root, mount_point) = (mount.next()?.to_owned(), PathBuf::from(mount.next()?));
    let mut source = source.split(' ');
    let controllers = match source.next()? {
        "cgroup" => Some(source.nth(1)?.split(',').map(str::to_owned).collect()),
        "cgroup2" => None,
        _ => return None,
    };
    Some(Hierarchy { mount_point, root, controllers })
}

fn v1<'a>(hierarchies: &'a [Hierarchy], controller: &str) -> Option<&'a Hierarchy> {
    let has = |list: &Vec<String>| list.iter().any(|each| each == controller);
    hierarchies.iter().find(|each| each.controllers.as_ref().is_some_and(has))
}

fn v1_parent(hierarchy: &Hierarchy, own: &str, controller: &str, parent: &str) -> PathBuf {
    if parent != "auto" {
        return below(&hierarchy.mount_point, parent);
    }
    let ours = own.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        controllers.split(',').any(|each| each == controller).then_some(path)
    });
    visible(hierarchy, ours.unwrap_or("/"))
}

/// The nearest cgroup from our own upwards that hands memory and pids down to its children. Its settings are not
/// ours to change, so one that does not is passed over.
fn v2_parent(
    unified: &Hierarchy,
    own: &str,
    parent: &str,
    hands_down: &dyn Fn(&Path) -> bool,
) -> Result<PathBuf, String> {
    if parent != "auto" {
        let folder = below(&unified.mount_point, parent);
        let why = || format!("{} does not hand down memory and pids to its children", folder.display());
        return if hands_down(&folder) { Ok(folder.clone()) } else { Err(why()) };
    }
    let ours = own.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    let folder = visible(unified, ours);
    folder
        .ancestors()
        .take_while(|each| each.starts_with(&unified.mount_point))
        .find(|each| hands_down(each))
        .map(Path::to_path_buf)
        .ok_or_else(|| {
            format!(
                "no cgroup from {} upwards hands memory and pids down to its children (cgroup.subtree_control)",
                folder.display()
            )
        })
}

fn hands_down(folder: &Path) -> bool {
    let text = fs::read_to_string(folder.join("cgroup.subtree_control")).unwrap_or_default();
    let has = |controller: &str| text.split_whitespace().any(|each| each == controller);
    has("memory") && has("pids")
}

/// A cgroup's folder, given its path in the hierarchy, of which perhaps only a part is mounted.
fn visible(hierarchy: &Hierarchy, path: &str) -> PathBuf {
    let path = Path::new(path);
    below(&hierarchy.mount_point, path.strip_prefix(&hierarchy.root).unwrap_or(path))
}

fn below(mount_point: &Path, path: impl AsRef<Path>) -> PathBuf {
    let path = path.as_ref();
    let relative = path.strip_prefix("/").unwrap_or(path);
    if relative.as_os_str().is_empty() { mount_point.to_path_buf() } else { mount_point.join(relative) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "35 31 0:31 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
        39 31 0:36 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
    const UNIFIED: &str = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";

    fn choose(mounts: &str, own: &str, parent: &str, delegating: &[&str]) -> Result<Parents, String> {
        Parents::choose(mounts, own, parent, &|folder| {
            delegating.iter().any(|each| Path::new(each) == folder)
        })
    }

    #[test]
    fn version_1_uses_the_own_cgroup_of_each_controller() {
        let found = choose(HYBRID, "8:pids:/\n4:memory:/a/b\n0::/\n", "auto", &[]).unwrap();
        assert_eq!(found.memory, Path::new("/sys/fs/cgroup/memory/a/b"));
        assert_eq!(found.pids, Path::new("/sys/fs/cgroup/pids"));
        let named = choose(HYBRID, "", "/x", &[]).unwrap();
        assert_eq!(named.pids, Path::new("/sys/fs/cgroup/pids/x"));
    }

    #[test]
    fn version_2_goes_up_to_the_nearest_that_hands_down() {
        let own = "0::/user.slice/user-0.slice/session-1.scope\n";
        let slice = "/sys/fs/cgroup/user.slice/user-0.slice";
        let found = choose(UNIFIED, own, "auto", &["/sys/fs/cgroup", slice]).unwrap();
        assert_eq!(found.memory, Path::new(slice));
        assert_eq!(found.memory, found.pids);
        assert!(choose(UNIFIED, own, "auto", &[]).unwrap_err().contains("session-1.scope"));
        assert!(choose(UNIFIED, own, "/x", &[]).unwrap_err().contains("/sys/fs/cgroup/x"));
    }

    #[test]
    fn a_part_of_the_hierarchy_mounted_in_a_container_is_followed() {
        let mounts = "30 23 0:26 /docker/abc /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        let found = choose(mounts, "0::/docker/abc\n", "auto", &["/sys/fs/cgroup"]).unwrap();
        assert_eq!(found.memory, Path::new("/sys/fs/cgroup"));
    }

    #[test]
    fn no_cgroups_at_all_is_said_so() {
        assert!(choose("", "", "auto", &[]).unwrap_err().contains("no cgroup file system"));
    }
}
