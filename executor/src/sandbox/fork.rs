use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::unistd::{Gid, Uid, fchown, pipe2};
use serde_json::json;
use tokio::net::UnixStream;
use tokio::net::unix::pipe::Receiver;

use super::cgroup::Cgroup;
use super::child::Child;
use super::frames::{self, FrameError, Kind};
use super::ids::{Ids, Lease};
use super::launch::{host as zygote_host, zygote_cgroup};
use super::process::{Held, Process};
use super::sandboxes::Shared;
use super::stage::Failure;
use super::stage_run::packet_sockets;
use super::zygote::{Control, ExchangeError, Inner, Zygote};
use super::{ForkError, Leaf, LeafKind, LeafSpec, ZygoteError, ZygoteSpec};
use crate::sys::mount::{Forbid, detached, forbid};
use crate::sys::process::IdMaps;

/// The user and group that a sandbox's processes are, as they see it.
const INSIDE_ID: u32 = 1000;
/// A zygote below another one takes this part of its parent's ids.
const SHARE_OF_PARENT: u32 = 8;
/// A frame of a leaf that is not ready yet.
const REPORT_BYTES: u64 = 64 * 1024;

fn host(step: &'static str) -> impl Fn(io::Error) -> ForkError {
    move |source| ForkError::Host { step: step.into(), source }
}

fn lost(error: tokio::task::JoinError) -> io::Error {
    io::Error::other(error)
}

/// A detached read-only mount of one folder.
fn read_only(path: &Path) -> io::Result<OwnedFd> {
    let tree = detached(path, false)?;
    forbid(&tree, Forbid { devices: true })?;
    Ok(tree)
}

/// What a new leaf is sent, and our ends of it.
struct Prepared {
    cgroup: Cgroup,
    code: OwnedFd,
    env: Option<OwnedFd>,
    stream: std::os::unix::net::UnixStream,
    their_stream: std::os::unix::net::UnixStream,
    stdout: OwnedFd,
    their_stdout: OwnedFd,
    stderr: OwnedFd,
    their_stderr: OwnedFd,
}

impl Prepared {
    /// Everything that may touch a file system. Blocks.
    fn new(shared: &Shared, spec: &LeafSpec, uid: u32) -> Result<Prepared, ForkError> {
        let code = read_only(&spec.code_dir).map_err(host("open the code folder"))?;
        let env =
            spec.env_path.as_deref().map(read_only).transpose().map_err(host("open the environment"))?;
        let (stream, their_stream) =
            std::os::unix::net::UnixStream::pair().map_err(host("make its control socket"))?;
        let pipe = || -> io::Result<_> {
            let (ours, theirs) = pipe2(OFlag::O_CLOEXEC)?;
            // So that a program may open /dev/stdout.
            fchown(&theirs, Some(Uid::from_raw(uid)), Some(Gid::from_raw(uid)))?;
            Ok((ours, theirs))
        };
        let (stdout, their_stdout) = pipe().map_err(host("make its output"))?;
        let (stderr, their_stderr) = pipe().map_err(host("make its output"))?;
        stream.set_nonblocking(true).map_err(host("make its control socket"))?;
        let limits = &spec.limits;
        let cgroup = shared
            .cgroups
            .make(&shared.name("leaf"), limits.memory_bytes, limits.max_processes)
            .map_err(host("make its cgroup"))?;
        Ok(Prepared { cgroup, code, env, stream, their_stream, stdout, their_stdout, stderr, their_stderr })
    }
}

/// Forks a leaf: prepare → ask the zygote → adopt → cgroup and id map → go → ready.
pub(super) async fn leaf(shared: Arc<Shared>, parent: Zygote, spec: LeafSpec) -> Result<Leaf, ForkError> {
    let lease = parent.inner.ids.take(1);
    let lease = lease.ok_or_else(|| host("take a user id")(io::ErrorKind::QuotaExceeded.into()))?;
    let (blocking, uid) = (Arc::clone(&shared), lease.id());
    let prepare = tokio::task::spawn_blocking(move || (Prepared::new(&blocking, &spec, uid), spec));
    let (root, prepared) = tokio::join!(shared.root.copy(), prepare);
    let (prepared, spec) = prepared.map_err(lost).map_err(host("prepare it"))?;
    let prepared = prepared?;
    let (mut leaf, maps) = match root {
        Ok(root) => born(&shared, &parent, prepared, &root, &spec, lease).await?,
        Err(source) => {
            discard(prepared.cgroup);
            return Err(host("copy the root")(source));
        }
    };
    place(leaf.process.cgroup(), maps, &parent).await.map_err(host("place it"))?;
    ready(&shared, &parent, &mut leaf, &spec).await?;
    Ok(leaf)
}

/// Removes the cgroup of a process that never was.
fn discard(cgroup: Cgroup) {
    tokio::task::spawn_blocking(move || cgroup.remove());
}

/// Lets the zygote clone it and takes it over.
async fn born(
    shared: &Shared,
    parent: &Zygote,
    prepared: Prepared,
    root: &OwnedFd,
    spec: &LeafSpec,
    lease: Lease,
) -> Result<(Leaf, Placement), ForkError> {
    let Prepared { cgroup, code, env, stream, their_stream, stdout, their_stdout, stderr, their_stderr } =
        prepared;
    let mut descriptors =
        vec![their_stream.as_fd(), their_stdout.as_fd(), their_stderr.as_fd(), root.as_fd(), code.as_fd()];
    descriptors.extend(env.as_ref().map(AsFd::as_fd));
    let child = match clone(shared, parent, "leaf", &descriptors).await {
        Ok(child) => child,
        Err(error) => {
            discard(cgroup);
            return Err(match error {
                ExchangeError::Gone => ForkError::ZygoteGone,
                ExchangeError::Refused(reason) => ForkError::Step { step: "clone".into(), reason },
                ExchangeError::TimedOut => {
                    ForkError::TimedOut { timeout_ms: shared.settings.fork_timeout_ms }
                }
            });
        }
    };
    let maps = Placement::new(&child, INSIDE_ID, lease.id(), 1);
    let process = Process::new(child, cgroup, Held::Single(lease), shared.tasks.clone());
    let leaf = Leaf {
        process,
        stream: UnixStream::from_std(stream).map_err(host("watch its control socket"))?,
        stdout: Receiver::from_owned_fd(stdout).map_err(host("watch its output"))?,
        stderr: Receiver::from_owned_fd(stderr).map_err(host("watch its output"))?,
        limits: spec.limits.clone(),
        calls: 0,
    };
    Ok((leaf, maps))
}

/// Asks a zygote for a fork. One that lies, hangs or is gone is given up.
async fn clone(
    shared: &Shared,
    parent: &Zygote,
    kind: &str,
    descriptors: &[BorrowedFd<'_>],
) -> Result<Child, ExchangeError> {
    let pidfd = parent.inner.fork(kind, descriptors, shared.fork_limit()).await?;
    Child::adopt(pidfd, parent.inner.ids.first(), &shared.known).map_err(|error| {
        tracing::warn!(%error, "a zygote sent a process that is not its child");
        parent.inner.give_up();
        ExchangeError::Gone
    })
}

/// What the daemon does to a new process from outside, before it may go on.
struct Placement {
    pid: u32,
    maps: IdMaps,
}

impl Placement {
    fn new(child: &Child, inside: u32, outside: u32, count: u32) -> Placement {
        Placement { pid: child.pid(), maps: IdMaps::new(child.pid(), inside, outside, count) }
    }
}

async fn place(cgroup: Option<&Cgroup>, placement: Placement, parent: &Zygote) -> io::Result<()> {
    let cgroup = cgroup.cloned();
    let parent = parent.clone();
    let work = move || {
        if let Some(cgroup) = cgroup {
            cgroup.add(placement.pid)?;
        }
        match &parent.inner.user_namespace {
            None => placement.maps.write_here(),
            Some(namespace) => placement.maps.write_within(namespace.as_fd()),
        }
    };
    tokio::task::spawn_blocking(work).await.map_err(lost)?
}

/// Sends the order and waits until every step was taken.
async fn ready(shared: &Shared, parent: &Zygote, leaf: &mut Leaf, spec: &LeafSpec) -> Result<(), ForkError> {
    let order = order(shared, parent, spec).to_string();
    let exchange = async {
        let sent = frames::write(&mut leaf.stream, Kind::Go, &[order.as_bytes()]).await;
        sent.map_err(|_| FrameError::Closed)?;
        frames::read(&mut leaf.stream, REPORT_BYTES).await
    };
    let timeout_ms = shared.settings.fork_timeout_ms;
    let answer = tokio::time::timeout(shared.fork_limit(), exchange).await;
    let step = |step: &str, reason: String| ForkError::Step { step: step.into(), reason };
    match answer.map_err(|_| ForkError::TimedOut { timeout_ms })? {
        Ok((Kind::Ready, _)) => Ok(()),
        Ok((Kind::StepFailed, payload)) => Err(match serde_json::from_slice::<Failure>(&payload) {
            Ok(failure) => step(&failure.step, failure.error),
            Err(_) => step("unknown", "its report is unreadable".into()),
        }),
        Ok(_) => Err(step("unknown", "it did not keep to the protocol".into())),
        Err(_) => {
            leaf.process.kill();
            let exit = leaf.process.wait().await;
            Err(step("unknown", format!("it ended before it was ready ({exit:?})")))
        }
    }
}

fn order(shared: &Shared, parent: &Zygote, spec: &LeafSpec) -> serde_json::Value {
    let (file, script) = match &spec.kind {
        LeafKind::Function { file } => (file, None),
        LeafKind::Script { file, args } => (file, Some(args)),
    };
    let has_env = spec.env_path.is_some();
    let path =
        if has_env { "/ol/env/bin:/usr/local/bin:/usr/bin:/bin" } else { "/usr/local/bin:/usr/bin:/bin" };
    let mut environ: Vec<(&str, &str)> = [
        ("PATH", path),
        ("HOME", "/tmp"),
        ("TMPDIR", "/tmp"),
        ("USER", "sandbox"),
        ("LANG", "C.UTF-8"),
        ("OPENBLAS_NUM_THREADS", "1"),
        ("OMP_NUM_THREADS", "1"),
        ("MKL_NUM_THREADS", "1"),
    ]
    .to_vec();
    environ.extend(has_env.then_some(("VIRTUAL_ENV", "/ol/env")));
    environ.extend(spec.environ.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    json!({
        "tmp_bytes": spec.limits.tmp_bytes,
        "max_open_files": spec.limits.max_open_files,
        "max_reply_bytes": spec.limits.max_reply_bytes,
        "environ": environ,
        "activate": has_env && spec.env_path != parent.inner.env_path,
        "site_packages": shared.python.site_packages(),
        "file": file,
        "script": script,
    })
}

/// Forks a zygote: as a leaf, but into its parent's PID namespace and with a block of ids of its own.
pub(super) async fn zygote(
    shared: Arc<Shared>,
    parent: Zygote,
    spec: ZygoteSpec,
) -> Result<Zygote, ZygoteError> {
    let ids = block_below(&shared, &parent);
    let ids =
        ids.ok_or_else(|| zygote_host("take a block of user ids")(io::ErrorKind::QuotaExceeded.into()))?;
    let (blocking, env_path) = (Arc::clone(&shared), spec.env_path.clone());
    let prepare = move || PreparedZygote::new(&blocking, &env_path);
    let prepared =
        tokio::task::spawn_blocking(prepare).await.map_err(lost).map_err(zygote_host("prepare it"))?;
    let PreparedZygote { env, control, theirs, cgroup } = prepared?;
    let child = match clone(&shared, &parent, "zygote", &[theirs.as_fd(), env.as_fd()]).await {
        Ok(child) => child,
        Err(error) => {
            discard(cgroup);
            return Err(zygote_error(&shared, error));
        }
    };
    drop(theirs);
    let maps = Placement::new(&child, ids.first(), ids.first(), ids.count());
    let namespace = File::open(format!("/proc/{}/ns/user", child.pid()));
    let process = Process::new(child, cgroup, Held::Block(ids.clone()), shared.tasks.clone());
    place(process.cgroup(), maps, &parent).await.map_err(zygote_host("place it"))?;
    let namespace = namespace.map_err(zygote_host("open its user namespace"))?;
    let control = Control::new(control).map_err(zygote_host("watch its socket"))?;
    let failed_imports = imported(&shared, &process, &control, &ids, &spec).await?;
    let inner = Inner {
        control: tokio::sync::Mutex::new(control),
        process,
        ids,
        user_namespace: Some(namespace.into()),
        env_path: Some(spec.env_path),
        failed_imports,
        alive: AtomicBool::new(true),
    };
    Ok(Zygote { inner: Arc::new(inner) })
}

/// What a new zygote is sent, and our end of it.
struct PreparedZygote {
    env: OwnedFd,
    control: OwnedFd,
    theirs: OwnedFd,
    cgroup: Cgroup,
}

impl PreparedZygote {
    /// Blocks.
    fn new(shared: &Shared, env_path: &Path) -> Result<PreparedZygote, ZygoteError> {
        let env = read_only(env_path).map_err(zygote_host("open the environment"))?;
        let (control, theirs) = packet_sockets().map_err(zygote_host("make its socket"))?;
        let cgroup = zygote_cgroup(shared).map_err(zygote_host("make its cgroup"))?;
        Ok(PreparedZygote { env, control, theirs, cgroup })
    }
}

fn zygote_error(shared: &Shared, error: ExchangeError) -> ZygoteError {
    match error {
        ExchangeError::Gone => ZygoteError::ParentGone,
        ExchangeError::Refused(reason) => ZygoteError::Unusable { reason },
        ExchangeError::TimedOut => ZygoteError::TimedOut { timeout_ms: shared.settings.fork_timeout_ms },
    }
}

/// Its ids must lie within its parent's user namespace: a zygote of the host's has none of its own.
fn block_below(shared: &Shared, parent: &Zygote) -> Option<Ids> {
    match &parent.inner.user_namespace {
        None => shared.ids.block(shared.settings.uids_per_zygote),
        Some(_) => parent.inner.ids.block((parent.inner.ids.count() / SHARE_OF_PARENT).max(2)),
    }
}

/// Lets it take its steps and import; returns what could not be imported.
async fn imported(
    shared: &Shared,
    process: &Process,
    control: &Control,
    ids: &Ids,
    spec: &ZygoteSpec,
) -> Result<Vec<(String, String)>, ZygoteError> {
    let order = json!({
        "uid": ids.first(),
        "tmp_bytes": shared.settings.tmp_bytes,
        "site_packages": shared.python.site_packages(),
        "imports": spec.imports,
    })
    .to_string();
    let timeout_ms = shared.settings.zygote_timeout_ms;
    let exchange = async {
        control.send(order.as_bytes(), &[]).await?;
        control.report().await
    };
    let report = tokio::time::timeout(Duration::from_millis(timeout_ms), exchange).await;
    let Ok(report) = report.map_err(|_| ZygoteError::TimedOut { timeout_ms })? else {
        let out_of_memory = process.cgroup().is_some_and(|cgroup| cgroup.oom_kills() > 0);
        let reason = if out_of_memory {
            format!(
                "its imports need more than executor.zygote_memory_bytes ({} bytes)",
                shared.settings.zygote_memory_bytes
            )
        } else {
            "its imports ended the process".to_owned()
        };
        return Err(ZygoteError::Unusable { reason });
    };
    if let Some(step) = report.step {
        return Err(ZygoteError::Step { step, reason: report.error });
    }
    if report.threads != 1 {
        let reason = format!("its imports left {} threads running", report.threads.saturating_sub(1));
        return Err(ZygoteError::Unusable { reason });
    }
    Ok(report.failed)
}
