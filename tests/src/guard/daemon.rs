//! A running `serve` or `mount` of one of our programs.

use std::fs::File;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{TestDir, spawn};
use crate::http::{Call, Reply};

/// Limits for becoming ready and for stopping; a loaded machine takes a while, a broken daemon takes for ever.
const READY: Duration = Duration::from_secs(90);
const STOPPED: Duration = Duration::from_secs(60);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// The daemon; it is stopped when this goes, and its log must then hold no WARN or ERROR that the test did not list.
pub struct Daemon {
    child: Child,
    program: String,
    address: String,
    socket: PathBuf,
    log: PathBuf,
    expected: Vec<String>,
    running: bool,
}

impl Daemon {
    /// Starts `ol-exec serve`, `ol-mirror serve` or `ol-pkgfs mount` in the folder and waits until it answers.
    ///
    /// # Panics
    /// Where it ends, or does not answer in time; the message holds its log.
    pub fn start(program: &str, dir: &TestDir) -> Self {
        Self::spawn(program, dir, &[])
    }

    /// As `start`, with more arguments after the subcommand.
    ///
    /// # Panics
    /// As `start`.
    pub fn spawn(program: &str, dir: &TestDir, arguments: &[&str]) -> Self {
        Self::launch(program, dir, arguments, dir.socket(program))
    }

    /// As `start`, with a unix socket that is not the default one.
    ///
    /// # Panics
    /// As `start`.
    pub fn spawn_at(program: &str, dir: &TestDir, socket: &Path) -> Self {
        let flag = ["--socket", socket.to_str().expect("a path of ASCII")];
        Self::launch(program, dir, &flag, socket.to_owned())
    }

    fn launch(program: &str, dir: &TestDir, arguments: &[&str], socket: PathBuf) -> Self {
        let count = std::fs::read_dir(dir.path()).map_or(0, Iterator::count);
        let log = dir.path().join(format!("{program}-{count}.log"));
        let file = File::create(&log).expect("writing below the test's folder");
        let mut command = dir.command(program);
        command.arg(if program == "ol-pkgfs" { "mount" } else { "serve" });
        if program != "ol-pkgfs" {
            command.args(["--listen", &dir.listen(program).to_string()]);
        }
        command.args(arguments).stdout(Stdio::null()).stderr(file);
        let child = spawn(command).unwrap_or_else(|error| panic!("starting {program}: {error}"));
        let mut daemon = Self {
            child,
            program: program.into(),
            address: dir.listen(program).to_string(),
            socket,
            log,
            expected: Vec::new(),
            running: true,
        };
        daemon.wait_until_ready();
        daemon
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// Its unix socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// `http://<address><path>`
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// A request to it.
    pub fn call(&self, method: &str, path: &str) -> Call {
        Call::new(method, &self.url(path))
    }

    /// Sends a request with a body to it.
    ///
    /// # Panics
    /// Where no whole reply comes back.
    pub fn send(&self, method: &str, path: &str, body: impl Into<Vec<u8>>) -> Reply {
        let reply = self.call(method, path).body(body).send();
        reply.unwrap_or_else(|error| panic!("{method} {path}: {error}; log:\n{}", self.log()))
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Lists a WARN or ERROR that the test means to provoke, by a part of its line.
    pub fn expect_in_log(&mut self, part: &str) {
        self.expected.push(part.into());
    }

    /// SIGTERM; it must end with code 0 and an unsuspicious log.
    ///
    /// # Panics
    /// Where it does not.
    pub fn stop(mut self) {
        let status = self.end(Signal::SIGTERM);
        assert!(status.success(), "{} stopped with {status}; log:\n{}", self.program, self.log());
        self.check_log();
    }

    /// SIGKILL: it can clean up nothing.
    pub fn kill(mut self) {
        self.end(Signal::SIGKILL);
    }

    fn end(&mut self, signal: Signal) -> ExitStatus {
        self.running = false;
        kill(Pid::from_raw(self.pid()), signal).ok();
        if let Some(status) = poll(STOPPED, || self.child.try_wait().ok().flatten()) {
            return status;
        }
        self.child.kill().ok();
        self.child.wait().ok();
        panic!("{} did not end in {STOPPED:?} after {signal}; log:\n{}", self.program, self.log());
    }

    fn wait_until_ready(&mut self) {
        let ended = poll(READY, || match self.child.try_wait().ok().flatten() {
            Some(status) => Some(Some(status)),
            None => self.is_ready().then_some(None),
        });
        match ended {
            Some(None) => {}
            Some(Some(status)) => {
                self.running = false;
                panic!("{} ended at its start with {status}; log:\n{}", self.program, self.log())
            }
            None => panic!("{} was not ready in {READY:?}; log:\n{}", self.program, self.log()),
        }
    }

    fn is_ready(&self) -> bool {
        if self.program == "ol-pkgfs" {
            return UnixStream::connect(&self.socket).is_ok();
        }
        crate::http::get(&self.url("/healthz")).is_ok_and(|reply| reply.status == 200)
    }

    fn check_log(&self) {
        let unlisted: Vec<String> =
            self.log().lines().filter(|line| self.is_unlisted(line)).map(String::from).collect();
        assert!(unlisted.is_empty(), "unlisted in the log of {}:\n{}", self.program, unlisted.join("\n"));
    }

    fn is_unlisted(&self, line: &str) -> bool {
        // The level is the second word; what a handler prints or a field holds does not count.
        let level = line.split_whitespace().nth(1).unwrap_or_default();
        let bad = matches!(level, "WARN" | "ERROR") || line.contains("panicked at");
        bad && !self.expected.iter().any(|part| line.contains(part.as_str()))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if !self.running {
            return;
        }
        if std::thread::panicking() {
            use std::io::Write as _;
            self.running = false;
            kill(Pid::from_raw(self.pid()), Signal::SIGTERM).ok();
            if poll(Duration::from_secs(10), || self.child.try_wait().ok().flatten()).is_none() {
                self.child.kill().ok();
                self.child.wait().ok();
            }
            writeln!(std::io::stderr(), "log of {}:\n{}", self.program, self.log()).ok();
            return;
        }
        let status = self.end(Signal::SIGTERM);
        assert!(status.success(), "{} stopped with {status}; log:\n{}", self.program, self.log());
        self.check_log();
    }
}

/// Asks again, with growing pauses, until there is an answer or the time is over.
pub fn poll<T>(limit: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if Instant::now() > deadline {
            return None;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
