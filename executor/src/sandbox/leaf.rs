use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};
use serde::Deserialize;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::mpsc::Sender;

use super::captured::Captured;
use super::child::Exit;
use super::frames::{self, FrameError, Kind};
use super::process::Process;
use super::{CallContext, CallOutcome, CallResult, Limits, ScriptOutcome, ScriptResult, Stream, Usage};

/// What a frame may have beside the reply itself.
const FRAME_SLACK_BYTES: u64 = 1024 * 1024;
/// Script output is handed on in pieces up to this size.
const CHUNK_BYTES: usize = 64 * 1024;
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
enum Ended {
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
        // The kernel's count is the sandbox's: what an earlier call lost of it is not this one's end.
        let killed_before = self.oom_kills();
        self.calls += 1;
        let mut stdout = Captured::new(self.limits.log_bytes);
        let mut stderr = Captured::new(self.limits.log_bytes);
        let mut event_taken = false;
        let exchange = {
            let limit = deadline(self.limits.timeout_ms);
            let call = Call { number: self.calls, event, context, limits: &self.limits };
            let work = call.exchange(&mut self.stream, &mut event_taken);
            tokio::select! {
                ended = work => ended,
                () = limit => Ended::TimedOut,
                () = stdout.drain(&mut self.stdout) => Ended::TimedOut,
                () = stderr.drain(&mut self.stderr) => Ended::TimedOut,
            }
        };
        let wall_ms = start.elapsed().as_millis() as u64;
        let result = self.judge(exchange, killed_before).await;
        stdout.finish(&mut self.stdout);
        stderr.finish(&mut self.stderr);
        let truncated = stdout.dropped_bytes + stderr.dropped_bytes > 0;
        let usage = self.usage(wall_ms);
        CallOutcome { result, stdout: stdout.bytes, stderr: stderr.bytes, truncated, event_taken, usage }
    }

    /// Whether it could still take a call; false where it died while idle. Never waits.
    pub fn is_alive(&mut self) -> bool {
        // Nothing is sent between calls: an end or an unasked byte both make it useless. Asked past tokio, which may
        // not have heard yet.
        let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        recv(self.stream.as_raw_fd(), &mut [0], flags) == Err(Errno::EAGAIN)
    }

    /// Runs the script to its end, handing on output as it comes. The channel is bounded: a reader that is slow slows
    /// the script down, and loses nothing. A reader that is gone is no reason to stop: drop the leaf for that.
    pub async fn run_script(&mut self, output: Sender<(Stream, Bytes)>) -> ScriptOutcome {
        let start = Instant::now();
        // Where it is gone already, its exit tells.
        frames::write(&mut self.stream, Kind::Call, &[]).await.ok();
        let timed_out = self.stream_out(&output).await;
        let exit = self.ended().await;
        let result = match exit {
            _ if timed_out => ScriptResult::TimedOut,
            Some(Exit::Code(code)) => ScriptResult::Exited(code),
            Some(Exit::Signal(libc::SIGKILL)) | None if self.oom_kills() > 0 => ScriptResult::OutOfMemory,
            Some(Exit::Signal(signal)) => ScriptResult::Killed(signal),
            None => ScriptResult::Killed(libc::SIGKILL),
        };
        let wall_ms = start.elapsed().as_millis() as u64;
        ScriptOutcome { result, usage: self.usage(wall_ms) }
    }

    /// Hands on the script's output until it ends or its time is up; tells whether that was so.
    async fn stream_out(&mut self, output: &Sender<(Stream, Bytes)>) -> bool {
        let limit = deadline(self.limits.timeout_ms);
        let forwarded = async {
            tokio::join!(
                forward(&mut self.stdout, Stream::Stdout, output),
                forward(&mut self.stderr, Stream::Stderr, output),
            )
        };
        tokio::pin!(limit, forwarded);
        let mut timed_out = tokio::select! {
            _ = &mut forwarded => false,
            () = &mut limit => true,
        };
        if timed_out {
            self.process.kill();
            tokio::time::timeout(END_LIMIT, forwarded).await.ok();
        } else {
            // Its outputs are closed: it has ended, or goes on without them.
            timed_out = tokio::select! {
                _ = self.process.wait() => false,
                () = limit => true,
            };
        }
        timed_out
    }

    /// Kills what is left, reaps it and removes its cgroup.
    pub async fn end(self) {
        self.process.end().await;
    }

    async fn judge(&mut self, exchange: Ended, killed_before: u64) -> CallResult {
        let broke = |what: &str| CallResult::Misbehaved { what: what.into() };
        let result = match exchange {
            Ended::Frame(Kind::Reply, body)
                if serde_json::from_slice::<serde::de::IgnoredAny>(&body).is_err() =>
            {
                broke("sent a reply that is not JSON")
            }
            Ended::Frame(Kind::Reply, body) => return CallResult::Reply(Bytes::from(body)),
            Ended::Frame(Kind::Raised, body) => match serde_json::from_slice::<Raised>(&body) {
                Ok(Raised { error_type, message, stack_trace }) => {
                    return CallResult::HandlerError { error_type, message, stack_trace };
                }
                Err(_) => broke("sent an unreadable error"),
            },
            Ended::Frame(Kind::TooLarge, _) | Ended::Broken(FrameError::TooLong(Kind::Reply)) => {
                CallResult::ReplyTooLarge
            }
            Ended::Frame(..) | Ended::Broken(FrameError::Garbage | FrameError::TooLong(_)) => {
                broke("wrote to its control socket")
            }
            Ended::TimedOut => CallResult::TimedOut,
            Ended::Broken(FrameError::Closed | FrameError::Unread) => {
                return self.crashed(killed_before).await;
            }
        };
        self.ended().await;
        result
    }

    /// Its socket is closed: it has ended, or it has closed the socket and goes on.
    async fn crashed(&mut self, killed_before: u64) -> CallResult {
        match self.ended().await {
            Some(Exit::Code(code)) => CallResult::Crashed { signal: None, code: Some(code) },
            _ if self.oom_kills() > killed_before => CallResult::OutOfMemory,
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

    fn oom_kills(&self) -> u64 {
        self.process.cgroup().map_or(0, |cgroup| cgroup.oom_kills())
    }

    fn usage(&self, wall_ms: u64) -> Usage {
        let memory_peak_bytes = self.process.cgroup().map_or(0, |cgroup| cgroup.memory_peak_bytes());
        Usage { wall_ms, memory_peak_bytes }
    }
}

/// Hands on what a pipe holds until no process has it open any more.
async fn forward(pipe: &mut Receiver, stream: Stream, output: &Sender<(Stream, Bytes)>) {
    let mut chunk = BytesMut::new();
    loop {
        chunk.reserve(CHUNK_BYTES);
        match pipe.read_buf(&mut chunk).await {
            Ok(size) if size > 0 => {
                output.send((stream, chunk.split().freeze())).await.ok();
            }
            _ => return,
        }
    }
}

/// Ends after so many milliseconds; 0: never.
async fn deadline(timeout_ms: u64) {
    match timeout_ms {
        0 => std::future::pending().await,
        _ => tokio::time::sleep(Duration::from_millis(timeout_ms)).await,
    }
}

/// What one call sends.
struct Call<'a> {
    number: u32,
    event: &'a [u8],
    context: &'a CallContext,
    limits: &'a Limits,
}

impl Call<'_> {
    async fn exchange(&self, stream: &mut UnixStream, event_taken: &mut bool) -> Ended {
        let fields = json!({
            "request_id": self.context.request_id,
            "function": self.context.function,
            "memory_mb": self.limits.memory_bytes / (1024 * 1024),
            "timeout_ms": self.limits.timeout_ms,
        })
        .to_string();
        let size = u32::try_from(fields.len()).unwrap_or(0).to_be_bytes();
        let number = self.number.to_be_bytes();
        let parts: [&[u8]; 4] = [&number, &size, fields.as_bytes(), self.event];
        if frames::write(stream, Kind::Call, &parts).await.is_err() {
            return Ended::Broken(FrameError::Closed);
        }
        *event_taken = true;
        match frames::read(stream, self.limits.max_reply_bytes.saturating_add(FRAME_SLACK_BYTES)).await {
            Ok((kind, payload)) if payload.starts_with(&number) => Ended::Frame(kind, payload[4..].to_vec()),
            Ok(_) => Ended::Broken(FrameError::Garbage),
            // It died between two calls, and the socket took the event all the same.
            Err(FrameError::Unread) => {
                *event_taken = false;
                Ended::Broken(FrameError::Closed)
            }
            Err(error) => Ended::Broken(error),
        }
    }
}
