use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socketpair, sockopt::ReceiveTimeout};
use nix::sys::time::TimeVal;

use super::child::finish;
use super::stage::{Failure, MAX_PACKET, STAGE};
use crate::sys::message;

/// A stage that has done its work.
pub(super) struct StageRun {
    /// The process it became.
    pub pidfd: OwnedFd,
    /// Our end of its socket.
    pub socket: OwnedFd,
}

/// One packet of an order.
pub(super) type Packet<'a> = (&'a [u8], &'a [BorrowedFd<'a>]);

/// A pair of connected packet sockets.
pub(super) fn packet_sockets() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?)
}

fn failure(step: &str, error: impl ToString) -> Failure {
    Failure { step: step.into(), error: error.to_string() }
}

/// Executes a stage and waits until it is done: the init stage says so, the launcher's socket closes by exec. Blocks.
/// `before` is called with the process id before the stage gets its order.
pub(super) fn run_stage(
    executable: &Path,
    name: &str,
    limit: Duration,
    before: impl FnOnce(u32) -> io::Result<()>,
    order: &[Packet<'_>],
) -> Result<StageRun, Failure> {
    let (socket, theirs) = packet_sockets().map_err(|error| failure("make_socket", error))?;
    let seconds = i64::try_from(limit.as_secs().max(1)).unwrap_or(i64::MAX);
    setsockopt(&socket, ReceiveTimeout, &TimeVal::new(seconds, 0))
        .map_err(|error| failure("make_socket", error))?;
    let mut child = Command::new(executable)
        .args([OsStr::new(STAGE), OsStr::new(name)])
        .env_clear()
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| failure("execute_stage", error))?;
    let mut pidfd = None;
    let result = before(child.id())
        .map_err(|error| failure("enter_cgroup", error))
        .and_then(|()| converse(&socket, order, &mut pidfd));
    if result.is_err() {
        child.kill().ok();
    }
    child.wait().ok();
    match (result, pidfd) {
        (Ok(()), Some(pidfd)) => Ok(StageRun { pidfd, socket }),
        (result, pidfd) => {
            if let Some(pidfd) = pidfd {
                finish(&pidfd);
            }
            Err(result.err().unwrap_or_else(|| failure("wait_for_stage", "it ended without a word")))
        }
    }
}

/// Sends the order and waits for both processes. `pidfd` is set as soon as it is known, whatever comes after.
fn converse(socket: &OwnedFd, order: &[Packet<'_>], pidfd: &mut Option<OwnedFd>) -> Result<(), Failure> {
    for (packet, descriptors) in order {
        message::send(socket.as_fd(), packet, descriptors).map_err(|error| failure("send_order", error))?;
    }
    // Two processes send, in either order: the old one the pidfd, the new one that it is ready.
    let mut ready = false;
    let mut buffer = vec![0; MAX_PACKET];
    loop {
        let (size, mut descriptors) = message::receive(socket.as_fd(), &mut buffer)
            .map_err(|error| failure("wait_for_stage", error))?;
        match &buffer[..size] {
            b"P" => *pidfd = descriptors.pop(),
            b"R" => ready = true,
            b"" => return Ok(()),
            packet => {
                let broken = |_| failure("wait_for_stage", "it sent something unreadable");
                return Err(serde_json::from_slice(packet).unwrap_or_else(broken));
            }
        }
        if ready && pidfd.is_some() {
            return Ok(());
        }
    }
}
