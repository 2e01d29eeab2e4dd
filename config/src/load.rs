use std::path::{Path, PathBuf};

use toml::{Table, Value};

use crate::Settings;

/// The configuration file that is read where `--config` names none and it exists.
pub const SYSTEM_FILE: &str = "/etc/ol/ol.toml";

const DEFAULTS: [(&str, &str); 4] = [
    ("default/ol.toml", include_str!("../default/ol.toml")),
    ("default/mirror.toml", include_str!("../default/mirror.toml")),
    ("default/pkgfs.toml", include_str!("../default/pkgfs.toml")),
    ("default/executor.toml", include_str!("../default/executor.toml")),
];

/// Why settings could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("configuration file {path} cannot be read; name an existing file with --config")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file is not TOML, or a key or value in it is not one of ours.
    #[error("configuration file {path} is not valid; the keys are those of config/default/*.toml")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and what.
        source: Box<toml::de::Error>,
    },
}

/// Defaults, overlaid by the file named (or [`SYSTEM_FILE`] where that exists).
pub(crate) fn settings(file: Option<&Path>) -> Result<Settings, ConfigError> {
    let mut table = Table::new();
    for (name, text) in DEFAULTS {
        overlay(&mut table, parse(Path::new(name), text)?);
    }
    let mut origin = PathBuf::from("config/default");
    let system = Path::new(SYSTEM_FILE);
    if let Some(path) = file.or_else(|| system.exists().then_some(system)) {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_path_buf(), source })?;
        overlay(&mut table, parse(path, &text)?);
        origin = path.to_path_buf();
    }
    Value::Table(table)
        .try_into()
        .map_err(|source| ConfigError::Parse { path: origin, source: Box::new(source) })
}

fn parse(path: &Path, text: &str) -> Result<Table, ConfigError> {
    text.parse().map_err(|source| ConfigError::Parse { path: path.to_path_buf(), source: Box::new(source) })
}

/// Tables merge key by key; anything else is replaced.
fn overlay(base: &mut Table, upper: Table) {
    for (key, value) in upper {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => overlay(below, above),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_text(text: &str) -> Result<Settings, ConfigError> {
        let dir = std::env::temp_dir().join(format!("ol-config-{}-{}", std::process::id(), text.len()));
        std::fs::write(&dir, text).unwrap();
        let loaded = settings(Some(&dir));
        std::fs::remove_file(&dir).unwrap();
        loaded
    }

    #[test]
    fn the_shipped_defaults_are_complete() {
        let loaded = from_text("").unwrap();
        assert_eq!(loaded.state, Path::new("/var/lib/ol"));
        assert_eq!(loaded.mount, Path::new("/ol/packages"));
    }

    #[test]
    fn a_file_overrides_single_keys_of_a_section() {
        let loaded = from_text("state = \"/x\"\n[executor]\nlisten = \"127.0.0.1:1\"\n").unwrap();
        assert_eq!(loaded.state, Path::new("/x"));
        assert_eq!(loaded.executor.listen.port(), 1);
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let error = from_text("[executor]\nlisten_on = 1\n").unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("listen_on"), "{cause}");
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = settings(Some(Path::new("/nonexistent/ol.toml"))).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/ol.toml"), "{error}");
    }
}
