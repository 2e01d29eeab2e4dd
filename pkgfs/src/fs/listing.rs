use fuser::{INodeNo, ReplyDirectory, ReplyDirectoryPlus};

use super::{GENERATION, file_attr};
use crate::namespace::{Attr, FOREVER, Listing};
use crate::tree::Folder;

/// `.`, `..` and the entries from `offset` on; stops when `add` says that the reply is full.
fn fill(
    own: Attr,
    parent: u64,
    entries: impl Iterator<Item = (usize, Box<str>, Attr)>,
    offset: u64,
    mut add: impl FnMut(u64, &str, Attr) -> bool,
) {
    let dots = [(".", own), ("..", Attr { ino: parent, ..Attr::folder(parent) })];
    for (place, (name, attr)) in dots.into_iter().enumerate() {
        if place as u64 >= offset && add(place as u64 + 1, name, attr) {
            return;
        }
    }
    for (place, name, attr) in entries {
        let place = place as u64 + 2;
        if place >= offset && add(place + 1, &name, attr) {
            return;
        }
    }
}

pub(super) fn of_folder(folder: &Folder, offset: u64) -> impl Iterator<Item = (usize, Box<str>, Attr)> + '_ {
    let skip = usize::try_from(offset.saturating_sub(2)).unwrap_or(usize::MAX);
    let numbered = folder.entries().iter().enumerate().skip(skip);
    numbered.map(|(place, (name, node))| (place, name.clone(), Attr::of(node)))
}

pub(super) fn of_listing(listing: Listing) -> impl Iterator<Item = (usize, Box<str>, Attr)> {
    listing.into_iter().enumerate().map(|(place, (name, attr))| (place, name.into(), attr))
}

/// What is known of a listing's folder itself.
pub(super) struct Listed {
    pub(super) own: Attr,
    pub(super) parent: u64,
    pub(super) offset: u64,
}

impl Listed {
    pub(super) fn plain(
        self,
        mut reply: ReplyDirectory,
        entries: impl Iterator<Item = (usize, Box<str>, Attr)>,
    ) {
        fill(self.own, self.parent, entries, self.offset, |next, name, attr| {
            reply.add(INodeNo(attr.ino), next, file_attr(&attr).kind, name)
        });
        reply.ok();
    }

    pub(super) fn plus(
        self,
        mut reply: ReplyDirectoryPlus,
        entries: impl Iterator<Item = (usize, Box<str>, Attr)>,
    ) {
        fill(self.own, self.parent, entries, self.offset, |next, name, attr| {
            reply.add(INodeNo(attr.ino), next, name, &FOREVER, &file_attr(&attr), GENERATION)
        });
        reply.ok();
    }
}
