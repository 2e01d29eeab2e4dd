use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::Mutex;

/// What the interpreter runs.
const PROGRAM: &str = include_str!("../../python/compile.py");
/// A source that takes longer is left to Python.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for the sources that came before.
const PATIENCE: Duration = Duration::from_secs(5);
/// Largest byte code taken.
const MAX_CODE_BYTES: u32 = 64 << 20;

/// One process of an interpreter that compiles, started when it is first needed, and again when it died.
#[derive(Debug)]
pub(super) struct Worker {
    interpreter: PathBuf,
    patience: Duration,
    running: Mutex<Option<Running>>,
}

/// Why there is no answer about a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoAnswer {
    /// Others were before it for too long, or there is no process: this says nothing of the source.
    Busy,
    /// The process died or took too long over it.
    Failed,
}

#[derive(Debug)]
struct Running {
    /// Killed with this value.
    _child: Child,
    to: ChildStdin,
    from: ChildStdout,
}

impl Worker {
    pub(super) fn new(interpreter: &Path) -> Worker {
        Worker { interpreter: interpreter.to_owned(), patience: PATIENCE, running: Mutex::new(None) }
    }

    /// The `.pyc` of a source; `None` where it is not valid Python.
    pub(super) async fn compile(&self, source: &[u8]) -> Result<Option<Vec<u8>>, NoAnswer> {
        let slot = tokio::time::timeout(self.patience, self.running.lock()).await;
        let mut slot = slot.map_err(|_| NoAnswer::Busy)?;
        // Taken out: whatever goes wrong from here on, this process is not used again.
        let running = match slot.take() {
            Some(running) => Ok(running),
            None => self.start(),
        };
        let mut running = running
            .inspect_err(|error| tracing::info!(%error, "no byte code: the interpreter cannot be started"))
            .map_err(|_| NoAnswer::Busy)?;
        match tokio::time::timeout(TIMEOUT, running.exchange(source)).await {
            Ok(Ok(code)) => {
                *slot = Some(running);
                Ok(Some(code).filter(|code| !code.is_empty()))
            }
            Ok(Err(error)) => {
                tracing::info!(%error, "a source could not be compiled");
                Err(NoAnswer::Failed)
            }
            Err(_) => {
                tracing::info!("a source took too long to compile");
                Err(NoAnswer::Failed)
            }
        }
    }

    fn start(&self) -> io::Result<Running> {
        let mut child = Command::new(&self.interpreter)
            // Isolated, no site, no warnings about the sources, no files of its own.
            .args(["-I", "-S", "-B", "-W", "ignore", "-c", PROGRAM])
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        let (to, from) = (child.stdin.take().ok_or_else(gone)?, child.stdout.take().ok_or_else(gone)?);
        Ok(Running { _child: child, to, from })
    }
}

impl Running {
    async fn exchange(&mut self, source: &[u8]) -> io::Result<Vec<u8>> {
        let length = u32::try_from(source.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        self.to.write_all(&length.to_le_bytes()).await?;
        self.to.write_all(source).await?;
        self.to.flush().await?;
        let length = self.from.read_u32_le().await?;
        if length > MAX_CODE_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut code = vec![0; length as usize];
        self.from.read_exact(&mut code).await?;
        Ok(code)
    }
}

#[cfg(test)]
mod tests {
    use mirror::Interpreter;

    use super::*;

    #[tokio::test]
    async fn sources_become_byte_code_and_bad_ones_do_not() {
        let worker = Worker::new(&Interpreter::find(None).unwrap().path);
        let code = worker.compile(b"def f():\n    return 1\n").await.unwrap().unwrap();
        assert_eq!(code[4..8], 1u32.to_le_bytes(), "unchecked hash");
        assert!(worker.compile("x = 'é'\n".as_bytes()).await.unwrap().is_some());
        assert!(worker.compile(b"# coding: latin-1\nx = '\xe9'\n").await.unwrap().is_some());
        assert_eq!(worker.compile(b"def f(:\n").await, Ok(None));
        assert_eq!(worker.compile(b"# coding: nonsense\n").await, Ok(None));
        // Deep nesting makes some parsers give up their life; the next source must not notice.
        let deep = "(".repeat(100_000);
        assert!(matches!(worker.compile(deep.as_bytes()).await, Ok(None) | Err(NoAnswer::Failed)));
        assert!(worker.compile(b"x = 1\n").await.unwrap().is_some());
    }

    #[tokio::test]
    async fn who_waits_too_long_learns_nothing_of_its_source() {
        let mut worker = Worker::new(&Interpreter::find(None).unwrap().path);
        worker.patience = Duration::from_millis(10);
        let before = worker.running.lock().await;
        assert_eq!(worker.compile(b"x = 1\n").await, Err(NoAnswer::Busy));
        drop(before);
        assert!(worker.compile(b"x = 1\n").await.unwrap().is_some());
        worker.interpreter = "/nonexistent/python".into();
        worker.running = Mutex::default();
        assert_eq!(worker.compile(b"x = 1\n").await, Err(NoAnswer::Busy));
    }
}
