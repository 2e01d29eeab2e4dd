use std::sync::Arc;

use config::Settings;
use mirror::{IndexClient, Interpreter, Lock, Requirements, Resolver};
use pkgfs::{Environment, Packages};

use crate::blocking::blocking;
use crate::function::Package;
use crate::zygotes::PackageSet;

/// Where packages come from: requirements → lock → environment.
pub(crate) struct Supply {
    interpreter: Interpreter,
    resolver: Resolver,
    packages: Packages,
}

/// Why packages could not be had.
#[derive(Debug, thiserror::Error)]
pub enum SupplyError {
    /// No index is known.
    #[error("cannot tell where packages come from")]
    Index(#[source] mirror::UpstreamError),
    /// The index cannot be spoken to.
    #[error("cannot set up the index client")]
    Client(#[source] mirror::IndexError),
    /// The package file system cannot be mounted.
    #[error("cannot mount the package file system")]
    Mount(#[source] pkgfs::MountError),
    /// The requirements cannot be met, or not now.
    #[error("cannot resolve the requirements")]
    Resolve(#[from] mirror::ResolveError),
    /// The environment cannot be made.
    #[error("cannot make the environment")]
    Environment(#[from] pkgfs::EnvError),
}

/// What a set of requirements came to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Supplied {
    pub(crate) lock: Option<Lock>,
    pub(crate) environment: Option<String>,
    pub(crate) packages: Vec<Package>,
    pub(crate) set: Arc<PackageSet>,
    /// What is odd: files that more than one wheel has.
    pub(crate) warnings: Vec<String>,
}

impl Supply {
    pub(crate) async fn open(settings: &Settings, interpreter: &Interpreter) -> Result<Supply, SupplyError> {
        let (ours, python) = (settings.clone(), interpreter.clone());
        // Asks pip where nothing else tells: a subprocess, so off the runtime's threads.
        let index = blocking(move || mirror::upstream(&ours, &python)).await.map_err(SupplyError::Index)?;
        let client = IndexClient::new(settings, &index).map_err(SupplyError::Client)?;
        let resolver = Resolver::new(settings, index, interpreter.clone());
        let packages = Packages::open(settings, client).await.map_err(SupplyError::Mount)?;
        Ok(Supply { interpreter: interpreter.clone(), resolver, packages })
    }

    pub(crate) async fn lock(&self, requirements: &Requirements) -> Result<Lock, SupplyError> {
        Ok(self.resolver.lock(requirements).await?)
    }

    /// Makes the environment of a lock: a metadata operation where its wheels are known.
    pub(crate) async fn environment(&self, lock: Lock) -> Result<Supplied, SupplyError> {
        let environment = self.packages.create_env(&lock, &self.interpreter).await?;
        if environment.wheels.is_empty() {
            return Ok(Supplied { lock: Some(lock), ..Supplied::default() });
        }
        let packages = environment
            .wheels
            .iter()
            .map(|wheel| Package { name: wheel.project.to_string(), version: wheel.version.to_string() })
            .collect();
        let set = Arc::new(package_set(&environment));
        Ok(Supplied {
            lock: Some(lock),
            environment: Some(environment.id),
            packages,
            set,
            warnings: environment.conflicts,
        })
    }

    pub(crate) async fn close(self) {
        self.packages.close().await;
    }
}

fn package_set(environment: &Environment) -> PackageSet {
    PackageSet {
        env_path: Some(environment.path.clone()),
        wheels: Arc::new(environment.wheels.iter().map(|wheel| wheel.sha256).collect()),
        modules: environment.wheels.iter().map(|wheel| (wheel.sha256, wheel.top_level.clone())).collect(),
    }
}
