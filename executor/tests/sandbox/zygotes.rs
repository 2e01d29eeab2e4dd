//! Forks from zygotes that have imported packages.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use executor::sandbox::{LeafSpec, Sandboxes, ZygoteSpec};
use serde_json::json;

use super::bench::{Bench, Log, bench, call, child, environment, reply, settings};

fn spec(bench: &Bench, env: &Path, source: &str) -> LeafSpec {
    LeafSpec { env_path: Some(env.into()), ..bench.spec(source) }
}

const HEAVY: &str = "import os, random\nGENERATOR = random.Random()\nDRAWN = random.random()\nPID = open('/proc/sys/kernel/random/uuid').read()\n";

#[tokio::test]
async fn what_a_zygote_has_imported_is_not_imported_again() {
    if !tests::skip::needs_root() {
        return;
    }
    let bench = bench().await;
    let env = environment(&bench, "env", &[("heavy.py", HEAVY)]);
    let zygote = child(&bench, &bench.root, &env, &["heavy", "missing_one"]).await;
    assert_eq!(zygote.failed_imports().len(), 1);
    assert!(zygote.failed_imports()[0].1.starts_with("ModuleNotFoundError"));
    let source = "import sys\nloaded = 'heavy' in sys.modules\nimport heavy, random\ndef f(event):\n    return [loaded, heavy.PID, heavy.GENERATOR.random(), random.random(), sys.prefix, sys.executable]\n";
    let mut seen = Vec::new();
    for _ in 0..2 {
        let mut leaf = bench.sandboxes.fork(&zygote, spec(&bench, &env, source)).await.unwrap();
        seen.push(reply(&call(&mut leaf, "1").await));
        leaf.end().await;
    }
    assert_eq!(seen[0][0], json!(true));
    assert_eq!(seen[0][1], seen[1][1], "imported once, in the zygote");
    assert_ne!(seen[0][2], seen[1][2], "generators made before the fork are reseeded");
    assert_ne!(seen[0][3], seen[1][3]);
    assert_eq!((&seen[0][4], &seen[0][5]), (&json!("/ol/env"), &json!("/ol/env/bin/python")));
    drop(zygote);
    bench.stop().await;
}

#[tokio::test]
async fn a_leaf_has_its_own_environment_whatever_its_zygote_has() {
    if !tests::skip::needs_root() {
        return;
    }
    let bench = bench().await;
    let small = environment(
        &bench,
        "small",
        &[("one.py", "X = 1\ntry:\n    import two\nexcept ImportError:\n    pass\n")],
    );
    let pth = "import sys; sys.from_pth = True\n";
    let large =
        environment(&bench, "large", &[("one.py", "X = 1\n"), ("two.py", "X = 2\n"), ("extra.pth", pth)]);
    let first = child(&bench, &bench.root, &small, &["one"]).await;
    let second = child(&bench, &first, &large, &["two"]).await;
    let third = child(&bench, &second, &large, &[]).await;
    let source = "import sys, one, two\nimport subprocess\ndef f(event):\n    out = subprocess.run(['python', '-c', 'import two; print(two.X)'], capture_output=True, text=True)\n    return [one.X, two.X, sys.from_pth, out.stdout + out.stderr]\n";
    for zygote in [&bench.root, &first, &second, &third] {
        let mut leaf = bench.sandboxes.fork(zygote, spec(&bench, &large, source)).await.unwrap();
        assert_eq!(reply(&call(&mut leaf, "1").await), json!([1, 2, true, "2\n"]));
        leaf.end().await;
    }
    drop((first, second, third));
    bench.stop().await;
}

#[tokio::test]
async fn what_is_installed_is_told_anew_in_each_environment() {
    if !tests::skip::needs_root() {
        return;
    }
    let bench = bench().await;
    let look = "from importlib.metadata import version\nFOUND = version('one')\n";
    let make = |name: &str, installed: &[&str]| {
        let env = environment(&bench, name, &[("look.py", look)]);
        let site = env.join(mirror::Interpreter::find(None).unwrap().site_packages());
        for project in installed {
            let folder = site.join(format!("{project}-1.5.dist-info"));
            std::fs::create_dir(&folder).unwrap();
            std::fs::write(folder.join("METADATA"), format!("Name: {project}\nVersion: 1.5\n")).unwrap();
        }
        // In a mounted environment all folders have one time.
        let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(315_532_800);
        std::fs::File::open(&site).unwrap().set_modified(time).unwrap();
        env
    };
    let (small, large) = (make("small", &["one"]), make("large", &["one", "two"]));
    let first = child(&bench, &bench.root, &small, &["look"]).await;
    let second = child(&bench, &first, &large, &[]).await;
    let source = "import look\nfrom importlib.metadata import version\ndef f(event):\n    return [look.FOUND, version('two')]\n";
    for zygote in [&first, &second] {
        let mut leaf = bench.sandboxes.fork(zygote, spec(&bench, &large, source)).await.unwrap();
        assert_eq!(reply(&call(&mut leaf, "1").await), json!(["1.5", "1.5"]));
        leaf.end().await;
    }
    drop((first, second));
    bench.stop().await;
}

#[tokio::test]
async fn generators_of_every_ancestor_are_reseeded() {
    if !tests::skip::needs_root() {
        return;
    }
    let bench = bench().await;
    let make = "import random\nMADE = random.Random(7)\n";
    let env = environment(&bench, "env", &[("one.py", make), ("two.py", make)]);
    let first = child(&bench, &bench.root, &env, &["one"]).await;
    let second = child(&bench, &first, &env, &["two"]).await;
    let third = child(&bench, &second, &env, &[]).await;
    let source = "import one, two\ndef f(event):\n    return [one.MADE.random(), two.MADE.random()]\n";
    for zygote in [&second, &third] {
        let mut seen = Vec::new();
        for _ in 0..2 {
            let mut leaf = bench.sandboxes.fork(zygote, spec(&bench, &env, source)).await.unwrap();
            seen.push(reply(&call(&mut leaf, "1").await));
            leaf.end().await;
        }
        assert_ne!(seen[0][0], seen[1][0], "made by the oldest zygote");
        assert_ne!(seen[0][1], seen[1][1]);
    }
    drop((first, second, third));
    bench.stop().await;
}

#[tokio::test]
async fn a_leaf_outlives_its_zygote_and_a_gone_zygote_says_so() {
    if !tests::skip::needs_root() {
        return;
    }
    let bench = bench().await;
    let env = environment(&bench, "env", &[]);
    let zygote = child(&bench, &bench.root, &env, &[]).await;
    let mut leaf =
        bench.sandboxes.fork(&zygote, spec(&bench, &env, "def f(event):\n    return event\n")).await.unwrap();
    drop(zygote);
    assert_eq!(reply(&call(&mut leaf, "5").await), json!(5));
    leaf.end().await;
    bench.stop().await;
}

#[tokio::test]
async fn imports_that_leave_threads_or_power_seekers_are_refused() {
    if !tests::skip::needs_root() {
        return;
    }
    let bench = bench().await;
    let thread =
        "import threading, time\nthreading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\n";
    let look = "import os\nSTATUS = open('/proc/self/status').read()\nPIDS = [n for n in os.listdir('/proc') if n.isdigit()]\nENVIRON = dict(os.environ)\ntry:\n    os.setuid(0); ROOT = True\nexcept OSError:\n    ROOT = False\n";
    let env = environment(
        &bench,
        "env",
        &[("threaded.py", thread), ("look.py", look), ("ends.py", "import os\nos._exit(9)\n")],
    );
    let spec_of = |name: &str| ZygoteSpec { env_path: env.clone(), imports: vec![name.into()] };
    let refused = bench.sandboxes.child_zygote(&bench.root, spec_of("threaded")).await.map(drop).unwrap_err();
    assert!(refused.to_string().contains("1 thread"), "{refused}");
    let refused = bench.sandboxes.child_zygote(&bench.root, spec_of("ends")).await.map(drop).unwrap_err();
    assert!(refused.to_string().contains("ended the process"), "{refused}");
    let zygote = child(&bench, &bench.root, &env, &["look"]).await;
    let source = "import look\ndef f(event):\n    caps = [l.split()[1] for l in look.STATUS.splitlines() if l.startswith('Cap')]\n    return [sorted(set(caps)), len(look.PIDS), look.ROOT, sorted(look.ENVIRON)]\n";
    let mut leaf = bench.sandboxes.fork(&zygote, spec(&bench, &env, source)).await.unwrap();
    let seen = reply(&call(&mut leaf, "1").await);
    assert_eq!(seen[0], json!(["0000000000000000"]), "a zygote has no capability when packages run");
    assert_eq!(seen[1], json!(1), "it sees no process but itself");
    assert_eq!(seen[2], json!(false));
    assert!(!seen[3].to_string().contains("OL_"), "{seen}");
    leaf.end().await;
    drop(zygote);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_sandboxes_at_once_from_two_zygotes() {
    if !tests::skip::needs_root() {
        return;
    }
    let bench = Arc::new(bench().await);
    let env = environment(&bench, "env", &[]);
    let zygote = child(&bench, &bench.root, &env, &[]).await;
    let source =
        "import os\ndef f(event):\n    return [event, open('/proc/self/uid_map').read().split()[1]]\n";
    let tasks: Vec<_> = (0..100)
        .map(|number| {
            let (bench, env) = (Arc::clone(&bench), env.clone());
            let parent = if number % 2 == 0 { bench.root.clone() } else { zygote.clone() };
            tokio::spawn(async move {
                let spec = spec(&bench, &env, source);
                let mut leaf = bench.sandboxes.fork(&parent, spec).await.unwrap();
                let value = reply(&call(&mut leaf, &number.to_string()).await);
                assert_eq!(value[0], json!(number));
                (leaf, value[1].clone())
            })
        })
        .collect();
    let mut live = Vec::new();
    for task in tasks {
        live.push(task.await.unwrap());
    }
    let ids: std::collections::BTreeSet<_> = live.iter().map(|(_, id)| id.to_string()).collect();
    assert_eq!(ids.len(), 100, "each has an id of its own");
    drop((live, zygote));
    Arc::into_inner(bench).unwrap().stop().await;
}

/// An environment with these wheels unpacked.
fn real_environment(bench: &Bench, wheels: &Path, projects: &[&str]) -> PathBuf {
    let env = environment(bench, "real", &[]);
    let python = mirror::Interpreter::find(None).unwrap();
    for entry in std::fs::read_dir(wheels).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !projects.iter().any(|project| name.starts_with(&format!("{project}-"))) {
            continue;
        }
        let mut command = std::process::Command::new(&python.path);
        command.args(["-m", "zipfile", "-e"]).arg(entry.path()).arg(env.join(python.site_packages()));
        assert!(command.status().unwrap().success());
    }
    env
}

#[tokio::test]
async fn siblings_of_a_numpy_zygote_draw_different_numbers() {
    if !tests::skip::needs_root() {
        return;
    }
    let projects = ["numpy", "pandas", "python_dateutil", "six", "pytz", "tzdata"];
    let Some(wheels) = tests::skip::real_wheels(&projects[..2]) else { return };
    let bench = bench().await;
    let env = real_environment(&bench, &wheels, &projects);
    std::fs::write(
        env.join(mirror::Interpreter::find(None).unwrap().site_packages()).join("seeded.py"),
        "import numpy as np\nRNG = np.random.default_rng(7)\nSTATE = np.random.RandomState(7)\nnp.random.seed(7)\n",
    )
    .unwrap();
    let zygote = child(&bench, &bench.root, &env, &["pandas", "seeded"]).await;
    assert_eq!(zygote.failed_imports(), []);
    let source = "import sys\nloaded = 'pandas' in sys.modules\nimport numpy as np, pandas as pd, seeded, threading\ndef f(event):\n    frame = pd.DataFrame({'k': [1, 1, 2], 'v': [1.0, 2.0, 3.0]})\n    inverse = np.linalg.inv(np.eye(50) * 2)\n    draws = [np.random.random(), seeded.RNG.random(), seeded.STATE.random(), np.random.default_rng().random()]\n    return [loaded, frame.groupby('k').v.sum().to_dict() == {1: 3.0, 2: 3.0}, float(inverse[0][0]), draws]\n";
    let mut seen = Vec::new();
    for _ in 0..2 {
        let mut leaf = bench.sandboxes.fork(&zygote, spec(&bench, &env, source)).await.unwrap();
        seen.push(reply(&call(&mut leaf, "1").await));
        leaf.end().await;
    }
    for one in &seen {
        assert_eq!((&one[0], &one[1], &one[2]), (&json!(true), &json!(true), &json!(0.5)));
    }
    let draws = |one: &serde_json::Value| one[3].as_array().unwrap().clone();
    for (number, (first, second)) in draws(&seen[0]).iter().zip(draws(&seen[1])).enumerate() {
        assert_ne!(*first, second, "generator {number}");
    }
    drop(zygote);
    bench.stop().await;
}

#[tokio::test]
async fn a_zygote_that_may_not_fork_says_why_and_goes_on() {
    if !tests::skip::needs_root() {
        return;
    }
    let bench = bench().await;
    // Lets the zygote see a second thread once.
    let late = "import os, threading\nreal = os.listdir\nturn = [0]\ndef listdir(path):\n    turn[0] += 1\n    names = real(path)\n    return names + ['x'] if path == '/proc/self/task' and turn[0] == 3 else names\nos.listdir = listdir\n";
    let env = environment(&bench, "env", &[("late.py", late)]);
    let zygote = child(&bench, &bench.root, &env, &["late"]).await;
    let mut told = Vec::new();
    for _ in 0..4 {
        match bench.sandboxes.fork(&zygote, spec(&bench, &env, "def f(event):\n    return 1\n")).await {
            Ok(leaf) => leaf.end().await,
            Err(error) => told.push(error.to_string()),
        }
    }
    assert_eq!(told, ["cannot make a sandbox: step clone failed: 2 threads run in the zygote"]);
    assert!(zygote.is_alive());
    drop(zygote);
    bench.stop().await;
}

/// Live processes and zombies that are children of this one and run as one of these users.
fn children(users: &Range<u32>) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path().join("status"));
    let texts = processes.filter_map(|file| std::fs::read_to_string(file).ok());
    let ours = format!("PPid:\t{}\n", std::process::id());
    let sought = |text: &String| {
        let user =
            text.lines().find_map(|line| line.strip_prefix("Uid:\t")?.split('\t').next()?.parse().ok());
        text.contains(&ours) && user.is_some_and(|user| users.contains(&user))
    };
    texts.filter(sought).collect()
}

#[tokio::test]
async fn children_that_a_zygote_gave_the_daemon_unasked_are_reaped() {
    if !tests::skip::needs_root() {
        return;
    }
    let bench = bench().await;
    // CLONE_PARENT: the first ends at once, the second would never.
    let source = "import ctypes, platform, signal\nlibc = ctypes.CDLL(None)\nclone = 56 if platform.machine() == 'x86_64' else 220\nif libc.syscall(clone, 0x8000, 0, 0, 0, 0) == 0: libc._exit(0)\nif libc.syscall(clone, 0x8000, 0, 0, 0, 0) == 0:\n    while True: libc.pause()\n";
    let env = environment(&bench, "env", &[("strays.py", source)]);
    let zygote = child(&bench, &bench.root, &env, &["strays"]).await;
    assert_eq!(zygote.failed_imports(), []);
    assert_eq!(children(&bench.users).len(), 4, "two zygotes and the strays");
    let users = bench.users.clone();
    drop(zygote);
    bench.stop().await;
    assert_eq!(children(&users), Vec::<String>::new());
}

#[tokio::test]
async fn what_forks_faster_than_it_is_looked_up_is_ended_too() {
    if !tests::skip::needs_root() {
        return;
    }
    let (log, _guard) = Log::start();
    let bench = bench().await;
    let source = "import os\nif os.fork() == 0:\n    while True:\n        try: os.fork()\n        except OSError: pass\n";
    let env = environment(&bench, "env", &[("bomb.py", source)]);
    let zygote = child(&bench, &bench.root, &env, &["bomb"]).await;
    assert_eq!(zygote.failed_imports(), []);
    drop(zygote);
    bench.stop().await;
    log.assert_no_error();
}

#[tokio::test]
async fn a_launch_that_fails_late_leaves_no_child() {
    if !tests::skip::needs_root() {
        return;
    }
    let (log, _guard) = Log::start();
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings(folder.path());
    // More than the kernel allows anybody: refused in the process that would have become the zygote.
    settings.executor.max_open_files = u64::MAX;
    let python = mirror::Interpreter::find(None).unwrap();
    let stage = PathBuf::from(env!("CARGO_BIN_EXE_ol-exec"));
    let sandboxes = Sandboxes::start(&settings, &python, Some(stage)).await.unwrap();
    let failure = sandboxes.root_zygote().await.map(drop).unwrap_err();
    assert!(failure.to_string().contains("limit_open_files"), "{failure}");
    sandboxes.stop().await;
    // The zygotes' namespace does not end, which is logged, while somebody in it is not reaped.
    log.assert_no_error();
}
