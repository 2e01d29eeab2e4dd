use std::sync::Arc;

use super::Engine;
use crate::chain::chain;
use crate::function::Function;
use crate::pool::Sandbox;
use crate::requirements::RequirementsError;
use crate::sandbox::{ForkError, Leaf, LeafSpec, Zygote};
use crate::supply::{Supplied, SupplyError};
use crate::zygotes::{NoZygote, PackageSet, Parent};

/// Where the sandbox of a call came from; the `x-ol-start` header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// An instance that had served a call before.
    Warm,
    /// Forked from a zygote that held all packages.
    Fork,
    /// A zygote had to be made first, or could not be made.
    Cold,
}

impl Start {
    /// As the header has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Start::Warm => "warm",
            Start::Fork => "fork",
            Start::Cold => "cold",
        }
    }
}

/// Why no sandbox could be started.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The daemon is stopping.
    #[error("ol-exec is stopping")]
    Stopping,
    /// The function's lock cannot be read back.
    #[error("the lock of the function cannot be read; deploy it again")]
    Lock(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The environment is not to be had.
    #[error(transparent)]
    Supply(#[from] SupplyError),
    /// No zygote at all.
    #[error(transparent)]
    Zygote(#[from] NoZygote),
    /// The fork failed.
    #[error(transparent)]
    Fork(#[from] ForkError),
    /// As many scripts run as may.
    #[error("as many scripts run as executor.max_instances allows; try again later")]
    TooManyScripts,
    /// A script's requirements cannot be read.
    #[error(transparent)]
    Requirements(#[from] RequirementsError),
    /// Our disk.
    #[error("the script cannot be written below the state folder")]
    Write(#[source] std::io::Error),
}

/// Zygotes may die between being chosen and being asked; one that is gone twice in a row is no accident.
const ATTEMPTS: usize = 2;

impl Engine {
    /// A new sandbox forked from the best zygote for `set`; from the root zygote where its packages have made theirs
    /// unfit to be forked (a hook that hangs or exits, a thread that came later).
    pub(super) async fn launch(
        &self,
        set: &PackageSet,
        spec: LeafSpec,
    ) -> Result<(Leaf, Start), LaunchError> {
        for attempt in 1..=ATTEMPTS {
            let parent = self.zygotes.parent_for(set).await?;
            match self.sandboxes.fork(&parent.zygote, spec.clone()).await {
                Ok(leaf) => return Ok((leaf, if parent.was_ready { Start::Fork } else { Start::Cold })),
                Err(ForkError::ZygoteGone) if attempt < ATTEMPTS => {
                    tracing::info!("a zygote was gone when a sandbox was to be forked; making another");
                    self.zygotes.gone(&parent);
                }
                // Not the zygote's fault, or there is no other to ask.
                Err(error) if parent.is_root() || matches!(error, ForkError::Host { .. }) => {
                    return Err(error.into());
                }
                Err(error) => return self.launch_without(&parent, &error, spec).await,
            }
        }
        Err(ForkError::ZygoteGone.into())
    }

    /// A sandbox from the root zygote, after `parent` could not be forked.
    async fn launch_without(
        &self,
        parent: &Parent<Zygote>,
        error: &ForkError,
        spec: LeafSpec,
    ) -> Result<(Leaf, Start), LaunchError> {
        let root = self.zygotes.parent_for(&PackageSet::default()).await?;
        let leaf = self.sandboxes.fork(&root.zygote, spec).await?;
        // So the host is fine and it was the zygote: the next calls of its set must not find that out again.
        tracing::info!(
            reason = chain(error),
            "a zygote cannot be forked; its sandboxes import by themselves"
        );
        self.zygotes.cannot_fork(parent);
        Ok((leaf, Start::Cold))
    }

    /// The packages of a deployed function. After a restart its environment is made again, once, from its lock.
    pub(super) async fn package_set(&self, function: &Function) -> Result<Arc<PackageSet>, LaunchError> {
        let made = function.packages.get_or_try_init(|| async {
            if function.meta.packages.is_empty() {
                return Ok::<_, LaunchError>(Arc::default());
            }
            let text = tokio::fs::read_to_string(function.lock_file())
                .await
                .map_err(|error| LaunchError::Lock(error.into()))?;
            let lock = mirror::Lock::parse(&text).map_err(|error| LaunchError::Lock(error.into()))?;
            Ok(self.supplied(lock).await?.set)
        });
        Ok(made.await?.clone())
    }

    /// The environment of a lock.
    pub(super) async fn supplied(&self, lock: mirror::Lock) -> Result<Supplied, LaunchError> {
        let supply = self.supply.read().await;
        Ok(supply.as_ref().ok_or(LaunchError::Stopping)?.environment(lock).await?)
    }

    /// Requirements → lock → environment.
    pub(super) async fn supply(&self, requirements: &mirror::Requirements) -> Result<Supplied, LaunchError> {
        let lock = {
            let supply = self.supply.read().await;
            supply.as_ref().ok_or(LaunchError::Stopping)?.lock(requirements).await?
        };
        self.supplied(lock).await
    }
}

impl Sandbox for Leaf {
    fn is_alive(&mut self) -> bool {
        Leaf::is_alive(self)
    }

    async fn end(self) {
        Leaf::end(self).await;
    }
}
