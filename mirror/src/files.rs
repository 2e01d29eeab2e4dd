//! Durable writes: a file has its whole new content or its old one, also after a power cut.

use std::fs::{File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::NamedTempFile;

/// Writes `content` to `path`, whose folder must exist.
pub(crate) fn write_durably(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let mut temp = tempfile::Builder::new().prefix(".part-").tempfile_in(folder(path))?;
    temp.write_all(content)?;
    commit(temp, path, 0o644)
}

/// Gives a finished temporary file its name and mode.
pub(crate) fn commit(temp: NamedTempFile, path: &Path, mode: u32) -> std::io::Result<()> {
    temp.as_file().set_permissions(Permissions::from_mode(mode))?;
    temp.as_file().sync_all()?;
    temp.persist(path).map_err(|error| error.error)?;
    File::open(folder(path))?.sync_all()
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
