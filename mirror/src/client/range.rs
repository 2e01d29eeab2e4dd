//! Parts of files. Only single, explicit ranges are asked for: several servers answer suffixes and lists wrongly.

use std::fs::File;
use std::io::Seek;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use reqwest::header::{ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, HeaderValue, RANGE};
use reqwest::{Method, Response, StatusCode};

use super::error::shown;
use super::{IndexClient, IndexError, RemoteFile, body, request};

/// What came of asking for a range.
#[derive(Debug)]
pub enum Ranged {
    /// Exactly the bytes asked for.
    Part(Bytes),
    /// The server does not serve ranges: the whole file, from its start, its digest checked where it is known. It has
    /// no name and goes when it is closed.
    Whole(File),
}

impl IndexClient {
    /// The size of `file` in bytes: what the index says, else what the server says about its first byte.
    ///
    /// # Errors
    /// The index cannot be reached, or no answer tells the size.
    pub async fn size(&self, file: &RemoteFile) -> Result<u64, IndexError> {
        let known = |client: &IndexClient| {
            client.0.sizes.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get(&file.url).copied()
        };
        if let Some(size) = file.size.or_else(|| known(self)) {
            return Ok(size);
        }
        let answer = self.retry(&file.url, || self.ask_range(file, &(0..1))).await?;
        // Not HEAD: some servers lie in it. A whole answer is dropped after its headers.
        let size = match answer.status() {
            StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => content_range(&answer).2,
            StatusCode::OK => header(&answer, CONTENT_LENGTH).and_then(|text| text.parse().ok()),
            _ => self.size_by_head(file).await?,
        };
        let size = size.ok_or_else(|| IndexError::UnknownSize { url: shown(&file.url) })?;
        self.0.sizes.lock().unwrap_or_else(std::sync::PoisonError::into_inner).put(file.url.clone(), size);
        Ok(size)
    }

    /// The bytes `range` of `file`.
    ///
    /// # Errors
    /// The index cannot be reached, the file ends before the range, or the answer is not what was asked for.
    pub async fn range(&self, file: &RemoteFile, range: Range<u64>) -> Result<Ranged, IndexError> {
        if range.is_empty() {
            return Ok(Ranged::Part(Bytes::new()));
        }
        let range = &range;
        let part = self
            .retry(&file.url, || async move {
                let answer = self.ask_range(file, range).await?;
                match answer.status() {
                    StatusCode::PARTIAL_CONTENT => part(answer, file, range).await.map(Some),
                    _ => Ok(None),
                }
            })
            .await?;
        match part {
            Some(part) => Ok(Ranged::Part(part)),
            None => self.whole(file).await.map(Ranged::Whole),
        }
    }

    /// One request for a range: 206, 200 (ranges ignored) and 501 (refused) are answers; so is 416 to the first byte.
    async fn ask_range(&self, file: &RemoteFile, range: &Range<u64>) -> Result<Response, IndexError> {
        let mut headers = request::headers([(ACCEPT_ENCODING, "identity")]);
        headers.insert(RANGE, range_header(range));
        let answer = self.send(&self.0.files_http, &file.url, &headers).await?;
        if answer.status() == StatusCode::RANGE_NOT_SATISFIABLE && range.start > 0 {
            let size = content_range(&answer).2.map_or("unknown".to_owned(), |size| size.to_string());
            return Err(IndexError::BeyondEnd { url: shown(&file.url), size });
        }
        use StatusCode as S;
        request::expect(answer, &[S::PARTIAL_CONTENT, S::OK, S::NOT_IMPLEMENTED, S::RANGE_NOT_SATISFIABLE])
    }

    async fn size_by_head(&self, file: &RemoteFile) -> Result<Option<u64>, IndexError> {
        let headers = request::headers([(ACCEPT_ENCODING, "identity")]);
        let answer = self.send_as(Method::HEAD, &self.0.files_http, &file.url, &headers).await?;
        let answer = request::expect(answer, &[StatusCode::OK])?;
        Ok(header(&answer, CONTENT_LENGTH).and_then(|text| text.parse().ok()))
    }

    /// The whole file, its digest checked where it is known, in a temporary file below the state folder that has no
    /// name and goes when it is closed.
    ///
    /// # Errors
    /// The index cannot be reached, size or digest is not the expected one, or the file cannot be written.
    pub async fn whole(&self, file: &RemoteFile) -> Result<File, IndexError> {
        let dir = &self.0.temp;
        let failed = |source| IndexError::Write { path: dir.clone(), source };
        std::fs::create_dir_all(dir).map_err(failed)?;
        let mut temp = tempfile::tempfile_in(dir).map_err(failed)?;
        self.fill(file, &mut temp, &|_| {}).await?;
        temp.rewind().map_err(failed)?;
        Ok(temp)
    }
}

pub(super) fn range_header(range: &Range<u64>) -> HeaderValue {
    let text = format!("bytes={}-{}", range.start, range.end - 1);
    // Digits, `=` and `-` are valid in a header.
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// First and last byte and whole size that `Content-Range` names.
pub(super) fn content_range(answer: &Response) -> (Option<u64>, Option<u64>, Option<u64>) {
    let text = header(answer, CONTENT_RANGE).unwrap_or_default();
    let text = text.trim().strip_prefix("bytes").unwrap_or_default().trim_start();
    let (range, size) = text.split_once('/').unwrap_or((text, ""));
    let (first, last) = range.split_once('-').unwrap_or_default();
    (first.trim().parse().ok(), last.trim().parse().ok(), size.trim().parse().ok())
}

fn header(answer: &Response, name: reqwest::header::HeaderName) -> Option<String> {
    answer.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

async fn part(mut answer: Response, file: &RemoteFile, range: &Range<u64>) -> Result<Bytes, IndexError> {
    let (first, last, size) = content_range(&answer);
    if (first, last) != (Some(range.start), Some(range.end - 1)) {
        return Err(IndexError::OtherRange {
            url: shown(&file.url),
            asked: format!("{}-{}", range.start, range.end - 1),
            answered: header(&answer, CONTENT_RANGE).unwrap_or_else(|| "no Content-Range".to_owned()),
        });
    }
    if let (Some(expected), Some(found)) = (file.size, size)
        && expected != found
    {
        return Err(IndexError::Size { url: shown(&file.url), expected, found });
    }
    let wanted = (range.end - range.start) as usize;
    // The server's length is not trusted with an allocation.
    let mut bytes = BytesMut::with_capacity(wanted.min(1 << 20));
    while let Some(piece) = body::next(&mut answer).await? {
        bytes.extend_from_slice(&piece);
        if bytes.len() > wanted {
            break;
        }
    }
    if bytes.len() != wanted {
        let reason = format!("{} of {wanted} bytes of a range came", bytes.len());
        return Err(IndexError::Cut { url: shown(&file.url), reason });
    }
    Ok(bytes.freeze())
}
