use std::ops::Range;

use super::fields::{Fields, slice};
use super::{ArchiveError, Limits};

const END_SIGNATURE: [u8; 4] = *b"PK\x05\x06";
const LOCATOR_SIGNATURE: u32 = 0x0706_4b50;
const ZIP64_END_SIGNATURE: u32 = 0x0606_4b50;
const END_BYTES: usize = 22;
const LOCATOR_BYTES: u64 = 20;
const ZIP64_END_BYTES: u64 = 56;

/// The most that end record, its comment and the ZIP64 records can take: a tail of this size always suffices.
pub const MAX_END_BYTES: u64 = END_BYTES as u64 + 65_535 + LOCATOR_BYTES + ZIP64_END_BYTES;

/// What the end records say: where the central directory stands and how many members it lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// Bytes of the central directory in the file.
    pub directory: Range<u64>,
    /// Members listed in it.
    pub members: u64,
}

/// The fields of one end record that matter, in its own or the ZIP64 width.
struct Counts {
    disk: u32,
    directory_disk: u32,
    on_disk: u64,
    members: u64,
    bytes: u64,
    offset: u64,
}

impl End {
    /// Finds the end records in `tail`, the last bytes of a file of `file_bytes` bytes.
    ///
    /// # Errors
    /// No end record, more than one that fits, several disks, ZIP64 records that contradict it, or a central
    /// directory that does not end exactly where the end records begin.
    pub fn locate(tail: &[u8], file_bytes: u64) -> Result<End, ArchiveError> {
        let tail_start = file_bytes.checked_sub(tail.len() as u64).ok_or(ArchiveError::NoEnd)?;
        let position = only_end(tail)?;
        let mut records_start = tail_start + position as u64;
        let mut counts = end_counts(&tail[position..]).ok_or(ArchiveError::Truncated("end record"))?;
        if let Some(start) = locator(&tail[..position], records_start)? {
            let record = slice(tail, start.saturating_sub(tail_start)..position as u64 - LOCATOR_BYTES)
                .filter(|_| start >= tail_start)
                .ok_or(ArchiveError::BadZip64)?;
            counts = merge(&counts, zip64_counts(record).ok_or(ArchiveError::BadZip64)?)?;
            records_start = start;
        }
        if counts.disk != 0 || counts.directory_disk != 0 || counts.on_disk != counts.members {
            return Err(ArchiveError::Spanned);
        }
        let end = counts.offset.checked_add(counts.bytes).ok_or(ArchiveError::BadDirectoryBounds)?;
        if end != records_start {
            return Err(ArchiveError::BadDirectoryBounds);
        }
        Ok(End { directory: counts.offset..end, members: counts.members })
    }

    /// Whether the directory may be read at all; to be asked before it is fetched.
    ///
    /// # Errors
    /// It is over a limit.
    pub fn check(&self, limits: &Limits) -> Result<(), ArchiveError> {
        let (bytes, limit) = (self.directory.end - self.directory.start, limits.max_directory_bytes);
        if bytes > limit {
            return Err(ArchiveError::DirectoryTooLarge { bytes, limit });
        }
        if self.members > limits.max_members {
            return Err(ArchiveError::TooManyMembers { members: self.members, limit: limits.max_members });
        }
        Ok(())
    }
}

/// Position of the one end record whose comment reaches exactly to the end of the file.
fn only_end(tail: &[u8]) -> Result<usize, ArchiveError> {
    let last = tail.len().checked_sub(END_BYTES).ok_or(ArchiveError::NoEnd)?;
    let first = last.saturating_sub(usize::from(u16::MAX));
    let mut found = None;
    for position in first..=last {
        if tail[position..].starts_with(&END_SIGNATURE) {
            let comment = u16::from_le_bytes([tail[position + 20], tail[position + 21]]);
            if position + END_BYTES + usize::from(comment) == tail.len() && found.replace(position).is_some()
            {
                return Err(ArchiveError::AmbiguousEnd);
            }
        }
    }
    found.ok_or(ArchiveError::NoEnd)
}

fn end_counts(record: &[u8]) -> Option<Counts> {
    let mut fields = Fields::new(record);
    fields.u32()?;
    Some(Counts {
        disk: fields.u16()?.into(),
        directory_disk: fields.u16()?.into(),
        on_disk: fields.u16()?.into(),
        members: fields.u16()?.into(),
        bytes: fields.u32()?.into(),
        offset: fields.u32()?.into(),
    })
}

/// Where the ZIP64 end record starts, if a locator stands directly before the end record.
fn locator(before: &[u8], end_start: u64) -> Result<Option<u64>, ArchiveError> {
    let Some(start) = before.len().checked_sub(LOCATOR_BYTES as usize) else { return Ok(None) };
    let mut fields = Fields::new(&before[start..]);
    if fields.u32() != Some(LOCATOR_SIGNATURE) {
        return Ok(None);
    }
    let (Some(disk), Some(offset), Some(disks)) = (fields.u32(), fields.u64(), fields.u32()) else {
        return Err(ArchiveError::BadZip64);
    };
    if disk != 0 || disks != 1 {
        return Err(ArchiveError::Spanned);
    }
    // The record stands directly before its locator; its own size field is checked against that.
    let expected = end_start.checked_sub(LOCATOR_BYTES + ZIP64_END_BYTES).ok_or(ArchiveError::BadZip64)?;
    if offset == expected { Ok(Some(offset)) } else { Err(ArchiveError::BadZip64) }
}

fn zip64_counts(record: &[u8]) -> Option<Counts> {
    let mut fields = Fields::new(record);
    let (signature, size) = (fields.u32()?, fields.u64()?);
    if signature != ZIP64_END_SIGNATURE || size.checked_add(12)? != record.len() as u64 {
        return None;
    }
    fields.u32()?;
    Some(Counts {
        disk: fields.u32()?,
        directory_disk: fields.u32()?,
        on_disk: fields.u64()?,
        members: fields.u64()?,
        bytes: fields.u64()?,
        offset: fields.u64()?,
    })
}

/// ZIP64 values, after checking that the end record repeats each of them or is saturated.
fn merge(short: &Counts, long: Counts) -> Result<Counts, ArchiveError> {
    let agrees = |short: u64, long: u64, saturated: u64| short == long || short == saturated;
    let (narrow, wide) = (u64::from(u16::MAX), u64::from(u32::MAX));
    let consistent = agrees(short.disk.into(), long.disk.into(), narrow)
        && agrees(short.directory_disk.into(), long.directory_disk.into(), narrow)
        && agrees(short.on_disk, long.on_disk, narrow)
        && agrees(short.members, long.members, narrow)
        && agrees(short.bytes, long.bytes, wide)
        && agrees(short.offset, long.offset, wide);
    if consistent { Ok(long) } else { Err(ArchiveError::BadZip64) }
}
