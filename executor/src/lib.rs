//! Runs Python functions and scripts in sandboxes forked from zygotes.
//!
//! Flow: HTTP → function → warm instance? → else parent zygote → fork a leaf → handler loop → reply. Resolution and
//! environment making happen at deploy (or at a script's first sight), never in a call.
//! This crate never runs package or handler code in its own process, never follows a path that a sandbox can
//! write, and never forks without exec. Start reading at [`sandbox`].

mod chain;
mod durable;
mod function;
mod functions;
pub mod logs;
mod name;
pub mod pool;
pub mod sandbox;
pub mod upload;
pub mod zygotes;

pub use function::{Function, Meta, Package};
pub use functions::Functions;
pub use name::{FunctionName, NameError};
