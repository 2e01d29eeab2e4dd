//! Copying releases: gather → plan → fetch → verify → commit.
//!
//! [`gather`] collects facts from the lock, the index and the repository; [`plan::plan`] is a pure function of them;
//! [`apply`] does what the plan says and decides nothing.

use std::sync::Arc;

use config::Settings;
use futures_util::StreamExt;

use crate::metadata::{self, MetadataError};
use crate::page::ProjectStatus;
use crate::repository::{HeldFile, Repository, RepositoryError};
use crate::{IndexClient, IndexError, Interpreter, Lock, LockError, ProjectName};

pub mod plan;

pub use plan::{Fetch, Offer, Plan, Wanted, plan};

/// Is told how the copy goes; called from several tasks at once.
pub trait Progress: Sync {
    /// A file is being fetched; `size` where it is known.
    fn started(&self, filename: &str, size: Option<u64>);
    /// So many bytes of it have come.
    fn received(&self, filename: &str, bytes: u64);
    /// It is verified and kept, or it is not.
    fn ended(&self, filename: &str, outcome: Result<u64, &SyncError>);
}

/// Why one file could not be copied, or nothing could.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// The lock does not fit.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The index does not give it.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The repository cannot be read or written.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// What came is not a sound wheel.
    #[error("wheel {filename} is refused")]
    Wheel {
        /// The wheel.
        filename: String,
        /// What is wrong with it.
        source: MetadataError,
    },
    /// The index withholds it.
    #[error("{filename} is no longer offered by the index (its project is {status}); lock other releases")]
    Withdrawn {
        /// The wheel.
        filename: String,
        /// The project's status.
        status: String,
    },
}

/// What a copy came to.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Files that were copied, and their bytes.
    pub fetched: Vec<(String, u64)>,
    /// Files that could not be, and why. All others were.
    pub failed: Vec<(String, SyncError)>,
}

/// What the lock wants, what the index says of it, and what is held.
///
/// # Errors
/// The lock does not fit the interpreter, a page cannot be had, or the repository cannot be read.
pub async fn gather(
    settings: &Settings,
    client: &IndexClient,
    repository: &Repository,
    lock: &Lock,
    interpreter: &Interpreter,
) -> Result<Vec<Wanted>, SyncError> {
    let wheels = lock.wheels(interpreter)?;
    let looked_up = wheels.into_iter().map(|wheel| async move {
        let project = wheel.name.project.clone();
        let page = client.page(&project).await?;
        let held = repository.project(&project)?;
        let on_page = page.file(wheel.name.file_name());
        Ok(Wanted {
            offer: Offer {
                listed: on_page.is_some(),
                status: page.status.clone(),
                size: on_page.and_then(|file| file.size),
                requires_python: on_page.and_then(|file| file.requires_python.clone()),
                yanked: on_page.and_then(|file| file.yanked.clone()),
                upload_time: on_page.and_then(|file| file.upload_time.clone()),
            },
            held_status: held.as_ref().map(|held| held.status.clone()),
            held: held
                .and_then(|held| held.file(wheel.name.file_name()).cloned())
                .filter(|held| repository.is_there(&project, held)),
            wheel,
        })
    });
    let at_once = settings.mirror.concurrent_downloads.max(1);
    let found: Vec<Result<Wanted, SyncError>> =
        futures_util::stream::iter(looked_up).buffered(at_once).collect().await;
    found.into_iter().collect()
}

/// Does what `plan` says. One file that fails does not keep the others from being copied.
///
/// # Errors
/// The repository cannot be written at all.
pub async fn apply(
    settings: &Settings,
    client: &IndexClient,
    repository: &Repository,
    plan: Plan,
    progress: &dyn Progress,
) -> Result<Outcome, SyncError> {
    repository.create()?;
    let scratch = Arc::new(repository.scratch()?);
    let mut outcome = Outcome::default();
    for (project, status, held) in plan.update {
        repository.list(&project, &status, vec![held])?;
    }
    for (project, status) in plan.withdraw {
        withdraw(repository, &project, &status)?;
    }
    outcome.failed.extend(
        plan.refused
            .into_iter()
            .map(|(filename, status)| (filename.clone(), SyncError::Withdrawn { filename, status })),
    );
    let copies = plan.fetch.into_iter().map(|fetch| {
        let scratch = Arc::clone(&scratch);
        async move {
            let filename = fetch.wheel.name.file_name().to_owned();
            let copied = copy(client, repository, &fetch, scratch.path(), progress).await;
            progress.ended(&filename, copied.as_ref().map(|size| *size));
            (filename, copied)
        }
    });
    let mut copies = std::pin::pin!(
        futures_util::stream::iter(copies).buffer_unordered(settings.mirror.concurrent_downloads.max(1))
    );
    while let Some((filename, copied)) = copies.next().await {
        match copied {
            Ok(size) => outcome.fetched.push((filename, size)),
            Err(error) => outcome.failed.push((filename, error)),
        }
    }
    Ok(outcome)
}

/// Looks up every held project and withdraws those that are quarantined by now. For when no lock can be had, which a
/// quarantine may be the reason of: a project that cannot be looked up stays as it is.
///
/// # Errors
/// The repository cannot be read or written.
pub async fn withdraw_quarantined(
    settings: &Settings,
    client: &IndexClient,
    repository: &Repository,
) -> Result<(), SyncError> {
    let looked_up = repository.projects()?.into_iter().map(|project| async move {
        let status = client.page(&project).await.ok().map(|page| page.status.clone());
        (project, status)
    });
    let mut looked_up = std::pin::pin!(
        futures_util::stream::iter(looked_up).buffer_unordered(settings.mirror.concurrent_downloads.max(1))
    );
    while let Some((project, status)) = looked_up.next().await {
        let Some(status) = status.filter(ProjectStatus::is_quarantined) else { continue };
        if repository.project(&project)?.is_some_and(|held| held.status != status) {
            withdraw(repository, &project, &status)?;
        }
    }
    Ok(())
}

fn withdraw(
    repository: &Repository,
    project: &ProjectName,
    status: &ProjectStatus,
) -> Result<(), RepositoryError> {
    repository.list(project, status, Vec::new())?;
    tracing::warn!(%project, status = status.status, "the index withholds this project now; it is offered no more");
    Ok(())
}

async fn copy(
    client: &IndexClient,
    repository: &Repository,
    fetch: &Fetch,
    scratch: &std::path::Path,
    progress: &dyn Progress,
) -> Result<u64, SyncError> {
    let (name, filename) = (&fetch.wheel.name, fetch.wheel.name.file_name());
    let temp = scratch.join(filename);
    progress.started(filename, fetch.file.size);
    let done = client.download(&fetch.file, &temp, &|bytes| progress.received(filename, bytes)).await?;
    let metadata = metadata::of_wheel(&temp, name)
        .map_err(|source| SyncError::Wheel { filename: filename.to_owned(), source })?;
    let held = HeldFile {
        filename: filename.to_owned(),
        version: name.version_text.clone(),
        size: done.size,
        sha256: done.sha256,
        metadata_sha256: crate::Sha256::of(&metadata),
        requires_python: fetch.offer.requires_python.clone(),
        yanked: fetch.offer.yanked.clone(),
        upload_time: fetch.offer.upload_time.clone(),
    };
    let project: &ProjectName = &name.project;
    repository.commit(project, held, &temp, &metadata, &fetch.offer.status)?;
    Ok(done.size)
}
