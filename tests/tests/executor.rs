//! The HTTP API of `ol-exec serve`, each status of `docs/http.md` once, and what must not get lost around it.

#![expect(clippy::unwrap_used, reason = "helpers of tests: a panic is the report")]

use std::io::Write as _;
use std::net::TcpStream;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use tests::guard::{Daemon, TestDir};
use tests::http::Reply;
use tests::index::FakeIndex;
use tests::skip;
use tests::wheel::{Defect, WheelBuilder};

/// A handler for everything that can go wrong.
const HANDLER: &str = r#"
import os, time
def f(event):
    kind = (event or {}).get("kind")
    if kind == "echo":
        return event
    if kind == "print":
        print("to stdout")
        os.write(2, b"to stderr\n")
        return None
    if kind == "raise":
        raise KeyError("missing")
    if kind == "sleep":
        time.sleep(3600)
    if kind == "memory":
        return len(bytearray(1 << 30))
    if kind == "exit":
        os._exit(7)
    if kind == "segfault":
        os.kill(os.getpid(), 11)
        import ctypes
        ctypes.string_at(0)
    if kind == "large":
        return "x" * (event["bytes"])
    if kind == "pid":
        return os.getpid(), time.monotonic_ns()
"#;

struct World {
    exec: Daemon,
    dir: TestDir,
    _index: FakeIndex,
}

/// A daemon with `config`, and [`HANDLER`] deployed as `h`; none where this machine cannot.
fn world(config: &str) -> Option<World> {
    if !skip::needs_fuse() {
        return None;
    }
    let index = FakeIndex::start([
        WheelBuilder::pure("demo", "1.0").build(),
        WheelBuilder::pure("broken", "1.0").defect(Defect::WrongRecordHash("broken/__init__.py")).build(),
    ]);
    let dir = TestDir::new();
    dir.set_index(&index.url()).set_config(config);
    let exec = Daemon::start("ol-exec", &dir);
    let world = World { exec, dir, _index: index };
    world.deploy("h", HANDLER);
    Some(world)
}

impl World {
    fn deploy(&self, name: &str, upload: impl Into<Vec<u8>>) -> Reply {
        let reply = self.exec.send("PUT", &format!("/functions/{name}"), upload);
        assert!(matches!(reply.status, 200 | 201), "{}\n{}", reply.text(), self.exec.log());
        reply
    }

    fn run(&self, event: &Value) -> Reply {
        self.exec.send("POST", "/run/h", event.to_string())
    }

    fn health(&self, key: &str) -> u64 {
        self.exec.send("GET", "/healthz", "").json()[key].as_u64().unwrap_or_else(|| panic!("no {key}"))
    }

    fn wait_for(&self, key: &str, value: u64) {
        while self.health(key) != value {
            std::thread::yield_now();
        }
    }

    /// Sends a call and does not read its reply.
    fn begin(&self, event: &Value) -> TcpStream {
        let mut stream = TcpStream::connect(self.dir.listen("ol-exec")).unwrap();
        let body = event.to_string();
        write!(stream, "POST /run/h HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len())
            .unwrap();
        stream
    }
}

fn assert_error(reply: &Reply, status: u16, error_type: &str) {
    assert_eq!(reply.status, status, "{}", reply.text());
    assert_eq!(reply.json()["errorType"], error_type, "{}", reply.text());
    assert!(
        reply.json()["errorMessage"].as_str().is_some_and(|text| !text.is_empty() && !text.contains('\n'))
    );
}

fn tar_gz(files: &[(&str, &str)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, path, content.as_bytes()).unwrap();
    }
    archive.into_inner().unwrap().finish().unwrap()
}

fn zip(files: &[(&str, &str)]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (path, content) in files {
        archive.start_file(*path, zip::write::SimpleFileOptions::default()).unwrap();
        archive.write_all(content.as_bytes()).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

#[test]
fn every_end_of_a_call_has_its_status() {
    let config = "[executor]\nmemory_bytes = 134217728\nmax_reply_bytes = 100000\nmax_body_bytes = 100000\n";
    let Some(world) = world(config) else { return };
    let echo = world.run(&json!({"kind": "echo", "x": "é"}));
    assert_eq!((echo.status, echo.json()), (200, json!({"kind": "echo", "x": "é"})));
    assert_eq!(echo.header("content-type"), Some("application/json"));
    assert!(echo.header("x-ol-request-id").is_some_and(|id| !id.is_empty()));

    let raised = world.run(&json!({"kind": "raise"}));
    assert_error(&raised, 500, "KeyError");
    assert!(raised.json()["stackTrace"].to_string().contains("in f"), "{}", raised.text());
    assert_error(&world.run(&json!({"kind": "exit"})), 502, "SandboxCrashed");
    let crashed = world.run(&json!({"kind": "segfault"}));
    assert_error(&crashed, 502, "SandboxCrashed");
    assert!(crashed.text().contains("signal 11"), "{}", crashed.text());
    assert_error(&world.run(&json!({"kind": "memory"})), 507, "OutOfMemory");
    assert_error(&world.run(&json!({"kind": "large", "bytes": 200_000})), 502, "ReplyTooLarge");
    assert_error(&world.run(&json!("x".repeat(200_000))), 413, "BodyTooLarge");
    assert_error(&world.exec.send("POST", "/run/h", "{"), 400, "InvalidJson");
    assert_error(&world.exec.send("POST", "/run/nobody", "{}"), 404, "NoSuchFunction");
    assert_error(&world.exec.send("GET", "/run/h", ""), 405, "MethodNotAllowed");
    assert_error(&world.exec.send("GET", "/elsewhere", ""), 404, "NoSuchPath");
    // After all of that the function still answers.
    assert_eq!(world.run(&json!({"kind": "echo"})).status, 200);
    world.exec.stop();
}

#[test]
fn a_call_over_its_time_is_killed_and_says_so() {
    let Some(world) = world("[executor]\ntimeout_ms = 300\n") else { return };
    let reply = world.run(&json!({"kind": "sleep"}));
    assert_error(&reply, 504, "TimedOut");
    assert!(reply.text().contains("executor.timeout_ms"), "{}", reply.text());
    world.wait_for("instances", 0);
    assert_eq!(world.run(&json!({"kind": "echo"})).status, 200);
}

#[test]
fn names_and_uploads_that_are_no_good_are_refused() {
    let config = "[executor]\nmax_upload_bytes = 20000\nmax_unpacked_bytes = 50000\n";
    let Some(world) = world(config) else { return };
    let put = |name: &str, upload: Vec<u8>| world.exec.send("PUT", &format!("/functions/{name}"), upload);
    for name in ["../x", "%2e%2e%2fx", "a%2fb", "a%20b", &"x".repeat(65)] {
        assert_error(&put(name, HANDLER.into()), 400, "InvalidName");
    }
    assert_error(&put("x", Vec::new()), 400, "InvalidUpload");
    assert_error(&put("x", b"\x7fELF\0".to_vec()), 400, "InvalidUpload");
    assert_error(&put("x", tar_gz(&[("f.py", "1"), ("f.py", "2")])), 400, "InvalidUpload");
    assert_error(&put("x", vec![b' '; 30_000]), 413, "BodyTooLarge");
    assert_error(&put("x", zip(&[("f.py", &" ".repeat(100_000))])), 413, "InvalidUpload");
    assert_error(&put("x", zip(&[("a.py", ""), ("b.py", "")])), 422, "InvalidRequirements");
    assert_error(
        &put("x", b"# /// script\n# dependencies = [\n# ///\n".to_vec()),
        422,
        "InvalidRequirements",
    );
    assert_error(&world.exec.send("GET", "/functions/x", ""), 404, "NoSuchFunction");
    assert_eq!(world.health("functions"), 1, "only h");
}

#[test]
fn deployments_over_the_limit_are_turned_away_before_they_send() {
    let Some(world) = world("[executor]\nmax_deployments = 1\nqueue_timeout_ms = 100\n") else { return };
    let mut slow = TcpStream::connect(world.dir.listen("ol-exec")).unwrap();
    let head = "PUT /functions/slow HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 9\r\n\r\n";
    slow.write_all(head.as_bytes()).unwrap();
    // The server asks for a body only when it reads it: now the place is taken.
    let mut line = [0; 12];
    std::io::Read::read_exact(&mut slow, &mut line).unwrap();
    assert_eq!(&line, b"HTTP/1.1 100");
    let refused = world.exec.send("PUT", "/functions/x", HANDLER);
    assert_error(&refused, 429, "TooManyDeployments");
    assert!(refused.header("retry-after").is_some());
    assert_eq!(world.run(&json!({"kind": "echo"})).status, 200, "calls go on");
    // A client that hangs up gives its place back.
    drop(slow);
    while world.exec.send("PUT", "/functions/x", HANDLER).status == 429 {}
    assert_eq!(world.exec.send("GET", "/functions/x", "").status, 200);
}

#[test]
fn archives_bring_modules_and_requirements() {
    let Some(world) = world("") else { return };
    if !skip::needs_uv() {
        return;
    }
    let files = [
        (
            "app.py",
            "import demo, local\ndef handler(event, context):\n    return [demo.hello(), local.X, event]\n",
        ),
        ("local.py", "X = 1\n"),
        ("requirements.txt", "demo\n"),
    ];
    for (name, upload) in [("tarred", tar_gz(&files)), ("zipped", zip(&files))] {
        let meta = world.deploy(name, upload).json();
        assert_eq!(meta["packages"], json!([{"name": "demo", "version": "1.0"}]));
        let reply = world.exec.send("POST", &format!("/run/{name}"), "5");
        assert_eq!(reply.json(), json!(["hello from demo 1.0", 1, 5]), "{}", world.exec.log());
    }
}

#[test]
fn requirements_that_cannot_be_met_change_nothing() {
    let Some(mut world) = world("") else { return };
    if !skip::needs_uv() {
        return;
    }
    let script = |requirement: &str| {
        format!("# /// script\n# dependencies = [\"{requirement}\"]\n# ///\ndef f(e): ...\n")
    };
    let put = |world: &World, upload: String| world.exec.send("PUT", "/functions/h", upload);
    assert_error(&put(&world, script("no-such-project")), 422, "UnknownPackage");
    assert_error(&put(&world, script("demo>=9")), 422, "UnresolvableRequirements");
    assert_error(&put(&world, script("demo ==")), 422, "InvalidRequirements");
    world._index.stop();
    world.exec.expect_in_log("could not be resolved");
    assert_error(&put(&world, script("demo!=0.1")), 503, "UpstreamUnavailable");
    assert_eq!(world.run(&json!({"kind": "echo"})).status, 200, "what was deployed before still runs");
}

#[test]
fn functions_are_listed_updated_removed_and_survive_a_restart() {
    let Some(world) = world("") else { return };
    let first = world.deploy("h", HANDLER).json();
    let constant = |number: u32| format!("def f(event): return {number}\n");
    assert_eq!(world.deploy("k", constant(1)).status, 201);
    assert_eq!(world.exec.send("POST", "/run/k", "").json(), 1);
    let updated = world.deploy("k", constant(2));
    assert_eq!((updated.status, updated.json()["entry"].as_str()), (200, Some("f.py")));
    let reply = world.exec.send("POST", "/run/k", "");
    assert_eq!((reply.json(), reply.header("x-ol-start")), (json!(2), Some("fork")));

    let World { exec, dir, _index } = world;
    exec.stop();
    let exec = Daemon::start("ol-exec", &dir);
    let names = |exec: &Daemon| -> Vec<String> {
        let list = exec.send("GET", "/functions", "").json();
        list["functions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|meta| meta["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names(&exec), ["h", "k"]);
    assert_eq!(exec.send("GET", "/functions/h", "").json(), first);
    assert_eq!(exec.send("POST", "/run/k", "").json(), 2);
    assert_eq!(exec.send("DELETE", "/functions/k", "").status, 204);
    assert_error(&exec.send("DELETE", "/functions/k", ""), 404, "NoSuchFunction");
    assert_error(&exec.send("POST", "/run/k", ""), 404, "NoSuchFunction");
    assert_eq!(names(&exec), ["h"]);
    exec.stop();
    assert!(!dir.state().join("functions/k/meta.json").exists());
}

#[test]
fn a_running_call_ends_on_the_code_it_began_with() {
    let Some(world) = world("") else { return };
    let both = |x: u32| {
        let f = "import time\ndef f(event):\n    time.sleep(0.3)\n    import late\n    return late.X\n"
            .to_owned();
        tar_gz(&[("f.py", &f), ("late.py", &format!("X = {x}\n"))])
    };
    world.deploy("h", both(1));
    std::thread::scope(|scope| {
        let old = scope.spawn(|| world.run(&json!(null)));
        world.wait_for("instances", 1);
        world.deploy("h", both(2));
        assert_eq!(old.join().unwrap().json(), 1);
    });
    assert_eq!(world.run(&json!(null)).json(), 2);
    world.wait_for("instances", 1);
    let versions = std::fs::read_dir(world.dir.state().join("functions/h")).unwrap();
    let names: Vec<_> = versions.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 3, "meta.json, logs and one version: {names:?}");
}

#[test]
fn what_a_call_printed_is_kept() {
    let Some(world) = world("[executor]\nlogs_kept_per_function = 2\n") else { return };
    for _ in 0..3 {
        world.run(&json!({"kind": "echo"}));
    }
    let id = world.run(&json!({"kind": "print"})).header("x-ol-request-id").unwrap().to_owned();
    world.run(&json!({"kind": "raise"}));
    let logs = world.exec.send("GET", "/functions/h/logs?limit=50", "").json();
    let invocations = logs["invocations"].as_array().unwrap();
    assert_eq!(invocations.len(), 2);
    assert_eq!(invocations[0]["request_id"], json!(id));
    assert_eq!(
        (&invocations[0]["stdout"], &invocations[0]["stderr"]),
        (&json!("to stdout\n"), &json!("to stderr\n"))
    );
    assert_eq!(invocations[1]["outcome"], "KeyError");
    let shown = world.dir.run("ol-exec", ["logs", "h"]);
    assert!(shown.stdout.contains("to stdout\n! to stderr\n"), "{}{}", shown.stdout, shown.stderr);
    assert_error(&world.exec.send("GET", "/functions/nobody/logs", ""), 404, "NoSuchFunction");
}

#[test]
fn what_a_removed_function_prints_is_not_in_the_logs_of_the_next() {
    let Some(world) = world("") else { return };
    world.deploy(
        "h",
        "import time\ndef f(event):\n    time.sleep(1)\n    print('private')\n    return 'ended'\n",
    );
    std::thread::scope(|scope| {
        let old = scope.spawn(|| world.run(&json!(null)));
        world.wait_for("instances", 1);
        assert_eq!(world.exec.send("DELETE", "/functions/h", "").status, 204);
        assert_eq!(world.deploy("h", HANDLER).status, 201);
        assert_eq!(old.join().unwrap().json(), "ended");
    });
    let logs = world.exec.send("GET", "/functions/h/logs", "").json();
    assert_eq!(logs["invocations"], json!([]));
    world.run(&json!({"kind": "print"}));
    let logs = world.exec.send("GET", "/functions/h/logs", "").json();
    assert_eq!(logs["invocations"][0]["stdout"], "to stdout\n");
}

#[test]
fn calls_over_the_limit_wait_then_are_turned_away_and_hang_ups_free_the_place() {
    let Some(world) = world("[executor]\nmax_instances_per_function = 1\nqueue_limit = 1\n") else { return };
    let busy = world.begin(&json!({"kind": "sleep"}));
    world.wait_for("instances", 1);
    let waiting = world.begin(&json!({"kind": "sleep"}));
    world.wait_for("waiting", 1);
    let refused = world.run(&json!({"kind": "echo"}));
    assert_error(&refused, 429, "QueueFull");
    assert!(refused.header("retry-after").is_some());
    drop(waiting);
    drop(busy);
    world.wait_for("instances", 0);
    assert_eq!(world.run(&json!({"kind": "echo"})).status, 200);
}

#[test]
fn a_stop_lets_calls_under_way_finish() {
    let Some(world) = world("") else { return };
    world.deploy("h", "import time\ndef f(event):\n    time.sleep(0.5)\n    return 'done'\n");
    let World { exec, dir, _index } = world;
    let address = dir.listen("ol-exec");
    let answered = std::thread::scope(|scope| {
        let call = scope.spawn(|| tests::http::Call::new("POST", &format!("http://{address}/run/h")).send());
        while exec.send("GET", "/healthz", "").json()["instances"] != 1 {
            std::thread::yield_now();
        }
        exec.stop();
        call.join().unwrap()
    });
    assert_eq!(answered.unwrap().json(), "done");
}

#[test]
fn a_stop_cuts_off_what_does_not_end_and_says_so() {
    let Some(world) = world("[executor]\nshutdown_timeout_ms = 100\n") else { return };
    let World { mut exec, dir, _index } = world;
    exec.expect_in_log("are cut off");
    let address = dir.listen("ol-exec");
    let answered = std::thread::scope(|scope| {
        let body = json!({"kind": "sleep"}).to_string();
        let call = scope
            .spawn(|| tests::http::Call::new("POST", &format!("http://{address}/run/h")).body(body).send());
        while exec.send("GET", "/healthz", "").json()["instances"] != 1 {
            std::thread::yield_now();
        }
        exec.stop();
        call.join().unwrap()
    });
    assert_error(&answered.unwrap(), 503, "Stopping");
}

#[test]
fn concurrent_calls_lose_nothing() {
    let Some(world) = world("[executor]\nmax_instances = 6\nmax_instances_per_function = 4\n") else {
        return;
    };
    world.deploy("k", HANDLER);
    let replies = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..12)
            .map(|client| {
                let world = &world;
                scope.spawn(move || {
                    (0..20)
                        .map(|number| {
                            let event = json!({"kind": "echo", "id": [client, number]});
                            let path = if (client + number) % 2 == 0 { "/run/h" } else { "/run/k" };
                            let reply = world.exec.send("POST", path, event.to_string());
                            assert_eq!((reply.status, reply.json()), (200, event), "{}", world.exec.log());
                        })
                        .count()
                })
            })
            .collect();
        clients.into_iter().map(|client| client.join().unwrap()).sum::<usize>()
    });
    assert_eq!(replies, 240);
    assert!(world.health("instances") <= 6);
}

#[test]
fn a_script_whose_reader_goes_is_killed() {
    let Some(world) = world("") else { return };
    let mut stream = std::os::unix::net::UnixStream::connect(world.exec.socket()).unwrap();
    let body = "{\"file\": \"a.py\", \"args\": [], \"timeout_ms\": 0, \"memory_bytes\": null}\n\
                import time\nprint('begun', flush=True)\ntime.sleep(3600)\n";
    write!(stream, "POST /scripts HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len())
        .unwrap();
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains("begun") {
        let mut buffer = [0; 4096];
        let count = std::io::Read::read(&mut stream, &mut buffer).unwrap();
        assert_ne!(count, 0, "{}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&buffer[..count]);
    }
    drop(stream);
    let scripts = world.dir.state().join("run/scripts");
    while std::fs::read_dir(&scripts).unwrap().count() > 0 {
        std::thread::yield_now();
    }
    assert_error(&world.exec.send("POST", "/scripts", ""), 404, "NoSuchPath");
}

#[test]
fn a_wheel_that_is_not_what_it_says_is_refused_by_name() {
    let Some(world) = world("") else { return };
    if !skip::needs_uv() {
        return;
    }
    let source = "# /// script\n# dependencies = [\"broken\"]\n# ///\nimport broken\ndef f(event): return broken.VERSION\n";
    let mut world = world;
    world.exec.expect_in_log("broken/__init__.py of broken-1.0-py3-none-any.whl");
    // Its RECORD is wrong about one member: deployment reads none, and a call that does gets none of its bytes.
    assert_eq!(world.deploy("b", source).status, 201);
    let reply = world.exec.send("POST", "/run/b", "");
    assert_error(&reply, 500, "OSError");
    let log = world.exec.log();
    let told = |line: &str| line.contains("broken-1.0-py3-none-any.whl") && line.contains("RECORD says");
    assert!(log.lines().any(told), "{log}");
    assert_eq!(world.run(&json!({"kind": "echo"})).status, 200);
}

/// A run that was begun and whose script has said so.
fn begin_run(dir: &TestDir, script: &std::path::Path) -> std::process::Child {
    let mut command = dir.command("ol-exec");
    command.arg("run").arg(script).stdout(std::process::Stdio::piped());
    let mut child = tests::guard::spawn(command).unwrap();
    let mut line = [0; 6];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut line).unwrap();
    assert_eq!(&line, b"begun\n");
    child
}

const ENDLESS: &str = "import time\nprint('begun', flush=True)\ntime.sleep(3600)\n";

#[test]
fn a_signal_ends_a_run_and_takes_everything_down() {
    let Some(World { exec, dir, .. }) = world("") else { return };
    let script = dir.write("endless.py", ENDLESS);
    let interrupt = |mut run: std::process::Child| {
        let pid = nix::unistd::Pid::from_raw(run.id().cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
        assert_eq!(run.wait().unwrap().code(), Some(130));
    };
    // Through the daemon: its sandbox goes; the daemon stays.
    interrupt(begin_run(&dir, &script));
    assert_eq!(exec.send("POST", "/run/h", "{\"kind\": \"echo\"}").status, 200);
    exec.stop();
    // In the process itself.
    interrupt(begin_run(&dir, &script));
    assert!(dir.leftovers().is_empty(), "{}", dir.leftovers());
}

#[test]
fn runs_beside_each_other_share_one_state_folder() {
    let Some(World { exec, dir, .. }) = world("") else { return };
    exec.stop();
    let script = dir.write("quick.py", "import sys\nprint('ran', sys.argv[1])\n");
    std::thread::scope(|scope| {
        for number in ["1", "2", "3", "4"] {
            let (dir, script) = (&dir, script.to_str().unwrap());
            scope.spawn(move || {
                let run = dir.run("ol-exec", ["run", script, number]);
                assert_eq!((run.code, run.stdout), (Some(0), format!("ran {number}\n")), "{}", run.stderr);
            });
        }
    });
    assert!(dir.leftovers().is_empty(), "{}", dir.leftovers());
}
