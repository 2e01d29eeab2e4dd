//! Project pages, from JSON or HTML.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use url::Url;

use crate::{ProjectName, RemoteFile, Sha256, WheelName, index_url};

mod html;
mod json;

/// What an index says about one project (PEP 503, 691, 700, 792), read from either form.
#[derive(Clone, Debug, PartialEq)]
pub struct ProjectPage {
    /// The project.
    pub project: ProjectName,
    /// The files it offers; none where it is quarantined.
    pub files: Vec<IndexFile>,
    /// The project's status (PEP 792).
    pub status: ProjectStatus,
}

/// A project's status marker (PEP 792).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectStatus {
    /// `active`, `archived`, `quarantined`, `deprecated`, or what a later API says.
    pub status: String,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl ProjectStatus {
    /// Whether nothing of it may be offered.
    pub fn is_quarantined(&self) -> bool {
        self.status == "quarantined"
    }
}

/// One file of a project page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexFile {
    /// The file's name; never has a `/`.
    pub filename: String,
    /// Where it is, absolute.
    pub url: Url,
    /// Digests by algorithm name.
    pub hashes: BTreeMap<String, String>,
    /// Which Pythons it is for (PEP 345 `Requires-Python`), as the index has it.
    pub requires_python: Option<String>,
    /// Whether its METADATA can be fetched (PEP 658, 714).
    pub core_metadata: CoreMetadata,
    /// Yanked (PEP 592), with the reason, which may be empty.
    pub yanked: Option<String>,
    /// Bytes.
    pub size: Option<u64>,
    /// When it was uploaded, as the index has it (ISO 8601, UTC).
    pub upload_time: Option<String>,
}

/// Whether METADATA stands beside a file at `<url>.metadata`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CoreMetadata {
    /// The index does not say so (it may be there all the same).
    #[default]
    Unknown,
    /// It is there.
    Present,
    /// It is there and has this digest.
    Sha256(Sha256),
}

/// Why a page cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// Neither JSON nor HTML.
    #[error("the answer is neither a JSON nor an HTML project page (content type `{0}`)")]
    Unknown(String),
    /// JSON that is not a project page.
    #[error("the answer is not a JSON project page: {0}")]
    Json(String),
    /// The page of another project.
    #[error("the answer is the page of another project, {0}")]
    OtherProject(String),
    /// A later API.
    #[error(
        "the index speaks version {0} of the simple API and this program 1.x; update ol or name another index"
    )]
    Newer(String),
}

impl Default for ProjectStatus {
    fn default() -> Self {
        ProjectStatus { status: "active".to_owned(), reason: None }
    }
}

impl ProjectPage {
    /// Reads a page that came from `base` (after redirects) with this content type.
    ///
    /// # Errors
    /// It is not a project page, or one of a later API.
    pub fn parse(
        project: &ProjectName,
        base: &Url,
        content_type: &str,
        body: &[u8],
    ) -> Result<ProjectPage, PageError> {
        let text = String::from_utf8_lossy(body);
        let text = text.trim_start_matches('\u{feff}').trim_start();
        // Servers mislabel both ways; the first character does not.
        let mut page = match text.as_bytes().first() {
            Some(b'{') => json::parse(project, base, text)?,
            Some(b'<') => html::parse(project, base, text)?,
            None if content_type.contains("html") => html::parse(project, base, text)?,
            _ if content_type.contains("html") => html::parse(project, base, text)?,
            _ => return Err(PageError::Unknown(content_type.to_owned())),
        };
        if page.status.is_quarantined() {
            page.files.clear();
        }
        Ok(page)
    }

    /// The file of exactly this name.
    pub fn file(&self, filename: &str) -> Option<&IndexFile> {
        self.files.iter().find(|file| file.filename == filename)
    }

    /// The wheels among the files, with their names taken apart.
    pub fn wheels(&self) -> impl Iterator<Item = (WheelName, &IndexFile)> {
        self.files
            .iter()
            .filter_map(|file| Some((file.wheel()?, file)))
            .filter(|(n, _)| n.project == self.project)
    }
}

impl IndexFile {
    /// Its SHA-256 digest, where the index has a well-formed one.
    pub fn sha256(&self) -> Option<Sha256> {
        self.hashes.get("sha256")?.parse().ok()
    }

    /// Its name as a wheel's, if it is one.
    pub fn wheel(&self) -> Option<WheelName> {
        self.filename.parse().ok()
    }

    /// What the client fetches.
    pub fn remote(&self) -> RemoteFile {
        RemoteFile { url: self.url.clone(), sha256: self.sha256(), size: self.size }
    }
}

/// Checks an API version (PEP 629): a newer major is refused, a newer minor only mentioned.
fn check_version(project: &ProjectName, version: &str) -> Result<(), PageError> {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().ok());
    match (parts.next().flatten(), parts.next().flatten()) {
        (Some(1), Some(minor)) if minor > 4 => {
            tracing::warn!(%project, version, "the index speaks a newer simple API than 1.4; going on");
        }
        (Some(major), _) if major > 1 => return Err(PageError::Newer(version.to_owned())),
        _ => {}
    }
    Ok(())
}

/// File name and absolute URL of a link; `None` where there is no such file to have.
fn target(base: &Url, href: &str) -> Option<(Url, BTreeMap<String, String>)> {
    let mut url = base.join(href.trim()).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
    let fragment = url.fragment().map(index_url::percent_decode).unwrap_or_default();
    url.set_fragment(None);
    let hashes = fragment
        .split('&')
        .filter_map(|part| part.split_once('='))
        .filter(|(algorithm, value)| *algorithm != "egg" && value.bytes().all(|c| c.is_ascii_hexdigit()))
        .map(|(algorithm, value)| (algorithm.to_owned(), value.to_ascii_lowercase()))
        .collect();
    Some((url, hashes))
}

fn is_file_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= 255 && name != "." && name != ".." && !name.contains(['/', '\\', '\0'])
}

#[cfg(test)]
mod tests;
