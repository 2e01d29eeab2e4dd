//! A set of sandboxes with a state folder of its own.

use std::path::{Path, PathBuf};

use config::Settings;
use executor::sandbox::{
    CallContext, CallOutcome, CallResult, Leaf, LeafKind, LeafSpec, Limits, Sandboxes, Zygote,
};

/// Sandboxes of a state folder of their own.
pub(crate) struct Bench {
    pub(crate) sandboxes: Sandboxes,
    pub(crate) root: Zygote,
    pub(crate) folder: PathBuf,
    pub(crate) _owned: Option<tempfile::TempDir>,
    pub(crate) limits: Limits,
}

fn settings(state: &Path) -> Settings {
    let arguments = config::CommonArgs { state: Some(state.to_path_buf()), ..Default::default() };
    arguments.load().unwrap()
}

pub(crate) async fn bench() -> Bench {
    let owned = tempfile::tempdir().unwrap();
    let bench = bench_in(owned.path()).await;
    Bench { _owned: Some(owned), ..bench }
}

/// In a folder that outlives it.
pub(crate) async fn bench_in(folder: &Path) -> Bench {
    let settings = settings(&folder.join("state"));
    std::fs::create_dir_all(&settings.state).unwrap();
    let python = mirror::Interpreter::find(None).unwrap();
    let stage = PathBuf::from(env!("CARGO_BIN_EXE_ol-exec"));
    let sandboxes = Sandboxes::start(&settings, &python, Some(stage)).await.unwrap();
    let root = sandboxes.root_zygote().await.unwrap();
    let limits = Limits { timeout_ms: 20_000, ..Limits::from(&settings.executor) };
    Bench { sandboxes, root, folder: folder.to_path_buf(), _owned: None, limits }
}

impl Bench {
    pub(crate) fn spec(&self, source: &str) -> LeafSpec {
        let code = tempfile::tempdir_in(&self.folder).unwrap().keep();
        std::fs::write(code.join("f.py"), source).unwrap();
        LeafSpec {
            env_path: None,
            code_dir: code,
            kind: LeafKind::Function { file: "f.py".into() },
            environ: Vec::new(),
            limits: self.limits.clone(),
        }
    }

    pub(crate) async fn leaf(&self, source: &str) -> Leaf {
        self.sandboxes.fork(&self.root, self.spec(source)).await.unwrap()
    }

    pub(crate) async fn stop(self) {
        drop(self.root);
        self.sandboxes.stop().await;
        let left = cgroups_of(&self.folder.join("state"));
        assert!(left.is_empty(), "cgroups are left: {left:?}");
    }
}

pub(crate) async fn call(leaf: &mut Leaf, event: &str) -> CallOutcome {
    let context = CallContext { request_id: "r-1".into(), function: "test".into() };
    leaf.call(event.as_bytes(), &context).await
}

pub(crate) fn reply(outcome: &CallOutcome) -> serde_json::Value {
    match &outcome.result {
        CallResult::Reply(body) => serde_json::from_slice(body).unwrap(),
        other => panic!("no reply: {other:?}\n{}", String::from_utf8_lossy(&outcome.stderr)),
    }
}

/// Runs a handler once in a sandbox of its own.
pub(crate) async fn outcome_of(bench: &Bench, source: &str) -> CallOutcome {
    let mut leaf = bench.leaf(source).await;
    let outcome = call(&mut leaf, "null").await;
    leaf.end().await;
    outcome
}

/// The cgroup folders of a state folder, wherever they are mounted.
pub(crate) fn cgroups_of(state: &Path) -> Vec<PathBuf> {
    use sha2::Digest;
    use std::os::unix::ffi::OsStrExt;
    let digest = sha2::Sha256::digest(state.canonicalize().unwrap().as_os_str().as_bytes());
    let name = format!("ol-{}", digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect::<String>());
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let points =
        mounts.lines().filter(|line| line.contains(" - cgroup")).filter_map(|line| line.split(' ').nth(4));
    points.flat_map(|point| find(Path::new(point), &name, 4)).collect()
}

fn find(folder: &Path, name: &str, depth: u32) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let folders = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir());
    folders
        .flat_map(|path| match path.file_name() {
            Some(found) if found == name => vec![path],
            _ if depth > 0 => find(&path, name, depth - 1),
            _ => Vec::new(),
        })
        .collect()
}
