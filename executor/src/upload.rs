//! Unpacks what a client uploads as a function: one Python file, a `.tar.gz` or a `.zip`.
//!
//! The kind is told by the first bytes, not by a header a client may get wrong. An archive is hostile until shown
//! otherwise: only regular files and folders, only plain relative paths, no name twice, bounded in entries and
//! in unpacked bytes. Files are created (never opened) in a folder that was made empty for this upload and that
//! holds no links, so no entry can be led out of it.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};

mod tar_gz;
mod zip;

/// Longest path of an entry, in bytes.
const MAX_PATH_BYTES: usize = 512;
/// Deepest folder of an entry.
const MAX_DEPTH: usize = 16;

/// Bounds on an unpacked upload.
#[derive(Clone, Copy, Debug)]
pub struct UploadLimits {
    /// All files together, unpacked.
    pub unpacked_bytes: u64,
    /// Files and folders.
    pub entries: usize,
}

/// Why an upload was refused. Each is the client's to mend.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// Neither an archive nor text.
    #[error("the upload is neither Python source in UTF-8 nor a .tar.gz or .zip archive")]
    NotPython,
    /// Nothing in it.
    #[error("the upload is empty; send a Python file, a .tar.gz or a .zip")]
    Empty,
    /// The container itself cannot be read.
    #[error("the {kind} archive cannot be read: {reason}")]
    Broken {
        /// `.tar.gz` or `.zip`.
        kind: &'static str,
        /// What the reader said.
        reason: String,
    },
    /// An entry whose path is not plain and relative.
    #[error(
        "archive entry {path:?} is refused: paths must be relative, without `..`, and of ordinary length"
    )]
    Path {
        /// As the archive has it.
        path: String,
    },
    /// A link, device, pipe or other special entry.
    #[error("archive entry {path:?} is refused: only regular files and folders are allowed")]
    Special {
        /// As the archive has it.
        path: String,
    },
    /// The same path twice, or a file where a folder is.
    #[error("archive entry {path:?} is refused: its path is already taken by an earlier entry")]
    Duplicate {
        /// As the archive has it.
        path: String,
    },
    /// More than the limit, unpacked.
    #[error("the archive unpacks to more than {limit} bytes (setting executor.max_unpacked_bytes)")]
    TooLarge {
        /// The limit.
        limit: u64,
    },
    /// More entries than the limit.
    #[error("the archive has more than {limit} entries (setting executor.max_upload_entries)")]
    TooManyEntries {
        /// The limit.
        limit: usize,
    },
    /// Our disk, not the upload.
    #[error("the uploaded code cannot be written to {path}")]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

/// Unpacks `body` into the empty folder `dest`. A single Python file becomes `f.py`.
///
/// # Errors
/// See [`UploadError`]; what was written so far stays in `dest` for the caller to remove.
pub fn unpack(body: &[u8], dest: &Path, limits: UploadLimits) -> Result<(), UploadError> {
    let mut unpacker =
        Unpacker { dest, limits, left: limits.unpacked_bytes, entries: 0, taken: BTreeSet::new() };
    if body.is_empty() {
        return Err(UploadError::Empty);
    }
    if body.starts_with(&[0x1f, 0x8b]) {
        return tar_gz::unpack(body, &mut unpacker);
    }
    if body.starts_with(b"PK\x03\x04") || body.starts_with(b"PK\x05\x06") {
        return zip::unpack(body, &mut unpacker);
    }
    // A NUL never stands in Python source, and stands in almost every other kind of file.
    if body.contains(&0) || std::str::from_utf8(body).is_err() {
        return Err(UploadError::NotPython);
    }
    unpacker.file("f.py", body)
}

/// Where entries of every kind of archive end up.
struct Unpacker<'a> {
    dest: &'a Path,
    limits: UploadLimits,
    left: u64,
    entries: usize,
    taken: BTreeSet<PathBuf>,
}

impl Unpacker<'_> {
    /// Writes one regular file.
    fn file(&mut self, path: &str, mut content: impl Read) -> Result<(), UploadError> {
        self.file_of(path, |sink| {
            let copied = io::copy(&mut content, sink);
            copied
                .map(drop)
                .map_err(|error| UploadError::Broken { kind: "uploaded", reason: error.to_string() })
        })
    }

    /// Writes one regular file of what `fill` writes into it, piece by piece: no entry is ever whole in memory.
    fn file_of(
        &mut self,
        path: &str,
        fill: impl FnOnce(&mut Sink<'_>) -> Result<(), UploadError>,
    ) -> Result<(), UploadError> {
        let relative = self.claim(path)?;
        if let Some(parent) = relative.parent() {
            self.make_dir(parent)?;
        }
        let target = self.dest.join(&relative);
        let mut file = OpenOptions::new().write(true).create_new(true).open(&target).map_err(|source| {
            match source.kind() {
                io::ErrorKind::AlreadyExists => UploadError::Duplicate { path: path.to_owned() },
                _ => UploadError::Write { path: target.clone(), source },
            }
        })?;
        let mut sink = Sink { file: &mut file, left: &mut self.left, full: false, failed: None };
        let filled = fill(&mut sink);
        // What stopped the writing is the cause, whatever its reader made of it.
        let Sink { full, failed, .. } = sink;
        let write = |source| UploadError::Write { path: target.clone(), source };
        match (full, failed) {
            (true, _) => return Err(UploadError::TooLarge { limit: self.limits.unpacked_bytes }),
            (_, Some(source)) => return Err(write(source)),
            _ => filled?,
        }
        file.sync_all().map_err(write)
    }

    /// Makes one folder.
    fn folder(&mut self, path: &str) -> Result<(), UploadError> {
        let relative = self.claim(path.trim_end_matches('/'))?;
        self.make_dir(&relative)
    }

    /// Checks an entry's path and counts the entry.
    fn claim(&mut self, path: &str) -> Result<PathBuf, UploadError> {
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(UploadError::TooManyEntries { limit: self.limits.entries });
        }
        let relative = plain_path(path).ok_or_else(|| UploadError::Path { path: path.to_owned() })?;
        if !self.taken.insert(relative.clone()) {
            return Err(UploadError::Duplicate { path: path.to_owned() });
        }
        Ok(relative)
    }

    fn make_dir(&self, relative: &Path) -> Result<(), UploadError> {
        let target = self.dest.join(relative);
        std::fs::create_dir_all(&target).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
                UploadError::Duplicate { path: relative.display().to_string() }
            }
            _ => UploadError::Write { path: target.clone(), source },
        })
    }
}

/// A file being written, within the limit on all bytes: what an archive claims as a size is never believed.
struct Sink<'a> {
    file: &'a mut File,
    left: &'a mut u64,
    full: bool,
    failed: Option<io::Error>,
}

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(left) = self.left.checked_sub(bytes.len() as u64) else {
            self.full = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        };
        if let Err(error) = self.file.write_all(bytes) {
            let kind = error.kind();
            self.failed = Some(error);
            return Err(kind.into());
        }
        *self.left = left;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The path if it is relative, made of ordinary components, and short. A leading `./` (tar writes it) is dropped.
fn plain_path(path: &str) -> Option<PathBuf> {
    if path.len() > MAX_PATH_BYTES || path.contains('\0') || path.contains('\\') || path.starts_with('/') {
        return None;
    }
    let mut plain = PathBuf::new();
    for component in Path::new(path).components() {
        match component {
            Component::Normal(part) => plain.push(part),
            Component::CurDir => {}
            _ => return None,
        }
    }
    let depth = plain.components().count();
    (1..=MAX_DEPTH).contains(&depth).then_some(plain)
}

#[cfg(test)]
mod tests;
