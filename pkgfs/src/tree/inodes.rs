use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Arc, PoisonError, RwLock};

use mirror::Sha256;

use super::{Content, FileNode, Folder, Link, Node};

/// Numbers below this are the namespace's own.
const FIRST: u64 = 16;

/// All nodes by inode number.
#[derive(Debug, Default)]
pub(crate) struct Inodes {
    table: RwLock<HashMap<u64, Known, BuildHasherDefault<Identity>>>,
}

#[derive(Debug)]
struct Known {
    /// What the node is, in full: two different nodes may want the same number.
    identity: Sha256,
    node: Option<Node>,
}

impl Inodes {
    pub(crate) fn get(&self, ino: u64) -> Option<Node> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        table.get(&ino).and_then(|known| known.node.clone())
    }

    /// How many nodes are known.
    pub(crate) fn len(&self) -> usize {
        self.table.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Takes a number for something the table does not keep (a project, a release).
    pub(crate) fn reserve(&self, identity: &Sha256) -> u64 {
        self.claim(identity, |_| None).0
    }

    pub(crate) fn file(&self, identity: &Sha256, content: Content, size: u64, executable: bool) -> Node {
        let make = |ino| Node::File(Arc::new(FileNode { ino, size, executable, content: content.clone() }));
        let (ino, node) = self.claim(identity, |ino| Some(make(ino)));
        if let (Content::Member(sources), Some(Node::File(file))) = (&content, &node)
            && let Content::Member(known) = &file.content
        {
            known.add(sources);
        }
        node.unwrap_or_else(|| unreachable!("inode {ino} was reserved for something that is not a file"))
    }

    pub(crate) fn link(&self, identity: &Sha256, target: &str) -> Node {
        let (ino, node) =
            self.claim(identity, |ino| Some(Node::Link(Arc::new(Link { ino, target: target.into() }))));
        node.unwrap_or_else(|| unreachable!("inode {ino} was reserved for something that is not a link"))
    }

    /// Keeps a folder under a number that was reserved for it.
    pub(crate) fn keep_folder(&self, folder: &Arc<Folder>) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = table.get_mut(&folder.ino) {
            known.node = Some(Node::Folder(folder.clone()));
        }
    }

    /// The number of `identity`, and its node if it has one: the first free number from the derived one on.
    fn claim(&self, identity: &Sha256, make: impl FnOnce(u64) -> Option<Node>) -> (u64, Option<Node>) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let mut ino = derived(identity);
        loop {
            match table.get(&ino) {
                Some(known) if known.identity == *identity => return (ino, known.node.clone()),
                Some(_) => ino = ino.checked_add(1).unwrap_or(FIRST),
                None => break,
            }
        }
        let node = make(ino);
        table.insert(ino, Known { identity: *identity, node: node.clone() });
        (ino, node)
    }
}

fn derived(identity: &Sha256) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&identity.0[..8]);
    // Positive as a signed number: some programs print it as one.
    (u64::from_le_bytes(first) >> 1).max(FIRST)
}

/// The keys are digests already.
#[derive(Default)]
struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_identity_is_the_same_inode_and_a_clash_is_not() {
        let inodes = Inodes::default();
        let one = Sha256::of(b"1");
        let mut clash = one;
        clash.0[31] ^= 1;
        let first = inodes.link(&one, "a");
        assert_eq!(inodes.link(&one, "b").ino(), first.ino());
        let second = inodes.link(&clash, "c");
        assert_eq!(second.ino(), first.ino() + 1);
        let Some(Node::Link(found)) = inodes.get(second.ino()) else { panic!() };
        assert_eq!(&*found.target, "c");
        assert!(inodes.get(inodes.reserve(&Sha256::of(b"2"))).is_none());
    }
}
