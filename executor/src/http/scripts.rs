use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use tokio::sync::mpsc;

use super::error::ApiError;
use super::{App, body};
use crate::engine::ScriptRequest;
use crate::frames;

/// `POST /scripts` (unix socket only): a line of JSON ([`ScriptRequest`]), then the script's source. The reply streams
/// [`frames`]; a client that hangs up takes the sandbox with it.
pub(super) async fn run(State(engine): App, headers: HeaderMap, request: Body) -> Result<Response, ApiError> {
    let settings = &engine.settings.executor;
    let (limit, timeout) = (settings.max_upload_bytes, settings.request_timeout_ms);
    let upload = body::read(&headers, request, limit, "executor.max_upload_bytes", timeout).await?;
    let (request, source) = parse(&upload)?;
    let (sender, receiver) = mpsc::channel(16);
    let worker = engine.clone();
    tokio::spawn(async move { worker.run_script(request, source, sender).await });
    let frames = stream::unfold(receiver, async |mut receiver| {
        let event = receiver.recv().await?;
        Some((Ok::<_, std::convert::Infallible>(frames::encode(&event)), receiver))
    });
    Ok(([(header::CONTENT_TYPE, frames::CONTENT_TYPE)], Body::from_stream(frames)).into_response())
}

fn parse(upload: &Bytes) -> Result<(ScriptRequest, String), ApiError> {
    let bad = |text: String| ApiError::new(StatusCode::BAD_REQUEST, "InvalidScript", text);
    let end = upload.iter().position(|byte| *byte == b'\n').unwrap_or(upload.len());
    let (head, source) = upload.split_at(end);
    let request = serde_json::from_slice(head)
        .map_err(|error| bad(format!("the first line is not a script request: {error}")))?;
    let source = source.get(1..).unwrap_or_default().to_vec();
    let source = String::from_utf8(source).map_err(|_| bad("the script is not UTF-8".to_owned()))?;
    Ok((request, source))
}
