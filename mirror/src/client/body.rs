//! Reading bodies with a limit.

use bytes::{Bytes, BytesMut};
use reqwest::Response;

use super::IndexError;
use super::error::{reason, shown};

/// The whole body, at most `limit` bytes of it.
pub(super) async fn read(mut answer: Response, limit: u64) -> Result<Bytes, IndexError> {
    let url = shown(answer.url());
    let mut body = BytesMut::new();
    while let Some(piece) = next(&mut answer).await? {
        if (body.len() + piece.len()) as u64 > limit {
            return Err(IndexError::TooLarge { url, limit, setting: "max_page_bytes" });
        }
        body.extend_from_slice(&piece);
    }
    Ok(body.freeze())
}

/// The next piece of the body.
pub(super) async fn next(answer: &mut Response) -> Result<Option<Bytes>, IndexError> {
    answer.chunk().await.map_err(|error| IndexError::Cut { url: shown(answer.url()), reason: reason(&error) })
}
