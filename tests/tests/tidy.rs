//! House rules that no lint holds.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::path::{Path, PathBuf};
use std::process::Command;

/// A file longer than this does more than one thing. (The aim is 400; a few tests and tables need more.)
const MAX_LINES: usize = 600;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// What git tracks or would track; a source archive without git has no rules to hold.
fn tracked() -> Vec<PathBuf> {
    let arguments = ["ls-files", "--cached", "--others", "--exclude-standard"];
    let output = Command::new("git").args(arguments).current_dir(root()).output();
    let Some(output) = output.ok().filter(|output| output.status.success()) else {
        tests::skip::skipped("not a git checkout");
        return Vec::new();
    };
    let names = String::from_utf8(output.stdout).unwrap();
    names.lines().map(PathBuf::from).filter(|name| root().join(name).is_file()).collect()
}

fn text(name: &Path) -> Option<String> {
    std::fs::read_to_string(root().join(name)).ok()
}

fn with_extension(wanted: &str) -> Vec<(PathBuf, String)> {
    let fits = |name: &PathBuf| name.extension().is_some_and(|extension| extension == wanted);
    tracked().into_iter().filter(fits).filter_map(|name| Some((name.clone(), text(&name)?))).collect()
}

fn report(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn files_do_one_thing() {
    let mut faults = Vec::new();
    for extension in ["rs", "py", "c"] {
        for (name, text) in with_extension(extension) {
            let lines = text.lines().count();
            if lines > MAX_LINES {
                faults.push(format!("{} has {lines} lines, the limit is {MAX_LINES}", name.display()));
            }
        }
    }
    report(&faults);
}

#[test]
fn every_crate_tells_its_flow_first() {
    let mut faults = Vec::new();
    for crate_name in ["config", "mirror", "pkgfs", "executor", "tests"] {
        let name = PathBuf::from(crate_name).join("src/lib.rs");
        let docs = text(&name).unwrap();
        let docs: Vec<&str> = docs.lines().take_while(|line| line.starts_with("//!")).collect();
        if !docs.iter().any(|line| line.contains("→")) || !docs.iter().any(|line| line.contains("never")) {
            faults.push(format!(
                "{} must open with docs that give the flow (`a → b → c`) and what the crate never does",
                name.display()
            ));
        }
    }
    report(&faults);
}

#[test]
fn what_is_to_do_stands_in_the_plan() {
    let plan = text(Path::new("docs/PLAN.md")).unwrap_or_default();
    let mut faults = Vec::new();
    for extension in ["rs", "py", "c", "toml"] {
        for (name, text) in with_extension(extension) {
            for (number, line) in text.lines().enumerate() {
                let Some((_, after)) = line.split_once(concat!("TO", "DO")) else { continue };
                let owner =
                    after.strip_prefix('(').and_then(|rest| rest.split(')').next()).unwrap_or_default();
                if owner.is_empty() || !plan.contains(owner) {
                    faults.push(format!(
                        "{}:{}: no entry of docs/PLAN.md is named",
                        name.display(),
                        number + 1
                    ));
                }
            }
        }
    }
    report(&faults);
}

#[test]
fn no_place_of_ours_is_named() {
    // No index's host (it comes from the user's pip), no machine of ours. Joined here, or this file would be found.
    let forbidden = [
        concat!("pypi", ".org"),
        concat!("pypi", ".python"),
        concat!("python", "hosted"),
        concat!("/wo", "rk/"),
    ];
    let mut faults = Vec::new();
    for name in tracked().iter().filter(|name| !name.ends_with("Cargo.lock")) {
        let Some(text) = text(name) else { continue };
        for (number, line) in text.lines().enumerate() {
            if let Some(found) = forbidden.iter().find(|word| line.contains(**word)) {
                faults.push(format!("{}:{}: names {found}", name.display(), number + 1));
            }
        }
    }
    report(&faults);
}

#[test]
fn every_setting_is_explained() {
    let mut faults = Vec::new();
    for (name, text) in with_extension("toml") {
        if !name.starts_with("config/default") {
            continue;
        }
        // A comment explains the keys that follow it up to the next blank line.
        let mut explained = false;
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            let is_key = line.split_once('=').is_some_and(|(key, _)| {
                let key = key.trim();
                !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            });
            match line {
                "" => explained = false,
                _ if line.starts_with('#') => explained = true,
                _ if is_key && !explained => {
                    faults.push(format!("{}:{}: no comment says what it does", name.display(), number + 1));
                }
                _ => {}
            }
        }
    }
    report(&faults);
}

#[test]
fn what_the_readme_names_exists() {
    let Some(readme) = text(Path::new("README.md")) else { return };
    let mut faults = Vec::new();
    let ends = |c: char| c.is_whitespace() || "`()[],;:'\"<>".contains(c);
    for word in readme.split(ends) {
        let path = word.split('#').next().unwrap_or_default().trim_end_matches('.');
        let is_ours =
            ["examples/", "docs/", "config/", "tests/", ".ci/"].iter().any(|start| path.starts_with(start));
        let is_document = path.ends_with(".md") && !path.contains("://");
        if (is_ours || is_document) && !path.contains('*') && !root().join(path).exists() {
            faults.push(format!("README.md names {path}, which does not exist"));
        }
    }
    for program in ["ol-exec", "ol-pkgfs", "ol-mirror"] {
        assert!(readme.contains(program), "README.md does not mention {program}");
    }
    assert!(readme.contains("cargo test --workspace"), "README.md does not give the test command");
    report(&faults);
}
