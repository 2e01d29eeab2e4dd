use std::io::{self, BufRead, BufReader};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use nix::fcntl::OFlag;
use nix::unistd::pipe2;

use super::ZygoteError;
use super::cgroup::Cgroup;
use super::child::{Child, finish};
use super::process::{Held, Process};
use super::sandboxes::Shared;
use super::stage::{Failure, LAUNCH, Order};
use super::stage_run::{packet_sockets, run_stage};
use super::zygote::{Control, Inner, Zygote};
use crate::sys::process;

/// Imports in a zygote need few processes; more than this is a package that does something else.
const ZYGOTE_PROCESSES: u64 = 256;
/// One line of a zygote's standard error that is logged.
const LOG_LINE_BYTES: u64 = 4096;

pub(super) fn host(step: &'static str) -> impl Fn(io::Error) -> ZygoteError {
    move |source| ZygoteError::Host { step: step.into(), source }
}

fn step(failure: Failure) -> ZygoteError {
    ZygoteError::Step { step: failure.step, reason: failure.error }
}

/// The cgroup of a new zygote.
pub(super) fn zygote_cgroup(shared: &Shared) -> io::Result<Cgroup> {
    shared.cgroups.make(&shared.name("zygote"), shared.settings.zygote_memory_bytes, ZYGOTE_PROCESSES)
}

pub(super) async fn root_zygote(shared: Arc<Shared>) -> Result<Zygote, ZygoteError> {
    let ids = shared.ids.block(shared.settings.uids_per_zygote);
    let ids = ids.ok_or_else(|| host("take a block of user ids")(io::ErrorKind::QuotaExceeded.into()))?;
    let root = shared.root.copy().await.map_err(host("copy the root"))?;
    let namespace = {
        let held = shared.namespace.lock().await;
        let namespace = held.as_ref().ok_or(ZygoteError::ParentGone)?;
        namespace.handle.try_clone().map_err(host("copy the namespace's descriptor"))?
    };
    let (blocking, uid) = (Arc::clone(&shared), ids.first());
    let task = tokio::task::spawn_blocking(move || launch(&blocking, uid, root, namespace));
    let (child, control, cgroup) =
        task.await.map_err(|error| host("launch it")(io::Error::other(error)))??;
    let process = Process::new(child, cgroup, Held::Block(ids.clone()), shared.tasks.clone());
    let control = Control::new(control).map_err(host("watch its socket"))?;
    let timeout_ms = shared.settings.fork_timeout_ms;
    let report = tokio::time::timeout(shared.fork_limit(), control.report()).await;
    let report =
        report.map_err(|_| ZygoteError::TimedOut { timeout_ms })?.map_err(host("wait for it to be ready"))?;
    if report.threads != 1 {
        return Err(ZygoteError::Unusable { reason: format!("it runs {} threads", report.threads) });
    }
    let inner = Inner {
        control: tokio::sync::Mutex::new(control),
        process,
        ids,
        user_namespace: None,
        env_path: None,
        failed_imports: Vec::new(),
        alive: AtomicBool::new(true),
    };
    Ok(Zygote { inner: Arc::new(inner) })
}

/// Runs the launcher stage. Blocks.
fn launch(
    shared: &Shared,
    uid: u32,
    root: OwnedFd,
    namespace: OwnedFd,
) -> Result<(Child, OwnedFd, Cgroup), ZygoteError> {
    let cgroup = zygote_cgroup(shared).map_err(host("make its cgroup"))?;
    let result = run_launcher(shared, uid, &root, &namespace, &cgroup).and_then(|(pidfd, control)| {
        let child = Child::adopt(pidfd, uid, &shared.known).map_err(host("adopt it"))?;
        Ok((child, control))
    });
    match result {
        Ok((child, control)) => Ok((child, control, cgroup)),
        Err(error) => {
            discard(&cgroup);
            Err(error)
        }
    }
}

/// Removes the cgroup of a launch that failed and reaps what is in it: a process that the launcher made and did not
/// live to name. Blocks.
fn discard(cgroup: &Cgroup) {
    let members: Vec<_> = cgroup.members().into_iter().filter_map(|pid| process::open(pid).ok()).collect();
    if let Err(error) = cgroup.remove() {
        tracing::error!(%error, "cannot remove the cgroup of a zygote that could not be launched");
    }
    members.iter().for_each(finish);
}

fn run_launcher(
    shared: &Shared,
    uid: u32,
    root: &OwnedFd,
    namespace: &OwnedFd,
    cgroup: &Cgroup,
) -> Result<(OwnedFd, OwnedFd), ZygoteError> {
    let (control, theirs) = packet_sockets().map_err(host("make its socket"))?;
    let (log, their_log) = pipe2(OFlag::O_CLOEXEC).map_err(io::Error::from).map_err(host("make its log"))?;
    let order =
        serde_json::to_vec(&order(shared, uid)).map_err(io::Error::from).map_err(host("write its order"))?;
    let descriptors = [root.as_fd(), namespace.as_fd(), theirs.as_fd(), their_log.as_fd()];
    let packets =
        [(order.as_slice(), descriptors.as_slice()), (shared.runtime.zygote_filter.as_slice(), &[])];
    // Before there is a process to be ended; it goes away with the last writer.
    std::thread::Builder::new()
        .name("zygote-log".into())
        .spawn(move || forward_log(log, uid))
        .map_err(host("start its log"))?;
    let before = |pid| cgroup.add(pid);
    let run =
        run_stage(&shared.stage_executable, LAUNCH, shared.fork_limit(), before, &packets).map_err(step)?;
    Ok((run.pidfd, control))
}

fn order(shared: &Shared, uid: u32) -> Order {
    let python = shared.python.executable.to_string_lossy().into_owned();
    // Isolated, without site (an environment's packages come with the environment), writing no bytecode.
    let argv = [python.as_str(), "-I", "-S", "-B", "/ol/runtime/zygote.py"];
    // Thread pools would have to be gone before each fork.
    let environ = [
        "PATH=/usr/local/bin:/usr/bin:/bin",
        "HOME=/tmp",
        "LANG=C.UTF-8",
        "OPENBLAS_NUM_THREADS=1",
        "OMP_NUM_THREADS=1",
        "MKL_NUM_THREADS=1",
        "NUMEXPR_NUM_THREADS=1",
        "MALLOC_ARENA_MAX=1",
    ];
    Order {
        argv: argv.map(str::to_owned).to_vec(),
        environ: environ.map(str::to_owned).to_vec(),
        uid,
        tmp_bytes: shared.settings.tmp_bytes,
        max_open_files: shared.settings.max_open_files,
    }
}

/// What imports print is no handler's output; it goes to our log for whoever looks for it.
fn forward_log(log: OwnedFd, uid: u32) {
    let mut reader = BufReader::new(std::fs::File::from(log));
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut part = io::Read::take(&mut reader, LOG_LINE_BYTES);
        match part.read_until(b'\n', &mut line) {
            Ok(size) if size > 0 => {
                tracing::debug!(uid, line = %String::from_utf8_lossy(&line).trim_end(), "zygote");
            }
            _ => return,
        }
    }
}
