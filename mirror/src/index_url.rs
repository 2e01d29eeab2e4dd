//! Which index is upstream, and URLs as people may see them.

use url::Url;

/// `url` without user name, password and query: for messages and logs.
pub fn without_secrets(url: &str) -> String {
    let Ok(mut parsed) = Url::parse(url) else {
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

/// An index, and what is needed to trust it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    /// Its root (PEP 503); may carry user and password, so show it only through [`without_secrets`].
    pub url: Url,
    /// A PEM file of certificates to trust besides the system's (pip's `cert` setting).
    pub certificates: Option<std::path::PathBuf>,
}
