//! What the user's pip is configured with (pip's documentation, "Configuration"), read without running pip.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// pip's settings that concern us.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct PipSettings {
    pub index_url: Option<String>,
    pub cert: Option<PathBuf>,
}

/// Environment variables, as a function so that tests can bring their own.
pub(super) type Environ<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Merges the configuration files, weakest first, and the environment above them.
pub(super) fn settings(environ: Environ<'_>, prefix: &Path) -> PipSettings {
    let mut merged = BTreeMap::new();
    for file in files(environ, prefix) {
        match std::fs::read_to_string(&file) {
            Ok(text) => merged.extend(options(&text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(file = %file.display(), %error, "pip's configuration cannot be read")
            }
        }
    }
    let mut setting = |name: &str, variable: &str| {
        environ(variable).filter(|text| !text.is_empty()).or_else(|| merged.remove(name))
    };
    PipSettings {
        index_url: setting("index-url", "PIP_INDEX_URL"),
        cert: setting("cert", "PIP_CERT").map(PathBuf::from),
    }
}

fn files(environ: Environ<'_>, prefix: &Path) -> Vec<PathBuf> {
    let named = environ("PIP_CONFIG_FILE").map(PathBuf::from);
    if named.as_deref() == Some(Path::new("/dev/null")) {
        return Vec::new();
    }
    let mut files: Vec<PathBuf> = environ("XDG_CONFIG_DIRS")
        .unwrap_or_else(|| "/etc/xdg".to_owned())
        .split(':')
        .filter(|dir| !dir.is_empty())
        .map(|dir| Path::new(dir).join("pip/pip.conf"))
        .collect();
    files.push(PathBuf::from("/etc/pip.conf"));
    if let Some(home) = environ("HOME").map(PathBuf::from) {
        files.push(home.join(".pip/pip.conf"));
        let user = environ("XDG_CONFIG_HOME").map_or_else(|| home.join(".config"), PathBuf::from);
        files.push(user.join("pip/pip.conf"));
    }
    files.push(prefix.join("pip.conf"));
    files.extend(environ("VIRTUAL_ENV").map(|venv| Path::new(&venv).join("pip.conf")));
    files.extend(named);
    files
}

/// `key = value` of the sections that count; `[install]` stands above `[global]`.
fn options(text: &str) -> BTreeMap<String, String> {
    let (mut section, mut global, mut install) = (String::new(), BTreeMap::new(), BTreeMap::new());
    for line in text.lines() {
        // An indented line continues the value above it: a second index URL, which we do not use.
        if line.starts_with([' ', '\t', '#', ';']) {
            continue;
        }
        if let Some(name) = line.trim_end().strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name.trim().to_ascii_lowercase();
        } else if let Some((key, value)) = line.split_once(['=', ':']) {
            let key = key.trim().to_ascii_lowercase().replace('_', "-");
            let value = value.trim().to_owned();
            match section.as_str() {
                _ if value.is_empty() => None,
                "global" => global.insert(key, value),
                "install" => install.insert(key, value),
                _ => None,
            };
        }
    }
    global.extend(install);
    global
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn install_stands_above_global_and_comments_do_not_count() {
        let text = "[global]\n# index-url = a\nindex_url = http://one/\ncert=/c.pem\n[install]\nindex-url: http://two/\n  http://three/\n[freeze]\nindex-url = no\n";
        let options = options(text);
        assert_eq!(options["index-url"], "http://two/");
        assert_eq!(options["cert"], "/c.pem");
    }

    #[test]
    fn the_environment_stands_above_the_files() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pip.conf");
        std::fs::write(&file, "[global]\nindex-url = http://file/\n").unwrap();
        let file = file.display().to_string();
        let with = |variable: Option<&str>| {
            let variable = variable.map(str::to_owned);
            let file = file.clone();
            settings(
                &move |name| match name {
                    "PIP_CONFIG_FILE" => Some(file.clone()),
                    "PIP_INDEX_URL" => variable.clone(),
                    _ => None,
                },
                Path::new("/nonexistent"),
            )
            .index_url
        };
        assert_eq!(with(None).as_deref(), Some("http://file/"));
        assert_eq!(with(Some("http://env/")).as_deref(), Some("http://env/"));
        let none = settings(&|name| (name == "PIP_CONFIG_FILE").then(|| "/dev/null".to_owned()), dir.path());
        assert_eq!(none, PipSettings::default());
    }
}
