use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::{ExecutorSettings, MirrorSettings, PkgfsSettings};

/// Which program reads the settings: it decides the default socket and address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// `ol-mirror`
    Mirror,
    /// `ol-pkgfs`
    Pkgfs,
    /// `ol-exec`
    Exec,
}

impl Program {
    /// The program's name as its users type it.
    pub fn name(self) -> &'static str {
        match self {
            Program::Mirror => "ol-mirror",
            Program::Pkgfs => "ol-pkgfs",
            Program::Exec => "ol-exec",
        }
    }
}

/// Everything that can be set, after all layers were merged. One value serves all three programs.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Folder of everything that must survive a restart.
    pub state: PathBuf,
    /// Where the package file system is mounted.
    pub mount: PathBuf,
    /// TCP address given by flag, environment or file; `None` means the program's own default.
    pub listen: Option<SocketAddr>,
    /// Unix socket given by flag, environment or file; `None` means `<state>/<program>.sock`.
    pub socket: Option<PathBuf>,
    /// Upstream index (PEP 503/691 root); `None` means what the user's pip would use.
    pub index_url: Option<String>,
    /// Base interpreter of environments and sandboxes; `None` means `python3` on `PATH`.
    pub python: Option<PathBuf>,
    /// Section `[mirror]`.
    pub mirror: MirrorSettings,
    /// Section `[pkgfs]`.
    pub pkgfs: PkgfsSettings,
    /// Section `[executor]`.
    pub executor: ExecutorSettings,
}

impl Settings {
    /// The unix socket of `program`.
    pub fn socket_of(&self, program: Program) -> PathBuf {
        self.socket.clone().unwrap_or_else(|| self.default_socket_of(program))
    }

    /// The unix socket that `program` uses where none is set; how one program finds another's.
    pub fn default_socket_of(&self, program: Program) -> PathBuf {
        self.state.join(format!("{}.sock", program.name()))
    }

    /// The TCP address of `program`; `None` where it listens on its unix socket only.
    pub fn listen_of(&self, program: Program) -> Option<SocketAddr> {
        self.listen.or(match program {
            Program::Mirror => Some(self.mirror.listen),
            Program::Exec => Some(self.executor.listen),
            Program::Pkgfs => None,
        })
    }

    /// A folder of `name` below the state folder.
    pub fn state_dir(&self, name: &str) -> PathBuf {
        self.state.join(name)
    }

    /// Absolute form of a path a user may have given relative to the working directory.
    pub(crate) fn absolute(path: &Path) -> PathBuf {
        std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
    }
}
