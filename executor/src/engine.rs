//! Everything a daemon (or an in-process run) holds, started in order and stopped in reverse.
//!
//! state lock → interpreter → packages (mount) and sandboxes → root zygote → functions. A step that fails undoes those
//! before it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use config::Settings;
use mirror::{Interpreter, InterpreterError};

use crate::blocking::blocking;
use crate::functions::{Functions, RegistryError};
use crate::logs::Logs;
use crate::pool::{Pool, PoolLimits};
use crate::sandbox::{Leaf, Sandboxes, StartError};
use crate::state_lock::{StateLock, StateLockError};
use crate::supply::{Supply, SupplyError};
use crate::zygotes::{NoZygote, PackageSet, Zygotes};

mod deploy;
mod invoke;
mod launch;
mod script;

pub use deploy::{DeployError, Deployed};
pub(crate) use invoke::outcome_name;
pub use invoke::{Answer, InvokeError};
pub use launch::{LaunchError, Start};
pub(crate) use script::EXIT_FAILED;
pub use script::{ScriptEnd, ScriptEvent, ScriptRequest};

/// Why `ol-exec` could not start.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Not root.
    #[error(
        "ol-exec needs root for now, to mount packages and to make sandboxes: run it as root or with sudo"
    )]
    NotRoot,
    /// The state folder is taken or cannot be written.
    #[error(transparent)]
    Lock(#[from] StateLockError),
    /// No usable Python.
    #[error(transparent)]
    Interpreter(#[from] InterpreterError),
    /// No packages.
    #[error(transparent)]
    Supply(#[from] SupplyError),
    /// No sandboxes.
    #[error(transparent)]
    Sandboxes(#[from] StartError),
    /// No zygote.
    #[error("the root zygote did not start")]
    Zygote(#[from] NoZygote),
    /// No registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

/// See the module.
pub struct Engine {
    pub(crate) settings: Settings,
    pub(crate) functions: Functions,
    pub(crate) logs: Logs,
    pub(crate) pool: Pool<Leaf>,
    zygotes: Zygotes<Sandboxes>,
    sandboxes: Sandboxes,
    supply: tokio::sync::RwLock<Option<Supply>>,
    ids: crate::ids::RequestIds,
    /// Scripts are not in the pool, for no two share a sandbox; this bounds them.
    scripts: tokio::sync::Semaphore,
    /// Bounds the uploads that are held in memory and unpacked at once.
    deployments: Arc<tokio::sync::Semaphore>,
    /// Whether calls and scripts under way are to be cut off.
    halted: tokio::sync::watch::Sender<bool>,
    _lock: StateLock,
}

impl Engine {
    /// Starts all parts. `stage` is the program that answers to hidden stages where it is not the running one.
    ///
    /// # Errors
    /// See [`EngineError`]; nothing is left running or mounted then.
    pub async fn start(
        settings: Settings,
        lock: StateLock,
        stage: Option<PathBuf>,
    ) -> Result<Arc<Engine>, EngineError> {
        if !nix::unistd::geteuid().is_root() {
            return Err(EngineError::NotRoot);
        }
        let interpreter = find_interpreter(&settings).await?;
        let (supply, sandboxes) = tokio::join!(
            Supply::open(&settings, &interpreter),
            Sandboxes::start(&settings, &interpreter, stage)
        );
        let (supply, sandboxes) = match (supply, sandboxes) {
            (Ok(supply), Ok(sandboxes)) => (supply, sandboxes),
            (Err(error), Ok(sandboxes)) => {
                sandboxes.stop().await;
                return Err(error.into());
            }
            (Ok(supply), Err(error)) => {
                supply.close().await;
                return Err(error.into());
            }
            // Both tell of a host that is not fit; the one about sandboxes names root.
            (Err(_), Err(error)) => return Err(error.into()),
        };
        match Engine::assemble(settings, lock, sandboxes.clone()).await {
            Ok(engine) => {
                *engine.supply.write().await = Some(supply);
                Ok(Arc::new(engine))
            }
            Err(error) => {
                sandboxes.stop().await;
                supply.close().await;
                Err(error)
            }
        }
    }

    async fn assemble(
        settings: Settings,
        lock: StateLock,
        sandboxes: Sandboxes,
    ) -> Result<Engine, EngineError> {
        let executor = &settings.executor;
        let root = settings.state_dir("functions");
        // Scripts of a killed run; where there are none this fails, which is as well.
        let _ = std::fs::remove_dir_all(settings.state_dir("run").join("scripts"));
        let functions = Functions::open(root.clone())?;
        let logs = Logs::new(root, executor.logs_kept_per_function);
        let retry = Duration::from_millis(executor.zygote_retry_ms);
        let zygotes = Zygotes::new(sandboxes.clone(), executor.max_zygotes, retry);
        zygotes.parent_for(&PackageSet::default()).await?;
        let pool = Pool::new(PoolLimits {
            instances: executor.max_instances,
            instances_per_function: executor.max_instances_per_function,
            queue: executor.queue_limit,
            queue_timeout: Duration::from_millis(executor.queue_timeout_ms),
            idle_timeout: Duration::from_millis(executor.idle_timeout_ms),
        });
        let scripts = tokio::sync::Semaphore::new(executor.max_instances);
        let deployments = Arc::new(tokio::sync::Semaphore::new(executor.max_deployments.max(1)));
        let (supply, ids) = (tokio::sync::RwLock::default(), crate::ids::RequestIds::new());
        Ok(Engine {
            settings,
            functions,
            logs,
            pool,
            zygotes,
            sandboxes,
            supply,
            ids,
            scripts,
            deployments,
            halted: tokio::sync::watch::Sender::new(false),
            _lock: lock,
        })
    }

    /// Cuts off calls and scripts under way: their sandboxes are killed, and their callers are told why.
    pub fn halt(&self) {
        self.halted.send_replace(true);
    }

    /// Ready once [`Engine::halt`] was called.
    async fn is_halted(&self) {
        // The sender lives as long as the engine: this cannot fail.
        let _ = self.halted.subscribe().wait_for(|halted| *halted).await;
    }

    /// Ends everything; calls still under way are cut off. Nothing of ours is left on the host.
    pub async fn stop(&self) {
        self.halt();
        self.pool.stop().await;
        self.zygotes.clear();
        self.sandboxes.stop().await;
        if let Some(supply) = self.supply.write().await.take() {
            supply.close().await;
        }
    }

    /// How many zygotes are ready.
    pub fn zygote_count(&self) -> usize {
        self.zygotes.count()
    }
}

/// Asks the interpreter about itself: a subprocess, so off the runtime's threads.
async fn find_interpreter(settings: &Settings) -> Result<Interpreter, InterpreterError> {
    let settings = settings.clone();
    blocking(move || Interpreter::of(&settings)).await
}
