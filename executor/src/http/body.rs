use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::error::ApiError;

/// Reads a whole body within a size and a time. `setting` names the limit on the size.
pub(super) async fn read(
    headers: &HeaderMap,
    body: Body,
    limit: u64,
    setting: &str,
    timeout_ms: u64,
) -> Result<Bytes, ApiError> {
    let too_large = || {
        let text = format!("the body is larger than {limit} bytes (setting {setting})");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "BodyTooLarge", text)
    };
    // Told by the header, a body over the limit is refused before it is sent.
    let length =
        headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    let whole = Limited::new(body, usize::try_from(limit).unwrap_or(usize::MAX)).collect();
    match tokio::time::timeout(Duration::from_millis(timeout_ms), whole).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            "BodyCutShort",
            format!("the body did not arrive whole: {error}"),
        )),
        Err(_) => {
            let text = format!(
                "the body did not arrive within {timeout_ms} ms (setting executor.request_timeout_ms)"
            );
            Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "BodyTooSlow", text))
        }
    }
}
