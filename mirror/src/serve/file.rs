//! Files and the METADATA beside them, whole or by one range.

use std::io::SeekFrom;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_RANGE, RANGE,
};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

use super::Shared;
use super::page::{failed, is_known, problem};
use super::range::{Wanted, wanted};
use crate::{ProjectName, Sha256};

/// Read from a file at once.
const PIECE_BYTES: usize = 1 << 16;

pub(super) async fn file(
    State(shared): State<Arc<Shared>>,
    Path((project, filename)): Path<(String, String)>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    let missing = || problem(StatusCode::NOT_FOUND, &format!("{filename} is not held here"));
    // Only names that the index lists become paths: nothing a client sends is joined to one.
    let Ok(name) = project.parse::<ProjectName>() else { return missing() };
    let held = match shared.repository.project(&name) {
        Ok(Some(held)) => held,
        Ok(None) => return missing(),
        Err(error) => return failed(&error),
    };
    let (listed, is_metadata) = match filename.strip_suffix(".metadata") {
        Some(wheel) => (wheel, true),
        None => (filename.as_str(), false),
    };
    let Some(entry) = held.offered().iter().find(|file| file.filename == listed) else { return missing() };
    let digest = if is_metadata { entry.metadata_sha256 } else { entry.sha256 };
    let content_type = if is_metadata { "text/plain; charset=utf-8" } else { "application/octet-stream" };
    let path = shared.repository.file(&name, &filename);
    match send(&path, digest, content_type, &method, &headers).await {
        Ok(response) => response,
        Err(error) => {
            tracing::error!(path = %path.display(), %error, "a listed file cannot be read");
            problem(
                StatusCode::INTERNAL_SERVER_ERROR,
                &format!("{filename} cannot be read; the server's log says why"),
            )
        }
    }
}

async fn send(
    path: &std::path::Path,
    digest: Sha256,
    content_type: &'static str,
    method: &Method,
    headers: &HeaderMap,
) -> std::io::Result<Response> {
    let mut file = tokio::fs::File::open(path).await?;
    let size = file.metadata().await?.len();
    let etag = format!("\"{digest}\"");
    let common = [
        (CONTENT_TYPE, content_type.to_owned()),
        (ETAG, etag.clone()),
        (ACCEPT_RANGES, "bytes".to_owned()),
        (CACHE_CONTROL, "public, max-age=31536000, immutable".to_owned()),
    ];
    if is_known(headers, &etag) {
        return Ok((StatusCode::NOT_MODIFIED, common).into_response());
    }
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let same = text(IF_RANGE).is_none_or(|known| known == etag);
    // A range has no meaning for HEAD, and none for another content than the client's.
    let range = text(RANGE).filter(|_| same && *method == Method::GET);
    let (status, part) = match wanted(range, size) {
        Wanted::Whole => (StatusCode::OK, 0..size),
        Wanted::Part(part) => (StatusCode::PARTIAL_CONTENT, part),
        Wanted::Unsatisfiable => {
            let content_range = [(CONTENT_RANGE, format!("bytes */{size}"))];
            return Ok((StatusCode::RANGE_NOT_SATISFIABLE, common, content_range).into_response());
        }
    };
    file.seek(SeekFrom::Start(part.start)).await?;
    let length = part.end - part.start;
    let body = Body::from_stream(ReaderStream::with_capacity(file.take(length), PIECE_BYTES));
    let mut response = (status, common, [(CONTENT_LENGTH, length.to_string())], body).into_response();
    if status == StatusCode::PARTIAL_CONTENT {
        let value = format!("bytes {}-{}/{size}", part.start, part.end - 1);
        response.headers_mut().extend(value.parse().map(|value| (CONTENT_RANGE, value)));
    }
    Ok(response)
}
