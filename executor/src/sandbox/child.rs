use std::collections::HashMap;
use std::fs;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::sys::{message, process};

/// A killed process that is not gone after this hangs in the kernel.
const END_LIMIT_MS: u16 = 5000;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// With this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

/// The daemon's children by process id: each is adopted once.
#[derive(Clone, Default)]
pub(super) struct Known(Arc<Mutex<HashMap<u32, Arc<OwnedFd>>>>);

impl Known {
    fn with<T>(&self, act: impl FnOnce(&mut HashMap<u32, Arc<OwnedFd>>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Kills all of them.
    pub(super) fn kill_all(&self) {
        self.with(|known| known.values().for_each(process::kill));
    }

    fn contains(&self, pid: u32) -> bool {
        self.with(|known| known.contains_key(&pid))
    }

    /// Kills and reaps the daemon's children that run as one of `users` and were never adopted: a zygote may make as
    /// many as it likes, and one that is asked for a fork may answer too late. Nobody else would wait for them, and a
    /// PID namespace does not end before they are gone. Blocks. Not while a zygote with such an id may be forking.
    pub(super) fn end_strays(&self, users: Range<u32>) {
        let Ok(entries) = fs::read_dir("/proc") else { return };
        for entry in entries.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            // The pidfd first: what is read after it is of the process that it names, or of none.
            let Ok(pidfd) = process::open(pid) else { continue };
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let ours = field(&status, "PPid:") == Some(std::process::id());
            let stray = ours && field(&status, "Uid:").is_some_and(|user| users.contains(&user));
            if stray && !self.contains(pid) {
                finish(&pidfd);
            }
        }
    }
}

/// A process that a zygote or a launcher has made for the daemon, which is its parent. Named by pidfd alone.
pub(super) struct Child {
    pidfd: AsyncFd<Arc<OwnedFd>>,
    pid: u32,
    known: Known,
    exit: Option<Exit>,
}

impl Child {
    /// Takes over a process that a zygote says it has made. `uid`: the zygote's. What a zygote sends is not trusted:
    /// the process must be a child of ours that was not adopted before, and must still run as that zygote.
    pub(super) fn adopt(pidfd: OwnedFd, uid: u32, known: &Known) -> io::Result<Child> {
        let refused = |why: &str| io::Error::new(io::ErrorKind::PermissionDenied, why);
        let pid = process_id(&pidfd)?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        if field(&status, "PPid:") != Some(std::process::id()) {
            return Err(refused("the process is not a child of the daemon"));
        }
        if field(&status, "Uid:") != Some(uid) {
            return Err(refused("the process is not the zygote's"));
        }
        let pidfd = Arc::new(pidfd);
        let fresh = known.with(|known| match known.entry(pid) {
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(Arc::clone(&pidfd));
                true
            }
            std::collections::hash_map::Entry::Occupied(_) => false,
        });
        if !fresh {
            return Err(refused("the process was handed in before"));
        }
        let watched = message::watch(Arc::clone(&pidfd), Interest::READABLE);
        let pidfd = watched.inspect_err(|_| {
            known.with(|known| known.remove(&pid));
        })?;
        Ok(Child { pidfd, pid, known: known.clone(), exit: None })
    }

    /// Its number on the host. Stays its own until [`Child::wait`] has returned.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// The daemon's children, this one among them.
    pub(super) fn known(&self) -> &Known {
        &self.known
    }

    /// Kills it; as the first process of a PID namespace it takes all others with it.
    pub(super) fn kill(&self) {
        process::kill(self.pidfd.get_ref());
    }

    /// Waits for its end and reaps it. Safe to cancel and to call again.
    pub(super) async fn wait(&mut self) -> io::Result<Exit> {
        if let Some(exit) = self.exit {
            return Ok(exit);
        }
        let exit = self.reap().await?;
        self.exit = Some(exit);
        self.known.with(|known| known.remove(&self.pid));
        Ok(exit)
    }

    async fn reap(&self) -> io::Result<Exit> {
        loop {
            let mut ready = self.pidfd.readable().await?;
            let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::__WALL;
            match waitid(Id::PIDFd(self.pidfd.get_ref().as_fd()), flags) {
                Ok(WaitStatus::StillAlive) => ready.clear_ready(),
                Ok(WaitStatus::Exited(_, code)) => return Ok(Exit::Code(code)),
                Ok(WaitStatus::Signaled(_, signal, _)) => return Ok(Exit::Signal(signal as i32)),
                Ok(_) => {}
                // Reaped by somebody else, which nothing in this program does.
                Err(Errno::ECHILD) => return Ok(Exit::Signal(libc::SIGKILL)),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Kills and reaps a process that nobody has adopted. Blocks until it is gone, or for as long as the kernel may be taken to
/// need for that.
pub(super) fn finish(pidfd: &OwnedFd) {
    process::kill(pidfd);
    poll(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], END_LIMIT_MS).ok();
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::__WALL;
    if let Ok(WaitStatus::StillAlive) = waitid(Id::PIDFd(pidfd.as_fd()), flags) {
        tracing::error!(pid = process_id(pidfd).ok(), "a process that was killed does not end");
    }
}

/// The number behind a pidfd, as this process sees it.
fn process_id(pidfd: &OwnedFd) -> io::Result<u32> {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd()))?;
    field(&text, "Pid:")
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the descriptor names no process"))
}

fn field(text: &str, name: &str) -> Option<u32> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}
