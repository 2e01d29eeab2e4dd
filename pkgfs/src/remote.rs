//! Where wheels come from, behind one small trait: the index client, and in tests memory and failures.

#[cfg(test)]
pub(crate) mod fake;

use std::future::Future;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use mirror::{IndexClient, IndexError, IndexFile, ProjectName, Ranged, Sha256, WheelName};
use std::fs::File;

pub(crate) use mirror::RemoteFile;

/// An answer that is still on its way.
pub(crate) type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, RemoteError>> + Send + 'a>>;

/// An answer to a range request: bytes of one file.
#[derive(Clone, Debug)]
pub(crate) enum Piece {
    /// The bytes from an offset on.
    Part(u64, Bytes),
    /// The server does not do ranges: the whole file, its sha256 checked.
    Whole(Arc<File>),
}

impl Piece {
    /// Bytes of a whole file.
    pub(crate) fn length(&self) -> Option<u64> {
        match self {
            Piece::Part(..) => None,
            Piece::Whole(file) => file.metadata().ok().map(|metadata| metadata.len()),
        }
    }

    /// The bytes of `range`; `None` where the piece does not have them all.
    pub(crate) fn bytes(&self, range: &Range<u64>) -> Option<Bytes> {
        let length = usize::try_from(range.end.checked_sub(range.start)?).ok()?;
        match self {
            Piece::Part(start, bytes) => {
                let from = usize::try_from(range.start.checked_sub(*start)?).ok()?;
                let to = from.checked_add(length)?;
                (to <= bytes.len()).then(|| bytes.slice(from..to))
            }
            Piece::Whole(file) => {
                // Before memory is taken for it.
                if file.metadata().ok()?.len() < range.end {
                    return None;
                }
                let mut bytes = vec![0; length];
                file.read_exact_at(&mut bytes, range.start).ok()?;
                Some(bytes.into())
            }
        }
    }
}

/// Why the index gave no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum RemoteError {
    /// It cannot be reached or is in no state to answer.
    #[error("{0}")]
    Down(String),
    /// What it answered is no good.
    #[error("{0}")]
    Failed(String),
    #[error("{0}")]
    NotFound(String),
}

/// A file of a project page.
#[derive(Clone, Debug)]
pub(crate) struct PageWheel {
    pub(crate) name: mirror::WheelName,
    pub(crate) file: RemoteFile,
}

/// What is asked of an index.
pub(crate) trait Remote: Send + Sync + 'static {
    /// The file's size in bytes.
    fn size<'a>(&'a self, file: &'a RemoteFile) -> Pending<'a, u64>;
    /// Some of the file's bytes; the range lies within the file.
    fn range<'a>(&'a self, file: &'a RemoteFile, range: Range<u64>) -> Pending<'a, Piece>;
    /// The whole file, held against its sha256.
    fn whole<'a>(&'a self, file: &'a RemoteFile) -> Pending<'a, Piece>;
    /// The wheels of a project.
    fn wheels<'a>(&'a self, project: &'a ProjectName) -> Pending<'a, Vec<PageWheel>>;
    /// Where the index has the wheel of this name and digest; without a digest, where its page tells none.
    fn listed<'a>(&'a self, name: &'a WheelName, sha256: Sha256) -> Pending<'a, Option<RemoteFile>>;
}

impl Remote for IndexClient {
    fn size<'a>(&'a self, file: &'a RemoteFile) -> Pending<'a, u64> {
        Box::pin(async move { Ok(IndexClient::size(self, file).await?) })
    }

    fn range<'a>(&'a self, file: &'a RemoteFile, range: Range<u64>) -> Pending<'a, Piece> {
        Box::pin(async move {
            let start = range.start;
            match IndexClient::range(self, file, range).await? {
                Ranged::Part(bytes) => Ok(Piece::Part(start, bytes)),
                Ranged::Whole(whole) => Ok(Piece::Whole(Arc::new(whole))),
            }
        })
    }

    fn whole<'a>(&'a self, file: &'a RemoteFile) -> Pending<'a, Piece> {
        Box::pin(async move { Ok(Piece::Whole(Arc::new(IndexClient::whole(self, file).await?))) })
    }

    fn listed<'a>(&'a self, name: &'a WheelName, sha256: Sha256) -> Pending<'a, Option<RemoteFile>> {
        Box::pin(async move {
            let page = match self.page(&name.project).await {
                Err(IndexError::UnknownProject { .. }) => return Ok(None),
                page => page?,
            };
            let named = page.file(name.file_name()).map(IndexFile::remote);
            let fits = named.filter(|file| file.sha256.is_none_or(|digest| digest == sha256));
            // The same wheel under a file name spelled otherwise.
            let other =
                || page.files.iter().find(|file| file.sha256() == Some(sha256)).map(IndexFile::remote);
            Ok(fits.or_else(other))
        })
    }

    fn wheels<'a>(&'a self, project: &'a ProjectName) -> Pending<'a, Vec<PageWheel>> {
        Box::pin(async move {
            let page = self.page(project).await?;
            Ok(page.wheels().map(|(name, file)| PageWheel { name, file: file.remote() }).collect())
        })
    }
}

impl From<IndexError> for RemoteError {
    fn from(error: IndexError) -> RemoteError {
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(next) = cause {
            text.push_str(": ");
            text.push_str(&next.to_string());
            cause = next.source();
        }
        match error {
            IndexError::UnknownProject { .. } => RemoteError::NotFound(text),
            error if error.upstream_down() => RemoteError::Down(text),
            _ => RemoteError::Failed(text),
        }
    }
}
