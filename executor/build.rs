//! Builds the extension module that zygotes and leaves load. It uses the stable ABI and needs no Python to be built.

use std::path::PathBuf;
use std::process::Command;

fn main() {
    let source = "native/native.c";
    println!("cargo:rerun-if-changed={source}");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("native.abi3.so");
    let compiler = cc::Build::new().opt_level(2).get_compiler();
    let mut command: Command = compiler.to_command();
    let status = command
        .args(["-shared", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror", "-s", "-o"])
        .arg(&out)
        .arg(source)
        .status()
        .unwrap_or_else(|error| panic!("cannot run the C compiler {}: {error}", compiler.path().display()));
    assert!(status.success(), "the C compiler refused {source}");
}
