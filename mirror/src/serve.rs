//! The simple API over what the repository holds: router → negotiate → render, and files with ranges.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::get;
use config::Settings;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;

use crate::repository::Repository;

mod file;
mod negotiate;
mod page;
mod range;

/// Why the server could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address is taken.
    #[error("{address} is in use; stop what listens there, or choose another with {flag}")]
    InUse {
        /// Address or socket.
        address: String,
        /// The flag that changes it.
        flag: &'static str,
    },
    /// It cannot be listened on.
    #[error("{address} cannot be listened on; choose another with {flag}")]
    Listen {
        /// Address or socket.
        address: String,
        /// The flag that changes it.
        flag: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// The server ended by itself.
    #[error("the server failed")]
    Serve(#[source] io::Error),
}

/// Sockets that are open and wait for [`Server::run`].
#[derive(Debug)]
pub struct Server {
    tcp: TcpListener,
    unix: Option<(UnixListener, SocketFile)>,
    router: Router,
    stop_timeout: Duration,
}

/// Shared by all handlers.
#[derive(Debug)]
struct Shared {
    repository: Repository,
    page_max_age_s: u64,
}

impl Server {
    /// Opens the sockets: `address`, and `socket` where there is one.
    ///
    /// # Errors
    /// One of them is in use, or cannot be opened.
    pub async fn bind(
        settings: &Settings,
        address: SocketAddr,
        socket: Option<&Path>,
    ) -> Result<Server, ServeError> {
        let tcp = TcpListener::bind(address)
            .await
            .map_err(|source| refused(address.to_string(), "--listen (OL_LISTEN)", source))?;
        let unix = socket.map(bind_unix).transpose()?;
        let shared = Shared {
            repository: Repository::new(&settings.state),
            page_max_age_s: settings.mirror.page_ttl_ms / 1000,
        };
        let stop_timeout = Duration::from_millis(settings.mirror.stop_timeout_ms);
        Ok(Server { tcp, unix, router: router(shared), stop_timeout })
    }

    /// The address it listens on; the port is the real one where 0 was asked for.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// Serves until `stop` is done, then lets requests under way end, for `stop_timeout_ms` at most.
    ///
    /// # Errors
    /// The server ended by itself.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), ServeError> {
        let (stopping, stopped) = watch::channel(false);
        let wait = |mut stopped: watch::Receiver<bool>| async move {
            // An error means that the sender is gone: then it is time to stop as well.
            let _ = stopped.wait_for(|stopping| *stopping).await;
        };
        let tcp = axum::serve(self.tcp, self.router.clone()).with_graceful_shutdown(wait(stopped.clone()));
        let (unix, socket_file) = self.unix.unzip();
        let unix = async {
            match unix {
                Some(unix) => {
                    axum::serve(unix, self.router).with_graceful_shutdown(wait(stopped.clone())).await
                }
                None => {
                    wait(stopped.clone()).await;
                    Ok(())
                }
            }
        };
        let mut both = std::pin::pin!(async { tokio::try_join!(async { tcp.await }, unix) });
        tokio::select! {
            ended = &mut both => return ended.map(|_| ()).map_err(ServeError::Serve),
            () = stop => {}
        }
        stopping.send_replace(true);
        if tokio::time::timeout(self.stop_timeout, both).await.is_err() {
            tracing::info!("requests still under way were cut off");
        }
        drop(socket_file);
        Ok(())
    }
}

fn router(shared: Shared) -> Router {
    Router::new()
        .route("/simple", get(page::to_index))
        .route("/simple/", get(page::index))
        .route("/simple/{project}", get(page::to_project))
        .route("/simple/{project}/", get(page::project))
        .route("/files/{project}/{filename}", get(file::file))
        .route("/healthz", get(page::health))
        .layer(middleware::from_fn(log))
        .with_state(Arc::new(shared))
}

/// One line a request.
async fn log(request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let range = request.headers().get("range").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let started = Instant::now();
    let response = next.run(request).await;
    let status = response.status().as_u16();
    tracing::info!(%method, path, range, status, took_us = started.elapsed().as_micros() as u64, "request");
    response
}

fn refused(address: String, flag: &'static str, source: io::Error) -> ServeError {
    match source.kind() {
        io::ErrorKind::AddrInUse => ServeError::InUse { address, flag },
        _ => ServeError::Listen { address, flag, source },
    }
}

/// A socket file of ours; removed when the server ends.
#[derive(Debug)]
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Listens on `path`. A socket file that nobody answers on is left over from a killed run and replaced.
fn bind_unix(path: &Path) -> Result<(UnixListener, SocketFile), ServeError> {
    const FLAG: &str = "--socket (OL_SOCKET)";
    let failed = |source| refused(path.display().to_string(), FLAG, source);
    crate::clear_stale_socket(path).map_err(failed)?;
    UnixListener::bind(path).map(|listener| (listener, SocketFile(path.to_path_buf()))).map_err(failed)
}
