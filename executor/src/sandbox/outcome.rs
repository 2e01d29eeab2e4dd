use bytes::Bytes;

/// Which of its two outputs a sandbox wrote to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What a call took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// From the request handed in to the reply read.
    pub wall_ms: u64,
    /// Highest memory use of the sandbox since it was made.
    pub memory_peak_bytes: u64,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallResult {
    /// The handler's result as JSON text.
    Reply(Bytes),
    /// The handler raised.
    HandlerError {
        /// Name of the exception's type.
        error_type: String,
        /// `str()` of the exception.
        message: String,
        /// Formatted frames, outermost first, ours left out.
        stack_trace: Vec<String>,
    },
    /// No reply within the time limit; the sandbox was killed.
    TimedOut,
    /// The kernel killed the sandbox for want of memory.
    OutOfMemory,
    /// The result is larger than the limit.
    ReplyTooLarge,
    /// The sandbox ended without a reply.
    Crashed {
        /// The signal that killed it.
        signal: Option<i32>,
        /// The code it exited with.
        code: Option<i32>,
    },
    /// The sandbox broke the protocol (closed its control socket, sent garbage) and was killed.
    Misbehaved {
        /// What it did, as the end of a sentence that begins "the sandbox".
        what: String,
    },
}

/// A call's result with its output.
#[derive(Clone, Debug)]
pub struct CallOutcome {
    /// How it ended.
    pub result: CallResult,
    /// What it wrote to standard output, up to the limit.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error, up to the limit.
    pub stderr: Vec<u8>,
    /// Whether output was dropped.
    pub truncated: bool,
    /// Whether the event was written to the sandbox whole. Where it was not (it had died while idle), the handler saw
    /// nothing and the call may be made again in another one.
    pub event_taken: bool,
    /// What it took.
    pub usage: Usage,
}

impl CallOutcome {
    /// Whether the sandbox may serve another call.
    pub fn sandbox_survives(&self) -> bool {
        matches!(self.result, CallResult::Reply(_) | CallResult::HandlerError { .. })
    }
}

/// How a script ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScriptResult {
    /// It exited with this code.
    Exited(i32),
    /// This signal killed it.
    Killed(i32),
    /// It ran longer than its limit and was killed.
    TimedOut,
    /// The kernel killed it for want of memory.
    OutOfMemory,
}

/// A script's end; its output was streamed.
#[derive(Clone, Debug)]
pub struct ScriptOutcome {
    /// How it ended.
    pub result: ScriptResult,
    /// What it took.
    pub usage: Usage,
}
