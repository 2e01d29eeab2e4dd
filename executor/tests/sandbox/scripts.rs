//! Scripts run as `python script args…` would.

use executor::sandbox::{LeafKind, ScriptResult, Stream};

use super::bench::bench;

async fn run(source: &str, timeout_ms: u64) -> (ScriptResult, String, String) {
    let bench = bench().await;
    let mut spec = bench.spec(source);
    spec.kind = LeafKind::Script { file: "f.py".into(), args: vec!["a b".into(), "c".into()] };
    spec.limits.timeout_ms = timeout_ms;
    let mut leaf = bench.sandboxes.fork(&bench.root, spec).await.unwrap();
    let (sender, mut receiver) = tokio::sync::mpsc::channel::<(Stream, bytes::Bytes)>(1);
    let reading = tokio::spawn(async move {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        while let Some((stream, bytes)) = receiver.recv().await {
            match stream {
                Stream::Stdout => stdout.extend_from_slice(&bytes),
                Stream::Stderr => stderr.extend_from_slice(&bytes),
            }
        }
        (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
    });
    let outcome = leaf.run_script(sender).await;
    let (stdout, stderr) = reading.await.unwrap();
    leaf.end().await;
    bench.stop().await;
    (outcome.result, stdout, stderr)
}

#[tokio::test]
async fn output_arguments_and_exit_code_are_those_of_python() {
    if !tests::skip::needs_root() {
        return;
    }
    let source = "import atexit, sys, threading, time\natexit.register(print, 'at exit')\nthreading.Thread(target=lambda: (time.sleep(.05), print('thread'))).start()\nprint(__name__, sys.argv[1:], __file__)\nsys.exit(3)\n";
    let (result, stdout, stderr) = run(source, 20_000).await;
    assert_eq!((result, stderr.as_str()), (ScriptResult::Exited(3), ""));
    assert_eq!(stdout, "__main__ ['a b', 'c'] /ol/code/f.py\nthread\nat exit\n");
}

#[tokio::test]
async fn an_exception_prints_its_traceback_alone() {
    if !tests::skip::needs_root() {
        return;
    }
    let (result, _, stderr) = run("def g():\n    1 / 0\ng()\n", 20_000).await;
    assert_eq!(result, ScriptResult::Exited(1));
    assert!(
        stderr.starts_with("Traceback (most recent call last):\n  File \"/ol/code/f.py\", line 3"),
        "{stderr}"
    );
    assert!(stderr.ends_with("ZeroDivisionError: division by zero\n"), "{stderr}");
    assert!(!stderr.contains("/ol/runtime"), "{stderr}");
}

#[tokio::test]
async fn much_output_arrives_whole_and_time_is_up_when_it_is_up() {
    if !tests::skip::needs_root() {
        return;
    }
    let (result, stdout, _) = run("for i in range(200000): print(i)\n", 60_000).await;
    assert_eq!(result, ScriptResult::Exited(0));
    assert!(stdout.ends_with("199999\n") && stdout.lines().count() == 200_000);
    let (result, stdout, _) = run("print('first')\nwhile True: pass\n", 300).await;
    assert_eq!((result, stdout.as_str()), (ScriptResult::TimedOut, "first\n"));
    let (result, _, stderr) = run("raise SystemExit('reason')\n", 20_000).await;
    assert_eq!((result, stderr.as_str()), (ScriptResult::Exited(1), "reason\n"));
}
