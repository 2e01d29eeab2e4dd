//! The mirror: index → pages → plan → fetch → verify → commit → serve, and the packaging types everything uses.
//!
//! Flow of a copy: [`Requirements`] → [`Resolver`] (uv) → [`Lock`] → [`sync`] → repository → [`serve`].
//! This crate never runs package code, never builds a source distribution and never writes outside the state folder.
//! Start reading at [`IndexClient`], then [`Resolver`].

pub mod archive;
pub mod cli;
mod client;
mod digest;
mod files;
pub mod index_url;
mod interpreter;
mod lock;
pub mod metadata;
mod name;
pub mod page;
pub mod repository;
mod requirements;
mod resolve;
mod script;
pub mod serve;
pub mod sync;
mod tags;
mod unix_socket;
mod wheel_name;

pub use client::{Downloaded, IndexClient, IndexError, Ranged, RemoteFile};
pub use digest::{Hasher, InvalidDigest, Sha256};
pub use index_url::{Index, UpstreamError, upstream};
pub use interpreter::{Interpreter, InterpreterError};
pub use lock::{Lock, LockError, LockedWheel};
pub use name::{InvalidName, ProjectName};
pub use page::{IndexFile, ProjectPage};
pub use requirements::{Requirements, RequirementsError};
pub use resolve::{ResolveError, Resolver, UvError};
pub use script::{ScriptError, ScriptMetadata};
pub use unix_socket::clear_stale_socket;
pub use wheel_name::{InvalidWheelName, WheelName};

/// An error with its causes, on one line: `Display` never repeats its source.
pub fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
