//! Sandboxes forked from zygotes: the flow from an interpreter to an answer.
//!
//! [`Sandboxes::start`] prepares the host once (cgroup folder, root template, PID namespace) →
//! [`Sandboxes::root_zygote`] launches a Python that has imported nothing → [`Sandboxes::child_zygote`] forks one
//! that has imported packages → [`Sandboxes::fork`] forks a leaf → [`Leaf::call`] or [`Leaf::run_script`].
//!
//! Only the daemon has privilege. It prepares descriptors and writes id maps; unprivileged processes place them.
//! No code of a package or a handler ever runs with a capability, and the daemon never runs Python, never forks
//! itself and never follows a path that a sandbox can write.
//!
//! Boundary: zygotes are confined by their launcher before their first line of Python. A leaf's own steps
//! (`python/leaf.py`) run in a copy of its zygote's memory, which its packages may have
//! changed; what holds against a hostile *package* is therefore the zygote's confinement, which every leaf
//! inherits, and what the daemon does from outside (id map, cgroup, mounts handed in). Against a hostile *handler*
//! all of it holds, since the handler is read after the last step.

mod error;
mod outcome;
mod python;
mod sandboxes;
mod spec;

pub use error::{ForkError, StartError, ZygoteError};
pub use outcome::{CallOutcome, CallResult, ScriptOutcome, ScriptResult, Stream, Usage};
pub use python::Python;
pub use sandboxes::{Leaf, Sandboxes, Zygote};
pub use spec::{CallContext, LeafKind, LeafSpec, Limits, ZygoteSpec};

/// Entry of the hidden stages: a binary calls it first thing in `main` with its arguments, and goes on only where it
/// returns `None` (the arguments name no stage).
pub fn stage_main(_args: &[std::ffi::OsString]) -> Option<std::process::ExitCode> {
    None
}
