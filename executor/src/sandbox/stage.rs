//! The hidden stages: this program executed again, so that what must be done between a fork and an exec is done in a
//! process with one thread and nothing of the daemon's memory.
//!
//! A stage finds a packet socket to the daemon at descriptor 0, gets its order and descriptors over it, and sends back
//! a pidfd or the step that failed.

mod init;
mod launch;

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ExitCode;

use serde::{Deserialize, Serialize};

use crate::sys::{message, process};

pub(super) use launch::Order;

/// First argument of a stage; the second is its name.
pub(super) const STAGE: &str = "__sandbox-stage";
/// Holds the zygotes' PID namespace.
pub(super) const INIT: &str = "init";
/// Becomes a root zygote.
pub(super) const LAUNCH: &str = "launch";

/// A stage's socket is moved to the first free number from here.
const SOCKET_FROM: i32 = 64;

/// Largest packet of the stages' protocol.
pub(super) const MAX_PACKET: usize = 64 * 1024;

/// What a stage sends beside a pidfd.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Failure {
    /// The step that failed.
    pub step: String,
    /// Its error.
    pub error: String,
}

/// Entry of the hidden stages: a binary calls it first thing in `main` with its whole argument list, and goes on only
/// where it returns `None` (the arguments name no stage).
pub fn stage_main(arguments: &[OsString]) -> Option<ExitCode> {
    if arguments.get(1)? != STAGE {
        return None;
    }
    let run = match arguments.get(2)?.to_str()? {
        INIT => init::run,
        LAUNCH => launch::run,
        _ => return None,
    };
    // Away from the numbers that an executed program gets.
    let Ok(socket) = message::duplicate_from(io::stdin(), SOCKET_FROM) else {
        return Some(ExitCode::FAILURE);
    };
    let Err(failure) = run(socket.as_fd()) else { return Some(ExitCode::SUCCESS) };
    // Where even this fails, the daemon sees the socket close.
    let packet = serde_json::to_vec(&failure).unwrap_or_default();
    message::send(socket.as_fd(), &packet, &[]).ok();
    Some(ExitCode::FAILURE)
}

/// A step's error with its name.
fn step<T, E: Into<io::Error>>(name: &str, result: Result<T, E>) -> Result<T, Failure> {
    result.map_err(|error| Failure { step: name.into(), error: error.into().to_string() })
}

fn receive(socket: BorrowedFd<'_>) -> Result<(Vec<u8>, Vec<OwnedFd>), Failure> {
    let mut buffer = vec![0; MAX_PACKET];
    let (size, descriptors) = step("receive_order", message::receive(socket, &mut buffer))?;
    buffer.truncate(size);
    Ok((buffer, descriptors))
}

/// Goes on in a new process, a child of the daemon; the old one hands the daemon the pidfd and ends.
fn become_sibling(socket: BorrowedFd<'_>) -> Result<(), Failure> {
    match step("clone", process::clone_sibling())? {
        process::Cloned::Child => Ok(()),
        process::Cloned::Caller { pidfd } => {
            step("send_pidfd", message::send(socket, b"P", &[pidfd.as_fd()]))?;
            std::process::exit(0);
        }
    }
}
