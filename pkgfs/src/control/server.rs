use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use mirror::Lock;
use tokio::io::BufReader;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::wire::{Request, Response, read_line, write_line};
use crate::packages::Embedded;

/// Connections served at once; more wait in the socket's backlog.
const MAX_CONNECTIONS: usize = 64;

/// The pause after an accept that failed: out of descriptors, most likely, of which some come free.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// The listening side. Dropping it stops listening and removes the socket.
#[derive(Debug)]
pub(crate) struct Server {
    path: PathBuf,
    task: JoinHandle<()>,
}

impl Server {
    /// Listens at `path`. A socket that nobody answers on was left by a killed run and is replaced; anything else that
    /// is there stays.
    pub(crate) fn start(path: &Path, packages: Arc<Embedded>) -> io::Result<Server> {
        mirror::clear_stale_socket(path)?;
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        let task = tokio::spawn(listen(listener, packages));
        Ok(Server { path: path.to_owned(), task })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
        let _ = fs::remove_file(&self.path);
    }
}

async fn listen(listener: UnixListener, packages: Arc<Embedded>) {
    let accept = |context: &mut Context<'_>| listener.poll_accept(context).map_ok(|(stream, _)| stream);
    let serve = |stream| {
        let packages = packages.clone();
        async move {
            if let Err(error) = talk(stream, &packages).await {
                tracing::debug!(%error, "control connection ended");
            }
        }
    };
    accept_all(accept, serve).await;
}

/// Serves what `accept` brings, for as long as the mount lives: an error of one connection, or a lack of descriptors,
/// passes.
async fn accept_all<T, S>(
    mut accept: impl FnMut(&mut Context<'_>) -> Poll<io::Result<T>>,
    mut serve: impl FnMut(T) -> S,
) where
    S: Future<Output = ()> + Send + 'static,
{
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        match std::future::poll_fn(&mut accept).await {
            Ok(stream) => {
                let served = serve(stream);
                tokio::spawn(async move {
                    served.await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a control connection was not accepted");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

async fn talk(stream: UnixStream, packages: &Embedded) -> io::Result<()> {
    // The mode of the socket keeps others out; the kernel's word on who calls is checked all the same.
    let caller = stream.peer_cred()?.uid();
    if caller != 0 && caller != nix::unistd::geteuid().as_raw() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let mut stream = BufReader::new(stream);
    while let Some(line) = read_line(&mut stream).await? {
        let response = match serde_json::from_slice::<Request>(&line) {
            Ok(request) => answer(request, packages).await,
            Err(error) => failed(format!("request not understood: {error}"), false),
        };
        write_line(&mut stream, &response).await?;
    }
    Ok(())
}

async fn answer(request: Request, packages: &Embedded) -> Response {
    match request {
        Request::Status => Response::Status(packages.status()),
        Request::ListEnvs => Response::Envs(packages.environment_ids()),
        Request::CreateEnv { lock, interpreter } => {
            let lock = match Lock::parse(&lock) {
                Ok(lock) => lock,
                Err(error) => return failed(error.to_string(), false),
            };
            match packages.create(&lock, &interpreter).await {
                Ok(environment) => Response::Env(environment),
                Err(error) => failed(chain(&error), error.upstream_down()),
            }
        }
    }
}

/// The error and its causes: the other side gets a text.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

fn failed(message: String, upstream_down: bool) -> Response {
    Response::Error { message, upstream_down }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_accept_that_fails_does_not_end_it() {
        let (served, mut seen) = tokio::sync::mpsc::unbounded_channel();
        let mut arrivals =
            [Err(io::ErrorKind::ConnectionAborted.into()), Err(io::Error::from_raw_os_error(24)), Ok(7)]
                .into_iter();
        let accept = |_: &mut Context<'_>| arrivals.next().map_or(Poll::Pending, Poll::Ready);
        let serve = |stream| {
            let served = served.clone();
            async move { served.send(stream).unwrap() }
        };
        tokio::select! {
            () = accept_all(accept, serve) => panic!("it ended"),
            stream = seen.recv() => assert_eq!(stream, Some(7)),
        }
    }
}
