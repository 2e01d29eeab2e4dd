//! The first process of the one PID namespace that all zygotes share. It waits, for the kernel ends every process of
//! the namespace, and of those nested in it, when it ends: and it ends when the daemon's end of its socket closes,
//! however that came about.

use std::os::fd::BorrowedFd;

use nix::sched::{CloneFlags, unshare};

use super::{Failure, become_sibling, step};
use crate::sys::{message, privilege, process};

pub(super) fn run(socket: BorrowedFd<'_>) -> Result<(), Failure> {
    step("unshare_pid", unshare(CloneFlags::CLONE_NEWPID))?;
    become_sibling(socket)?;
    // Orphans become its children; with SIGCHLD ignored the kernel reaps them at once.
    step("ignore_child_signals", process::ignore_child_signals())?;
    step("change_folder", std::env::set_current_dir("/"))?;
    step("new_session", nix::unistd::setsid())?;
    step("empty_bounding_set", privilege::empty_bounding_set())?;
    step("drop_capabilities", privilege::drop_capabilities())?;
    step("say_ready", message::send(socket, b"R", &[]))?;
    step("wait", message::receive(socket, &mut [0]).map(drop))
}
