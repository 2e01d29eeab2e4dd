//! `ol-pkgfs`: parses, loads and calls.

use std::process::ExitCode;

fn main() -> ExitCode {
    pkgfs::cli::main()
}
