//! Making, naming and ending processes by pidfd, and writing id maps.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, pthread_sigmask, signal};

/// What [`clone_sibling`] returns, and where.
pub(crate) enum Cloned {
    /// In the process that called.
    Caller {
        /// The new process.
        pidfd: OwnedFd,
    },
    /// In the new process.
    Child,
}

/// Forks a process whose parent is the caller's parent, in the PID namespace set by `setns` or `unshare` before.
///
/// Only for a stage: a process that was just executed and has one thread, so that the copy is whole.
pub(crate) fn clone_sibling() -> io::Result<Cloned> {
    let mut pidfd: libc::c_int = -1;
    let flags = (libc::CLONE_PARENT | libc::CLONE_PIDFD) as u64;
    let arguments: [u64; 8] = [flags, (&raw mut pidfd) as u64, 0, 0, 0, 0, 0, 0];
    // SAFETY: clone3 has no wrapper. Without CLONE_VM the child has its own memory, and with one thread in the
    // caller no lock is held by a thread that the copy lacks. The arguments have the kernel's layout (version 0).
    let pid = super::checked(unsafe {
        libc::syscall(libc::SYS_clone3, arguments.as_ptr(), size_of_val(&arguments))
    })?;
    if pid == 0 {
        return Ok(Cloned::Child);
    }
    // SAFETY: a descriptor that the kernel just made for us.
    Ok(Cloned::Caller { pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } })
}

/// A descriptor for the process that has this number now.
pub(crate) fn open(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open has no wrapper; it takes plain integers.
    let fd = super::checked(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: a descriptor that the kernel just made for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) })
}

/// Lets the kernel reap children at once, whatever they are and whoever their parent was before.
pub(crate) fn ignore_child_signals() -> io::Result<()> {
    // SAFETY: ignoring a signal installs no handler that could run anywhere.
    unsafe { signal(Signal::SIGCHLD, SigHandler::SigIgn) }?;
    Ok(())
}

/// Sends SIGKILL. Whether the process lives is for `waitid` to tell, so an error says nothing more.
pub(crate) fn kill(pidfd: impl AsFd) {
    let none: *const libc::siginfo_t = std::ptr::null();
    // SAFETY: pidfd_send_signal has no wrapper; a null siginfo is what kill(2) would send.
    unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_fd().as_raw_fd(), libc::SIGKILL, none, 0);
    }
}

/// The id map files of one process and what goes into them.
pub(crate) struct IdMaps {
    setgroups: CString,
    uid_map: CString,
    gid_map: CString,
    line: String,
}

impl IdMaps {
    /// `count` ids from `inside` up stand for those from `outside` up, for users and groups alike.
    pub(crate) fn new(pid: u32, inside: u32, outside: u32, count: u32) -> IdMaps {
        let path = |file| CString::new(format!("/proc/{pid}/{file}")).unwrap_or_default();
        IdMaps {
            setgroups: path("setgroups"),
            uid_map: path("uid_map"),
            gid_map: path("gid_map"),
            line: format!("{inside} {outside} {count}"),
        }
    }

    /// Writes them with system calls alone, for [`IdMaps::write_within`]. Returns 0 or an errno.
    fn write(&self) -> libc::c_int {
        let files = [
            (&self.setgroups, b"deny".as_slice()),
            (&self.uid_map, self.line.as_bytes()),
            (&self.gid_map, self.line.as_bytes()),
        ];
        for (path, content) in files {
            // SAFETY: plain open/write/close on a C string and a slice that live through the calls; wrappers that
            // allocate must not be used here.
            unsafe {
                let fd = libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
                if fd < 0 {
                    return *libc::__errno_location();
                }
                let written = libc::write(fd, content.as_ptr().cast(), content.len());
                let error = *libc::__errno_location();
                libc::close(fd);
                if written < 0 {
                    return error;
                }
            }
        }
        0
    }

    /// Writes the maps of a process whose user namespace is a child of ours.
    pub(crate) fn write_here(&self) -> io::Result<()> {
        match self.write() {
            0 => Ok(()),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }

    /// Writes the maps of a process whose user namespace is a child of `parent`.
    ///
    /// The kernel takes a map only from a process in the namespace itself or in its parent, and a process with
    /// threads cannot enter one. So a child that shares our memory does it, as posix_spawn's does, and we wait.
    pub(crate) fn write_within(&self, parent: BorrowedFd<'_>) -> io::Result<()> {
        const STACK_WORDS: usize = 8 * 1024;
        let mut stack = vec![0u128; STACK_WORDS];
        let mut job = Job { maps: self, namespace: parent.as_raw_fd(), error: 0 };
        let mut before = SigSet::empty();
        // No signal handler may run in the child: it would run in our memory.
        pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), Some(&mut before))?;
        // SAFETY: CLONE_VFORK suspends this thread until the child has ended, so `stack` and `job` outlive it; the
        // child makes system calls only; exit signal 0 keeps it from those who wait for children without __WALL.
        let pid = unsafe {
            let top = stack.as_mut_ptr().add(STACK_WORDS);
            let flags = libc::CLONE_VM | libc::CLONE_VFORK;
            libc::clone(write_in_child, top.cast(), flags, (&raw mut job).cast())
        };
        let error = io::Error::last_os_error();
        let restored = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&before), None);
        if pid < 0 {
            return Err(error);
        }
        // SAFETY: reaps the child just made; a null status is allowed.
        unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::__WALL) };
        restored?;
        if job.error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(job.error)) }
    }
}

/// What [`IdMaps::write_within`] shares with its child.
struct Job<'a> {
    maps: &'a IdMaps,
    namespace: libc::c_int,
    error: libc::c_int,
}

extern "C" fn write_in_child(argument: *mut libc::c_void) -> libc::c_int {
    // SAFETY: the caller passes a Job that outlives this child, and is suspended while it runs.
    let job = unsafe { &mut *argument.cast::<Job<'_>>() };
    // SAFETY: system calls alone; this child has its own file system state and one thread, as setns asks.
    job.error = unsafe {
        if libc::setns(job.namespace, libc::CLONE_NEWUSER) < 0 {
            *libc::__errno_location()
        } else {
            job.maps.write()
        }
    };
    0
}
