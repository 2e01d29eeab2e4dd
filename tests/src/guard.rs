//! Folders and daemons of one test, and their removal whatever happens to it.

mod binaries;
mod daemon;
mod spawn;
mod sweep;

use std::ffi::OsStr;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, Once};

pub use self::binaries::binary;
pub(crate) use self::binaries::profile_folder;
pub use self::daemon::{Daemon, poll};
pub use self::spawn::spawn;
use crate::leaks::{Process, Snapshot};
use crate::skip;

/// Start of the names of our folders below the temporary folder.
const PREFIX: &str = "ol-test-";

/// A folder of one test with a state, a mount point and an address of its own. When it goes, nothing that was started
/// in it may be left, or the test fails. Declare it before the daemons, so that it goes after them.
pub struct TestDir {
    path: PathBuf,
    address: Ipv4Addr,
    index: Mutex<Option<String>>,
    config: Mutex<String>,
    leftovers_allowed: AtomicBool,
}

/// What a program that ran to its end did.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Exit code; `None` where a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl TestDir {
    /// Makes one; the first of a process also clears up after test runs that were killed.
    ///
    /// # Panics
    /// Where the temporary folder cannot be written.
    #[expect(clippy::new_without_default, reason = "it makes a folder")]
    pub fn new() -> Self {
        static SWEEP: Once = Once::new();
        static COUNT: AtomicU32 = AtomicU32::new(0);
        SWEEP.call_once(sweep::sweep);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let own = Process::read(std::process::id().cast_signed()).expect("/proc");
        let name = format!("{PREFIX}{}-{}-{count}", own.pid, own.started);
        // Real path: the programs' command lines and the kernel's mount table must show the same one.
        let path = std::env::temp_dir().canonicalize().expect("a temporary folder").join(name);
        for folder in ["state", "mnt"] {
            std::fs::create_dir_all(path.join(folder)).expect("writing below the temporary folder");
        }
        Self {
            path,
            address: address(own.pid, count),
            index: Mutex::default(),
            config: Mutex::default(),
            leftovers_allowed: AtomicBool::new(false),
        }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The state folder that programs are given.
    pub fn state(&self) -> PathBuf {
        self.path.join("state")
    }

    /// The mount point that programs are given.
    pub fn mount(&self) -> PathBuf {
        self.path.join("mnt")
    }

    /// The address a program listens on. All of 127/8 is this machine, so that no two tests ever want the same.
    pub fn listen(&self, program: &str) -> SocketAddr {
        (self.address, if program == "ol-mirror" { 5001 } else { 5000 }).into()
    }

    /// The default unix socket of a program.
    pub fn socket(&self, program: &str) -> PathBuf {
        self.state().join(format!("{program}.sock"))
    }

    /// Gives programs started from now on this upstream index.
    pub fn set_index(&self, url: &str) -> &Self {
        *lock(&self.index) = Some(url.into());
        self
    }

    /// Gives programs started from now on this configuration file.
    pub fn set_config(&self, text: &str) -> &Self {
        *lock(&self.config) = text.into();
        self
    }

    /// Writes a file below the folder and returns its path.
    ///
    /// # Panics
    /// Where it cannot be written.
    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path.join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("writing below the test's folder");
        std::fs::write(&path, contents).expect("writing below the test's folder");
        path
    }

    /// The test means to leave things behind (it kills a daemon and starts no other): they are removed silently.
    pub fn allow_leftovers(&self) {
        self.leftovers_allowed.store(true, Ordering::Relaxed);
    }

    /// One of our programs with the flags that keep it in this folder, and an environment in which no setting of the
    /// user's counts.
    pub fn command(&self, program: &str) -> Command {
        let config = self.write("ol.toml", lock(&self.config).as_bytes());
        let mut command = Command::new(binary(program));
        command.arg("--state").arg(self.state()).arg("--mount").arg(self.mount()).arg("--config").arg(config);
        if let Some(url) = &*lock(&self.index) {
            command.args(["--index-url", url]);
        }
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if ["OL_", "UV_", "PIP_", "RUST_LOG"].iter().any(|prefix| name.starts_with(prefix)) {
                command.env_remove(name);
            }
        }
        if let Some(uv) = skip::uv() {
            let path = std::env::var_os("PATH").unwrap_or_default();
            let folders = uv.parent().map(Path::to_path_buf).into_iter().chain(std::env::split_paths(&path));
            command.env("PATH", std::env::join_paths(folders).expect("folders without a colon"));
        }
        // A proxy of the user's must not get requests for our own loopback index.
        command.env("NO_PROXY", "127.0.0.0/8,localhost");
        command.current_dir(&self.path).stdin(Stdio::null());
        command
    }

    /// Runs one of our programs to its end.
    pub fn run(&self, program: &str, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Finished {
        let mut command = self.command(program);
        command.args(arguments);
        finish(command)
    }

    /// What is left of the programs started in this folder.
    pub fn leftovers(&self) -> Snapshot {
        Snapshot::of(&self.path)
    }
}

impl Drop for TestDir {
    fn drop(&mut self) {
        let left = self.leftovers();
        if sweep::clear(&self.path) {
            std::fs::remove_dir_all(&self.path).ok();
        }
        let quiet = std::thread::panicking() || self.leftovers_allowed.load(Ordering::Relaxed);
        assert!(quiet || left.is_empty(), "left behind by the programs of this test:\n{left}");
    }
}

/// Runs a prepared command to its end; it ends with the test process.
///
/// # Panics
/// Where it cannot be started.
pub fn finish(mut command: Command) -> Finished {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = spawn(command).unwrap_or_else(|error| panic!("starting a program: {error}"));
    let output = child.wait_with_output().expect("waiting for a child");
    Finished {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// 127.x.y.z from the low bits of pid and count, never 127.0.y.z, which other programs use.
fn address(pid: i32, count: u32) -> Ipv4Addr {
    let number = (pid.cast_unsigned() % 0x3fff) << 8 | (count & 0xff);
    let [_, first, second, third] = number.to_be_bytes();
    Ipv4Addr::new(127, first | 0x40, second, third)
}
