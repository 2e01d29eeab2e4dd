//! The command line of `ol-mirror`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use config::{CommonArgs, ConfigError, Settings};

use crate::repository::RepositoryError;
use crate::serve::ServeError;
use crate::sync::SyncError;
use crate::{IndexError, InterpreterError, LockError, RequirementsError, ResolveError, UpstreamError};

mod progress;
mod serve;
mod sync;

const EXAMPLES: &str = "\
Examples:
  ol-mirror sync numpy 'pandas>=2'         copy two projects and all they depend on
  ol-mirror sync script.py                 copy what a script's header asks for
  ol-mirror sync --plan requirements.txt   show what would be copied
  ol-mirror serve                          serve the copies on 127.0.0.1:5001
  pip install --index-url http://127.0.0.1:5001/simple/ pandas

Exit codes:
  0  done
  1  something failed: a file could not be copied, a socket is in use, a disk is full
  2  what was asked for is wrong: the command line, the requirements, the configuration
  3  the upstream index cannot be reached";

/// Keeps a verified copy of the part of a package index that matters, and serves it to pip and uv
#[derive(Parser, Debug)]
#[command(name = "ol-mirror", version, after_help = EXAMPLES)]
struct Cli {
    #[command(flatten)]
    common: CommonArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Copy releases with all they depend on
    Sync(sync::Args),
    /// Serve the copies: the simple API, files with ranges, METADATA
    Serve,
}

/// Why a command did not succeed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Interpreter(#[from] InterpreterError),
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    #[error(transparent)]
    Requirements(#[from] RequirementsError),
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    Index(#[from] IndexError),
    #[error(transparent)]
    Sync(#[from] SyncError),
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error("{0}")]
    Partly(String),
    #[error("{0} cannot be done")]
    System(&'static str, #[source] std::io::Error),
}

impl Failure {
    fn exit_code(&self) -> u8 {
        let down = match self {
            Failure::Resolve(error) => error.upstream_down(),
            Failure::Index(error) | Failure::Sync(SyncError::Index(error)) => error.upstream_down(),
            _ => false,
        };
        match self {
            _ if down => 3,
            Failure::Resolve(error) if error.is_users() => 2,
            Failure::Config(_)
            | Failure::Interpreter(_)
            | Failure::Upstream(_)
            | Failure::Requirements(_)
            | Failure::Lock(_) => 2,
            _ => 1,
        }
    }
}

/// Parses the command line, runs the command, and says on standard error why it failed.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let default = if matches!(cli.command, Command::Serve) { "info" } else { "warn" };
    cli.common.start_logging(default);
    config::open_files::raise_limit();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            progress::complain(&failure);
            ExitCode::from(failure.exit_code())
        }
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    let settings: Settings = cli.common.load()?;
    let runtime =
        tokio::runtime::Runtime::new().map_err(|source| Failure::System("starting threads", source))?;
    runtime.block_on(async {
        match cli.command {
            Command::Sync(args) => sync::run(&settings, args).await,
            Command::Serve => serve::run(&settings).await,
        }
    })
}
