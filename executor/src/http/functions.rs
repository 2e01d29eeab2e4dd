use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};

use super::error::ApiError;
use super::extract::{Name, Params};
use super::{App, body};
use crate::function::Meta;
use crate::logs::Record;

#[derive(Serialize)]
pub(super) struct FunctionList {
    functions: Vec<Meta>,
}

#[derive(Serialize)]
pub(super) struct LogList {
    invocations: Vec<Record>,
}

#[derive(Deserialize)]
pub(super) struct LogQuery {
    limit: Option<usize>,
}

/// `GET /functions`
pub(super) async fn list(State(engine): App) -> Json<FunctionList> {
    let functions = engine.functions.list().iter().map(|function| function.meta.clone()).collect();
    Json(FunctionList { functions })
}

/// `GET /functions/<name>`
pub(super) async fn show(State(engine): App, Name(name): Name) -> Result<Json<Meta>, ApiError> {
    let function = engine.functions.get(&name).ok_or_else(|| ApiError::no_function(name.as_str()))?;
    Ok(Json(function.meta.clone()))
}

/// `PUT /functions/<name>`: 201 for a new name, 200 for a new or the same version of a known one.
pub(super) async fn deploy(
    State(engine): App,
    Name(name): Name,
    headers: HeaderMap,
    request: Body,
) -> Result<(StatusCode, Json<Meta>), ApiError> {
    let settings = &engine.settings.executor;
    let (limit, timeout) = (settings.max_upload_bytes, settings.request_timeout_ms);
    let permit = engine.deployment().await?;
    let upload = body::read(&headers, request, limit, "executor.max_upload_bytes", timeout).await?;
    let worker = engine.clone();
    // A client that hangs up must not leave a deployment half done: it goes on to its end.
    let deployment = async move {
        let _permit = permit;
        worker.deploy(name, upload).await
    };
    let deployed = tokio::spawn(deployment).await;
    let deployed = deployed.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
    let meta = deployed.function.meta.clone();
    tracing::info!(function = %meta.name, version = meta.version, packages = meta.packages.len(), "deployed");
    Ok((if deployed.created { StatusCode::CREATED } else { StatusCode::OK }, Json(meta)))
}

/// `DELETE /functions/<name>`
pub(super) async fn remove(State(engine): App, Name(name): Name) -> Result<StatusCode, ApiError> {
    let removed = tokio::task::block_in_place(|| engine.remove(&name))?;
    if !removed {
        return Err(ApiError::no_function(name.as_str()));
    }
    tracing::info!(function = %name, "removed");
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /functions/<name>/logs?limit=`
pub(super) async fn logs(
    State(engine): App,
    Name(name): Name,
    Params(query): Params<LogQuery>,
) -> Result<Json<LogList>, ApiError> {
    if engine.functions.get(&name).is_none() {
        return Err(ApiError::no_function(name.as_str()));
    }
    let kept = engine.settings.executor.logs_kept_per_function;
    let read = tokio::task::block_in_place(|| engine.logs.last(&name, query.limit.unwrap_or(kept)));
    let invocations = read.map_err(|error| {
        ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "LogsUnreadable",
            format!("the logs of {name} cannot be read: {error}"),
        )
    })?;
    Ok(Json(LogList { invocations }))
}
