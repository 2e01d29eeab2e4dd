use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use crate::page::PageError;
use crate::{ProjectName, Sha256, index_url};

/// Why something could not be had from an index. URLs in messages carry no user, password or query.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message says what its fields are")]
pub enum IndexError {
    #[error("the HTTP client cannot be set up")]
    Setup { source: reqwest::Error },
    #[error("certificate file {path} (pip's `cert` setting) cannot be used: {reason}")]
    Certificates { path: PathBuf, reason: String },
    #[error(
        "project {project} is not on the index {index}; check the spelling, or name another index with --index-url"
    )]
    UnknownProject { project: ProjectName, index: String },
    #[error("{url} cannot be reached ({reason}); check the network, or name another index with --index-url")]
    Unreachable { url: String, reason: String },
    #[error("{url} was cut off ({reason}); try again")]
    Cut { url: String, reason: String },
    #[error("{url} answered {status}{hint}")]
    Status { url: String, status: u16, hint: &'static str, retry_after: Option<Duration> },
    #[error("{url} is not a project page")]
    Page { url: String, source: PageError },
    #[error("{url} is over {limit} bytes; raise `{setting}` in [mirror] if that is right")]
    TooLarge { url: String, limit: u64, setting: &'static str },
    #[error("{url} ends at byte {size}, before the range asked for; the index and its file disagree")]
    BeyondEnd { url: String, size: String },
    #[error("{url} answered a range other than the one asked for ({answered}, asked {asked})")]
    OtherRange { url: String, asked: String, answered: String },
    #[error("{url} does not tell its size: ranges of it cannot be read")]
    UnknownSize { url: String },
    #[error("{url} has {found} bytes and should have {expected}; it was changed or damaged on the way")]
    Size { url: String, expected: u64, found: u64 },
    #[error(
        "{url} has sha256 {found} and should have {expected}; it was changed or damaged, and is not used"
    )]
    Digest { url: String, expected: Sha256, found: Sha256 },
    #[error("{path} cannot be written")]
    Write { path: PathBuf, source: std::io::Error },
}

impl IndexError {
    /// Whether the same request may well succeed a little later.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            IndexError::Unreachable { .. } | IndexError::Cut { .. } => true,
            IndexError::Status { status, .. } => matches!(status, 408 | 425 | 429 | 500 | 502..=504),
            _ => false,
        }
    }

    /// Whether the index could not be reached or was not in a state to answer.
    pub fn upstream_down(&self) -> bool {
        self.may_pass()
    }

    /// The same error again, where it may pass: for others who waited for the same answer.
    pub(super) fn passing_copy(&self) -> Option<IndexError> {
        match self {
            IndexError::Unreachable { url, reason } => {
                Some(IndexError::Unreachable { url: url.clone(), reason: reason.clone() })
            }
            IndexError::Cut { url, reason } => {
                Some(IndexError::Cut { url: url.clone(), reason: reason.clone() })
            }
            IndexError::Status { url, status, hint, retry_after } if self.may_pass() => {
                let (url, status, retry_after) = (url.clone(), *status, *retry_after);
                Some(IndexError::Status { url, status, hint, retry_after })
            }
            _ => None,
        }
    }

    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            IndexError::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// `url` as people may see it.
pub(super) fn shown(url: &Url) -> String {
    index_url::without_secrets(url.as_str())
}

/// The innermost reason of a request's failure: the outer ones repeat the URL.
pub(super) fn reason(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "timed out".to_owned();
    }
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
