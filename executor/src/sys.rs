//! Raw kernel calls of this crate that have no safe wrapper in `nix`, each small enough to check by eye.
#![expect(unsafe_code, reason = "the one place of this crate for raw system calls")]

pub(crate) mod message;
pub(crate) mod mount;
pub(crate) mod privilege;
pub(crate) mod process;

use std::io;

/// The C convention as a Rust one.
fn checked(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
