use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use config::{Program, Settings};
use mirror::archive::Limits;
use mirror::{IndexClient, Interpreter, Lock};

use crate::bytecode::Bytecode;
use crate::control::{ControlClient, Server, Status};
use crate::environment::{EnvError, Environment, Environments};
use crate::fetch::{FetchLimits, Fetcher};
use crate::fs::Frontend;
use crate::mount::{MountError, Mounted};
use crate::namespace::{self, Namespace};
use crate::remote::Remote;
use crate::state_lock::{self, StateLock};
use crate::store::Store;
use crate::tree::Inodes;
use crate::wheel::{Arrivals, Shelf, ShelfLimits};

/// The package file system, as a program sees it: one that a running daemon serves, or one of its own.
#[derive(Clone, Debug)]
pub struct Packages(Arc<Inner>);

#[derive(Debug)]
enum Inner {
    Attached { client: ControlClient, mount: PathBuf },
    Embedded { packages: Arc<Embedded>, server: Mutex<Option<Server>> },
}

/// The file system in this process.
#[derive(Debug)]
pub(crate) struct Embedded {
    environments: Arc<Environments>,
    namespace: Arc<Namespace>,
    shelf: Arc<Shelf>,
    store: Arc<Store>,
    mount: PathBuf,
    mounted: Mutex<Option<Mounted>>,
    /// Held as long as this lives: one process a state folder.
    lock: StateLock,
}

impl Packages {
    /// Attaches to the daemon of this state folder, or mounts and serves its control socket where none runs.
    ///
    /// # Errors
    /// See [`MountError`].
    pub async fn open(settings: &Settings, client: IndexClient) -> Result<Packages, MountError> {
        if let Some(holder) = state_lock::holder(&settings.state) {
            let control = ControlClient::new(&holder.socket, &settings.pkgfs);
            // The socket of a killed run may be another daemon's by now.
            if let Ok(status) = control.status().await
                && status.pid == holder.pid
            {
                return Ok(Packages(Arc::new(Inner::Attached { client: control, mount: status.mount })));
            }
        }
        Packages::serve(settings, client, &settings.default_socket_of(Program::Pkgfs)).await
    }

    /// Mounts and serves the control socket at `socket`.
    ///
    /// # Errors
    /// See [`MountError`].
    pub async fn serve(
        settings: &Settings,
        client: IndexClient,
        socket: &Path,
    ) -> Result<Packages, MountError> {
        let (owned, remote) = (settings.clone(), Arc::new(client));
        let runtime = tokio::runtime::Handle::current();
        let started = tokio::task::spawn_blocking(move || Embedded::start(&owned, remote, runtime)).await;
        let packages = Arc::new(started.map_err(|error| MountError::Failed {
            point: settings.mount.clone(),
            source: io::Error::other(error),
        })??);
        let server = Server::start(socket, packages.clone()).map_err(|source| {
            let path = socket.to_owned();
            match source.kind() {
                io::ErrorKind::AddrInUse => MountError::SocketTaken { path },
                _ => MountError::Socket { path, source },
            }
        })?;
        packages.lock.announce(socket)?;
        Ok(Packages(Arc::new(Inner::Embedded { packages, server: Mutex::new(Some(server)) })))
    }

    /// Where the packages are.
    pub fn mount_point(&self) -> &Path {
        match &*self.0 {
            Inner::Attached { mount, .. } => mount,
            Inner::Embedded { packages, .. } => &packages.mount,
        }
    }

    /// Whether another process serves them.
    pub fn is_attached(&self) -> bool {
        matches!(&*self.0, Inner::Attached { .. })
    }

    /// Makes the environment of `lock` for `interpreter`, or finds it made.
    ///
    /// # Errors
    /// The lock does not fit the interpreter, or a wheel of it cannot be opened.
    pub async fn create_env(&self, lock: &Lock, interpreter: &Interpreter) -> Result<Environment, EnvError> {
        match &*self.0 {
            Inner::Attached { client, .. } => Ok(client.create_env(lock, interpreter).await?),
            Inner::Embedded { packages, .. } => packages.create(lock, interpreter).await,
        }
    }

    /// Returns when the file system is served no more, although nobody called [`close`](Packages::close).
    pub async fn ended(&self) {
        let Inner::Embedded { packages, .. } = &*self.0 else { return std::future::pending().await };
        let ended =
            packages.mounted.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(Mounted::ended);
        if let Some(mut ended) = ended {
            let _ = ended.wait_for(|ended| *ended).await;
        }
    }

    /// Unmounts, where it was this process that mounted.
    pub async fn close(self) {
        if let Inner::Embedded { packages, server } = &*self.0 {
            drop(server.lock().unwrap_or_else(PoisonError::into_inner).take());
            let mounted = packages.mounted.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(mounted) = mounted {
                // Not on this thread: the kernel may need answers of tasks to let go.
                let _ = tokio::task::spawn_blocking(move || mounted.unmount()).await;
            }
        }
    }
}

impl Embedded {
    fn start(
        settings: &Settings,
        remote: Arc<dyn Remote>,
        runtime: tokio::runtime::Handle,
    ) -> Result<Embedded, MountError> {
        let lock = StateLock::take(&settings.state)?;
        let state = |source| MountError::State { path: settings.state.clone(), source };
        let own = &settings.pkgfs;
        let timeout = Duration::from_millis(own.read_timeout_ms);
        let store = Store::open(&settings.state_dir("store"), own.store_max_bytes, own.max_open_files);
        let store = Arc::new(store.map_err(state)?);
        let limits = Limits {
            max_members: own.max_wheel_members,
            max_member_bytes: own.max_member_bytes,
            ..Limits::default()
        };
        let shelf_limits = ShelfLimits { archive: limits, timeout, unlisted: own.unlisted_wheels };
        let shelf = Shelf::new(settings.state_dir("wheels"), remote.clone(), shelf_limits).map_err(state)?;
        let fetch = FetchLimits {
            concurrent: own.concurrent_fetches,
            memory_bytes: own.fetch_memory_bytes,
            timeout,
            merge_gap_bytes: own.merge_gap_bytes,
            read_ahead_bytes: own.read_ahead_bytes,
        };
        let fetcher = Fetcher::new(remote.clone(), store.clone(), fetch);
        let arrivals: Arc<dyn Arrivals> = fetcher.clone();
        shelf.set_arrivals(Arc::downgrade(&arrivals));
        let inodes = Arc::new(Inodes::default());
        let bytecode = Bytecode::open(&settings.state_dir("bytecode"), store.clone(), fetcher.clone());
        let bytecode = if own.bytecode { Some(Arc::new(bytecode.map_err(state)?)) } else { None };
        let environments =
            Environments::new(settings.state_dir("envs"), shelf.clone(), inodes.clone(), bytecode.clone());
        let environments = Arc::new(environments.map_err(state)?);
        let negative_ttl = Duration::from_millis(own.negative_ttl_ms);
        let waits = namespace::Waits { negative_ttl, page_timeout: timeout };
        let namespace =
            Namespace::new(inodes, shelf.clone(), fetcher, environments.clone(), bytecode, remote, waits);
        let frontend = Frontend::new(namespace.clone(), store.clone(), runtime);
        let (mounted, kernel) = Mounted::new(frontend, &settings.mount, own.fuse_threads)?;
        namespace.set_kernel(kernel);
        let mount = mounted.point().to_owned();
        let mounted = Mutex::new(Some(mounted));
        Ok(Embedded { environments, namespace, shelf, store, mount, mounted, lock })
    }

    pub(crate) async fn create(
        &self,
        lock: &Lock,
        interpreter: &Interpreter,
    ) -> Result<Environment, EnvError> {
        let before = self.environments.changed();
        let built = self.environments.create(lock, interpreter).await?;
        if before != self.environments.changed() {
            self.namespace.invalidate(namespace::ENVIRONMENTS);
        }
        Ok(built.environment(&self.mount))
    }

    pub(crate) fn environment_ids(&self) -> Vec<String> {
        self.environments.ids()
    }

    pub(crate) fn status(&self) -> Status {
        let (store_bytes, store_files, store_max_bytes) = self.store.usage();
        Status {
            mount: self.mount.clone(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            store_bytes,
            store_files,
            store_max_bytes,
            wheels: self.shelf.len(),
            environments: self.environments.ids().len(),
        }
    }
}
