//! The package file system when something is wrong: with a wheel, the index, the disk, the mount point, the user.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

#[path = "pkgfs/fixture.rs"]
mod fixture;

use std::path::{Path, PathBuf};
use std::process::Command;

use fixture::Fixture;
use tests::guard::{TestDir, finish};
use tests::index::{FakeIndex, Quirk};
use tests::lockfile::pylock;
use tests::skip;
use tests::wheel::{BuiltWheel, Defect, WheelBuilder};

const MODULE: &str = "demo/__init__.py";

fn demo() -> WheelBuilder {
    WheelBuilder::pure("demo", "1.0").file("demo/good.txt", "good\n")
}

fn site(fixture: &Fixture, env: &Path) -> PathBuf {
    env.join(format!("lib/{}/site-packages", fixture.python_name()))
}

fn errno(path: &Path) -> i32 {
    std::fs::read(path).unwrap_err().raw_os_error().unwrap()
}

#[test]
fn a_member_that_is_not_what_record_says_is_never_served() {
    if !skip::needs_fuse() {
        return;
    }
    for (defect, reason) in [
        (Defect::WrongRecordHash(MODULE), "RECORD says"),
        (Defect::WrongRecordSize(MODULE), "RECORD says"),
        (Defect::MissingFromRecord(MODULE), "RECORD does not list it"),
        (Defect::WeakRecordHash(MODULE), "a hash other than sha256"),
        (Defect::BadCrc(MODULE), "wrong checksum"),
        (Defect::LocalNameMismatch(MODULE), "contradicts the central directory"),
    ] {
        let wheel = demo().defect(defect.clone()).build();
        let mut fixture = Fixture::new([wheel.clone()]);
        fixture.daemon.expect_in_log(MODULE);
        let env = fixture.create(&[&wheel]);
        let site = site(&fixture, &env);
        assert_eq!(errno(&site.join(MODULE)), libc::EIO, "{defect:?}");
        assert_eq!(std::fs::read_to_string(site.join("demo/good.txt")).unwrap(), "good\n", "{defect:?}");
        let log = fixture.daemon.log();
        let told = log.lines().any(|line| {
            line.contains(reason) && line.contains(MODULE) && line.contains("demo-1.0-py3-none-any.whl")
        });
        assert!(told, "{defect:?}: {log}");
    }
}

#[test]
fn a_wheel_that_is_no_wheel_makes_no_environment_and_is_named() {
    if !skip::needs_fuse() {
        return;
    }
    for (defect, reason) in [
        (Defect::NoRecord, "it has no RECORD"),
        (Defect::NoWheelFile, "it has no WHEEL file"),
        (Defect::WheelVersion("2.0"), "WHEEL has version 2.0; 1.x is understood"),
        (Defect::DuplicateMember(MODULE), "is listed twice"),
        (Defect::ExtraMember("../escape"), "is refused"),
        (Defect::Symlink("demo/link", "/etc/passwd"), "a symbolic link"),
        (Defect::TrailingData, "no ZIP end record"),
        (Defect::Truncated, "no ZIP end record"),
    ] {
        let wheel = demo().defect(defect.clone()).build();
        let fixture = Fixture::new([wheel.clone()]);
        let lock = fixture.lock(&[&wheel]);
        let made = fixture.cli(&["env", "create", lock.to_str().unwrap()]);
        assert_eq!(made.code, Some(1), "{defect:?}");
        assert!(made.stdout.is_empty() && made.stderr.lines().count() == 1, "{}", made.stderr);
        assert!(made.stderr.contains("wheel demo-1.0-py3-none-any.whl cannot be opened"), "{}", made.stderr);
        assert!(made.stderr.contains(reason), "{defect:?}: {}", made.stderr);
        assert_eq!(fixture.cli(&["env", "list"]).stdout, "");
    }
}

#[test]
fn while_the_index_is_down_what_was_fetched_stays_and_the_rest_comes_later() {
    if !skip::needs_fuse() {
        return;
    }
    let wheel = demo().file("demo/far/away.txt", "away\n").build();
    let index = FakeIndex::start([wheel.clone()]);
    let mut fixture = Fixture::with(index, "[mirror]\nretries = 0\n");
    fixture.daemon.expect_in_log("cannot be re");
    let env = fixture.create(&[&wheel]);
    let site = site(&fixture, &env);
    assert_eq!(std::fs::read_to_string(site.join("demo/good.txt")).unwrap(), "good\n");
    fixture.index.stop();
    assert_eq!(std::fs::read_to_string(site.join("demo/good.txt")).unwrap(), "good\n");
    assert_eq!(errno(&site.join("demo/far/away.txt")), libc::EIO);
    assert!(fixture.daemon.log().contains("demo/far/away.txt of demo-1.0-py3-none-any.whl cannot be read"));
    let other = WheelBuilder::pure("other", "1").build();
    let lock = fixture.lock(&[&other]);
    let made = fixture.cli(&["env", "create", lock.to_str().unwrap()]);
    assert_eq!(made.code, Some(3), "{}", made.stderr);
    assert!(made.stderr.contains("cannot be reached"), "{}", made.stderr);
    fixture.index.restart();
    assert_eq!(std::fs::read_to_string(site.join("demo/far/away.txt")).unwrap(), "away\n");
}

#[test]
fn an_index_that_never_answers_holds_no_one_else_up() {
    if !skip::needs_fuse() {
        return;
    }
    let slow = WheelBuilder::pure("slow", "1").file("slow/deep/x.txt", "x".repeat(400_000)).build();
    let quick = demo().build();
    let index = FakeIndex::start([slow.clone(), quick.clone()]);
    let config = "[pkgfs]\nread_timeout_ms = 3_000\nfuse_threads = 2\n";
    let mut fixture = Fixture::with(index, config);
    fixture.daemon.expect_in_log("slow/deep/x.txt");
    let env = fixture.create(&[&slow, &quick]);
    let site = site(&fixture, &env);
    let hold = fixture.index.hold(&slow.file_name);
    std::thread::scope(|scope| {
        let stuck: Vec<_> =
            (0..6).map(|_| scope.spawn(|| std::fs::read(site.join("slow/deep/x.txt")))).collect();
        // Twice as many readers wait as there are threads; others are served all the same.
        assert_eq!(std::fs::read_to_string(site.join("demo/good.txt")).unwrap(), "good\n");
        for reader in stuck {
            assert_eq!(reader.join().unwrap().unwrap_err().raw_os_error(), Some(libc::EIO));
        }
    });
    assert!(fixture.daemon.log().contains("did not answer in 3000 ms (pkgfs.read_timeout_ms)"));
    drop(hold);
    assert_eq!(std::fs::read(site.join("slow/deep/x.txt")).unwrap().len(), 400_000);
}

#[test]
fn a_project_page_that_never_comes_fails_the_lookup() {
    if !skip::needs_fuse() {
        return;
    }
    let wheel = demo().build();
    let config = "[pkgfs]\nread_timeout_ms = 300\n";
    let mut fixture = Fixture::with(FakeIndex::start([wheel.clone()]), config);
    fixture.daemon.expect_in_log("project page cannot be read");
    fixture.index.quirk("demo", Quirk::Stall);
    let looked = std::fs::metadata(fixture.dir.mount().join("demo"));
    assert_eq!(looked.unwrap_err().raw_os_error(), Some(libc::EIO));
    assert!(fixture.daemon.log().contains("did not answer in 300 ms (pkgfs.read_timeout_ms)"));
    fixture.index.clear_quirks();
    assert!(fixture.dir.mount().join("demo/1.0").is_dir());
}

#[test]
fn a_full_disk_fails_that_reader_only_and_evicting_goes_before_failing() {
    if !skip::needs_fuse() {
        return;
    }
    let part = |name: &str, fill: u8| {
        let bytes: Vec<u8> =
            (0..600_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8 ^ fill).collect();
        WheelBuilder::new(name, "1").file(&format!("{name}/blob"), bytes).build()
    };
    let wheels = [part("a", 1), part("b", 2), part("c", 3)];
    let huge = WheelBuilder::new("huge", "1").file("huge/blob", vec![0u8; 3_000_000]).build();
    let index = FakeIndex::start(wheels.iter().cloned().chain([huge.clone()]));
    let dir = TestDir::new();
    dir.set_index(&index.url());
    let disk = SmallDisk::mount(&dir.state().join("store"), "size=1600k");
    let daemon = tests::guard::Daemon::start("ol-pkgfs", &dir);
    let mut fixture = Fixture { daemon, index, dir };
    fixture.daemon.expect_in_log("huge/blob");
    let env = fixture.create(&[&wheels[0], &wheels[1], &wheels[2], &huge]);
    let site = site(&fixture, &env);
    for name in ["a", "b", "c", "a"] {
        assert_eq!(std::fs::read(site.join(name).join("blob")).unwrap().len(), 600_000, "{name}");
    }
    assert_eq!(errno(&site.join("huge/blob")), libc::ENOSPC);
    let log = fixture.daemon.log();
    assert!(log.contains("is full and nothing in it can be evicted"), "{log}");
    assert_eq!(std::fs::read(site.join("b/blob")).unwrap().len(), 600_000);
    drop(disk);
}

/// A tmpfs; taken away with this value, lazily, for the daemon may still run.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path, options: &str) -> Self {
        std::fs::create_dir_all(at).unwrap();
        let flags = nix::mount::MsFlags::empty();
        nix::mount::mount(Some("ol-test"), at, Some("tmpfs"), flags, Some(options)).unwrap();
        Self(at.to_owned())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH).ok();
    }
}

#[test]
fn a_killed_daemon_leaves_a_mount_that_the_next_one_takes_over() {
    if !skip::needs_fuse() {
        return;
    }
    let wheel = demo().build();
    let fixture = Fixture::new([wheel.clone()]);
    let env = fixture.create(&[&wheel]);
    // Somebody who still has a file of the dead mount open must not keep the next daemon from mounting.
    let open = std::fs::File::open(env.join("pyvenv.cfg")).unwrap();
    let fixture = fixture.crash();
    assert_eq!(fixture.python(&env, "import demo; print(demo.VERSION)").trim(), "1.0");
    drop(open);
    let mounts = tests::leaks::mount_points().into_iter().filter(|at| *at == fixture.dir.mount()).count();
    assert_eq!(mounts, 1);
}

#[test]
fn mount_points_that_cannot_be_used_are_refused_with_what_to_do() {
    if !skip::needs_fuse() {
        return;
    }
    let index = FakeIndex::start([]);
    let dir = TestDir::new();
    dir.set_index(&index.url());
    let refused = |part: &str| {
        let done = dir.run("ol-pkgfs", ["mount"]);
        assert_eq!(done.code, Some(1), "{}", done.stderr);
        assert!(done.stderr.contains(part) && done.stderr.contains("--mount"), "{}", done.stderr);
    };
    let file = dir.write("mnt/file", "x");
    refused("is not empty, its files would be hidden");
    std::fs::remove_file(file).unwrap();
    let disk = SmallDisk::mount(&dir.mount(), "size=64k");
    refused("is in use by ol-test (type tmpfs), which is not ours");
    drop(disk);
    std::fs::remove_dir(dir.mount()).unwrap();
    std::fs::write(dir.mount(), "x").unwrap();
    refused("is not a folder");
    std::fs::remove_file(dir.mount()).unwrap();
    // A folder that is not there is made.
    let daemon = tests::guard::Daemon::start("ol-pkgfs", &dir);
    let state = dir.path().join("other-state");
    let mut second = dir.command("ol-pkgfs");
    second.arg("--state").arg(&state).arg("mount");
    let second = run_last_flag(second, &dir, &state);
    assert!(
        second.stderr.contains("is served by another ol program with another state folder"),
        "{}",
        second.stderr
    );
    let same = dir.run("ol-pkgfs", ["mount"]);
    assert_eq!(same.code, Some(1));
    assert!(same.stderr.contains("another ol program already serves the state folder"), "{}", same.stderr);
    daemon.stop();
}

/// A second `--state` is a usage error, so the command is made anew.
fn run_last_flag(_: Command, dir: &TestDir, state: &Path) -> tests::guard::Finished {
    let mut command = Command::new(tests::guard::binary("ol-pkgfs"));
    command.arg("--state").arg(state).arg("--mount").arg(dir.mount()).arg("mount");
    command.args(["--index-url", "http://127.0.0.1:1/simple/"]);
    finish(command)
}

#[test]
fn wrong_use_is_told_in_one_line_with_its_exit_code() {
    let dir = TestDir::new();
    let lock = dir.write("pylock.toml", "lock-version = \"1.0\"\npackages = []\n");
    let none = dir.run("ol-pkgfs", ["env", "create", lock.to_str().unwrap()]);
    assert_eq!(none.code, Some(4), "{}", none.stderr);
    assert!(none.stderr.contains("start one with `ol-pkgfs mount`"), "{}", none.stderr);
    assert_eq!(dir.run("ol-pkgfs", ["status"]).code, Some(4));
    assert_eq!(dir.run("ol-pkgfs", ["no-such-command"]).code, Some(2));
    let mut python = dir.command("ol-pkgfs");
    python.args(["--python", "/nonexistent/python", "--index-url", "http://127.0.0.1:1/", "mount"]);
    let python = finish(python);
    assert_eq!(python.code, Some(1));
    assert!(python.stderr.contains("/nonexistent/python"), "{}", python.stderr);
}

#[test]
fn bad_bytes_from_a_server_without_ranges_are_refused_whole() {
    if !skip::needs_fuse() {
        return;
    }
    let wheel: BuiltWheel = demo().build();
    let fixture = Fixture::new([wheel.clone()]);
    fixture.index.quirk_times(&wheel.file_name, Quirk::RangesNotImplemented, 1);
    fixture.index.quirk(&wheel.file_name, Quirk::WrongBytes);
    let lock = fixture.lock(&[&wheel]);
    let made = fixture.cli(&["env", "create", lock.to_str().unwrap()]);
    assert_eq!(made.code, Some(1), "{}", made.stderr);
    assert!(made.stderr.contains("sha256"), "{}", made.stderr);
}

#[test]
fn what_is_at_the_socket_s_place_stays_unless_it_is_a_dead_socket() {
    if !skip::needs_fuse() {
        return;
    }
    let index = FakeIndex::start([]);
    let dir = TestDir::new();
    dir.set_index(&index.url());
    let mount_at = |socket: &Path| {
        let mut command = dir.command("ol-pkgfs");
        command.arg("mount").arg("--socket").arg(socket);
        finish(command)
    };
    let file = dir.write("precious", "mine");
    let live = dir.path().join("live.sock");
    let listener = std::os::unix::net::UnixListener::bind(&live).unwrap();
    for taken in [&file, &live] {
        let done = mount_at(taken);
        assert_eq!(done.code, Some(1), "{}", done.stderr);
        assert!(done.stderr.contains("something else is already at"), "{}", done.stderr);
        assert!(done.stderr.contains("--socket"), "{}", done.stderr);
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
    assert!(std::os::unix::net::UnixStream::connect(&live).is_ok());
    drop(listener);
    // Left over from a killed run.
    assert!(live.exists());
    let daemon = tests::guard::Daemon::spawn_at("ol-pkgfs", &dir, &live);
    // Nobody has to repeat the flag.
    let status = dir.run("ol-pkgfs", ["status", "--json"]);
    assert_eq!(status.code, Some(0), "{}", status.stderr);
    assert!(!dir.socket("ol-pkgfs").exists());
    let attached = attach(&dir, &index);
    assert!(attached.unwrap().is_attached());
    daemon.stop();
}

#[test]
fn a_lock_with_addresses_of_its_own_poisons_nothing() {
    if !skip::needs_fuse() {
        return;
    }
    let wheel = demo().build();
    let evil = demo().file("demo/good.txt", "evil\n").build();
    let lone = WheelBuilder::pure("lone", "1").build();
    let fixture = Fixture::new([wheel.clone()]);
    let elsewhere = FakeIndex::start([evil.clone(), lone.clone()]);
    // Sound in itself, served by ranges, and said to be the wheel that the index lists.
    let size = |wheel: &BuiltWheel| format!("size = {}, ", wheel.bytes.len());
    let foreign = pylock(&elsewhere, &[&evil]).replace(&evil.sha256, &wheel.sha256).replace(&size(&evil), "");
    let lock = fixture.dir.write("pylock.foreign.toml", foreign);
    let made = fixture.cli(&["env", "create", lock.to_str().unwrap()]);
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    let read = std::fs::read_to_string(site(&fixture, Path::new(made.stdout.trim())).join("demo/good.txt"));
    assert_eq!(read.unwrap(), "good\n");
    let env = fixture.create(&[&wheel]);
    assert_eq!(std::fs::read_to_string(site(&fixture, &env).join("demo/good.txt")).unwrap(), "good\n");
    // One that the index does not list is fetched whole, and must be what its digest says.
    let wrong = pylock(&elsewhere, &[&lone]).replace(&lone.sha256, &wheel.sha256);
    let lock = fixture.dir.write("pylock.wrong.toml", wrong);
    let made = fixture.cli(&["env", "create", lock.to_str().unwrap()]);
    assert_eq!(made.code, Some(1), "{}", made.stderr);
    assert!(made.stderr.contains("sha256"), "{}", made.stderr);
}

/// The packages as `ol-exec` gets at them.
fn attach(dir: &TestDir, index: &FakeIndex) -> Result<pkgfs::Packages, pkgfs::MountError> {
    let args = config::CommonArgs { state: Some(dir.state()), ..config::CommonArgs::default() };
    let args = config::CommonArgs { mount: Some(dir.mount()), ..args };
    let settings = args.load().unwrap();
    let index = mirror::Index { url: index.url().parse().unwrap(), certificates: None };
    let client = mirror::IndexClient::new(&settings, &index).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(pkgfs::Packages::open(&settings, client))
}
