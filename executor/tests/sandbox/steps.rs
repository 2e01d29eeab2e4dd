//! The order of a leaf's steps, told by a kernel that only takes notes. Needs no root.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

fn run(failing: Option<&str>) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let package = folder.path().join("_ol");
    std::fs::create_dir(&package).unwrap();
    std::fs::write(package.join("__init__.py"), "").unwrap();
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    for name in ["leaf.py", "handler.py", "environment.py"] {
        std::fs::copy(crate_folder.join("python").join(name), package.join(name)).unwrap();
    }
    let python = mirror::Interpreter::find(None).unwrap();
    let output = Command::new(python.path)
        .args(["-I", "-B"])
        .arg(crate_folder.join("tests/sandbox/steps.py"))
        .arg(folder.path())
        .args(failing)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn power_is_given_up_in_the_decided_order() {
    let expected = json!([
        ["set_ids", 1000, 1000],
        ["attach", 13, "/"],
        ["fchdir", 13],
        ["attach", 15, "ol/env"],
        ["attach", 14, "ol/code"],
        ["mount", "tmpfs", "tmp", 6, "size=4096,mode=1777"],
        ["mount", "tmpfs", "dev/shm", 6, "size=4096,mode=1777"],
        ["mount", "proc", "proc", 15, ""],
        ["pivot"],
        ["setsid"],
        ["unshare", 0x0200_0000],
        ["set_hostname", "sandbox"],
        ["limit", 64],
        ["dup2", 11, 1],
        ["dup2", 12, 2],
        ["dup2", 10, 3, false],
        ["close_from", 4],
        ["drop_capabilities"],
        ["no_new_privileges"],
        ["restrict_files"],
        ["filter_calls"],
        ["filter_calls"],
    ]);
    assert_eq!(run(None)["notes"], expected);
}

#[test]
fn a_step_that_fails_is_named_and_no_later_one_is_taken() {
    let seen = run(Some("pivot"));
    assert_eq!(seen["notes"].as_array().unwrap().last(), Some(&json!(["pivot"])));
    let report: Value = serde_json::from_str(seen["sent"].as_str().unwrap()).unwrap();
    assert_eq!(report, json!({"step": "enter_root", "error": "Operation not permitted"}));
}
