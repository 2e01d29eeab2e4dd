//! The small files of a wheel's `.dist-info` folder that decide how it is laid out: WHEEL and entry_points.txt.

use serde::{Deserialize, Serialize};

/// Most console and GUI scripts of one wheel.
const MAX_SCRIPTS: usize = 1_000;

/// A script an installer makes: `name` runs `module`'s `function`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Script {
    pub(crate) name: String,
    pub(crate) module: String,
    pub(crate) function: String,
}

/// Why a wheel's dist-info cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DistInfoError {
    #[error("WHEEL has no Wheel-Version")]
    NoVersion,
    #[error("WHEEL has version {0}; 1.x is understood")]
    NewerVersion(String),
    #[error("entry_points.txt defines `{0}`, which is no script that can be made")]
    BadScript(String),
    #[error("entry_points.txt defines more than {MAX_SCRIPTS} scripts")]
    TooManyScripts,
}

/// Checks WHEEL; gives whether its version is a newer minor one, which is worth a warning.
pub(crate) fn check_wheel(text: &str) -> Result<bool, DistInfoError> {
    let version = text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim().eq_ignore_ascii_case("Wheel-Version"))
        .map(|(_, value)| value.trim())
        .ok_or(DistInfoError::NoVersion)?;
    let (major, minor) = version.split_once('.').unwrap_or((version, "0"));
    if major == "1" { Ok(minor != "0") } else { Err(DistInfoError::NewerVersion(version.to_owned())) }
}

/// The scripts in entry_points.txt (an INI file: the entry points specification).
pub(crate) fn scripts(text: &str) -> Result<Vec<Script>, DistInfoError> {
    let mut found: Vec<Script> = Vec::new();
    let mut wanted = false;
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(section) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            wanted = matches!(section.trim(), "console_scripts" | "gui_scripts");
        } else if wanted {
            let script = script(line).ok_or_else(|| DistInfoError::BadScript(line.to_owned()))?;
            found.retain(|known| known.name != script.name);
            found.push(script);
            if found.len() > MAX_SCRIPTS {
                return Err(DistInfoError::TooManyScripts);
            }
        }
    }
    Ok(found)
}

/// `name = package.module:object.attribute [extras]`
fn script(line: &str) -> Option<Script> {
    let (name, target) = line.split_once('=')?;
    let target = target.split('[').next()?.trim();
    let (module, function) = target.split_once(':')?;
    let (name, module, function) = (name.trim(), module.trim(), function.trim());
    // These become a file name and Python source: nothing but plain names may pass.
    let named = !name.is_empty()
        && !name.starts_with('.')
        && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | '+'));
    (named && dotted(module) && dotted(function)).then(|| Script {
        name: name.to_owned(),
        module: module.to_owned(),
        function: function.to_owned(),
    })
}

/// Identifiers with dots between them.
fn dotted(text: &str) -> bool {
    text.split('.').all(identifier)
}

/// Whether `text` can be a Python identifier (keywords aside).
pub(crate) fn identifier(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(|c: char| c.is_numeric())
        && text.chars().all(|c| c.is_alphanumeric() || c == '_')
}

/// Runs the `python` beside the script, wherever the environment is mounted: to the shell the first two lines are
/// an `exec`, to Python they are a string.
const LAUNCHER: &str =
    "#!/bin/sh\n'''exec' \"$(dirname -- \"$(realpath -- \"$0\")\")/python\" \"$0\" \"$@\"\n' '''\n";

impl Script {
    /// The file an installer would write.
    pub(crate) fn text(&self) -> String {
        let Script { module, function, .. } = self;
        let object = function.split('.').next().unwrap_or_default();
        format!(
            "{LAUNCHER}import sys\n\nfrom {module} import {object}\n\nif __name__ == \"__main__\":\n    sys.exit({function}())\n"
        )
    }
}

/// A script of `.data/scripts` whose first line is `#!python…`, made to run the environment's Python.
pub(crate) fn relaunch(source: &str) -> Option<String> {
    let (first, rest) = source.split_once('\n').unwrap_or((source, ""));
    first.starts_with("#!python").then(|| format!("{LAUNCHER}{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wheel_versions() {
        assert_eq!(check_wheel("Wheel-Version: 1.0\nTag: x\n"), Ok(false));
        assert_eq!(check_wheel("wheel-version: 1.9\r\n"), Ok(true));
        assert_eq!(check_wheel("Wheel-Version: 2.0\n"), Err(DistInfoError::NewerVersion("2.0".into())));
        assert_eq!(check_wheel("Tag: x\n"), Err(DistInfoError::NoVersion));
    }

    #[test]
    fn scripts_are_read_from_both_sections() {
        let text = "[console_scripts]\n# comment\nf2py = numpy.f2py:main\n a-b=m:C.run [extra]\n[other]\nx = y\n\
                    [gui_scripts]\ng = m:g\n";
        let found = scripts(text).unwrap();
        let names: Vec<_> =
            found.iter().map(|s| (s.name.as_str(), s.module.as_str(), s.function.as_str())).collect();
        assert_eq!(names, [("f2py", "numpy.f2py", "main"), ("a-b", "m", "C.run"), ("g", "m", "g")]);
    }

    #[test]
    fn scripts_that_would_inject_are_refused() {
        for line in
            ["../x = m:f", "x = m:f()", "x = m;import os:f", "x = m", "x y = m:f", ".x = m:f", "x = :f"]
        {
            let text = format!("[console_scripts]\n{line}\n");
            assert_eq!(scripts(&text), Err(DistInfoError::BadScript(line.into())), "{line}");
        }
    }

    #[test]
    fn only_python_scripts_are_rewritten() {
        assert!(relaunch("#!python\nprint(1)\n").unwrap().ends_with("' '''\nprint(1)\n"));
        assert!(relaunch("#!pythonw\n").is_some());
        assert_eq!(relaunch("#!/bin/sh\n"), None);
        assert_eq!(relaunch("\u{7f}ELF"), None);
    }
}
