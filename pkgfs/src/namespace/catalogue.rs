use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use mirror::ProjectName;

use super::Failure;
use crate::remote::{PageWheel, Remote, RemoteError};

/// Wheels by version, then by tag.
pub(super) type Releases = BTreeMap<String, BTreeMap<String, PageWheel>>;

/// What is known of the index. Each question goes to the index client, which keeps pages for a while; while the
/// index is down, what was known stays.
pub(super) struct Catalogue {
    remote: Arc<dyn Remote>,
    timeout: Duration,
    known: RwLock<BTreeMap<ProjectName, Known>>,
}

struct Known {
    releases: Arc<Releases>,
    changed: SystemTime,
}

impl Catalogue {
    pub(super) fn new(remote: Arc<dyn Remote>, timeout: Duration) -> Catalogue {
        Catalogue { remote, timeout, known: RwLock::default() }
    }

    /// The project's releases; `None` where the index does not have it.
    pub(super) async fn releases(&self, project: &ProjectName) -> Result<Option<Arc<Releases>>, Failure> {
        let asked = tokio::time::timeout(self.timeout, self.remote.wheels(project)).await;
        let timed_out = || {
            let limit = self.timeout.as_millis();
            Err(RemoteError::Down(format!("the index did not answer in {limit} ms (pkgfs.read_timeout_ms)")))
        };
        match asked.unwrap_or_else(|_| timed_out()) {
            Ok(wheels) => Ok(Some(self.keep(project, sorted(wheels)))),
            Err(RemoteError::NotFound(_)) => Ok(None),
            Err(RemoteError::Failed(error) | RemoteError::Down(error)) => {
                tracing::warn!(%project, error, "project page cannot be read");
                let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
                known.get(project).map(|known| Some(known.releases.clone())).ok_or(Failure::Unreadable)
            }
        }
    }

    /// Projects that were asked for and exist.
    pub(super) fn projects(&self) -> Vec<ProjectName> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    /// When the list of projects, or the page of one, last changed.
    pub(super) fn changed(&self, project: Option<&ProjectName>) -> Option<SystemTime> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        match project {
            Some(project) => known.get(project).map(|known| known.changed),
            None => known.values().map(|known| known.changed).max(),
        }
    }

    fn keep(&self, project: &ProjectName, releases: Releases) -> Arc<Releases> {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let releases = Arc::new(releases);
        let same_names = |known: &Known| {
            known.releases.keys().eq(releases.keys())
                && known.releases.values().zip(releases.values()).all(|(a, b)| a.keys().eq(b.keys()))
        };
        // Addresses may change without a change in any listing.
        let unchanged = known.get(project).filter(|known| same_names(known)).map(|known| known.changed);
        let changed = unchanged.unwrap_or_else(SystemTime::now);
        known.insert(project.clone(), Known { releases: releases.clone(), changed });
        releases
    }
}

/// Versions are named as the first wheel of each spells it.
fn sorted(wheels: Vec<PageWheel>) -> Releases {
    let mut releases = Releases::new();
    for wheel in wheels {
        // A wheel that cannot be verified is not shown.
        if wheel.file.sha256.is_some() {
            let release = releases.entry(wheel.name.version_text.clone()).or_default();
            release.insert(wheel.name.tag().to_owned(), wheel);
        }
    }
    releases
}

impl std::fmt::Debug for Catalogue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Catalogue").finish_non_exhaustive()
    }
}
