//! Mounting: finds out what is at the mount point, recovers what a killed run left, mounts, and unmounts.
//!
//! The mount is made with mount(2) itself, without libfuse and its helpers: we are root or we refuse.

mod error;
mod table;

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use fuser::{Config, INodeNo, Notifier, Session, SessionACL};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tokio::sync::watch;

use crate::fs::Frontend;
use crate::namespace::Kernel;

pub use error::MountError;
use table::Entry;

/// What /proc/self/mountinfo calls our mounts.
const TYPE: &str = "fuse.ol-pkgfs";
const SOURCE: &str = "ol-pkgfs";
const DEVICE: &str = "/dev/fuse";
/// Mounts of killed runs that may lie on top of each other.
const MAX_LEFT_OVER: usize = 16;
/// How long a mount may take to say whether anybody serves it.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// A mounted file system; unmounted when dropped.
#[derive(Debug)]
pub(crate) struct Mounted {
    point: PathBuf,
    device: String,
    session: Option<JoinHandle<io::Result<()>>>,
    ended: watch::Receiver<bool>,
}

impl Mounted {
    /// Mounts at `point`, which is made if need be, and serves it with `threads` threads.
    pub(crate) fn new(
        frontend: Frontend,
        point: &Path,
        threads: usize,
    ) -> Result<(Mounted, Kernel), MountError> {
        if !nix::unistd::geteuid().is_root() {
            return Err(MountError::NotRoot);
        }
        let point = prepare(point)?;
        let device = File::options().read(true).write(true).open(DEVICE).map_err(MountError::NoFuse)?;
        // `ro` holds for everybody; what others may do is decided by the modes, in the kernel.
        let options = format!(
            "fd={},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions",
            device.as_raw_fd()
        );
        let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOATIME;
        mount(Some(SOURCE), &point, Some(TYPE), flags, Some(options.as_str()))
            .map_err(|error| MountError::Failed { point: point.clone(), source: error.into() })?;
        // From here on dropping unmounts.
        let (sender, ended) = watch::channel(false);
        let mut mounted = Mounted { device: table::device_at(&point), point, session: None, ended };
        let session = serve(frontend, device.into(), threads, sender);
        let failed = |source| MountError::Failed { point: mounted.point.clone(), source };
        let (session, notifier) = session.map_err(failed)?;
        mounted.session = Some(session);
        let kernel = Kernel(Box::new(move |ino| {
            // An inode that the kernel does not know is no error; any other is a listing that stays old.
            if let Err(error) = notifier.inval_inode(INodeNo(ino), 0, 0) {
                tracing::info!(%error, "the kernel could not be told of a change");
            }
        }));
        Ok((mounted, kernel))
    }

    /// Where it is.
    pub(crate) fn point(&self) -> &Path {
        &self.point
    }

    /// Turns true when nothing is served any more, for instance because somebody unmounted it.
    pub(crate) fn ended(&self) -> watch::Receiver<bool> {
        self.ended.clone()
    }

    /// Unmounts; where somebody still uses it, it goes from the tree now and ends with its last user.
    pub(crate) fn unmount(mut self) {
        self.detach();
    }

    fn detach(&mut self) {
        let Some(session) = self.session.take() else { return };
        if table::device_at(&self.point) == self.device {
            match umount2(&self.point, MntFlags::UMOUNT_NOFOLLOW) {
                Ok(()) => {
                    if let Ok(Err(error)) = session.join() {
                        tracing::warn!(%error, "a thread of the file system failed");
                    }
                    return;
                }
                Err(Errno::EBUSY) => {
                    tracing::info!(mount = %self.point.display(), "still in use: it ends with its last user");
                    let _ = umount2(&self.point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW);
                }
                Err(error) => tracing::warn!(mount = %self.point.display(), %error, "cannot be unmounted"),
            }
        }
        // Its threads end when the kernel hangs up; waiting here could take forever.
        drop(session);
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.session.is_none() && table::device_at(&self.point) == self.device {
            let _ = umount2(&self.point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW);
        }
        self.detach();
    }
}

fn serve(
    frontend: Frontend,
    device: OwnedFd,
    threads: usize,
    ended: watch::Sender<bool>,
) -> io::Result<(JoinHandle<io::Result<()>>, Notifier)> {
    let mut config = Config::default();
    config.n_threads = Some(threads.max(1));
    config.acl = SessionACL::All;
    let session = Session::from_fd(frontend, device, SessionACL::All, config)?;
    let notifier = session.notifier();
    let thread = std::thread::Builder::new().name("fuse".into()).spawn(move || {
        let outcome = session.run();
        ended.send_replace(true);
        outcome
    })?;
    Ok((thread, notifier))
}

/// Takes away the mount of ours that stands at `point`; a daemon behind it stops after its last user.
///
/// # Errors
/// Nothing of ours is mounted there.
pub(crate) fn take_away(point: &Path) -> Result<(), MountError> {
    let point = absolute(point)?;
    match table::top_at(&point) {
        Some(entry) if entry.kind == TYPE => {
            umount2(&point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)
                .map_err(|error| MountError::Failed { point, source: error.into() })
        }
        Some(entry) => Err(MountError::Foreign { point, kind: entry.kind, device: entry.source }),
        None => Err(MountError::NothingThere { point }),
    }
}

/// Clears what killed runs left, makes the folder, and refuses what is not ours.
fn prepare(point: &Path) -> Result<PathBuf, MountError> {
    let parent = point.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(parent).map_err(|source| MountError::Folder { point: point.to_owned(), source })?;
    let point = absolute(point)?;
    for _ in 0..MAX_LEFT_OVER {
        let Some(entry) = table::top_at(&point) else { return usable(point) };
        match entry {
            Entry { kind, source, .. } if kind != TYPE => {
                return Err(MountError::Foreign { point, kind, device: source });
            }
            _ if is_served(&point) => return Err(MountError::InUse { point }),
            _ => {
                tracing::info!(mount = %point.display(), "taking away the mount of a killed run");
                umount2(&point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)
                    .map_err(|error| MountError::Failed { point: point.clone(), source: error.into() })?;
            }
        }
    }
    Err(MountError::InUse { point })
}

/// The path with its folder resolved; the last component may be a dead mount, which cannot be resolved.
fn absolute(point: &Path) -> Result<PathBuf, MountError> {
    let failed = |source| MountError::Folder { point: point.to_owned(), source };
    let name = point.file_name().ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
    let parent = point.parent().unwrap_or(Path::new("/"));
    Ok(fs::canonicalize(parent).map_err(failed)?.join(name))
}

/// The folder exists, is one, and hides nothing.
fn usable(point: PathBuf) -> Result<PathBuf, MountError> {
    let failed = |source| MountError::Folder { point: point.clone(), source };
    match fs::symlink_metadata(&point) {
        Ok(found) if !found.is_dir() => return Err(MountError::NotFolder { point }),
        Ok(_) => {
            if fs::read_dir(&point).map_err(failed)?.next().is_some() {
                return Err(MountError::NotEmpty { point });
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => fs::create_dir(&point).map_err(failed)?,
        Err(error) => return Err(failed(error)),
    }
    Ok(point)
}

/// Whether a daemon answers behind a mount of ours. A daemon that hangs counts as one that answers.
fn is_served(point: &Path) -> bool {
    let (sender, answer) = mpsc::channel();
    let path = point.to_owned();
    // A thread of its own, for a hung daemon would hold it.
    let probe = std::thread::Builder::new().name("mount-probe".into()).spawn(move || {
        let hung_up =
            |error: io::Error| matches!(error.raw_os_error(), Some(libc::ENOTCONN | libc::ECONNABORTED));
        let dead = fs::metadata(&path).is_err_and(hung_up);
        let _ = sender.send(!dead);
    });
    probe.is_err() || answer.recv_timeout(PROBE_TIMEOUT).unwrap_or(true)
}
