use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use pep440_rs::{Version, VersionSpecifiers};
use pep508_rs::MarkerTree;
use serde::Deserialize;
use url::Url;

use crate::{Interpreter, ProjectName, Sha256, WheelName};

mod selection;

/// Largest lock that is read, in bytes, and most packages in one.
const MAX_BYTES: usize = 16 << 20;
const MAX_PACKAGES: usize = 10_000;

/// A lock file in the standard format (PEP 751, `pylock.toml`), checked.
#[derive(Clone, Debug)]
pub struct Lock {
    text: String,
    requires_python: Option<VersionSpecifiers>,
    environments: Vec<MarkerTree>,
    packages: Vec<Package>,
}

/// One wheel of a lock, chosen for an interpreter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockedWheel {
    /// Its file name, taken apart.
    pub name: WheelName,
    /// Where it is.
    pub url: Url,
    /// Its digest, as the lock has it.
    pub sha256: Sha256,
    /// Its size in bytes, where the lock has it.
    pub size: Option<u64>,
}

/// Why a lock cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The text is not TOML or lacks what the format demands.
    #[error("the lock is not a pylock.toml: {0}")]
    Malformed(String),
    /// Written for a later format.
    #[error(
        "the lock has format version {0}, and this program knows 1.x; update ol, or lock again with an older tool"
    )]
    Newer(String),
    /// Larger than anything real.
    #[error("the lock is too large ({what} over {limit})")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// It was locked for other interpreters.
    #[error(
        "the lock is for Python {wanted}, and the interpreter is Python {found}; name another with --python"
    )]
    RequiresPython {
        /// What the lock demands.
        wanted: String,
        /// What there is.
        found: String,
    },
    /// None of the environments it was locked for is this one.
    #[error(
        "the lock was made for other environments than this one (its `environments` key); lock again here"
    )]
    OtherEnvironment,
    /// One package of it is wrong.
    #[error("package {package} of the lock {reason}")]
    Package {
        /// Which package.
        package: String,
        /// What is wrong with it.
        reason: String,
    },
}

#[derive(Clone, Debug)]
struct Package {
    name: ProjectName,
    version: Option<Version>,
    marker: Option<MarkerTree>,
    requires_python: Option<VersionSpecifiers>,
    wheels: Vec<LockedWheel>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RawLock {
    lock_version: String,
    requires_python: Option<String>,
    #[serde(default)]
    environments: Vec<String>,
    #[serde(default)]
    default_groups: Vec<String>,
    #[serde(default)]
    packages: Vec<RawPackage>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RawPackage {
    name: String,
    version: Option<String>,
    marker: Option<String>,
    requires_python: Option<String>,
    #[serde(default)]
    wheels: Vec<RawWheel>,
}

#[derive(Deserialize)]
struct RawWheel {
    name: Option<String>,
    url: Option<String>,
    path: Option<String>,
    size: Option<u64>,
    #[serde(default)]
    hashes: BTreeMap<String, String>,
}

impl Lock {
    /// Reads and checks `text`.
    ///
    /// # Errors
    /// Not a lock, a lock of a later format, or one with a package that cannot be verified.
    pub fn parse(text: &str) -> Result<Lock, LockError> {
        if text.len() > MAX_BYTES {
            return Err(LockError::TooLarge { what: "bytes", limit: MAX_BYTES });
        }
        let malformed =
            |error: toml::de::Error| LockError::Malformed(error.to_string().trim_end().to_owned());
        let raw: RawLock = toml::from_str(text).map_err(malformed)?;
        if raw.lock_version.split('.').next() != Some("1") {
            return Err(LockError::Newer(raw.lock_version));
        }
        if raw.packages.len() > MAX_PACKAGES {
            return Err(LockError::TooLarge { what: "packages", limit: MAX_PACKAGES });
        }
        let groups: BTreeSet<String> =
            raw.default_groups.iter().map(|group| selection::normalised(group)).collect();
        let packages = raw.packages.into_iter().map(|package| Package::check(package, &groups));
        let packages = packages.collect::<Result<Vec<_>, _>>()?;
        let bad = |what: &str, error: String| LockError::Malformed(format!("`{what}`: {error}"));
        Ok(Lock {
            requires_python: specifiers(raw.requires_python.as_deref())
                .map_err(|error| bad("requires-python", error))?,
            environments: raw
                .environments
                .iter()
                .map(|text| marker(text).map_err(|error| bad("environments", error)))
                .collect::<Result<_, _>>()?,
            text: text.to_owned(),
            packages,
        })
    }

    /// A lock of nothing: what a script without dependencies gets.
    pub fn empty() -> Lock {
        Lock {
            text: "lock-version = \"1.0\"\ncreated-by = \"ol\"\npackages = []\n".to_owned(),
            requires_python: None,
            environments: Vec::new(),
            packages: Vec::new(),
        }
    }

    /// The text it was read from.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The wheels that `interpreter` gets: of each package whose marker holds, the wheel with its best tag.
    /// Ordered by project name.
    ///
    /// # Errors
    /// The lock is for another Python, or a package has no wheel that runs here.
    pub fn wheels(&self, interpreter: &Interpreter) -> Result<Vec<LockedWheel>, LockError> {
        let python: Version = interpreter.markers.python_full_version().version.clone();
        let fits = |wanted: &Option<VersionSpecifiers>| wanted.as_ref().is_none_or(|w| w.contains(&python));
        if !fits(&self.requires_python) {
            let wanted = self.requires_python.as_ref().map(ToString::to_string).unwrap_or_default();
            return Err(LockError::RequiresPython { wanted, found: python.to_string() });
        }
        let holds = |marker: &MarkerTree| marker.evaluate(&interpreter.markers, &[]);
        if !self.environments.is_empty() && !self.environments.iter().any(holds) {
            return Err(LockError::OtherEnvironment);
        }
        let mut chosen: BTreeMap<&ProjectName, LockedWheel> = BTreeMap::new();
        for package in self.packages.iter().filter(|package| package.marker.as_ref().is_none_or(holds)) {
            if !fits(&package.requires_python) {
                return Err(package.error(format!("does not run on Python {python} (its `requires-python`)")));
            }
            let wheel = package.best(interpreter)?;
            if chosen.insert(&package.name, wheel.clone()).is_some() {
                return Err(package.error("is there twice for this environment".to_owned()));
            }
        }
        Ok(chosen.into_values().collect())
    }
}

impl Package {
    fn check(raw: RawPackage, default_groups: &BTreeSet<String>) -> Result<Package, LockError> {
        let name: ProjectName =
            raw.name.parse().map_err(|error: crate::InvalidName| LockError::Malformed(error.to_string()))?;
        let error = |reason: String| LockError::Package { package: name.to_string(), reason };
        let version = raw
            .version
            .as_deref()
            .map(Version::from_str)
            .transpose()
            .map_err(|e| error(format!("has a version that is not PEP 440: {e}")))?;
        let marker = raw
            .marker
            .as_deref()
            .map(|text| marker(&selection::decided(text, default_groups)))
            .transpose()
            .map_err(|e| error(format!("has a bad marker: {e}")))?;
        let requires_python = specifiers(raw.requires_python.as_deref())
            .map_err(|e| error(format!("has a bad `requires-python`: {e}")))?;
        let wheels =
            raw.wheels.into_iter().map(RawWheel::check).collect::<Result<Vec<_>, _>>().map_err(error)?;
        if let Some(stray) = wheels.iter().find(|wheel| wheel.name.project != name) {
            return Err(error(format!("lists a wheel of another project: {}", stray.name)));
        }
        Ok(Package { name, version, marker, requires_python, wheels })
    }

    fn best(&self, interpreter: &Interpreter) -> Result<&LockedWheel, LockError> {
        self.wheels
            .iter()
            .filter_map(|wheel| Some((interpreter.rank(&wheel.name)?, wheel)))
            .min_by(|(a, x), (b, y)| a.cmp(b).then_with(|| y.name.build.cmp(&x.name.build)))
            .map(|(_, wheel)| wheel)
            .ok_or_else(|| {
                let (version, python) = (interpreter.version_text(), interpreter.python_name());
                let reason = if self.wheels.is_empty() {
                    "has no wheel, only sources, which are never built here".to_owned()
                } else {
                    format!(
                        "has no wheel for {python} ({version}) on this platform; lock again with this Python"
                    )
                };
                self.error(reason)
            })
    }

    fn error(&self, reason: String) -> LockError {
        let version = self.version.as_ref().map(|version| format!(" {version}")).unwrap_or_default();
        LockError::Package { package: format!("{}{version}", self.name), reason }
    }
}

impl RawWheel {
    fn check(self) -> Result<LockedWheel, String> {
        let Some(url) = self.url else {
            let path = self.path.unwrap_or_default();
            return Err(format!(
                "has a wheel without a URL (path `{path}`); only wheels with `url` can be fetched"
            ));
        };
        let shown = || crate::index_url::without_secrets(&url);
        let parsed =
            Url::parse(&url).map_err(|error| format!("has a wheel URL that is not one ({error})"))?;
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err(format!("has a wheel URL that is neither http nor https: {}", shown()));
        }
        let file_name = self.name.unwrap_or_else(|| crate::index_url::file_name(&parsed));
        let name: WheelName =
            file_name.parse().map_err(|error| format!("has a wheel with a bad name: {error}"))?;
        let sha256 = self.hashes.get("sha256").ok_or_else(|| {
            format!(
                "has a wheel without a sha256 digest ({name}); it could not be verified, lock it with one"
            )
        })?;
        let sha256 = sha256.parse().map_err(|error| format!("has a bad digest for {name}: {error}"))?;
        Ok(LockedWheel { name, url: parsed, sha256, size: self.size })
    }
}

fn marker(text: &str) -> Result<MarkerTree, String> {
    // Its error shows the place over several lines; the first says what is wrong.
    MarkerTree::from_str(text)
        .map_err(|error| error.to_string().lines().next().unwrap_or_default().to_owned())
}

fn specifiers(text: Option<&str>) -> Result<Option<VersionSpecifiers>, String> {
    text.map(VersionSpecifiers::from_str).transpose().map_err(|error| error.to_string())
}

#[cfg(test)]
#[path = "lock_tests.rs"]
mod tests;
