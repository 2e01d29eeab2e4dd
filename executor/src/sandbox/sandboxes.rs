use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use config::{ExecutorSettings, Settings};
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;
use tokio_util::task::TaskTracker;

use super::cgroup::{Cgroups, Parents};
use super::child::Known;
use super::ids::Ids;
use super::namespace::PidNamespace;
use super::root_tree::RootTree;
use super::runtime::Runtime;
use super::{
    ForkError, Leaf, LeafSpec, Python, StartError, Zygote, ZygoteError, ZygoteSpec, fork, launch, userns,
};

/// All sandboxes of one daemon. Clones share them.
#[derive(Clone)]
pub struct Sandboxes {
    shared: Arc<Shared>,
}

/// What making zygotes and leaves needs.
pub(super) struct Shared {
    pub settings: ExecutorSettings,
    pub python: Python,
    pub runtime: Runtime,
    pub stage_executable: PathBuf,
    pub root: RootTree,
    pub cgroups: Cgroups,
    pub ids: Ids,
    pub known: Known,
    pub tasks: TaskTracker,
    pub namespace: Mutex<Option<PidNamespace>>,
    counter: AtomicU64,
}

impl Shared {
    async fn build(
        settings: &Settings,
        python: Python,
        stage_executable: Option<PathBuf>,
        cgroups: Cgroups,
    ) -> Result<Shared, StartError> {
        // Where none is named: not the running program's path, at which another file may lie by now.
        let stage_executable = stage_executable.unwrap_or_else(|| PathBuf::from("/proc/self/exe"));
        let ids = id_range(&settings.executor)?;
        let runtime = Runtime::install(&settings.state)?;
        let folder = settings.state_dir("run");
        std::fs::create_dir_all(&folder)
            .map_err(|source| StartError::Write { path: folder.clone(), source })?;
        let root = RootTree::build(&folder, &python, &runtime.folder).await?;
        let known = Known::default();
        let limit = Duration::from_millis(settings.executor.fork_timeout_ms);
        let namespace = PidNamespace::start(&stage_executable, limit, &known).await?;
        Ok(Shared {
            settings: settings.executor.clone(),
            python,
            runtime,
            stage_executable,
            root,
            cgroups,
            ids,
            known,
            tasks: TaskTracker::new(),
            namespace: Mutex::new(Some(namespace)),
            counter: AtomicU64::new(0),
        })
    }

    /// A name for a cgroup, never used before by this daemon.
    pub(super) fn name(&self, kind: &str) -> String {
        format!("{kind}-{}", self.counter.fetch_add(1, Ordering::Relaxed))
    }

    pub(super) fn fork_limit(&self) -> Duration {
        Duration::from_millis(self.settings.fork_timeout_ms)
    }
}

impl Drop for Shared {
    /// For a daemon that ends without [`Sandboxes::stop`] (a panic): what that would have removed is removed.
    fn drop(&mut self) {
        let Some(namespace) = self.namespace.get_mut().take() else { return };
        self.known.kill_all();
        drop(namespace);
        if let Err(error) = self.cgroups.stop() {
            tracing::error!(%error, "cannot remove our cgroups");
        }
    }
}

impl Sandboxes {
    /// Prepares the host. In one process no two may have user ids in common: a child of this process with one of them is
    /// a sandbox's, and is ended if it is no longer known. `stage_executable`: the program whose `main` hands hidden stages to
    /// [`stage_main`](super::stage_main); `None` for the running one.
    pub async fn start(
        settings: &Settings,
        python: impl Into<Python>,
        stage_executable: Option<PathBuf>,
    ) -> Result<Sandboxes, StartError> {
        if !nix::unistd::geteuid().is_root() {
            return Err(StartError::NotRoot);
        }
        let python = python.into();
        python.check()?;
        userns::check()?;
        let name = cgroup_name(&settings.state);
        let cgroups = Cgroups::start(Parents::find(&settings.executor.cgroup_parent)?, &name)?;
        let undo = cgroups.clone();
        let built = Shared::build(settings, python, stage_executable, cgroups).await;
        if built.is_err() {
            undo.stop().ok();
        }
        Ok(Sandboxes { shared: Arc::new(built?) })
    }

    /// Ends everything and removes what was made on the host. Drop leaves and zygotes first: a process whose handle
    /// is still held is killed and not waited for.
    pub async fn stop(&self) {
        let Some(namespace) = self.shared.namespace.lock().await.take() else { return };
        self.shared.known.kill_all();
        self.shared.tasks.close();
        let limit = self.shared.fork_limit();
        if tokio::time::timeout(limit, self.shared.tasks.wait()).await.is_err() {
            tracing::error!("some sandboxes could not be ended in time");
        }
        // A namespace ends when all that live in it are reaped, and only their parent can do that.
        let shared = Arc::clone(&self.shared);
        let first = shared.settings.first_uid;
        let users = first..first.saturating_add(shared.ids.count());
        tokio::task::spawn_blocking(move || shared.known.end_strays(users)).await.ok();
        if tokio::time::timeout(limit, namespace.end()).await.is_err() {
            tracing::error!("the zygotes' namespace could not be ended in time");
        }
        let shared = Arc::clone(&self.shared);
        let removed = tokio::task::spawn_blocking(move || shared.cgroups.stop()).await;
        if let Ok(Err(error)) = removed {
            tracing::error!(%error, "cannot remove our cgroups");
        }
    }

    /// Launches a zygote that has imported nothing.
    pub async fn root_zygote(&self) -> Result<Zygote, ZygoteError> {
        launch::root_zygote(Arc::clone(&self.shared)).await
    }

    /// Forks a zygote from `parent` and lets it import.
    pub async fn child_zygote(&self, parent: &Zygote, spec: ZygoteSpec) -> Result<Zygote, ZygoteError> {
        let task = fork::zygote(Arc::clone(&self.shared), parent.clone(), spec);
        // A task of its own: the caller may go away between a zygote's question and its answer.
        tokio::spawn(task).await.map_err(|_| ZygoteError::ParentGone)?
    }

    /// Forks a sandbox from `parent`.
    pub async fn fork(&self, parent: &Zygote, spec: LeafSpec) -> Result<Leaf, ForkError> {
        let task = fork::leaf(Arc::clone(&self.shared), parent.clone(), spec);
        tokio::spawn(task).await.map_err(|_| ForkError::ZygoteGone)?
    }
}

/// The ids of all zygotes, and as many again: a zygote's come back only when the last leaf forked from it has ended.
fn id_range(settings: &ExecutorSettings) -> Result<Ids, StartError> {
    let count = u64::from(settings.uids_per_zygote) * settings.max_zygotes as u64 * 2;
    // The last id means "none" to the kernel.
    let room = u32::MAX - settings.first_uid.min(u32::MAX - 1) - 1;
    match u32::try_from(count) {
        Ok(count) if count <= room => Ok(Ids::new(settings.first_uid, count)),
        _ => Err(StartError::Ids { count, room }),
    }
}

/// One folder for each state folder: several daemons live side by side, and each finds what it left behind.
fn cgroup_name(state: &Path) -> String {
    let state = state.canonicalize().unwrap_or_else(|_| state.to_path_buf());
    let digest = Sha256::digest(state.as_os_str().as_bytes());
    let digits: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    format!("ol-{digits}")
}
