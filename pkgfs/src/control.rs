//! The control socket: one JSON object a line, both ways. It lets other processes make environments.

mod client;
mod server;
mod wire;

pub use client::ControlClient;
pub(crate) use server::Server;
pub use wire::{ControlError, Status};
