use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// The sole right to run sandboxes from a state folder. The kernel takes it back when the process ends, however it
/// ends, so what a killed run left can be told from what a live one uses.
#[derive(Debug)]
pub struct StateLock {
    _file: Flock<File>,
}

/// Why the lock was not had.
#[derive(Debug, thiserror::Error)]
pub enum StateLockError {
    /// Somebody else has it.
    #[error(
        "another ol-exec ({holder}) runs with the state folder {state}; stop it, or name another folder with --state \
        (and another --mount and --listen)"
    )]
    Taken {
        /// `pid 123`, as far as it is known.
        holder: String,
        /// The folder.
        state: PathBuf,
    },
    /// The folder or file cannot be used.
    #[error("the state folder {state} cannot be used; name a writable one with --state")]
    Io {
        /// The folder.
        state: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl StateLock {
    /// Takes the lock of `state` if it is free; makes the folder.
    ///
    /// # Errors
    /// See [`StateLockError`].
    pub fn take(state: &Path) -> Result<StateLock, StateLockError> {
        let failed = |source| StateLockError::Io { state: state.to_path_buf(), source };
        std::fs::create_dir_all(state).map_err(failed)?;
        let path = state.join("ol-exec.lock");
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        match Flock::lock(open.map_err(failed)?, FlockArg::LockExclusiveNonblock) {
            Ok(mut file) => {
                file.set_len(0).map_err(failed)?;
                write!(file, "pid {}", std::process::id()).map_err(failed)?;
                Ok(StateLock { _file: file })
            }
            Err((mut file, Errno::EWOULDBLOCK)) => {
                Err(StateLockError::Taken { holder: holder(&mut file), state: state.to_path_buf() })
            }
            Err((_, error)) => Err(failed(error.into())),
        }
    }
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.take(64).read_to_string(&mut text));
    if read.is_ok() && text.starts_with("pid ") { text } else { "pid unknown".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_the_other_is_told_who() {
        let dir = tempfile::tempdir().unwrap();
        let first = StateLock::take(dir.path()).unwrap();
        let text = StateLock::take(dir.path()).unwrap_err().to_string();
        assert!(text.contains(&format!("(pid {})", std::process::id())), "{text}");
        drop(first);
        StateLock::take(dir.path()).unwrap();
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        let text = StateLock::take(&dir.path().join("file/state")).unwrap_err().to_string();
        assert!(text.contains("file/state") && text.contains("--state"), "{text}");
    }
}
