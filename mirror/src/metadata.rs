//! METADATA of a wheel on disk.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::WheelName;
use crate::archive::{ArchiveError, Directory, End, Limits, MAX_END_BYTES, Member};

/// Largest METADATA that is taken, in bytes.
const MAX_BYTES: u64 = 16 << 20;

/// Why a wheel's METADATA cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// The file cannot be read.
    #[error("the file cannot be read")]
    Read(#[from] std::io::Error),
    /// It is not a sound archive.
    #[error("it is not a sound wheel")]
    Archive(#[from] ArchiveError),
    /// There is no METADATA, or several.
    #[error("it has {0} METADATA files and should have one")]
    Count(usize),
    /// Larger than anything real.
    #[error("its METADATA is over {MAX_BYTES} bytes")]
    TooLarge,
}

/// The METADATA of the wheel at `path`, read strictly; only the parts it needs are read.
///
/// # Errors
/// The file is not a sound wheel.
pub fn of_wheel(path: &Path, name: &WheelName) -> Result<Vec<u8>, MetadataError> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    let tail = read(&file, size.saturating_sub(MAX_END_BYTES)..size)?;
    let end = End::locate(&tail, size)?;
    let limits = Limits::default();
    if end.directory.end.saturating_sub(end.directory.start) > limits.max_directory_bytes {
        return Err(MetadataError::TooLarge);
    }
    let directory = Directory::parse(&read(&file, end.directory.clone())?, &end, &limits)?;
    let found: Vec<&Member> = directory.members().iter().filter(|m| is_metadata(&m.path, name)).collect();
    let [member] = found[..] else { return Err(MetadataError::Count(found.len())) };
    if member.size > MAX_BYTES || member.extent.end.saturating_sub(member.extent.start) > 2 * MAX_BYTES {
        return Err(MetadataError::TooLarge);
    }
    Ok(member.unpack(&read(&file, member.extent.clone())?)?)
}

/// `{project}-{version}.dist-info/METADATA`, the project in any spelling: the file name's is not always the same.
fn is_metadata(path: &str, name: &WheelName) -> bool {
    let Some((folder, "METADATA")) = path.split_once('/') else { return false };
    let project = folder.strip_suffix(".dist-info").and_then(|stem| stem.split('-').next());
    project.and_then(|project| project.parse().ok()).as_ref() == Some(&name.project)
}

fn read(file: &File, range: Range<u64>) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; range.end.saturating_sub(range.start) as usize];
    file.read_exact_at(&mut bytes, range.start)?;
    Ok(bytes)
}
