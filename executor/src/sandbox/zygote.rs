use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Mutex;

use super::ids::Ids;
use super::process::Process;
use crate::sys::message;

/// Largest packet of a zygote: names and errors of failed imports.
const MAX_PACKET: usize = 256 * 1024;

/// A live Python that others are forked from. The process ends when the last clone is dropped.
#[derive(Clone)]
pub struct Zygote {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) control: Mutex<Control>,
    pub(super) process: Process,
    pub(super) ids: Ids,
    /// Its user namespace, if not the host's.
    pub(super) user_namespace: Option<OwnedFd>,
    /// The environment its interpreter is set up for.
    pub(super) env_path: Option<PathBuf>,
    pub(super) failed_imports: Vec<(String, String)>,
    pub(super) alive: AtomicBool,
}

impl Zygote {
    /// Modules whose import failed, each with its error.
    pub fn failed_imports(&self) -> &[(String, String)] {
        &self.inner.failed_imports
    }

    /// Whether it can still be forked from, as far as is known.
    pub fn is_alive(&self) -> bool {
        self.inner.alive.load(Ordering::Acquire)
    }

    /// Memory of the process and its pages shared with leaves, at its highest.
    pub fn memory_peak_bytes(&self) -> u64 {
        self.inner.process.cgroup().map_or(0, |cgroup| cgroup.memory_peak_bytes())
    }
}

impl Inner {
    /// Never forked from again: it is gone, hung, or does not keep to the protocol.
    pub(super) fn give_up(&self) {
        self.alive.store(false, Ordering::Release);
        self.process.kill();
    }

    /// Asks for a fork and returns the child's pidfd. One at a time. A zygote that gives no proper answer is given up.
    ///
    /// Not to be cancelled between question and answer: run it in a task of its own.
    pub(super) async fn fork(
        &self,
        kind: &str,
        descriptors: &[BorrowedFd<'_>],
        limit: Duration,
    ) -> Result<OwnedFd, ExchangeError> {
        let control = self.control.lock().await;
        // While this waited for its turn, the one before may have got no answer: the next packet would be that one.
        if !self.alive.load(Ordering::Acquire) {
            return Err(ExchangeError::Gone);
        }
        let answer = Inner::ask(&control, kind, descriptors, limit).await;
        if let Err(ExchangeError::Gone | ExchangeError::TimedOut) = &answer {
            self.give_up();
        }
        answer
    }

    async fn ask(
        control: &Control,
        kind: &str,
        descriptors: &[BorrowedFd<'_>],
        limit: Duration,
    ) -> Result<OwnedFd, ExchangeError> {
        let order = json!({ "fork": kind }).to_string();
        let exchange = async {
            control.send(order.as_bytes(), descriptors).await?;
            control.receive().await
        };
        let (packet, mut received) =
            tokio::time::timeout(limit, exchange).await.map_err(|_| ExchangeError::TimedOut)??;
        match (received.pop(), received.len(), serde_json::from_slice::<Refusal>(&packet)) {
            (Some(pidfd), 0, _) => Ok(pidfd),
            (None, 0, Ok(refusal)) => Err(ExchangeError::Refused(refusal.error)),
            _ => Err(ExchangeError::Gone),
        }
    }
}

/// Why a zygote gave no answer.
pub(super) enum ExchangeError {
    Gone,
    Refused(String),
    TimedOut,
}

impl From<io::Error> for ExchangeError {
    fn from(_: io::Error) -> ExchangeError {
        ExchangeError::Gone
    }
}

#[derive(Deserialize)]
struct Refusal {
    error: String,
}

/// What a new zygote says when it is ready, or which step failed.
#[derive(Deserialize)]
pub(super) struct Report {
    #[serde(default)]
    pub failed: Vec<(String, String)>,
    #[serde(default)]
    pub threads: u32,
    pub step: Option<String>,
    #[serde(default)]
    pub error: String,
}

/// Our end of a zygote's control socket.
pub(super) struct Control(AsyncFd<Arc<OwnedFd>>);

impl Control {
    pub(super) fn new(socket: OwnedFd) -> io::Result<Control> {
        let flags = nix::fcntl::OFlag::O_NONBLOCK;
        nix::fcntl::fcntl(&socket, nix::fcntl::FcntlArg::F_SETFL(flags))?;
        Ok(Control(message::watch(Arc::new(socket), Interest::READABLE | Interest::WRITABLE)?))
    }

    pub(super) async fn send(&self, packet: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let send = |socket: &Arc<OwnedFd>| message::send(socket.as_fd(), packet, descriptors);
        self.0.async_io(Interest::WRITABLE, send).await
    }

    /// The next packet; the end of the socket is an error.
    pub(super) async fn receive(&self) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
        let receive = |socket: &Arc<OwnedFd>| {
            let mut buffer = vec![0; MAX_PACKET];
            let (size, descriptors) = message::receive(socket.as_fd(), &mut buffer)?;
            buffer.truncate(size);
            Ok((buffer, descriptors))
        };
        let (packet, descriptors) = self.0.async_io(Interest::READABLE, receive).await?;
        if packet.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok((packet, descriptors))
    }

    /// What a new zygote has to say.
    pub(super) async fn report(&self) -> io::Result<Report> {
        let (packet, _) = self.receive().await?;
        serde_json::from_slice(&packet).map_err(io::Error::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::stage_run::packet_sockets;

    fn zygote(control: OwnedFd) -> Inner {
        Inner {
            control: Mutex::new(Control::new(control).unwrap()),
            process: Process::ended(),
            ids: Ids::new(1, 1),
            user_namespace: None,
            env_path: None,
            failed_imports: Vec::new(),
            alive: AtomicBool::new(true),
        }
    }

    #[tokio::test]
    async fn an_answer_that_comes_late_is_nobody_elses() {
        let (ours, theirs) = packet_sockets().unwrap();
        let zygote = zygote(ours);
        let theirs = Control::new(theirs).unwrap();
        let long = Duration::from_secs(60);
        let answering = async {
            theirs.receive().await.unwrap();
            // Where a second order comes, it gets the first one's answer.
            theirs.receive().await.unwrap();
            theirs.send(b"{}", &[std::io::stderr().as_fd()]).await.unwrap();
            std::future::pending::<()>().await;
        };
        let first = zygote.fork("leaf", &[], Duration::from_millis(1));
        let second = zygote.fork("leaf", &[], long);
        tokio::select! {
            () = answering => {}
            (first, second) = async { tokio::join!(first, second) } => {
                assert!(matches!(first, Err(ExchangeError::TimedOut)));
                assert!(matches!(second, Err(ExchangeError::Gone)), "it took a stale answer");
            }
        }
        assert!(!zygote.alive.load(Ordering::Acquire));
    }

    #[tokio::test]
    async fn an_answer_with_more_than_a_pidfd_is_refused() {
        let (ours, theirs) = packet_sockets().unwrap();
        let zygote = zygote(ours);
        let descriptors = vec![theirs.as_fd(); 17];
        message::send(theirs.as_fd(), b"{}", &descriptors).unwrap();
        let answer = zygote.fork("leaf", &[], Duration::from_secs(60)).await;
        assert!(matches!(answer, Err(ExchangeError::Gone)));
        assert!(!zygote.alive.load(Ordering::Acquire));
    }
}
