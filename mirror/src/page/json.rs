use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;
use url::Url;

use super::{
    CoreMetadata, IndexFile, PageError, ProjectPage, ProjectStatus, check_version, is_file_name, target,
};
use crate::ProjectName;

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Raw {
    #[serde(default)]
    meta: Meta,
    name: Option<String>,
    files: Vec<Entry>,
    project_status: Option<ProjectStatus>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Meta {
    api_version: Option<String>,
    // The specification's own example has it here.
    project_status: Option<ProjectStatus>,
}

/// A file that cannot be read is left out; the others are as good as before.
#[derive(Deserialize)]
#[serde(untagged)]
enum Entry {
    File(Box<RawFile>),
    Unusable(IgnoredAny),
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RawFile {
    filename: String,
    url: String,
    #[serde(default)]
    hashes: BTreeMap<String, String>,
    requires_python: Option<String>,
    core_metadata: Option<Advertised>,
    dist_info_metadata: Option<Advertised>,
    yanked: Option<Yanked>,
    size: Option<u64>,
    upload_time: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Advertised {
    Flag(bool),
    Hashes(BTreeMap<String, String>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Yanked {
    Flag(bool),
    Reason(String),
}

pub(super) fn parse(project: &ProjectName, base: &Url, text: &str) -> Result<ProjectPage, PageError> {
    let raw: Raw = serde_json::from_str(text).map_err(|error| PageError::Json(error.to_string()))?;
    check_version(project, raw.meta.api_version.as_deref().unwrap_or("1.0"))?;
    if let Some(name) = raw.name.filter(|name| name.parse::<ProjectName>().ok().as_ref() != Some(project)) {
        return Err(PageError::OtherProject(name.chars().take(200).collect()));
    }
    let file = |entry: Entry| match entry {
        Entry::File(raw) => raw.read(base),
        Entry::Unusable(_) => None,
    };
    Ok(ProjectPage {
        project: project.clone(),
        files: raw.files.into_iter().filter_map(file).collect(),
        status: raw.project_status.or(raw.meta.project_status).unwrap_or_default(),
    })
}

impl RawFile {
    fn read(self, base: &Url) -> Option<IndexFile> {
        let (url, in_url) = target(base, &self.url)?;
        let hashes = if self.hashes.is_empty() { in_url } else { self.hashes };
        Some(IndexFile {
            url,
            hashes,
            requires_python: self.requires_python.filter(|text| !text.is_empty()),
            core_metadata: match self.core_metadata.or(self.dist_info_metadata) {
                None | Some(Advertised::Flag(false)) => CoreMetadata::Unknown,
                Some(Advertised::Flag(true)) => CoreMetadata::Present,
                Some(Advertised::Hashes(hashes)) => hashes
                    .get("sha256")
                    .and_then(|hex| hex.parse().ok())
                    .map_or(CoreMetadata::Present, CoreMetadata::Sha256),
            },
            yanked: match self.yanked {
                None | Some(Yanked::Flag(false)) => None,
                Some(Yanked::Flag(true)) => Some(String::new()),
                Some(Yanked::Reason(reason)) => Some(reason),
            },
            size: self.size,
            upload_time: self.upload_time,
            filename: Some(self.filename).filter(|name| is_file_name(name))?,
        })
    }
}
