//! The kit clears up after tests that cannot do it themselves, and after nobody else.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tests::guard::{self, TestDir};
use tests::leaks::{self, Snapshot};
use tests::skip;

const ROLE: &str = "OL_TEST_ROLE";

/// This test again, in a process of its own.
fn again(role: &str, note: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .stdout(Stdio::null())
        .args(["--exact", "what_a_killed_test_left_is_swept"])
        .env(ROLE, role)
        .env("OL_TEST_NOTE", note);
    guard::spawn(command).unwrap()
}

/// Leaves a mount and a process in its folder, tells which folder, and waits to be killed.
#[expect(clippy::zombie_processes, reason = "that is what it is for")]
fn leave() -> ! {
    let dir = TestDir::new();
    let none = None::<&str>;
    nix::mount::mount(Some("none"), &dir.mount(), Some("tmpfs"), nix::mount::MsFlags::empty(), none).unwrap();
    let mut sleep = Command::new("sleep");
    sleep.arg("1000").current_dir(dir.path());
    guard::spawn(sleep).unwrap();
    let note = PathBuf::from(std::env::var_os("OL_TEST_NOTE").unwrap());
    let written = note.with_extension("new");
    std::fs::write(&written, dir.path().as_os_str().as_encoded_bytes()).unwrap();
    std::fs::rename(written, note).unwrap();
    loop {
        std::thread::park();
    }
}

#[test]
fn what_a_killed_test_left_is_swept() {
    if !skip::needs_root() {
        return;
    }
    match std::env::var(ROLE).as_deref() {
        Ok("leave") => leave(),
        Ok(_) => return drop(TestDir::new()),
        Err(_) => {}
    }
    let folder = tempfile::tempdir().unwrap();
    let note = folder.path().join("note");
    let mut left = again("leave", &note);
    while !note.exists() && left.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    let path = PathBuf::from(std::fs::read_to_string(&note).unwrap());
    assert!(leaks::mount_points().contains(&path.join("mnt")));
    let living = TestDir::new();
    left.kill().unwrap();
    left.wait().unwrap();
    assert!(again("sweep", &note).wait().unwrap().success());
    assert!(Snapshot::of(&path).is_empty(), "{}", Snapshot::of(&path));
    assert!(!path.exists());
    assert!(living.path().exists(), "a living test's folder was swept");
}

#[test]
fn a_folder_notices_what_is_left_in_it() {
    if !skip::needs_root() {
        return;
    }
    let dir = TestDir::new();
    assert!(dir.leftovers().is_empty());
    let mut sleep = Command::new("sleep");
    sleep.arg("1000").current_dir(dir.path());
    let mut child = guard::spawn(sleep).unwrap();
    assert_eq!(dir.leftovers().processes.len(), 1);
    let other = TestDir::new();
    assert!(other.leftovers().is_empty());
    assert_ne!(dir.listen("ol-exec"), other.listen("ol-exec"));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn programs_are_built_where_the_tests_are() {
    for program in ["ol-exec", "ol-mirror", "ol-pkgfs"] {
        assert!(guard::binary(program).is_file(), "{program}");
    }
}
