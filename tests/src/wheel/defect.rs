//! The ways a wheel can be wrong.

use crate::zip_file::{ZipFile, ZipMember};

/// What is wrong with a wheel. Paths name members as they were added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Defect {
    /// RECORD's hash of the member is of other bytes.
    WrongRecordHash(&'static str),
    /// RECORD's size of the member is one more than it has.
    WrongRecordSize(&'static str),
    /// RECORD does not list the member.
    MissingFromRecord(&'static str),
    /// RECORD lists a file that the wheel does not hold.
    ExtraInRecord(&'static str),
    /// RECORD gives the member an md5 hash only.
    WeakRecordHash(&'static str),
    /// RECORD gives the member a sha512 hash, which is no defect but rare.
    StrongRecordHash(&'static str),
    /// RECORD gives the member a sha512 hash of other bytes.
    WrongStrongRecordHash(&'static str),
    /// There is no RECORD.
    NoRecord,
    /// There is no WHEEL.
    NoWheelFile,
    /// WHEEL states this version of the format.
    WheelVersion(&'static str),
    /// The member is there twice, the second time with other contents.
    DuplicateMember(&'static str),
    /// One more member has this name: `../x`, `/etc/x`, `a\\b`, a NUL.
    ExtraMember(&'static str),
    /// The member is a symbolic link to this target.
    Symlink(&'static str, &'static str),
    /// Bytes follow the end record.
    TrailingData,
    /// Bytes precede the first member.
    LeadingData,
    /// The headers state a CRC that the contents do not have.
    BadCrc(&'static str),
    /// The local header gives the member another name than the central directory.
    LocalNameMismatch(&'static str),
    /// The local header states another size than the central directory.
    LocalSizeMismatch(&'static str),
    /// Both headers state a size of 16 bytes, yet the data unpack to more.
    UnderstatedSize(&'static str),
    /// The member claims to be encrypted.
    Encrypted(&'static str),
    /// The member claims a compression method that nobody knows.
    UnknownMethod(&'static str),
    /// The second member's entry points at the first one's data.
    Overlap(&'static str, &'static str),
    /// The last quarter of the file is missing.
    Truncated,
}

/// The defects that are the archive's, not the wheel's.
pub(super) fn damage(archive: &mut ZipFile, defect: &Defect) {
    match *defect {
        Defect::DuplicateMember(path) => {
            let mut second = member(archive, path).clone();
            second.contents.extend_from_slice(b"\n# the other one\n");
            archive.members.push(second);
        }
        Defect::ExtraMember(path) => archive.members.push(ZipMember::new(path, "escaped\n")),
        Defect::Symlink(path, target) => {
            let mut link = ZipMember::new(path, target);
            link.mode = 0o120_777;
            archive.members.push(link);
        }
        Defect::TrailingData => archive.trailing = b"PK and more".to_vec(),
        Defect::LeadingData => archive.leading = b"#!/bin/sh\nexit 1\n".to_vec(),
        Defect::BadCrc(path) => member(archive, path).claimed_crc = Some(0x0bad_c0de),
        Defect::LocalNameMismatch(path) => {
            member(archive, path).local_name = Some(path.to_uppercase().into())
        }
        Defect::LocalSizeMismatch(path) => member(archive, path).local_size = Some(7),
        Defect::UnderstatedSize(path) => member(archive, path).claimed_size = Some(16),
        Defect::Encrypted(path) => member(archive, path).flags |= 1,
        Defect::UnknownMethod(path) => member(archive, path).claimed_method = Some(77),
        Defect::Overlap(first, second) => {
            let index = position(archive, first);
            member(archive, second).overlaps = Some(index);
        }
        _ => {}
    }
}

fn position(archive: &ZipFile, path: &str) -> usize {
    let found = archive.members.iter().position(|member| member.name == path.as_bytes());
    found.unwrap_or_else(|| panic!("the wheel has no member {path}"))
}

fn member<'a>(archive: &'a mut ZipFile, path: &str) -> &'a mut ZipMember {
    let index = position(archive, path);
    &mut archive.members[index]
}
