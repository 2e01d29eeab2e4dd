use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use config::ExecutorSettings;

use super::error::ApiError;
use super::extract::Name;
use super::{App, REQUEST_ID_HEADER, START_HEADER, body};
use crate::engine::{Engine, outcome_name};
use crate::sandbox::CallResult;

/// `POST /run/<name>`: JSON in, JSON out.
pub(super) async fn run(
    State(engine): App,
    name: Result<Name, ApiError>,
    headers: HeaderMap,
    request: Body,
) -> Response {
    let request_id = engine.request_id();
    let mut response = match answer(&engine, name, &headers, request, request_id.clone()).await {
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
    name: Result<Name, ApiError>,
    headers: &HeaderMap,
    request: Body,
    request_id: String,
) -> Result<Response, ApiError> {
    let Name(name) = name?;
    let function = engine.functions.get(&name).ok_or_else(|| ApiError::no_function(name.as_str()))?;
    let settings = &engine.settings.executor;
    let (limit, timeout) = (settings.max_body_bytes, settings.request_timeout_ms);
    let event = body::read(headers, request, limit, "executor.max_body_bytes", timeout).await?;
    let answer = engine.invoke(&function, json(&event)?, request_id).await?;
    let mut response = reply(answer.outcome.result, settings);
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

fn reply(result: CallResult, settings: &ExecutorSettings) -> Response {
    match result {
        CallResult::Reply(json) => ([(header::CONTENT_TYPE, "application/json")], json).into_response(),
        CallResult::HandlerError { error_type, message, stack_trace } => {
            let error = ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, &error_type, message);
            error.with_trace(stack_trace).into_response()
        }
        failed => {
            let status = match failed {
                CallResult::TimedOut => StatusCode::GATEWAY_TIMEOUT,
                CallResult::OutOfMemory => StatusCode::INSUFFICIENT_STORAGE,
                _ => StatusCode::BAD_GATEWAY,
            };
            ApiError::new(status, outcome_name(&failed), sentence(&failed, settings)).into_response()
        }
    }
}

/// What became of a sandbox that did not reply.
fn sentence(result: &CallResult, settings: &ExecutorSettings) -> String {
    let ExecutorSettings { timeout_ms, memory_bytes, max_reply_bytes, .. } = settings;
    match result {
        CallResult::TimedOut => {
            format!(
                "the handler ran longer than {timeout_ms} ms (executor.timeout_ms) and its sandbox was killed"
            )
        }
        CallResult::OutOfMemory => {
            format!(
                "the handler used more than {memory_bytes} bytes of memory (executor.memory_bytes) and was killed"
            )
        }
        CallResult::ReplyTooLarge => {
            format!("the handler's reply is larger than {max_reply_bytes} bytes (executor.max_reply_bytes)")
        }
        CallResult::Crashed { signal: Some(signal), .. } => {
            format!("the sandbox was killed by signal {signal}")
        }
        CallResult::Crashed { code: Some(code), .. } => {
            format!("the sandbox exited with code {code} before it replied")
        }
        CallResult::Misbehaved { what } => format!("the sandbox {what}"),
        _ => "the sandbox ended before it replied".to_owned(),
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
