use std::io;
use std::sync::Arc;

use mirror::LockError;

use crate::control::ControlError;
use crate::wheel::WheelError;

/// Why an environment cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum EnvError {
    /// The lock does not fit the interpreter.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// One of its wheels cannot be opened.
    #[error(transparent)]
    Wheel(Arc<WheelError>),
    /// A wheel puts a file where the environment needs a folder, or the other way round.
    #[error(
        "a wheel has something in the place of the environment's own {0}, so it would not work; leave that wheel out"
    )]
    InTheWay(String),
    /// Its recipe cannot be kept.
    #[error("the environment cannot be recorded in the state folder; check its disk and permissions")]
    Keep(#[from] io::Error),
    /// The process is shutting down.
    #[error("making the environment was given up because the process stops")]
    Stopped,
    /// The daemon that was asked to make it said no.
    #[error(transparent)]
    Control(#[from] ControlError),
}

impl EnvError {
    pub(super) fn stopped(_: tokio::task::JoinError) -> EnvError {
        EnvError::Stopped
    }

    /// Whether the index is at fault, not the lock or a wheel: another try may succeed.
    pub fn upstream_down(&self) -> bool {
        match self {
            EnvError::Wheel(error) => error.upstream_down(),
            EnvError::Control(error) => error.upstream_down(),
            EnvError::Keep(_) | EnvError::InTheWay(_) | EnvError::Stopped | EnvError::Lock(_) => false,
        }
    }
}
