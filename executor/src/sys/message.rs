//! Packets with descriptors, and pipes.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::Arc;

use nix::cmsg_space;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Most descriptors in one packet.
const MAX_DESCRIPTORS: usize = 16;

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

/// Receives one packet into `buffer`; 0 bytes are the end. Every descriptor that came is owned by the caller.
pub(crate) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = cmsg_space!([libc::c_int; MAX_DESCRIPTORS]);
    let mut parts = [IoSliceMut::new(buffer)];
    let message =
        recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let mut descriptors = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = control {
            // SAFETY: needed to own what the kernel just installed in this process for this message; nobody else
            // knows these numbers, so each is owned once.
            descriptors.extend(numbers.into_iter().map(|number| unsafe { OwnedFd::from_raw_fd(number) }));
        }
    }
    Ok((message.bytes, descriptors))
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
