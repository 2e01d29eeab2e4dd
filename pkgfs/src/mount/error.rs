use std::io;
use std::path::PathBuf;

/// Why the package file system cannot be mounted.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message says what its fields are")]
pub enum MountError {
    #[error("mounting needs root; run it as root, or start `ol-pkgfs mount` as root once and use that")]
    NotRoot,
    #[error(
        "/dev/fuse cannot be opened; load the kernel module (`modprobe fuse`), or pass the device into the container"
    )]
    NoFuse(#[source] io::Error),
    #[error("the mount point {point} cannot be made; name another folder with --mount")]
    Folder { point: PathBuf, source: io::Error },
    #[error("the mount point {point} is not a folder; name another one with --mount")]
    NotFolder { point: PathBuf },
    #[error(
        "the mount point {point} is not empty, its files would be hidden; name an empty folder with --mount"
    )]
    NotEmpty { point: PathBuf },
    #[error(
        "the mount point {point} is in use by {device} (type {kind}), which is not ours; name another folder with --mount"
    )]
    Foreign { point: PathBuf, kind: String, device: String },
    #[error(
        "the mount point {point} is served by another ol program with another state folder; stop that, or name another folder with --mount"
    )]
    InUse { point: PathBuf },
    #[error("nothing is mounted at {point}")]
    NothingThere { point: PathBuf },
    #[error("{point} cannot be mounted or unmounted")]
    Failed { point: PathBuf, source: io::Error },
    #[error("the state folder {path} cannot be used; name another one with --state")]
    State { path: PathBuf, source: io::Error },
    #[error(
        "another ol program already serves the state folder {state}; stop it, or name another folder with --state"
    )]
    AlreadyRunning { state: PathBuf },
    #[error(
        "something else is already at {path}, where the control socket belongs; name another one with --socket"
    )]
    SocketTaken { path: PathBuf },
    #[error("the control socket {path} cannot be made; name another one with --socket")]
    Socket { path: PathBuf, source: io::Error },
}
