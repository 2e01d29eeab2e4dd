//! The command line of `ol-pkgfs`: one function a command.

mod arguments;
mod commands;
mod output;

use std::process::ExitCode;

use clap::Parser;

use arguments::{Arguments, Command, EnvCommand};

/// Parses the command line and runs the command; errors go to standard error, the cause chain on one line.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    arguments.common.start_logging("warn,pkgfs=info,mirror=info");
    config::open_files::raise_limit();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::error(&error);
            ExitCode::from(commands::exit_code(&error))
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let settings = arguments.common.load()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let done = runtime.block_on(async {
        match &arguments.command {
            Command::Mount => commands::mount(&settings).await,
            Command::Umount => commands::umount(&settings),
            Command::Status { json } => commands::status(&settings, *json).await,
            Command::Env(EnvCommand::Create { requirements, file, json }) => {
                let words = file.as_ref().map_or(&**requirements, std::slice::from_ref);
                commands::create(&settings, words, *json).await
            }
            Command::Env(EnvCommand::List { json }) => commands::list(&settings, *json).await,
        }
    });
    // A fetch that hangs must not keep the process.
    runtime.shutdown_background();
    done
}
