//! One request → log → hold → quirk → reply.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State as Extracted;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use sha2::{Digest as _, Sha256};

use super::{Quirk, Request, Shared, State, page};
use crate::wheel::hex;

pub(super) async fn answer(
    Extracted(shared): Extracted<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let request = logged(&shared, &method, &uri, &headers);
    let subject = subject(&request.path);
    let held = shared.state().holds.get(subject).cloned();
    if let Some(mut released) = held {
        released.wait_for(|released| *released).await.ok();
    }
    let quirk = take_quirk(&mut shared.state(), subject);
    if let Some(response) = refused(quirk.as_ref()) {
        return response;
    }
    let whole = whole(&shared.state(), &request);
    match whole {
        Some(whole) => reply(&request, whole, quirk.as_ref()),
        None => (StatusCode::NOT_FOUND, "no such thing in the fake index\n").into_response(),
    }
}

/// What is asked for, before ranges, conditions and quirks.
struct Whole {
    content_type: String,
    body: Bytes,
    is_page: bool,
}

fn logged(shared: &Shared, method: &Method, uri: &Uri, headers: &HeaderMap) -> Request {
    let text = |name| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let request = Request {
        method: method.to_string(),
        path: uri.path().replace("%2B", "+").replace("%2b", "+"),
        range: text(header::RANGE),
        accept: text(header::ACCEPT),
        if_none_match: text(header::IF_NONE_MATCH),
    };
    shared.state().log.push(request.clone());
    request
}

/// A file's name, or the project of a page.
fn subject(path: &str) -> &str {
    path.trim_end_matches('/').rsplit('/').next().unwrap_or_default()
}

fn take_quirk(state: &mut State, subject: &str) -> Option<Quirk> {
    let quirks = state.quirks.get_mut(subject)?;
    quirks.retain(|(_, times)| *times != Some(0));
    let (quirk, times) = quirks.first_mut()?;
    if let Some(times) = times {
        *times -= 1;
    }
    Some(quirk.clone())
}

fn refused(quirk: Option<&Quirk>) -> Option<Response> {
    let (code, retry) = match quirk? {
        Quirk::Status(code) => (*code, false),
        Quirk::RetryAtOnce(code) => (*code, true),
        _ => return None,
    };
    let status = StatusCode::from_u16(code).expect("a status code");
    let mut response = status.into_response();
    if retry {
        response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("0"));
    }
    Some(response)
}

fn whole(state: &State, request: &Request) -> Option<Whole> {
    let accept = request.accept.as_deref().unwrap_or("*/*");
    if let Some(name) = request.path.strip_prefix("/files/") {
        let of_file = |body| Whole { content_type: "application/octet-stream".into(), body, is_page: false };
        return match name.strip_suffix(".metadata") {
            Some(wheel) if !state.without_metadata => state.files.get(wheel)?.metadata.clone().map(of_file),
            Some(_) => None,
            None => state.files.get(name).map(|file| of_file(file.bytes())),
        };
    }
    let below = request.path.strip_prefix("/simple/")?.trim_end_matches('/');
    let (content_type, body) =
        if below.is_empty() { page::root(state, accept) } else { page::project(state, below, accept)? };
    Some(Whole { content_type, body, is_page: true })
}

fn reply(request: &Request, mut whole: Whole, quirk: Option<&Quirk>) -> Response {
    if quirk == Some(&Quirk::WrongBytes) && !whole.body.is_empty() {
        let mut bytes = whole.body.to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        whole.body = bytes.into();
    }
    let tagged: &[u8] = if whole.is_page { &whole.body } else { b"" };
    let etag = format!("\"{}\"", &hex(&Sha256::digest(tagged))[..16]);
    if whole.is_page && request.if_none_match.as_deref() == Some(etag.as_str()) {
        return (StatusCode::NOT_MODIFIED, [(header::ETAG, etag)]).into_response();
    }
    let size = whole.body.len();
    let mut response = Response::builder().header(header::CONTENT_TYPE, &whole.content_type);
    if whole.is_page {
        response = response.header(header::ETAG, etag).header(header::CACHE_CONTROL, "max-age=600");
    }
    if request.method == "HEAD" {
        let stated = if quirk == Some(&Quirk::LyingHead) { size / 2 } else { size };
        response = response.header(header::CONTENT_LENGTH, stated).header(header::ACCEPT_RANGES, "bytes");
        return response.body(Body::empty()).expect("a reply");
    }
    let asked = request.range.as_deref().filter(|_| quirk != Some(&Quirk::NoRanges));
    let range = match asked {
        Some(_) if quirk == Some(&Quirk::RangesNotImplemented) => {
            return StatusCode::NOT_IMPLEMENTED.into_response();
        }
        Some(text) => match range(text, size) {
            Some(range) => range,
            None => return unsatisfiable(size),
        },
        None => 0..size,
    };
    if asked.is_some() {
        let shift = usize::from(quirk == Some(&Quirk::WrongContentRange));
        let stated = format!("bytes {}-{}/{size}", range.start + shift, range.end - 1 + shift);
        response = response.status(StatusCode::PARTIAL_CONTENT).header(header::CONTENT_RANGE, stated);
    }
    let part = whole.body.slice(range);
    response = response.header(header::CONTENT_LENGTH, part.len());
    response.body(body(part, quirk)).expect("a reply")
}

fn unsatisfiable(size: usize) -> Response {
    (StatusCode::RANGE_NOT_SATISFIABLE, [(header::CONTENT_RANGE, format!("bytes */{size}"))]).into_response()
}

/// An explicit single range; like some real indexes, this one does not know suffix ranges.
fn range(text: &str, size: usize) -> Option<Range<usize>> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let first: usize = first.parse().ok()?;
    let end = if last.is_empty() { size } else { last.parse::<usize>().ok()?.saturating_add(1).min(size) };
    (first < end).then_some(first..end)
}

/// An error from the body's stream is what makes the server cut the connection.
fn body(part: Bytes, quirk: Option<&Quirk>) -> Body {
    match quirk {
        Some(Quirk::HangUp(after)) => {
            let sent = part.slice(..part.len().min(*after));
            let cut = stream::once(async {
                // The server flushes what it has only when there is nothing more to be had at once.
                tokio::task::yield_now().await;
                Err(io::Error::other("hang-up"))
            });
            Body::from_stream(stream::iter([Ok(sent)]).chain(cut))
        }
        Some(Quirk::Stall) => Body::from_stream(stream::pending::<io::Result<Bytes>>()),
        _ => Body::from(part),
    }
}
