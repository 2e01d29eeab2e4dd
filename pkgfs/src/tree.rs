//! Immutable trees of files, folders and links, and the table that finds a node by its inode number.
//!
//! Inode numbers are derived from what a node is (a file: its content and mode; a folder: its tree and path), so
//! they are the same after a restart and on every host, and the same member is one inode in all environments.

mod builder;
mod inodes;
mod sources;

use std::sync::Arc;

use mirror::Sha256;

use crate::bytecode::Compiled;
use crate::wheel::Wheel;

pub(crate) use builder::{Clash, Draft, TreeBuilder, identity, leaf};
pub(crate) use inodes::Inodes;
pub(crate) use sources::Sources;

/// A node below a wheel or an environment.
#[derive(Clone, Debug)]
pub(crate) enum Node {
    Folder(Arc<Folder>),
    File(Arc<FileNode>),
    Link(Arc<Link>),
}

/// A folder; its entries never change.
#[derive(Debug)]
pub(crate) struct Folder {
    pub(crate) ino: u64,
    pub(crate) parent: u64,
    /// Sorted by name.
    entries: Vec<(Box<str>, Node)>,
}

/// A regular file.
#[derive(Debug)]
pub(crate) struct FileNode {
    pub(crate) ino: u64,
    pub(crate) size: u64,
    pub(crate) executable: bool,
    pub(crate) content: Content,
}

/// A symbolic link.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) ino: u64,
    pub(crate) target: Box<str>,
}

/// Where a file's bytes come from.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// A member of a wheel, fetched on first read.
    Member(Arc<Sources>),
    /// Made by us.
    Bytes(Arc<[u8]>),
    /// Byte code, made of a member.
    Compiled(Box<Compiled>),
    /// Refused: reading it fails, and this says why.
    Refused(Arc<str>),
}

/// One member of one wheel.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) wheel: Arc<Wheel>,
    /// Place in the wheel's list of members.
    pub(crate) member: usize,
    pub(crate) digest: Sha256,
    pub(crate) size: u64,
}

impl Node {
    pub(crate) fn ino(&self) -> u64 {
        match self {
            Node::Folder(folder) => folder.ino,
            Node::File(file) => file.ino,
            Node::Link(link) => link.ino,
        }
    }
}

impl Folder {
    /// The entry of this name.
    pub(crate) fn get(&self, name: &str) -> Option<&Node> {
        let place = self.entries.binary_search_by(|(known, _)| known.as_ref().cmp(name)).ok()?;
        Some(&self.entries[place].1)
    }

    /// All entries, by name.
    pub(crate) fn entries(&self) -> &[(Box<str>, Node)] {
        &self.entries
    }
}
