use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{StartError, policy};

/// Names as a sandbox sees them below `/ol/runtime`.
const FILES: [(&str, &[u8]); 6] = [
    ("zygote.py", include_bytes!("../../python/zygote.py")),
    ("_ol/__init__.py", b""),
    ("_ol/environment.py", include_bytes!("../../python/environment.py")),
    ("_ol/leaf.py", include_bytes!("../../python/leaf.py")),
    ("_ol/handler.py", include_bytes!("../../python/handler.py")),
    ("_ol/native.abi3.so", include_bytes!(concat!(env!("OUT_DIR"), "/native.abi3.so"))),
];

/// The files that run inside sandboxes, written below the state folder, and the filter of zygotes.
pub(super) struct Runtime {
    /// `<state>/runtime/<digest>`
    pub folder: PathBuf,
    /// The seccomp program that a zygote is launched with.
    pub zygote_filter: Vec<u8>,
}

impl Runtime {
    /// Compiles the policies and writes what is not there yet. The folder is named by the digest of all it holds.
    pub(super) fn install(state: &Path) -> Result<Runtime, StartError> {
        let zygote_filter =
            policy::compile("zygote", config::seccomp::ZYGOTE)?.into_iter().next().unwrap_or_default();
        let leaf_filters = policy::compile("leaf", config::seccomp::LEAF)?;
        let names: Vec<String> = (0..leaf_filters.len()).map(|i| format!("leaf.{i}.bpf")).collect();
        let mut files: Vec<(&str, &[u8])> = FILES.to_vec();
        files.extend(names.iter().map(String::as_str).zip(leaf_filters.iter().map(Vec::as_slice)));
        let folder = state.join("runtime").join(digest(&files));
        write_all(&folder, &files).map_err(|source| StartError::Write { path: folder.clone(), source })?;
        Ok(Runtime { folder, zygote_filter })
    }
}

fn digest(files: &[(&str, &[u8])]) -> String {
    let mut hasher = Sha256::new();
    for (name, content) in files {
        hasher.update((name.len() as u64).to_be_bytes());
        hasher.update(name);
        hasher.update((content.len() as u64).to_be_bytes());
        hasher.update(content);
    }
    hasher.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// Writes beside the final name and renames: a folder that has it is whole, even after a crash.
fn write_all(folder: &Path, files: &[(&str, &[u8])]) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let parent = folder.parent().unwrap_or(folder);
    fs::create_dir_all(parent)?;
    let temporary = tempfile::Builder::new().prefix(".new-").tempdir_in(parent)?;
    fs::create_dir(temporary.path().join("_ol"))?;
    for (name, content) in files {
        let mut file = File::create(temporary.path().join(name))?;
        file.write_all(content)?;
        file.set_permissions(Permissions::from_mode(0o644))?;
        file.sync_all()?;
    }
    for path in [temporary.path().join("_ol"), temporary.path().to_path_buf()] {
        fs::set_permissions(&path, Permissions::from_mode(0o755))?;
        File::open(&path)?.sync_all()?;
    }
    match fs::rename(temporary.path(), folder) {
        Ok(()) => File::open(parent)?.sync_all(),
        // Another process was first; its content is the same by name.
        Err(_) if folder.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}
