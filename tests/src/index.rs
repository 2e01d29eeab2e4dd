//! A package index on loopback, as good or as bad as a test wants it, that remembers what it was asked.

mod answer;
mod page;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

use axum::Router;
use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::sync::{oneshot, watch};

use crate::wheel::{BuiltWheel, hex, normalised};

/// The index. It runs on a thread of its own and ends with this value.
pub struct FakeIndex {
    address: SocketAddr,
    shared: Arc<Shared>,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

/// Which form project pages take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// JSON of API version 1.4 (sizes, upload times, versions, project status), HTML to who prefers it.
    #[default]
    Json14,
    /// JSON of API version 1.0: no sizes, no versions; HTML to who prefers it.
    Json,
    /// HTML whatever was asked for, without sizes.
    Html,
}

/// How answers about one file (or page) go wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Quirk {
    /// 200 and the whole file to a range request.
    NoRanges,
    /// 501 to a range request.
    RangesNotImplemented,
    /// One bit of the file differs from what its hash promises.
    WrongBytes,
    /// This status, with an empty body.
    Status(u16),
    /// As `Status`, with a `Retry-After` of zero seconds.
    RetryAtOnce(u16),
    /// The connection is cut after this many bytes of the body.
    HangUp(usize),
    /// Headers are sent, the body never.
    Stall,
    /// HEAD states half of the file's size.
    LyingHead,
    /// A 206 whose Content-Range names other bytes than were asked for.
    WrongContentRange,
}

/// One request, as it was logged when it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `HEAD`.
    pub method: String,
    /// `/simple/demo/`, `/files/demo-1.0-py3-none-any.whl`, …
    pub path: String,
    /// The Range header as sent.
    pub range: Option<String>,
    /// The Accept header as sent.
    pub accept: Option<String>,
    /// The If-None-Match header as sent.
    pub if_none_match: Option<String>,
}

impl Request {
    /// The last part of the path.
    pub fn file(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }
}

/// Requests for a file wait until this is dropped.
pub struct Hold {
    release: watch::Sender<bool>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.release.send_replace(true);
    }
}

struct Shared {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    mode: Mode,
    without_metadata: bool,
    files: BTreeMap<String, File>,
    /// By file name or by project (its page); how often yet, `None` for always.
    quirks: HashMap<String, Vec<(Quirk, Option<u32>)>>,
    holds: HashMap<String, watch::Receiver<bool>>,
    pages: HashMap<String, (String, Bytes)>,
    statuses: HashMap<String, String>,
    log: Vec<Request>,
}

#[derive(Clone)]
struct File {
    name: String,
    project: String,
    version: String,
    sha256: String,
    size: u64,
    requires_python: Option<String>,
    yanked: Option<String>,
    metadata: Option<Bytes>,
    contents: Contents,
}

#[derive(Clone)]
enum Contents {
    Memory(Bytes),
    Disk(PathBuf),
}

impl FakeIndex {
    /// Serves these wheels, in the newest mode, without quirks.
    pub fn start(wheels: impl IntoIterator<Item = BuiltWheel>) -> Self {
        let shared = Arc::new(Shared { state: Mutex::default() });
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let (address, running) = serve(loopback, &shared);
        let index = Self { address, shared, running: Some(running) };
        for wheel in wheels {
            index.add(wheel);
        }
        index
    }

    /// Serves the wheels of a folder (see [`crate::skip::real_wheels`]), with their metadata.
    pub fn from_folder(folder: &Path) -> Self {
        let index = Self::start([]);
        let entries =
            std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.extension().is_some_and(|extension| extension == "whl") {
                index.insert(File::from_disk(&path));
            }
        }
        index
    }

    /// `http://127.0.0.1:<port>/simple/`
    pub fn url(&self) -> String {
        format!("http://{}/simple/", self.address)
    }

    /// Where a file is served.
    pub fn file_url(&self, file_name: &str) -> String {
        format!("http://{}/files/{file_name}", self.address)
    }

    /// Adds a wheel, or replaces the one of the same name.
    pub fn add(&self, wheel: BuiltWheel) {
        self.insert(File {
            project: wheel.project,
            version: wheel.version,
            sha256: wheel.sha256,
            size: wheel.bytes.len() as u64,
            requires_python: wheel.requires_python,
            yanked: None,
            metadata: Some(wheel.metadata),
            contents: Contents::Memory(wheel.bytes),
            name: wheel.file_name,
        });
    }

    /// Sets the form of project pages.
    pub fn set_mode(&self, mode: Mode) {
        self.state().mode = mode;
    }

    /// Stops offering PEP 658 metadata.
    pub fn without_metadata(&self) {
        self.state().without_metadata = true;
    }

    /// From now on every answer about `name` (a file name, or a project for its page) goes wrong.
    pub fn quirk(&self, name: &str, quirk: Quirk) {
        self.state().quirks.entry(name.into()).or_default().push((quirk, None));
    }

    /// The next `times` answers about `name` go wrong.
    pub fn quirk_times(&self, name: &str, quirk: Quirk, times: u32) {
        self.state().quirks.entry(name.into()).or_default().push((quirk, Some(times)));
    }

    /// Takes every quirk away.
    pub fn clear_quirks(&self) {
        self.state().quirks.clear();
    }

    /// Requests about `name` (as in `quirk`) are logged and then wait for the returned value to be dropped.
    pub fn hold(&self, name: &str) -> Hold {
        let (release, released) = watch::channel(false);
        self.state().holds.insert(name.into(), released);
        Hold { release }
    }

    /// Answers a project's page with these bytes as this content type.
    pub fn page(&self, project: &str, content_type: &str, body: impl Into<Bytes>) {
        self.state().pages.insert(normalised(project), (content_type.into(), body.into()));
    }

    /// Sets a project's status (PEP 792): `quarantined`, `archived`, …
    pub fn status(&self, project: &str, status: &str) {
        self.state().statuses.insert(normalised(project), status.into());
    }

    /// Yanks a file.
    pub fn yank(&self, file_name: &str, reason: &str) {
        if let Some(file) = self.state().files.get_mut(file_name) {
            file.yanked = Some(reason.into());
        }
    }

    /// Every request so far, oldest first.
    pub fn requests(&self) -> Vec<Request> {
        self.state().log.clone()
    }

    /// How many requests fit.
    pub fn count(&self, fits: impl Fn(&Request) -> bool) -> usize {
        self.state().log.iter().filter(|request| fits(request)).count()
    }

    /// How many GET requests for this file were made.
    pub fn gets(&self, file_name: &str) -> usize {
        self.count(|request| request.method == "GET" && request.file() == file_name)
    }

    /// Forgets the requests so far.
    pub fn clear_log(&self) {
        self.state().log.clear();
    }

    /// Goes down: connections are cut, new ones are refused.
    pub fn stop(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            stop.send(()).ok();
            thread.join().ok();
        }
    }

    /// Comes up again, on the same port.
    pub fn restart(&mut self) {
        self.stop();
        self.running = Some(serve(self.address, &self.shared).1);
    }

    fn insert(&self, file: File) {
        self.state().files.insert(file.name.clone(), file);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state()
    }
}

impl Drop for FakeIndex {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl File {
    fn from_disk(path: &Path) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut parts = name.split('-');
        let (project, version) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        Self {
            project: normalised(project),
            version: version.into(),
            sha256: hex(&Sha256::digest(&bytes)),
            size: bytes.len() as u64,
            requires_python: None,
            yanked: None,
            metadata: page::metadata_of(&bytes),
            contents: Contents::Disk(path.into()),
            name,
        }
    }

    fn bytes(&self) -> Bytes {
        match &self.contents {
            Contents::Memory(bytes) => bytes.clone(),
            Contents::Disk(path) => std::fs::read(path).unwrap_or_default().into(),
        }
    }
}

/// Binds at once, so that the address is known, and answers on a thread whose runtime takes every connection along
/// when it ends.
fn serve(address: SocketAddr, shared: &Arc<Shared>) -> (SocketAddr, (oneshot::Sender<()>, JoinHandle<()>)) {
    let listener = std::net::TcpListener::bind(address)
        .unwrap_or_else(|error| panic!("the fake index cannot listen on {address}: {error}"));
    listener.set_nonblocking(true).expect("a socket that can be polled");
    let bound = listener.local_addr().expect("a bound socket");
    let router = Router::new().fallback(answer::answer).with_state(Arc::clone(shared));
    let (stop, stopped) = oneshot::channel();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            let serving = axum::serve(listener, router);
            tokio::select! {
                _ = stopped => {}
                _ = async { serving.await } => {}
            }
        });
    });
    (bound, (stop, thread))
}
