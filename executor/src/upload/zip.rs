use mirror::archive::{self, ArchiveError, Limits, UnpackError};

use super::{Unpacker, UploadError, UploadLimits};

/// Largest central directory: an entry takes its path and under 200 bytes more.
const DIRECTORY_BYTES_PER_ENTRY: u64 = 1024;

/// Unpacks a ZIP, read as strictly as a wheel.
pub(super) fn unpack(body: &[u8], unpacker: &mut Unpacker<'_>) -> Result<(), UploadError> {
    let bounds = unpacker.limits;
    let limits = Limits {
        max_members: bounds.entries as u64,
        max_member_bytes: bounds.unpacked_bytes,
        max_total_bytes: bounds.unpacked_bytes,
        max_directory_bytes: DIRECTORY_BYTES_PER_ENTRY * bounds.entries as u64,
    };
    let directory = archive::open(body, &limits).map_err(|error| refused(error, bounds))?;
    if directory.members().is_empty() {
        return Err(UploadError::Empty);
    }
    for member in directory.members() {
        if member.folder {
            unpacker.folder(&member.path)?;
            continue;
        }
        let extent = body_range(body, &member.extent);
        unpacker.file_of(&member.path, |sink| {
            member.unpack_to(extent, sink).map_err(|error| match error {
                UnpackError::Archive(error) => refused(error, bounds),
                UnpackError::Sink(error) => UploadError::Broken { kind: ".zip", reason: error.to_string() },
            })
        })?;
    }
    Ok(())
}

fn body_range<'a>(body: &'a [u8], extent: &std::ops::Range<u64>) -> &'a [u8] {
    let at = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX);
    body.get(at(extent.start)..at(extent.end)).unwrap_or_default()
}

/// The limits are ours and have names of ours; for the rest the reader's own words are best.
fn refused(error: ArchiveError, limits: UploadLimits) -> UploadError {
    match error {
        ArchiveError::TooManyMembers { .. } => UploadError::TooManyEntries { limit: limits.entries },
        ArchiveError::MemberTooLarge { .. } | ArchiveError::TotalTooLarge { .. } => {
            UploadError::TooLarge { limit: limits.unpacked_bytes }
        }
        ArchiveError::Duplicate(path) => UploadError::Duplicate { path },
        other => UploadError::Broken { kind: ".zip", reason: other.to_string() },
    }
}
