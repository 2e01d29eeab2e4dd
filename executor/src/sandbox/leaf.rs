use std::future::Future;
use std::io;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use tokio::net::UnixStream;
use tokio::net::unix::pipe::Receiver;

use super::captured::Captured;
use super::child::Exit;
use super::frames::{self, FrameError, Kind};
use super::process::Process;
use super::{CallContext, CallOutcome, CallResult, Limits, ScriptOutcome, ScriptResult, Stream, Usage};

/// What a frame may have beside the reply itself.
const FRAME_SLACK_BYTES: u64 = 1024 * 1024;
/// A killed sandbox whose processes do not go away (a file system that does not answer) is waited for in the
/// background after this.
const END_LIMIT: Duration = Duration::from_secs(10);

/// One live sandbox. Dropping it kills it in the background.
pub struct Leaf {
    pub(super) process: Process,
    pub(super) stream: UnixStream,
    pub(super) stdout: Receiver,
    pub(super) stderr: Receiver,
    pub(super) limits: Limits,
    pub(super) calls: u32,
}

/// How the exchange of one call ended.
enum Exchange {
    Frame(Kind, Vec<u8>),
    Broken(FrameError),
    TimedOut,
}

#[derive(Deserialize)]
struct Raised {
    error_type: String,
    message: String,
    stack_trace: Vec<String>,
}

impl Leaf {
    /// Hands one event (JSON) to the handler and waits for its end.
    pub async fn call(&mut self, event: &[u8], context: &CallContext) -> CallOutcome {
        let start = Instant::now();
        self.calls += 1;
        let mut stdout = Captured::new(self.limits.log_bytes);
        let mut stderr = Captured::new(self.limits.log_bytes);
        let exchange = {
            let limit = deadline(self.limits.timeout_ms);
            let work = exchange(&mut self.stream, self.calls, event, context, &self.limits);
            tokio::select! {
                ended = work => ended,
                () = limit => Exchange::TimedOut,
                () = stdout.drain(&mut self.stdout) => Exchange::TimedOut,
                () = stderr.drain(&mut self.stderr) => Exchange::TimedOut,
            }
        };
        let wall_ms = start.elapsed().as_millis() as u64;
        let result = self.judge(exchange).await;
        stdout.finish(&mut self.stdout);
        stderr.finish(&mut self.stderr);
        let truncated = stdout.dropped_bytes + stderr.dropped_bytes > 0;
        CallOutcome { result, stdout: stdout.bytes, stderr: stderr.bytes, truncated, usage: self.usage(wall_ms) }
    }

    /// Runs the script to its end, handing on output as it comes.
    pub async fn run_script(&mut self, mut output: impl FnMut(Stream, &[u8])) -> ScriptOutcome {
        let start = Instant::now();
        // Where it is gone already, its exit tells.
        frames::write(&mut self.stream, Kind::Call, &[]).await.ok();
        let timed_out = {
            let limit = deadline(self.limits.timeout_ms);
            let (stdout, stderr) = (&mut self.stdout, &mut self.stderr);
            let exit = self.process.wait();
            tokio::pin!(limit, exit);
            let mut chunk = vec![0; 64 * 1024];
            let (mut stdout_open, mut stderr_open) = (true, true);
            loop {
                let (stream, pipe, open) = tokio::select! {
                    _ = stdout.readable(), if stdout_open => (Stream::Stdout, &mut *stdout, &mut stdout_open),
                    _ = stderr.readable(), if stderr_open => (Stream::Stderr, &mut *stderr, &mut stderr_open),
                    _ = &mut exit => break false,
                    () = &mut limit => break true,
                };
                match pipe.try_read(&mut chunk) {
                    Ok(size) if size > 0 => output(stream, &chunk[..size]),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    _ => *open = false,
                }
            }
        };
        let result = match self.ended().await {
            _ if timed_out => ScriptResult::TimedOut,
            Some(Exit::Code(code)) => ScriptResult::Exited(code),
            Some(Exit::Signal(libc::SIGKILL)) | None if self.ran_out_of_memory() => ScriptResult::OutOfMemory,
            Some(Exit::Signal(signal)) => ScriptResult::Killed(signal),
            None => ScriptResult::Killed(libc::SIGKILL),
        };
        for (stream, pipe) in [(Stream::Stdout, &mut self.stdout), (Stream::Stderr, &mut self.stderr)] {
            let mut rest = Captured::new(u64::MAX);
            rest.finish(pipe);
            output(stream, &rest.bytes);
        }
        let wall_ms = start.elapsed().as_millis() as u64;
        ScriptOutcome { result, usage: self.usage(wall_ms) }
    }

    /// Kills what is left, reaps it and removes its cgroup.
    pub async fn end(self) {
        self.process.end().await;
    }

    async fn judge(&mut self, exchange: Exchange) -> CallResult {
        let broke = |what: &str| CallResult::Misbehaved { what: what.into() };
        let result = match exchange {
            Exchange::Frame(Kind::Reply, body) if serde_json::from_slice::<serde::de::IgnoredAny>(&body).is_err() => {
                broke("sent a reply that is not JSON")
            }
            Exchange::Frame(Kind::Reply, body) => return CallResult::Reply(Bytes::from(body)),
            Exchange::Frame(Kind::Raised, body) => match serde_json::from_slice::<Raised>(&body) {
                Ok(Raised { error_type, message, stack_trace }) => {
                    return CallResult::HandlerError { error_type, message, stack_trace };
                }
                Err(_) => broke("sent an unreadable error"),
            },
            Exchange::Frame(Kind::TooLarge, _) | Exchange::Broken(FrameError::TooLong(Kind::Reply)) => {
                CallResult::ReplyTooLarge
            }
            Exchange::Frame(..) | Exchange::Broken(FrameError::Garbage | FrameError::TooLong(_)) => {
                broke("wrote to its control socket")
            }
            Exchange::TimedOut => CallResult::TimedOut,
            Exchange::Broken(FrameError::Closed) => return self.crashed().await,
        };
        self.ended().await;
        result
    }

    /// Its socket is closed: it has ended, or it has closed the socket and goes on.
    async fn crashed(&mut self) -> CallResult {
        match self.ended().await {
            Some(Exit::Code(code)) => CallResult::Crashed { signal: None, code: Some(code) },
            _ if self.ran_out_of_memory() => CallResult::OutOfMemory,
            // Nobody inside can kill the first process of a PID namespace: this was us.
            Some(Exit::Signal(libc::SIGKILL)) | None => {
                CallResult::Misbehaved { what: "closed its control socket".into() }
            }
            Some(Exit::Signal(signal)) => CallResult::Crashed { signal: Some(signal), code: None },
        }
    }

    /// Kills it and waits for its end.
    async fn ended(&mut self) -> Option<Exit> {
        self.process.kill();
        let exit = tokio::time::timeout(END_LIMIT, self.process.wait()).await;
        exit.ok()?.ok()
    }

    fn ran_out_of_memory(&self) -> bool {
        self.process.cgroup().is_some_and(|cgroup| cgroup.oom_kills() > 0)
    }

    fn usage(&self, wall_ms: u64) -> Usage {
        let memory_peak_bytes = self.process.cgroup().map_or(0, |cgroup| cgroup.memory_peak_bytes());
        Usage { wall_ms, memory_peak_bytes }
    }
}

/// Ends after so many milliseconds; 0: never.
fn deadline(timeout_ms: u64) -> impl Future<Output = ()> {
    async move {
        match timeout_ms {
            0 => std::future::pending().await,
            _ => tokio::time::sleep(Duration::from_millis(timeout_ms)).await,
        }
    }
}

async fn exchange(
    stream: &mut UnixStream,
    number: u32,
    event: &[u8],
    context: &CallContext,
    limits: &Limits,
) -> Exchange {
    let fields = json!({
        "request_id": context.request_id,
        "function": context.function,
        "memory_mb": limits.memory_bytes / (1024 * 1024),
        "timeout_ms": limits.timeout_ms,
    })
    .to_string();
    let size = u32::try_from(fields.len()).unwrap_or(0).to_be_bytes();
    let number = number.to_be_bytes();
    let parts: [&[u8]; 4] = [&number, &size, fields.as_bytes(), event];
    if frames::write(stream, Kind::Call, &parts).await.is_err() {
        return Exchange::Broken(FrameError::Closed);
    }
    match frames::read(stream, limits.max_reply_bytes.saturating_add(FRAME_SLACK_BYTES)).await {
        Ok((kind, payload)) if payload.starts_with(&number) => Exchange::Frame(kind, payload[4..].to_vec()),
        Ok(_) => Exchange::Broken(FrameError::Garbage),
        Err(error) => Exchange::Broken(error),
    }
}
