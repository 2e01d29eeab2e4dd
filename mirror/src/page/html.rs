//! A small reader for PEP 503 pages: finds `<a>`, `<base>` and `<meta>`, and never fails on odd markup.

use url::Url;

use super::{
    CoreMetadata, IndexFile, PageError, ProjectPage, ProjectStatus, check_version, is_file_name, target,
};
use crate::{ProjectName, index_url};

pub(super) fn parse(project: &ProjectName, base: &Url, text: &str) -> Result<ProjectPage, PageError> {
    let mut page =
        ProjectPage { project: project.clone(), files: Vec::new(), status: ProjectStatus::default() };
    let mut base = base.clone();
    let mut based = false;
    for tag in Tags(text) {
        match tag.name.as_str() {
            "base" if !based => {
                if let Some(joined) = tag.attribute("href").and_then(|href| base.join(&href).ok()) {
                    (base, based) = (joined, true);
                }
            }
            "meta" => read_meta(&mut page, &tag)?,
            "a" => page.files.extend(read_link(&base, &tag)),
            _ => {}
        }
    }
    Ok(page)
}

fn read_meta(page: &mut ProjectPage, tag: &Tag<'_>) -> Result<(), PageError> {
    let content = tag.attribute("content").unwrap_or_default();
    match tag.attribute("name").as_deref() {
        Some("pypi:repository-version") => check_version(&page.project, &content)?,
        Some("pypi:project-status") => page.status.status = content,
        Some("pypi:project-status-reason") => page.status.reason = Some(content),
        _ => {}
    }
    Ok(())
}

fn read_link(base: &Url, tag: &Tag<'_>) -> Option<IndexFile> {
    let (url, hashes) = target(base, &tag.attribute("href")?)?;
    let in_url = index_url::file_name(&url);
    // Some indexes link through a redirector; then only the text has the name.
    let filename = if is_distribution(&in_url) { in_url } else { decode(tag.text).trim().to_owned() };
    let advertised = tag.attribute("data-core-metadata").or_else(|| tag.attribute("data-dist-info-metadata"));
    Some(IndexFile {
        filename: Some(filename).filter(|name| is_file_name(name) && is_distribution(name))?,
        url,
        hashes,
        requires_python: tag.attribute("data-requires-python").filter(|text| !text.is_empty()),
        core_metadata: match advertised.as_deref() {
            None | Some("false") => CoreMetadata::Unknown,
            Some(text) => text
                .strip_prefix("sha256=")
                .and_then(|hex| hex.parse().ok())
                .map_or(CoreMetadata::Present, CoreMetadata::Sha256),
        },
        yanked: tag.attribute("data-yanked"),
        size: tag.attribute("data-size").and_then(|text| text.parse().ok()),
        upload_time: tag.attribute("data-upload-time"),
    })
}

fn is_distribution(name: &str) -> bool {
    [".whl", ".tar.gz", ".zip", ".tar.bz2", ".tgz", ".egg", ".tar.xz", ".exe"]
        .iter()
        .any(|suffix| name.len() > suffix.len() && name.ends_with(suffix))
}

/// One start tag, and the text up to the next `<`.
struct Tag<'a> {
    name: String,
    attributes: Vec<(String, &'a str)>,
    text: &'a str,
}

impl Tag<'_> {
    fn attribute(&self, name: &str) -> Option<String> {
        self.attributes.iter().find(|(key, _)| key == name).map(|(_, value)| decode(value))
    }
}

/// Start tags from left to right; reads each byte a bounded number of times.
struct Tags<'a>(&'a str);

impl<'a> Iterator for Tags<'a> {
    type Item = Tag<'a>;

    fn next(&mut self) -> Option<Tag<'a>> {
        loop {
            self.0 = &self.0[self.0.find('<')? + 1..];
            if let Some(comment) = self.0.strip_prefix("!--") {
                self.0 = &comment[comment.find("-->")?..];
                continue;
            }
            let end = self.0.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(self.0.len());
            if end == 0 {
                continue;
            }
            let name = self.0[..end].to_ascii_lowercase();
            self.0 = &self.0[end..];
            let attributes = self.attributes();
            let text = &self.0[..self.0.find('<').unwrap_or(self.0.len())];
            return Some(Tag { name, attributes, text });
        }
    }
}

impl<'a> Tags<'a> {
    /// Reads up to and with the closing `>`.
    fn attributes(&mut self) -> Vec<(String, &'a str)> {
        let mut found = Vec::new();
        loop {
            self.0 = self.0.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '/');
            if self.0.is_empty() {
                return found;
            }
            if let Some(rest) = self.0.strip_prefix('>') {
                self.0 = rest;
                return found;
            }
            // A name has at least one character, so that `=x` cannot hold us here for ever.
            let stop = |c: char| c.is_ascii_whitespace() || matches!(c, '=' | '>' | '/');
            let first = self.0.chars().next().map_or(0, char::len_utf8);
            let end = self.0[first..].find(stop).map_or(self.0.len(), |at| at + first);
            let name = self.0[..end].to_ascii_lowercase();
            self.0 = self.0[end..].trim_start();
            let value = match self.0.strip_prefix('=') {
                Some(rest) => self.value(rest.trim_start()),
                None => "",
            };
            found.push((name, value));
        }
    }

    fn value(&mut self, rest: &'a str) -> &'a str {
        let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''));
        let (value, after) = match quote {
            Some(quote) => rest[1..].split_once(quote).unwrap_or((&rest[1..], "")),
            None => {
                rest.split_at(rest.find(|c: char| c.is_ascii_whitespace() || c == '>').unwrap_or(rest.len()))
            }
        };
        self.0 = after;
        value
    }
}

/// Resolves the character references that real pages have.
fn decode(text: &str) -> String {
    let mut decoded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        decoded.push_str(&rest[..at]);
        rest = &rest[at..];
        // The longest reference we know is `&#x10ffff;`.
        let end = rest.bytes().take(12).position(|c| c == b';');
        match end.and_then(|end| Some((reference(&rest[1..end])?, end))) {
            Some((c, end)) => {
                decoded.push(c);
                rest = &rest[end + 1..];
            }
            None => {
                decoded.push('&');
                rest = &rest[1..];
            }
        }
    }
    decoded + rest
}

fn reference(name: &str) -> Option<char> {
    match name {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                None => number.parse().ok()?,
            };
            char::from_u32(code)
        }
    }
}
