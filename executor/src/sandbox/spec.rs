use std::path::PathBuf;

use config::ExecutorSettings;

/// What one sandbox may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Memory of all its processes, its `/tmp` among it.
    pub memory_bytes: u64,
    /// Processes and threads.
    pub max_processes: u64,
    /// Size of `/tmp`.
    pub tmp_bytes: u64,
    /// Open files of each process.
    pub max_open_files: u64,
    /// Wall time of one call or of one script; 0 for none.
    pub timeout_ms: u64,
    /// Size of a reply.
    pub max_reply_bytes: u64,
    /// Output kept of one call, stdout and stderr each; more is dropped and reported as truncated.
    pub log_bytes: u64,
}

impl From<&ExecutorSettings> for Limits {
    fn from(settings: &ExecutorSettings) -> Limits {
        Limits {
            memory_bytes: settings.memory_bytes,
            max_processes: settings.max_processes,
            tmp_bytes: settings.tmp_bytes,
            max_open_files: settings.max_open_files,
            timeout_ms: settings.timeout_ms,
            max_reply_bytes: settings.max_reply_bytes,
            log_bytes: settings.log_bytes_per_invocation,
        }
    }
}

/// What a leaf runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeafKind {
    /// A handler: `f(event)` or `handler(event, context)` in `file`.
    Function {
        /// File below the code folder.
        file: String,
    },
    /// A script, run once as `__main__`.
    Script {
        /// File below the code folder.
        file: String,
        /// `sys.argv[1:]`.
        args: Vec<String>,
    },
}

/// One sandbox to be made.
#[derive(Clone, Debug)]
pub struct LeafSpec {
    /// The environment seen at `/ol/env`; `None` for the standard library alone.
    pub env_path: Option<PathBuf>,
    /// Folder seen read-only at `/ol/code`.
    pub code_dir: PathBuf,
    /// What runs in it.
    pub kind: LeafKind,
    /// Added to the few variables every sandbox has (`PATH`, `HOME`, `LANG`, …).
    pub environ: Vec<(String, String)>,
    /// What it may use.
    pub limits: Limits,
}

/// A zygote to be forked from another one.
#[derive(Clone, Debug)]
pub struct ZygoteSpec {
    /// Its environment, seen at `/ol/env`. Must hold every wheel its parent's environment holds.
    pub env_path: PathBuf,
    /// Modules it imports. One that fails is reported, and no error.
    pub imports: Vec<String>,
}

/// What a handler is told about a call beside the event.
#[derive(Clone, Debug)]
pub struct CallContext {
    /// Unique name of the invocation.
    pub request_id: String,
    /// Name of the function.
    pub function: String,
}
