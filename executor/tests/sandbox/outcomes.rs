//! Every way a call can end.

use executor::sandbox::{CallOutcome, CallResult};
use serde_json::json;

use super::bench::{Bench, bench, call, outcome_of, reply};

async fn with_small_limits() -> Bench {
    let mut bench = bench().await;
    bench.limits.memory_bytes = 128 << 20;
    bench.limits.max_reply_bytes = 100_000;
    bench.limits.log_bytes = 10_000;
    bench.limits.max_processes = 20;
    bench
}

#[tokio::test]
async fn a_bare_handler_answers_and_answers_again() {
    if !tests::skip::needs_root() {
        return;
    }
    let bench = bench().await;
    let mut leaf = bench.leaf("n = 0\ndef f(event):\n    global n; n += 1\n    print('hello', n)\n    return {'doubled': event * 2, 'n': n}\n").await;
    let first = call(&mut leaf, "21").await;
    assert_eq!(reply(&first), json!({"doubled": 42, "n": 1}));
    assert_eq!((first.stdout.as_slice(), first.truncated), (b"hello 1\n".as_slice(), false));
    let second = call(&mut leaf, "\"a\"").await;
    assert_eq!(reply(&second), json!({"doubled": "aa", "n": 2}));
    assert_eq!(second.stdout, b"hello 2\n", "output belongs to the call that made it");
    assert!(second.sandbox_survives() && leaf.is_alive());
    leaf.end().await;
    bench.stop().await;
}

#[tokio::test]
async fn a_handler_with_a_context_and_an_async_one_answer() {
    if !tests::skip::needs_root() {
        return;
    }
    let bench = bench().await;
    let source = "def handler(event, context):\n    return [context.aws_request_id, context.get_remaining_time_in_millis() > 0]\n";
    assert_eq!(reply(&outcome_of(&bench, source).await), json!(["r-1", true]));
    let source = "async def f(event):\n    import asyncio\n    await asyncio.sleep(0)\n    return 1\n";
    assert_eq!(reply(&outcome_of(&bench, source).await), json!(1));
    bench.stop().await;
}

fn error(outcome: &CallOutcome) -> (String, String, Vec<String>) {
    match &outcome.result {
        CallResult::HandlerError { error_type, message, stack_trace } => {
            (error_type.clone(), message.clone(), stack_trace.clone())
        }
        other => panic!("no handler error: {other:?}"),
    }
}

#[tokio::test]
async fn an_exception_is_told_with_its_place_and_the_sandbox_goes_on() {
    if !tests::skip::needs_root() {
        return;
    }
    let bench = bench().await;
    let mut leaf = bench.leaf("def g(x):\n    return {}[x]\ndef f(event):\n    return g(event)\n").await;
    let outcome = call(&mut leaf, "\"k\"").await;
    let (kind, message, trace) = error(&outcome);
    assert_eq!((kind.as_str(), message.as_str()), ("KeyError", "'k'"));
    assert_eq!(trace.len(), 2, "our own frames are left out: {trace:?}");
    assert!(trace[1].contains("/ol/code/f.py\", line 2, in g"), "{trace:?}");
    assert!(outcome.sandbox_survives());
    assert_eq!(error(&call(&mut leaf, "1").await).1, "1");
    leaf.end().await;
    for (source, kind) in [
        ("import nothing_of_this_name", "ModuleNotFoundError"),
        ("def f(event:", "SyntaxError"),
        ("x = 1", "BadHandler"),
        ("def f(event):\n    raise SystemExit(3)", "SystemExit"),
        ("def f(event):\n    return object()", "TypeError"),
        ("def f(event):\n    return float('nan')", "ValueError"),
        ("class E(Exception):\n    def __str__(self): raise E()\ndef f(event):\n    raise E()", "E"),
        ("def f(event):\n    raise ValueError('\\udc80')", "ValueError"),
        ("class E(Exception):\n    def __str__(self): raise SystemExit\ndef f(event):\n    raise E()", "E"),
        (
            "import sys\nclass S:\n    def flush(self): raise SystemExit\ndef f(event):\n    sys.stdout = S()\n    raise KeyError()",
            "KeyError",
        ),
    ] {
        assert_eq!(error(&outcome_of(&bench, source).await).0, kind);
    }
    bench.stop().await;
}

#[tokio::test]
async fn a_handler_that_fails_to_load_is_tried_again_in_the_same_world() {
    if !tests::skip::needs_root() {
        return;
    }
    let bench = bench().await;
    let source = "import sys\nsys.tries = getattr(sys, 'tries', 0) + 1\nif sys.tries < 3: raise ValueError(sys.path.count('/ol/code'))\ndef f(event):\n    return [sys.tries, sys.path.count('/ol/code')]\n";
    let mut leaf = bench.leaf(source).await;
    for _ in 0..2 {
        assert_eq!(error(&call(&mut leaf, "1").await).1, "1");
    }
    assert_eq!(reply(&call(&mut leaf, "1").await), json!([3, 1]));
    leaf.end().await;
    bench.stop().await;
}

#[tokio::test]
async fn a_call_over_its_time_is_killed_with_all_its_processes() {
    if !tests::skip::needs_root() {
        return;
    }
    let mut bench = bench().await;
    bench.limits.timeout_ms = 300;
    let source = "import os, time\ndef f(event):\n    print('before', flush=True)\n    if os.fork() == 0:\n        os.setsid()\n    while True: time.sleep(1)\n";
    let outcome = outcome_of(&bench, source).await;
    assert_eq!(outcome.result, CallResult::TimedOut);
    assert_eq!(outcome.stdout, b"before\n");
    assert!(!outcome.sandbox_survives());
    bench.stop().await;
}

#[tokio::test]
async fn out_of_memory_is_reported_as_that() {
    if !tests::skip::needs_root() {
        return;
    }
    let bench = with_small_limits().await;
    let outcome =
        outcome_of(&bench, "def f(event):\n    x = bytearray(400 << 20)\n    return len(x)\n").await;
    assert_eq!(outcome.result, CallResult::OutOfMemory);
    assert!(outcome.usage.memory_peak_bytes > 64 << 20, "{:?}", outcome.usage);
    bench.stop().await;
}

#[tokio::test]
async fn an_end_is_not_laid_to_memory_that_an_earlier_call_lacked() {
    if !tests::skip::needs_root() {
        return;
    }
    let bench = with_small_limits().await;
    let source = "import os\ndef f(event):\n    if event == 2:\n        os.close(3)\n        while True: pass\n    if os.fork() == 0:\n        bytearray(400 << 20)\n        os._exit(0)\n    return os.wait()[1]\n";
    let mut leaf = bench.leaf(source).await;
    let first = call(&mut leaf, "1").await;
    if first.sandbox_survives() {
        assert_eq!(reply(&first), json!(9), "the kernel has killed the child");
        let second = call(&mut leaf, "2").await.result;
        assert_eq!(second, CallResult::Misbehaved { what: "closed its control socket".into() });
    } else {
        // Version 2 of cgroups ends all of a sandbox at once.
        assert_eq!(first.result, CallResult::OutOfMemory);
    }
    leaf.end().await;
    bench.stop().await;
}

#[tokio::test]
async fn a_fork_bomb_is_bounded() {
    if !tests::skip::needs_root() {
        return;
    }
    let bench = with_small_limits().await;
    let source = "import os, time\ndef f(event):\n    n = 0\n    while True:\n        try:\n            if os.fork() == 0:\n                time.sleep(100)\n        except OSError as e:\n            return [n, e.errno]\n        n += 1\n";
    assert_eq!(reply(&outcome_of(&bench, source).await), json!([19, 11]));
    bench.stop().await;
}

#[tokio::test]
async fn an_end_without_a_reply_is_told_apart() {
    if !tests::skip::needs_root() {
        return;
    }
    let bench = with_small_limits().await;
    for (source, signal, code) in [
        ("import os\ndef f(event):\n    print('last words', flush=True)\n    os._exit(7)\n", None, Some(7)),
        ("import ctypes\ndef f(event):\n    ctypes.string_at(0)\n", Some(libc_sigsegv()), None),
    ] {
        let outcome = outcome_of(&bench, source).await;
        assert_eq!(outcome.result, CallResult::Crashed { signal, code });
    }
    let source = "import os\ndef f(event):\n    os.close(3)\n    while True: pass\n";
    let outcome = outcome_of(&bench, source).await;
    assert_eq!(outcome.result, CallResult::Misbehaved { what: "closed its control socket".into() });
    for garbage in [
        "b'x' * 100",
        "b'\\xff\\xff\\xff\\xffR'",
        "b'\\0\\0\\0\\4R\\0\\0\\0\\7'",
        "b'\\0\\0\\0\\5R\\0\\0\\0\\1{'",
    ] {
        let source = format!("import os\ndef f(event):\n    os.write(3, {garbage})\n    while True: pass\n");
        let outcome = outcome_of(&bench, &source).await;
        let expected = matches!(outcome.result, CallResult::Misbehaved { .. } | CallResult::ReplyTooLarge);
        assert!(expected, "{garbage}: {:?}", outcome.result);
    }
    bench.stop().await;
}

fn libc_sigsegv() -> i32 {
    nix::sys::signal::Signal::SIGSEGV as i32
}

#[tokio::test]
async fn output_and_reply_over_their_limits_are_bounded() {
    if !tests::skip::needs_root() {
        return;
    }
    let bench = with_small_limits().await;
    let source = "import sys\ndef f(event):\n    for i in range(200): print('x' * 9999)\n    print('e', file=sys.stderr)\n    return 'done'\n";
    let outcome = outcome_of(&bench, source).await;
    assert_eq!(reply(&outcome), json!("done"));
    assert_eq!((outcome.stdout.len(), outcome.truncated), (10_000, true));
    assert_eq!(outcome.stderr, b"e\n");
    let outcome = outcome_of(&bench, "def f(event):\n    return 'x' * 200000\n").await;
    assert_eq!(outcome.result, CallResult::ReplyTooLarge);
    let source = "import threading\ndef flood():\n    while True: print('x' * 1000, flush=True)\ndef f(event):\n    threading.Thread(target=flood, daemon=True).start()\n    return 1\n";
    assert_eq!(reply(&outcome_of(&bench, source).await), json!(1), "a flood does not keep the daemon");
    bench.stop().await;
}

#[tokio::test]
async fn dropping_a_sandbox_in_a_call_leaves_nothing() {
    if !tests::skip::needs_root() {
        return;
    }
    let bench = bench().await;
    let mut leaf = bench.leaf("import time\ndef f(event):\n    time.sleep(1000)\n").await;
    let limit = std::time::Duration::from_millis(50);
    assert!(tokio::time::timeout(limit, call(&mut leaf, "1")).await.is_err());
    drop(leaf);
    bench.stop().await;
}

#[tokio::test]
async fn a_daemon_that_ends_without_stopping_leaves_no_cgroup() {
    if !tests::skip::needs_root() {
        return;
    }
    let bench = bench().await;
    let state = bench.folder.join("state");
    let leaf = bench.leaf("def f(event):\n    return 1\n").await;
    let Bench { sandboxes, root, _owned, .. } = bench;
    drop((sandboxes, leaf, root));
    // What was dropped is ended in the background; the last of it takes the rest along.
    tokio::task::yield_now().await;
    let left = super::bench::cgroups_of(&state);
    assert!(left.is_empty(), "{left:?}");
}
