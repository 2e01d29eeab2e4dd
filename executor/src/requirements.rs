use std::path::Path;

use mirror::{Requirements, ScriptError, ScriptMetadata};

/// Why a function's or script's requirements could not be read.
#[derive(Debug, thiserror::Error)]
pub enum RequirementsError {
    /// No handler.
    #[error(
        "no f.py, no app.py and not exactly one .py file at the top of the upload: which file holds the handler?"
    )]
    NoEntry,
    /// The file is there and cannot be read.
    #[error("{file} cannot be read as UTF-8 text")]
    Unreadable {
        /// Its name in the upload.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// The PEP 723 header is malformed.
    #[error("the script header of {file} is not valid")]
    Header {
        /// Its name.
        file: String,
        /// What and where.
        source: ScriptError,
    },
    /// A line of a requirements.txt is not a requirement.
    #[error("{file} cannot be used")]
    Line {
        /// Its name in the upload.
        file: String,
        /// Which line, and why.
        source: mirror::RequirementsError,
    },
}

/// The file that holds the handler: `f.py`, else `app.py`, else the only Python file at the top.
pub(crate) fn entry(code: &Path) -> Result<String, RequirementsError> {
    for name in ["f.py", "app.py"] {
        if code.join(name).is_file() {
            return Ok(name.to_owned());
        }
    }
    let names = std::fs::read_dir(code).into_iter().flatten().flatten();
    let mut python =
        names.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| name.ends_with(".py"));
    match (python.next(), python.next()) {
        (Some(only), None) => Ok(only),
        _ => Err(RequirementsError::NoEntry),
    }
}

/// What the code in folder `code` requires, from the most exact statement there is: `pylock.toml`, else the PEP 723
/// header of the entry, else `pyproject.toml`, else `requirements.txt`. `None` means the standard library alone.
pub(crate) fn detect(code: &Path, entry: &str) -> Result<Option<Requirements>, RequirementsError> {
    let lock = code.join("pylock.toml");
    if lock.is_file() {
        return Ok(Some(Requirements::Lock(read(&lock, "pylock.toml")?)));
    }
    if let Some(script) = of_script(&read(&code.join(entry), entry)?, entry)? {
        return Ok(Some(script));
    }
    let pyproject = code.join("pyproject.toml");
    if pyproject.is_file() {
        return Ok(Some(Requirements::Pyproject(pyproject)));
    }
    let requirements = code.join("requirements.txt");
    if !requirements.is_file() {
        return Ok(None);
    }
    // Not as a file for uv: its options would make this machine read other files and ask other indexes.
    let text = read(&requirements, "requirements.txt")?;
    Requirements::from_untrusted_txt(&text)
        .map(Some)
        .map_err(|source| RequirementsError::Line { file: "requirements.txt".to_owned(), source })
}

/// What a script's header requires; `None` without a header, or with one that asks for nothing.
pub(crate) fn of_script(source: &str, file: &str) -> Result<Option<Requirements>, RequirementsError> {
    let metadata = ScriptMetadata::parse(source)
        .map_err(|source| RequirementsError::Header { file: file.to_owned(), source })?;
    let asks = metadata
        .is_some_and(|metadata| !metadata.dependencies.is_empty() || metadata.requires_python.is_some());
    Ok(asks.then(|| Requirements::Script(source.to_owned())))
}

fn read(path: &Path, file: &str) -> Result<String, RequirementsError> {
    std::fs::read_to_string(path)
        .map_err(|source| RequirementsError::Unreadable { file: file.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "# /// script\n# dependencies = [\"six\"]\n# ///\n";

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in files {
            std::fs::write(dir.path().join(name), content).unwrap();
        }
        dir
    }

    #[test]
    fn the_entry_is_f_then_app_then_the_only_file() {
        let entry_of = |names: &[&str]| {
            let files: Vec<_> = names.iter().map(|name| (*name, "")).collect();
            entry(folder(&files).path()).ok()
        };
        assert_eq!(entry_of(&["app.py", "f.py", "x.py"]).as_deref(), Some("f.py"));
        assert_eq!(entry_of(&["app.py", "x.py"]).as_deref(), Some("app.py"));
        assert_eq!(entry_of(&["x.py", "data.json"]).as_deref(), Some("x.py"));
        assert_eq!(entry_of(&["x.py", "y.py"]), None);
        assert_eq!(entry_of(&[]), None);
    }

    #[test]
    fn the_most_exact_statement_wins() {
        let kind = |files: &[(&str, &str)]| match detect(folder(files).path(), "f.py").unwrap() {
            Some(Requirements::Lock(_)) => "lock",
            Some(Requirements::Script(_)) => "script",
            Some(Requirements::Pyproject(_)) => "pyproject",
            Some(Requirements::Lines(_)) => "requirements",
            _ => "none",
        };
        let all =
            [("pylock.toml", "lock"), ("f.py", HEADER), ("pyproject.toml", ""), ("requirements.txt", "")];
        assert_eq!(kind(&all), "lock");
        assert_eq!(kind(&all[1..]), "script");
        let bare = [("f.py", ""), ("pyproject.toml", ""), ("requirements.txt", "")];
        assert_eq!(kind(&bare), "pyproject");
        assert_eq!(kind(&[bare[0], bare[2]]), "requirements");
        assert_eq!(kind(&bare[..1]), "none");
    }

    #[test]
    fn a_requirements_file_reaches_no_other_file() {
        let dir = folder(&[("f.py", ""), ("requirements.txt", "six\n-r /etc/shadow\n")]);
        assert!(matches!(detect(dir.path(), "f.py"), Err(RequirementsError::Line { .. })));
    }

    #[test]
    fn a_malformed_header_is_named_with_its_file() {
        let dir = folder(&[("f.py", "# /// script\n# dependencies = [\n# ///\n")]);
        let text = detect(dir.path(), "f.py").unwrap_err().to_string();
        assert_eq!(text, "the script header of f.py is not valid");
    }
}
