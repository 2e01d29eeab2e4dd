//! Packets with descriptors, and pipes.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::Arc;

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Most descriptors in one packet, the kernel's SCM_MAX_FD.
const MAX_DESCRIPTORS: usize = 253;

/// Sends one packet with descriptors.
pub(crate) fn send(socket: BorrowedFd<'_>, packet: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let numbers: Vec<_> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&numbers)];
    let control = if numbers.is_empty() { &rights[..0] } else { &rights[..] };
    sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(packet)], control, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}

/// A copy of a descriptor with a number from `first` up, closed by exec.
pub(crate) fn duplicate_from(descriptor: impl AsFd, first: libc::c_int) -> io::Result<OwnedFd> {
    let number = fcntl(descriptor, FcntlArg::F_DUPFD_CLOEXEC(first))?;
    // SAFETY: the kernel has just made this number for us, and it has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Room for the control data of one packet, as `u64` for its alignment. A sender chooses how many descriptors come: with
/// room for the most that the kernel passes at once, none is cut off for want of it.
const CONTROL_WORDS: usize = {
    // SAFETY: computes a size from a number.
    let bytes = unsafe { libc::CMSG_SPACE((MAX_DESCRIPTORS * size_of::<libc::c_int>()) as u32) } as usize;
    bytes.div_ceil(size_of::<u64>())
};

/// Receives one packet into `buffer`; 0 bytes are the end. Every descriptor that came is owned by the caller, or closed
/// where this is an error.
pub(crate) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut control = [0u64; CONTROL_WORDS];
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: a plain structure of the C library, for which zeros are valid.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of_val(&control) as _;
    // SAFETY: the header points at `buffer` and `control`, both alive and writable for the lengths given. Not nix's
    // wrapper: it gives no access to the descriptors of a packet that was cut off, which nobody would close then.
    let size =
        super::checked(
            unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_CMSG_CLOEXEC) }
                as libc::c_long,
        )?;
    let descriptors = passed(&header);
    // The kernel installs as many as fit, and as this process may still open.
    if header.msg_flags & libc::MSG_CTRUNC != 0 {
        return Err(io::Error::other("descriptors of a packet were cut off"));
    }
    Ok((usize::try_from(size).unwrap_or(0), descriptors))
}

/// Takes over the descriptors that a received header names.
fn passed(header: &libc::msghdr) -> Vec<OwnedFd> {
    let mut descriptors = Vec::new();
    // SAFETY: walks the control data that the kernel has just written, within the length that it has set; each number
    // was installed in this process for this message, nobody else knows it, and it is owned once.
    unsafe {
        let mut control = libc::CMSG_FIRSTHDR(header);
        while let Some(part) = control.as_ref() {
            if part.cmsg_level == libc::SOL_SOCKET && part.cmsg_type == libc::SCM_RIGHTS {
                let bytes = part.cmsg_len - libc::CMSG_LEN(0) as usize;
                let numbers = libc::CMSG_DATA(control).cast::<libc::c_int>();
                for index in 0..bytes / size_of::<libc::c_int>() {
                    descriptors.push(OwnedFd::from_raw_fd(numbers.add(index).read_unaligned()));
                }
            }
            control = libc::CMSG_NXTHDR(header, control);
        }
    }
    descriptors
}

/// How many bytes wait in a pipe.
pub(crate) fn bytes_waiting(pipe: impl AsFd) -> io::Result<usize> {
    let mut count: libc::c_int = 0;
    // SAFETY: FIONREAD has no wrapper; it writes one int, to a place that lives through the call.
    let result = unsafe { libc::ioctl(pipe.as_fd().as_raw_fd(), libc::FIONREAD, &mut count) };
    super::checked(result.into())?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// A descriptor that tokio waits on.
pub(crate) fn watch(descriptor: Arc<OwnedFd>, interest: Interest) -> io::Result<AsyncFd<Arc<OwnedFd>>> {
    // SAFETY: asks that the descriptor stays open and the same for as long as it is registered; an OwnedFd that is
    // only ever shared does.
    Ok(unsafe { AsyncFd::register_with_interest(descriptor, interest) }?)
}

#[cfg(test)]
mod tests {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    use super::*;

    /// Tells apart what this test opens from what others in this process do.
    fn open_copies_of(path: &std::path::Path) -> usize {
        let links = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        links.filter(|entry| std::fs::read_link(entry.path()).is_ok_and(|target| target == path)).count()
    }

    #[test]
    fn descriptors_of_a_packet_are_owned_however_many_come() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().canonicalize().unwrap();
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap();
        for count in [1, 17, MAX_DESCRIPTORS] {
            send(theirs.as_fd(), b"x", &vec![file.as_fd(); count]).unwrap();
            let (size, received) = receive(ours.as_fd(), &mut [0; 8]).unwrap();
            assert_eq!((size, received.len(), open_copies_of(&path)), (1, count, count + 1));
        }
        assert_eq!(open_copies_of(&path), 1);
        let name = "sys::message::tests::a_full_table_of_descriptors";
        let run = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", name])
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&run.stdout).into_owned();
        assert!(run.status.success() && told.contains("1 passed"), "{told}");
    }

    /// The other reason for the kernel to cut off: this process may open no more.
    #[test]
    #[ignore = "run by descriptors_of_a_packet_are_owned_however_many_come, in a process of its own"]
    fn a_full_table_of_descriptors() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().canonicalize().unwrap();
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap();
        send(theirs.as_fd(), b"x", &vec![file.as_fd(); 200]).unwrap();
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, 100, hard).unwrap();
        let cut_off = receive(ours.as_fd(), &mut [0; 8]);
        setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
        assert!(cut_off.is_err());
        assert_eq!(open_copies_of(&path), 1);
    }
}
