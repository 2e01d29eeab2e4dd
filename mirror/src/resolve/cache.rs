//! Earlier resolutions: `<state>/resolutions/<key>.toml`, each a lock as uv wrote it.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use config::Settings;

use crate::{Hasher, Index, Interpreter, Lock, Sha256, index_url};

pub(super) struct Cache {
    dir: PathBuf,
    ttl: Duration,
    max_bytes: u64,
}

/// Least that a file takes of a disk.
const BLOCK_BYTES: u64 = 4096;

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
            max_bytes: settings.mirror.resolutions_max_bytes,
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
            .and_then(|()| crate::files::write_durably(&self.file(key), lock.text().as_bytes()))
            .and_then(|()| self.shrink());
        if let Err(error) = written {
            tracing::warn!(%error, dir = %self.dir.display(), "a resolution is not kept");
        }
    }

    /// Removes the oldest while all together take more than they may.
    fn shrink(&self) -> std::io::Result<()> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            let entry = entry?;
            // Another program may shrink it at the same time.
            let Ok(metadata) = entry.metadata() else { continue };
            let bytes = metadata.len().max(BLOCK_BYTES);
            found.push((metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH), bytes, entry.path()));
        }
        let mut total: u64 = found.iter().map(|(_, bytes, _)| bytes).sum();
        found.sort();
        for (_, bytes, path) in found {
            if total <= self.max_bytes {
                break;
            }
            // Gone already is as good.
            let _ = std::fs::remove_file(path);
            total -= bytes;
        }
        Ok(())
    }

    fn file(&self, key: &Sha256) -> PathBuf {
        self.dir.join(format!("{key}.toml"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_when_there_are_too_many() {
        let dir = tempfile::tempdir().unwrap();
        let cache =
            Cache { dir: dir.path().join("r"), ttl: Duration::from_secs(9), max_bytes: 2 * BLOCK_BYTES };
        let keys: Vec<Sha256> = (0..4u8).map(|n| Sha256::of(&[n])).collect();
        for (age, key) in keys.iter().enumerate().rev() {
            cache.keep(key, &Lock::empty());
            let file = std::fs::File::options().write(true).open(cache.file(key)).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(60 * age as u64)).unwrap();
        }
        let kept: Vec<bool> = keys.iter().map(|key| cache.any(key).is_some()).collect();
        assert_eq!(kept, [true, true, false, false]);
    }
}
