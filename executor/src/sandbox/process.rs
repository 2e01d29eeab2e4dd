use std::io;

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use super::cgroup::Cgroup;
use super::child::{Child, Exit, Known};
use super::ids::{Ids, Lease};

/// What a process holds that must outlive it: given back after it was reaped.
pub(super) enum Held {
    /// A zygote's block of ids; the zygote itself has the first.
    Block(Ids),
    /// A leaf's id.
    Single(#[expect(dead_code, reason = "held for its drop")] Lease),
}

/// A zygote or a leaf with all that the host keeps for it. However it is let go, it is killed, reaped, its cgroup is
/// removed and its ids come back, in this order.
pub(super) struct Process {
    parts: Option<Parts>,
    tasks: TaskTracker,
}

struct Parts {
    child: Child,
    cgroup: Cgroup,
    held: Held,
}

impl Process {
    pub(super) fn new(child: Child, cgroup: Cgroup, held: Held, tasks: TaskTracker) -> Process {
        Process { parts: Some(Parts { child, cgroup, held }), tasks }
    }

    /// One that has ended.
    #[cfg(test)]
    pub(super) fn ended() -> Process {
        Process { parts: None, tasks: TaskTracker::new() }
    }

    pub(super) fn kill(&self) {
        if let Some(parts) = &self.parts {
            parts.child.kill();
        }
    }

    /// Waits for its end and reaps it. Safe to cancel and to call again.
    pub(super) async fn wait(&mut self) -> io::Result<Exit> {
        match &mut self.parts {
            Some(parts) => parts.child.wait().await,
            None => Ok(Exit::Signal(libc::SIGKILL)),
        }
    }

    pub(super) fn cgroup(&self) -> Option<&Cgroup> {
        self.parts.as_ref().map(|parts| &parts.cgroup)
    }

    /// Ends it and waits until nothing is left.
    pub(super) async fn end(mut self) {
        if let Some(parts) = self.parts.take() {
            self.tasks.spawn(parts.end()).await.ok();
        }
    }
}

impl Parts {
    async fn end(mut self) {
        self.child.kill();
        if let Err(error) = self.child.wait().await {
            tracing::error!(pid = self.child.pid(), %error, "cannot wait for a sandbox's process");
        }
        let (cgroup, held, known) = (self.cgroup, self.held, self.child.known().clone());
        let removed = tokio::task::spawn_blocking(move || remove(&cgroup, held, &known)).await;
        if let Ok(Err(error)) = removed {
            tracing::error!(%error, "cannot remove a sandbox's cgroup");
        }
    }
}

/// Removes what is left of a process that was reaped, then gives back its ids. Blocks.
fn remove(cgroup: &Cgroup, held: Held, known: &Known) -> io::Result<()> {
    let removed = cgroup.remove();
    if let Held::Block(ids) = &held {
        known.end_strays(ids.first()..ids.first() + 1);
    }
    if removed.is_err() {
        // Something may still run as them: nobody else may ever be that user.
        std::mem::forget(held);
    }
    removed
}

impl Drop for Process {
    fn drop(&mut self) {
        let Some(parts) = self.parts.take() else { return };
        match Handle::try_current() {
            Ok(runtime) => drop(self.tasks.spawn_on(parts.end(), &runtime)),
            // The runtime is gone, and the daemon with it: init's end takes the rest.
            Err(_) => parts.child.kill(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_whose_processes_may_live_on_is_never_given_out_again() {
        let folder = tempfile::tempdir().unwrap();
        let ids = Ids::new(u32::MAX - 2, 1);
        let removed = |folder: &std::path::Path| {
            let cgroup = Cgroup::at(folder.to_path_buf(), folder.to_path_buf());
            remove(&cgroup, Held::Single(ids.take(1).unwrap()), &Known::default())
        };
        removed(&folder.path().join("gone")).unwrap();
        std::fs::write(folder.path().join("busy"), "").unwrap();
        removed(folder.path()).unwrap_err();
        assert!(ids.take(1).is_none());
    }
}
