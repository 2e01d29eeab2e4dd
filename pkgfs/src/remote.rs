//! Where wheels come from, behind one small trait: the index client, and in tests memory and failures.

use std::future::Future;
use std::ops::Range;
use std::pin::Pin;

use bytes::Bytes;
use mirror::{IndexClient, IndexError, ProjectName, Ranged};

pub(crate) use mirror::RemoteFile;

/// An answer that is still on its way.
pub(crate) type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, RemoteError>> + Send + 'a>>;

/// An answer to a range request.
#[derive(Clone, Debug)]
pub(crate) enum Piece {
    /// Exactly the bytes asked for.
    Part(Bytes),
    /// The server does not do ranges: the whole file, its sha256 checked.
    Whole(Bytes),
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
    /// The wheels of a project.
    fn wheels<'a>(&'a self, project: &'a ProjectName) -> Pending<'a, Vec<PageWheel>>;
}

impl Remote for IndexClient {
    fn size<'a>(&'a self, file: &'a RemoteFile) -> Pending<'a, u64> {
        Box::pin(async move { Ok(IndexClient::size(self, file).await?) })
    }

    fn range<'a>(&'a self, file: &'a RemoteFile, range: Range<u64>) -> Pending<'a, Piece> {
        Box::pin(async move {
            match IndexClient::range(self, file, range).await? {
                Ranged::Part(bytes) => Ok(Piece::Part(bytes)),
                Ranged::Whole(whole) => {
                    let read =
                        tokio::task::spawn_blocking(move || std::fs::read(whole.path()).map(Bytes::from));
                    let failed = |error: &dyn std::fmt::Display| RemoteError::Failed(error.to_string());
                    let bytes =
                        read.await.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
                    Ok(Piece::Whole(bytes))
                }
            }
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
