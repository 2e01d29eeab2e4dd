//! An index in memory that can be slow and can fail.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use mirror::{ProjectName, Sha256, WheelName};
use tests::wheel::BuiltWheel;
use tokio::sync::Semaphore;

use super::{PageWheel, Pending, Piece, Remote, RemoteError, RemoteFile};

pub(crate) struct FakeRemote {
    files: HashMap<String, Bytes>,
    pages: HashMap<ProjectName, Vec<PageWheel>>,
    pub(crate) ranges: AtomicUsize,
    pub(crate) down: AtomicBool,
    /// Each range takes one permit: none means that no answer comes.
    pub(crate) gate: Semaphore,
}

impl FakeRemote {
    pub(crate) fn new(wheels: &[BuiltWheel]) -> FakeRemote {
        let mut files = HashMap::new();
        let mut pages: HashMap<ProjectName, Vec<PageWheel>> = HashMap::new();
        for wheel in wheels {
            let (name, file) = described(wheel);
            files.insert(file.url.to_string(), wheel.bytes.clone());
            pages.entry(name.project.clone()).or_default().push(PageWheel { name, file });
        }
        let gate = Semaphore::new(Semaphore::MAX_PERMITS);
        FakeRemote { files, pages, ranges: AtomicUsize::new(0), down: AtomicBool::new(false), gate }
    }

    pub(crate) fn requests(&self) -> usize {
        self.ranges.load(Ordering::SeqCst)
    }
}

/// What a lock says of a wheel.
pub(crate) fn described(wheel: &BuiltWheel) -> (WheelName, RemoteFile) {
    let url = format!("http://index.invalid/{}", wheel.file_name).parse().unwrap();
    let sha256: Sha256 = wheel.sha256.parse().unwrap();
    let file = RemoteFile { url, sha256: Some(sha256), size: Some(wheel.bytes.len() as u64) };
    (wheel.file_name.parse().unwrap(), file)
}

impl Remote for FakeRemote {
    fn size<'a>(&'a self, file: &'a RemoteFile) -> Pending<'a, u64> {
        Box::pin(async move { Ok(self.files[file.url.as_str()].len() as u64) })
    }

    fn range<'a>(&'a self, file: &'a RemoteFile, range: Range<u64>) -> Pending<'a, Piece> {
        Box::pin(async move {
            self.ranges.fetch_add(1, Ordering::SeqCst);
            self.gate.acquire().await.unwrap().forget();
            if self.down.load(Ordering::SeqCst) {
                return Err(RemoteError::Down("the index is down".into()));
            }
            let bytes = &self.files[file.url.as_str()];
            Ok(Piece::Part(range.start, bytes.slice(range.start as usize..range.end as usize)))
        })
    }

    fn wheels<'a>(&'a self, project: &'a ProjectName) -> Pending<'a, Vec<PageWheel>> {
        Box::pin(async move {
            match self.pages.get(project) {
                _ if self.down.load(Ordering::SeqCst) => Err(RemoteError::Down("the index is down".into())),
                Some(wheels) => Ok(wheels.clone()),
                None => Err(RemoteError::NotFound("no such project".into())),
            }
        })
    }
}
