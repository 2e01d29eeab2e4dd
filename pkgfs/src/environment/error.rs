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

    /// Whether another try may succeed: the index is at fault, not the lock or a wheel.
    pub fn may_pass(&self) -> bool {
        match self {
            EnvError::Wheel(error) => error.may_pass(),
            EnvError::Control(error) => error.may_pass(),
            EnvError::Keep(_) | EnvError::Stopped => true,
            EnvError::Lock(_) => false,
        }
    }
}
