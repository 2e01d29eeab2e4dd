use std::io;

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use super::cgroup::Cgroup;
use super::child::{Child, Exit};
use super::ids::{Ids, Lease};

/// What a process holds that must outlive it: given back after it was reaped.
pub(super) enum Held {
    /// A zygote's block of ids.
    Block(#[expect(dead_code, reason = "held for its drop")] Ids),
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
        let (cgroup, held) = (self.cgroup, self.held);
        let removed = tokio::task::spawn_blocking(move || cgroup.remove()).await;
        if let Ok(Err(error)) = removed {
            tracing::error!(%error, "cannot remove a sandbox's cgroup");
        }
        drop(held);
    }
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
