//! The one file that speaks FUSE: requests in, answers of the [`Namespace`] out, failures as error numbers.
//!
//! A session thread never waits: what is not at hand is answered later, from a task. Everything is immutable or
//! timed, so opens are answered with ENOSYS once and never asked again, and the kernel keeps pages and names.

mod listing;

use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::SystemTime;

use fuser::{
    AccessFlags, BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, InitFlags, IoctlFlags, KernelConfig, LockOwner, OpenAccMode, OpenFlags, RenameFlags, ReplyAttr,
    ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl,
    ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use tokio::runtime::Handle;

use crate::namespace::{Answer, Attr, Data, FOREVER, Failure, Kind, Namespace, Outcome};
use crate::store::Store;

use listing::{Listed, of_folder, of_listing};

/// Nothing is ever replaced under the same number.
const GENERATION: Generation = Generation(0);
/// What is asked of the kernel, each only where it has it.
const WANTED: [InitFlags; 7] = [
    InitFlags::FUSE_DO_READDIRPLUS,
    InitFlags::FUSE_READDIRPLUS_AUTO,
    InitFlags::FUSE_PARALLEL_DIROPS,
    InitFlags::FUSE_CACHE_SYMLINKS,
    // A listing that the kernel kept is dropped when the folder's time of change moves.
    InitFlags::FUSE_AUTO_INVAL_DATA,
    InitFlags::FUSE_NO_OPEN_SUPPORT,
    InitFlags::FUSE_NO_OPENDIR_SUPPORT,
];

/// The file system as fuser wants it.
#[derive(Debug)]
pub(crate) struct Frontend {
    namespace: Arc<Namespace>,
    store: Arc<Store>,
    runtime: Handle,
    no_open: bool,
    no_opendir: bool,
}

impl Frontend {
    pub(crate) fn new(namespace: Arc<Namespace>, store: Arc<Store>, runtime: Handle) -> Frontend {
        Frontend { namespace, store, runtime, no_open: false, no_opendir: false }
    }
}

/// Every way to fail has its number here and nowhere else.
fn errno(failure: Failure) -> Errno {
    match failure {
        Failure::NotFolder => Errno::ENOTDIR,
        Failure::IsFolder => Errno::EISDIR,
        Failure::Invalid => Errno::EINVAL,
        Failure::Stale => Errno::ESTALE,
        Failure::Unreadable | Failure::TimedOut => Errno::EIO,
        Failure::NoSpace => Errno::ENOSPC,
    }
}

fn file_attr(attr: &Attr) -> FileAttr {
    let (kind, perm) = match attr.kind {
        Kind::Folder => (FileType::Directory, 0o555),
        Kind::File if attr.executable => (FileType::RegularFile, 0o555),
        Kind::File => (FileType::RegularFile, 0o444),
        Kind::Link => (FileType::Symlink, 0o777),
    };
    FileAttr {
        ino: INodeNo(attr.ino),
        size: attr.size,
        blocks: attr.size.div_ceil(512),
        atime: attr.changed,
        mtime: attr.changed,
        ctime: attr.changed,
        crtime: attr.changed,
        kind,
        perm,
        // 1 on a folder: the number of folders in it is not told (find and fts know this).
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

/// An entry with inode 0 is a name that is known to be missing.
fn missing() -> FileAttr {
    file_attr(&Attr::folder(0))
}

fn reply_entry(reply: ReplyEntry, answer: Result<Answer, Failure>) {
    match answer {
        Ok(Answer { attr: Some(attr), ttl }) => {
            reply.entry(&ttl, &file_attr(&attr), GENERATION);
        }
        Ok(Answer { attr: None, ttl }) if ttl.is_zero() => reply.error(Errno::ENOENT),
        Ok(Answer { attr: None, ttl }) => reply.entry(&ttl, &missing(), GENERATION),
        Err(failure) => reply.error(errno(failure)),
    }
}

fn reply_data(reply: ReplyData, data: Result<Data, Failure>, offset: u64, size: u32) {
    match data {
        Ok(Data::Bytes(bytes)) => {
            let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
            let to = from.saturating_add(size as usize).min(bytes.len());
            reply.data(&bytes[from..to]);
        }
        Ok(Data::File(file)) => {
            let mut buffer = vec![0; size as usize];
            match read_full(&file, &mut buffer, offset) {
                Ok(count) => reply.data(&buffer[..count]),
                Err(error) => {
                    tracing::error!(%error, "a file of the store cannot be read");
                    reply.error(Errno::EIO);
                }
            }
        }
        Err(failure) => reply.error(errno(failure)),
    }
}

/// Reads until the buffer or the file ends.
fn read_full(file: &std::fs::File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

impl Frontend {
    fn listed(&self, ino: INodeNo, offset: u64) -> Listed {
        let own = self.namespace.attributes(ino.0).unwrap_or_else(|_| Attr::folder(ino.0));
        Listed { own, parent: self.namespace.parent(ino.0), offset }
    }
}

impl Filesystem for Frontend {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        for flag in WANTED {
            let taken = config.add_capabilities(flag).is_ok();
            self.no_open |= taken && flag == InitFlags::FUSE_NO_OPEN_SUPPORT;
            self.no_opendir |= taken && flag == InitFlags::FUSE_NO_OPENDIR_SUPPORT;
        }
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let outcome = match name.to_str() {
            Some(name) => self.namespace.lookup(parent.0, name),
            // No name of ours is anything but UTF-8.
            None => return reply.error(Errno::ENOENT),
        };
        match outcome {
            Outcome::Now(result) => reply_entry(reply, result),
            Outcome::Later(future) => {
                self.runtime.spawn(async move { reply_entry(reply, future.await) });
            }
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.namespace.attributes(ino.0) {
            Ok(attr) => reply.attr(&FOREVER, &file_attr(&attr)),
            Err(failure) => reply.error(errno(failure)),
        }
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        match self.namespace.target(ino.0) {
            Ok(target) => reply.data(target.as_bytes()),
            Err(failure) => reply.error(errno(failure)),
        }
    }

    fn open(&self, _: &Request, _: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        if flags.acc_mode() != OpenAccMode::O_RDONLY {
            reply.error(Errno::EROFS);
        } else if self.no_open {
            reply.error(Errno::ENOSYS);
        } else {
            reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_NOFLUSH);
        }
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.namespace.data(ino.0) {
            Outcome::Now(data) => reply_data(reply, data, offset, size),
            Outcome::Later(future) => {
                self.runtime.spawn(async move { reply_data(reply, future.await, offset, size) });
            }
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn opendir(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        if self.no_opendir {
            reply.error(Errno::ENOSYS);
        } else {
            reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_CACHE_DIR);
        }
    }

    fn readdir(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, reply: ReplyDirectory) {
        let listed = self.listed(ino, offset);
        match self.namespace.list(ino.0) {
            Outcome::Now(Ok(folder)) => listed.plain(reply, of_folder(&folder, offset)),
            Outcome::Now(Err(failure)) => reply.error(errno(failure)),
            Outcome::Later(future) => {
                self.runtime.spawn(async move {
                    match future.await {
                        Ok(listing) => listed.plain(reply, of_listing(listing)),
                        Err(failure) => reply.error(errno(failure)),
                    }
                });
            }
        }
    }

    fn readdirplus(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, reply: ReplyDirectoryPlus) {
        let listed = self.listed(ino, offset);
        match self.namespace.list(ino.0) {
            Outcome::Now(Ok(folder)) => listed.plus(reply, of_folder(&folder, offset)),
            Outcome::Now(Err(failure)) => reply.error(errno(failure)),
            Outcome::Later(future) => {
                self.runtime.spawn(async move {
                    match future.await {
                        Ok(listing) => listed.plus(reply, of_listing(listing)),
                        Err(failure) => reply.error(errno(failure)),
                    }
                });
            }
        }
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let (bytes, _, limit) = self.store.usage();
        let free = limit.saturating_sub(bytes) / 4096;
        reply.statfs(limit / 4096, free, free, self.namespace.nodes() as u64, 0, 4096, 255, 4096);
    }

    fn getxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, reply: ReplyXattr) {
        // ENOSYS: the kernel never asks again.
        reply.error(Errno::ENOSYS);
    }

    fn listxattr(&self, _: &Request, _: INodeNo, _: u32, reply: ReplyXattr) {
        reply.error(Errno::ENOSYS);
    }

    fn access(&self, _: &Request, _: INodeNo, _: AccessFlags, reply: ReplyEmpty) {
        // default_permissions lets the kernel decide.
        reply.error(Errno::ENOSYS);
    }

    fn ioctl(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: IoctlFlags,
        _: u32,
        _: &[u8],
        _: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(Errno::ENOTTY);
    }

    // The mount is read-only, so that none of the following arrives; they are answered all the same.

    fn setattr(
        &self,
        _: &Request,
        _: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        reply.error(Errno::EROFS);
    }

    fn mknod(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, _: u32, reply: ReplyEntry) {
        reply.error(Errno::EROFS);
    }

    fn mkdir(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        reply.error(Errno::EROFS);
    }

    fn unlink(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }

    fn rmdir(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }

    fn symlink(&self, _: &Request, _: INodeNo, _: &OsStr, _: &std::path::Path, reply: ReplyEntry) {
        reply.error(Errno::EROFS);
    }

    fn rename(
        &self,
        _: &Request,
        _: INodeNo,
        _: &OsStr,
        _: INodeNo,
        _: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::EROFS);
    }

    fn link(&self, _: &Request, _: INodeNo, _: INodeNo, _: &OsStr, reply: ReplyEntry) {
        reply.error(Errno::EROFS);
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        reply.error(Errno::EROFS);
    }

    fn create(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, _: i32, reply: ReplyCreate) {
        reply.error(Errno::EROFS);
    }

    fn setxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _: &[u8], _: i32, _: u32, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }

    fn removexattr(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }
}
