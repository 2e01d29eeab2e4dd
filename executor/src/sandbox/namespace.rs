use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use super::StartError;
use super::child::{Child, Known};
use super::stage::INIT;
use super::stage_run::run_stage;

/// The one PID namespace that all zygotes live in, held by its first process.
pub(super) struct PidNamespace {
    /// For `setns`.
    pub handle: OwnedFd,
    init: Child,
    // The first process ends when this closes, however that comes about, and takes the namespace with it.
    socket: OwnedFd,
}

impl PidNamespace {
    pub(super) async fn start(
        executable: &Path,
        limit: Duration,
        known: &Known,
    ) -> Result<PidNamespace, StartError> {
        let executable = executable.to_path_buf();
        let failed = |step: &str, source| StartError::Init { step: step.into(), source };
        let run = tokio::task::spawn_blocking(move || run_stage(&executable, INIT, limit, |_| Ok(()), &[]))
            .await
            .map_err(|error| failed("run its stage", io::Error::other(error)))?
            .map_err(|failure| failed(&failure.step, io::Error::other(failure.error)))?;
        let init = Child::adopt(run.pidfd, 0, known).map_err(|source| failed("adopt it", source))?;
        let handle = File::open(format!("/proc/{}/ns/pid", init.pid()))
            .map_err(|source| failed("open its namespace", source))?;
        Ok(PidNamespace { handle: handle.into(), init, socket: run.socket })
    }

    /// Ends every zygote and every leaf.
    pub(super) async fn end(self) {
        let PidNamespace { mut init, socket, .. } = self;
        drop(socket);
        if let Err(error) = init.wait().await {
            tracing::error!(%error, "cannot wait for the first process of the zygotes' namespace");
        }
    }
}
