use std::io;
use std::path::Path;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::{Engine, LaunchError};
use crate::chain::chain;
use crate::requirements;
use crate::sandbox::{Leaf, LeafKind, LeafSpec, Limits, ScriptOutcome, ScriptResult, Stream};
use crate::zygotes::PackageSet;

/// A script to be run, beside its source.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScriptRequest {
    /// Its file name, for tracebacks and `sys.argv[0]`.
    pub file: String,
    /// `sys.argv[1:]`.
    pub args: Vec<String>,
    /// Wall time; 0 for no limit.
    pub timeout_ms: u64,
    /// Memory; none for the setting.
    pub memory_bytes: Option<u64>,
}

/// What happens while a script is set up and runs.
#[derive(Clone, Debug)]
pub enum ScriptEvent {
    /// A step of the set-up began.
    Progress(String),
    /// It wrote.
    Output(Stream, Bytes),
    /// It is over. The last event.
    End(ScriptEnd),
}

/// How a script ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScriptEnd {
    /// The exit code for whoever started it: the script's own, 128 + signal, 124 for a time-out, 137 for out of
    /// memory, 125 where it was never started.
    pub exit_code: i32,
    /// What went wrong, if it was not the script's own doing.
    pub error: Option<String>,
    /// `fork`, `cold` or none where it was never started.
    pub start: Option<String>,
}

/// Exit code of a failure of ours; scripts rarely use it, and container tools use it the same way.
pub(crate) const EXIT_FAILED: u8 = 125;
const EXIT_TIMED_OUT: i32 = 124;
const EXIT_OUT_OF_MEMORY: i32 = 137;

impl Engine {
    /// Sets a script up and runs it; the last event is [`ScriptEvent::End`]. When the receiver is dropped the sandbox
    /// is killed.
    pub async fn run_script(
        &self,
        request: ScriptRequest,
        source: String,
        events: mpsc::Sender<ScriptEvent>,
    ) {
        let end = tokio::select! {
            end = self.script(request, source, &events) => end,
            () = self.is_halted() => Err(LaunchError::Stopping),
            () = events.closed() => return,
        };
        let end = end.unwrap_or_else(|error| ScriptEnd {
            exit_code: EXIT_FAILED.into(),
            error: Some(chain(&error)),
            start: None,
        });
        // Nobody left to be told is no error.
        let _ = events.send(ScriptEvent::End(end)).await;
    }

    async fn script(
        &self,
        request: ScriptRequest,
        source: String,
        events: &mpsc::Sender<ScriptEvent>,
    ) -> Result<ScriptEnd, LaunchError> {
        let _permit = self.scripts.try_acquire().map_err(|_| LaunchError::TooManyScripts)?;
        let progress = async |text: &str| {
            let _ = events.send(ScriptEvent::Progress(text.to_owned())).await;
        };
        let file = plain_name(&request.file);
        let set = match requirements::of_script(&source, &file)? {
            Some(requirements) => {
                progress("resolving the script's requirements").await;
                let supplied = self.supply(&requirements).await?;
                progress(&format!("{} packages; importing them in a zygote", supplied.packages.len())).await;
                supplied.set
            }
            None => Default::default(),
        };
        let folder = self.script_folder(&file, &source).map_err(LaunchError::Write)?;
        let (leaf, start) = self.launch(&set, self.script_spec(&request, &set, folder.path(), file)).await?;
        progress("running").await;
        let outcome = stream(leaf, events).await;
        Ok(end_of(&outcome, start.as_str()))
    }

    fn script_spec(
        &self,
        request: &ScriptRequest,
        set: &PackageSet,
        folder: &Path,
        file: String,
    ) -> LeafSpec {
        let mut limits = Limits { timeout_ms: request.timeout_ms, ..Limits::from(&self.settings.executor) };
        limits.memory_bytes = request.memory_bytes.unwrap_or(limits.memory_bytes);
        LeafSpec {
            env_path: set.env_path.clone(),
            code_dir: folder.to_path_buf(),
            kind: LeafKind::Script { file, args: request.args.clone() },
            environ: Vec::new(),
            limits,
        }
    }

    /// A folder with the script alone, gone when the guard is dropped. Scripts of a killed run are removed with it.
    fn script_folder(&self, file: &str, source: &str) -> io::Result<tempfile::TempDir> {
        use std::os::unix::fs::PermissionsExt;
        let parent = self.settings.state_dir("run").join("scripts");
        std::fs::create_dir_all(&parent)?;
        let folder = tempfile::tempdir_in(parent)?;
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
        std::fs::write(folder.path().join(file), source)?;
        Ok(folder)
    }
}

/// Runs the script and hands its output on, at the pace of whoever reads.
async fn stream(mut leaf: Leaf, events: &mpsc::Sender<ScriptEvent>) -> ScriptOutcome {
    let (sender, mut receiver) = mpsc::channel(16);
    let hand_on = async {
        while let Some((stream, bytes)) = receiver.recv().await {
            let _ = events.send(ScriptEvent::Output(stream, bytes)).await;
        }
    };
    let (outcome, ()) = tokio::join!(leaf.run_script(sender), hand_on);
    leaf.end().await;
    outcome
}

fn end_of(outcome: &ScriptOutcome, start: &str) -> ScriptEnd {
    let (exit_code, error) = match outcome.result {
        ScriptResult::Exited(code) => (code, None),
        ScriptResult::Killed(signal) => {
            (128 + signal, Some(format!("the script was killed by signal {signal}")))
        }
        ScriptResult::TimedOut => (
            EXIT_TIMED_OUT,
            Some("the script ran longer than its time limit (--timeout) and was killed".to_owned()),
        ),
        ScriptResult::OutOfMemory => {
            let text =
                "the script used more memory than its limit (--memory, executor.memory_bytes) and was killed";
            (EXIT_OUT_OF_MEMORY, Some(text.to_owned()))
        }
    };
    ScriptEnd { exit_code, error, start: Some(start.to_owned()) }
}

/// The last part of a path if it is an ordinary file name: it becomes a file of ours.
fn plain_name(file: &str) -> String {
    let name = Path::new(file).file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let ordinary = !name.is_empty() && name.len() <= 255 && !name.contains('\0');
    if ordinary { name.to_owned() } else { "script.py".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_keeps_its_name_but_never_its_folder() {
        for (given, want) in
            [("a.py", "a.py"), ("../../etc/x.py", "x.py"), ("..", "script.py"), ("", "script.py")]
        {
            assert_eq!(plain_name(given), want);
        }
    }

    #[test]
    fn exit_codes_tell_ours_from_the_scripts() {
        let code = |result| end_of(&ScriptOutcome { result, usage: Default::default() }, "fork").exit_code;
        assert_eq!(code(ScriptResult::Exited(3)), 3);
        assert_eq!(code(ScriptResult::Killed(11)), 139);
        assert_eq!(code(ScriptResult::TimedOut), 124);
        assert_eq!(code(ScriptResult::OutOfMemory), 137);
    }
}
