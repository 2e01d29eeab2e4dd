use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use tokio::sync::OnceCell;

use crate::name::FunctionName;
use crate::zygotes::PackageSet;

/// What is stored and shown of a deployed function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Its name.
    pub name: FunctionName,
    /// Digest of its code and its lock: two deployments of the same bytes are the same version.
    pub version: String,
    /// The file in the code folder that holds the handler.
    pub entry: String,
    /// When it was deployed, in milliseconds since 1970.
    pub deployed_at_ms: u64,
    /// Its environment below the mount; none where it needs no packages.
    pub environment: Option<String>,
    /// The packages of its lock.
    pub packages: Vec<Package>,
    /// What was odd about the deployment, but did not stop it.
    pub warnings: Vec<String>,
}

/// One package of a function's lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// Normalised project name.
    pub name: String,
    /// Exact version.
    pub version: String,
}

/// One deployed version of a function. Held by everything that runs it; the last holder of a retired version
/// removes its folder.
#[derive(Debug)]
pub struct Function {
    /// What is stored about it.
    pub meta: Meta,
    /// Unique among all versions this process has seen; the key of its warm instances.
    pub id: u64,
    /// Its environment as the zygote cache sees it; made at deployment, or on first use after a restart.
    pub(crate) packages: OnceCell<Arc<PackageSet>>,
    folder: PathBuf,
    retired: AtomicBool,
    life: Arc<Life>,
}

/// The time from a name's first deployment to its removal, over all its versions. Who deploys the name after that
/// is somebody else.
#[derive(Debug, Default)]
pub(crate) struct Life {
    ended: Mutex<bool>,
}

impl Life {
    /// Does `work` unless the name was removed; a removal waits until it is done.
    pub(crate) fn unless_ended(&self, work: impl FnOnce()) {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if !*ended {
            work();
        }
    }

    /// The name is removed.
    pub(crate) fn end(&self) {
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl Function {
    /// A version whose files lie in `folder`: `code/` and, where it has packages, `pylock.toml`.
    pub fn new(meta: Meta, folder: PathBuf) -> Arc<Self> {
        Function::of_life(meta, folder, Arc::default())
    }

    /// The version that replaces this one.
    pub(crate) fn successor(&self, meta: Meta, folder: PathBuf) -> Arc<Self> {
        Function::of_life(meta, folder, self.life.clone())
    }

    fn of_life(meta: Meta, folder: PathBuf, life: Arc<Life>) -> Arc<Self> {
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let (packages, retired) = (OnceCell::new(), AtomicBool::new(false));
        Arc::new(Function { meta, id, packages, folder, retired, life })
    }

    /// What it shares with the versions before and after it.
    pub(crate) fn life(&self) -> &Life {
        &self.life
    }

    /// The folder that a sandbox sees as `/ol/code`.
    pub fn code_dir(&self) -> PathBuf {
        self.folder.join("code")
    }

    /// The lock (PEP 751), which exists where the function has packages.
    pub fn lock_file(&self) -> PathBuf {
        self.folder.join(LOCK_FILE)
    }

    /// The folder of this version.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// No new call will use this version: idle instances end, busy ones end after their call.
    pub fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }

    /// Whether [`Function::retire`] was called.
    pub fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }
}

/// Name of the lock in a version's folder.
pub(crate) const LOCK_FILE: &str = "pylock.toml";

impl Drop for Function {
    fn drop(&mut self) {
        if self.is_retired()
            && let Err(error) = std::fs::remove_dir_all(&self.folder)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(folder = %self.folder.display(), %error, "code of an old version could not be removed; \
                the next start of ol-exec removes it");
        }
    }
}
