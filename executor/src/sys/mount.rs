//! The mount calls that work on descriptors (`open_tree(2)`, `move_mount(2)`, `mount_setattr(2)`).

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What a mount forbids.
#[derive(Clone, Copy)]
pub(crate) struct Forbid {
    /// Device files.
    pub devices: bool,
}

#[repr(C)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    userns: u64,
}

const READ_ONLY: u64 = 0x1;
const NO_SUID: u64 = 0x2;
const NO_DEV: u64 = 0x4;

fn text(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}

/// A detached copy of what is mounted at `path`; `whole` with all mounts below it. No mount table shows it, and it
/// ends with its last descriptor.
pub(crate) fn detached(path: &Path, whole: bool) -> io::Result<OwnedFd> {
    let path = text(path)?;
    let flags = libc::OPEN_TREE_CLONE
        | libc::OPEN_TREE_CLOEXEC
        | if whole { libc::AT_RECURSIVE as libc::c_uint } else { 0 };
    // SAFETY: open_tree has no wrapper; the path is a C string that lives through the call.
    let fd =
        super::checked(unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) })?;
    // SAFETY: a descriptor that the kernel just made for us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) })
}

/// Makes one mount read-only and without set-user-id, and without devices if asked. (Not the mounts below it.)
pub(crate) fn forbid(tree: impl AsFd, forbid: Forbid) -> io::Result<()> {
    let attributes = MountAttributes {
        set: READ_ONLY | NO_SUID | if forbid.devices { NO_DEV } else { 0 },
        clear: 0,
        propagation: 0,
        userns: 0,
    };
    // SAFETY: mount_setattr has no wrapper; the struct has the kernel's layout (MOUNT_ATTR_SIZE_VER0) and lives
    // through the call.
    super::checked(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &attributes,
            size_of::<MountAttributes>(),
        )
    })?;
    Ok(())
}

/// Puts a detached mount at `path`.
pub(crate) fn attach(tree: impl AsFd, path: &Path) -> io::Result<()> {
    let path = text(path)?;
    const FROM_EMPTY_PATH: libc::c_uint = 4;
    // SAFETY: move_mount has no wrapper; both paths are C strings that live through the call.
    super::checked(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            path.as_ptr(),
            FROM_EMPTY_PATH,
        )
    })?;
    Ok(())
}
