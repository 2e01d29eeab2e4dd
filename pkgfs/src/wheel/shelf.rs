use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use mirror::archive::Limits;
use mirror::{Sha256, WheelName};
use tokio::sync::OnceCell;

use super::index::{self, FORMAT};
use super::{OpenResult, Reason, Wheel, WheelError, WheelIndex};
use crate::remote::{Piece, Remote, RemoteFile};

/// All wheels that were opened, in memory and in `<state>/wheels`.
pub(crate) struct Shelf {
    folder: PathBuf,
    remote: Arc<dyn Remote>,
    limits: Limits,
    timeout: Duration,
    open: Mutex<HashMap<Sha256, Arc<OnceCell<Arc<Wheel>>>>>,
    arrivals: Mutex<Option<Weak<dyn Arrivals>>>,
}

/// Takes in whole wheels, from servers that do not do ranges.
pub(crate) trait Arrivals: Send + Sync {
    /// Keeps the members of `wheel`, whose file is `whole`.
    fn arrived(&self, wheel: &Arc<Wheel>, whole: &Piece);
}

impl Shelf {
    pub(crate) fn new(
        folder: PathBuf,
        remote: Arc<dyn Remote>,
        limits: Limits,
        timeout: Duration,
    ) -> std::io::Result<Shelf> {
        fs::create_dir_all(&folder)?;
        let (open, arrivals) = (Mutex::default(), Mutex::default());
        Ok(Shelf { folder, remote, limits, timeout, open, arrivals })
    }

    /// Says who takes whole wheels in.
    pub(crate) fn set_arrivals(&self, arrivals: Weak<dyn Arrivals>) {
        *self.arrivals.lock().unwrap_or_else(PoisonError::into_inner) = Some(arrivals);
    }

    /// How many wheels were opened since the start.
    pub(crate) fn len(&self) -> usize {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Opens a wheel: from memory, from the folder, else from the index; one request for all that wait.
    pub(crate) async fn open(&self, name: &WheelName, remote: &RemoteFile) -> OpenResult {
        let fail = |reason| Arc::new(WheelError::new(name, reason));
        let sha256 = remote.sha256.ok_or_else(|| fail(Reason::NoDigest))?;
        let cell = {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            open.entry(sha256).or_default().clone()
        };
        let work = cell.get_or_try_init(|| self.load_or_read(name, remote, sha256));
        match tokio::time::timeout(self.timeout, work).await {
            Ok(outcome) => {
                let wheel = outcome.map_err(fail)?;
                wheel.moved_to(remote);
                Ok(wheel.clone())
            }
            Err(_) => Err(fail(Reason::TimedOut(self.timeout.as_millis() as u64))),
        }
    }

    async fn load_or_read(
        &self,
        name: &WheelName,
        remote: &RemoteFile,
        sha256: Sha256,
    ) -> Result<Arc<Wheel>, Reason> {
        let path = self.folder.join(format!("{sha256}.json"));
        let loaded = tokio::task::spawn_blocking(move || load(&path, &sha256)).await.ok().flatten();
        if let Some(index) = loaded.filter(|index| index.name == *name) {
            return Ok(Arc::new(Wheel::new(index, remote)));
        }
        let read = index::read(&*self.remote, remote, name, sha256, &self.limits).await?;
        for problem in &read.index.problems {
            tracing::warn!(wheel = name.file_name(), problem, "wheel is not as it should be");
        }
        let wheel = Arc::new(Wheel::new(read.index, remote));
        if let Some(whole) = read.whole {
            self.hand_over(&wheel, whole).await;
        }
        self.keep(&wheel).await;
        Ok(wheel)
    }

    async fn hand_over(&self, wheel: &Arc<Wheel>, whole: Piece) {
        let arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(arrivals) = arrivals.and_then(|weak| weak.upgrade()) {
            let wheel = wheel.clone();
            let _ = tokio::task::spawn_blocking(move || arrivals.arrived(&wheel, &whole)).await;
        }
    }

    /// Keeping is a convenience: where it fails, the wheel is read anew after a restart.
    async fn keep(&self, wheel: &Arc<Wheel>) {
        let (folder, wheel) = (self.folder.clone(), wheel.clone());
        let kept = tokio::task::spawn_blocking(move || save(&folder, &wheel.index)).await;
        if let Ok(Err(error)) = kept {
            tracing::info!(folder = %self.folder.display(), %error, "wheel index could not be kept");
        }
    }
}

fn load(path: &Path, sha256: &Sha256) -> Option<WheelIndex> {
    let text = fs::read(path).ok()?;
    match serde_json::from_slice::<WheelIndex>(&text) {
        Ok(index) if index.format == FORMAT && index.sha256 == *sha256 => Some(index),
        Ok(_) => None,
        Err(error) => {
            tracing::info!(path = %path.display(), %error, "kept wheel index is damaged; it is read anew");
            None
        }
    }
}

fn save(folder: &Path, index: &WheelIndex) -> std::io::Result<()> {
    let text = serde_json::to_vec(index)?;
    crate::durable::write(&folder.join(format!("{}.json", index.sha256)), &text)
}

impl std::fmt::Debug for Shelf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shelf").field("folder", &self.folder).finish_non_exhaustive()
    }
}
