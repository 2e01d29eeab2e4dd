//! A strict ZIP reader over byte slices: what a wheel may be, and nothing else.
//!
//! Flow: the file's last bytes → [`End`] → the central directory → [`Directory`] → one member's extent → its bytes.
//! Nothing here does I/O, so the same code reads ranges of a remote file and files on disk.
//!
//! ZIP readers disagree about damaged or crafted archives, and every disagreement is a way to show a scanner one
//! file and an interpreter another. So whatever two readers could read differently is refused: duplicate or
//! ambiguous names, bytes that belong to no member, local headers that contradict the central directory, data
//! before the first member or after the end record. The format's source is PKWARE's APPNOTE 6.3.

mod directory;
mod end;
mod error;
mod fields;
mod member;
mod path;

pub use directory::Directory;
pub use end::{End, MAX_END_BYTES};
pub use error::ArchiveError;
pub use member::{Member, Method, UnpackError};

/// Bounds on what an archive may ask of its reader.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Members in one archive.
    pub max_members: u64,
    /// Bytes of one member, unpacked.
    pub max_member_bytes: u64,
    /// Bytes of all members, unpacked.
    pub max_total_bytes: u64,
    /// Bytes of the central directory.
    pub max_directory_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_members: 200_000,
            max_member_bytes: 4 << 30,
            max_total_bytes: 64 << 30,
            max_directory_bytes: 64 << 20,
        }
    }
}

/// Reads the directory of an archive that is wholly in memory.
///
/// # Errors
/// See [`End::locate`] and [`Directory::parse`].
pub fn open(bytes: &[u8], limits: &Limits) -> Result<Directory, ArchiveError> {
    let end = End::locate(bytes, bytes.len() as u64)?;
    let directory =
        fields::slice(bytes, end.directory.clone()).ok_or(ArchiveError::Truncated("central directory"))?;
    Directory::parse(directory, &end, limits)
}

#[cfg(test)]
mod tests;
