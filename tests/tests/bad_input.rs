//! What users and machines get wrong: each gives one clear sentence, a failure code, and loses nothing.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::path::{Path, PathBuf};

use serde_json::json;
use tests::guard::{Daemon, Finished, TestDir};
use tests::http::Reply;
use tests::index::{FakeIndex, Quirk};
use tests::skip;
use tests::wheel::{Defect, WheelBuilder};

const HELLO: &str = "def f(event):\n    return 'hello'\n";

fn able() -> bool {
    skip::needs_fuse() && skip::needs_uv()
}

fn index() -> FakeIndex {
    FakeIndex::start([
        WheelBuilder::pure("demo", "1.0").build(),
        WheelBuilder::pure("left", "1.0").requires("demo>=2").build(),
        WheelBuilder::pure("broken", "1.0").defect(Defect::WrongRecordHash("broken/__init__.py")).build(),
        WheelBuilder::new("large", "1.0").file("large.py", noise(3 << 20)).build(),
    ])
}

/// Bytes that do not compress, as Python source: one long comment.
fn noise(size: usize) -> Vec<u8> {
    let mut word = 1_u64;
    let mut next = || {
        word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        b'0' + u8::try_from(word >> 58).unwrap_or_default()
    };
    std::iter::once(b'#').chain((0..size).map(|_| next())).collect()
}

fn dir(index: &FakeIndex) -> TestDir {
    let dir = TestDir::new();
    dir.set_index(&index.url());
    dir
}

fn script(requirements: &str) -> String {
    format!("# /// script\n# dependencies = {requirements}\n# ///\nprint('ran')\n{HELLO}")
}

fn run(dir: &TestDir, source: &str) -> Finished {
    let path = dir.write("script.py", source);
    dir.run("ol-exec", ["run", path.to_str().unwrap()])
}

/// A failure code and a short message that holds every one of `parts` and no debris.
fn assert_refused(finished: &Finished, parts: &[&str]) {
    let message = &finished.stderr;
    assert!(finished.code.is_some_and(|code| code != 0), "code {:?}: {message}", finished.code);
    // Programs may sum up on stdout what they did; none may claim to have done it.
    assert!(
        !finished.stdout.contains("ran\n") && !finished.stdout.contains("ready on"),
        "{}",
        finished.stdout
    );
    for part in parts {
        assert!(message.to_lowercase().contains(&part.to_lowercase()), "{part:?} is not in:\n{message}");
    }
    for debris in ["panicked", "stack backtrace", "Err(", "Os {"] {
        assert!(!message.contains(debris), "{message}");
    }
    assert!((1..=12).contains(&message.trim().lines().count()), "not one clear sentence:\n{message}");
}

/// The status, and a JSON body with a type and a message that holds every one of `parts`.
fn assert_status(reply: &Reply, statuses: &[u16], parts: &[&str]) {
    assert!(statuses.contains(&reply.status), "{} {}", reply.status, reply.text());
    let body = reply.json();
    assert!(body["errorType"].is_string(), "{body}");
    let message = body["errorMessage"].as_str().unwrap_or_default().to_lowercase();
    for part in parts {
        assert!(message.contains(&part.to_lowercase()), "{part:?} is not in {message:?}");
    }
}

/// The daemon still serves, and what was deployed is still there.
fn assert_nothing_lost(exec: &Daemon) {
    let reply = exec.send("POST", "/run/hello", "{}");
    assert_eq!((reply.status, reply.json()), (200, json!("hello")), "{}", exec.log());
}

#[test]
fn requirements_that_cannot_be_met() {
    if !able() {
        return;
    }
    let index = index();
    let dir = dir(&index);
    let cases: [(&str, String, &[&str]); 5] = [
        ("unknown package", script(r#"["no-such-package"]"#), &["no-such-package"]),
        ("unresolvable", script(r#"["left", "demo<2"]"#), &["demo"]),
        ("not a requirement", script(r#"["demo === === 1"]"#), &["demo"]),
        ("header is not TOML", "# /// script\n# dependencies = [\n# ///\n".into(), &["script"]),
        ("two headers", format!("{}{}", script("[]"), script("[]")), &["script"]),
    ];
    for (what, source, parts) in &cases {
        let finished = run(&dir, source);
        assert_refused(&finished, parts);
        assert!(!finished.stderr.contains("ran"), "{what}");
    }
    let exec = Daemon::start("ol-exec", &dir);
    assert_eq!(exec.send("PUT", "/functions/hello", HELLO).status / 100, 2);
    for (what, source, parts) in &cases {
        let reply = exec.send("PUT", "/functions/bad", source.as_str());
        assert_status(&reply, &[400, 422], parts);
        assert_eq!(exec.send("GET", "/functions/bad", "").status, 404, "{what}");
        // A failed update leaves the old version in place.
        assert_status(&exec.send("PUT", "/functions/hello", source.as_str()), &[400, 422], parts);
        assert_nothing_lost(&exec);
    }
}

#[test]
fn a_member_that_does_not_match_its_hash() {
    if !able() {
        return;
    }
    let index = index();
    let dir = dir(&index);
    let finished = run(&dir, "# /// script\n# dependencies = [\"broken\"]\n# ///\nimport broken\n");
    assert_ne!(finished.code, Some(0), "{}", finished.stderr);
    let told = finished.stderr.lines().any(|line| {
        ["RECORD says", "broken/__init__.py", "broken-1.0"].iter().all(|part| line.contains(part))
    });
    assert!(told, "{}", finished.stderr);
}

#[test]
fn a_whole_wheel_that_does_not_match_its_hash() {
    if !able() {
        return;
    }
    let index = index();
    let dir = dir(&index);
    // Where the index knows no ranges the whole file is fetched, and its own hash is what counts.
    index.quirk_times("demo-1.0-py3-none-any.whl", Quirk::RangesNotImplemented, 1);
    index.quirk("demo-1.0-py3-none-any.whl", Quirk::WrongBytes);
    let finished = run(&dir, "# /// script\n# dependencies = [\"demo\"]\n# ///\nprint('ran')\n");
    assert_refused(&finished, &["demo-1.0-py3-none-any.whl", "sha256"]);
    assert!(!finished.stdout.contains("ran"), "{}", finished.stdout);
    let finished = dir.run("ol-mirror", ["sync", "demo"]);
    assert_refused(&finished, &["demo-1.0-py3-none-any.whl"]);
    index.clear_quirks();
    let finished = dir.run("ol-mirror", ["sync", "demo"]);
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
}

#[test]
fn upstream_is_down() {
    if !able() {
        return;
    }
    let mut index = index();
    let dir = dir(&index);
    let mut exec = Daemon::start("ol-exec", &dir);
    assert_eq!(exec.send("PUT", "/functions/hello", HELLO).status / 100, 2);
    index.stop();
    exec.expect_in_log("requirements could not be resolved");
    assert_status(&exec.send("PUT", "/functions/bad", script(r#"["demo"]"#)), &[502, 503, 504], &["index"]);
    assert_nothing_lost(&exec);
    index.restart();
    let reply = exec.send("PUT", "/functions/good", script(r#"["demo"]"#));
    assert_eq!(reply.status / 100, 2, "{}", reply.text());
    drop(exec);
    index.stop();
    let other = TestDir::new();
    other.set_index(&index.url());
    assert_refused(&run(&other, &script(r#"["demo"]"#)), &["index"]);
    assert_refused(&other.run("ol-mirror", ["sync", "demo"]), &["index"]);
}

#[test]
fn the_disk_of_the_store_is_full() {
    if !able() {
        return;
    }
    let index = index();
    let dir = dir(&index);
    let source = "# /// script\n# dependencies = [\"large\"]\n# ///\nimport large\nprint('ran')\n";
    let small = SmallDisk::new(&dir.state().join("store"), "1m");
    let finished = run(&dir, source);
    // The script's own traceback, and from us which disk is full and what would lift it.
    assert_eq!((finished.code, finished.stdout.as_str()), (Some(1), ""), "{}", finished.stderr);
    let full = format!("the disk of the store {} is full", dir.state().join("store").display());
    for part in
        ["large.py of large-1.0-py3-none-any.whl", &full, "free some space", "No space left on device"]
    {
        assert!(finished.stderr.contains(part), "{part:?} is not in:\n{}", finished.stderr);
    }
    assert!(!finished.stderr.contains("panicked"), "{}", finished.stderr);
    // With room the same state works: nothing half-written was kept.
    drop(small);
    let finished = run(&dir, source);
    assert_eq!((finished.code, finished.stdout.as_str()), (Some(0), "ran\n"), "{}", finished.stderr);
}

/// A tmpfs, unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn new(path: &Path, size: &str) -> Self {
        std::fs::create_dir_all(path).unwrap();
        let options = format!("size={size}");
        let flags = nix::mount::MsFlags::empty();
        nix::mount::mount(Some("none"), path, Some("tmpfs"), flags, Some(options.as_str())).unwrap();
        Self(path.into())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH).ok();
    }
}

#[test]
fn the_port_is_in_use() {
    if !able() {
        return;
    }
    let index = index();
    let dir = dir(&index);
    let taken = std::net::TcpListener::bind(dir.listen("ol-exec")).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    assert_refused(&dir.run("ol-exec", ["serve", "--listen", &address]), &[&address, "in use", "--listen"]);
    assert!(dir.leftovers().is_empty(), "{}", dir.leftovers());
    assert_refused(&dir.run("ol-mirror", ["serve", "--listen", &address]), &[&address, "in use", "--listen"]);
}

#[test]
fn the_mount_point_is_in_use() {
    if !able() {
        return;
    }
    let index = index();
    let dir = dir(&index);
    let other = SmallDisk::new(&dir.mount(), "1m");
    std::fs::write(dir.mount().join("kept"), "precious").unwrap();
    let mount = dir.mount().display().to_string();
    assert_refused(&run(&dir, &script(r#"["demo"]"#)), &[&mount, "--mount"]);
    assert_refused(&dir.run("ol-pkgfs", ["mount"]), &[&mount, "--mount"]);
    assert_eq!(std::fs::read_to_string(dir.mount().join("kept")).unwrap(), "precious");
    drop(other);
}

#[test]
fn a_mount_left_by_a_killed_run_is_recovered() {
    if !able() {
        return;
    }
    let index = index();
    let dir = dir(&index);
    let exec = Daemon::start("ol-exec", &dir);
    exec.kill();
    // The kernel may still answer from its caches; a name it never heard of it must ask about.
    let dead = std::fs::metadata(dir.mount().join("never-asked")).unwrap_err();
    assert_eq!(dead.raw_os_error(), Some(nix::libc::ENOTCONN), "{dead}");
    let finished = run(&dir, &script(r#"["demo"]"#));
    assert_eq!((finished.code, finished.stdout.as_str()), (Some(0), "ran\n"), "{}", finished.stderr);
    assert!(dir.leftovers().is_empty(), "{}", dir.leftovers());
}

#[test]
fn a_second_daemon_for_one_state_is_refused() {
    if !able() {
        return;
    }
    let index = index();
    let dir = dir(&index);
    let exec = Daemon::start("ol-exec", &dir);
    assert_eq!(exec.send("PUT", "/functions/hello", HELLO).status / 100, 2);
    let other = format!("127.0.0.2:{}", dir.listen("ol-exec").port() + 17);
    assert_refused(&dir.run("ol-exec", ["serve", "--listen", &other]), &["another ol-exec", "--state"]);
    assert_nothing_lost(&exec);
}

#[test]
fn there_is_no_such_python() {
    if !able() {
        return;
    }
    let index = index();
    let dir = dir(&index);
    let path = dir.write("script.py", script(r#"["demo"]"#));
    let arguments = ["run", "--python", "/nonexistent/python3", path.to_str().unwrap()];
    assert_refused(&dir.run("ol-exec", arguments), &["/nonexistent/python3", "--python"]);
    let arguments = ["serve", "--python", "/nonexistent/python3"];
    assert_refused(&dir.run("ol-exec", arguments), &["/nonexistent/python3", "--python"]);
    let mut command = dir.command("ol-exec");
    command.args(["run", path.to_str().unwrap()]).env("PATH", "/nonexistent");
    assert_refused(&tests::guard::finish(command), &["python3", "--python"]);
}

#[test]
fn names_and_bodies_that_a_daemon_must_not_take() {
    if !able() {
        return;
    }
    let index = index();
    let dir = dir(&index);
    dir.set_config("[executor]\nmax_body_bytes = 1_000\nmax_upload_bytes = 2_000\n");
    let exec = Daemon::start("ol-exec", &dir);
    assert_eq!(exec.send("PUT", "/functions/hello", HELLO).status / 100, 2);
    let long = "x".repeat(300);
    let names = ["..%2fescape", "%2e%2e%2fescape", "a%2fb", "a%00b", ".hidden", "%20", "%ff", "a%ffb", &long];
    for name in names {
        assert_status(&exec.send("PUT", &format!("/functions/{name}"), HELLO), &[400], &["name"]);
        assert_status(&exec.send("GET", &format!("/functions/{name}"), ""), &[400], &["name"]);
        assert_status(&exec.send("DELETE", &format!("/functions/{name}"), ""), &[400], &["name"]);
        assert_status(&exec.send("GET", &format!("/functions/{name}/logs"), ""), &[400], &["name"]);
        let reply = exec.send("POST", &format!("/run/{name}"), "{}");
        assert_status(&reply, &[400], &["name"]);
        assert!(reply.header("x-ol-request-id").is_some());
    }
    assert_status(&exec.send("PUT", "/functions/..", HELLO), &[400, 404], &[".."]);
    for query in ["limit=abc", "limit=-1", "limit=1&limit=2"] {
        let reply = exec.send("GET", &format!("/functions/hello/logs?{query}"), "");
        assert_status(&reply, &[400], &["limit"]);
        assert_eq!(reply.json()["errorType"], "InvalidQuery");
    }
    assert_status(&exec.send("PUT", "/functions/..%2fescape", HELLO), &[400], &["name"]);
    assert!(!dir.path().join("escape").exists() && !dir.state().join("escape").exists());
    let large = format!("\"{}\"", "x".repeat(1_001));
    assert_status(&exec.send("POST", "/run/hello", large), &[413], &["1000"]);
    assert_status(&exec.send("PUT", "/functions/large", "#".repeat(2_001)), &[413], &["2000"]);
    assert_status(&exec.send("POST", "/run/hello", "{not json"), &[400], &["json"]);
    assert_status(&exec.send("POST", "/run/nobody", "{}"), &[404], &["nobody"]);
    assert_nothing_lost(&exec);
}
