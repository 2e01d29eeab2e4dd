use std::collections::BTreeMap;
use std::sync::Arc;

use mirror::{Hasher, Sha256};

use super::{Content, Folder, Inodes, Node};

/// A file or link that is to be put into a tree.
#[derive(Clone, Debug)]
pub(crate) enum Draft {
    File { content: Content, size: u64, executable: bool },
    Link(String),
}

/// Collects paths, then makes the immutable tree.
#[derive(Debug, Default)]
pub(crate) struct TreeBuilder {
    root: Branch,
}

#[derive(Debug)]
enum Growing {
    Branch(Branch),
    Leaf(Draft),
}

#[derive(Debug, Default)]
struct Branch(BTreeMap<Box<str>, Growing>);

/// What happened to a path that was there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clash {
    /// The earlier file had other contents and gave way.
    Replaced,
    /// A folder stands where a file should, or the other way round; what came first stays.
    Kept,
}

impl Draft {
    /// A file of ours.
    pub(crate) fn text(text: impl Into<String>, executable: bool) -> Draft {
        let bytes: Arc<[u8]> = text.into().into_bytes().into();
        Draft::File { size: bytes.len() as u64, content: Content::Bytes(bytes), executable }
    }

    /// What makes it the same file wherever it stands.
    fn identity(&self) -> Sha256 {
        match self {
            Draft::Link(target) => identity("link", &[target.as_bytes()]),
            Draft::File { content, executable, size } => {
                let mode: &[u8] = if *executable { b"x" } else { b"-" };
                let size = size.to_le_bytes();
                // What is ours is a kind of its own: no wheel can claim to have it and then not have it.
                match content {
                    Content::Member(sources) => identity("file", &[&sources.digest.0, mode, &size]),
                    Content::Compiled(code) => identity("compiled", &[&code.digest.0, mode, &size]),
                    Content::Bytes(bytes) => identity("own", &[&Sha256::of(bytes).0, mode, &size]),
                    Content::Refused(why) => identity("refused", &[why.as_bytes(), mode, &size]),
                }
            }
        }
    }
}

/// Digest of a kind and its parts, unambiguous whatever the parts contain.
pub(crate) fn identity(kind: &str, parts: &[&[u8]]) -> Sha256 {
    let mut hasher = Hasher::default();
    for part in [kind.as_bytes()].iter().chain(parts) {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.finish()
}

impl TreeBuilder {
    /// Puts `draft` at `path` (relative, normal, checked by the archive reader).
    pub(crate) fn insert(&mut self, path: &str, draft: Draft) -> Option<Clash> {
        let (folders, name) =
            path.rsplit_once('/').map_or((None, path), |(folders, name)| (Some(folders), name));
        let mut branch = &mut self.root;
        for folder in folders.into_iter().flat_map(|folders| folders.split('/')) {
            match branch.0.entry(folder.into()).or_insert_with(|| Growing::Branch(Branch::default())) {
                Growing::Branch(below) => branch = below,
                Growing::Leaf(_) => return Some(Clash::Kept),
            }
        }
        match branch.0.get_mut(name) {
            None => {
                branch.0.insert(name.into(), Growing::Leaf(draft));
                None
            }
            Some(Growing::Branch(_)) => Some(Clash::Kept),
            Some(Growing::Leaf(earlier)) => {
                let same = earlier.identity() == draft.identity();
                *earlier = draft;
                (!same).then_some(Clash::Replaced)
            }
        }
    }

    /// Makes sure the folder is there, empty or not; false where a file stands in its way.
    pub(crate) fn folder(&mut self, path: &str) -> bool {
        let mut branch = &mut self.root;
        for folder in path.split('/') {
            match branch.0.entry(folder.into()).or_insert_with(|| Growing::Branch(Branch::default())) {
                Growing::Branch(below) => branch = below,
                Growing::Leaf(_) => return false,
            }
        }
        true
    }

    /// The finished tree; `name` tells it apart from all other trees, `parent` is what `..` leads to.
    pub(crate) fn build(self, inodes: &Inodes, name: &Sha256, parent: u64) -> Arc<Folder> {
        grow(self.root, inodes, name, "", parent)
    }
}

/// Depth is bounded by the length of a path.
fn grow(branch: Branch, inodes: &Inodes, tree: &Sha256, path: &str, parent: u64) -> Arc<Folder> {
    let ino = inodes.reserve(&identity("folder", &[&tree.0, path.as_bytes()]));
    let mut entries = Vec::with_capacity(branch.0.len());
    // Ordered by the map already, as the binary search in the folder needs it.
    for (name, growing) in branch.0 {
        let node = match growing {
            Growing::Branch(below) => Node::Folder(grow(below, inodes, tree, &format!("{path}/{name}"), ino)),
            Growing::Leaf(draft) => leaf(draft, inodes),
        };
        entries.push((name, node));
    }
    let folder = Arc::new(Folder { ino, parent, entries });
    inodes.keep_folder(&folder);
    folder
}

/// A node that stands in no tree.
pub(crate) fn leaf(draft: Draft, inodes: &Inodes) -> Node {
    let identity = draft.identity();
    match draft {
        Draft::Link(target) => inodes.link(&identity, &target),
        Draft::File { content, size, executable } => inodes.file(&identity, content, size, executable),
    }
}

#[cfg(test)]
mod tests;
