//! An index in memory that can be slow and can fail.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

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
    /// Addresses of files that were asked for, in order.
    pub(crate) asked: Mutex<Vec<String>>,
    /// Addresses where nothing is any more.
    pub(crate) gone: Mutex<Vec<String>>,
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
        let (ranges, down) = (AtomicUsize::new(0), AtomicBool::new(false));
        FakeRemote { files, pages, ranges, down, asked: Mutex::default(), gone: Mutex::default(), gate }
    }

    /// These bytes are at this address too, and no page says so.
    pub(crate) fn serve(&mut self, url: &str, bytes: &Bytes) {
        self.files.insert(url.to_owned(), bytes.clone());
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    async fn bytes(&self, file: &RemoteFile) -> Result<&Bytes, RemoteError> {
        self.ranges.fetch_add(1, Ordering::SeqCst);
        self.asked.lock().unwrap().push(file.url.to_string());
        self.gate.acquire().await.unwrap().forget();
        if self.down.load(Ordering::SeqCst) {
            return Err(RemoteError::Down("the index is down".into()));
        }
        let gone = self.gone.lock().unwrap().contains(&file.url.to_string());
        let found = self.files.get(file.url.as_str()).filter(|_| !gone);
        found.ok_or_else(|| RemoteError::Failed("no such file".into()))
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
            let bytes = self.bytes(file).await?;
            let end = bytes.len().min(range.end as usize);
            Ok(Piece::Part(range.start, bytes.slice(end.min(range.start as usize)..end)))
        })
    }

    fn whole<'a>(&'a self, file: &'a RemoteFile) -> Pending<'a, Piece> {
        Box::pin(async move {
            let bytes = self.bytes(file).await?;
            if file.sha256.is_some_and(|expected| expected != Sha256::of(bytes)) {
                return Err(RemoteError::Failed("its sha256 is another one".into()));
            }
            let mut whole = tempfile::tempfile().unwrap();
            std::io::Write::write_all(&mut whole, bytes).unwrap();
            Ok(Piece::Whole(Arc::new(whole)))
        })
    }

    fn listed<'a>(&'a self, name: &'a WheelName, sha256: Sha256) -> Pending<'a, Option<RemoteFile>> {
        Box::pin(async move {
            let wheels = match self.wheels(&name.project).await {
                Err(RemoteError::NotFound(_)) => return Ok(None),
                wheels => wheels?,
            };
            Ok(wheels.into_iter().map(|wheel| wheel.file).find(|file| file.sha256 == Some(sha256)))
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
