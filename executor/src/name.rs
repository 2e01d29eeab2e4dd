use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest function name.
const MAX_LENGTH: usize = 64;

/// The name of a function: 1 to 64 of `A-Z a-z 0-9 _ -`. It is also the name of a folder, so nothing else is
/// ever accepted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FunctionName(String);

/// The text is not a function name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not a function name; use 1 to {MAX_LENGTH} of A-Z a-z 0-9 _ -")]
pub struct NameError {
    given: String,
}

impl FunctionName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for FunctionName {
    type Err = NameError;

    fn from_str(given: &str) -> Result<Self, NameError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if !given.is_empty() && given.len() <= MAX_LENGTH && given.bytes().all(allowed) {
            return Ok(FunctionName(given.to_owned()));
        }
        // What a stranger sent is shown, but never at its full length.
        Err(NameError { given: given.chars().take(MAX_LENGTH + 1).collect() })
    }
}

impl TryFrom<String> for FunctionName {
    type Error = NameError;

    fn try_from(given: String) -> Result<Self, NameError> {
        given.parse()
    }
}

impl From<FunctionName> for String {
    fn from(name: FunctionName) -> String {
        name.0
    }
}

impl fmt::Display for FunctionName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Component, Path};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ordinary_names_are_accepted() {
        for name in ["f", "report-2", "A_b", &"x".repeat(64)] {
            assert_eq!(name.parse::<FunctionName>().unwrap().as_str(), name);
        }
    }

    #[test]
    fn names_that_are_paths_or_odd_are_refused() {
        for name in ["", ".", "..", "../x", "a/b", "a\\b", "a b", "é", "a\0", "a.py", &"x".repeat(65)] {
            assert!(name.parse::<FunctionName>().is_err(), "{name:?}");
        }
    }

    #[test]
    fn the_error_says_what_is_allowed() {
        let text = "../etc".parse::<FunctionName>().unwrap_err().to_string();
        assert_eq!(text, "\"../etc\" is not a function name; use 1 to 64 of A-Z a-z 0-9 _ -");
    }

    proptest! {
        #[test]
        fn an_accepted_name_is_one_plain_path_component(text in ".{0,80}") {
            if let Ok(name) = text.parse::<FunctionName>() {
                let mut parts = Path::new(name.as_str()).components();
                prop_assert!(matches!(parts.next(), Some(Component::Normal(_))));
                prop_assert!(parts.next().is_none());
            }
        }
    }
}
