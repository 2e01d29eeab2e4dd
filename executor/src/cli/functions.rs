use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use bytes::Bytes;
use config::{Program, Settings};
use hyper::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::Output;
use super::client::Client;
use super::pack;
use crate::function::Meta;
use crate::logs::Record;
use crate::name::FunctionName;

async fn request(settings: &Settings, method: Method, path: &str, body: Bytes) -> anyhow::Result<Bytes> {
    let mut client = Client::connect(&settings.socket_of(Program::Exec)).await?;
    client.request(method, path, body).await?.success()
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> anyhow::Result<T> {
    serde_json::from_slice(body).context("the daemon's answer is not what this version expects")
}

/// `ol-exec deploy`
pub(super) async fn deploy(
    settings: &Settings,
    name: &FunctionName,
    path: &Path,
    json: bool,
    out: Output,
) -> anyhow::Result<ExitCode> {
    let upload = pack::upload(path).with_context(|| format!("cannot read {}", path.display()))?;
    let body = request(settings, Method::PUT, &format!("/functions/{name}"), upload.into()).await?;
    if json {
        out.line(&String::from_utf8_lossy(&body));
        return Ok(ExitCode::SUCCESS);
    }
    let meta: Meta = parse(&body)?;
    out.line(&format!("{name}: {} packages, version {}", meta.packages.len(), short(&meta.version)));
    for warning in meta.warnings {
        out.line(&format!("  warning: {warning}"));
    }
    Ok(ExitCode::SUCCESS)
}

/// `ol-exec invoke`
pub(super) async fn invoke(
    settings: &Settings,
    name: &FunctionName,
    event: String,
    out: Output,
) -> anyhow::Result<ExitCode> {
    let event = if event == "-" {
        let mut text = Vec::new();
        std::io::stdin().read_to_end(&mut text).context("cannot read the event from standard input")?;
        text
    } else {
        event.into_bytes()
    };
    let body = request(settings, Method::POST, &format!("/run/{name}"), event.into()).await?;
    out.line(&String::from_utf8_lossy(&body));
    Ok(ExitCode::SUCCESS)
}

/// `ol-exec ls`
pub(super) async fn list(settings: &Settings, json: bool, out: Output) -> anyhow::Result<ExitCode> {
    #[derive(Deserialize)]
    struct List {
        functions: Vec<Meta>,
    }
    let body = request(settings, Method::GET, "/functions", Bytes::new()).await?;
    if json {
        out.line(&String::from_utf8_lossy(&body));
        return Ok(ExitCode::SUCCESS);
    }
    for meta in parse::<List>(&body)?.functions {
        out.line(&format!("{}  {}  {} packages", meta.name, short(&meta.version), meta.packages.len()));
    }
    Ok(ExitCode::SUCCESS)
}

/// `ol-exec rm`
pub(super) async fn remove(settings: &Settings, name: &FunctionName) -> anyhow::Result<ExitCode> {
    request(settings, Method::DELETE, &format!("/functions/{name}"), Bytes::new()).await?;
    Ok(ExitCode::SUCCESS)
}

/// `ol-exec logs`
pub(super) async fn logs(
    settings: &Settings,
    name: &FunctionName,
    limit: usize,
    json: bool,
    out: Output,
) -> anyhow::Result<ExitCode> {
    #[derive(Deserialize)]
    struct List {
        invocations: Vec<Record>,
    }
    let body = request(settings, Method::GET, &format!("/functions/{name}/logs?limit={limit}"), Bytes::new())
        .await?;
    for record in parse::<List>(&body)?.invocations {
        if json {
            out.line(&serde_json::to_string(&record)?);
        } else {
            show(&record, &out);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn show(record: &Record, out: &Output) {
    let Record { request_id, outcome, start, wall_ms, truncated, .. } = record;
    let cut = if *truncated { ", output cut" } else { "" };
    out.line(&format!("--- {request_id}  {outcome}  {wall_ms} ms, {start}{cut}"));
    let traceback = record.traceback.as_deref().unwrap_or_default();
    for (mark, text) in [("", &*record.stdout), ("! ", &*record.stderr), ("! ", traceback)] {
        for line in text.lines() {
            out.line(&format!("{mark}{line}"));
        }
    }
}

fn short(version: &str) -> &str {
    version.get(..12).unwrap_or(version)
}
