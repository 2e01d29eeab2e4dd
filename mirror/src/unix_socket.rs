use std::io;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

/// Makes `path` free to be listened on: its folder is made, and a socket that nobody answers on, left over from a
/// killed run, is removed. Anything else that is there stays, and binding will fail.
///
/// # Errors
/// Somebody answers there (`AddrInUse`), or the folder or the socket cannot be made or removed.
pub fn clear_stale_socket(path: &Path) -> io::Result<()> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    if !std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        return Ok(());
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        // Nothing is known of it (no rights, a full backlog): it stays.
        Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn only_a_socket_that_nobody_answers_on_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("made/s");
        clear_stale_socket(&path).unwrap();
        let listener = UnixListener::bind(&path).unwrap();
        assert_eq!(clear_stale_socket(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(listener);
        clear_stale_socket(&path).unwrap();
        assert!(!path.exists());
        std::fs::write(&path, "mine").unwrap();
        clear_stale_socket(&path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    }
}
