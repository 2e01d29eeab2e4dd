//! The mirror: index → pages → plan → fetch → verify → commit → serve, and the packaging types everything uses.
//!
//! Flow of a copy: [`Requirements`] → [`Resolver`] (uv) → [`Lock`] → [`sync`] → repository → [`serve`].
//! This crate never runs package code, never builds a source distribution and never writes outside the state folder.
//! Start reading at [`IndexClient`], then [`Resolver`].

pub mod archive;
mod digest;
pub mod index_url;
mod interpreter;
mod lock;
mod name;
mod tags;
mod wheel_name;

pub use digest::{Hasher, InvalidDigest, Sha256};
pub use interpreter::{Interpreter, InterpreterError};
pub use lock::{Lock, LockError, LockedWheel};
pub use name::{InvalidName, ProjectName};
pub use wheel_name::{InvalidWheelName, WheelName};
