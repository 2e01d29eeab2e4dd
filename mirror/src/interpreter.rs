use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use config::Settings;
use pep508_rs::MarkerEnvironment;
use serde::{Deserialize, Serialize};

use crate::tags::{self, TagFacts};
use crate::{Sha256, WheelName};

mod memory;

/// What the interpreter itself is asked to run.
const QUERY: &str = include_str!("../python/interpreter.py");
/// An interpreter that does not answer in this time is not one.
const QUERY_TIMEOUT: Duration = Duration::from_secs(20);
/// Oldest minor version of CPython 3 that is taken.
const OLDEST_MINOR: u8 = 9;

/// A CPython on this machine, as it described itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interpreter {
    /// The executable, symbolic links, shims and virtual environments resolved.
    pub path: PathBuf,
    /// `sys.base_prefix`.
    pub base_prefix: PathBuf,
    /// `sys.base_exec_prefix`.
    pub base_exec_prefix: PathBuf,
    /// Files and folders that hold the standard library, its extension modules included.
    pub stdlib: Vec<PathBuf>,
    /// Folder of `libpython`, where the interpreter is linked to it.
    pub library_dir: Option<PathBuf>,
    /// Major, minor and micro version.
    pub version: (u8, u8, u8),
    /// Middle part of byte code file names, such as `cpython-311`.
    pub cache_tag: String,
    /// Suffix of extension modules, such as `.cpython-311-x86_64-linux-gnu.so`.
    pub extension_suffix: String,
    /// Built without the GIL.
    pub free_threaded: bool,
    /// Wheel tags that run here, best first.
    pub tags: Vec<String>,
    /// Values of the environment markers (PEP 508).
    pub markers: MarkerEnvironment,
}

/// Why there is no usable interpreter.
#[derive(Debug, thiserror::Error)]
pub enum InterpreterError {
    /// Nothing was found where it was looked for.
    #[error("no Python was found: tried {tried}; name a CPython 3.9 or newer with --python (OL_PYTHON)")]
    NotFound {
        /// What was tried.
        tried: String,
    },
    /// What was found does not behave like a Python.
    #[error(
        "{path} does not work as a Python ({reason}); name a CPython 3.9 or newer with --python (OL_PYTHON)"
    )]
    Broken {
        /// The file.
        path: PathBuf,
        /// What happened.
        reason: String,
    },
    /// It is a Python that we do not support.
    #[error(
        "{path} is {found}, but CPython 3.9 or newer on 64-bit Linux is needed; name one with --python (OL_PYTHON)"
    )]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What it is.
        found: String,
    },
}

impl Interpreter {
    /// The interpreter at `python`, or the first `python3` on `PATH`.
    ///
    /// # Errors
    /// None was found, it does not answer, or it is older than CPython 3.9.
    pub fn find(python: Option<&Path>) -> Result<Interpreter, InterpreterError> {
        let path = locate(python)?;
        Answer::of(&path)?.check(&path)
    }

    /// As [`find`](Interpreter::find), for the interpreter of `settings`. What it answered is remembered below the
    /// state folder: asking costs what starting a Python costs.
    ///
    /// # Errors
    /// As [`find`](Interpreter::find).
    pub fn of(settings: &Settings) -> Result<Interpreter, InterpreterError> {
        let path = locate(settings.python.as_deref())?;
        let Some(file) = memory::file(&settings.state_dir("interpreters"), &path) else {
            return Answer::of(&path)?.check(&path);
        };
        if let Some(known) = memory::recall(&file) {
            return Ok(known);
        }
        let found = Answer::of(&path)?.check(&path)?;
        memory::keep(&file, &found);
        Ok(found)
    }

    /// Name of the executable, such as `python3.11`.
    pub fn python_name(&self) -> String {
        format!("python{}.{}{}", self.version.0, self.version.1, if self.free_threaded { "t" } else { "" })
    }

    /// Where packages go below an environment, such as `lib/python3.11/site-packages`.
    pub fn site_packages(&self) -> String {
        format!("lib/{}/site-packages", self.python_name())
    }

    /// The version as text, such as `3.11.7`.
    pub fn version_text(&self) -> String {
        let (major, minor, micro) = self.version;
        format!("{major}.{minor}.{micro}")
    }

    /// How good `wheel` is here: place of its best tag (0 is best), `None` where it cannot run.
    pub fn rank(&self, wheel: &WheelName) -> Option<usize> {
        wheel.tags().filter_map(|tag| self.tags.iter().position(|mine| *mine == tag)).min()
    }

    /// Digest of version and tags: what a resolution and an environment depend on.
    pub fn tags_digest(&self) -> Sha256 {
        Sha256::of(format!("{}\n{}", self.version_text(), self.tags.join("\n")).as_bytes())
    }
}

fn locate(python: Option<&Path>) -> Result<PathBuf, InterpreterError> {
    match python {
        // A bare name is looked up like a command, a path is taken as it is.
        Some(name) if name.components().count() == 1 && !name.exists() => on_path(name),
        Some(path) if path.is_file() => Ok(path.to_path_buf()),
        Some(path) => Err(InterpreterError::NotFound { tried: path.display().to_string() }),
        None => on_path(Path::new("python3")),
    }
}

fn on_path(name: &Path) -> Result<PathBuf, InterpreterError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file()).ok_or_else(|| {
        InterpreterError::NotFound { tried: format!("{} in PATH={}", name.display(), path.display()) }
    })
}

/// What `interpreter.py` prints.
#[derive(Deserialize)]
struct Answer {
    path: PathBuf,
    base_prefix: PathBuf,
    base_exec_prefix: PathBuf,
    stdlib: Vec<PathBuf>,
    library_dir: Option<PathBuf>,
    implementation: String,
    version: (u8, u8, u8),
    cache_tag: Option<String>,
    extension_suffix: Option<String>,
    free_threaded: bool,
    debug: bool,
    machine: String,
    pointer_bytes: u8,
    glibc: Option<(u32, u32)>,
    musl: Option<(u32, u32)>,
    markers: MarkerEnvironment,
}

impl Answer {
    fn of(path: &Path) -> Result<Answer, InterpreterError> {
        let broken = |reason: String| InterpreterError::Broken { path: path.to_path_buf(), reason };
        let text = ask(path).map_err(broken)?;
        serde_json::from_str(&text).map_err(|error| broken(format!("unexpected answer: {error}")))
    }

    fn check(self, path: &Path) -> Result<Interpreter, InterpreterError> {
        let unsupported = |found: String| InterpreterError::Unsupported { path: path.to_path_buf(), found };
        let (major, minor, micro) = self.version;
        if self.implementation != "cpython" {
            return Err(unsupported(format!("{} {major}.{minor}.{micro}", self.implementation)));
        }
        if major != 3 || minor < OLDEST_MINOR {
            return Err(unsupported(format!("Python {major}.{minor}.{micro}")));
        }
        if self.pointer_bytes != 8 {
            return Err(unsupported("a 32-bit Python".to_owned()));
        }
        let tags = tags::supported(TagFacts {
            version: (major, minor),
            free_threaded: self.free_threaded,
            debug: self.debug,
            machine: &self.machine,
            glibc: self.glibc,
            musl: self.musl,
        });
        Ok(Interpreter {
            path: self.path,
            base_prefix: self.base_prefix,
            base_exec_prefix: self.base_exec_prefix,
            stdlib: self.stdlib,
            library_dir: self.library_dir,
            version: self.version,
            cache_tag: self.cache_tag.unwrap_or_else(|| format!("cpython-{major}{minor}")),
            extension_suffix: self.extension_suffix.unwrap_or_else(|| ".so".to_owned()),
            free_threaded: self.free_threaded,
            tags,
            markers: self.markers,
        })
    }
}

/// Runs the query; the reason for a failure is a text for people.
fn ask(path: &Path) -> Result<String, String> {
    let mut child = Command::new(path)
        .args(["-I", "-S", "-c", QUERY])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let (done, outputs) = mpsc::channel();
    let pipes = (child.stdout.take(), child.stderr.take());
    std::thread::spawn(move || {
        let (mut answer, mut complaint) = (String::new(), String::new());
        let read = |pipe: Option<&mut dyn Read>, into: &mut String| {
            pipe.map(|pipe| pipe.take(1 << 20).read_to_string(into)).transpose()
        };
        let (mut stdout, mut stderr) = pipes;
        let all = read(stdout.as_mut().map(|p| p as &mut dyn Read), &mut answer)
            .and(read(stderr.as_mut().map(|p| p as &mut dyn Read), &mut complaint));
        // The receiver is gone only if it has given up waiting.
        let _ = done.send(all.map(|_| (answer, complaint)));
    });
    let outputs = outputs.recv_timeout(QUERY_TIMEOUT);
    if outputs.is_err() {
        child.kill().map_err(|error| error.to_string())?;
    }
    let status = child.wait().map_err(|error| error.to_string())?;
    let (answer, complaint) = outputs
        .map_err(|_| "it did not answer within 20 s".to_owned())?
        .map_err(|error| error.to_string())?;
    if status.success() {
        return Ok(answer);
    }
    Err(format!("{status}: {}", complaint.lines().last().unwrap_or("no message")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_on_path_describes_itself() {
        let python = Interpreter::find(None).unwrap();
        assert!(python.path.is_absolute() && python.path.is_file(), "{python:?}");
        assert!(python.stdlib.iter().any(|dir| dir.join("os.py").is_file()), "{python:?}");
        assert_eq!(python.site_packages(), format!("lib/{}/site-packages", python.python_name()));
        let again: Interpreter = serde_json::from_str(&serde_json::to_string(&python).unwrap()).unwrap();
        assert_eq!(again, python);
    }

    /// pip carries the library whose order is the standard's; where pip is there, ours must be the same list.
    #[test]
    fn tags_are_those_of_the_packaging_library() {
        let python = Interpreter::find(None).unwrap();
        let theirs = Command::new(&python.path)
            .args([
                "-c",
                "from pip._vendor.packaging.tags import sys_tags\nfor tag in sys_tags(): print(tag)",
            ])
            .output()
            .unwrap();
        if !theirs.status.success() {
            // The real standard error: the test harness keeps what macros print.
            let line = b"tags_are_those_of_the_packaging_library ... skipped: needs pip\n";
            std::io::Write::write_all(&mut std::io::stderr(), line).unwrap();
            return;
        }
        let theirs = String::from_utf8(theirs.stdout).unwrap();
        // `cp311-none-any` came to that library late (22.0): older pips do not have it.
        let late = |tag: &&str| !(tag.starts_with("cp") && tag.ends_with("-none-any"));
        let ours: Vec<&str> = python.tags.iter().map(String::as_str).filter(late).collect();
        assert_eq!(ours, theirs.lines().filter(late).collect::<Vec<_>>());
    }

    #[test]
    fn one_that_cannot_be_found_is_named_with_the_flag() {
        let error = Interpreter::find(Some(Path::new("/nonexistent/python3"))).unwrap_err().to_string();
        assert_eq!(
            error,
            "no Python was found: tried /nonexistent/python3; name a CPython 3.9 or newer with --python (OL_PYTHON)"
        );
        let error = Interpreter::find(Some(Path::new("no-such-python"))).unwrap_err().to_string();
        assert!(error.starts_with("no Python was found: tried no-such-python in PATH="), "{error}");
    }

    #[test]
    fn what_is_no_python_is_called_broken() {
        let error = Interpreter::find(Some(Path::new("/bin/false"))).unwrap_err().to_string();
        assert!(error.starts_with("/bin/false does not work as a Python (exit status: 1"), "{error}");
        let error = Interpreter::find(Some(Path::new("/bin/echo"))).unwrap_err().to_string();
        assert!(error.contains("unexpected answer"), "{error}");
        let error = Interpreter::find(Some(Path::new("/etc/passwd"))).unwrap_err().to_string();
        assert!(error.contains("Permission denied"), "{error}");
    }

    #[test]
    fn an_old_python_is_refused_by_version() {
        let mut answer = Answer::of(&Interpreter::find(None).unwrap().path).unwrap();
        answer.version = (3, 8, 1);
        let error = answer.check(Path::new("/usr/bin/python3.8")).unwrap_err().to_string();
        assert_eq!(
            error,
            "/usr/bin/python3.8 is Python 3.8.1, but CPython 3.9 or newer on 64-bit Linux is needed; \
             name one with --python (OL_PYTHON)"
        );
    }
}
