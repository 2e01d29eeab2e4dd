//! What the mount shows, without a kernel: `<project>/<version>/<wheel tag>/…` and `.env/<id>/…`.
//!
//! The upper levels grow: a name that was never listed is asked for at the index. Below a wheel tag and below an
//! environment nothing ever changes. An answer is either there at once or a future; no call blocks.

mod answer;
mod catalogue;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use mirror::{ProjectName, Sha256};

use crate::bytecode::Bytecode;
use crate::environment::{Environments, is_id, root_identity};
use crate::fetch::Fetcher;
use crate::layout::{self, Scheme};
use crate::remote::{PageWheel, Remote};
use crate::tree::{Content, Draft, FileNode, Folder, Inodes, Node, TreeBuilder, identity, leaf};
use crate::wheel::Shelf;

pub(crate) use answer::{Answer, Attr, Data, Failure, Kernel, Kind, Outcome};
use catalogue::{Catalogue, Releases};

/// Inode of the mount's root, as FUSE has it.
pub(crate) const ROOT: u64 = 1;
/// Inode of `.env`.
pub(crate) const ENVIRONMENTS: u64 = 2;
const ENVIRONMENTS_NAME: &str = ".env";
const BYTECODE_NAME: &str = "__pycache__";
/// For names and attributes that never change.
pub(crate) const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// A folder above the immutable trees.
#[derive(Clone, Debug)]
enum Level {
    Root,
    Environments,
    Project(ProjectName),
    Release(ProjectName, String),
    /// A tree that was listed and not opened yet.
    Wheel(Arc<PageWheel>),
    Environment(String),
    /// `__pycache__` of a folder that does not have one.
    Bytecode(Arc<Folder>),
}

/// Names and attributes of a folder from some offset on.
pub(crate) type Listing = Vec<(String, Attr)>;

/// See the module's description.
#[derive(Debug)]
pub(crate) struct Namespace {
    inodes: Arc<Inodes>,
    shelf: Arc<Shelf>,
    fetcher: Arc<Fetcher>,
    environments: Arc<Environments>,
    bytecode: Option<Arc<Bytecode>>,
    catalogue: Catalogue,
    levels: RwLock<HashMap<u64, Level>>,
    negative_ttl: Duration,
    kernel: OnceLock<Kernel>,
}

/// Times of a namespace.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waits {
    /// How long a name that is not there is remembered as missing.
    pub(crate) negative_ttl: Duration,
    /// Limit for the index to answer with a project page.
    pub(crate) page_timeout: Duration,
}

impl Namespace {
    pub(crate) fn new(
        inodes: Arc<Inodes>,
        shelf: Arc<Shelf>,
        fetcher: Arc<Fetcher>,
        environments: Arc<Environments>,
        bytecode: Option<Arc<Bytecode>>,
        remote: Arc<dyn Remote>,
        Waits { negative_ttl, page_timeout }: Waits,
    ) -> Arc<Namespace> {
        let catalogue = Catalogue::new(remote, page_timeout);
        let levels = RwLock::new(HashMap::from([(ROOT, Level::Root), (ENVIRONMENTS, Level::Environments)]));
        Arc::new(Namespace {
            inodes,
            shelf,
            fetcher,
            environments,
            bytecode,
            catalogue,
            levels,
            negative_ttl,
            kernel: OnceLock::new(),
        })
    }

    /// The entry `name` of folder `parent`.
    pub(crate) fn lookup(self: &Arc<Self>, parent: u64, name: &str) -> Outcome<Answer> {
        match self.inodes.get(parent) {
            Some(Node::Folder(folder)) => return Outcome::Now(Ok(self.in_folder(&folder, name))),
            Some(_) => return Outcome::Now(Err(Failure::NotFolder)),
            None => {}
        }
        let Some(level) = self.level(parent) else { return Outcome::Now(Err(Failure::Stale)) };
        if let (Level::Root, ENVIRONMENTS_NAME) = (&level, name) {
            return Outcome::Now(Ok(Answer::found(self.level_attr(ENVIRONMENTS), FOREVER)));
        }
        let (this, name) = (self.clone(), name.to_owned());
        Outcome::Later(Box::pin(async move { this.lookup_level(level, &name).await }))
    }

    /// The attributes of an inode; they hold until [`invalidate`](Namespace::invalidate) says otherwise.
    pub(crate) fn attributes(&self, ino: u64) -> Result<Attr, Failure> {
        if let Some(node) = self.inodes.get(ino) {
            return Ok(Attr::of(&node));
        }
        match self.level(ino) {
            Some(Level::Wheel(_) | Level::Environment(_) | Level::Bytecode(_)) => Ok(Attr::folder(ino)),
            Some(_) => Ok(self.level_attr(ino)),
            None => Err(Failure::Stale),
        }
    }

    /// Says how the kernel is told to forget what it knows of a folder.
    pub(crate) fn set_kernel(&self, kernel: Kernel) {
        let _ = self.kernel.set(kernel);
    }

    /// A growing folder has changed.
    pub(crate) fn invalidate(&self, ino: u64) {
        if let Some(Kernel(forget)) = self.kernel.get() {
            forget(ino);
        }
    }

    /// The project's releases; what the kernel kept of its listings goes where they changed.
    async fn releases(&self, project: &ProjectName) -> Result<Option<Arc<Releases>>, Failure> {
        let before = self.catalogue.changed(Some(project));
        let releases = self.catalogue.releases(project).await?;
        if before != self.catalogue.changed(Some(project)) {
            self.invalidate(ROOT);
            self.levels_of(project).into_iter().for_each(|ino| self.invalidate(ino));
        }
        Ok(releases)
    }

    fn levels_of(&self, project: &ProjectName) -> Vec<u64> {
        let of_project = |level: &Level| match level {
            Level::Project(known) | Level::Release(known, _) => known == project,
            _ => false,
        };
        let levels = self.levels.read().unwrap_or_else(PoisonError::into_inner);
        levels.iter().filter(|(_, level)| of_project(level)).map(|(ino, _)| *ino).collect()
    }

    /// The target of a link.
    pub(crate) fn target(&self, ino: u64) -> Result<Box<str>, Failure> {
        match self.inodes.get(ino) {
            Some(Node::Link(link)) => Ok(link.target.clone()),
            Some(_) => Err(Failure::Invalid),
            None => Err(Failure::Stale),
        }
    }

    /// Where the bytes of a file are to be read.
    pub(crate) fn data(self: &Arc<Self>, ino: u64) -> Outcome<Data> {
        let file = match self.inodes.get(ino) {
            Some(Node::File(file)) => file,
            Some(_) => return Outcome::Now(Err(Failure::IsFolder)),
            None => return Outcome::Now(Err(Failure::Stale)),
        };
        match &file.content {
            Content::Bytes(bytes) => Outcome::Now(Ok(Data::Bytes(bytes.clone()))),
            Content::Refused(why) => {
                tracing::warn!("{why}");
                Outcome::Now(Err(Failure::Unreadable))
            }
            Content::Compiled(code) => {
                match self.bytecode.as_ref().and_then(|bytecode| bytecode.at_hand(code)) {
                    Some(kept) => Outcome::Now(Ok(Data::File(kept))),
                    None => Outcome::Later(Box::pin(self.clone().compiled(file.clone()))),
                }
            }
            Content::Member(sources) => match self.fetcher.at_hand(&sources.digest, sources.size) {
                Some(kept) => Outcome::Now(Ok(Data::File(kept))),
                None => Outcome::Later(Box::pin(self.clone().fetched(file.clone()))),
            },
        }
    }

    /// The folder's entries, `.` and `..` left out, for listing.
    pub(crate) fn list(self: &Arc<Self>, ino: u64) -> Outcome<Arc<Folder>, Listing> {
        match self.inodes.get(ino) {
            Some(Node::Folder(folder)) => return Outcome::Now(Ok(folder)),
            Some(_) => return Outcome::Now(Err(Failure::NotFolder)),
            None => {}
        }
        let Some(level) = self.level(ino) else { return Outcome::Now(Err(Failure::Stale)) };
        let this = self.clone();
        Outcome::Later(Box::pin(async move { this.list_level(level).await }))
    }

    /// The folder that `..` of `ino` leads to.
    pub(crate) fn parent(&self, ino: u64) -> u64 {
        match (self.inodes.get(ino), self.level(ino)) {
            (Some(Node::Folder(folder)), _) => folder.parent,
            (_, Some(Level::Environment(_))) => ENVIRONMENTS,
            (_, Some(Level::Bytecode(folder))) => folder.ino,
            (_, Some(Level::Release(project, _))) => self.project_ino(&project),
            (_, Some(Level::Wheel(wheel))) => self.release_ino(&wheel.name.project, &wheel.name.version_text),
            _ => ROOT,
        }
    }

    /// Bytes and files of the namespace, for statfs.
    pub(crate) fn nodes(&self) -> usize {
        self.inodes.len()
    }

    fn in_folder(&self, folder: &Folder, name: &str) -> Answer {
        match folder.get(name) {
            Some(node) => Answer::found(Attr::of(node), FOREVER),
            None if name == BYTECODE_NAME && self.bytecode.is_some() && holds_sources(folder) => {
                Answer::found(Attr::folder(self.bytecode_ino(folder)), FOREVER)
            }
            None => Answer::absent(FOREVER),
        }
    }

    async fn lookup_bytecode(&self, folder: &Folder, name: &str) -> Answer {
        // Never remembered as missing for ever: the index may be down, another Python may come.
        let absent = Answer::absent(self.negative_ttl);
        let Some(bytecode) = &self.bytecode else { return absent };
        let Some((module, tag)) = bytecode.parse(name) else { return absent };
        let Some(Node::File(file)) = folder.get(&format!("{module}.py")) else { return absent };
        let Content::Member(sources) = &file.content else { return absent };
        let Some(compiled) = bytecode.of(sources, &tag).await else { return absent };
        let (size, content) = (compiled.size, Content::Compiled(Box::new(compiled)));
        let node = leaf(Draft::File { content, size, executable: false }, &self.inodes);
        Answer::found(Attr::of(&node), FOREVER)
    }

    async fn compiled(self: Arc<Self>, file: Arc<FileNode>) -> Result<Data, Failure> {
        let (Content::Compiled(compiled), Some(bytecode)) = (&file.content, &self.bytecode) else {
            return Err(Failure::Unreadable);
        };
        bytecode.file(compiled).await.map(Data::File).ok_or(Failure::Unreadable)
    }

    async fn fetched(self: Arc<Self>, file: Arc<FileNode>) -> Result<Data, Failure> {
        let Content::Member(sources) = &file.content else { return Err(Failure::Unreadable) };
        match self.fetcher.any(sources).await {
            Ok(kept) => Ok(Data::File(kept)),
            Err(error) => {
                tracing::warn!(%error, "read failed");
                Err(Failure::of_fetch(&error))
            }
        }
    }

    async fn lookup_level(self: &Arc<Self>, level: Level, name: &str) -> Result<Answer, Failure> {
        let absent = Answer::absent(self.negative_ttl);
        let found = |attr| Answer::found(attr, FOREVER);
        match level {
            Level::Root => {
                // Only the normalised spelling is a name: any other would be a second folder of the same project.
                let Ok(project) = name.parse::<ProjectName>() else { return Ok(absent) };
                if project.as_str() != name || self.releases(&project).await?.is_none() {
                    return Ok(absent);
                }
                Ok(found(self.level_attr(self.project_ino(&project))))
            }
            Level::Project(project) => match self.releases(&project).await? {
                Some(releases) if releases.contains_key(name) => {
                    Ok(found(self.level_attr(self.release_ino(&project, name))))
                }
                _ => Ok(absent),
            },
            Level::Release(project, version) => match self.wheel(&project, &version, name).await? {
                Some(wheel) => Ok(found(Attr::folder(self.wheel_tree(&wheel).await?.ino))),
                None => Ok(absent),
            },
            Level::Environments => match self.environment(name).await? {
                Some(folder) => Ok(found(Attr::folder(folder.ino))),
                // Made by another process through us, or about to be: never remembered as missing.
                None => Ok(Answer::absent(Duration::ZERO)),
            },
            Level::Bytecode(folder) => Ok(self.lookup_bytecode(&folder, name).await),
            Level::Wheel(wheel) => Ok(self.in_folder(&*self.wheel_tree(&wheel).await?, name)),
            Level::Environment(id) => match self.environment(&id).await? {
                Some(folder) => Ok(self.in_folder(&folder, name)),
                None => Err(Failure::Stale),
            },
        }
    }

    async fn list_level(self: &Arc<Self>, level: Level) -> Result<Listing, Failure> {
        match level {
            Level::Root => {
                let mut listing = vec![(ENVIRONMENTS_NAME.to_owned(), Attr::folder(ENVIRONMENTS))];
                listing.extend(self.catalogue.projects().into_iter().map(|project| {
                    let attr = self.level_attr(self.project_ino(&project));
                    (project.to_string(), attr)
                }));
                Ok(listing)
            }
            Level::Environments => {
                let ids = self.environments.ids();
                Ok(ids.into_iter().map(|id| (id.clone(), Attr::folder(self.environment_ino(&id)))).collect())
            }
            Level::Project(project) => {
                let releases = self.releases(&project).await?.unwrap_or_default();
                let versions = releases.keys().cloned();
                Ok(versions.map(|v| (v.clone(), self.level_attr(self.release_ino(&project, &v)))).collect())
            }
            Level::Release(project, version) => {
                let releases = self.releases(&project).await?.unwrap_or_default();
                let wheels = releases.get(&version).into_iter().flat_map(|wheels| wheels.iter());
                Ok(wheels.map(|(tag, wheel)| (tag.clone(), Attr::folder(self.wheel_ino(wheel)))).collect())
            }
            Level::Bytecode(_) => Ok(Vec::new()),
            Level::Wheel(wheel) => Ok(entries(&*self.wheel_tree(&wheel).await?)),
            Level::Environment(id) => {
                Ok(self.environment(&id).await?.map(|folder| entries(&folder)).unwrap_or_default())
            }
        }
    }

    async fn wheel(
        &self,
        project: &ProjectName,
        version: &str,
        tag: &str,
    ) -> Result<Option<PageWheel>, Failure> {
        let releases = self.releases(project).await?;
        Ok(releases.and_then(|releases| releases.get(version)?.get(tag).cloned()))
    }

    async fn wheel_tree(&self, wheel: &PageWheel) -> Result<Arc<Folder>, Failure> {
        let ino = self.wheel_ino(wheel);
        if let Some(Node::Folder(folder)) = self.inodes.get(ino) {
            return Ok(folder);
        }
        let opened = self.shelf.open(&wheel.name, &wheel.file).await.map_err(|error| {
            tracing::warn!(%error, "wheel cannot be shown");
            Failure::Unreadable
        })?;
        let mut tree = TreeBuilder::default();
        layout::spread(&opened, &Scheme::target(), &mut tree);
        let parent = self.release_ino(&wheel.name.project, &wheel.name.version_text);
        Ok(tree.build(&self.inodes, &wheel_identity(wheel), parent))
    }

    async fn environment(&self, id: &str) -> Result<Option<Arc<Folder>>, Failure> {
        match self.environments.get(id).await {
            Ok(built) => Ok(built.map(|built| built.root.clone())),
            Err(error) => {
                tracing::warn!(id, %error, "environment cannot be shown");
                Err(Failure::Unreadable)
            }
        }
    }

    fn level(&self, ino: u64) -> Option<Level> {
        self.levels.read().unwrap_or_else(PoisonError::into_inner).get(&ino).cloned()
    }

    fn level_attr(&self, ino: u64) -> Attr {
        let changed = match self.level(ino) {
            Some(Level::Root) => self.catalogue.changed(None),
            Some(Level::Project(project) | Level::Release(project, _)) => {
                self.catalogue.changed(Some(&project))
            }
            Some(Level::Environments) => self.environments.changed(),
            _ => None,
        };
        Attr { changed: changed.unwrap_or(SystemTime::UNIX_EPOCH), ..Attr::folder(ino) }
    }

    fn project_ino(&self, project: &ProjectName) -> u64 {
        let identity = identity("project", &[project.as_str().as_bytes()]);
        self.keep_level(&identity, || Level::Project(project.clone()))
    }

    fn release_ino(&self, project: &ProjectName, version: &str) -> u64 {
        let identity = identity("release", &[project.as_str().as_bytes(), version.as_bytes()]);
        self.keep_level(&identity, || Level::Release(project.clone(), version.to_owned()))
    }

    fn wheel_ino(&self, wheel: &PageWheel) -> u64 {
        self.keep_level(&folder_identity(&wheel_identity(wheel)), || Level::Wheel(Arc::new(wheel.clone())))
    }

    fn environment_ino(&self, id: &str) -> u64 {
        debug_assert!(is_id(id));
        self.keep_level(&folder_identity(&root_identity(id)), || Level::Environment(id.to_owned()))
    }

    fn bytecode_ino(&self, folder: &Folder) -> u64 {
        let identity = identity("bytecode folder", &[&folder.ino.to_le_bytes()]);
        let ino = self.inodes.reserve(&identity);
        if self.level(ino).is_none()
            && let Some(Node::Folder(kept)) = self.inodes.get(folder.ino)
        {
            self.keep_level(&identity, || Level::Bytecode(kept));
        }
        ino
    }

    fn keep_level(&self, identity: &Sha256, level: impl FnOnce() -> Level) -> u64 {
        let ino = self.inodes.reserve(identity);
        if self.level(ino).is_none() {
            self.levels.write().unwrap_or_else(PoisonError::into_inner).insert(ino, level());
        }
        ino
    }
}

/// The identity the tree's root folder will have once it is built.
fn folder_identity(tree: &Sha256) -> Sha256 {
    identity("folder", &[&tree.0, b""])
}

fn wheel_identity(wheel: &PageWheel) -> Sha256 {
    let digest = wheel.file.sha256.map(|digest| digest.0).unwrap_or_default();
    identity("wheel", &[&digest, wheel.name.file_name().as_bytes()])
}

fn holds_sources(folder: &Folder) -> bool {
    folder.entries().iter().any(|(name, _)| name.ends_with(".py"))
}

fn entries(folder: &Folder) -> Listing {
    folder.entries().iter().map(|(name, node)| (name.to_string(), Attr::of(node))).collect()
}
