//! Which index is upstream, and URLs as people may see them.

use config::Settings;
use url::Url;

use crate::Interpreter;

mod builtin;
mod pip;

/// An index, and what is needed to trust it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    /// Its root (PEP 503); may carry user and password, so show it only through [`without_secrets`].
    pub url: Url,
    /// A PEM file of certificates to trust besides the system's (pip's `cert` setting).
    pub certificates: Option<std::path::PathBuf>,
}

/// Why no upstream index is known.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// Neither we nor pip are told of one, and there is no pip to ask for its default.
    #[error(
        "no package index is configured and no pip was found that knows one; name one with --index-url (OL_INDEX_URL)"
    )]
    Unknown,
    /// What is configured is not a URL.
    #[error(
        "index URL `{url}` ({origin}) is not an http or https URL: {reason}; name another with --index-url"
    )]
    Invalid {
        /// The text, without secrets.
        url: String,
        /// Where it was set.
        origin: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

/// The upstream index: ours where set (flag, environment, file), else what pip is configured with, else pip's default.
///
/// # Errors
/// None is known, or what is set is not an HTTP URL.
pub fn upstream(settings: &Settings, interpreter: &Interpreter) -> Result<Index, UpstreamError> {
    let environ = |name: &str| std::env::var(name).ok();
    let pip = pip::settings(&environ, &interpreter.base_prefix);
    let ours = settings.index_url.as_deref().map(|url| parse(url, "--index-url, OL_INDEX_URL or index_url"));
    let configured = || pip.index_url.as_deref().map(|url| parse(url, "pip's index-url"));
    let url = match ours.or_else(configured) {
        Some(url) => url?,
        None => builtin::default_index(&interpreter.path, &settings.state.join("pip-default-index.json"))
            .ok_or(UpstreamError::Unknown)?,
    };
    // The system's own bundle is trusted anyway, wherever SSL_CERT_FILE says it is.
    let system = environ("SSL_CERT_FILE").map(std::path::PathBuf::from);
    let certificates = pip.cert.filter(|file| Some(file) != system.as_ref());
    Ok(Index { url, certificates })
}

fn parse(text: &str, origin: &'static str) -> Result<Url, UpstreamError> {
    let invalid = |reason: String| UpstreamError::Invalid { url: without_secrets(text), origin, reason };
    let url = Url::parse(text.trim()).map_err(|error| invalid(error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(invalid(format!("its scheme is {}", url.scheme())));
    }
    Ok(url)
}

/// `url` without user name, password and query: for messages and logs.
pub fn without_secrets(url: &str) -> String {
    let Some(mut parsed) = Url::parse(url).ok().filter(Url::has_host) else {
        return match url.rsplit_once('@') {
            Some((_, rest)) => rest.to_owned(),
            None => url.to_owned(),
        };
    };
    // Both fail only for URLs that cannot have a user.
    let _ = parsed.set_username("");
    let _ = parsed.set_password(None);
    parsed.set_query(None);
    parsed.set_fragment(None);
    parsed.to_string()
}

/// The last path component, percent-decoded.
pub fn file_name(url: &Url) -> String {
    let last = url.path_segments().and_then(Iterator::last).unwrap_or_default();
    percent_decode(last)
}

/// Decodes `%41`; what is not valid stays as it is.
pub(crate) fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = |c: &u8| (*c as char).to_digit(16);
        match (first, tail) {
            (b'%', [high, low, after @ ..]) if hex(high).is_some() && hex(low).is_some() => {
                bytes.push((hex(high).unwrap_or(0) * 16 + hex(low).unwrap_or(0)) as u8);
                rest = after;
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        assert_eq!(without_secrets("https://user:pw@host/simple?t=1#x"), "https://host/simple");
        assert_eq!(without_secrets("user:pw@host"), "host");
    }

    #[test]
    fn what_is_no_http_url_is_refused() {
        let error = parse("ftp://u:p@host/", "pip's index-url").unwrap_err().to_string();
        assert_eq!(
            error,
            "index URL `ftp://host/` (pip's index-url) is not an http or https URL: its scheme is ftp; \
             name another with --index-url"
        );
        assert!(parse("host/simple", "x").is_err());
    }

    #[test]
    fn percent_signs_that_escape_nothing_stay() {
        assert_eq!(percent_decode("a%2Bb%2"), "a+b%2");
        assert_eq!(percent_decode("%e9"), "%e9");
    }
}
