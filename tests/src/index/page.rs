//! Project pages in every form, and the metadata of wheels from disk.

use std::fmt::Write as _;
use std::io::{Cursor, Read as _};

use bytes::Bytes;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{File, Mode, State};
use crate::wheel::hex;

pub(super) const JSON_TYPE: &str = "application/vnd.pypi.simple.v1+json";
pub(super) const HTML_TYPE: &str = "application/vnd.pypi.simple.v1+html";

/// A fixed time: pages must not differ between two runs.
const UPLOADED: &str = "2024-01-02T03:04:05.678901Z";

/// The page of a project: content type and body; `None` where the index holds nothing of it.
pub(super) fn project(state: &State, project: &str, accept: &str) -> Option<(String, Bytes)> {
    if let Some((content_type, body)) = state.pages.get(project) {
        return Some((content_type.clone(), body.clone()));
    }
    let files: Vec<&File> = state.files.values().filter(|file| file.project == project).collect();
    if files.is_empty() {
        return None;
    }
    Some(if html_wanted(state.mode, accept) {
        (html_type(state.mode).into(), project_html(state, project, &files).into())
    } else {
        (JSON_TYPE.into(), project_json(state, project, &files).to_string().into())
    })
}

/// The list of projects.
pub(super) fn root(state: &State, accept: &str) -> (String, Bytes) {
    let mut names: Vec<&str> = state.files.values().map(|file| file.project.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    if html_wanted(state.mode, accept) {
        let links = names.iter().fold(String::new(), |mut text, name| {
            writeln!(text, "<a href=\"/simple/{name}/\">{name}</a><br>").expect("writing to memory");
            text
        });
        return (
            html_type(state.mode).into(),
            format!("<!DOCTYPE html><html><body>\n{links}</body></html>").into(),
        );
    }
    let projects: Vec<Value> = names.iter().map(|name| json!({ "name": name })).collect();
    let page = json!({ "meta": { "api-version": version(state.mode) }, "projects": projects });
    (JSON_TYPE.into(), page.to_string().into())
}

/// METADATA of a wheel, read by another ZIP reader than the one under test.
pub(super) fn metadata_of(wheel: &[u8]) -> Option<Bytes> {
    let mut archive = zip::ZipArchive::new(Cursor::new(wheel)).ok()?;
    let name = archive
        .file_names()
        .filter_map(|name| Some(name.ok()?.into_owned()))
        .find(|name| name.ends_with(".dist-info/METADATA"))?;
    let mut text = Vec::new();
    archive.by_name(&name).ok()?.read_to_end(&mut text).ok()?;
    Some(text.into())
}

/// Good enough for the clients that exist: JSON is what all that know it put first.
fn html_wanted(mode: Mode, accept: &str) -> bool {
    mode == Mode::Html || !(accept.contains("+json") || accept.contains("*/*") && !accept.contains("html"))
}

fn html_type(mode: Mode) -> &'static str {
    if mode == Mode::Html { "text/html" } else { HTML_TYPE }
}

fn version(mode: Mode) -> &'static str {
    if mode == Mode::Json14 { "1.4" } else { "1.0" }
}

fn offered<'a>(state: &State, file: &'a File) -> Option<&'a Bytes> {
    file.metadata.as_ref().filter(|_| !state.without_metadata)
}

fn project_json(state: &State, project: &str, files: &[&File]) -> Value {
    let entries: Vec<Value> = files.iter().map(|file| file_json(state, file)).collect();
    let mut page =
        json!({ "meta": { "api-version": version(state.mode) }, "name": project, "files": entries });
    if state.mode == Mode::Json14 {
        let mut versions: Vec<&str> = files.iter().map(|file| file.version.as_str()).collect();
        versions.dedup();
        page["versions"] = json!(versions);
        let status = state.statuses.get(project).map_or("active", String::as_str);
        page["project-status"] = json!({ "status": status });
    }
    page
}

fn file_json(state: &State, file: &File) -> Value {
    let mut entry = json!({
        "filename": file.name,
        "url": format!("../../files/{}", file.name),
        "hashes": { "sha256": file.sha256 },
        "yanked": file.yanked.as_ref().map_or(Value::Bool(false), |reason| reason.as_str().into()),
    });
    if let Some(specifier) = &file.requires_python {
        entry["requires-python"] = specifier.as_str().into();
    }
    if let Some(metadata) = offered(state, file) {
        let key = if state.mode == Mode::Json14 { "core-metadata" } else { "dist-info-metadata" };
        entry[key] = json!({ "sha256": hex(&Sha256::digest(metadata)) });
    }
    if state.mode == Mode::Json14 {
        entry["size"] = file.size.into();
        entry["upload-time"] = UPLOADED.into();
    }
    entry
}

fn project_html(state: &State, project: &str, files: &[&File]) -> String {
    let mut text = format!("<!DOCTYPE html>\n<html><head><title>{project}</title></head><body>\n");
    for file in files {
        write!(text, "<a href=\"../../files/{}#sha256={}\"", file.name, file.sha256)
            .expect("writing to memory");
        if let Some(specifier) = &file.requires_python {
            let escaped = specifier.replace('<', "&lt;").replace('>', "&gt;");
            write!(text, " data-requires-python=\"{escaped}\"").expect("writing to memory");
        }
        if let Some(reason) = &file.yanked {
            write!(text, " data-yanked=\"{reason}\"").expect("writing to memory");
        }
        if let Some(metadata) = offered(state, file) {
            let digest = hex(&Sha256::digest(metadata));
            write!(
                text,
                " data-core-metadata=\"sha256={digest}\" data-dist-info-metadata=\"sha256={digest}\""
            )
            .expect("writing to memory");
        }
        writeln!(text, ">{}</a><br>", file.name).expect("writing to memory");
    }
    text + "</body></html>\n"
}
