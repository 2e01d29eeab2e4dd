use anyhow::Context;
use config::{Program, Settings};
use mirror::{IndexClient, IndexError, Interpreter, Lock, Requirements, ResolveError, Resolver, index_url};
use tokio::signal::unix::{SignalKind, signal};

use super::output;
use crate::mount::take_away;
use crate::{ControlClient, ControlError, EnvError, Packages, state_lock};

/// What the help says about exit codes.
pub(super) fn exit_code(error: &anyhow::Error) -> u8 {
    for cause in error.chain() {
        if let Some(ControlError::NotRunning { .. }) = cause.downcast_ref() {
            return 4;
        }
        if cause.downcast_ref::<EnvError>().is_some_and(EnvError::upstream_down)
            || cause.downcast_ref::<ControlError>().is_some_and(ControlError::upstream_down)
            || cause.downcast_ref::<ResolveError>().is_some_and(ResolveError::upstream_down)
            || cause.downcast_ref::<IndexError>().is_some_and(IndexError::upstream_down)
        {
            return 3;
        }
    }
    1
}

pub(super) async fn mount(settings: &Settings) -> anyhow::Result<()> {
    // Before anything can need cleaning up.
    let mut interrupt = signal(SignalKind::interrupt()).context("signals cannot be handled")?;
    let mut terminate = signal(SignalKind::terminate()).context("signals cannot be handled")?;
    let interpreter = interpreter(settings).await?;
    let client = client(settings, &interpreter).await?;
    let socket = settings.socket_of(Program::Pkgfs);
    let packages = Packages::serve(settings, client, &socket).await?;
    output::line(&format!("ready: {}", packages.mount_point().display()));
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        () = packages.ended() => tracing::info!("unmounted from outside"),
    }
    packages.close().await;
    Ok(())
}

pub(super) fn umount(settings: &Settings) -> anyhow::Result<()> {
    Ok(take_away(&settings.mount)?)
}

pub(super) async fn status(settings: &Settings, json: bool) -> anyhow::Result<()> {
    let status = control(settings).status().await?;
    if json {
        return output::json(&status);
    }
    output::line(&format!("mount         {}", status.mount.display()));
    output::line(&format!("process       {} (version {})", status.pid, status.version));
    let (kept, limit) = (megabytes(status.store_bytes), megabytes(status.store_max_bytes));
    output::line(&format!("store         {kept} of {limit} MB in {} files", status.store_files));
    output::line(&format!("wheels        {} opened since it started", status.wheels));
    output::line(&format!("environments  {}", status.environments));
    Ok(())
}

fn megabytes(bytes: u64) -> u64 {
    bytes.div_ceil(1_000_000)
}

pub(super) async fn list(settings: &Settings, json: bool) -> anyhow::Result<()> {
    let ids = control(settings).list_envs().await?;
    if json {
        return output::json(&ids);
    }
    ids.iter().for_each(|id| output::line(id));
    Ok(())
}

pub(super) async fn create(settings: &Settings, requirements: &[String], json: bool) -> anyhow::Result<()> {
    let control = control(settings);
    // Before minutes of resolving: is there anybody to make it?
    control.status().await?;
    let interpreter = interpreter(settings).await?;
    let lock = lock(settings, &interpreter, requirements).await?;
    let environment = control.create_env(&lock, &interpreter).await?;
    if json {
        return output::json(&environment);
    }
    output::line(&environment.path.display().to_string());
    Ok(())
}

fn control(settings: &Settings) -> ControlClient {
    let announced = || Some(state_lock::holder(&settings.state)?.socket);
    let path = settings.socket.clone().or_else(announced);
    let path = path.unwrap_or_else(|| settings.default_socket_of(Program::Pkgfs));
    ControlClient::new(&path, &settings.pkgfs)
}

async fn interpreter(settings: &Settings) -> anyhow::Result<Interpreter> {
    let settings = settings.clone();
    Ok(tokio::task::spawn_blocking(move || Interpreter::of(&settings)).await??)
}

async fn client(settings: &Settings, interpreter: &Interpreter) -> anyhow::Result<IndexClient> {
    let (settings, interpreter) = (settings.clone(), interpreter.clone());
    let made = tokio::task::spawn_blocking(move || {
        let index = index_url::upstream(&settings, &interpreter)?;
        anyhow::Ok(IndexClient::new(&settings, &index)?)
    });
    made.await?
}

async fn lock(settings: &Settings, interpreter: &Interpreter, words: &[String]) -> anyhow::Result<Lock> {
    let requirements = Requirements::detect(words)?;
    if let Requirements::Lock(text) = &requirements {
        return Ok(Lock::parse(text)?);
    }
    let (owned, interpreter_too) = (settings.clone(), interpreter.clone());
    let index = tokio::task::spawn_blocking(move || index_url::upstream(&owned, &interpreter_too)).await??;
    let resolver = Resolver::new(settings, index, interpreter.clone());
    Ok(resolver.lock(&requirements).await?)
}
