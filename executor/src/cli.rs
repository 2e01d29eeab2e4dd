//! The command line of `ol-exec`: parse, load settings, call.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use config::{CommonArgs, Settings};

use crate::chain::chain;
use crate::name::FunctionName;

mod client;
mod functions;
mod output;
mod pack;
mod run;
mod serve;
mod signals;

use output::Output;

/// Run Python with any packages, isolated, in milliseconds.
#[derive(Parser)]
#[command(name = "ol-exec", version, max_term_width = 100, after_help = AFTER_HELP)]
struct Cli {
    #[command(flatten)]
    common: CommonArgs,
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Examples:
  ol-exec run report.py --month 11      run a script; its PEP 723 header names its packages
  ol-exec serve                         answer HTTP on 127.0.0.1:5000 and a unix socket
  ol-exec deploy hello f.py             deploy a file, a folder, a .zip or a .tar.gz to the running daemon
  ol-exec invoke hello '{\"a\": 1}'       call it
  curl -d '{\"a\": 1}' 127.0.0.1:5000/run/hello

Exit codes: 0 done; 1 the request failed (the reason is on standard error); 2 wrong usage.
`run` ends with the script's own exit code, 128 + n where signal n killed it, 124 where it ran out of time,
137 where it ran out of memory, and 125 where ol-exec could not start it.";

#[derive(Subcommand)]
enum Command {
    /// Run a script in a sandbox, with the packages its PEP 723 header names
    ///
    /// Uses the running daemon if there is one; else sets everything up, runs the script, and takes it all down
    /// again. The sandbox has no network, sees only its packages, and can write to /tmp only.
    Run(run::RunArgs),
    /// Answer HTTP until stopped
    ///
    /// Listens on --listen (127.0.0.1:5000) and on a unix socket in the state folder. SIGINT and SIGTERM end it:
    /// calls under way finish first. The API is described in docs/http.md.
    Serve,
    /// Deploy a function: a Python file, a folder, a .zip or a .tar.gz
    ///
    /// The handler is `f(event)` or `handler(event, context)` in f.py, in app.py, or in the only Python file. Packages
    /// come from pylock.toml, else from the file's PEP 723 header, else from pyproject.toml, else from requirements.txt.
    Deploy {
        /// Its name: 1 to 64 of A-Z a-z 0-9 _ -
        name: FunctionName,
        /// What to upload
        path: PathBuf,
        #[command(flatten)]
        json: JsonArgs,
    },
    /// Call a function and print its reply
    Invoke {
        /// The function
        name: FunctionName,
        /// The event, as JSON; `-` reads it from standard input
        #[arg(default_value = "null")]
        event: String,
    },
    /// List functions
    Ls {
        #[command(flatten)]
        json: JsonArgs,
    },
    /// Remove a function
    Rm {
        /// The function
        name: FunctionName,
    },
    /// Show what a function's calls printed, oldest first
    Logs {
        /// The function
        name: FunctionName,
        /// How many calls
        #[arg(long, default_value_t = 20)]
        limit: usize,
        #[command(flatten)]
        json: JsonArgs,
    },
}

#[derive(Args, Clone, Copy)]
struct JsonArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let default_log = if matches!(cli.command, Command::Serve) { "info" } else { "warn" };
    cli.common.start_logging(default_log);
    config::open_files::raise_limit();
    let settings = match cli.common.load() {
        Ok(settings) => settings,
        Err(error) => return output::failed(&chain(&error), cli.command.failure_code()),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return output::failed(&format!("cannot start: {error}"), cli.command.failure_code()),
    };
    let failure_code = cli.command.failure_code();
    let code = match runtime.block_on(dispatch(cli.command, settings)) {
        Ok(code) => code,
        Err(error) => output::failed(&format!("{error:#}"), failure_code),
    };
    // Whatever still waits (for a read on standard input, say) must not hold up the end.
    runtime.shutdown_background();
    code
}

async fn dispatch(command: Command, settings: Settings) -> anyhow::Result<ExitCode> {
    let out = Output::new();
    match command {
        Command::Run(args) => run::run(settings, args, out).await,
        Command::Serve => serve::serve(settings, out).await,
        Command::Deploy { name, path, json } => {
            functions::deploy(&settings, &name, &path, json.json, out).await
        }
        Command::Invoke { name, event } => functions::invoke(&settings, &name, event, out).await,
        Command::Ls { json } => functions::list(&settings, json.json, out).await,
        Command::Rm { name } => functions::remove(&settings, &name).await,
        Command::Logs { name, limit, json } => functions::logs(&settings, &name, limit, json.json, out).await,
    }
}

impl Command {
    /// A script may end with any code: what is ours must be told apart.
    fn failure_code(&self) -> u8 {
        if matches!(self, Command::Run(_)) { crate::engine::EXIT_FAILED } else { 1 }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_scripts_own_flags_are_not_ours() {
        let cli = Cli::try_parse_from(["ol-exec", "run", "a.py", "--json", "-v", "x"]).unwrap();
        let Command::Run(args) = cli.command else { panic!("not run") };
        assert_eq!(args.args, ["--json", "-v", "x"]);
    }
}
