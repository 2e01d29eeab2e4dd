use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Builder, Header};

/// What to upload for a path: a file as it is, a folder as a `.tar.gz` of its ordinary files.
pub(super) fn upload(path: &Path) -> io::Result<Vec<u8>> {
    if !path.is_dir() {
        return std::fs::read(path);
    }
    let mut archive = Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    let mut files = Vec::new();
    collect(path, &mut files)?;
    files.sort();
    for file in files {
        let mut content = File::open(&file)?;
        let mut header = Header::new_gnu();
        header.set_size(content.metadata()?.len());
        header.set_mode(0o644);
        let name = file.strip_prefix(path).unwrap_or(&file);
        archive.append_data(&mut header, name, &mut content)?;
    }
    archive.into_inner()?.finish()
}

/// Hidden files and caches are not part of a function.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with('.') || name == "__pycache__" {
            continue;
        }
        if path.is_dir() && !path.is_symlink() {
            collect(&path, files)?;
        } else if path.is_file() {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upload::{UploadLimits, unpack};

    #[test]
    fn a_folder_arrives_as_it_is_but_for_caches() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("lib/__pycache__")).unwrap();
        for (name, content) in
            [("f.py", "1"), ("lib/a.py", "2"), (".env", "secret"), ("lib/__pycache__/a.pyc", "x")]
        {
            std::fs::write(dir.path().join(name), content).unwrap();
        }
        let dest = tempfile::tempdir().unwrap();
        let body = upload(dir.path()).unwrap();
        unpack(&body, dest.path(), UploadLimits { unpacked_bytes: 1000, entries: 10 }).unwrap();
        assert_eq!(std::fs::read_to_string(dest.path().join("lib/a.py")).unwrap(), "2");
        assert!(dest.path().join("f.py").exists() && !dest.path().join(".env").exists());
        assert!(!dest.path().join("lib/__pycache__").exists());
    }
}
