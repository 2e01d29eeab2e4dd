//! pip's own default index. Our tree names no index: pip knows, and says it in its help.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use url::Url;

/// Runs the pip that `ensurepip` carries, for interpreters that have none installed.
const BUNDLED: &str = "\
import ensurepip, glob, os, runpy, sys
found = glob.glob(os.path.join(os.path.dirname(ensurepip.__file__), '_bundled', 'pip-*.whl'))
found += glob.glob('/usr/share/python-wheels/pip-*.whl')
sys.path.insert(0, found[0])
sys.argv = ['pip', 'download', '--help']
runpy.run_module('pip', run_name='__main__')
";

/// The default of the pip that belongs to `python`, else of one on `PATH`; remembered in `memory` (asking takes
/// half a second).
pub(super) fn default_index(python: &Path, memory: &Path) -> Option<Url> {
    let mut known: BTreeMap<PathBuf, Url> =
        std::fs::read(memory).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
    if let Some(url) = known.get(python) {
        return Some(url.clone());
    }
    let asked: [(&Path, &[&str]); 4] = [
        (python, &["-I", "-m", "pip", "download", "--help"]),
        (python, &["-I", "-c", BUNDLED]),
        (Path::new("pip3"), &["download", "--help"]),
        (Path::new("pip"), &["download", "--help"]),
    ];
    let url = asked.iter().find_map(|(program, args)| from_help(&help(program, args)?))?;
    known.insert(python.to_path_buf(), url.clone());
    if let Err(error) = remember(&known, memory) {
        tracing::debug!(%error, file = %memory.display(), "pip's default index is not remembered");
    }
    Some(url)
}

fn help(program: &Path, args: &[&str]) -> Option<String> {
    // With no configuration in sight the help names the built-in default; a wide terminal keeps it on one line.
    let output = Command::new(program)
        .args(args)
        .env("PIP_CONFIG_FILE", "/dev/null")
        .env_remove("PIP_INDEX_URL")
        .env("COLUMNS", "500")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn from_help(text: &str) -> Option<Url> {
    let option = &text[text.find("--index-url")?..];
    let words = option[option.find("(default")? + "(default".len()..].trim_start();
    Url::parse(words.split([')', ' ', '\n']).next()?).ok().filter(|url| url.has_host())
}

fn remember(known: &BTreeMap<PathBuf, Url>, memory: &Path) -> std::io::Result<()> {
    let dir = memory.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(dir)?;
    let mut temp = tempfile::NamedTempFile::new_in(dir)?;
    serde_json::to_writer(&mut temp, known)?;
    temp.persist(memory).map(|_| ()).map_err(|error| error.error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_read_from_the_help() {
        let text = "Options:\n  -i, --index-url <url>   Base URL (default\n     https://index.example/simple). This\n";
        assert_eq!(from_help(text).unwrap().as_str(), "https://index.example/simple");
        assert_eq!(from_help("Options:\n -v (default 3)\n"), None);
    }
}
