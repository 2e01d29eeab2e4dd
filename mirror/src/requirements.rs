use std::path::{Path, PathBuf};
use std::str::FromStr;

use pep440_rs::VersionSpecifiers;
use pep508_rs::{Requirement, VerbatimUrl, VersionOrUrl};
use serde::Deserialize;

use crate::script::{ScriptError, ScriptMetadata};
use crate::{InvalidName, ProjectName};

/// Largest requirements file that is read, in bytes.
const MAX_BYTES: u64 = 16 << 20;

/// What somebody asked for, before it is resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Requirements {
    /// Dependency specifiers (PEP 508), one an item; each may end in pip's `--hash=` options.
    Lines(Vec<String>),
    /// A file in pip's format. It may name other files and indexes: only for files the caller's user wrote.
    RequirementsTxt(PathBuf),
    /// A `pyproject.toml`: the `dependencies` and `requires-python` of its `[project]` table.
    Pyproject(PathBuf),
    /// A script's source, with a PEP 723 header or without.
    Script(String),
    /// A `pylock.toml`'s text: nothing to resolve, only to check.
    Lock(String),
}

/// Why requirements cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RequirementsError {
    /// The file cannot be read.
    #[error(
        "{path} cannot be read; name a requirements.txt, pyproject.toml, pylock.toml or script, or requirements"
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// It is not text, or over the limit.
    #[error("{path} is not a text file of at most {MAX_BYTES} bytes")]
    NotText {
        /// The file.
        path: PathBuf,
    },
    /// A line is not a dependency specifier.
    #[error("`{line}` is not a requirement: {reason}")]
    Line {
        /// The line.
        line: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A script's header is wrong.
    #[error(transparent)]
    Script(#[from] ScriptError),
    /// A pyproject.toml is wrong.
    #[error("the pyproject.toml cannot be used: {0}")]
    Pyproject(String),
}

/// Requirements in one form: what the resolver and its cache work on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Specifiers {
    pub lines: Vec<String>,
    pub requires_python: Option<VersionSpecifiers>,
}

impl Requirements {
    /// What `words` of a command line mean: one file (by its name), or requirements.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn detect(words: &[String]) -> Result<Requirements, RequirementsError> {
        let [word] = words else { return Ok(Requirements::Lines(words.to_vec())) };
        let path = Path::new(word);
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let is_lock = name == "pylock.toml" || (name.starts_with("pylock.") && name.ends_with(".toml"));
        Ok(match path.extension().and_then(|extension| extension.to_str()) {
            _ if is_lock => Requirements::Lock(read(path)?),
            _ if name == "pyproject.toml" => Requirements::Pyproject(path.to_path_buf()),
            Some("py") => Requirements::Script(read(path)?),
            Some("txt" | "in") => Requirements::RequirementsTxt(path.to_path_buf()),
            _ => Requirements::Lines(words.to_vec()),
        })
    }

    /// The content of a requirements.txt that somebody else wrote: specifiers, comments and `--hash` only. Options
    /// that name files or indexes are refused, since this machine would read them.
    ///
    /// # Errors
    /// A line is not a dependency specifier.
    pub fn from_untrusted_txt(text: &str) -> Result<Requirements, RequirementsError> {
        let lines = logical_lines(text);
        lines.iter().try_for_each(|line| check(line).map(|_| ()))?;
        Ok(Requirements::Lines(lines))
    }

    /// The specifiers, checked and normalised; `None` for what only uv can read.
    pub(crate) fn specifiers(&self) -> Result<Option<Specifiers>, RequirementsError> {
        let specifiers = match self {
            Requirements::Lines(lines) => Specifiers { lines: lines.clone(), requires_python: None },
            Requirements::Script(source) => {
                let header = ScriptMetadata::parse(source)?;
                header.map_or_else(Specifiers::default, |header| Specifiers {
                    lines: header.dependencies,
                    requires_python: header.requires_python,
                })
            }
            Requirements::Pyproject(path) => pyproject(&read(path)?)?,
            Requirements::RequirementsTxt(path) => {
                let lines = logical_lines(&read(path)?);
                if lines.iter().any(|line| line.starts_with('-')) {
                    return Ok(None);
                }
                Specifiers { lines, requires_python: None }
            }
            Requirements::Lock(_) => return Ok(None),
        };
        let mut lines = specifiers.lines.iter().map(|line| check(line)).collect::<Result<Vec<_>, _>>()?;
        lines.sort();
        lines.dedup();
        Ok(Some(Specifiers { lines, ..specifiers }))
    }
}

#[derive(Deserialize)]
struct Pyproject {
    project: Option<Project>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Project {
    requires_python: Option<String>,
    #[serde(default)]
    dependencies: Vec<String>,
    #[serde(default)]
    dynamic: Vec<String>,
}

fn pyproject(text: &str) -> Result<Specifiers, RequirementsError> {
    let bad = |reason: String| RequirementsError::Pyproject(reason);
    let parsed: Pyproject =
        toml::from_str(text).map_err(|error| bad(error.to_string().trim_end().to_owned()))?;
    let project = parsed.project.ok_or_else(|| bad("it has no [project] table".to_owned()))?;
    if project.dynamic.iter().any(|key| key == "dependencies") {
        return Err(bad("its dependencies are dynamic: finding them out would run its build".to_owned()));
    }
    let requires_python = project.requires_python.as_deref().map(VersionSpecifiers::from_str).transpose();
    let requires_python = requires_python.map_err(|error| bad(format!("requires-python: {error}")))?;
    Ok(Specifiers { lines: project.dependencies, requires_python })
}

/// Checks one line and gives it in normal form.
fn check(line: &str) -> Result<String, RequirementsError> {
    let refuse = |reason: &str| RequirementsError::Line { line: shown(line), reason: reason.to_owned() };
    if line.starts_with('-') {
        return Err(refuse("options are not taken here, only requirements such as `pandas>=2`"));
    }
    let (specifier, hashes) = line.split_once(" --hash").map_or((line, None), |(s, rest)| (s, Some(rest)));
    let hashes = hashes.map(|rest| format!(" --hash{rest}")).unwrap_or_default();
    let is_hash = |word: &str| {
        let value = word.strip_prefix("--hash=").and_then(|word| word.split_once(':'));
        value.is_some_and(|(algorithm, hex)| {
            algorithm.bytes().all(|c| c.is_ascii_alphanumeric()) && hex.bytes().all(|c| c.is_ascii_hexdigit())
        })
    };
    if !hashes.split_whitespace().all(is_hash) {
        return Err(refuse("its --hash is not of the form --hash=sha256:0123…"));
    }
    check_names(specifier.trim()).map_err(|error| refuse(&error.to_string()))?;
    let parsed = Requirement::<VerbatimUrl>::from_str(specifier.trim()).map_err(|error| {
        // Its error shows the place over several lines; the first says what is wrong.
        refuse(error.to_string().lines().next().unwrap_or_default())
    })?;
    if let Some(VersionOrUrl::Url(_)) = parsed.version_or_url {
        return Err(refuse("requirements by URL or path are not supported; name a release of an index"));
    }
    Ok(format!("{parsed}{hashes}"))
}

/// The parser behind [`check`] panics on names and extras that end in a separator (pep508_rs 0.9.2); this keeps
/// them from it.
fn check_names(specifier: &str) -> Result<(), InvalidName> {
    let end = specifier.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_' | '.'));
    let (name, rest) = specifier.split_at(end.unwrap_or(specifier.len()));
    ProjectName::from_str(name)?;
    let extras =
        rest.trim_start().strip_prefix('[').and_then(|rest| rest.split(']').next()).unwrap_or_default();
    extras
        .split(',')
        .map(str::trim)
        .filter(|extra| !extra.is_empty())
        .try_for_each(|extra| ProjectName::from_str(extra).map(|_| ()))
}

fn shown(line: &str) -> String {
    let line: String = line.chars().take(200).collect();
    match (line.find("://"), line.rfind('@')) {
        (Some(scheme), Some(at)) if scheme < at => format!("{}://…{}", &line[..scheme], &line[at..]),
        _ => line,
    }
}

/// Lines with continuations joined, comments and empty ones dropped.
fn logical_lines(text: &str) -> Vec<String> {
    let joined = text.replace("\\\r\n", " ").replace("\\\n", " ");
    let content = |line: &str| {
        let comment = if line.trim_start().starts_with('#') { Some(0) } else { line.find(" #") };
        line[..comment.unwrap_or(line.len())].trim().to_owned()
    };
    joined.lines().map(content).filter(|line| !line.is_empty()).collect()
}

fn read(path: &Path) -> Result<String, RequirementsError> {
    let not_text = || RequirementsError::NotText { path: path.to_path_buf() };
    let failed = |source| RequirementsError::Read { path: path.to_path_buf(), source };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    std::io::Read::read_to_end(&mut std::io::Read::take(file, MAX_BYTES + 1), &mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(not_text());
    }
    String::from_utf8(bytes).map_err(|_| not_text())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(text: &str) -> Vec<String> {
        Requirements::from_untrusted_txt(text).unwrap().specifiers().unwrap().unwrap().lines
    }

    fn refusal(text: &str) -> String {
        Requirements::from_untrusted_txt(text).unwrap_err().to_string()
    }

    #[test]
    fn comments_continuations_and_order_do_not_matter() {
        let text = "# pinned\nsix==1.17.0 \\\n  --hash=sha256:00ff # why\n\nRequests [socks] >=2\r\n";
        assert_eq!(lines(text), ["requests[socks]>=2", "six==1.17.0 --hash=sha256:00ff"]);
        assert_eq!(lines("b\na\nb"), ["a", "b"]);
    }

    #[test]
    fn what_would_reach_into_the_machine_is_refused() {
        assert_eq!(
            refusal("-r /etc/shadow"),
            "`-r /etc/shadow` is not a requirement: options are not taken here, only requirements such as `pandas>=2`"
        );
        assert_eq!(
            refusal("x @ https://user:pw@host/x.whl"),
            "`x @ https://…@host/x.whl` is not a requirement: requirements by URL or path are not supported; \
             name a release of an index"
        );
        assert!(
            refusal("six --hash=sha256:00 --index-url=http://h").contains("its --hash is not of the form")
        );
        assert!(refusal("six>=").starts_with("`six>=` is not a requirement: "));
        assert!(refusal("six->=1").contains("not a project name"));
        assert!(refusal("six[a-,b]").contains("not a project name"));
        assert!(refusal("./local").contains("not a requirement"));
        assert!(refusal("six; python_version >> '3'").contains("not a requirement"));
    }

    #[test]
    fn a_pyproject_gives_its_projects_dependencies() {
        let text = "[project]\nname = \"x\"\nrequires-python = \">=3.9\"\ndependencies = [\"six\"]\n[tool.uv]\nindex-url = \"http://h\"\n";
        let found = pyproject(text).unwrap();
        assert_eq!(
            (found.lines, found.requires_python.unwrap().to_string()),
            (vec!["six".to_owned()], ">=3.9".to_owned())
        );
        for text in
            ["[tool.x]", "[project]\ndynamic = [\"dependencies\"]", "[project]\ndependencies = 1", "nope"]
        {
            let error = pyproject(text).unwrap_err().to_string();
            assert!(error.starts_with("the pyproject.toml cannot be used: "), "{error}");
        }
    }

    #[test]
    fn words_are_recognised_by_name() {
        let detect =
            |words: &[&str]| Requirements::detect(&words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>());
        assert_eq!(detect(&["pandas>=2"]).unwrap(), Requirements::Lines(vec!["pandas>=2".to_owned()]));
        assert!(matches!(detect(&["a/requirements.txt"]).unwrap(), Requirements::RequirementsTxt(_)));
        assert!(matches!(detect(&["pyproject.toml"]).unwrap(), Requirements::Pyproject(_)));
        let error = detect(&["/nonexistent/pylock.dev.toml"]).unwrap_err().to_string();
        assert!(error.starts_with("/nonexistent/pylock.dev.toml cannot be read; name a"), "{error}");
    }

    #[test]
    fn a_script_without_header_needs_nothing() {
        let script = Requirements::Script("print(1)".to_owned());
        assert_eq!(script.specifiers().unwrap(), Some(Specifiers::default()));
    }

    proptest! {
        #[test]
        fn any_line_is_read_or_refused(line in "[a-z<>=~!@;:/'\" .\\[\\],0-9#$-]{0,60}") {
            let _ = Requirements::from_untrusted_txt(&line);
        }
    }
}
