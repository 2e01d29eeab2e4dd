use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, SFlag, makedev, mknod, umask};
use nix::unistd::{chdir, pivot_root};
use tokio::sync::oneshot;

use super::{Python, StartError};
use crate::sys::mount::{Forbid, attach, detached, forbid};

/// Folders that are links into `/usr` on most hosts and folders of their own on some.
const BESIDE_USR: [&str; 6] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"];
/// Files of the host that programs expect and that tell nothing about it.
const COPIED: [&str; 6] = [
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/ssl/openssl.cnf",
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
];
/// Files of ours in place of the host's.
const WRITTEN: [(&str, &str); 5] = [
    ("etc/passwd", "root:x:0:0::/:/bin/false\nsandbox:x:1000:1000::/tmp:/bin/sh\n"),
    ("etc/group", "root:x:0:\nsandbox:x:1000:\n"),
    ("etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"),
    ("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n"),
    ("etc/os-release", "ID=sandbox\nNAME=sandbox\n"),
];
const DEVICES: [(&str, u64, u64); 5] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9)];
const LINKS: [(&str, &str); 4] = [
    ("dev/fd", "/proc/self/fd"),
    ("dev/stdin", "/proc/self/fd/0"),
    ("dev/stdout", "/proc/self/fd/1"),
    ("dev/stderr", "/proc/self/fd/2"),
];
const FOLDERS: [&str; 9] =
    ["etc", "dev/shm", "proc", "tmp", "usr", "ol/env", "ol/code", "ol/runtime", "var/tmp"];

type Request = oneshot::Sender<io::Result<OwnedFd>>;

/// The root that every sandbox gets a copy of.
///
/// It stands in the mount namespace of one thread: no other process sees it, the host's mount table does not show it,
/// and it ends with the daemon. The thread answers each request with a detached copy.
pub(super) struct RootTree {
    requests: mpsc::Sender<Request>,
}

/// What differs from host to host.
struct Plan {
    folder: PathBuf,
    prefix: Option<PathBuf>,
    runtime: PathBuf,
}

impl RootTree {
    /// Builds it. `folder` is any folder of ours; nothing is written to it.
    pub(super) async fn build(
        folder: &Path,
        python: &Python,
        runtime: &Path,
    ) -> Result<RootTree, StartError> {
        let plan = Plan {
            folder: folder.to_path_buf(),
            prefix: (!python.below_usr()).then(|| python.prefix.clone()),
            runtime: runtime.to_path_buf(),
        };
        let (requests, inbox) = mpsc::channel::<Request>();
        let (ready, built) = oneshot::channel();
        let thread = std::thread::Builder::new().name("mounts".into()).spawn(move || {
            let result = build(&plan);
            let failed = result.is_err();
            ready.send(result).ok();
            while let (false, Ok(request)) = (failed, inbox.recv()) {
                request.send(detached(Path::new("/"), true)).ok();
            }
        });
        let root = |step: &str, source| StartError::Root { step: step.into(), source };
        thread.map_err(|error| root("starting its thread", error))?;
        match built.await {
            Ok(result) => result.map_err(|(step, source)| StartError::Root { step, source })?,
            Err(_) => return Err(root("waiting for its thread", io::ErrorKind::BrokenPipe.into())),
        }
        Ok(RootTree { requests })
    }

    /// A detached copy with all that is mounted below it.
    pub(super) async fn copy(&self) -> io::Result<OwnedFd> {
        let (answer, copied) = oneshot::channel();
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        self.requests.send(answer).map_err(|_| gone())?;
        copied.await.map_err(|_| gone())?
    }
}

type Failed = (String, io::Error);

fn at<T, E: Into<io::Error>>(what: impl Into<String>, result: Result<T, E>) -> Result<T, Failed> {
    result.map_err(|error| (what.into(), error.into()))
}

/// Runs on the thread whose namespace it is.
fn build(plan: &Plan) -> Result<(), Failed> {
    at("unshare the mount namespace", unshare(CloneFlags::CLONE_NEWNS))?;
    // Of this thread alone, since a mount namespace of its own brings file system state of its own.
    umask(Mode::from_bits_truncate(0o022));
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    at("make mounts private", mount(None::<&str>, "/", None::<&str>, private, None::<&str>))?;
    let root = plan.folder.as_path();
    let options = Some("size=16m,mode=0755");
    at("mount a tmpfs", mount(Some("tmpfs"), root, Some("tmpfs"), MsFlags::MS_NOSUID, options))?;
    for folder in FOLDERS {
        at(format!("make /{folder}"), fs::create_dir_all(root.join(folder)))?;
    }
    host_programs(root)?;
    if let Some(prefix) = &plan.prefix {
        bind(prefix, &root.join(prefix.strip_prefix("/").unwrap_or(prefix)))?;
    }
    bind(&plan.runtime, &root.join("ol/runtime"))?;
    files(root)?;
    devices(root)?;
    enter(root)
}

fn host_programs(root: &Path) -> Result<(), Failed> {
    bind(Path::new("/usr"), &root.join("usr"))?;
    for name in BESIDE_USR {
        let (host, ours) = (Path::new("/").join(name), root.join(name));
        match fs::symlink_metadata(&host) {
            Ok(found) if found.is_symlink() => {
                let target = at(format!("read the link /{name}"), fs::read_link(&host))?;
                at(format!("make the link /{name}"), symlink(target, ours))?;
            }
            Ok(found) if found.is_dir() => bind(&host, &ours)?,
            _ => {}
        }
    }
    Ok(())
}

/// A read-only copy of one mount of the host, without what is mounted below it.
fn bind(from: &Path, to: &Path) -> Result<(), Failed> {
    let what = format!("bind {}", from.display());
    at(what.clone(), fs::create_dir_all(to))?;
    let tree = at(what.clone(), detached(from, false))?;
    at(what.clone(), forbid(&tree, Forbid { devices: true }))?;
    at(what, attach(&tree, to))
}

fn files(root: &Path) -> Result<(), Failed> {
    for (name, text) in WRITTEN {
        at(format!("write /{name}"), fs::write(root.join(name), text))?;
    }
    for name in COPIED {
        let to = root.join(name.trim_start_matches('/'));
        let Ok(content) = fs::read(name) else { continue };
        if let Some(parent) = to.parent() {
            at(format!("make the folder of {name}"), fs::create_dir_all(parent))?;
        }
        at(format!("write {name}"), fs::write(to, content))?;
    }
    Ok(())
}

/// Device nodes of the template itself: a tmpfs that a sandbox mounts could not hold any.
fn devices(root: &Path) -> Result<(), Failed> {
    for (name, major, minor) in DEVICES {
        let path = root.join("dev").join(name);
        let node = mknod(&path, SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(major, minor));
        at(format!("make /dev/{name}"), node)?;
        at(format!("open up /dev/{name}"), fs::set_permissions(&path, fs::Permissions::from_mode(0o666)))?;
    }
    for (name, target) in LINKS {
        at(format!("make the link /{name}"), symlink(target, root.join(name)))?;
    }
    Ok(())
}

/// Makes the template this thread's root and lets go of the host's mounts, so that none is kept busy by us.
fn enter(root: &Path) -> Result<(), Failed> {
    let tree = at("copy the template", detached(root, true))?;
    at("make the template read-only", forbid(&tree, Forbid { devices: false }))?;
    at("attach the template", attach(&tree, root))?;
    at("enter the template", chdir(root))?;
    at("make the template the root", pivot_root(".", "."))?;
    at("unmount the old root", umount2(".", MntFlags::MNT_DETACH))?;
    at("enter the template", chdir("/"))
}
