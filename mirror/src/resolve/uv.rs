//! Which uv resolves: one on `PATH` in a version we know, else the pinned wheel, fetched and verified once.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::str::FromStr;

use config::{Settings, UvSettings};
use pep440_rs::{Version, VersionSpecifiers};

use crate::{
    IndexClient, IndexError, Interpreter, ProjectName, RemoteFile, Sha256, WheelName, archive, files,
};

/// Why there is no uv to resolve with.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message says what its fields are")]
pub enum UvError {
    #[error("`known_good` in [mirror.uv] is not a version specifier: {0}")]
    KnownGood(String),
    #[error("no pinned wheel of uv {version} runs on this platform; put a uv {known_good} on PATH")]
    NoWheel { version: String, known_good: String },
    #[error(
        "the index does not offer {filename}; put a uv {known_good} on PATH, or name another index with --index-url"
    )]
    NotOffered { filename: String, known_good: String },
    #[error(
        "uv, which resolves requirements, cannot be fetched; put a uv of a version in mirror.uv.known_good on PATH, or name an index that has uv with --index-url (a mirror of yours: `ol-mirror sync uv`)"
    )]
    Index(#[source] IndexError),
    #[error("the wheel of uv is damaged: {0}")]
    Wheel(String),
    #[error("{path} cannot be written")]
    Write { path: PathBuf, source: std::io::Error },
    #[error("{path} does not run")]
    Run { path: PathBuf, source: std::io::Error },
}

/// The uv to use. `client` is asked for only if one must be fetched.
pub(super) async fn find(
    settings: &Settings,
    interpreter: &Interpreter,
    client: impl Fn() -> Result<IndexClient, IndexError>,
) -> Result<PathBuf, UvError> {
    let uv = &settings.mirror.uv;
    let known_good =
        VersionSpecifiers::from_str(&uv.known_good).map_err(|error| UvError::KnownGood(error.to_string()))?;
    if let Some(found) = on_path(&known_good).await {
        return Ok(found);
    }
    let kept = settings.state_dir("uv").join(&uv.pinned).join("uv");
    if kept.is_file() {
        return Ok(kept);
    }
    fetch(uv, interpreter, &client()?, &kept).await?;
    Ok(kept)
}

async fn on_path(known_good: &VersionSpecifiers) -> Option<PathBuf> {
    for dir in std::env::split_paths(&std::env::var_os("PATH")?) {
        let candidate = dir.join("uv");
        if !candidate.is_file() {
            continue;
        }
        match version_of(&candidate).await {
            Some(version) if known_good.contains(&version) => return Some(candidate),
            version => {
                let version = version.map(|version| version.to_string());
                tracing::info!(uv = %candidate.display(), version, "not a uv we know; looking further");
            }
        }
    }
    None
}

async fn version_of(uv: &Path) -> Option<Version> {
    let mut command = tokio::process::Command::new(uv);
    command.arg("--version").stdin(Stdio::null()).kill_on_drop(true);
    let output =
        tokio::time::timeout(std::time::Duration::from_secs(10), command.output()).await.ok()?.ok()?;
    // "uv 0.13.9 (x86_64-unknown-linux-gnu)"
    std::str::from_utf8(&output.stdout).ok()?.split_whitespace().nth(1)?.parse().ok()
}

async fn fetch(
    uv: &UvSettings,
    interpreter: &Interpreter,
    client: &IndexClient,
    kept: &Path,
) -> Result<(), UvError> {
    let known_good = || uv.known_good.clone();
    let (name, sha256) = best(uv, interpreter)
        .ok_or_else(|| UvError::NoWheel { version: uv.pinned.clone(), known_good: known_good() })?;
    let project = ProjectName::from_str("uv").map_err(|error| UvError::Wheel(error.to_string()))?;
    let page = client.page(&project).await?;
    let file = page.file(name.file_name()).ok_or_else(|| UvError::NotOffered {
        filename: name.file_name().to_owned(),
        known_good: known_good(),
    })?;
    tracing::info!(version = uv.pinned, "fetching uv, which resolves requirements (once)");
    let dir = kept.parent().unwrap_or(Path::new("."));
    let failed = |source| UvError::Write { path: kept.to_path_buf(), source };
    std::fs::create_dir_all(dir).map_err(failed)?;
    let scratch = tempfile::tempdir_in(dir).map_err(failed)?;
    let wheel = scratch.path().join(name.file_name());
    // The hash that counts is the one we ship, whatever the page says.
    let remote = RemoteFile { sha256: Some(sha256), ..file.remote() };
    client.download(&remote, &wheel, &|_| {}).await?;
    let bytes = std::fs::read(&wheel).map_err(failed)?;
    let program = unpack(&bytes, &format!("uv-{}.data/scripts/uv", uv.pinned))?;
    let mut temp = tempfile::NamedTempFile::new_in(dir).map_err(failed)?;
    std::io::Write::write_all(&mut temp, &program).map_err(failed)?;
    // Two processes at once both get here; the second replaces the first's file by an equal one.
    files::commit(temp, kept, 0o755).map_err(failed)
}

fn best(uv: &UvSettings, interpreter: &Interpreter) -> Option<(WheelName, Sha256)> {
    uv.wheels
        .iter()
        .filter_map(|wheel| Some((wheel.filename.parse::<WheelName>().ok()?, wheel.sha256.parse().ok()?)))
        .filter_map(|(name, sha256)| Some((interpreter.rank(&name)?, name, sha256)))
        .min_by_key(|(rank, _, _)| *rank)
        .map(|(_, name, sha256)| (name, sha256))
}

fn unpack(wheel: &[u8], member: &str) -> Result<Vec<u8>, UvError> {
    let bad = |error: archive::ArchiveError| UvError::Wheel(error.to_string());
    let directory = archive::open(wheel, &archive::Limits::default()).map_err(bad)?;
    let missing = || UvError::Wheel(format!("it has no {member}"));
    let found = directory.find(member).ok_or_else(missing)?;
    let Range { start, end } = found.extent;
    let extent = wheel.get(start as usize..end as usize).ok_or_else(missing)?;
    found.unpack(extent).map_err(bad)
}
