use std::io;

use flate2::read::MultiGzDecoder;
use tar::{Archive, EntryType};

use super::{Unpacker, UploadError};

fn broken(error: &io::Error) -> UploadError {
    UploadError::Broken { kind: ".tar.gz", reason: error.to_string() }
}

/// Unpacks a gzipped tar. GNU and PAX long names are understood; PAX global headers (git writes one) are skipped.
pub(super) fn unpack(body: &[u8], unpacker: &mut Unpacker<'_>) -> Result<(), UploadError> {
    // The tar reader skips and pads by reading on: a bound on the whole stream stops a bomb that lies between
    // the entries. 1 KiB an entry covers headers and padding.
    let bound = unpacker.limits.unpacked_bytes + 1024 * (unpacker.limits.entries as u64 + 2);
    let mut archive = Archive::new(io::Read::take(MultiGzDecoder::new(body), bound));
    let mut seen = false;
    for entry in archive.entries().map_err(|error| broken(&error))? {
        let entry = entry.map_err(|error| broken(&error))?;
        seen = true;
        let bytes = entry.path_bytes();
        let path = String::from_utf8(bytes.into_owned()).map_err(|error| UploadError::Path {
            path: String::from_utf8_lossy(error.as_bytes()).into_owned(),
        })?;
        match entry.header().entry_type() {
            EntryType::XGlobalHeader => {}
            // `tar -C dir .` writes the folder itself as the first entry.
            EntryType::Directory if matches!(path.as_str(), "." | "./") => {}
            EntryType::Directory => unpacker.folder(&path)?,
            EntryType::Regular | EntryType::Continuous => unpacker.file(&path, entry)?,
            _ => return Err(UploadError::Special { path }),
        }
    }
    if seen { Ok(()) } else { Err(UploadError::Empty) }
}
