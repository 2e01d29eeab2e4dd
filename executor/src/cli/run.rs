use std::path::PathBuf;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use config::{Program, Settings};
use tokio::sync::{mpsc, oneshot};

use super::client::Client;
use super::signals::Signals;
use super::{Output, output};
use crate::engine::{Engine, ScriptEnd, ScriptEvent, ScriptRequest};
use crate::http::{self, Listeners};
use crate::sandbox::Stream;
use crate::state_lock::{StateLock, StateLockError};

#[derive(Args)]
pub(super) struct RunArgs {
    /// Kill the script after this many seconds [default: never]
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<f64>,
    /// Memory the script may use, in bytes [default: executor.memory_bytes]
    #[arg(long, value_name = "BYTES")]
    memory: Option<u64>,
    /// The script
    script: PathBuf,
    /// Its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(super) args: Vec<String>,
}

/// How long a run waits for another ol-exec that is starting up or going down to answer or let go.
const PATIENCE: Duration = Duration::from_secs(60);

/// `ol-exec run`
pub(super) async fn run(settings: Settings, args: RunArgs, mut out: Output) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::catch()?;
    let source = std::fs::read_to_string(&args.script)
        .with_context(|| format!("cannot read the script {}", args.script.display()))?;
    let request = request(&args)?;
    let way = tokio::select! {
        way = way(&settings, &mut out) => way?,
        signal = signals.next() => return Ok(ExitCode::from(128 + signal)),
    };
    let mut printer = Printer { out, signals };
    match way {
        Way::Daemon(client) => through_daemon(client, &request, &source, &mut printer).await,
        Way::Here(lock) => here(settings, *lock, request, source, &mut printer).await,
    }
}

fn request(args: &RunArgs) -> anyhow::Result<ScriptRequest> {
    let timeout = args.timeout.unwrap_or(0.0);
    let Ok(timeout) = Duration::try_from_secs_f64(timeout) else {
        bail!("--timeout {timeout} is not a number of seconds");
    };
    Ok(ScriptRequest {
        file: args.script.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        args: args.args.clone(),
        timeout_ms: timeout.as_millis() as u64,
        memory_bytes: args.memory,
    })
}

enum Way {
    Daemon(Client),
    Here(Box<StateLock>),
}

/// A daemon that answers, else the right to do it here. Neither is to be had while another process of this state
/// folder starts up or goes down: that passes.
async fn way(settings: &Settings, out: &mut Output) -> anyhow::Result<Way> {
    let socket = settings.socket_of(Program::Exec);
    let begun = Instant::now();
    loop {
        if let Ok(client) = Client::connect(&socket).await {
            return Ok(Way::Daemon(client));
        }
        match StateLock::take(&settings.state) {
            Ok(lock) => return Ok(Way::Here(Box::new(lock))),
            Err(StateLockError::Taken { .. }) if begun.elapsed() < PATIENCE => {
                out.progress("waiting for another ol-exec that uses the same state folder");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Hanging up, as a signal makes us do, kills the script in the daemon.
async fn through_daemon(
    client: Client,
    request: &ScriptRequest,
    source: &str,
    printer: &mut Printer,
) -> anyhow::Result<ExitCode> {
    let (sender, receiver) = mpsc::channel(16);
    let mut printing = pin!(printer.print(receiver));
    let code = tokio::select! {
        code = &mut printing => code,
        sent = client.script(request, source, sender) => {
            sent?;
            printing.await
        }
    };
    code.context("ol-exec serve went away before the script had ended")
}

/// A daemon for the length of this run: it answers the unix socket, so that runs beside it share what it has. Whatever
/// happens once it has started, it is taken down in order.
async fn here(
    settings: Settings,
    lock: StateLock,
    request: ScriptRequest,
    source: String,
    printer: &mut Printer,
) -> anyhow::Result<ExitCode> {
    printer.out.progress("starting: mounting packages, preparing sandboxes");
    let engine = Engine::start(settings.clone(), lock, None).await?;
    let guard = StopGuard::new(settings, engine.clone()).await;
    let (sender, receiver) = mpsc::channel(16);
    let ((), code) = tokio::join!(engine.run_script(request, source, sender), printer.print(receiver));
    guard.stop().await;
    code.context("the script's end was lost")
}

/// The socket of an in-process run, and the take-down after it.
struct StopGuard {
    engine: Arc<Engine>,
    stop: oneshot::Sender<()>,
    served: tokio::task::JoinHandle<()>,
}

impl StopGuard {
    async fn new(settings: Settings, engine: Arc<Engine>) -> StopGuard {
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = engine.clone();
        let served = tokio::spawn(async move {
            // A socket that cannot be bound costs others the sharing, and this run nothing.
            match Listeners::bind(&settings, false).await {
                Ok(listeners) => {
                    let routers = (http::router(serving.clone()), http::local_router(serving.clone()));
                    let (stop, hurry) = (async { drop(stopped.await) }, std::future::pending());
                    listeners.serve(&settings, routers, stop, hurry, || serving.halt()).await;
                }
                Err(error) => tracing::debug!(%error, "this run cannot be shared"),
            }
        });
        StopGuard { engine, stop, served }
    }

    async fn stop(self) {
        let _ = self.stop.send(());
        let _ = self.served.await;
        self.engine.stop().await;
    }
}

struct Printer {
    out: Output,
    signals: Signals,
}

impl Printer {
    /// Prints events until the end; `None` where the end never came. A signal ends it, and so does output that nobody
    /// reads, as SIGPIPE would; the events' sender then sees its receiver gone.
    async fn print(&mut self, mut events: mpsc::Receiver<ScriptEvent>) -> Option<ExitCode> {
        loop {
            let event = tokio::select! {
                event = events.recv() => event?,
                signal = self.signals.next() => return Some(ExitCode::from(128 + signal)),
            };
            match event {
                ScriptEvent::Progress(text) => self.out.progress(&text),
                ScriptEvent::Output(Stream::Stdout, bytes) => {
                    if !self.out.stdout(&bytes) {
                        return Some(ExitCode::from(128 + SIGPIPE));
                    }
                }
                ScriptEvent::Output(Stream::Stderr, bytes) => self.out.stderr(&bytes),
                ScriptEvent::End(end) => return Some(self.end(&end)),
            }
        }
    }

    fn end(&mut self, end: &ScriptEnd) -> ExitCode {
        self.out.clear();
        let code = u8::try_from(end.exit_code & 0xff).unwrap_or(1);
        match &end.error {
            Some(error) => output::failed(error, code),
            None => ExitCode::from(code),
        }
    }
}

const SIGPIPE: u8 = 13;
