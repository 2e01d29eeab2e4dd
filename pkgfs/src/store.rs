//! The store: one read-only file a member, named by its SHA-256, so that equal files of all releases are kept once.
//!
//! A file appears by rename after its digest was checked, so a killed process leaves nothing half written. Files are
//! not synced: that costs 3 ms each, and an import reads hundreds. Instead, after a restart of the machine, which may
//! have been a crash, each file's digest is checked once more before it is served. The size is bounded: least recently used files go first. Readers that hold a file open keep
//! reading it after it went.

mod marker;

use std::fs::{self, File};
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use lru::LruCache;
use mirror::{Hasher, Sha256};

/// Why a member could not be kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError<E: std::error::Error + 'static> {
    #[error("the store {path} cannot be used")]
    Folder { path: PathBuf, source: io::Error },
    #[error("the disk of the store {path} is full and nothing in it can be evicted; free some space there")]
    Full { path: PathBuf },
    #[error("it takes {bytes} bytes, more than the whole store may; raise pkgfs.store_max_bytes ({limit})")]
    TooLarge { bytes: u64, limit: u64 },
    #[error(
        "its sha256 is {found}, its wheel's RECORD says {expected}: the file is damaged or was tampered with"
    )]
    WrongDigest { expected: Sha256, found: Sha256 },
    #[error(transparent)]
    Source(E),
}

/// The writer's side of a member: an error of the disk is told apart from one of the data.
pub(crate) enum FillError<E> {
    Disk(io::Error),
    Source(E),
}

/// See the module's description.
#[derive(Debug)]
pub(crate) struct Store {
    root: PathBuf,
    max_bytes: u64,
    kept: Mutex<Kept>,
    open: Mutex<LruCache<Sha256, Arc<File>>>,
}

#[derive(Debug)]
struct Kept {
    sizes: LruCache<Sha256, Item>,
    bytes: u64,
    /// How many of them are suspect.
    suspects: usize,
    /// The boot marker names another boot, because of suspects.
    old_marker: bool,
}

#[derive(Clone, Copy, Debug)]
struct Item {
    size: u64,
    /// It may have been damaged by a crash of the machine, and must be checked before it is served.
    suspect: bool,
}

impl Store {
    /// Opens or makes the folder, forgets what an earlier run left half written, and learns what is there.
    pub(crate) fn open(root: &Path, max_bytes: u64, max_open_files: usize) -> io::Result<Store> {
        make_folder(root)?;
        let temp = root.join("tmp");
        match fs::remove_dir_all(&temp) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => make_folder(&temp)?,
        }
        for first in 0..=u8::MAX {
            make_folder(&root.join(format!("{first:02x}")))?;
        }
        let suspect = marker::is_of_another_boot(root);
        let mut kept = Kept { sizes: LruCache::unbounded(), bytes: 0, suspects: 0, old_marker: suspect };
        for (_, digest, size) in scan(root)? {
            kept.sizes.put(digest, Item { size, suspect });
            kept.bytes += size;
            kept.suspects += usize::from(suspect);
        }
        kept.settle(root)?;
        let open = LruCache::new(NonZeroUsize::new(max_open_files).unwrap_or(NonZeroUsize::MIN));
        Ok(Store { root: root.to_owned(), max_bytes, kept: Mutex::new(kept), open: Mutex::new(open) })
    }

    /// Whether the member is there and must be checked before it is served.
    pub(crate) fn is_suspect(&self, digest: &Sha256) -> bool {
        lock(&self.kept).sizes.peek(digest).is_some_and(|item| item.suspect)
    }

    /// Checks a suspect file; true where the member is there and whole. Reads the whole file.
    pub(crate) fn recheck(&self, digest: &Sha256) -> bool {
        if !self.is_suspect(digest) {
            return false;
        }
        let whole = Sha256::of_file(&self.path(digest)).is_ok_and(|found| found == *digest);
        let mut kept = lock(&self.kept);
        if !whole {
            tracing::warn!(member = %digest, "a file of the store was damaged, by a crash perhaps; it is fetched again");
            kept.remove(digest);
            let _ = fs::remove_file(self.path(digest));
        } else if let Some(item) = kept.sizes.peek_mut(digest)
            && item.suspect
        {
            item.suspect = false;
            kept.suspects -= 1;
        }
        self.settle(&mut kept);
        whole
    }

    /// A marker that cannot be written costs the next run some checks, nothing else.
    fn settle(&self, kept: &mut Kept) {
        if let Err(error) = kept.settle(&self.root) {
            tracing::warn!(%error, store = %self.root.display(), "the store's boot marker cannot be written");
        }
    }

    /// The member's file, if it is there, known to be whole, and has its right size; a damaged one is removed.
    pub(crate) fn get(&self, digest: &Sha256, size: u64) -> Option<Arc<File>> {
        let open = lock(&self.open).get(digest).cloned();
        if let Some(file) = open {
            lock(&self.kept).sizes.promote(digest);
            return Some(file);
        }
        let mut kept = lock(&self.kept);
        let known = kept.sizes.get(digest).filter(|item| !item.suspect)?.size;
        let file = File::open(self.path(digest)).ok();
        let whole =
            file.filter(|file| known == size && file.metadata().is_ok_and(|found| found.len() == size));
        let Some(file) = whole else {
            tracing::warn!(member = %digest, "a file of the store is missing or has a wrong size; it is fetched again");
            kept.remove(digest);
            let _ = fs::remove_file(self.path(digest));
            return None;
        };
        drop(kept);
        let file = Arc::new(file);
        lock(&self.open).put(*digest, file.clone());
        Some(file)
    }

    /// Whether the member is there, without counting as a use.
    pub(crate) fn has(&self, digest: &Sha256) -> bool {
        lock(&self.kept).sizes.peek(digest).is_some_and(|item| !item.suspect)
    }

    /// Bytes and files kept, and the limit on bytes.
    pub(crate) fn usage(&self) -> (u64, usize, u64) {
        let kept = lock(&self.kept);
        (kept.bytes, kept.sizes.len(), self.max_bytes)
    }

    /// Keeps what `fill` writes, if it is `size` bytes with this digest. `fill` is called again where the disk was
    /// full and something could be evicted.
    pub(crate) fn insert<E: std::error::Error + 'static>(
        &self,
        digest: &Sha256,
        size: u64,
        mut fill: impl FnMut(&mut dyn Write) -> Result<(), FillError<E>>,
    ) -> Result<Arc<File>, StoreError<E>> {
        if size > self.max_bytes {
            return Err(StoreError::TooLarge { bytes: size, limit: self.max_bytes });
        }
        self.evict_until(|kept| kept.bytes.saturating_add(size) <= self.max_bytes);
        loop {
            match self.write(digest, size, &mut fill) {
                Err(FillError::Disk(error)) if is_full(&error) => {
                    if !self.evict_some(size) {
                        return Err(StoreError::Full { path: self.root.clone() });
                    }
                }
                Err(FillError::Disk(source)) => {
                    return Err(StoreError::Folder { path: self.root.clone(), source });
                }
                Err(FillError::Source(error)) => return Err(error),
                Ok(file) => return Ok(file),
            }
        }
    }

    fn write<E: std::error::Error + 'static>(
        &self,
        digest: &Sha256,
        size: u64,
        fill: &mut impl FnMut(&mut dyn Write) -> Result<(), FillError<E>>,
    ) -> Result<Arc<File>, FillError<StoreError<E>>> {
        let temp = tempfile::NamedTempFile::new_in(self.root.join("tmp")).map_err(FillError::Disk)?;
        let mut sink = Hashing { file: temp.as_file(), hasher: Hasher::default() };
        fill(&mut sink).map_err(|error| match error {
            FillError::Disk(error) => FillError::Disk(error),
            FillError::Source(error) => FillError::Source(StoreError::Source(error)),
        })?;
        let found = sink.hasher.finish();
        if found != *digest {
            return Err(FillError::Source(StoreError::WrongDigest { expected: *digest, found }));
        }
        temp.as_file().set_permissions(fs::Permissions::from_mode(0o444)).map_err(FillError::Disk)?;
        let path = self.path(digest);
        temp.persist(&path).map_err(|error| FillError::Disk(error.error))?;
        let file = Arc::new(File::open(&path).map_err(FillError::Disk)?);
        let mut kept = lock(&self.kept);
        kept.add(*digest, size);
        self.settle(&mut kept);
        drop(kept);
        lock(&self.open).put(*digest, file.clone());
        Ok(file)
    }

    /// Makes room on a full disk: at least `size` bytes, or everything. False where nothing was left to evict.
    fn evict_some(&self, size: u64) -> bool {
        let before = lock(&self.kept).bytes;
        let target = before.saturating_sub(size.max(1));
        self.evict_until(|kept| kept.bytes <= target);
        before > 0
    }

    fn evict_until(&self, enough: impl Fn(&Kept) -> bool) {
        let mut kept = lock(&self.kept);
        while !enough(&kept) {
            let Some((digest, item)) = kept.sizes.pop_lru() else { break };
            kept.bytes -= item.size;
            kept.suspects -= usize::from(item.suspect);
            // A descriptor kept open would keep the space taken.
            lock(&self.open).pop(&digest);
            if let Err(error) = fs::remove_file(self.path(&digest)) {
                tracing::debug!(member = %digest, %error, "evicted file was already gone");
            }
        }
    }

    fn path(&self, digest: &Sha256) -> PathBuf {
        let name = digest.to_string();
        let (folder, rest) = name.split_at(2);
        self.root.join(folder).join(rest)
    }
}

impl Kept {
    fn add(&mut self, digest: Sha256, size: u64) {
        self.remove(&digest);
        self.sizes.put(digest, Item { size, suspect: false });
        self.bytes += size;
    }

    fn remove(&mut self, digest: &Sha256) {
        if let Some(item) = self.sizes.pop(digest) {
            self.bytes -= item.size;
            self.suspects -= usize::from(item.suspect);
        }
    }

    /// While files of another boot are unchecked, its name stays: they must be suspect to the next run too. The last
    /// of them ends that.
    fn settle(&mut self, root: &Path) -> io::Result<()> {
        if self.old_marker && self.suspects == 0 {
            // Tried once: a disk that takes no marker is told of once.
            self.old_marker = false;
            marker::write(root)?;
        }
        Ok(())
    }
}

/// A panic while the lock was held cannot leave these maps half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn make_folder(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o755).create(path)
}

/// All files of the store, least recently written first; what has no business there is left alone.
fn scan(root: &Path) -> io::Result<Vec<(SystemTime, Sha256, u64)>> {
    let mut found = Vec::new();
    for first in 0..=u8::MAX {
        let prefix = format!("{first:02x}");
        for entry in fs::read_dir(root.join(&prefix))? {
            let entry = entry?;
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if let (Ok(digest), Ok(metadata)) = (name.parse(), entry.metadata()) {
                found.push((metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH), digest, metadata.len()));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Writes to a file and sums what passes.
struct Hashing<'a> {
    file: &'a File,
    hasher: Hasher,
}

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests;
