//! The whole path: script or function → lock → environment → zygote → sandbox → output.

use serde_json::{Value, json};
use tests::guard::{Daemon, Finished, TestDir};
use tests::index::FakeIndex;
use tests::skip;
use tests::wheel::WheelBuilder;

/// A module that remembers when it was imported, to the nanosecond: two sandboxes that say the same share one import.
const STAMPED: &str = "import time\nIMPORTED = time.monotonic_ns()\n";

fn able() -> bool {
    skip::needs_fuse() && skip::needs_uv()
}

fn index() -> FakeIndex {
    FakeIndex::start([
        WheelBuilder::pure("demo", "1.0").requires("dep>=1").build(),
        WheelBuilder::pure("dep", "1.5").build(),
        WheelBuilder::new("stamped", "1.0").file("stamped.py", STAMPED).build(),
        WheelBuilder::new("other", "1.0").file("other.py", "").build(),
    ])
}

fn dir(index: &FakeIndex) -> TestDir {
    let dir = TestDir::new();
    dir.set_index(&index.url());
    dir
}

fn script(requirements: &str, source: &str) -> String {
    format!("# /// script\n# dependencies = {requirements}\n# ///\n{source}")
}

fn assert_ran(finished: &Finished, stdout: &str) {
    assert_eq!((finished.code, finished.stdout.as_str()), (Some(0), stdout), "{}", finished.stderr);
}

fn deploy(exec: &Daemon, name: &str, source: &str) {
    let reply = exec.send("PUT", &format!("/functions/{name}"), source);
    assert!(matches!(reply.status, 200 | 201), "{} {}\n{}", reply.status, reply.text(), exec.log());
}

/// Calls a function: the reply's JSON and how its sandbox came about.
fn call(exec: &Daemon, name: &str, event: &Value) -> (Value, String) {
    let reply = exec.send("POST", &format!("/run/{name}"), event.to_string());
    assert_eq!(reply.status, 200, "{}\n{}", reply.text(), exec.log());
    let start = reply.header("x-ol-start").unwrap_or_default().to_owned();
    (reply.json(), start)
}

#[test]
fn a_script_runs_with_its_packages_and_nothing_is_left() {
    if !able() {
        return;
    }
    let index = index();
    let dir = dir(&index);
    let source = script(
        r#"["demo"]"#,
        "import sys, demo, dep\nprint(demo.hello(), dep.VERSION, sys.argv[1:])\nprint('aside', file=sys.stderr)\n",
    );
    let path = dir.write("report.py", source);
    let finished = dir.run("ol-exec", ["run", path.to_str().unwrap(), "one", "two words"]);
    assert_ran(&finished, "hello from demo 1.0 1.5 ['one', 'two words']\n");
    assert!(finished.stderr.contains("aside\n"), "{}", finished.stderr);
    assert!(dir.leftovers().is_empty(), "{}", dir.leftovers());
    // A second run finds everything in the state folder: it works while the index is down.
    drop(index);
    let finished = dir.run("ol-exec", ["run", path.to_str().unwrap()]);
    assert_ran(&finished, "hello from demo 1.0 1.5 []\n");
}

#[test]
fn a_scripts_exit_code_and_traceback_are_its_own() {
    if !able() {
        return;
    }
    let index = index();
    let dir = dir(&index);
    for (source, code, stderr) in [
        ("import sys\nsys.exit(7)\n", 7, ""),
        ("import sys\nsys.exit('message')\n", 1, "message"),
        ("def inner():\n    raise ValueError('deep')\ninner()\n", 1, "ValueError: deep"),
        ("print(", 1, "SyntaxError"),
    ] {
        let path = dir.write("script.py", source);
        let finished = dir.run("ol-exec", ["run", path.to_str().unwrap()]);
        assert_eq!(finished.code, Some(code), "{source:?}: {}", finished.stderr);
        assert!(finished.stderr.contains(stderr), "{source:?}: {}", finished.stderr);
    }
}

#[test]
fn a_script_runs_through_a_running_daemon() {
    if !able() {
        return;
    }
    let index = index();
    let dir = dir(&index);
    let exec = Daemon::start("ol-exec", &dir);
    let path =
        dir.write("script.py", script(r#"["dep"]"#, "import dep, sys\nprint(dep.VERSION)\nsys.exit(3)\n"));
    for _ in 0..2 {
        let finished = dir.run("ol-exec", ["run", path.to_str().unwrap()]);
        assert_eq!((finished.code, finished.stdout.as_str()), (Some(3), "1.5\n"), "{}", finished.stderr);
    }
    exec.stop();
    assert!(dir.leftovers().is_empty(), "{}", dir.leftovers());
}

#[test]
fn a_second_function_with_the_same_packages_is_forked() {
    if !able() {
        return;
    }
    let index = index();
    let dir = dir(&index);
    let exec = Daemon::start("ol-exec", &dir);
    let function = |name: &str| {
        script(
            r#"["stamped"]"#,
            &format!("import stamped\ndef f(event):\n    return [\"{name}\", stamped.IMPORTED, event]\n"),
        )
    };
    deploy(&exec, "first", &function("first"));
    deploy(&exec, "second", &function("second"));
    let (first, start) = call(&exec, "first", &json!({"x": 1}));
    assert_eq!((&first[0], &first[2], start.as_str()), (&json!("first"), &json!({"x": 1}), "cold"));
    let (second, start) = call(&exec, "second", &json!(null));
    assert_eq!((&second[0], start.as_str()), (&json!("second"), "fork"));
    assert_eq!(first[1], second[1], "the module was imported twice");
    let (again, start) = call(&exec, "second", &json!(null));
    assert_eq!((&again[1], start.as_str()), (&second[1], "warm"));
}

#[test]
fn a_zygote_holds_nothing_a_function_does_not_depend_on() {
    if !able() {
        return;
    }
    let index = index();
    let dir = dir(&index);
    let exec = Daemon::start("ol-exec", &dir);
    let source = "import sys, importlib.util\ndef f(event):\n    return ['stamped' in sys.modules, \
                  importlib.util.find_spec('stamped') is not None]\n";
    deploy(&exec, "with", &script(r#"["stamped", "other"]"#, source));
    deploy(&exec, "without", &script(r#"["other"]"#, source));
    deploy(&exec, "bare", source);
    // In the zygote before the handler asks for it, and so within reach of whatever is forked from there.
    assert_eq!(call(&exec, "with", &json!({})).0, json!([true, true]));
    assert_eq!(call(&exec, "without", &json!({})).0, json!([false, false]));
    assert_eq!(call(&exec, "bare", &json!({})).0, json!([false, false]));
}

#[test]
fn a_sandbox_sees_little_and_can_do_less() {
    if !able() {
        return;
    }
    let index = index();
    let dir = dir(&index);
    let exec = Daemon::start("ol-exec", &dir);
    deploy(&exec, "look", include_str!("python/look_around.py"));
    let (seen, _) = call(&exec, "look", &json!({ "state": dir.state(), "host_pid": exec.pid() }));
    assert_eq!(seen["capabilities"], json!(["0000000000000000"]), "{seen:#}");
    assert_eq!((&seen["no_new_privs"], &seen["seccomp"]), (&json!("1"), &json!("2")), "{seen:#}");
    assert_eq!(seen["interfaces"], json!(["lo"]), "{seen:#}");
    assert_eq!((&seen["processes"], &seen["parent"]), (&json!(["1"]), &json!(0)), "{seen:#}");
    assert_eq!(seen["state_visible"], false, "{seen:#}");
    assert_eq!(seen["written"], json!(["/tmp"]), "{seen:#}");
    assert_eq!(seen["allowed"], json!([]), "{seen:#}");
    assert_eq!(seen["secrets"], json!([]), "{seen:#}");
}

#[test]
fn functions_survive_a_killed_daemon() {
    if !able() {
        return;
    }
    let index = index();
    let dir = dir(&index);
    let exec = Daemon::start("ol-exec", &dir);
    deploy(&exec, "kept", &script(r#"["dep"]"#, "import dep\ndef f(event):\n    return dep.VERSION\n"));
    assert_eq!(call(&exec, "kept", &json!({})).0, json!("1.5"));
    exec.kill();
    let mut exec = Daemon::start("ol-exec", &dir);
    // Recovery may say what it found.
    exec.expect_in_log("left");
    assert_eq!(call(&exec, "kept", &json!({})).0, json!("1.5"));
    exec.stop();
    assert!(dir.leftovers().is_empty(), "{}", dir.leftovers());
}

#[test]
fn real_numpy_and_pandas_work() {
    if !able() {
        return;
    }
    let Some(folder) = skip::real_wheels(&["numpy", "pandas"]) else { return };
    let index = FakeIndex::from_folder(&folder);
    let dir = dir(&index);
    let body = "import numpy as np, pandas as pd\n\ndef table():\n    return pd.DataFrame({'a': np.arange(4)}).a.sum()\n";
    let path =
        dir.write("pandas_script.py", script(r#"["numpy", "pandas"]"#, &format!("{body}print(table())\n")));
    assert_ran(&dir.run("ol-exec", ["run", path.to_str().unwrap()]), "6\n");
    let exec = Daemon::start("ol-exec", &dir);
    let source = script(r#"["numpy", "pandas"]"#, &format!("{body}def f(event):\n    return int(table())\n"));
    deploy(&exec, "one", &source);
    deploy(&exec, "two", &source);
    assert_eq!(call(&exec, "one", &json!({})).0, json!(6));
    assert_eq!(call(&exec, "two", &json!({})), (json!(6), "fork".into()));
}
