use std::io;
use std::path::PathBuf;

use mirror::Interpreter;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::Environment;

/// Longest line either side takes: a lock of 10,000 packages and its answer fit.
pub(super) const MAX_LINE_BYTES: u64 = 32 * 1024 * 1024;

/// What can be asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Request {
    Status,
    CreateEnv { lock: String, interpreter: Box<Interpreter> },
    ListEnvs,
}

/// What is answered.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Response {
    Status(Status),
    Env(Environment),
    Envs(Vec<String>),
    Error { message: String, upstream_down: bool },
}

/// What a running daemon says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Where it is mounted.
    pub mount: PathBuf,
    /// Its process.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// Bytes of the store.
    pub store_bytes: u64,
    /// Files of the store.
    pub store_files: usize,
    /// Bytes the store may take.
    pub store_max_bytes: u64,
    /// Wheels opened since it started.
    pub wheels: usize,
    /// Environments that were ever made.
    pub environments: usize,
}

/// Why a request on the control socket failed.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody listens.
    #[error("no ol-pkgfs answers at {path}; start one with `ol-pkgfs mount`")]
    NotRunning {
        /// The socket.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// It took too long.
    #[error(
        "ol-pkgfs did not answer at {path} in {timeout_ms} ms; see its log, or raise {setting} in [pkgfs]"
    )]
    TimedOut {
        /// The socket.
        path: PathBuf,
        /// The limit.
        timeout_ms: u64,
        /// The setting that has it.
        setting: &'static str,
    },
    /// The connection broke.
    #[error("the connection to ol-pkgfs broke; see its log")]
    Broken(#[source] io::Error),
    /// It answered with something else than was asked for.
    #[error(
        "ol-pkgfs answered something that this version does not understand; run both programs in the same version"
    )]
    NotUnderstood,
    /// It said no.
    #[error("{message}")]
    Refused {
        /// Its reason.
        message: String,
        /// Whether the index is at fault: another try may succeed.
        upstream_down: bool,
    },
}

impl ControlError {
    /// Whether the index is at fault: another try may succeed.
    pub fn upstream_down(&self) -> bool {
        matches!(self, ControlError::Refused { upstream_down: true, .. })
    }
}

/// Reads one line; `None` where the other side hung up.
pub(super) async fn read_line(reader: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    reader.take(MAX_LINE_BYTES).read_until(b'\n', &mut line).await?;
    match line.pop() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(line)),
        Some(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "the line is too long or cut short")),
    }
}

pub(super) async fn write_line(
    writer: &mut (impl AsyncWrite + Unpin),
    value: &impl Serialize,
) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    writer.write_all(&line).await?;
    writer.flush().await
}
