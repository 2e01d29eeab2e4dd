//! The registry of deployed functions, kept below `<state>/functions`.
//!
//! ```text
//! <name>/meta.json                what is current; written last, by rename: a deployment is there or it is not
//! <name>/<version>-<time>/code/   the files; never changed once named
//! <name>/<version>-<time>/pylock.toml
//! <name>/logs/                    see `logs`
//! .new-*                          a deployment under way; removed at start
//! ```

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::durable;
use crate::function::{Function, LOCK_FILE, Meta};
use crate::name::FunctionName;

/// Why the registry could not read or write its folder.
#[derive(Debug, thiserror::Error)]
#[error("the function registry cannot {doing} {path}")]
pub struct RegistryError {
    doing: &'static str,
    path: PathBuf,
    source: io::Error,
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RegistryError {
    move |source| RegistryError { doing, path: path.to_path_buf(), source }
}

/// What stands in `meta.json`.
#[derive(Serialize, Deserialize)]
struct Stored {
    folder: String,
    meta: Meta,
}

/// All deployed functions.
#[derive(Debug)]
pub struct Functions {
    root: PathBuf,
    current: Mutex<BTreeMap<FunctionName, Arc<Function>>>,
    /// Held while a deployment or deletion changes files, so that the last one to come is the one that stands.
    writing: Mutex<()>,
}

/// What a commit did.
#[derive(Debug)]
pub struct Committed {
    /// The version that is now current.
    pub function: Arc<Function>,
    /// The version it replaced; none for a new function or where the same version was current already.
    pub replaced: Option<Arc<Function>>,
    /// Whether the name was new.
    pub created: bool,
}

impl Functions {
    /// Reads what earlier runs deployed and removes what they left half done.
    ///
    /// # Errors
    /// The folder cannot be made or read. A single damaged function is logged and left alone.
    pub fn open(root: PathBuf) -> Result<Functions, RegistryError> {
        std::fs::create_dir_all(&root).map_err(failed("make the folder", &root))?;
        // What handlers are and what they print is nobody's affair; sandboxes get their code by descriptor.
        std::fs::set_permissions(&root, std::os::unix::fs::PermissionsExt::from_mode(0o700))
            .map_err(failed("protect", &root))?;
        let mut current = BTreeMap::new();
        for entry in std::fs::read_dir(&root).map_err(failed("list", &root))? {
            let path = entry.map_err(failed("list", &root))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
            let Some(name) = name else {
                discard(&path);
                continue;
            };
            if let Some(function) = load(&path, &name) {
                current.insert(name, function);
            }
        }
        Ok(Functions { root, current: Mutex::new(current), writing: Mutex::new(()) })
    }

    /// A function by name.
    pub fn get(&self, name: &FunctionName) -> Option<Arc<Function>> {
        self.lock().get(name).cloned()
    }

    /// All functions, by name.
    pub fn list(&self) -> Vec<Arc<Function>> {
        self.lock().values().cloned().collect()
    }

    /// An empty folder for a deployment to be prepared in; its `code/` exists. Dropping it removes it.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn stage(&self) -> Result<tempfile::TempDir, RegistryError> {
        let staged = tempfile::Builder::new()
            .prefix(".new-")
            .tempdir_in(&self.root)
            .map_err(failed("make a folder below", &self.root))?;
        let code = staged.path().join("code");
        std::fs::create_dir(&code).map_err(failed("make the folder", &code))?;
        open_to_sandboxes(staged.path()).map_err(failed("set the mode of", staged.path()))?;
        Ok(staged)
    }

    /// Makes the prepared folder the current version of `meta.name`. The same version again changes nothing, so
    /// that its warm instances live on.
    ///
    /// # Errors
    /// A file operation failed; what was current stays current.
    pub fn commit(&self, staged: tempfile::TempDir, meta: Meta) -> Result<Committed, RegistryError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.get(&meta.name);
        if let Some(same) = before.as_ref().filter(|function| function.meta.version == meta.version) {
            return Ok(Committed { function: same.clone(), replaced: None, created: false });
        }
        let home = self.root.join(meta.name.as_str());
        std::fs::create_dir_all(&home).map_err(failed("make the folder", &home))?;
        let folder = unused_folder(&home, &meta);
        let target = home.join(&folder);
        durable::sync_dir(staged.path()).map_err(failed("sync", staged.path()))?;
        std::fs::rename(staged.path(), &target).map_err(failed("rename into place", &target))?;
        // The folder has moved away: nothing is left for the guard to remove.
        drop(staged.keep());
        let stored = Stored { folder, meta: meta.clone() };
        let file = home.join("meta.json");
        let text = serde_json::to_vec_pretty(&stored).map_err(io::Error::other);
        text.and_then(|text| durable::write(&file, &text)).map_err(failed("write", &file))?;
        let function = match &before {
            Some(before) => before.successor(meta.clone(), target),
            None => Function::new(meta.clone(), target),
        };
        let replaced = self.lock().insert(meta.name, function.clone());
        if let Some(old) = &replaced {
            old.retire();
        }
        Ok(Committed { function, created: replaced.is_none(), replaced })
    }

    /// Forgets a function; its files go when its last call has ended, its logs now: the next owner of the name must
    /// not see them. `forget_logs` lets go of them while nothing is written to them and the name is not yet free.
    ///
    /// # Errors
    /// A file operation failed; the function is then still there.
    pub fn remove(
        &self,
        name: &FunctionName,
        forget_logs: impl FnOnce(),
    ) -> Result<Option<Arc<Function>>, RegistryError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(function) = self.get(name) else { return Ok(None) };
        let home = self.root.join(name.as_str());
        let file = home.join("meta.json");
        std::fs::remove_file(&file).map_err(failed("remove", &file))?;
        durable::sync_dir(&home).map_err(failed("sync", &home))?;
        self.lock().remove(name);
        function.retire();
        // What calls under way print is dropped from here on.
        function.life().end();
        forget_logs();
        discard(&home.join("logs"));
        Ok(Some(function))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<FunctionName, Arc<Function>>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A sandbox has its own user id: what it shall read must be readable by all.
fn open_to_sandboxes(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
}

/// A folder name no earlier version has, not even one of the same content that is on its way out.
fn unused_folder(home: &Path, meta: &Meta) -> String {
    let short = meta.version.get(..16).unwrap_or(&meta.version);
    (meta.deployed_at_ms..)
        .map(|time| format!("{short}-{time}"))
        .find(|folder| !home.join(folder).exists())
        .unwrap_or_default()
}

/// Loads one function and removes folders of versions that are no longer current.
fn load(home: &Path, name: &FunctionName) -> Option<Arc<Function>> {
    let text = match std::fs::read(home.join("meta.json")) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            discard(home);
            return None;
        }
        Err(error) => {
            tracing::error!(function = %name, %error, "a deployed function cannot be read; deploy it again");
            return None;
        }
    };
    let stored = serde_json::from_slice::<Stored>(&text).ok().filter(|stored| {
        let folder = home.join(&stored.folder);
        stored.meta.name == *name
            && folder.join("code").is_dir()
            && (stored.meta.packages.is_empty() || folder.join(LOCK_FILE).is_file())
    });
    let Some(stored) = stored else {
        tracing::error!(function = %name, "a deployed function is damaged; deploy it again");
        return None;
    };
    for entry in std::fs::read_dir(home).into_iter().flatten().flatten() {
        let file_name = entry.file_name();
        if file_name != *stored.folder && file_name != "meta.json" && file_name != "logs" {
            discard(&entry.path());
        }
    }
    Some(Function::new(stored.meta, home.join(stored.folder)))
}

fn discard(path: &Path) {
    let removed = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "left-over files could not be removed");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;
