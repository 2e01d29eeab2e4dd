//! The limit on open files.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises this process's limit on open files to the highest it may have. The usual soft limit (1,024) is for programs
/// that use select(2); connections, the store and the environments need more. Children inherit it; sandboxes have
/// their own.
pub fn raise_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit on open files stays as it is");
    }
}
