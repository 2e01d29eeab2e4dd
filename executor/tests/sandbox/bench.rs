//! A set of sandboxes with a state folder of its own.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use config::Settings;
use executor::sandbox::{
    CallContext, CallOutcome, CallResult, Leaf, LeafKind, LeafSpec, Limits, Sandboxes, Zygote, ZygoteSpec,
};

/// Sandboxes of a state folder of their own.
pub(crate) struct Bench {
    pub(crate) sandboxes: Sandboxes,
    pub(crate) root: Zygote,
    pub(crate) folder: PathBuf,
    pub(crate) _owned: Option<tempfile::TempDir>,
    pub(crate) limits: Limits,
    /// Ids of its sandboxes on the host.
    pub(crate) users: Range<u32>,
}

/// What the daemon logs, if all runs on the test's own thread.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Takes note until the guard is dropped.
    pub(crate) fn start() -> (Log, tracing::subscriber::DefaultGuard) {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    pub(crate) fn assert_no_error(&self) {
        let told = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        assert!(!told.contains("ERROR"), "{told}");
    }
}

/// Of a state folder, with user ids that no other test has.
pub(crate) fn settings(state: &Path) -> Settings {
    static BENCHES: AtomicU32 = AtomicU32::new(0);
    let arguments = config::CommonArgs { state: Some(state.to_path_buf()), ..Default::default() };
    let mut settings = arguments.load().unwrap();
    // A daemon has its user ids to itself; here many are one process.
    settings.executor.first_uid += id_count(&settings) * BENCHES.fetch_add(1, Ordering::Relaxed);
    settings
}

fn id_count(settings: &Settings) -> u32 {
    settings.executor.uids_per_zygote * settings.executor.max_zygotes as u32 * 2
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
    let first = settings.executor.first_uid;
    let users = first..first + id_count(&settings);
    Bench { sandboxes, root, folder: folder.to_path_buf(), _owned: None, limits, users }
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

/// An environment with modules, as pkgfs would lay it out.
pub(crate) fn environment(bench: &Bench, name: &str, modules: &[(&str, &str)]) -> PathBuf {
    let python = mirror::Interpreter::find(None).unwrap();
    let env = bench.folder.join(name);
    let site = env.join(python.site_packages());
    std::fs::create_dir_all(&site).unwrap();
    std::fs::create_dir_all(env.join("bin")).unwrap();
    std::os::unix::fs::symlink(&python.path, env.join("bin/python")).unwrap();
    std::fs::write(env.join("pyvenv.cfg"), format!("home = {}\n", python.path.parent().unwrap().display()))
        .unwrap();
    for (file, source) in modules {
        std::fs::write(site.join(file), source).unwrap();
    }
    env
}

/// A zygote that has imported these.
pub(crate) async fn child(bench: &Bench, parent: &Zygote, env: &Path, imports: &[&str]) -> Zygote {
    let imports = imports.iter().map(|name| name.to_string()).collect();
    bench.sandboxes.child_zygote(parent, ZygoteSpec { env_path: env.into(), imports }).await.unwrap()
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
