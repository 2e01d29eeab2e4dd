//! What a test needs of the machine; where it is missing the test says so by name and passes.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Whether this process is root and may make namespaces, mounts and cgroups.
pub fn needs_root() -> bool {
    static ROOT: OnceLock<bool> = OnceLock::new();
    // Root in a container may lack CAP_SYS_ADMIN: making a mount namespace is the cheapest thing that needs it.
    *ROOT.get_or_init(|| {
        nix::unistd::geteuid().is_root()
            && Command::new("unshare")
                .args(["-m", "true"])
                .output()
                .is_ok_and(|output| output.status.success())
    }) || skipped("needs root")
}

/// Whether FUSE file systems can be mounted (root and `/dev/fuse`).
pub fn needs_fuse() -> bool {
    if !needs_root() {
        return false;
    }
    let usable = std::fs::File::options().read(true).write(true).open("/dev/fuse").is_ok();
    usable || skipped("needs /dev/fuse")
}

/// Whether there is a C compiler for extension modules.
pub fn needs_compiler() -> bool {
    crate::extension::compiler().is_some() || skipped("needs a C compiler")
}

/// The folder of real wheels, where it holds at least one of each project named; they belong to
/// the base interpreter that filled it.
pub fn real_wheels(projects: &[&str]) -> Option<PathBuf> {
    let folder = wheel_folder();
    let names: Vec<String> = std::fs::read_dir(&folder)
        .map(|entries| {
            entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
        })
        .unwrap_or_default();
    let held = |project: &&str| names.iter().any(|name| name.starts_with(&format!("{project}-")));
    if projects.iter().all(held) {
        return Some(folder);
    }
    skipped("no real wheels");
    None
}

/// Whether requirements can be resolved.
pub fn needs_uv() -> bool {
    uv().is_some() || skipped("no real wheels (uv is not on PATH either)")
}

/// uv: the one of the wheel folder, unpacked once below the target folder, else the one on `PATH`.
pub fn uv() -> Option<&'static Path> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOUND.get_or_init(|| unpacked_uv().or_else(uv_on_path)).as_deref()
}

fn uv_on_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join("uv")).find(|candidate| candidate.is_file())
}

fn unpacked_uv() -> Option<PathBuf> {
    let entries = std::fs::read_dir(wheel_folder()).ok()?;
    let wheel = entries.flatten().find(|entry| entry.file_name().to_string_lossy().starts_with("uv-"))?;
    let stem = wheel.path().file_stem()?.to_owned();
    let kept = crate::guard::profile_folder().join("ol-test-uv").join(stem);
    let found = kept.join("uv");
    if !found.is_file() {
        unpack_uv(&wheel.path(), &kept)?;
    }
    Some(found)
}

/// Several test processes may do this at once: each writes a file of its own and renames it.
fn unpack_uv(wheel: &Path, kept: &Path) -> Option<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::create_dir_all(kept).ok()?;
    let folder = tempfile::tempdir_in(kept).ok()?;
    let mut command = Command::new("python3");
    command.args(["-m", "zipfile", "-e"]).args([wheel, folder.path()]);
    command.output().ok().filter(|output| output.status.success())?;
    let data = crate::leaks::subfolders(folder.path());
    let unpacked = data.iter().map(|below| below.join("scripts/uv")).find(|path| path.is_file())?;
    std::fs::set_permissions(&unpacked, std::fs::Permissions::from_mode(0o755)).ok()?;
    std::fs::rename(unpacked, kept.join("uv")).ok()
}

/// Where real wheels are looked for: `OL_TEST_WHEELS`, else `tests/wheels` of this workspace.
pub fn wheel_folder() -> PathBuf {
    std::env::var_os("OL_TEST_WHEELS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("wheels"), PathBuf::from)
}

/// Says on the real standard error (libtest captures only the macros) that this test was skipped; returns false.
pub fn skipped(reason: &str) -> bool {
    let thread = std::thread::current();
    let name = thread.name().filter(|name| *name != "main").unwrap_or("test");
    let line = format!("{name} ... skipped: {reason}\n");
    std::io::stderr().write_all(line.as_bytes()).ok();
    false
}
