//! Runs Python functions and scripts in sandboxes forked from zygotes.
//!
//! Flow: HTTP → function → warm instance? → else parent zygote → fork a leaf → handler loop → reply. Resolution and
//! environment making happen at deploy (or at a script's first sight), never in a call.
//! This crate never runs package or handler code in its own process, never follows a path that a sandbox can
//! write, and never forks without exec. Start reading at [`engine`] for calls and at [`sandbox`] for isolation.

mod blocking;
mod chain;
pub mod cli;
mod durable;
pub mod engine;
mod frames;
mod function;
mod functions;
pub mod http;
mod ids;
pub mod logs;
mod name;
pub mod pool;
mod requirements;
pub mod sandbox;
mod state_lock;
mod supply;
mod sys;
pub mod upload;
pub mod zygotes;

pub use function::{Function, Meta, Package};
pub use functions::{Functions, RegistryError};
pub use name::{FunctionName, NameError};
pub use requirements::RequirementsError;
pub use state_lock::{StateLock, StateLockError};
pub use supply::SupplyError;
