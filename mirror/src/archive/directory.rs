use std::collections::HashMap;

use super::fields::{Fields, extras};
use super::{ArchiveError, End, Limits, Member, Method, path};

const ENTRY_SIGNATURE: u32 = 0x0201_4b50;
const LOCAL_HEADER_BYTES: u64 = 30;
const ZIP64_TAG: u16 = 0x0001;
const UNICODE_PATH_TAG: u16 = 0x7075;
/// Most that a local header's extra field and a data descriptor take.
const MAX_EXTRA_BYTES: u64 = 65_535;
const MAX_DESCRIPTOR_BYTES: u64 = 24;
const MADE_BY_UNIX: u16 = 3;
/// Deflate cannot expand further: 258 bytes from two bits, and a few bytes of framing.
const MAX_RATIO: u64 = 1_032;

const FLAG_UTF8: u16 = 1 << 11;
const FLAG_DESCRIPTOR: u16 = 1 << 3;
/// Encryption (0), patch data (5), strong encryption (6), masked headers (13).
const FLAGS_REFUSED: u16 = 1 | 1 << 5 | 1 << 6 | 1 << 13;

/// An archive's members as its central directory lists them, in the order of their data in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    members: Vec<Member>,
}

impl Directory {
    /// Parses the bytes of `end.directory`.
    ///
    /// # Errors
    /// Anything malformed, over a limit, or that two readers could understand differently.
    pub fn parse(bytes: &[u8], end: &End, limits: &Limits) -> Result<Directory, ArchiveError> {
        if bytes.len() as u64 != end.directory.end - end.directory.start {
            return Err(ArchiveError::Truncated("central directory"));
        }
        end.check(limits)?;
        let mut fields = Fields::new(bytes);
        let mut members = Vec::new();
        while !fields.is_empty() {
            let index = members.len() as u64;
            if index == end.members {
                return Err(ArchiveError::WrongCount { found: index + 1, expected: end.members });
            }
            members.push(entry(&mut fields, index, limits)?);
        }
        if members.len() as u64 != end.members {
            return Err(ArchiveError::WrongCount { found: members.len() as u64, expected: end.members });
        }
        check_total(&members, limits)?;
        check_names(&members)?;
        set_extents(&mut members, end.directory.start)?;
        Ok(Directory { members })
    }

    /// The members, folders among them, by offset.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The members, folders among them, by offset.
    pub fn into_members(self) -> Vec<Member> {
        self.members
    }

    /// The member of exactly this path.
    pub fn find(&self, path: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.path == path)
    }
}

/// The fixed part of one central directory entry.
struct Fixed {
    made_by: u16,
    flags: u16,
    method: u16,
    crc32: u32,
    compressed: u32,
    size: u32,
    name: u16,
    extra: u16,
    comment: u16,
    disk: u16,
    external: u32,
    offset: u32,
}

fn fixed(fields: &mut Fields<'_>) -> Option<Fixed> {
    if fields.u32()? != ENTRY_SIGNATURE {
        return None;
    }
    let made_by = fields.u16()? >> 8;
    fields.u16()?; // version needed
    let (flags, method) = (fields.u16()?, fields.u16()?);
    fields.u32()?; // time and date
    let (crc32, compressed, size) = (fields.u32()?, fields.u32()?, fields.u32()?);
    let (name, extra, comment, disk) = (fields.u16()?, fields.u16()?, fields.u16()?, fields.u16()?);
    fields.u16()?; // internal attributes
    let (external, offset) = (fields.u32()?, fields.u32()?);
    Some(Fixed {
        made_by,
        flags,
        method,
        crc32,
        compressed,
        size,
        name,
        extra,
        comment,
        disk,
        external,
        offset,
    })
}

fn entry(fields: &mut Fields<'_>, index: u64, limits: &Limits) -> Result<Member, ArchiveError> {
    let bad = |what| ArchiveError::BadEntry { index, what };
    let head = fixed(fields).ok_or_else(|| bad("header"))?;
    let raw_name = fields.take(head.name.into()).ok_or_else(|| bad("name"))?;
    let extra = fields.take(head.extra.into()).and_then(extras).ok_or_else(|| bad("extra field"))?;
    fields.take(head.comment.into()).ok_or_else(|| bad("comment"))?;
    let (path, folder) = path::check(raw_name, head.flags & FLAG_UTF8 != 0)?;
    let refuse = |what| ArchiveError::Unsupported { path: path.clone(), what };
    if extra.iter().any(|(tag, _)| *tag == UNICODE_PATH_TAG) {
        return Err(refuse("named a second time in an extra field"));
    }
    if head.flags & FLAGS_REFUSED != 0 {
        return Err(refuse("encrypted or patch data"));
    }
    if head.disk != 0 {
        return Err(ArchiveError::Spanned);
    }
    let method = Method::from_code(head.method)
        .ok_or_else(|| refuse("compressed with neither deflate nor nothing"))?;
    let [size, compressed_size, offset] = wide(&head, &extra).ok_or_else(|| bad("ZIP64 extra field"))?;
    let mode = if head.made_by == MADE_BY_UNIX { head.external >> 16 } else { 0 };
    check_type(mode, folder).map_err(refuse)?;
    if folder && size != 0 {
        return Err(refuse("a folder with contents"));
    }
    let descriptor = head.flags & FLAG_DESCRIPTOR != 0;
    let member = Member {
        folder,
        size,
        compressed_size,
        crc32: head.crc32,
        offset,
        extent: offset..offset,
        method,
        mode: mode & 0o7777,
        descriptor,
        path,
    };
    check_sizes(&member, limits)?;
    Ok(member)
}

/// Size, compressed size and offset, taken from the ZIP64 extra field where the entry's own are saturated.
fn wide(head: &Fixed, extra: &[(u16, &[u8])]) -> Option<[u64; 3]> {
    let mut records = extra.iter().filter(|(tag, _)| *tag == ZIP64_TAG);
    let record = records.next().map(|(_, data)| *data);
    if records.next().is_some() {
        return None;
    }
    let mut fields = Fields::new(record.unwrap_or_default());
    let mut values = [0; 3];
    for (value, short) in values.iter_mut().zip([head.size, head.compressed, head.offset]) {
        *value = if short == u32::MAX { fields.u64()? } else { short.into() };
    }
    // What is left may only be the disk number (already known to be 0) or values that were not needed.
    (fields.rest().len() <= 28).then_some(values)
}

fn check_type(mode: u32, folder: bool) -> Result<(), &'static str> {
    const TYPE: u32 = 0o170_000;
    match (mode & TYPE, folder) {
        (0, _) | (0o100_000, false) | (0o040_000, true) => Ok(()),
        (0o120_000, _) => Err("a symbolic link"),
        (0o040_000, false) | (0o100_000, true) => Err("of a type that contradicts its name"),
        _ => Err("a device, pipe or socket"),
    }
}

fn check_sizes(member: &Member, limits: &Limits) -> Result<(), ArchiveError> {
    if member.size > limits.max_member_bytes {
        let (path, bytes, limit) = (member.path.clone(), member.size, limits.max_member_bytes);
        return Err(ArchiveError::MemberTooLarge { path, bytes, limit });
    }
    let impossible = match member.method {
        Method::Stored => member.size != member.compressed_size,
        Method::Deflate => member.size > member.compressed_size.saturating_mul(MAX_RATIO),
    };
    if impossible { Err(ArchiveError::ImpossibleRatio { path: member.path.clone() }) } else { Ok(()) }
}

fn check_total(members: &[Member], limits: &Limits) -> Result<(), ArchiveError> {
    let total = members.iter().fold(0u64, |sum, member| sum.saturating_add(member.size));
    let limit = limits.max_total_bytes;
    if total > limit { Err(ArchiveError::TotalTooLarge { limit }) } else { Ok(()) }
}

/// No name twice, and no file where another member's path needs a folder.
fn check_names(members: &[Member]) -> Result<(), ArchiveError> {
    let mut folders: HashMap<&str, bool> = HashMap::with_capacity(members.len());
    for member in members {
        if folders.insert(&member.path, member.folder).is_some() {
            return Err(ArchiveError::Duplicate(member.path.clone()));
        }
    }
    for member in members {
        for (at, _) in member.path.match_indices('/') {
            if folders.get(&member.path[..at]) == Some(&false) {
                return Err(ArchiveError::Duplicate(member.path[..at].to_owned()));
            }
        }
    }
    Ok(())
}

/// Sorts by offset and lets each member reach to the next one; the last reaches to the central directory.
fn set_extents(members: &mut [Member], directory_start: u64) -> Result<(), ArchiveError> {
    members.sort_by_key(|member| member.offset);
    let first = members.first().map_or(directory_start, |member| member.offset);
    if first != 0 {
        return Err(ArchiveError::LeadingData);
    }
    let ends: Vec<u64> =
        members.iter().skip(1).map(|member| member.offset).chain([directory_start]).collect();
    for (member, end) in members.iter_mut().zip(ends) {
        let least = LOCAL_HEADER_BYTES + member.path.len() as u64 + u64::from(member.folder);
        let needed =
            member.offset.checked_add(least).and_then(|start| start.checked_add(member.compressed_size));
        let Some(needed) = needed.filter(|needed| *needed <= end) else {
            return Err(ArchiveError::Overlap(member.path.clone()));
        };
        // What is fetched for a member is in proportion to the member.
        if end - needed > MAX_EXTRA_BYTES + MAX_DESCRIPTOR_BYTES {
            return Err(ArchiveError::Stray(member.path.clone()));
        }
        member.extent = member.offset..end;
    }
    Ok(())
}
