use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::{Engine, LaunchError, Start};
use crate::function::Function;
use crate::logs::Record;
use crate::pool::{Place, PoolError};
use crate::sandbox::{CallContext, CallOutcome, CallResult, Leaf, LeafKind, LeafSpec, Limits};

/// A call that reached a sandbox.
#[derive(Debug)]
pub struct Answer {
    /// Where the sandbox came from.
    pub start: Start,
    /// What came of it.
    pub outcome: CallOutcome,
}

/// Why a call reached no sandbox.
#[derive(Debug, thiserror::Error)]
pub enum InvokeError {
    /// No room.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// No sandbox.
    #[error(transparent)]
    Launch(#[from] LaunchError),
}

/// Sandboxes that died idle are told apart before the call; one that dies in that very moment costs another try.
const ATTEMPTS: usize = 3;

impl Engine {
    /// A new name for a call.
    pub fn request_id(&self) -> String {
        self.ids.next()
    }

    /// Runs one call. Dropping the future kills the sandbox and frees its place: nobody is left to be told the result.
    ///
    /// # Errors
    /// Where no sandbox saw the event; everything else is an [`Answer`].
    pub async fn invoke(
        &self,
        function: &Arc<Function>,
        event: &[u8],
        request_id: String,
    ) -> Result<Answer, InvokeError> {
        let context = CallContext { request_id, function: function.meta.name.to_string() };
        let started_at_ms = now_ms();
        let mut attempt = 1;
        loop {
            let (place, mut leaf, start) = self.sandbox(function).await?;
            let outcome = tokio::select! {
                outcome = leaf.call(event, &context) => outcome,
                () = self.is_halted() => {
                    place.end(leaf);
                    return Err(PoolError::Stopping.into());
                }
            };
            if outcome.sandbox_survives() {
                place.give_back(leaf);
            } else {
                place.end(leaf);
            }
            if outcome.event_taken || attempt == ATTEMPTS {
                self.log(function, &context.request_id, started_at_ms, start, &outcome).await;
                return Ok(Answer { start, outcome });
            }
            attempt += 1;
        }
    }

    async fn sandbox(&self, function: &Arc<Function>) -> Result<(Place<Leaf>, Leaf, Start), InvokeError> {
        let mut place = self.pool.acquire(function).await?;
        if let Some(leaf) = place.take_warm() {
            return Ok((place, leaf, Start::Warm));
        }
        let set = self.package_set(function).await?;
        let spec = LeafSpec {
            env_path: set.env_path.clone(),
            code_dir: function.code_dir(),
            kind: LeafKind::Function { file: function.meta.entry.clone() },
            environ: Vec::new(),
            limits: Limits::from(&self.settings.executor),
        };
        let (leaf, start) = self.launch(&set, spec).await?;
        Ok((place, leaf, start))
    }

    async fn log(
        &self,
        function: &Arc<Function>,
        request_id: &str,
        started_at_ms: u64,
        start: Start,
        outcome: &CallOutcome,
    ) {
        let record = Record {
            request_id: request_id.to_owned(),
            version: function.meta.version.clone(),
            started_at_ms,
            wall_ms: outcome.usage.wall_ms,
            memory_peak_bytes: outcome.usage.memory_peak_bytes,
            start: start.as_str().to_owned(),
            outcome: outcome_name(&outcome.result).to_owned(),
            traceback: traceback(&outcome.result),
            stdout: String::from_utf8_lossy(&outcome.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&outcome.stderr).into_owned(),
            truncated: outcome.truncated,
        };
        let append = || function.life().unless_ended(|| self.logs.append(&function.meta.name, &record));
        // An append of a page or so is cheaper than handing it to another thread; a megabyte is not.
        if record.stdout.len() + record.stderr.len() <= 16 * 1024 {
            append();
        } else {
            tokio::task::block_in_place(append);
        }
    }
}

/// What the interpreter would have printed of a handler's exception. Its parts are bounded where they are made.
fn traceback(result: &CallResult) -> Option<String> {
    let CallResult::HandlerError { error_type, message, stack_trace } = result else { return None };
    Some(format!("{}{error_type}: {message}", stack_trace.concat()))
}

/// The error type of a call's end, as callers and logs see it.
pub(crate) fn outcome_name(result: &CallResult) -> &str {
    match result {
        CallResult::Reply(_) => "ok",
        CallResult::HandlerError { error_type, .. } => error_type,
        CallResult::TimedOut => "TimedOut",
        CallResult::OutOfMemory => "OutOfMemory",
        CallResult::ReplyTooLarge => "ReplyTooLarge",
        CallResult::Crashed { .. } => "SandboxCrashed",
        CallResult::Misbehaved { .. } => "SandboxMisbehaved",
    }
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
