//! `ol-exec`: see `executor::cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    // The program is also the first stage of every zygote: that comes before anything else is set up.
    let args: Vec<_> = std::env::args_os().collect();
    executor::sandbox::stage_main(&args).unwrap_or_else(executor::cli::main)
}
