//! Where the files of a wheel go, as the binary distribution format says of an installer.

use std::fmt::Write;
use std::sync::Arc;

use mirror::{Interpreter, Sha256};

use crate::dist_info::identifier;
use crate::record::write_row;
use crate::tree::{Clash, Content, Draft, Source, Sources, TreeBuilder};
use crate::wheel::{Entry, Trust, Wheel, WheelIndex};

/// The folders of a scheme, each empty or ending in `/`.
#[derive(Clone, Debug)]
pub(crate) struct Scheme {
    library: String,
    scripts: String,
    headers: String,
    data: String,
    links_lib64: bool,
    /// From the library folder back to the root.
    up: String,
}

impl Scheme {
    /// One wheel for itself, as `pip install --target` lays it out: a folder for `sys.path`.
    pub(crate) fn target() -> Scheme {
        Scheme {
            library: String::new(),
            scripts: "bin/".into(),
            headers: "include/".into(),
            data: String::new(),
            links_lib64: false,
            up: String::new(),
        }
    }

    /// A virtual environment.
    pub(crate) fn environment(interpreter: &Interpreter) -> Scheme {
        let python = interpreter.python_name();
        Scheme {
            library: format!("{}/", interpreter.site_packages()),
            scripts: "bin/".into(),
            headers: format!("include/site/{python}/"),
            data: String::new(),
            links_lib64: true,
            up: "../../../".into(),
        }
    }

    /// Where a member goes; `None` for those an installer does not know.
    fn place(&self, path: &str, index: &WheelIndex) -> Option<String> {
        let Some(below) = path.strip_prefix(&index.data_folder()).and_then(|rest| rest.strip_prefix('/'))
        else {
            return Some(format!("{}{path}", self.library));
        };
        let (key, rest) = below.split_once('/')?;
        match key {
            "purelib" | "platlib" => Some(format!("{}{rest}", self.library)),
            "scripts" => Some(format!("{}{rest}", self.scripts)),
            "headers" => Some(format!("{}{}/{rest}", self.headers, index.name.project)),
            // `lib64` is a link to `lib`: an installer that writes through it ends there.
            "data" if self.links_lib64 && rest.starts_with("lib64/") => {
                rest.strip_prefix("lib64/").map(|rest| format!("{}lib/{rest}", self.data))
            }
            "data" => Some(format!("{}{rest}", self.data)),
            _ => None,
        }
    }

    /// A path of the tree as the installed RECORD writes it: relative to the library folder.
    fn recorded(&self, path: &str) -> String {
        path.strip_prefix(&self.library).map_or_else(|| format!("{}{path}", self.up), str::to_owned)
    }
}

/// Puts all files of `wheel` into the tree; gives what clashed with a wheel before it.
pub(crate) fn spread(wheel: &Arc<Wheel>, scheme: &Scheme, tree: &mut TreeBuilder) -> Vec<String> {
    let mut spreading = Spreading { wheel, scheme, tree, record: String::new(), clashes: Vec::new() };
    let info = format!("{}{}", scheme.library, wheel.index.dist_info);
    for (member, entry) in wheel.index.entries.iter().enumerate() {
        if let Some(path) = scheme.place(&entry.member.path, &wheel.index) {
            spreading.put(&path, draft(wheel, member, entry));
        }
    }
    for script in &wheel.index.scripts {
        spreading.put(&format!("{}{}", scheme.scripts, script.name), Draft::text(script.text(), true));
    }
    spreading.put(&format!("{info}/INSTALLER"), Draft::text("ol\n", false));
    let record = format!("{info}/RECORD");
    let rows = std::mem::take(&mut spreading.record) + &write_row(&scheme.recorded(&record), None);
    spreading.put(&record, Draft::text(rows, false));
    spreading.clashes
}

struct Spreading<'a> {
    wheel: &'a Arc<Wheel>,
    scheme: &'a Scheme,
    tree: &'a mut TreeBuilder,
    record: String,
    clashes: Vec<String>,
}

impl Spreading<'_> {
    fn put(&mut self, path: &str, draft: Draft) {
        if let Draft::File { content, size, .. } = &draft {
            let digest = match content {
                Content::Member(source) => Some(source.digest),
                Content::Compiled(code) => Some(code.digest),
                Content::Bytes(bytes) => Some(Sha256::of(bytes)),
                Content::Refused(_) => None,
            };
            let row = write_row(&self.scheme.recorded(path), digest.as_ref().map(|digest| (digest, *size)));
            let _ = self.record.write_str(&row);
        }
        let project = &self.wheel.index.name.project;
        match self.tree.insert(path, draft) {
            None => {}
            Some(Clash::Replaced) => {
                self.clashes.push(format!("{path}: taken from {project}, another wheel has it too"))
            }
            Some(Clash::Kept) => {
                self.clashes.push(format!("{path}: left out of {project}, a file and a folder clash"))
            }
        }
    }
}

fn draft(wheel: &Arc<Wheel>, member: usize, entry: &Entry) -> Draft {
    // What an installer puts into the folder of scripts is executable whatever the archive says.
    let script = entry.member.path.starts_with(&format!("{}/scripts/", wheel.index.data_folder()));
    let executable = script || entry.member.executable();
    if let Some(text) = &entry.relaunched {
        return Draft::text(text.clone(), true);
    }
    let size = entry.member.size;
    let content = match &entry.trust {
        Trust::Sha256(digest) => {
            Content::Member(Sources::new(Source { wheel: wheel.clone(), member, digest: *digest, size }))
        }
        Trust::Refused(why) => {
            let file = wheel.index.name.file_name();
            Content::Refused(format!("{} of {file} is refused: {why}", entry.member.path).into())
        }
    };
    Draft::File { content, size, executable }
}

/// Names that `import` finds at the top of the wheel.
pub(crate) fn top_level(index: &WheelIndex) -> Vec<String> {
    let scheme = Scheme::target();
    let data = index.data_folder();
    let mut names: Vec<String> = index
        .entries
        .iter()
        .filter(|entry| {
            let below = entry.member.path.strip_prefix(&data).and_then(|rest| rest.strip_prefix('/'));
            below.is_none_or(|below| below.starts_with("purelib/") || below.starts_with("platlib/"))
        })
        .filter_map(|entry| scheme.place(&entry.member.path, index))
        .filter_map(|path| importable(&path).map(str::to_owned))
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn importable(path: &str) -> Option<&str> {
    let module = |file: &str| file.ends_with(".py") || file.ends_with(".so") || file.ends_with(".pyc");
    let name = match path.split_once('/') {
        Some((folder, below)) => module(below).then_some(folder)?,
        None => module(path).then(|| path.split('.').next())??,
    };
    identifier(name).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn importable_names() {
        assert_eq!(importable("six.py"), Some("six"));
        assert_eq!(importable("_c.cpython-311-x86_64-linux-gnu.so"), Some("_c"));
        assert_eq!(importable("numpy/core/x.py"), Some("numpy"));
        assert_eq!(importable("numpy.libs/libx.so"), None);
        assert_eq!(importable("a-1.dist-info/METADATA"), None);
        assert_eq!(importable("docs/readme.txt"), None);
    }
}
