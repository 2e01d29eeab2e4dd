//! Sandboxes against a real kernel and a real Python.

use std::path::{Path, PathBuf};

use config::Settings;
use executor::sandbox::{
    CallContext, CallOutcome, CallResult, Leaf, LeafKind, LeafSpec, Limits, Sandboxes, Zygote,
};

/// Sandboxes of a state folder of their own.
struct Bench {
    sandboxes: Sandboxes,
    root: Zygote,
    folder: tempfile::TempDir,
    limits: Limits,
}

fn settings(state: &Path) -> Settings {
    let arguments = config::CommonArgs { state: Some(state.to_path_buf()), ..Default::default() };
    arguments.load().unwrap()
}

async fn bench() -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(&folder.path().join("state"));
    std::fs::create_dir_all(&settings.state).unwrap();
    let python = mirror::Interpreter::find(None).unwrap();
    let stage = PathBuf::from(env!("CARGO_BIN_EXE_ol-exec"));
    let sandboxes = Sandboxes::start(&settings, &python, Some(stage)).await.unwrap();
    let root = sandboxes.root_zygote().await.unwrap();
    let limits = Limits { timeout_ms: 20_000, ..Limits::from(&settings.executor) };
    Bench { sandboxes, root, folder, limits }
}

impl Bench {
    fn spec(&self, source: &str) -> LeafSpec {
        let code = tempfile::tempdir_in(self.folder.path()).unwrap().keep();
        std::fs::write(code.join("f.py"), source).unwrap();
        LeafSpec {
            env_path: None,
            code_dir: code,
            kind: LeafKind::Function { file: "f.py".into() },
            environ: Vec::new(),
            limits: self.limits.clone(),
        }
    }

    async fn leaf(&self, source: &str) -> Leaf {
        self.sandboxes.fork(&self.root, self.spec(source)).await.unwrap()
    }

    async fn stop(self) {
        drop(self.root);
        self.sandboxes.stop().await;
    }
}

async fn call(leaf: &mut Leaf, event: &str) -> CallOutcome {
    let context = CallContext { request_id: "r-1".into(), function: "test".into() };
    leaf.call(event.as_bytes(), &context).await
}

fn reply(outcome: &CallOutcome) -> serde_json::Value {
    match &outcome.result {
        CallResult::Reply(body) => serde_json::from_slice(body).unwrap(),
        other => panic!("no reply: {other:?}\n{}", String::from_utf8_lossy(&outcome.stderr)),
    }
}

#[tokio::test]
async fn a_bare_handler_answers() {
    let bench = bench().await;
    let mut leaf = bench.leaf("def f(event):\n    print('hello')\n    return {'doubled': event * 2}\n").await;
    let outcome = call(&mut leaf, "21").await;
    assert_eq!(reply(&outcome), serde_json::json!({"doubled": 42}));
    assert_eq!(outcome.stdout, b"hello\n");
    leaf.end().await;
    bench.stop().await;
}
