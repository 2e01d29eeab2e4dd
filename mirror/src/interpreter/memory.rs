//! Answers of interpreters, remembered for as long as the executable and the kernel are the same.

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::Interpreter;
use crate::{Sha256, files};

/// Where the answer of the interpreter at `path` is remembered; `None` for what must be asked each time, such as a
/// shim, whose answer depends on more than itself.
pub(super) fn file(dir: &Path, path: &Path) -> Option<PathBuf> {
    let real = path.canonicalize().ok()?;
    let mut start = [0; 4];
    std::fs::File::open(&real).ok()?.read_exact(&mut start).ok()?;
    if start != *b"\x7fELF" {
        return None;
    }
    let about = std::fs::metadata(&real).ok()?;
    // The kernel's release is one of the environment markers.
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
    let facts = format!(
        "{}\n{}\n{}\n{}\n{}\n{kernel}\n{}",
        real.display(),
        about.ino(),
        about.size(),
        about.mtime(),
        about.mtime_nsec(),
        env!("CARGO_PKG_VERSION")
    );
    Some(dir.join(format!("{}.json", Sha256::of(facts.as_bytes()))))
}

pub(super) fn recall(file: &Path) -> Option<Interpreter> {
    let known: Interpreter = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
    known.path.is_file().then_some(known)
}

/// A failure costs asking again, nothing else.
pub(super) fn keep(file: &Path, found: &Interpreter) {
    let written = serde_json::to_vec(found).map_err(std::io::Error::from).and_then(|text| {
        std::fs::create_dir_all(file.parent().unwrap_or(Path::new("/")))?;
        files::write_durably(file, &text)
    });
    if let Err(error) = written {
        tracing::debug!(file = %file.display(), %error, "an interpreter's answer is not remembered");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_executable_is_remembered_until_it_changes_and_a_shim_never() {
        let dir = tempfile::tempdir().unwrap();
        let python = Interpreter::find(None).unwrap();
        let known = file(dir.path(), &python.path).unwrap();
        assert_eq!(recall(&known), None);
        keep(&known, &python);
        assert_eq!(recall(&known), Some(python.clone()));
        let copy = dir.path().join("python3");
        std::fs::copy(&python.path, &copy).unwrap();
        assert_ne!(file(dir.path(), &copy).unwrap(), known);
        let shim = dir.path().join("shim");
        std::fs::write(&shim, "#!/bin/sh\nexec python3 \"$@\"\n").unwrap();
        assert_eq!(file(dir.path(), &shim), None);
        std::fs::write(&known, "{").unwrap();
        assert_eq!(recall(&known), None);
    }
}
