use std::io;
use std::path::PathBuf;

/// Why sandboxes cannot be made on this host.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Not root.
    #[error("sandboxes need root: run as root, or with sudo")]
    NotRoot,
    /// No cgroup below which memory can be limited.
    #[error(
        "cannot limit the memory of sandboxes: {reason}; set executor.cgroup_parent to a cgroup that hands down memory and pids"
    )]
    Cgroup {
        /// What was found.
        reason: String,
    },
    /// The host does not let processes without privilege have user namespaces, which every sandbox is made of.
    #[error("sandboxes need user namespaces, and {name} is {off} on this host: run `sysctl {name}={on}`")]
    UserNamespaces {
        /// The kernel's setting.
        name: &'static str,
        /// Its value.
        off: &'static str,
        /// The value that would lift it.
        on: &'static str,
    },
    /// A file or folder of ours could not be written.
    #[error("cannot write {path}")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The root of sandboxes could not be built.
    #[error("cannot build the root of sandboxes: {step}")]
    Root {
        /// What was being done.
        step: String,
        /// Why.
        source: io::Error,
    },
    /// A seccomp policy cannot be compiled.
    #[error("cannot compile the seccomp policy {policy}: {reason}")]
    Policy {
        /// Which.
        policy: &'static str,
        /// Why.
        reason: String,
    },
    /// The first process of the zygotes' namespace does not run.
    #[error("cannot start the process that zygotes live below: {step}")]
    Init {
        /// What was being done.
        step: String,
        /// Why.
        source: io::Error,
    },
    /// The range of host user ids is too small.
    #[error(
        "{count} host user ids are needed and {room} lie above executor.first_uid; lower it, uids_per_zygote or max_zygotes"
    )]
    Ids {
        /// Ids needed.
        count: u64,
        /// Ids there are.
        room: u32,
    },
    /// The interpreter does not answer.
    #[error("cannot use the Python at {path}: {reason}; name another with --python")]
    Python {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// Why a zygote could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ZygoteError {
    /// Its parent no longer answers: make a new one.
    #[error("the parent zygote is gone")]
    ParentGone,
    /// Something on the host failed.
    #[error("cannot make a zygote: {step}")]
    Host {
        /// What was being done.
        step: String,
        /// Why.
        source: io::Error,
    },
    /// A step inside the new process failed.
    #[error("cannot make a zygote: step {step} failed: {reason}")]
    Step {
        /// The step.
        step: String,
        /// Its error.
        reason: String,
    },
    /// Its imports left threads behind, ended the process or took too much memory. Fork from its parent instead.
    #[error("the zygote cannot be used: {reason}")]
    Unusable {
        /// What its imports did.
        reason: String,
    },
    /// It did not become ready in time.
    #[error("the zygote did not become ready within {timeout_ms} ms (executor.zygote_timeout_ms)")]
    TimedOut {
        /// The limit.
        timeout_ms: u64,
    },
}

/// Why a sandbox could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ForkError {
    /// The zygote no longer answers: make a new one.
    #[error("the zygote is gone")]
    ZygoteGone,
    /// Something on the host failed.
    #[error("cannot make a sandbox: {step}")]
    Host {
        /// What was being done.
        step: String,
        /// Why.
        source: io::Error,
    },
    /// A step inside the new sandbox failed.
    #[error("cannot make a sandbox: step {step} failed: {reason}")]
    Step {
        /// The step.
        step: String,
        /// Its error.
        reason: String,
    },
    /// The new process did not become ready in time.
    #[error("the sandbox did not become ready within {timeout_ms} ms (executor.fork_timeout_ms)")]
    TimedOut {
        /// The limit.
        timeout_ms: u64,
    },
}
