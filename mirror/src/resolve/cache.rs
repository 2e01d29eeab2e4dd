//! Earlier resolutions: `<state>/resolutions/<key>.toml`, each a lock as uv wrote it.

use std::path::PathBuf;
use std::time::Duration;

use config::Settings;

use crate::{Hasher, Index, Interpreter, Lock, Sha256, index_url};

pub(super) struct Cache {
    dir: PathBuf,
    ttl: Duration,
}

/// What a resolution depends on: what was asked for, which tags and markers apply, and where it was looked up.
pub(super) fn key(lines: &[String], interpreter: &Interpreter, index: &Index) -> Sha256 {
    let mut hasher = Hasher::default();
    let facts = [interpreter.tags_digest().to_string(), index_url::without_secrets(index.url.as_str())];
    for part in facts.iter().chain(lines) {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finish()
}

impl Cache {
    pub(super) fn new(settings: &Settings) -> Cache {
        Cache {
            dir: settings.state_dir("resolutions"),
            ttl: Duration::from_millis(settings.mirror.resolution_ttl_ms),
        }
    }

    /// The lock kept under `key`, if it is younger than the time to live.
    pub(super) fn fresh(&self, key: &Sha256) -> Option<Lock> {
        let age = std::fs::metadata(self.file(key)).ok()?.modified().ok()?.elapsed().ok()?;
        if age < self.ttl { self.any(key) } else { None }
    }

    /// The lock kept under `key`, however old.
    pub(super) fn any(&self, key: &Sha256) -> Option<Lock> {
        Lock::parse(&std::fs::read_to_string(self.file(key)).ok()?).ok()
    }

    /// Keeps `lock`. A failure costs a later run of uv, nothing else.
    pub(super) fn keep(&self, key: &Sha256, lock: &Lock) {
        let written = std::fs::create_dir_all(&self.dir)
            .and_then(|()| crate::files::write_durably(&self.file(key), lock.text().as_bytes()));
        if let Err(error) = written {
            tracing::warn!(%error, dir = %self.dir.display(), "a resolution is not kept");
        }
    }

    fn file(&self, key: &Sha256) -> PathBuf {
        self.dir.join(format!("{key}.toml"))
    }
}
