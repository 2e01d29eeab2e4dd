//! `ol-mirror sync` and `ol-mirror serve`, and the real pip and uv against them.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::path::Path;
use std::process::Command;

use tests::guard::{Daemon, Finished, TestDir, finish};
use tests::http::Call;
use tests::index::{FakeIndex, Quirk};
use tests::lockfile::pylock;
use tests::skip;
use tests::wheel::{BuiltWheel, Defect, WheelBuilder};

const APP: &str = "app-1.0-py3-none-any.whl";
const LIBRARY: &str = "library-2.1-py3-none-any.whl";
const JSON: &str = "application/vnd.pypi.simple.v1+json";

fn wheels() -> Vec<BuiltWheel> {
    vec![
        WheelBuilder::pure("app", "1.0").requires("Library>=2").build(),
        WheelBuilder::pure("library", "2.1").requires_python(">=3.9").build(),
        WheelBuilder::pure("library", "3.0").requires_python(">=3.99").build(),
    ]
}

/// A folder whose programs use `index`, and do not wait between tries.
fn folder(index: &FakeIndex) -> TestDir {
    let dir = TestDir::new();
    dir.set_index(&index.url()).set_config("[mirror]\nretries = 1\nretry_delay_ms = 1\n");
    dir
}

fn sync(dir: &TestDir, words: &[&str]) -> Finished {
    dir.run("ol-mirror", ["sync"].iter().chain(words))
}

fn synced(dir: &TestDir) {
    let done = sync(dir, &["app"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
}

#[test]
fn a_sync_copies_the_closure_once_and_plans_nothing_more() {
    if !skip::needs_uv() {
        return;
    }
    let index = FakeIndex::start(wheels());
    let dir = folder(&index);
    let planned = sync(&dir, &["--plan", "--json", "app"]);
    let plan: serde_json::Value = serde_json::from_str(&planned.stdout).unwrap();
    assert_eq!(plan["fetch"][0]["filename"], APP, "{}", planned.stdout);
    assert_eq!(plan["fetch"][1]["filename"], LIBRARY, "{}", planned.stdout);
    assert!(!dir.state().join("mirror").exists());
    let done = sync(&dir, &["app"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(done.stderr.contains(&format!("copied {LIBRARY}")), "{}", done.stderr);
    assert!(done.stdout.starts_with("2 fetched ("), "{}", done.stdout);
    index.clear_log();
    let again = sync(&dir, &["app"]);
    assert!(again.stdout.starts_with("0 fetched (0 B), 2 held already, 0 failed"), "{}", again.stdout);
    assert_eq!(index.gets(APP) + index.gets(LIBRARY), 0);
}

#[test]
fn a_yank_is_carried_without_a_new_file() {
    if !skip::needs_uv() {
        return;
    }
    let index = FakeIndex::start(wheels());
    let dir = folder(&index);
    synced(&dir);
    index.yank(LIBRARY, "it's bad");
    assert_eq!(sync(&dir, &["--json", "app"]).stdout, "{\"failed\":[],\"fetched\":[],\"kept\":1}\n");
    let mirror = Daemon::start("ol-mirror", &dir);
    let page = Call::get(&mirror.url("/simple/library/")).header("Accept", JSON).send().unwrap().json();
    assert_eq!(page["files"][0]["yanked"], "it's bad");
}

#[test]
fn what_is_quarantined_after_a_sync_is_offered_no_more() {
    if !skip::needs_uv() {
        return;
    }
    let wheels = wheels();
    let index = FakeIndex::start(wheels.clone());
    let dir = folder(&index);
    synced(&dir);
    let mirror = Daemon::start("ol-mirror", &dir);
    let offered = |project: &str| {
        let page = mirror.call("GET", &format!("/simple/{project}/")).header("Accept", JSON).send().unwrap();
        page.json()["files"].as_array().unwrap().len()
    };
    let lock = dir.write("pylock.toml", pylock(&index, &[&wheels[0], &wheels[1]]));
    let lock = lock.to_str().unwrap();
    index.status("library", "quarantined");
    let done = sync(&dir, &[lock]);
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    assert!(done.stderr.contains("its project is quarantined"), "{}", done.stderr);
    assert_eq!((offered("app"), offered("library")), (1, 0));
    assert_eq!(mirror.call("GET", &format!("/files/library/{LIBRARY}")).send().unwrap().status, 404);
    index.status("library", "active");
    assert_eq!(sync(&dir, &[lock]).code, Some(0));
    assert_eq!(offered("library"), 1);
    // Nor where the quarantine leaves nothing to lock (uv remembers pages for a while).
    std::fs::remove_dir_all(dir.state().join("uv-cache")).unwrap();
    let empty = r#"{"meta": {"api-version": "1.4"}, "name": "library", "versions": [], "files": [],
        "project-status": {"status": "quarantined"}}"#;
    index.page("library", JSON, empty);
    let done = sync(&dir, &["app", "library>=2,<3"]);
    assert_eq!(done.code, Some(2), "{}", done.stderr);
    assert_eq!((offered("app"), offered("library")), (1, 0));
}

#[test]
fn a_file_that_somebody_removed_is_copied_again() {
    let wheel = WheelBuilder::pure("app", "1.0").build();
    let index = FakeIndex::start([wheel.clone()]);
    let dir = folder(&index);
    let lock = dir.write("pylock.toml", pylock(&index, &[&wheel]));
    let lock = lock.to_str().unwrap();
    assert!(sync(&dir, &[lock]).stdout.starts_with("1 fetched ("));
    let file = dir.state().join("mirror/files/app").join(APP);
    for gone in [file.clone(), dir.state().join(format!("mirror/files/app/{APP}.metadata"))] {
        std::fs::remove_file(&gone).unwrap();
        assert!(sync(&dir, &[lock]).stdout.starts_with("1 fetched ("), "{}", gone.display());
        assert!(gone.is_file());
    }
    std::fs::write(&file, "short").unwrap();
    assert!(sync(&dir, &[lock]).stdout.starts_with("1 fetched ("));
    assert_eq!(std::fs::read(&file).unwrap(), wheel.bytes);
    assert!(sync(&dir, &[lock]).stdout.starts_with("0 fetched ("));
}

#[test]
fn a_file_that_is_not_what_was_promised_is_refused_and_the_others_are_kept() {
    if !skip::needs_uv() {
        return;
    }
    let index = FakeIndex::start(wheels());
    let dir = folder(&index);
    assert_eq!(sync(&dir, &["--plan", "app"]).code, Some(0));
    index.quirk(LIBRARY, Quirk::WrongBytes);
    let done = sync(&dir, &["app"]);
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    assert!(done.stderr.contains("it was changed or damaged, and is not used"), "{}", done.stderr);
    assert!(dir.state().join("mirror/files/app").join(APP).is_file());
    assert!(!dir.state().join("mirror/files/library").exists());
    index.clear_quirks();
    assert!(sync(&dir, &["app"]).stdout.starts_with("1 fetched ("));
}

#[test]
fn a_wheel_that_is_no_sound_archive_is_refused() {
    if !skip::needs_uv() {
        return;
    }
    let index = FakeIndex::start([WheelBuilder::pure("bad", "1.0").defect(Defect::TrailingData).build()]);
    let dir = folder(&index);
    let done = sync(&dir, &["bad"]);
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    assert!(
        done.stderr.contains("wheel bad-1.0-py3-none-any.whl is refused: it is not a sound wheel"),
        "{}",
        done.stderr
    );
}

#[test]
fn bad_input_gives_one_sentence_and_its_exit_code() {
    if !skip::needs_uv() {
        return;
    }
    let mut index = FakeIndex::start(wheels());
    let dir = folder(&index);
    let script = dir.write("bad.py", "# /// script\n# dependencies = [\n# ///\n");
    let url = index.url();
    let cases: [(&[&str], i32, &str); 8] = [
        (
            &["nosuch"],
            2,
            &format!("ol-mirror: project nosuch is not on the index {url}; check the spelling, or name"),
        ),
        (&["app", "library<2"], 2, "ol-mirror: the requirements cannot be satisfied together: Because"),
        (&["six>="], 2, "ol-mirror: `six>=` is not a requirement: "),
        (&["-e ."], 2, "ol-mirror: `-e .` is not a requirement: options are not taken here"),
        (&[script.to_str().unwrap()], 2, "ol-mirror: the script's metadata block is malformed at line 2: "),
        (&["missing.txt"], 2, "ol-mirror: missing.txt cannot be read; name a requirements.txt, "),
        (
            &["--python", "/nonexistent", "app"],
            2,
            "ol-mirror: no Python was found: tried /nonexistent; name a",
        ),
        (&["--index-url", "ftp://u:p@h/", "app"], 2, "ol-mirror: index URL `ftp://h/` (--index-url"),
    ];
    for (words, code, start) in cases {
        let words: Vec<&str> = [&["--"][..], words].concat();
        let words = if words[1].starts_with("--") { &words[1..] } else { &words[..] };
        let done = sync(&dir, words);
        let last = done.stderr.lines().last().unwrap_or_default();
        assert!(last.starts_with(start), "{words:?}: {}", done.stderr);
        assert_eq!(done.code, Some(code), "{words:?}: {}", done.stderr);
    }
    index.stop();
    let done = sync(&dir, &["app"]);
    assert_eq!(done.code, Some(3), "{}", done.stderr);
    assert!(done.stderr.contains("Connection refused"), "{}", done.stderr);
    assert!(
        done.stderr.contains("check the network, or name another index with --index-url"),
        "{}",
        done.stderr
    );
}

#[test]
fn a_known_lock_does_not_hide_that_the_index_is_down() {
    if !skip::needs_uv() {
        return;
    }
    let mut index = FakeIndex::start(wheels());
    let dir = folder(&index);
    synced(&dir);
    index.stop();
    // The lock is known; the pages, which say what was yanked, are not.
    let done = sync(&dir, &["app"]);
    assert_eq!(done.code, Some(3), "{}", done.stderr);
    assert!(done.stderr.contains("/simple/app/ cannot be reached"), "{}", done.stderr);
}

#[test]
fn pages_and_files_are_served_as_the_standards_say() {
    if !skip::needs_uv() {
        return;
    }
    let index = FakeIndex::start(wheels());
    let dir = folder(&index);
    synced(&dir);
    let mirror = Daemon::start("ol-mirror", &dir);
    let get = |path: &str, headers: &[(&str, &str)]| {
        headers
            .iter()
            .fold(mirror.call("GET", path), |call, (name, value)| call.header(name, value))
            .send()
            .unwrap()
    };
    let page = get("/simple/library/", &[("Accept", JSON)]);
    assert_eq!((page.header("content-type"), page.header("vary")), (Some(JSON), Some("Accept")));
    let body = page.json();
    assert_eq!(
        (&body["name"], &body["versions"][0], &body["meta"]["api-version"]),
        (&"library".into(), &"2.1".into(), &"1.4".into())
    );
    let file = &body["files"][0];
    assert_eq!((&file["filename"], &file["requires-python"]), (&LIBRARY.into(), &">=3.9".into()));
    let etag = page.header("etag").unwrap();
    assert_eq!(get("/simple/library/", &[("Accept", JSON), ("If-None-Match", etag)]).status, 304);
    assert_eq!(get("/simple/library/", &[("Accept", "application/xml")]).status, 406);
    assert!(get("/simple/", &[]).text().contains("<a href=\"library/\">library</a>"));
    for (from, to) in
        [("/simple/Library/", "../library/"), ("/simple/library", "library/"), ("/simple", "simple/")]
    {
        let moved = get(from, &[]);
        assert_eq!((moved.status, moved.header("location")), (308, Some(to)), "{from}");
    }
    assert_eq!(get("/simple/nosuch/", &[]).status, 404);
    let wheel = wheels().swap_remove(1);
    let path = format!("/files/library/{LIBRARY}");
    let part = get(&path, &[("Range", "bytes=10-19")]);
    assert_eq!((part.status, &part.body[..]), (206, &wheel.bytes[10..20]));
    assert_eq!(part.header("content-range"), Some(&*format!("bytes 10-19/{}", wheel.bytes.len())));
    assert_eq!(get(&path, &[("Range", "bytes=99999999-")]).status, 416);
    assert_eq!(get(&path, &[]).body, wheel.bytes);
    assert!(get(&path, &[]).header("cache-control").unwrap().contains("immutable"));
    assert_eq!(get(&format!("{path}.metadata"), &[]).body, wheel.metadata);
    for path in [
        "/files/library/..%2F..%2Findex%2Flibrary.json",
        "/files/../index/library.json",
        "/files/library/x.whl",
    ] {
        assert_eq!(get(path, &[]).status, 404, "{path}");
    }
    let head = mirror.call("HEAD", &path).send().unwrap();
    assert_eq!(head.header("content-length"), Some(&*wheel.bytes.len().to_string()));
}

#[test]
fn a_port_in_use_is_named_with_the_flag() {
    let dir = TestDir::new();
    let _mirror = Daemon::start("ol-mirror", &dir);
    let address = dir.listen("ol-mirror").to_string();
    let done = dir.run("ol-mirror", ["serve", "--listen", &address]);
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    let said =
        format!("{address} is in use; stop what listens there, or choose another with --listen (OL_LISTEN)");
    assert!(done.stderr.contains(&said), "{}", done.stderr);
}

#[test]
fn the_unix_socket_is_served_and_one_left_over_is_replaced() {
    let dir = TestDir::new();
    let socket = dir.path().join("mirror.sock");
    let flags = ["--socket", socket.to_str().unwrap()];
    let health = || Call::unix("GET", &socket, "/healthz").send().unwrap().status;
    let mirror = Daemon::spawn("ol-mirror", &dir, &flags);
    assert_eq!(health(), 200);
    mirror.kill();
    assert!(socket.exists());
    let mirror = Daemon::spawn("ol-mirror", &dir, &flags);
    assert_eq!(health(), 200);
    mirror.stop();
    assert!(!socket.exists());
}

#[test]
fn pip_downloads_from_the_mirror() {
    let has_pip = Command::new("python3").args(["-m", "pip", "--version"]).output();
    if !has_pip.is_ok_and(|output| output.status.success()) {
        skip::skipped("no pip");
        return;
    }
    if !skip::needs_uv() {
        return;
    }
    let index = FakeIndex::start(wheels());
    let dir = folder(&index);
    synced(&dir);
    let mirror = Daemon::start("ol-mirror", &dir);
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "--isolated", "--no-cache-dir", "--disable-pip-version-check", "download", "app"])
        .args(["--retries", "0", "--index-url", &mirror.url("/simple/"), "--dest"])
        .arg(dir.path().join("got"))
        .env_remove("PIP_FIND_LINKS");
    let done = finish(pip);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    for wheel in &wheels()[..2] {
        assert_eq!(std::fs::read(dir.path().join("got").join(&wheel.file_name)).unwrap(), wheel.bytes);
    }
}

fn uv_installs(dir: &TestDir, mirror: &Daemon, project: &str) -> Finished {
    let mut uv = Command::new(skip::uv().unwrap());
    uv.args(["pip", "install", "--no-config", "--python", "python3", "--index-url", &mirror.url("/simple/")])
        .arg("--target")
        .arg(dir.path().join("site"))
        .arg("--cache-dir")
        .arg(dir.path().join("cache"))
        .arg(project);
    finish(uv)
}

#[test]
fn uv_installs_from_the_mirror() {
    if !skip::needs_uv() {
        return;
    }
    let index = FakeIndex::start(wheels());
    let dir = folder(&index);
    synced(&dir);
    let mirror = Daemon::start("ol-mirror", &dir);
    let done = uv_installs(&dir, &mirror, "app");
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(dir.path().join("site/library/__init__.py").is_file());
}

#[test]
fn uv_installs_real_wheels_from_the_mirror() {
    let Some(wheels) = skip::real_wheels(&["numpy", "pandas"]) else { return };
    if !skip::needs_uv() {
        return;
    }
    let index = FakeIndex::from_folder(Path::new(&wheels));
    let dir = folder(&index);
    let done = sync(&dir, &["pandas"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let mirror = Daemon::start("ol-mirror", &dir);
    let done = uv_installs(&dir, &mirror, "pandas");
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let mut python = Command::new("python3");
    python.args(["-c", "import pandas; print(pandas.Series([1, 2]).sum())"]);
    python.env("PYTHONPATH", dir.path().join("site"));
    assert_eq!(finish(python).stdout, "3\n");
}

/// `ol-mirror sync` without any uv on PATH.
fn sync_without_uv(dir: &TestDir, words: &[&str]) -> Command {
    let mut command = dir.command("ol-mirror");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).filter(|folder| !folder.join("uv").exists());
    command.env("PATH", std::env::join_paths(folders).unwrap());
    command.arg("sync").args(words);
    command
}

#[test]
fn uv_is_fetched_verified_and_kept_where_there_is_none() {
    let Some(folder_of_wheels) = skip::real_wheels(&["uv", "requests"]) else { return };
    let index = FakeIndex::from_folder(&folder_of_wheels);
    let dir = folder(&index);
    let wheel = index_of_uv(&folder_of_wheels);
    index.quirk(&wheel, Quirk::WrongBytes);
    let refused = finish(sync_without_uv(&dir, &["--plan", "requests"]));
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    assert!(
        refused.stderr.contains("uv, which resolves requirements, cannot be fetched"),
        "{}",
        refused.stderr
    );
    assert!(refused.stderr.contains("and should have"), "{}", refused.stderr);
    index.clear_quirks();
    std::thread::scope(|scope| {
        let both = [0, 1].map(|_| scope.spawn(|| finish(sync_without_uv(&dir, &["--plan", "requests"]))));
        for done in both {
            let done = done.join().unwrap();
            assert_eq!(done.code, Some(0), "{}", done.stderr);
        }
    });
    let fetched = index.gets(&wheel);
    let again = finish(sync_without_uv(&dir, &["--plan", "requests>=1"]));
    assert_eq!((again.code, index.gets(&wheel)), (Some(0), fetched), "{}", again.stderr);
    let kept: Vec<_> = std::fs::read_dir(dir.state().join("uv")).unwrap().flatten().collect();
    assert_eq!(std::fs::read_dir(kept[0].path()).unwrap().count(), 1);
}

fn index_of_uv(folder: &Path) -> String {
    let names = std::fs::read_dir(folder).unwrap().flatten().map(|entry| entry.file_name());
    names.map(|name| name.to_string_lossy().into_owned()).find(|name| name.starts_with("uv-")).unwrap()
}
