//! Pages: the project list, a project, and their redirects.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::Arc;

use axum::extract::{Path, RawQuery, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH, LOCATION, VARY};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::Shared;
use super::negotiate::{self, Form};
use crate::repository::{HeldFile, HeldProject, RepositoryError};
use crate::{ProjectName, Sha256};

/// The version whose mandatory keys are all there (size and versions are, from 1.1 on).
const API_VERSION: &str = "1.4";

pub(super) async fn health() -> Response {
    ([(CONTENT_TYPE, "application/json")], "{\"status\":\"ok\"}\n").into_response()
}

pub(super) async fn to_index() -> Response {
    moved("simple/")
}

pub(super) async fn to_project(Path(project): Path<String>) -> Response {
    match project.parse::<ProjectName>() {
        Ok(name) => moved(&format!("{name}/")),
        Err(error) => problem(StatusCode::NOT_FOUND, &error.to_string()),
    }
}

pub(super) async fn index(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    let projects = match shared.repository.projects() {
        Ok(projects) => projects,
        Err(error) => return failed(&error),
    };
    answer(&shared, &headers, query.as_deref(), |form| match form {
        Form::Json => {
            let projects: Vec<Value> = projects.iter().map(|name| json!({ "name": name })).collect();
            json!({ "meta": { "api-version": API_VERSION }, "projects": projects }).to_string()
        }
        Form::Html | Form::TextHtml => {
            let links = projects.iter().map(|name| (format!("{name}/"), String::new(), name.to_string()));
            html("Projects", "", links)
        }
    })
}

pub(super) async fn project(
    State(shared): State<Arc<Shared>>,
    Path(asked): Path<String>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    let name: ProjectName = match asked.parse() {
        Ok(name) => name,
        Err(error) => return problem(StatusCode::NOT_FOUND, &format!("{error}")),
    };
    if name.as_str() != asked {
        return moved(&format!("../{name}/"));
    }
    match shared.repository.project(&name) {
        Ok(Some(held)) => answer(&shared, &headers, query.as_deref(), |form| match form {
            Form::Json => project_json(&held),
            Form::Html | Form::TextHtml => project_html(&held),
        }),
        Ok(None) => problem(
            StatusCode::NOT_FOUND,
            &format!("project {name} is not held here; copy it with `ol-mirror sync {name}`"),
        ),
        Err(error) => failed(&error),
    }
}

fn project_json(held: &HeldProject) -> String {
    let file = |file: &HeldFile| {
        let mut entry = json!({
            "filename": file.filename,
            "url": file_url(&held.name, &file.filename),
            "hashes": { "sha256": file.sha256 },
            "size": file.size,
            "core-metadata": { "sha256": file.metadata_sha256 },
            "yanked": match file.yanked.as_deref() {
                None => Value::Bool(false),
                // An empty reason would read as "not yanked".
                Some("") => Value::Bool(true),
                Some(reason) => json!(reason),
            },
        });
        if let Some(python) = &file.requires_python {
            entry["requires-python"] = json!(python);
        }
        if let Some(time) = &file.upload_time {
            entry["upload-time"] = json!(time);
        }
        entry
    };
    let versions: BTreeSet<&str> = held.files.iter().map(|file| file.version.as_str()).collect();
    json!({
        "meta": { "api-version": API_VERSION },
        "name": held.name,
        "project-status": held.status,
        "versions": versions,
        "files": held.offered().iter().map(file).collect::<Vec<_>>(),
    })
    .to_string()
}

fn project_html(held: &HeldProject) -> String {
    let links = held.offered().iter().map(|file| {
        let mut attributes = String::new();
        let mut attribute = |name: &str, value: &str| {
            // Writing to a String does not fail.
            let _ = write!(attributes, " {name}=\"{}\"", escape(value));
        };
        let metadata = format!("sha256={}", file.metadata_sha256);
        attribute("data-core-metadata", &metadata);
        attribute("data-dist-info-metadata", &metadata);
        if let Some(python) = &file.requires_python {
            attribute("data-requires-python", python);
        }
        if let Some(reason) = &file.yanked {
            attribute("data-yanked", reason);
        }
        let url = format!("{}#sha256={}", file_url(&held.name, &file.filename), file.sha256);
        (url, attributes, file.filename.clone())
    });
    let mut status =
        format!("<meta name=\"pypi:project-status\" content=\"{}\">", escape(&held.status.status));
    if let Some(reason) = &held.status.reason {
        let _ = write!(status, "<meta name=\"pypi:project-status-reason\" content=\"{}\">", escape(reason));
    }
    html(&format!("Links for {}", held.name), &status, links)
}

fn html(title: &str, meta: &str, links: impl Iterator<Item = (String, String, String)>) -> String {
    let mut page = format!(
        "<!DOCTYPE html>\n<html>\n<head><meta name=\"pypi:repository-version\" content=\"{API_VERSION}\">{meta}\
         <title>{title}</title></head>\n<body>\n<h1>{title}</h1>\n"
    );
    for (url, attributes, text) in links {
        let _ = writeln!(page, "<a href=\"{}\"{attributes}>{}</a><br>", escape(&url), escape(&text));
    }
    page + "</body>\n</html>\n"
}

/// Relative, so that it holds behind any prefix and host name.
fn file_url(project: &ProjectName, filename: &str) -> String {
    let mut url = format!("../../files/{project}/");
    for byte in filename.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-' | b'~' | b'!' | b'+' => {
                url.push(byte as char)
            }
            _ => {
                let _ = write!(url, "%{byte:02X}");
            }
        }
    }
    url
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The page in the form the client wants, or 304 if it has it.
fn answer(
    shared: &Shared,
    headers: &HeaderMap,
    query: Option<&str>,
    render: impl Fn(Form) -> String,
) -> Response {
    let Some(form) = negotiate::form(headers, query) else {
        return problem(
            StatusCode::NOT_ACCEPTABLE,
            "pages are application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html or text/html",
        );
    };
    let body = render(form);
    let etag = format!("\"{}\"", Sha256::of(body.as_bytes()));
    let common = [
        (CONTENT_TYPE, form.content_type().to_owned()),
        (VARY, "Accept".to_owned()),
        (ETAG, etag.clone()),
        (CACHE_CONTROL, format!("public, max-age={}", shared.page_max_age_s)),
    ];
    if is_known(headers, &etag) {
        return (StatusCode::NOT_MODIFIED, common).into_response();
    }
    (common, body).into_response()
}

/// Whether `If-None-Match` names `etag`.
pub(super) fn is_known(headers: &HeaderMap, etag: &str) -> bool {
    let values = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == etag)
}

fn moved(to: &str) -> Response {
    (StatusCode::PERMANENT_REDIRECT, [(LOCATION, to)]).into_response()
}

pub(super) fn problem(status: StatusCode, message: &str) -> Response {
    let body = json!({ "error": message }).to_string() + "\n";
    (status, [(CONTENT_TYPE, "application/json"), (VARY, "Accept")], body).into_response()
}

pub(super) fn failed(error: &RepositoryError) -> Response {
    tracing::error!(error = crate::causes(error), "the repository cannot be read");
    problem(StatusCode::INTERNAL_SERVER_ERROR, "the repository cannot be read; the server's log says why")
}
