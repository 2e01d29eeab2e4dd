//! Whole files: streamed, resumed after a cut, verified before they get their name.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use reqwest::header::{ACCEPT_ENCODING, RANGE};
use reqwest::{Response, StatusCode};

use super::error::shown;
use super::range::{content_range, range_header};
use super::{IndexClient, IndexError, RemoteFile, body, request};
use crate::{Hasher, Sha256, files};

/// A cut after less than this counts as a failure without progress.
const PROGRESS_BYTES: u64 = 1 << 20;

/// What was downloaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Downloaded {
    /// Bytes.
    pub size: u64,
    /// Digest of all of them.
    pub sha256: Sha256,
}

impl IndexClient {
    /// Copies `file` to `dest`, whose folder must exist. `progress` is told the bytes received so far.
    /// `dest` appears complete, verified and on disk, or not at all.
    ///
    /// # Errors
    /// The index cannot be reached, size or digest is not the expected one, or `dest` cannot be written.
    pub async fn download(
        &self,
        file: &RemoteFile,
        dest: &Path,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<Downloaded, IndexError> {
        let failed = |source| IndexError::Write { path: dest.to_path_buf(), source };
        let dir = dest.parent().unwrap_or(Path::new("."));
        let mut temp = tempfile::Builder::new().prefix(".part-").tempfile_in(dir).map_err(failed)?;
        let done = self.fill(file, temp.as_file_mut(), progress).await?;
        files::commit(temp, dest, 0o644).map_err(failed)?;
        Ok(done)
    }

    /// Fills `temp` with the whole file and checks it.
    pub(super) async fn fill(
        &self,
        file: &RemoteFile,
        temp: &mut File,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<Downloaded, IndexError> {
        let mut copy = Copy { client: self, file, received: 0, size: file.size, hasher: Hasher::default() };
        let mut failures = 0;
        loop {
            let before = copy.received;
            match copy.go_on(temp, progress).await {
                Ok(()) => break,
                Err(error) if error.may_pass() => {
                    failures = if copy.received >= before + PROGRESS_BYTES { 1 } else { failures + 1 };
                    if failures > self.0.settings.retries {
                        return Err(error);
                    }
                    self.back_off(&file.url, failures, &error).await;
                }
                Err(error) => return Err(error),
            }
        }
        copy.check()
    }
}

/// A copy under way.
struct Copy<'a> {
    client: &'a IndexClient,
    file: &'a RemoteFile,
    received: u64,
    size: Option<u64>,
    hasher: Hasher,
}

impl Copy<'_> {
    /// One request: from the start, or from where the last one was cut.
    async fn go_on(&mut self, out: &mut File, progress: &(dyn Fn(u64) + Sync)) -> Result<(), IndexError> {
        let mut answer = self.ask().await?;
        if answer.status() != StatusCode::PARTIAL_CONTENT {
            self.start_over(out)?;
            self.size = self.size.or(answer.content_length());
        }
        let limit = self.client.0.settings.max_file_bytes;
        while let Some(piece) = body::next(&mut answer).await? {
            self.received += piece.len() as u64;
            if self.received > limit {
                return Err(IndexError::TooLarge { url: self.shown(), limit, setting: "max_file_bytes" });
            }
            if let Some(expected) = self.size.filter(|size| self.received > *size) {
                return Err(IndexError::Size { url: self.shown(), expected, found: self.received });
            }
            self.hasher.update(&piece);
            out.write_all(&piece).map_err(|source| self.write_failed(source))?;
            progress(self.received);
        }
        match self.size {
            Some(size) if self.received < size => {
                let reason = format!("{} of {size} bytes came", self.received);
                Err(IndexError::Cut { url: self.shown(), reason })
            }
            _ => Ok(()),
        }
    }

    async fn ask(&self) -> Result<Response, IndexError> {
        let mut headers = request::headers([(ACCEPT_ENCODING, "identity")]);
        // Without a known size there is no explicit range to ask for: start over.
        let rest = self.size.filter(|size| self.received > 0 && *size > self.received);
        if let Some(size) = rest {
            headers.insert(RANGE, range_header(&(self.received..size)));
        }
        let http = &self.client.0.files_http;
        let answer = self.client.send(http, &self.file.url, &headers).await?;
        let goes_on = answer.status() == StatusCode::PARTIAL_CONTENT
            && rest.is_some()
            && content_range(&answer) == (Some(self.received), rest.map(|size| size - 1), rest);
        if rest.is_some() && !goes_on && answer.status() != StatusCode::OK {
            // It does not go on where it stopped: take it whole.
            let headers = request::headers([(ACCEPT_ENCODING, "identity")]);
            let answer = self.client.send(http, &self.file.url, &headers).await?;
            return request::expect(answer, &[StatusCode::OK]);
        }
        request::expect(answer, if goes_on { &[StatusCode::PARTIAL_CONTENT] } else { &[StatusCode::OK] })
    }

    fn start_over(&mut self, out: &mut File) -> Result<(), IndexError> {
        out.set_len(0).and_then(|()| out.seek(SeekFrom::Start(0))).map_err(|e| self.write_failed(e))?;
        self.received = 0;
        self.hasher = Hasher::default();
        Ok(())
    }

    fn check(self) -> Result<Downloaded, IndexError> {
        let url = self.shown();
        if let Some(expected) = self.file.size.filter(|size| *size != self.received) {
            return Err(IndexError::Size { url, expected, found: self.received });
        }
        let found = self.hasher.finish();
        match self.file.sha256 {
            Some(expected) if expected != found => Err(IndexError::Digest { url, expected, found }),
            _ => Ok(Downloaded { size: self.received, sha256: found }),
        }
    }

    fn shown(&self) -> String {
        shown(&self.file.url)
    }

    fn write_failed(&self, source: std::io::Error) -> IndexError {
        IndexError::Write {
            path: std::path::PathBuf::from(crate::index_url::file_name(&self.file.url)),
            source,
        }
    }
}
