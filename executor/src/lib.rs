//! Runs Python functions and scripts in sandboxes forked from zygotes.
//!
//! Flow: HTTP → function → warm instance? → else parent zygote → fork a leaf → handler loop → reply. Resolution and
//! environment making happen at deploy (or at a script's first sight), never in a call.
//! This crate never runs package or handler code in its own process, never follows a path that a sandbox can
//! write, and never forks without exec. Start reading at [`sandbox`].

mod durable;
pub mod function;
pub mod functions;
pub mod logs;
pub mod name;
pub mod pool;
pub mod sandbox;
pub mod upload;
