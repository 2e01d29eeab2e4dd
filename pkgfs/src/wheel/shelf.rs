use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use mirror::archive::Limits;
use mirror::{Sha256, WheelName};
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, watch};
use url::Url;

use super::index::{self, FORMAT};
use super::{OpenResult, Place, Reason, Wheel, WheelError, WheelIndex};
use crate::fetch::MAX_FLIGHT;
use crate::remote::{Piece, Remote, RemoteFile};

/// Unlisted wheels fetched at once, whole: each may be large, and its server as slow as it likes.
const UNLISTED_AT_ONCE: usize = 8;

/// A wheel is its contents and what its file name says of them; the digest does not cover the name.
type Key = (Sha256, String);
/// One wheel as one lock names it. Another lock's place may never answer, so its flight is another one.
type Flight = (Key, Url);
type Opening = watch::Receiver<Option<OpenResult>>;

/// All wheels that were opened, in memory and in `<state>/wheels`.
///
/// What a range reader learns of a wheel is not covered by the wheel's digest, so it is believed only of the place
/// that the index's own page names for that digest. A wheel from anywhere else is fetched whole and its digest
/// checked first: all who name the digest share what is learned here.
pub(crate) struct Shelf {
    folder: PathBuf,
    remote: Arc<dyn Remote>,
    limits: ShelfLimits,
    open: Mutex<HashMap<Key, Arc<Wheel>>>,
    flights: Mutex<HashMap<Flight, Opening>>,
    unlisted: Semaphore,
    arrivals: Mutex<Option<Weak<dyn Arrivals>>>,
}

/// Bounds of the shelf, from the settings.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ShelfLimits {
    pub(crate) archive: Limits,
    /// How long a reader waits for a wheel to be opened.
    pub(crate) timeout: Duration,
    /// Whether wheels may come from elsewhere than the index says.
    pub(crate) unlisted: bool,
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
        limits: ShelfLimits,
    ) -> std::io::Result<Arc<Shelf>> {
        fs::create_dir_all(&folder)?;
        Ok(Arc::new(Shelf {
            folder,
            remote,
            limits,
            open: Mutex::default(),
            flights: Mutex::default(),
            unlisted: Semaphore::new(UNLISTED_AT_ONCE),
            arrivals: Mutex::default(),
        }))
    }

    /// Says who takes whole wheels in.
    pub(crate) fn set_arrivals(&self, arrivals: Weak<dyn Arrivals>) {
        *lock(&self.arrivals) = Some(arrivals);
    }

    /// How many wheels were opened since the start.
    pub(crate) fn len(&self) -> usize {
        lock(&self.open).len()
    }

    /// Opens a wheel: from memory, from the folder, else from the index; one request for all that wait. Who waits too
    /// long gives up, but the wheel is opened all the same, for those who come back.
    pub(crate) async fn open(self: &Arc<Self>, name: &WheelName, remote: &RemoteFile) -> OpenResult {
        let fail = |reason| Arc::new(WheelError::new(name, reason));
        let sha256 = remote.sha256.ok_or_else(|| fail(Reason::NoDigest))?;
        let mut opening = match self.join_or_start(name, remote, sha256) {
            Ok(wheel) => {
                self.named_at(&wheel, remote);
                return Ok(wheel);
            }
            Err(opening) => opening,
        };
        let waited = tokio::time::timeout(self.limits.timeout, opening.wait_for(Option::is_some)).await;
        match waited {
            Err(_) => Err(fail(Reason::TimedOut(self.limits.timeout.as_millis() as u64))),
            Ok(outcome) => {
                outcome.ok().and_then(|outcome| outcome.clone()).unwrap_or_else(|| Err(fail(Reason::GivenUp)))
            }
        }
    }

    fn join_or_start(
        self: &Arc<Self>,
        name: &WheelName,
        remote: &RemoteFile,
        sha256: Sha256,
    ) -> Result<Arc<Wheel>, Opening> {
        let key = (sha256, name.file_name().to_owned());
        let flight = (key.clone(), remote.url.clone());
        let mut flights = lock(&self.flights);
        // One that ended without an outcome has panicked.
        if let Some(opening) = flights.get(&flight).filter(|opening| opening.has_changed().is_ok()) {
            return Err(opening.clone());
        }
        // A flight puts its wheel here first and leaves the map after: whoever finds neither starts one.
        if let Some(wheel) = lock(&self.open).get(&key) {
            return Ok(wheel.clone());
        }
        let (sender, opening) = watch::channel(None);
        flights.insert(flight.clone(), opening.clone());
        let (shelf, name, remote) = (self.clone(), name.clone(), remote.clone());
        tokio::spawn(async move {
            let work = shelf.load_or_read(&name, &remote, sha256);
            let outcome = tokio::time::timeout(MAX_FLIGHT, work)
                .await
                .unwrap_or_else(|_| Err(Reason::TimedOut(MAX_FLIGHT.as_millis() as u64)));
            let outcome = outcome
                .map(|wheel| lock(&shelf.open).entry(key).or_insert(wheel).clone())
                .map_err(|reason| Arc::new(WheelError::new(&name, reason)));
            if let Ok(wheel) = &outcome {
                shelf.named_at(wheel, &remote);
            }
            sender.send_replace(Some(outcome));
            lock(&shelf.flights).remove(&flight);
        });
        Err(opening)
    }

    async fn load_or_read(
        &self,
        name: &WheelName,
        remote: &RemoteFile,
        sha256: Sha256,
    ) -> Result<Arc<Wheel>, Reason> {
        let path = self.folder.join(format!("{sha256}.json"));
        let loaded = tokio::task::spawn_blocking(move || load(&path, &sha256)).await.ok().flatten();
        if let Some(kept) = loaded.filter(|kept| kept.index.name == *name) {
            let file = RemoteFile { url: kept.url, sha256: Some(sha256), size: Some(kept.index.bytes) };
            return Ok(Arc::new(Wheel::new(kept.index, Place { file, listed: kept.listed })));
        }
        let (place, read) = self.read(name, remote, sha256).await?;
        for problem in &read.index.problems {
            tracing::warn!(wheel = name.file_name(), problem, "wheel is not as it should be");
        }
        let wheel = Arc::new(Wheel::new(read.index, place));
        if let Some(whole) = read.whole {
            self.hand_over(&wheel, whole).await;
        }
        self.keep(&wheel).await;
        Ok(wheel)
    }

    /// Learns of a wheel from where it may be believed.
    async fn read(
        &self,
        name: &WheelName,
        named: &RemoteFile,
        sha256: Sha256,
    ) -> Result<(Place, index::Read), Reason> {
        let listed = self.remote.listed(name, sha256).await?;
        let limits = &self.limits.archive;
        if let Some(file) = listed.clone().filter(|file| file.sha256 == Some(sha256)) {
            let read = index::read(&*self.remote, &file, name, sha256, limits, None).await?;
            return Ok((Place { file, listed: true }, read));
        }
        if listed.is_none() && !self.limits.unlisted {
            return Err(Reason::Unlisted);
        }
        let place = Place { listed: listed.is_some(), file: listed.unwrap_or_else(|| named.clone()) };
        let mut file = RemoteFile { sha256: Some(sha256), ..place.file.clone() };
        let _permit = self.unlisted.acquire().await.map_err(|_| Reason::GivenUp)?;
        let whole = self.remote.whole(&file).await?;
        file.size = whole.length();
        let read = index::read(&*self.remote, &file, name, sha256, limits, Some(whole)).await?;
        Ok((Place { file, ..place }, read))
    }

    /// A lock names a place of a wheel that is open. The index is asked whether it is its own, while nobody waits.
    fn named_at(self: &Arc<Self>, wheel: &Arc<Wheel>, file: &RemoteFile) {
        let Some(sha256) = file.sha256 else { return };
        if !wheel.is_new(&file.url) {
            return;
        }
        if self.limits.unlisted {
            wheel.may_be_at(file);
        }
        let (shelf, wheel) = (self.clone(), wheel.clone());
        tokio::spawn(async move {
            match shelf.remote.listed(&wheel.index.name, sha256).await {
                Ok(Some(listed)) => wheel.is_at(RemoteFile { sha256: Some(sha256), ..listed }),
                Ok(None) => {}
                Err(error) => tracing::debug!(%error, "the index does not say where a wheel is"),
            }
        });
    }

    async fn hand_over(&self, wheel: &Arc<Wheel>, whole: Piece) {
        let arrivals = lock(&self.arrivals).clone();
        if let Some(arrivals) = arrivals.and_then(|weak| weak.upgrade()) {
            let wheel = wheel.clone();
            let _ = tokio::task::spawn_blocking(move || arrivals.arrived(&wheel, &whole)).await;
        }
    }

    /// Keeping is a convenience: where it fails, the wheel is read anew after a restart.
    async fn keep(&self, wheel: &Arc<Wheel>) {
        let (folder, wheel) = (self.folder.clone(), wheel.clone());
        let kept = tokio::task::spawn_blocking(move || save(&folder, &wheel)).await;
        if let Ok(Err(error)) = kept {
            tracing::info!(folder = %self.folder.display(), %error, "wheel index could not be kept");
        }
    }
}

/// A wheel as it is kept in the folder.
#[derive(Deserialize)]
struct Kept {
    url: Url,
    listed: bool,
    index: WheelIndex,
}

#[derive(Serialize)]
struct Keeping<'a> {
    url: &'a Url,
    listed: bool,
    index: &'a WheelIndex,
}

fn load(path: &Path, sha256: &Sha256) -> Option<Kept> {
    let text = fs::read(path).ok()?;
    match serde_json::from_slice::<Kept>(&text) {
        Ok(kept) if kept.index.format == FORMAT && kept.index.sha256 == *sha256 => Some(kept),
        Ok(_) => None,
        Err(error) => {
            tracing::info!(path = %path.display(), %error, "kept wheel index is damaged; it is read anew");
            None
        }
    }
}

fn save(folder: &Path, wheel: &Wheel) -> std::io::Result<()> {
    let Some(place) = wheel.places().into_iter().next() else { return Ok(()) };
    let keeping = Keeping { url: &place.file.url, listed: place.listed, index: &wheel.index };
    let text = serde_json::to_vec(&keeping)?;
    crate::durable::write(&folder.join(format!("{}.json", wheel.index.sha256)), &text)
}

/// A panic while the lock was held cannot leave these maps half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for Shelf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shelf").field("folder", &self.folder).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
