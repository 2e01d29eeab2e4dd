//! The local repository: verified files, and one small index file a project.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::page::ProjectStatus;
use crate::{ProjectName, Sha256, files};

/// Start of the names of scratch folders.
const SCRATCH: &str = ".sync-";

/// `<state>/mirror`: `files/<project>/<file>` with `<file>.metadata` beside it, `index/<project>.json` for what is
/// held. A file is listed only once it is there, whole and verified.
#[derive(Clone, Debug)]
pub struct Repository {
    root: PathBuf,
}

/// What is held of one project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldProject {
    /// Its name.
    pub name: ProjectName,
    /// Its status upstream when it was last looked at.
    #[serde(default)]
    pub status: ProjectStatus,
    /// The files, by name.
    pub files: Vec<HeldFile>,
}

/// One file that is held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldFile {
    /// Its name.
    pub filename: String,
    /// Its release, as the file name spells it.
    pub version: String,
    /// Bytes.
    pub size: u64,
    /// Its digest.
    pub sha256: Sha256,
    /// Digest of the METADATA kept beside it.
    pub metadata_sha256: Sha256,
    /// Upstream's `requires-python`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requires_python: Option<String>,
    /// Yanked upstream, with the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub yanked: Option<String>,
    /// When it was uploaded upstream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload_time: Option<String>,
}

/// A folder for files on their way in.
#[derive(Debug)]
pub struct Scratch {
    dir: TempDir,
    _alive: File,
}

impl Scratch {
    /// Where it is.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// Why the repository cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    /// The system refused.
    #[error("{path} cannot be {verb}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was being done.
        verb: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
    /// An index file is not what we wrote.
    #[error("{path} is damaged; remove it and run `ol-mirror sync` again")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

impl Repository {
    /// The repository below `state`; creates nothing.
    pub fn new(state: &Path) -> Repository {
        Repository { root: state.join("mirror") }
    }

    /// Creates the folders, for writing.
    ///
    /// # Errors
    /// A folder cannot be made.
    pub fn create(&self) -> Result<(), RepositoryError> {
        for dir in [self.root.join("files"), self.root.join("index")] {
            std::fs::create_dir_all(&dir).map_err(io(&dir, "created"))?;
        }
        Ok(())
    }

    /// What is held of `project`; `None` where nothing ever was.
    ///
    /// # Errors
    /// The index file cannot be read or is damaged.
    pub fn project(&self, project: &ProjectName) -> Result<Option<HeldProject>, RepositoryError> {
        let path = self.index_file(project);
        match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .map(Some)
                .map_err(|source| RepositoryError::Damaged { path, source }),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(RepositoryError::Io { path, verb: "read", source }),
        }
    }

    /// The projects of which anything is held, by name.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn projects(&self) -> Result<Vec<ProjectName>, RepositoryError> {
        let dir = self.root.join("index");
        let entries = match std::fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(RepositoryError::Io { path: dir, verb: "read", source }),
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry.map_err(io(&dir, "read"))?.file_name();
            names.extend(name.to_str().and_then(|name| name.strip_suffix(".json")?.parse().ok()));
        }
        names.sort();
        Ok(names)
    }

    /// Where a file of `project` is kept. `filename` must come from a [`HeldFile`] or a wheel name.
    pub fn file(&self, project: &ProjectName, filename: &str) -> PathBuf {
        self.root.join("files").join(project.as_str()).join(filename)
    }

    /// Whether a listed file and its METADATA are on the disk, in their size; somebody may have removed them.
    pub fn is_there(&self, project: &ProjectName, held: &HeldFile) -> bool {
        let beside = self.file(project, &format!("{}.metadata", held.filename));
        let size = |path: &Path| Some(std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file)?.len());
        size(&self.file(project, &held.filename)) == Some(held.size) && size(&beside).is_some()
    }

    /// A folder for files on their way in; vanishes with the value. Those of killed syncs are removed.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn scratch(&self) -> Result<Scratch, RepositoryError> {
        let _one_at_a_time = self.lock()?;
        self.sweep();
        let make = || {
            let dir = tempfile::Builder::new().prefix(SCRATCH).tempdir_in(&self.root)?;
            let alive = File::open(dir.path())?;
            alive.lock()?;
            Ok(Scratch { dir, _alive: alive })
        };
        make().map_err(io(&self.root, "written"))
    }

    /// Removes scratch folders whose owner is gone: a living one holds a lock on its folder.
    fn sweep(&self) {
        let entries = std::fs::read_dir(&self.root).into_iter().flatten().flatten();
        for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(SCRATCH)) {
            let path = entry.path();
            let abandoned = File::open(&path).is_ok_and(|dir| dir.try_lock().is_ok());
            if abandoned && let Err(error) = std::fs::remove_dir_all(&path) {
                tracing::warn!(path = %path.display(), %error, "left over from a killed sync and not removed");
            }
        }
    }

    /// Takes `wheel`, already verified, with its METADATA, and lists it.
    ///
    /// # Errors
    /// Something cannot be written; the file is then not listed.
    pub fn commit(
        &self,
        project: &ProjectName,
        held: HeldFile,
        wheel: &Path,
        metadata: &[u8],
        status: &ProjectStatus,
    ) -> Result<(), RepositoryError> {
        let path = self.file(project, &held.filename);
        let dir = self.root.join("files").join(project.as_str());
        std::fs::create_dir_all(&dir).map_err(io(&dir, "created"))?;
        let beside = self.file(project, &format!("{}.metadata", held.filename));
        files::write_durably(&beside, metadata).map_err(io(&beside, "written"))?;
        std::fs::rename(wheel, &path).map_err(io(&path, "written"))?;
        File::open(&dir).and_then(|dir| dir.sync_all()).map_err(io(&dir, "written"))?;
        self.list(project, status, vec![held])
    }

    /// Lists `held` files (replacing older entries of the same name) and notes the project's status.
    ///
    /// # Errors
    /// The index file cannot be read or written.
    pub fn list(
        &self,
        project: &ProjectName,
        status: &ProjectStatus,
        held: Vec<HeldFile>,
    ) -> Result<(), RepositoryError> {
        let _one_writer = self.lock()?;
        let mut entry = self.project(project)?.unwrap_or_else(|| HeldProject {
            name: project.clone(),
            status: status.clone(),
            files: Vec::new(),
        });
        entry.status = status.clone();
        entry.files.retain(|old| held.iter().all(|new| new.filename != old.filename));
        entry.files.extend(held);
        entry.files.sort_by(|a, b| a.filename.cmp(&b.filename));
        let path = self.index_file(project);
        let text = serde_json::to_vec_pretty(&entry)
            .map_err(|source| RepositoryError::Damaged { path: path.clone(), source })?;
        files::write_durably(&path, &text).map_err(io(&path, "written"))
    }

    /// Held while an index file is rewritten; several syncs may run at once.
    fn lock(&self) -> Result<File, RepositoryError> {
        let path = self.root.join(".lock");
        let open = || {
            let file = File::options().create(true).truncate(false).write(true).open(&path)?;
            file.lock()?;
            Ok(file)
        };
        open().map_err(io(&path, "locked"))
    }

    fn index_file(&self, project: &ProjectName) -> PathBuf {
        self.root.join("index").join(format!("{project}.json"))
    }
}

impl HeldProject {
    /// The file of exactly this name.
    pub fn file(&self, filename: &str) -> Option<&HeldFile> {
        self.files.iter().find(|file| file.filename == filename)
    }

    /// The files that may be offered: none of a quarantined project (PEP 792).
    pub fn offered(&self) -> &[HeldFile] {
        if self.status.is_quarantined() { &[] } else { &self.files }
    }
}

fn io(path: &Path, verb: &'static str) -> impl FnOnce(std::io::Error) -> RepositoryError {
    let path = path.to_path_buf();
    move |source| RepositoryError::Io { path, verb, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scratch_of_a_killed_sync_goes_and_that_of_a_living_one_stays() {
        let state = tempfile::tempdir().unwrap();
        let repository = Repository::new(state.path());
        repository.create().unwrap();
        let left = state.path().join("mirror/.sync-left");
        std::fs::create_dir(&left).unwrap();
        let first = repository.scratch().unwrap();
        let second = repository.scratch().unwrap();
        assert!(!left.exists() && first.path().exists() && second.path().exists());
    }

    #[test]
    fn a_damaged_index_is_named() {
        let state = tempfile::tempdir().unwrap();
        let repository = Repository::new(state.path());
        repository.create().unwrap();
        std::fs::write(state.path().join("mirror/index/six.json"), "{").unwrap();
        let error = repository.project(&"six".parse().unwrap()).unwrap_err().to_string();
        assert!(error.ends_with("six.json is damaged; remove it and run `ol-mirror sync` again"), "{error}");
    }
}
