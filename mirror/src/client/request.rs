//! One request, and trying again.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Method, Response, StatusCode};
use url::Url;

use super::error::{reason, shown};
use super::{Http, IndexClient, IndexError};

impl IndexClient {
    /// Runs `attempt` until it succeeds, fails for good, or has been tried `retries` times more. (Not an async
    /// closure: a task that awaits one cannot be shown to be `Send`.)
    pub(super) async fn retry<T, F>(&self, url: &Url, mut attempt: impl FnMut() -> F) -> Result<T, IndexError>
    where
        F: Future<Output = Result<T, IndexError>>,
    {
        let mut failures = 0;
        loop {
            let error = match attempt().await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            failures += 1;
            if !error.may_pass() || failures > self.0.settings.retries {
                return Err(error);
            }
            self.back_off(url, failures, &error).await;
        }
    }

    /// Waits before try number `failures + 1`: what the server asked for, else twice as long each time, the
    /// second half of it random so that many clients do not come back together.
    pub(super) async fn back_off(&self, url: &Url, failures: u32, error: &IndexError) {
        let settings = &self.0.settings;
        let limit = Duration::from_millis(settings.max_retry_delay_ms);
        let full =
            Duration::from_millis(settings.retry_delay_ms).saturating_mul(1 << failures.min(16)).min(limit);
        let jittered = full / 2 + full.mul_f64(random_fraction() / 2.0);
        let wait = error.retry_after().map_or(jittered, |asked| asked.min(limit));
        tracing::debug!(url = shown(url), %error, failures, wait_ms = wait.as_millis() as u64, "trying again");
        tokio::time::sleep(wait).await;
    }

    /// Sends a GET; a connection that fails is an error, any status is an answer.
    pub(super) async fn send(
        &self,
        http: &Http,
        url: &Url,
        headers: &HeaderMap,
    ) -> Result<Response, IndexError> {
        self.send_as(Method::GET, http, url, headers).await
    }

    /// As [`send`](Self::send), with another method.
    pub(super) async fn send_as(
        &self,
        method: Method,
        http: &Http,
        url: &Url,
        headers: &HeaderMap,
    ) -> Result<Response, IndexError> {
        let mut request = self.http(http)?.request(method, url.clone()).headers(headers.clone());
        let index = &self.0.index.url;
        // Files on the index's own host want the same user; its name must not stand in pages and locks.
        if url.username().is_empty() && url.origin() == index.origin() && !index.username().is_empty() {
            let plain = crate::index_url::percent_decode;
            request = request.basic_auth(plain(index.username()), index.password().map(plain));
        }
        request
            .send()
            .await
            .map_err(|error| IndexError::Unreachable { url: shown(url), reason: reason(&error) })
    }
}

/// The answer, if its status is one of `wanted`.
pub(super) fn expect(answer: Response, wanted: &[StatusCode]) -> Result<Response, IndexError> {
    let status = answer.status();
    if wanted.contains(&status) {
        return Ok(answer);
    }
    let hint = match status.as_u16() {
        401 | 403 | 407 => "; put user and password into the index URL (https://user:password@host/…)",
        404 | 410 => "; the index offers a file that is not there",
        429 | 500.. => "; try again later, or name another index with --index-url",
        _ => "",
    };
    let seconds = |value: &HeaderValue| value.to_str().ok()?.trim().parse().ok();
    let retry_after = answer.headers().get(RETRY_AFTER).and_then(seconds).map(Duration::from_secs);
    Err(IndexError::Status { url: shown(answer.url()), status: status.as_u16(), hint, retry_after })
}

pub(super) fn headers<const N: usize>(pairs: [(HeaderName, &'static str); N]) -> HeaderMap {
    pairs.into_iter().map(|(name, value)| (name, HeaderValue::from_static(value))).collect()
}

fn random_fraction() -> f64 {
    // The standard library seeds each of these from the system.
    (RandomState::new().build_hasher().finish() >> 11) as f64 / (1u64 << 53) as f64
}
