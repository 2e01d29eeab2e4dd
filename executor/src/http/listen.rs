use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use config::{Program, Settings};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;

/// How long a client has to take the answer that its request was cut off.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// TCP.
    #[error("cannot listen on {address}; is it in use by another program? name another with --listen")]
    Tcp {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Unix.
    #[error("cannot listen on the unix socket {path}; name another with --socket")]
    Unix {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A socket that somebody answers.
    #[error("another program answers on the unix socket {path}; stop it or name another with --socket")]
    Taken {
        /// The path.
        path: PathBuf,
    },
}

/// Bound addresses, not yet answered.
pub struct Listeners {
    tcp: Option<TcpListener>,
    unix: UnixListener,
    /// Removes the socket's file at the end.
    path: SocketFile,
}

struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // It may be gone already with its folder.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Listeners {
    /// Binds the unix socket, and the TCP address if `tcp` says so. A socket file that nobody answers (of a killed run)
    /// is replaced.
    ///
    /// # Errors
    /// See [`ListenError`].
    pub async fn bind(settings: &Settings, tcp: bool) -> Result<Listeners, ListenError> {
        let tcp = match settings.listen_of(Program::Exec).filter(|_| tcp) {
            None => None,
            Some(address) => {
                let bound = TcpListener::bind(address).await;
                Some(bound.map_err(|source| ListenError::Tcp { address, source })?)
            }
        };
        let path = settings.socket_of(Program::Exec);
        let unix = bind_unix(&path)?;
        Ok(Listeners { tcp, unix, path: SocketFile(path) })
    }

    /// The TCP address that was bound; tells the port where 0 was asked for.
    pub fn address(&self) -> Option<SocketAddr> {
        self.tcp.as_ref().and_then(|tcp| tcp.local_addr().ok())
    }

    /// The unix socket.
    pub fn socket(&self) -> &Path {
        &self.path.0
    }

    /// Answers until `stop` is ready; then lets requests under way end, for `executor.shutdown_timeout_ms` or until
    /// `hurry` is ready. What is not done then is told to end by `halt`.
    pub async fn serve(
        self,
        settings: &Settings,
        (shared, local): (Router, Router),
        stop: impl Future<Output = ()>,
        hurry: impl Future<Output = ()>,
        halt: impl FnOnce(),
    ) {
        let executor = &settings.executor;
        let server = Arc::new(Server {
            graceful: GracefulShutdown::new(),
            connections: Arc::new(Semaphore::new(executor.max_connections)),
            request_timeout: Duration::from_millis(executor.request_timeout_ms),
        });
        {
            let tcp = async {
                match &self.tcp {
                    Some(tcp) => {
                        server.accept(shared, |cx| tcp.poll_accept(cx).map_ok(|(stream, _)| stream)).await
                    }
                    None => std::future::pending().await,
                }
            };
            let unix = server.accept(local, |cx| self.unix.poll_accept(cx).map_ok(|(stream, _)| stream));
            let mut stop = pin!(stop);
            tokio::select! {
                () = tcp => {}
                () = unix => {}
                () = &mut stop => {}
            }
        }
        // Nobody new gets in while those who are in finish.
        drop((self.tcp, self.unix, self.path));
        let Ok(server) = Arc::try_unwrap(server) else { return };
        let limit = Duration::from_millis(executor.shutdown_timeout_ms);
        let mut drained = pin!(server.graceful.shutdown());
        tokio::select! {
            () = &mut drained => return,
            () = hurry => tracing::warn!("requests under way are cut off"),
            () = tokio::time::sleep(limit) => {
                tracing::warn!("requests did not end within executor.shutdown_timeout_ms and are cut off");
            }
        }
        halt();
        if tokio::time::timeout(LAST_WORDS, drained).await.is_err() {
            tracing::warn!("clients did not take their answers; their connections are closed");
        }
    }
}

struct Server {
    graceful: GracefulShutdown,
    connections: Arc<Semaphore>,
    request_timeout: Duration,
}

impl Server {
    async fn accept<S>(&self, router: Router, mut accept: impl FnMut(&mut Context<'_>) -> Poll<io::Result<S>>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(self.request_timeout);
        let service = TowerToHyperService::new(router);
        loop {
            // At the limit new connections wait in the kernel's queue.
            let Ok(permit) = self.connections.clone().acquire_owned().await else { return };
            let stream = match std::future::poll_fn(&mut accept).await {
                Ok(stream) => stream,
                Err(error) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    // Out of descriptors, most likely: some come free with the connections that end.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let connection =
                self.graceful.watch(http.serve_connection(TokioIo::new(stream), service.clone()));
            tokio::spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "a connection ended early");
                }
                drop(permit);
            });
        }
    }
}

fn bind_unix(path: &Path) -> Result<UnixListener, ListenError> {
    let failed = |source| ListenError::Unix { path: path.to_path_buf(), source };
    mirror::clear_stale_socket(path).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => ListenError::Taken { path: path.to_path_buf() },
        _ => failed(source),
    })?;
    let folder = path.parent().unwrap_or(Path::new("."));
    // Bound under a name of its own and linked when its mode is right: at no time can others connect. A link, not a
    // rename: that would take the place of whatever file is there.
    let hidden = tempfile::Builder::new().prefix(".ol-exec-").tempdir_in(folder).map_err(failed)?;
    let bound = hidden.path().join("s");
    let listener = UnixListener::bind(&bound).map_err(failed)?;
    std::fs::set_permissions(&bound, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    std::fs::hard_link(&bound, path).map_err(failed)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_a_socket_of_a_killed_run_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ol-exec.sock");
        std::fs::write(&path, "precious").unwrap();
        assert!(matches!(bind_unix(&path), Err(ListenError::Unix { .. })));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
        std::fs::remove_file(&path).unwrap();
        let first = bind_unix(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(bind_unix(&path), Err(ListenError::Taken { .. })));
        drop(first);
        bind_unix(&path).unwrap();
    }
}
