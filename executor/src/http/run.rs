use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;

use super::error::ApiError;
use super::{App, REQUEST_ID_HEADER, START_HEADER, body};
use crate::engine::Engine;
use crate::name::FunctionName;
use crate::sandbox::CallResult;

/// `POST /run/<name>`: JSON in, JSON out.
pub(super) async fn run(
    State(engine): App,
    Path(name): Path<String>,
    headers: HeaderMap,
    request: Body,
) -> Response {
    let request_id = engine.request_id();
    let mut response = match answer(&engine, &name, &headers, request, request_id.clone()).await {
        Ok(response) => response,
        Err(error) => error.into_response(),
    };
    if let Ok(value) = HeaderValue::try_from(request_id) {
        response.headers_mut().insert(HeaderName::from_static(REQUEST_ID_HEADER), value);
    }
    response
}

async fn answer(
    engine: &std::sync::Arc<Engine>,
    name: &str,
    headers: &HeaderMap,
    request: Body,
    request_id: String,
) -> Result<Response, ApiError> {
    let name: FunctionName = name.parse()?;
    let function = engine.functions.get(&name).ok_or_else(|| ApiError::no_function(name.as_str()))?;
    let settings = &engine.settings.executor;
    let (limit, timeout) = (settings.max_body_bytes, settings.request_timeout_ms);
    let event = body::read(headers, request, limit, "executor.max_body_bytes", timeout).await?;
    let answer = engine.invoke(&function, json(&event)?, request_id).await?;
    let mut response = reply(answer.outcome.result, engine);
    let start = HeaderValue::from_static(answer.start.as_str());
    response.headers_mut().insert(HeaderName::from_static(START_HEADER), start);
    Ok(response)
}

/// The body if it is JSON; no body at all means `null`.
fn json(body: &Bytes) -> Result<&[u8], ApiError> {
    if body.is_empty() {
        return Ok(b"null");
    }
    let not_json = |reason: String| {
        ApiError::new(StatusCode::BAD_REQUEST, "InvalidJson", format!("the body is not JSON: {reason}"))
    };
    let text = std::str::from_utf8(body).map_err(|error| not_json(error.to_string()))?;
    serde_json::from_str::<serde::de::IgnoredAny>(text).map_err(|error| not_json(error.to_string()))?;
    Ok(body)
}

fn reply(result: CallResult, engine: &Engine) -> Response {
    let settings = &engine.settings.executor;
    let failed = |status, name: &str, text: String| ApiError::new(status, name, text).into_response();
    match result {
        CallResult::Reply(json) => ([(header::CONTENT_TYPE, "application/json")], json).into_response(),
        CallResult::HandlerError { error_type, message, stack_trace } => {
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, &error_type, message)
                .with_trace(stack_trace)
                .into_response()
        }
        CallResult::TimedOut => {
            let text = format!(
                "the handler ran longer than {} ms (executor.timeout_ms) and its sandbox was killed",
                settings.timeout_ms
            );
            failed(StatusCode::GATEWAY_TIMEOUT, "TimedOut", text)
        }
        CallResult::OutOfMemory => {
            let text = format!(
                "the handler used more than {} bytes of memory (executor.memory_bytes) and was killed",
                settings.memory_bytes
            );
            failed(StatusCode::INSUFFICIENT_STORAGE, "OutOfMemory", text)
        }
        CallResult::ReplyTooLarge => {
            let text = format!(
                "the handler's reply is larger than {} bytes (executor.max_reply_bytes)",
                settings.max_reply_bytes
            );
            failed(StatusCode::BAD_GATEWAY, "ReplyTooLarge", text)
        }
        CallResult::Crashed { signal: Some(signal), .. } => failed(
            StatusCode::BAD_GATEWAY,
            "SandboxCrashed",
            format!("the sandbox was killed by signal {signal}"),
        ),
        CallResult::Crashed { code, .. } => {
            let code = code.map_or_else(|| "an unknown code".to_owned(), |code| format!("code {code}"));
            failed(
                StatusCode::BAD_GATEWAY,
                "SandboxCrashed",
                format!("the sandbox exited with {code} before it replied"),
            )
        }
        CallResult::Misbehaved { what } => {
            failed(StatusCode::BAD_GATEWAY, "SandboxMisbehaved", format!("the sandbox {what}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_json_reaches_a_handler() {
        let check = |body: &'static [u8]| json(&Bytes::from_static(body)).map(<[u8]>::to_vec).ok();
        assert_eq!(check(b""), Some(b"null".to_vec()));
        assert_eq!(check(b"{\"a\": [1]}"), Some(b"{\"a\": [1]}".to_vec()));
        for bad in [&b"{"[..], b"{} x", b"NaN", b"\"\xff\"", b"{'a': 1}"] {
            assert_eq!(check(bad), None, "{bad:?}");
        }
    }
}
