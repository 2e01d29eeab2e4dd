//! Environments: the wheels of a lock merged into one tree that works as a Python virtual environment.
//!
//! Making one reads wheel indexes and nothing else; its recipe is kept in `<state>/envs`, from which it is there
//! again after a restart.

mod error;
mod recipe;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use mirror::{Interpreter, Lock, ProjectName, Sha256};
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

use crate::bytecode::Bytecode;
use crate::layout::{self, Scheme};
use crate::tree::{Clash, Draft, Folder, Inodes, TreeBuilder};
use crate::wheel::{Shelf, Wheel};

pub use error::EnvError;
pub(crate) use recipe::is_id;
use recipe::{Recipe, RecipeWheel};

/// Wheels opened at once while an environment is made.
const CONCURRENT_OPENS: usize = 32;

/// An environment that can be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// Digest of its wheels and interpreter; its name below `.env`.
    pub id: String,
    /// Its folder: `<mount>/.env/<id>`.
    pub path: PathBuf,
    /// Its wheels, by project.
    pub wheels: Vec<EnvWheel>,
    /// Paths that more than one wheel has, and which one was taken.
    pub conflicts: Vec<String>,
}

/// One wheel of an environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvWheel {
    /// The project, normalised.
    pub project: ProjectName,
    /// The version as the wheel's file name spells it.
    pub version: String,
    /// The wheel's digest.
    pub sha256: Sha256,
    /// Names that can be imported from it.
    pub top_level: Vec<String>,
}

/// A finished environment.
#[derive(Debug)]
pub(crate) struct Built {
    pub(crate) id: String,
    pub(crate) root: Arc<Folder>,
    wheels: Vec<EnvWheel>,
    conflicts: Vec<String>,
}

/// All environments of a state folder.
#[derive(Debug)]
pub(crate) struct Environments {
    folder: PathBuf,
    shelf: Arc<Shelf>,
    inodes: Arc<Inodes>,
    bytecode: Option<Arc<Bytecode>>,
    built: Mutex<HashMap<String, Arc<OnceCell<Arc<Built>>>>>,
}

impl Environments {
    pub(crate) fn new(
        folder: PathBuf,
        shelf: Arc<Shelf>,
        inodes: Arc<Inodes>,
        bytecode: Option<Arc<Bytecode>>,
    ) -> std::io::Result<Environments> {
        std::fs::create_dir_all(&folder)?;
        Ok(Environments { folder, shelf, inodes, bytecode, built: Mutex::default() })
    }

    /// Makes the environment of `lock`, or finds it made.
    pub(crate) async fn create(
        &self,
        lock: &Lock,
        interpreter: &Interpreter,
    ) -> Result<Arc<Built>, EnvError> {
        let wheels = lock.wheels(interpreter)?.into_iter().map(RecipeWheel::from).collect();
        let recipe = Recipe::new(interpreter.clone(), wheels);
        let id = recipe.id();
        let built = match self.get_built(&id) {
            // Made before, perhaps from another index: its wheels may have moved.
            Some(built) => {
                self.open_all(&recipe).await?;
                built
            }
            None => self.built(&id, &recipe).await?,
        };
        let path = self.path(&id);
        tokio::task::spawn_blocking(move || recipe.save(&path)).await.map_err(EnvError::stopped)??;
        Ok(built)
    }

    /// The environment of this name, if it was ever made.
    pub(crate) async fn get(&self, id: &str) -> Result<Option<Arc<Built>>, EnvError> {
        if !is_id(id) {
            return Ok(None);
        }
        if let Some(built) = self.get_built(id) {
            return Ok(Some(built));
        }
        let path = self.path(id);
        let loaded =
            tokio::task::spawn_blocking(move || Recipe::load(&path)).await.map_err(EnvError::stopped)??;
        match loaded.filter(|recipe| recipe.id() == id) {
            Some(recipe) => self.built(id, &recipe).await.map(Some),
            None => Ok(None),
        }
    }

    /// Names of all environments, made by this run or an earlier one.
    pub(crate) fn ids(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(&self.folder) else { return Vec::new() };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let mut ids: Vec<String> = names
            .filter_map(|name| name.strip_suffix(".json").map(str::to_owned))
            .filter(|id| is_id(id))
            .collect();
        ids.sort_unstable();
        ids
    }

    /// When one was last made.
    pub(crate) fn changed(&self) -> Option<SystemTime> {
        std::fs::metadata(&self.folder).and_then(|metadata| metadata.modified()).ok()
    }

    async fn built(&self, id: &str, recipe: &Recipe) -> Result<Arc<Built>, EnvError> {
        self.cell(id).get_or_try_init(|| self.build(id, recipe)).await.cloned()
    }

    fn cell(&self, id: &str) -> Arc<OnceCell<Arc<Built>>> {
        self.built.lock().unwrap_or_else(PoisonError::into_inner).entry(id.to_owned()).or_default().clone()
    }

    fn path(&self, id: &str) -> PathBuf {
        self.folder.join(format!("{id}.json"))
    }

    fn get_built(&self, id: &str) -> Option<Arc<Built>> {
        self.built.lock().unwrap_or_else(PoisonError::into_inner).get(id).and_then(|cell| cell.get().cloned())
    }

    async fn open_all(&self, recipe: &Recipe) -> Result<Vec<Arc<Wheel>>, EnvError> {
        let opening = recipe.wheels.iter().cloned().map(|wheel| {
            let shelf = self.shelf.clone();
            async move { shelf.open(&wheel.name, &wheel.file()).await }
        });
        let opening: Vec<_> = opening.collect();
        stream::iter(opening).buffer_unordered(CONCURRENT_OPENS).try_collect().await.map_err(EnvError::Wheel)
    }

    async fn build(&self, id: &str, recipe: &Recipe) -> Result<Arc<Built>, EnvError> {
        let mut wheels = self.open_all(recipe).await?;
        if let Some(bytecode) = &self.bytecode {
            bytecode.offer(&recipe.interpreter);
        }
        // As if installed one after another: where two have the same path, the later one's file is there.
        wheels.sort_by(|a, b| a.index.name.project.cmp(&b.index.name.project));
        let (id, interpreter, inodes) = (id.to_owned(), recipe.interpreter.clone(), self.inodes.clone());
        let merged = tokio::task::spawn_blocking(move || merge(id, &wheels, &interpreter, &inodes));
        merged.await.map_err(EnvError::stopped)?
    }
}

impl Built {
    /// As it is seen below `mount`.
    pub(crate) fn environment(&self, mount: &Path) -> Environment {
        Environment {
            id: self.id.clone(),
            path: mount.join(".env").join(&self.id),
            wheels: self.wheels.clone(),
            conflicts: self.conflicts.clone(),
        }
    }
}

fn merge(
    id: String,
    wheels: &[Arc<Wheel>],
    interpreter: &Interpreter,
    inodes: &Inodes,
) -> Result<Arc<Built>, EnvError> {
    let scheme = Scheme::environment(interpreter);
    let mut tree = TreeBuilder::default();
    let mut conflicts: Vec<String> =
        wheels.iter().flat_map(|wheel| layout::spread(wheel, &scheme, &mut tree)).collect();
    for (path, draft) in own_files(interpreter) {
        match tree.insert(&path, draft) {
            None => {}
            Some(Clash::Replaced) => {
                conflicts.push(format!("{path}: the environment's own, a wheel has it too"));
            }
            // Without it this is no environment.
            Some(Clash::Kept) => return Err(EnvError::InTheWay(path)),
        }
    }
    let site_packages = interpreter.site_packages();
    if !tree.folder(&site_packages) {
        return Err(EnvError::InTheWay(site_packages));
    }
    for conflict in &conflicts {
        tracing::warn!(environment = id, conflict, "wheels clash");
    }
    let described = wheels.iter().map(|wheel| EnvWheel {
        project: wheel.index.name.project.clone(),
        version: wheel.index.name.version_text.clone(),
        sha256: wheel.index.sha256,
        top_level: layout::top_level(&wheel.index),
    });
    let wheels = described.collect();
    let root = tree.build(inodes, &root_identity(&id), crate::namespace::ENVIRONMENTS);
    Ok(Arc::new(Built { id, root, wheels, conflicts }))
}

/// What tells an environment's tree apart from all others.
pub(crate) fn root_identity(id: &str) -> Sha256 {
    crate::tree::identity("environment", &[id.as_bytes()])
}

/// What makes a folder a virtual environment (PEP 405); nothing in it depends on where it is mounted.
fn own_files(interpreter: &Interpreter) -> Vec<(String, Draft)> {
    let python = interpreter.path.to_string_lossy().into_owned();
    let home = interpreter.path.parent().unwrap_or(Path::new("/")).display();
    let config = format!(
        "home = {home}\ninclude-system-site-packages = false\nversion = {}\nexecutable = {python}\n",
        interpreter.version_text()
    );
    let mut files = vec![
        ("pyvenv.cfg".to_owned(), Draft::text(config, false)),
        ("lib64".to_owned(), Draft::Link("lib".into())),
        ("bin/python".to_owned(), Draft::Link(python)),
    ];
    let major = format!("python{}", interpreter.version.0);
    for name in [major, interpreter.python_name()] {
        files.push((format!("bin/{name}"), Draft::Link("python".into())));
    }
    files
}

#[cfg(test)]
mod tests;
