use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mirror::Hasher;
use tokio::sync::OwnedSemaphorePermit;

use super::invoke::now_ms;
use super::{Engine, LaunchError};
use crate::blocking::blocking;
use crate::durable;
use crate::function::{Function, LOCK_FILE, Meta};
use crate::functions::RegistryError;
use crate::name::FunctionName;
use crate::requirements::{self, RequirementsError};
use crate::supply::Supplied;
use crate::upload::{self, UploadError, UploadLimits};

/// What a deployment did.
#[derive(Debug)]
pub struct Deployed {
    /// The version that is current now.
    pub function: Arc<Function>,
    /// Whether the name was new.
    pub created: bool,
}

/// Why a deployment was refused. What was deployed before stays.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// The upload itself.
    #[error(transparent)]
    Upload(#[from] UploadError),
    /// Its entry or its requirements.
    #[error(transparent)]
    Requirements(#[from] RequirementsError),
    /// Resolution or environment.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// As many deployments are under way as may be.
    #[error("{limit} deployments are under way (setting executor.max_deployments); try again later")]
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// Our disk.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// Our disk.
    #[error("the uploaded code cannot be kept below the state folder")]
    Io(#[from] io::Error),
}

impl Engine {
    /// Lets a deployment in; waits for `executor.queue_timeout_ms` at most. To be taken before its upload is read, and
    /// held until it is over.
    ///
    /// # Errors
    /// [`DeployError::TooMany`].
    pub async fn deployment(&self) -> Result<OwnedSemaphorePermit, DeployError> {
        let executor = &self.settings.executor;
        let limit = Duration::from_millis(executor.queue_timeout_ms);
        match tokio::time::timeout(limit, self.deployments.clone().acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(DeployError::TooMany { limit: executor.max_deployments.max(1) }),
        }
    }

    /// Deploys an upload under a name: unpack, resolve, make the environment, commit.
    ///
    /// # Errors
    /// See [`DeployError`].
    pub async fn deploy(&self, name: FunctionName, body: Bytes) -> Result<Deployed, DeployError> {
        let staged = self.functions.stage()?;
        let code = staged.path().join("code");
        let limits = UploadLimits {
            unpacked_bytes: self.settings.executor.max_unpacked_bytes,
            entries: self.settings.executor.max_upload_entries,
        };
        let (entry, requirements) = blocking(move || {
            upload::unpack(&body, &code, limits)?;
            let entry = requirements::entry(&code)?;
            let requirements = requirements::detect(&code, &entry)?;
            Ok::<_, DeployError>((entry, requirements))
        })
        .await?;
        let supplied = match &requirements {
            Some(requirements) => self.supply(requirements).await?,
            None => Supplied::default(),
        };
        let lock = supplied
            .lock
            .as_ref()
            .filter(|_| !supplied.packages.is_empty())
            .map(|lock| lock.text().to_owned());
        let folder = staged.path().to_path_buf();
        let version = blocking(move || {
            if let Some(lock) = lock {
                durable::write(&folder.join(LOCK_FILE), lock.as_bytes())?;
            }
            version(&folder)
        })
        .await?;
        let meta = Meta {
            name,
            version,
            entry,
            deployed_at_ms: now_ms(),
            environment: supplied.environment,
            packages: supplied.packages,
            warnings: supplied.warnings,
        };
        let committed = tokio::task::block_in_place(|| self.functions.commit(staged, meta))?;
        if let Some(old) = &committed.replaced {
            self.pool.drain(old);
        }
        // Where the same version was current already this is set; else nobody has asked yet.
        let _ = committed.function.packages.set(supplied.set);
        Ok(Deployed { function: committed.function, created: committed.created })
    }

    /// Removes a function; `false` where there is none. Calls under way end as usual.
    ///
    /// # Errors
    /// The registry's folder cannot be written.
    pub fn remove(&self, name: &FunctionName) -> Result<bool, RegistryError> {
        let forget_logs = || self.logs.forget(name);
        let Some(function) = self.functions.remove(name, forget_logs)? else { return Ok(false) };
        self.pool.drain(&function);
        Ok(true)
    }
}

/// Digest of all files below `folder`: path, length and content of each, in order of path.
fn version(folder: &Path) -> io::Result<String> {
    let mut files = Vec::new();
    collect(folder, &mut files)?;
    files.sort();
    let mut hasher = Hasher::default();
    for path in files {
        let content = std::fs::read(&path)?;
        let name = path.strip_prefix(folder).unwrap_or(&path).as_os_str().as_encoded_bytes();
        for part in [name, &content] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
    }
    Ok(hasher.finish().to_string())
}

/// The folder was made by us from an upload without links: nothing leads out of it.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), files)?;
        } else {
            files.push(entry.path());
        }
    }
    Ok(())
}
