use std::path::{Path, PathBuf};
use std::time::Duration;

use config::PkgfsSettings;
use mirror::{Interpreter, Lock};
use tokio::io::BufReader;
use tokio::net::UnixStream;

use super::wire::{ControlError, Request, Response, Status, read_line, write_line};
use crate::Environment;

/// Talks to a running `ol-pkgfs` (or an `ol-exec` that embeds it).
#[derive(Clone, Debug)]
pub struct ControlClient {
    path: PathBuf,
    /// Limits for an answer, with the names of the settings they come from.
    usual: (u64, &'static str),
    create: (u64, &'static str),
}

impl ControlClient {
    /// For the daemon that listens at `path`.
    pub fn new(path: &Path, settings: &PkgfsSettings) -> ControlClient {
        ControlClient {
            path: path.to_owned(),
            usual: (settings.control_timeout_ms, "control_timeout_ms"),
            create: (settings.create_timeout_ms, "create_timeout_ms"),
        }
    }

    /// What the daemon says of itself.
    ///
    /// # Errors
    /// None runs there, or it does not answer as expected.
    pub async fn status(&self) -> Result<Status, ControlError> {
        match self.ask(&Request::Status, self.usual).await? {
            Response::Status(status) => Ok(status),
            _ => Err(ControlError::NotUnderstood),
        }
    }

    /// Has it make the environment of `lock`.
    ///
    /// # Errors
    /// None runs there, or it refuses: the lock does not fit, a wheel cannot be opened.
    pub async fn create_env(
        &self,
        lock: &Lock,
        interpreter: &Interpreter,
    ) -> Result<Environment, ControlError> {
        let request =
            Request::CreateEnv { lock: lock.text().to_owned(), interpreter: Box::new(interpreter.clone()) };
        match self.ask(&request, self.create).await? {
            Response::Env(environment) => Ok(environment),
            _ => Err(ControlError::NotUnderstood),
        }
    }

    /// Names of all environments.
    ///
    /// # Errors
    /// None runs there, or it does not answer as expected.
    pub async fn list_envs(&self) -> Result<Vec<String>, ControlError> {
        match self.ask(&Request::ListEnvs, self.usual).await? {
            Response::Envs(ids) => Ok(ids),
            _ => Err(ControlError::NotUnderstood),
        }
    }

    async fn ask(
        &self,
        request: &Request,
        (timeout_ms, setting): (u64, &'static str),
    ) -> Result<Response, ControlError> {
        let answer = tokio::time::timeout(Duration::from_millis(timeout_ms), self.answer(request)).await;
        answer
            .unwrap_or_else(|_| Err(ControlError::TimedOut { path: self.path.clone(), timeout_ms, setting }))
    }

    async fn answer(&self, request: &Request) -> Result<Response, ControlError> {
        let stream = UnixStream::connect(&self.path)
            .await
            .map_err(|source| ControlError::NotRunning { path: self.path.clone(), source })?;
        let mut stream = BufReader::new(stream);
        write_line(&mut stream, request).await.map_err(ControlError::Broken)?;
        let line = read_line(&mut stream).await.map_err(ControlError::Broken)?;
        let line = line.ok_or_else(|| ControlError::Broken(std::io::ErrorKind::UnexpectedEof.into()))?;
        match serde_json::from_slice(&line) {
            Ok(Response::Error { message, upstream_down }) => {
                Err(ControlError::Refused { message, upstream_down })
            }
            Ok(response) => Ok(response),
            Err(_) => Err(ControlError::NotUnderstood),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_daemon_that_hangs_is_not_waited_for_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let _never_answers = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let limit = (20, "control_timeout_ms");
        let client = ControlClient { path: path.clone(), usual: limit, create: limit };
        let said = format!(
            "ol-pkgfs did not answer at {} in 20 ms; see its log, or raise control_timeout_ms in [pkgfs]",
            path.display()
        );
        assert_eq!(client.status().await.unwrap_err().to_string(), said);
        assert_eq!(client.list_envs().await.unwrap_err().to_string(), said);
    }
}
