#![expect(
    unsafe_code,
    reason = "code between fork and exec can only be given to the standard library in an unsafe block"
)]
//! The one thing that must be done in a child before it runs our program.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use nix::sys::signal::Signal;

/// Has the kernel end the child in the orderly way when the thread that spawns it dies, however it dies.
pub(crate) fn end_with_parent(command: &mut Command) {
    // SAFETY: needed because nothing but prctl in the child itself can set its death signal; sound because the
    // closure makes that one system call, which allocates nothing and takes no lock.
    unsafe {
        command.pre_exec(|| nix::sys::prctl::set_pdeathsig(Signal::SIGTERM).map_err(io::Error::from));
    }
}
