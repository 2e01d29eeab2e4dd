use std::path::PathBuf;

use config::Settings;
use pep440_rs::Version;
use tokio::sync::{OnceCell, Semaphore};

use crate::requirements::{RequirementsError, Specifiers};
use crate::{Index, IndexClient, IndexError, Interpreter, Lock, LockError, Requirements};

mod cache;
mod report;
mod run;
mod uv;

pub use uv::UvError;

/// Turns requirements into locks: a cache of earlier answers, and behind it uv as a subprocess.
///
/// Only wheels are considered, so that no build ever runs; uv sees neither the user's uv configuration nor that of
/// the project it resolves.
#[derive(Debug)]
pub struct Resolver {
    settings: Settings,
    index: Index,
    interpreter: Interpreter,
    uv: OnceCell<PathBuf>,
    /// One place for each uv that may run at once.
    places: Semaphore,
}

/// Why requirements could not be resolved. Each is one sentence; uv's own reason stands after the first one's colon.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// What was asked for cannot be read, or is not what it should be.
    #[error(transparent)]
    BadInput(#[from] RequirementsError),
    /// uv did not understand it.
    #[error("the requirements cannot be read: {reason}")]
    Unreadable {
        /// uv's reason.
        reason: String,
    },
    /// A lock that was given cannot be used.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// It runs on other Pythons than this one.
    #[error("Python {wanted} is required, and the interpreter is Python {found}; name another with --python")]
    RequiresPython {
        /// What is demanded.
        wanted: String,
        /// What there is.
        found: String,
    },
    /// A project that the index does not have.
    #[error(
        "project {project} is not on the index {index}; check the spelling, or name another index with --index-url"
    )]
    UnknownProject {
        /// The project.
        project: String,
        /// The index, without secrets.
        index: String,
    },
    /// No set of releases satisfies everything.
    #[error("the requirements cannot be satisfied together: {reason}")]
    Unsolvable {
        /// uv's reason.
        reason: String,
    },
    /// The index cannot be reached or does not answer properly.
    #[error(
        "the index {index} cannot be used: {reason}; check the network, or name another index with --index-url"
    )]
    Upstream {
        /// The index, without secrets.
        index: String,
        /// uv's reason.
        reason: String,
    },
    /// uv took too long.
    #[error(
        "resolving took over {timeout_ms} ms; raise resolve_timeout_ms in [mirror], or pin more of the requirements"
    )]
    TimedOut {
        /// The limit.
        timeout_ms: u64,
    },
    /// There is no uv, or it does not run.
    #[error(transparent)]
    Uv(#[from] UvError),
    /// uv failed in a way we do not know.
    #[error("uv failed: {reason}")]
    Other {
        /// What it said.
        reason: String,
    },
}

impl ResolveError {
    /// Whether the requirements are at fault, and not this machine or the index.
    pub fn is_users(&self) -> bool {
        use ResolveError as E;
        matches!(
            self,
            E::BadInput(_)
                | E::Unreadable { .. }
                | E::Lock(_)
                | E::RequiresPython { .. }
                | E::UnknownProject { .. }
                | E::Unsolvable { .. }
        )
    }

    /// Whether the index could not be reached.
    pub fn upstream_down(&self) -> bool {
        match self {
            ResolveError::Upstream { .. } => true,
            ResolveError::Uv(UvError::Index(error)) => error.upstream_down(),
            _ => false,
        }
    }
}

impl Resolver {
    /// A resolver for `interpreter` on `index`. Finds uv when it is first needed.
    pub fn new(settings: &Settings, index: Index, interpreter: Interpreter) -> Resolver {
        let places = Semaphore::new(settings.mirror.concurrent_resolutions.max(1));
        Resolver { settings: settings.clone(), index, interpreter, uv: OnceCell::new(), places }
    }

    /// The lock of `requirements`: the same for the same requirements, interpreter and index for `resolution_ttl_ms`.
    ///
    /// # Errors
    /// See [`ResolveError`].
    pub async fn lock(&self, requirements: &Requirements) -> Result<Lock, ResolveError> {
        if let Requirements::Lock(text) = requirements {
            let lock = Lock::parse(text)?;
            lock.wheels(&self.interpreter)?;
            return Ok(lock);
        }
        let Some(specifiers) = requirements.specifiers()? else {
            // A file that names other files: only uv sees all of them, so there is no key to remember it by.
            return self.resolve(requirements, &[]).await;
        };
        self.check_python(&specifiers)?;
        if specifiers.lines.is_empty() {
            return Ok(Lock::empty());
        }
        let key = cache::key(&specifiers.lines, &self.interpreter, &self.index);
        let cache = cache::Cache::new(&self.settings);
        if let Some(lock) = cache.fresh(&key) {
            return Ok(lock);
        }
        match self.resolve(requirements, &specifiers.lines).await {
            Ok(lock) => {
                cache.keep(&key, &lock);
                Ok(lock)
            }
            Err(error) if error.upstream_down() => match cache.any(&key) {
                Some(lock) => {
                    tracing::warn!(%error, "using an earlier resolution of the same requirements");
                    Ok(lock)
                }
                None => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    async fn resolve(&self, requirements: &Requirements, lines: &[String]) -> Result<Lock, ResolveError> {
        let uv = self.uv().await?;
        // The semaphore is never closed; if it were, running more at once would be the lesser evil.
        let _place = self.places.acquire().await.ok();
        let text =
            run::compile(&self.settings, &self.index, &self.interpreter, uv, requirements, lines).await?;
        let lock = Lock::parse(&text)?;
        lock.wheels(&self.interpreter)?;
        Ok(lock)
    }

    /// The uv that is used: found on `PATH`, or fetched.
    ///
    /// # Errors
    /// None is on `PATH` and the pinned one cannot be fetched and verified.
    pub async fn uv(&self) -> Result<&PathBuf, UvError> {
        self.uv
            .get_or_try_init(|| async {
                let client = || IndexClient::new(&self.settings, &self.index);
                uv::find(&self.settings, &self.interpreter, client).await
            })
            .await
    }

    fn check_python(&self, specifiers: &Specifiers) -> Result<(), ResolveError> {
        let python: &Version = &self.interpreter.markers.python_full_version().version;
        match &specifiers.requires_python {
            Some(wanted) if !wanted.contains(python) => {
                Err(ResolveError::RequiresPython { wanted: wanted.to_string(), found: python.to_string() })
            }
            _ => Ok(()),
        }
    }
}

impl From<IndexError> for UvError {
    fn from(error: IndexError) -> UvError {
        UvError::Index(error)
    }
}
