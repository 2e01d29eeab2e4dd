//! Giving up power for good (`capabilities(7)`, `seccomp(2)`, `close_range(2)`).

use std::io;

/// Takes every capability out of the bounding set. Needs CAP_SETPCAP, so it comes before [`drop_capabilities`].
pub(crate) fn empty_bounding_set() -> io::Result<()> {
    for capability in 0..64 {
        // SAFETY: this prctl takes plain integers and changes only what this process may gain.
        let result = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        match super::checked(result.into()) {
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Empties the ambient, permitted, effective and inheritable sets.
pub(crate) fn drop_capabilities() -> io::Result<()> {
    // SAFETY: this prctl takes plain integers.
    let result = unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) };
    super::checked(result.into())?;
    #[repr(C)]
    struct Header {
        version: u32,
        pid: libc::c_int,
    }
    let header = Header { version: 0x2008_0522, pid: 0 };
    let sets = [0u32; 6];
    // SAFETY: capset has no wrapper; version 3 reads a header and two sets of three words, which live through the
    // call.
    super::checked(unsafe { libc::syscall(libc::SYS_capset, &header, sets.as_ptr()) })?;
    Ok(())
}

/// Loads a seccomp filter, given as the kernel's 8-byte instructions. Needs no_new_privs or CAP_SYS_ADMIN.
pub(crate) fn filter_calls(program: &[u8]) -> io::Result<()> {
    let mut instructions: Vec<libc::sock_filter> = program
        .chunks_exact(8)
        .map(|each| libc::sock_filter {
            code: u16::from_ne_bytes([each[0], each[1]]),
            jt: each[2],
            jf: each[3],
            k: u32::from_ne_bytes([each[4], each[5], each[6], each[7]]),
        })
        .collect();
    let filter = libc::sock_fprog {
        len: u16::try_from(instructions.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?,
        filter: instructions.as_mut_ptr(),
    };
    // SAFETY: seccomp has no wrapper; the program and its length belong together and live through the call.
    super::checked(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &filter) })?;
    Ok(())
}

/// Puts `from` at the number `to`, kept over exec; what was there is closed.
pub(crate) fn place(from: impl std::os::fd::AsFd, to: i32) -> io::Result<()> {
    // SAFETY: needed to build the descriptor table of a program about to be executed; no Rust value owns the
    // number `to` in that stage (see stage::launch).
    let result = unsafe { libc::dup3(std::os::fd::AsRawFd::as_raw_fd(&from.as_fd()), to, 0) };
    super::checked(result.into())?;
    Ok(())
}

/// Marks every descriptor from `first` up to be closed by exec.
pub(crate) fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: close_range with CLOEXEC closes nothing now, so no owned descriptor becomes invalid.
    super::checked(unsafe {
        libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC)
    })?;
    Ok(())
}
