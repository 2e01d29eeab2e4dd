//! `ol-mirror`: see `ol-mirror --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    mirror::cli::main()
}
