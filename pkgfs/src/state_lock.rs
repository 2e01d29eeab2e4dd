use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::mount::MountError;

const NAME: &str = "ol-pkgfs.lock";

/// One process a state folder: the kernel lets go of the lock when the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct StateLock {
    file: Flock<File>,
    state: PathBuf,
}

/// Who serves a state folder and where it can be asked; written into the lock file, so that others find a socket that
/// is not the default one.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Holder {
    pub(crate) pid: u32,
    pub(crate) socket: PathBuf,
}

/// What the lock file of `state` says. It may be left over from a killed run.
pub(crate) fn holder(state: &Path) -> Option<Holder> {
    serde_json::from_slice(&fs::read(state.join(NAME)).ok()?).ok()
}

impl StateLock {
    pub(crate) fn take(state: &Path) -> Result<StateLock, MountError> {
        let failed = |source| MountError::State { path: state.to_owned(), source };
        fs::create_dir_all(state).map_err(failed)?;
        let file = File::options().create(true).append(true).open(state.join(NAME)).map_err(failed)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => {
                file.set_len(0).map_err(failed)?;
                Ok(StateLock { file, state: state.to_owned() })
            }
            Err((_, Errno::EWOULDBLOCK)) => Err(MountError::AlreadyRunning { state: state.to_owned() }),
            Err((_, error)) => Err(failed(error.into())),
        }
    }

    /// Says where this process answers.
    pub(crate) fn announce(&self, socket: &Path) -> Result<(), MountError> {
        let holder = Holder { pid: std::process::id(), socket: socket.to_owned() };
        let text = serde_json::to_vec(&holder).map_err(io::Error::from);
        text.and_then(|text| (&*self.file).write_all(&text))
            .map_err(|source| MountError::State { path: self.state.clone(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_others_are_told_where_it_answers() {
        let dir = tempfile::tempdir().unwrap();
        for run in ["a.sock", "b"] {
            let lock = StateLock::take(dir.path()).unwrap();
            assert!(holder(dir.path()).is_none());
            let second = StateLock::take(dir.path()).unwrap_err();
            assert!(matches!(second, MountError::AlreadyRunning { .. }));
            lock.announce(Path::new(run)).unwrap();
            let found = holder(dir.path()).unwrap();
            assert_eq!((found.pid, found.socket), (std::process::id(), PathBuf::from(run)));
        }
    }
}
