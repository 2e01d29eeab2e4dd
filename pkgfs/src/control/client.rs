use std::path::{Path, PathBuf};

use mirror::{Interpreter, Lock};
use tokio::io::BufReader;
use tokio::net::UnixStream;

use super::wire::{ControlError, Request, Response, Status, read_line, write_line};
use crate::Environment;

/// Talks to a running `ol-pkgfs` (or an `ol-exec` that embeds it).
#[derive(Clone, Debug)]
pub struct ControlClient {
    path: PathBuf,
}

impl ControlClient {
    /// For the daemon that listens at `path`.
    pub fn new(path: &Path) -> ControlClient {
        ControlClient { path: path.to_owned() }
    }

    /// What the daemon says of itself.
    ///
    /// # Errors
    /// None runs there, or it does not answer as expected.
    pub async fn status(&self) -> Result<Status, ControlError> {
        match self.ask(&Request::Status).await? {
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
        match self.ask(&request).await? {
            Response::Env(environment) => Ok(environment),
            _ => Err(ControlError::NotUnderstood),
        }
    }

    /// Names of all environments.
    ///
    /// # Errors
    /// None runs there, or it does not answer as expected.
    pub async fn list_envs(&self) -> Result<Vec<String>, ControlError> {
        match self.ask(&Request::ListEnvs).await? {
            Response::Envs(ids) => Ok(ids),
            _ => Err(ControlError::NotUnderstood),
        }
    }

    async fn ask(&self, request: &Request) -> Result<Response, ControlError> {
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
