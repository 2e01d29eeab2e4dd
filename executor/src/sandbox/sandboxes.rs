use std::path::PathBuf;
use std::sync::Arc;

use config::Settings;

use super::{
    CallContext, CallOutcome, ForkError, LeafSpec, Python, ScriptOutcome, StartError, Stream, ZygoteError,
    ZygoteSpec,
};

/// All sandboxes of one daemon. Clones share them.
#[derive(Clone)]
pub struct Sandboxes;

/// A live Python that others are forked from. The process ends when the last clone is dropped.
#[derive(Clone)]
pub struct Zygote {
    _inner: Arc<()>,
}

impl Zygote {
    /// Modules whose import failed, each with its error.
    pub fn failed_imports(&self) -> &[(String, String)] {
        &[]
    }

    /// Whether the process still lives.
    pub fn is_alive(&self) -> bool {
        false
    }
}

/// One live sandbox. Dropping it kills it in the background.
pub struct Leaf;

impl Sandboxes {
    /// Prepares the host. `stage_executable`: the program whose `main` hands hidden stages to
    /// [`stage_main`](super::stage_main); `None` for the running one.
    pub async fn start(
        _settings: &Settings,
        _python: impl Into<Python>,
        _stage_executable: Option<PathBuf>,
    ) -> Result<Sandboxes, StartError> {
        Err(StartError::NotRoot)
    }

    /// Ends everything and removes what was made on the host.
    pub async fn stop(&self) {}

    /// Launches a zygote that has imported nothing.
    pub async fn root_zygote(&self) -> Result<Zygote, ZygoteError> {
        Err(ZygoteError::ParentGone)
    }

    /// Forks a zygote from `parent` and lets it import.
    pub async fn child_zygote(&self, _parent: &Zygote, _spec: ZygoteSpec) -> Result<Zygote, ZygoteError> {
        Err(ZygoteError::ParentGone)
    }

    /// Forks a sandbox from `parent`.
    pub async fn fork(&self, _parent: &Zygote, _spec: LeafSpec) -> Result<Leaf, ForkError> {
        Err(ForkError::ZygoteGone)
    }
}

impl Leaf {
    /// Hands one event (JSON) to the handler and waits for its end.
    pub async fn call(&mut self, _event: &[u8], _context: &CallContext) -> CallOutcome {
        CallOutcome {
            result: super::CallResult::TimedOut,
            stdout: Vec::new(),
            stderr: Vec::new(),
            truncated: false,
            event_taken: false,
            usage: Default::default(),
        }
    }

    /// Whether it could still take a call; false where it died while idle. Never waits.
    pub fn is_alive(&mut self) -> bool {
        true
    }

    /// Runs the script to its end, handing on output as it comes. The channel is bounded: a reader that is slow slows
    /// the script down, and loses nothing. A reader that is gone is no reason to stop: drop the leaf for that.
    pub async fn run_script(&mut self, _output: tokio::sync::mpsc::Sender<(Stream, bytes::Bytes)>) -> ScriptOutcome {
        ScriptOutcome { result: super::ScriptResult::TimedOut, usage: Default::default() }
    }

    /// Kills what is left, reaps it and removes its cgroup.
    pub async fn end(self) {}
}
