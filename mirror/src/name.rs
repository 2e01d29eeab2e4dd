use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest name that is taken; names go into file names and URLs.
const MAX_LEN: usize = 200;

/// A project's name, normalised as PEP 503 says: lower case, runs of `-`, `_` and `.` become one `-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProjectName(String);

/// A text that is not a project name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a project name (letters, digits, `.`, `-`, `_`; first and last a letter or digit; at most 200)"
)]
pub struct InvalidName(String);

impl ProjectName {
    /// The normalised text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ProjectName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let invalid = || InvalidName(text.chars().take(MAX_LEN).collect());
        let ends_well = |c: Option<u8>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        let bytes = text.as_bytes();
        if bytes.len() > MAX_LEN || !ends_well(bytes.first().copied()) || !ends_well(bytes.last().copied()) {
            return Err(invalid());
        }
        let mut normal = String::with_capacity(text.len());
        for c in text.chars() {
            match c {
                '-' | '_' | '.' if normal.ends_with('-') => {}
                '-' | '_' | '.' => normal.push('-'),
                c if c.is_ascii_alphanumeric() => normal.push(c.to_ascii_lowercase()),
                _ => return Err(invalid()),
            }
        }
        Ok(ProjectName(normal))
    }
}

impl fmt::Display for ProjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for ProjectName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ProjectName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn runs_of_separators_become_one_dash() {
        let name: ProjectName = "Zope.-_Interface".parse().unwrap();
        assert_eq!(name.as_str(), "zope-interface");
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in ["", "-a", "a-", "a/b", "..", "a b", "é", &"a".repeat(201)] {
            assert!(text.parse::<ProjectName>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn normalising_twice_changes_nothing(text in "[A-Za-z0-9._-]{1,30}") {
            if let Ok(name) = text.parse::<ProjectName>() {
                prop_assert_eq!(name.as_str().parse::<ProjectName>().unwrap(), name);
            }
        }

        #[test]
        fn any_text_is_parsed_or_refused(text in ".*") {
            let _ = text.parse::<ProjectName>();
        }
    }
}
