//! The kit's own wheels and index, held against the tools that everybody uses.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::path::Path;
use std::process::{Command, Output};

use tests::index::{FakeIndex, Mode, Quirk};
use tests::wheel::{BuiltWheel, Defect, WheelBuilder};

fn pip(arguments: &[&str], index: &FakeIndex) -> Option<Output> {
    let available = Command::new("python3").args(["-m", "pip", "--version"]).output();
    if !available.is_ok_and(|output| output.status.success()) {
        tests::skip::skipped("no pip");
        return None;
    }
    let (url, common) =
        (index.url(), ["-m", "pip", "--isolated", "--no-cache-dir", "--disable-pip-version-check"]);
    let mut command = Command::new("python3");
    command.args(common).args(arguments).args(["--no-compile", "--index-url", &url, "--retries", "0"]);
    // A find-links folder of the user's would otherwise serve what the test wants to see fail.
    Some(command.env_remove("PIP_FIND_LINKS").output().expect("running pip"))
}

fn wheels() -> Vec<BuiltWheel> {
    vec![
        WheelBuilder::pure("demo", "1.0")
            .requires("Name.Space-A>=1")
            .console_script("demo", "demo:hello")
            .build(),
        WheelBuilder::new("name-space-a", "1.0").file("space/a/__init__.py", "A = 1\n").build(),
        WheelBuilder::new("name-space-b", "2.0").file("space/b/__init__.py", "B = 2\n").build(),
        WheelBuilder::pure("with_data", "1")
            .data("scripts", "tool", "#!python\nprint('tool')\n")
            .data("data", "share/with_data.txt", "shared\n")
            .build(),
    ]
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn pip_installs_the_good_wheels_in_every_mode() {
    for mode in [Mode::Json14, Mode::Json, Mode::Html] {
        let index = FakeIndex::start(wheels());
        index.set_mode(mode);
        let target = tempfile::tempdir().unwrap();
        let folder = target.path().to_str().unwrap();
        let arguments = ["install", "--target", folder, "demo", "name-space-b", "with-data"];
        let Some(output) = pip(&arguments, &index) else { return };
        assert!(output.status.success(), "{mode:?}: {}", text(&output));
        for path in ["demo/__init__.py", "space/a/__init__.py", "space/b/__init__.py", "bin/demo", "bin/tool"]
        {
            assert!(target.path().join(path).exists(), "{mode:?}: {path} is missing");
        }
        assert!(index.gets("demo-1.0-py3-none-any.whl") >= 1);
        assert!(index.count(|request| request.path == "/simple/demo/") >= 1);
    }
}

#[test]
fn a_compiled_extension_loads() {
    if !tests::skip::needs_compiler() {
        return;
    }
    let wheel = WheelBuilder::extension("compiled", "1.0").build();
    let target = tempfile::tempdir().unwrap();
    let index = FakeIndex::start([wheel]);
    let Some(output) = pip(&["install", "--target", target.path().to_str().unwrap(), "compiled"], &index)
    else {
        return;
    };
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(run_python(target.path(), "import compiled; print(compiled.answer())"), "42\n");
}

fn run_python(path: &Path, code: &str) -> String {
    let output = Command::new("python3").args(["-c", code]).env("PYTHONPATH", path).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn pip_notices_wrong_bytes_and_a_lost_server() {
    let mut index = FakeIndex::start(wheels());
    index.without_metadata();
    let target = tempfile::tempdir().unwrap();
    let arguments = ["download", "--no-deps", "--dest", target.path().to_str().unwrap(), "name-space-a"];
    let arguments: Vec<&str> = arguments.to_vec();
    index.quirk("name_space_a-1.0-py3-none-any.whl", Quirk::WrongBytes);
    let download = |index: &FakeIndex| {
        let url = index.url();
        let mut command = Command::new("python3");
        command.args(["-m", "pip", "--isolated", "--no-cache-dir"]).args(&arguments);
        command.args(["--index-url", &url, "--retries", "0"]).env_remove("PIP_FIND_LINKS").output().unwrap()
    };
    let output = download(&index);
    if text(&output).contains("No module named pip") {
        tests::skip::skipped("no pip");
        return;
    }
    assert!(
        !output.status.success() && text(&output).contains("DO NOT MATCH THE HASHES"),
        "{}",
        text(&output)
    );
    index.clear_quirks();
    index.stop();
    assert!(!download(&index).status.success());
    index.restart();
    let output = download(&index);
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn a_quirk_lasts_as_often_as_it_was_told() {
    let index = FakeIndex::start(wheels());
    index.quirk_times("demo", Quirk::Status(503), 2);
    let get = || tests::http::get(&index.url().replace("/simple/", "/simple/demo/")).unwrap();
    assert_eq!([get().status, get().status, get().status], [503, 503, 200]);
}

#[test]
fn ranges_are_answered_as_asked_or_as_quirked() {
    let wheel = WheelBuilder::pure("demo", "1.0").build();
    let (name, bytes) = (wheel.file_name.clone(), wheel.bytes.clone());
    let index = FakeIndex::start([wheel]);
    let get = |range: &str| tests::http::Call::get(&index.file_url(&name)).header("Range", range).send();
    let part = get("bytes=2-5").unwrap();
    assert_eq!(
        (part.status, part.header("content-range")),
        (206, Some(format!("bytes 2-5/{}", bytes.len()).as_str()))
    );
    assert_eq!(part.body, bytes[2..6]);
    assert_eq!(get("bytes=-5").unwrap().status, 416);
    index.quirk_times(&name, Quirk::NoRanges, 1);
    let whole = get("bytes=2-5").unwrap();
    assert_eq!((whole.status, whole.body.as_slice()), (200, &bytes[..]));
    index.quirk_times(&name, Quirk::RangesNotImplemented, 1);
    assert_eq!(get("bytes=2-5").unwrap().status, 501);
    index.quirk_times(&name, Quirk::HangUp(3), 1);
    assert!(get("bytes=0-9").is_err());
    assert_eq!(index.count(|request| request.range.as_deref() == Some("bytes=2-5")), 3);
}

#[test]
fn a_held_file_waits() {
    let wheel = WheelBuilder::pure("demo", "1.0").build();
    let name = wheel.file_name.clone();
    let index = FakeIndex::start([wheel]);
    let hold = index.hold(&name);
    let url = index.file_url(&name);
    let waiting = std::thread::spawn(move || tests::http::get(&url).unwrap().status);
    while index.gets(&name) == 0 {
        std::thread::yield_now();
    }
    assert!(!waiting.is_finished());
    drop(hold);
    assert_eq!(waiting.join().unwrap(), 200);
}

#[test]
fn a_defect_breaks_only_what_it_names() {
    let wheel = WheelBuilder::pure("demo", "1.0").defect(Defect::BadCrc("demo/__init__.py")).build();
    let index = FakeIndex::start([wheel]);
    let target = tempfile::tempdir().unwrap();
    let Some(output) = pip(&["install", "--target", target.path().to_str().unwrap(), "demo"], &index) else {
        return;
    };
    assert!(!output.status.success() && text(&output).contains("Bad CRC-32"), "{}", text(&output));
}
