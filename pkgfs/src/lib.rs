//! The package file system: FUSE op → namespace → wheel index → store → fetch → mirror.
//!
//! A mount shows every wheel of an index unpacked, and environments: a lock's wheels merged into a folder that works
//! as a Python virtual environment. Files are fetched when they are first read.
//!
//! This crate never serves a byte that was not verified or made by itself, never runs package code, never lets a
//! session thread wait for the network, and never writes outside the state folder. Start reading at [`Packages`],
//! then `fs.rs` and `namespace.rs`.

mod bytecode;
pub mod cli;
mod control;
mod dist_info;
mod durable;
mod environment;
mod fetch;
mod fs;
mod layout;
mod mount;
mod namespace;
mod packages;
mod record;
mod remote;
mod state_lock;
mod store;
mod tree;
mod wheel;

pub use control::{ControlClient, ControlError, Status};
pub use environment::{EnvError, EnvWheel, Environment};
pub use mount::MountError;
pub use packages::Packages;
