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

mod captured;
mod cgroup;
mod child;
mod error;
mod fork;
mod frames;
mod ids;
mod launch;
mod leaf;
mod namespace;
mod outcome;
mod policy;
mod process;
mod python;
mod root_tree;
mod runtime;
mod sandboxes;
mod spec;
mod stage;
mod stage_run;
mod userns;
mod zygote;

pub use error::{ForkError, StartError, ZygoteError};
pub use leaf::Leaf;
pub use outcome::{CallOutcome, CallResult, ScriptOutcome, ScriptResult, Stream, Usage};
pub use python::Python;
pub use sandboxes::Sandboxes;
pub use spec::{CallContext, LeafKind, LeafSpec, Limits, ZygoteSpec};
pub use stage::stage_main;
pub use zygote::Zygote;
