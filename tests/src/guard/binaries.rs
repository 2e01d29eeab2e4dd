//! Our programs, built once per test process, in the profile and target folder of the test itself.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// What cargo sets for the process it runs; a nested cargo that sees it rebuilds crates that watch these.
const OF_OUTER_CARGO: [&str; 7] = [
    "CARGO_PKG_",
    "CARGO_MANIFEST_",
    "CARGO_CRATE_",
    "CARGO_BIN_",
    "CARGO_PRIMARY",
    "OUT_DIR",
    "LD_LIBRARY_PATH",
];

/// Where the program is, freshly built. (`cargo test` builds only the binaries of the crate whose tests it runs.)
///
/// # Panics
/// Where the build fails.
pub fn binary(program: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(build).join(program)
}

fn build() -> PathBuf {
    let folder = profile_folder();
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") => "dev",
        Some(name) => name,
        None => panic!("{} is not a cargo profile's folder", folder.display()),
    };
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["build", "--workspace", "--bins", "--quiet", "--profile", profile, "--target-dir"]);
    command.arg(folder.parent().expect("a target folder"));
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if OF_OUTER_CARGO.iter().any(|prefix| name.starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    let output = command.output().expect("running cargo");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    folder
}

/// `<target>/<profile>`: test executables lie in its `deps`, others directly in it.
pub(crate) fn profile_folder() -> PathBuf {
    let own = std::env::current_exe().expect("own path");
    let folder = own.parent().expect("a folder");
    let inner = folder.ends_with("deps") || folder.ends_with("examples");
    if inner { folder.parent().map(Path::to_path_buf).expect("a folder") } else { folder.to_path_buf() }
}
