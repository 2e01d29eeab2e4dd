use std::fmt;
use std::str::FromStr;

use pep440_rs::Version;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ProjectName;

/// Most tags a file name may stand for: the three sets multiply.
const MAX_TAGS: usize = 1024;

/// A wheel's file name, taken apart: `{project}-{version}(-{build})?-{python}-{abi}-{platform}.whl`
/// (PEP 427, PEP 425 for the dotted tag sets). Legacy spellings are tolerated; the text is kept as it was.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WheelName {
    /// The project, normalised.
    pub project: ProjectName,
    /// The release.
    pub version: Version,
    /// The release as the file name spells it.
    pub version_text: String,
    /// The build tag: wheels of one release are ordered by it.
    pub build: Option<(u64, String)>,
    /// Python tags, such as `cp311`.
    pub python: Vec<String>,
    /// ABI tags, such as `abi3`.
    pub abi: Vec<String>,
    /// Platform tags, such as `manylinux_2_28_x86_64`.
    pub platform: Vec<String>,
    file_name: String,
}

/// A text that is not a wheel's file name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is not a wheel's file name: {reason}")]
pub struct InvalidWheelName {
    name: String,
    reason: &'static str,
}

impl WheelName {
    /// The file name as it was given.
    pub fn file_name(&self) -> &str {
        &self.file_name
    }

    /// The tag part of the file name, such as `cp311-cp311-manylinux_2_28_x86_64`, the build tag before it if
    /// there is one: what tells the wheels of one release apart.
    pub fn tag(&self) -> &str {
        let stem = self.file_name.strip_suffix(".whl").unwrap_or(&self.file_name);
        stem.splitn(3, '-').nth(2).unwrap_or(stem)
    }

    /// Every single tag the dotted sets stand for, such as `cp311-cp311-manylinux_2_28_x86_64`.
    pub fn tags(&self) -> impl Iterator<Item = String> + '_ {
        self.python.iter().flat_map(move |python| {
            self.abi.iter().flat_map(move |abi| {
                self.platform.iter().map(move |platform| format!("{python}-{abi}-{platform}"))
            })
        })
    }

    fn parse(name: &str) -> Result<WheelName, &'static str> {
        let stem = name.strip_suffix(".whl").ok_or("it does not end in .whl")?;
        if name.len() > 255 || !name.bytes().all(|c| c.is_ascii_graphic() && c != b'/' && c != b'\\') {
            return Err("it is over 255 bytes or has characters no wheel has");
        }
        let parts: Vec<&str> = stem.split('-').collect();
        let (build, tags) = match parts.len() {
            5 => (None, &parts[2..]),
            6 => (Some(build_tag(parts[2])?), &parts[3..]),
            _ => return Err("it does not have five or six parts"),
        };
        let set = |text: &str| -> Vec<String> { text.split('.').map(str::to_owned).collect() };
        let (python, abi, platform) = (set(tags[0]), set(tags[1]), set(tags[2]));
        if python.iter().chain(&abi).chain(&platform).any(String::is_empty) {
            return Err("a tag is empty");
        }
        if python.len() * abi.len() * platform.len() > MAX_TAGS {
            return Err("its tags stand for over 1024 combinations");
        }
        Ok(WheelName {
            project: parts[0].parse().map_err(|_| "the project part is not a project name")?,
            version: parts[1].parse().map_err(|_| "the version part is not a PEP 440 version")?,
            version_text: parts[1].to_owned(),
            build,
            python,
            abi,
            platform,
            file_name: name.to_owned(),
        })
    }
}

fn build_tag(text: &str) -> Result<(u64, String), &'static str> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number = text[..digits].parse().map_err(|_| "the build tag does not start with a number")?;
    Ok((number, text[digits..].to_owned()))
}

impl FromStr for WheelName {
    type Err = InvalidWheelName;

    fn from_str(name: &str) -> Result<Self, InvalidWheelName> {
        WheelName::parse(name)
            .map_err(|reason| InvalidWheelName { name: name.chars().take(255).collect(), reason })
    }
}

impl fmt::Display for WheelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file_name)
    }
}

impl Serialize for WheelName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.file_name)
    }
}

impl<'de> Deserialize<'de> for WheelName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(name: &str) -> WheelName {
        name.parse().unwrap()
    }

    #[test]
    fn dotted_sets_expand() {
        let wheel = parse("uv-0.13.9-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl");
        let tags: Vec<String> = wheel.tags().collect();
        assert_eq!(tags, ["py3-none-manylinux_2_17_x86_64", "py3-none-manylinux2014_x86_64"]);
        assert_eq!(wheel.tag(), "py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64");
    }

    #[test]
    fn build_tags_order_by_number_first() {
        let build = |n: &str| parse(&format!("a-1-{n}-py3-none-any.whl")).build;
        assert!(build("2b") < build("10a"));
        assert!(build("2a") < build("2b"));
        assert!(None < build("0"));
    }

    #[test]
    fn legacy_names_are_tolerated() {
        assert_eq!(parse("Zope.Interface-4.0_post1-py2.py3-none-any.whl").project.as_str(), "zope-interface");
        assert_eq!(parse("a-1.0+local.1-py3-none-any.whl").version.to_string(), "1.0+local.1");
    }

    #[test]
    fn refusals_say_why() {
        let refusal = |name: &str| name.parse::<WheelName>().unwrap_err().to_string();
        assert_eq!(refusal("six.zip"), "`six.zip` is not a wheel's file name: it does not end in .whl");
        assert_eq!(
            refusal("six-py3-none-any.whl"),
            "`six-py3-none-any.whl` is not a wheel's file name: it does not have five or six parts"
        );
        assert_eq!(
            refusal("six-x.y-py3-none-any.whl"),
            "`six-x.y-py3-none-any.whl` is not a wheel's file name: the version part is not a PEP 440 version"
        );
        assert_eq!(
            refusal("six-1-x1-py3-none-any.whl"),
            "`six-1-x1-py3-none-any.whl` is not a wheel's file name: the build tag does not start with a number"
        );
        assert!(refusal("../six-1-py3-none-any.whl").contains("characters no wheel has"));
        assert!(refusal("six-1-py3-none-.whl").contains("a tag is empty"));
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(name in ".{0,80}(\\.whl)?") {
            let _ = name.parse::<WheelName>();
        }

        #[test]
        fn a_parsed_name_gives_itself_back(
            name in "[a-z][a-z0-9_]{0,8}-[0-9]\\.[0-9](-[0-9][a-z]?)?-py3-none-(any|linux_x86_64\\.manylinux1_x86_64)\\.whl"
        ) {
            if let Ok(wheel) = name.parse::<WheelName>() {
                prop_assert_eq!(wheel.file_name(), &name);
                prop_assert!(wheel.tags().count() >= 1);
            }
        }
    }
}
