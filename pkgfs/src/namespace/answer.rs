use std::fs::File;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::fetch::{FetchError, FetchReason};
use crate::store::StoreError;
use crate::tree::Node;

/// 1980-01-01, the first moment a ZIP file can write: the time of everything that never changes.
pub(crate) const EPOCH: Duration = Duration::from_secs(315_532_800);

/// Something that is there, or will be; what comes later may have another shape.
pub(crate) enum Outcome<T, L = T> {
    Now(Result<T, Failure>),
    Later(Pin<Box<dyn Future<Output = Result<L, Failure>> + Send>>),
}

/// The attributes that differ between nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attr {
    pub(crate) ino: u64,
    pub(crate) kind: Kind,
    pub(crate) size: u64,
    pub(crate) executable: bool,
    pub(crate) changed: SystemTime,
}

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Folder,
    File,
    Link,
}

/// What a lookup found, and how long that holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    pub(crate) attr: Option<Attr>,
    pub(crate) ttl: Duration,
}

/// Bytes to read from.
#[derive(Clone, Debug)]
pub(crate) enum Data {
    Bytes(Arc<[u8]>),
    File(Arc<File>),
}

/// Why a request fails; the log has the whole story.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Not a folder.
    NotFolder,
    /// Not a regular file.
    IsFolder,
    /// Not a link.
    Invalid,
    /// An inode that was never handed out by this run.
    Stale,
    /// The index is down, or what it sent is refused.
    Unreadable,
    /// The store's disk is full.
    NoSpace,
    /// The index did not answer in time.
    TimedOut,
}

impl Answer {
    pub(crate) fn found(attr: Attr, ttl: Duration) -> Answer {
        Answer { attr: Some(attr), ttl }
    }

    pub(crate) fn absent(ttl: Duration) -> Answer {
        Answer { attr: None, ttl }
    }
}

impl Attr {
    pub(crate) fn folder(ino: u64) -> Attr {
        Attr { ino, kind: Kind::Folder, size: 0, executable: true, changed: SystemTime::UNIX_EPOCH + EPOCH }
    }

    pub(crate) fn of(node: &Node) -> Attr {
        let base = Attr::folder(node.ino());
        match node {
            Node::Folder(_) => base,
            Node::File(file) => {
                Attr { kind: Kind::File, size: file.size, executable: file.executable, ..base }
            }
            Node::Link(link) => Attr { kind: Kind::Link, size: link.target.len() as u64, ..base },
        }
    }
}

impl Failure {
    pub(super) fn of_fetch(error: &FetchError) -> Failure {
        match &error.reason {
            FetchReason::Store(StoreError::Full { .. } | StoreError::TooLarge { .. }) => Failure::NoSpace,
            FetchReason::TimedOut(_) => Failure::TimedOut,
            FetchReason::Store(_) | FetchReason::Remote(_) | FetchReason::GivenUp => Failure::Unreadable,
        }
    }
}

/// Tells the kernel to forget what it knows of an inode.
pub(crate) struct Kernel(pub(crate) Box<dyn Fn(u64) + Send + Sync>);

impl std::fmt::Debug for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Kernel")
    }
}
