//! Wheels made to order: small, deterministic, and wrong where a test wants them wrong.

mod defect;

use std::fmt::Write as _;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use self::defect::damage;
use crate::extension;
use crate::zip_file::{ZipFile, ZipMember};

pub use self::defect::Defect;

/// Makes one wheel. Methods chain; `build` may be called any number of times and gives the same bytes each time.
#[derive(Clone, Debug)]
pub struct WheelBuilder {
    project: String,
    version: String,
    build_tag: Option<String>,
    tags: [String; 3],
    pure: bool,
    members: Vec<ZipMember>,
    metadata: Vec<String>,
    requires_python: Option<String>,
    scripts: Vec<(&'static str, String, String)>,
    defects: Vec<Defect>,
}

/// A finished wheel.
#[derive(Clone, Debug)]
pub struct BuiltWheel {
    /// `demo-1.0-py3-none-any.whl`
    pub file_name: String,
    /// The whole file.
    pub bytes: Bytes,
    /// Of the whole file, in lower-case hex.
    pub sha256: String,
    /// Normalised name of the project.
    pub project: String,
    /// Version as in the file name.
    pub version: String,
    /// The METADATA member.
    pub metadata: Bytes,
    /// `Requires-Python`, if stated.
    pub requires_python: Option<String>,
}

impl WheelBuilder {
    /// An empty `py3-none-any` wheel: only its dist-info.
    pub fn new(project: &str, version: &str) -> Self {
        Self {
            project: project.into(),
            version: version.into(),
            build_tag: None,
            tags: ["py3", "none", "any"].map(String::from),
            pure: true,
            members: Vec::new(),
            metadata: Vec::new(),
            requires_python: None,
            scripts: Vec::new(),
            defects: Vec::new(),
        }
    }

    /// A package named after the project whose `__init__.py` says `VERSION = "…"` and `def hello(): …`.
    pub fn pure(project: &str, version: &str) -> Self {
        let module = module_name(project);
        let source = format!(
            "VERSION = \"{version}\"\n\n\ndef hello():\n    return \"hello from {project} {version}\"\n"
        );
        Self::new(project, version).file(&format!("{module}/__init__.py"), source)
    }

    /// A package with a compiled module `<package>._native` (`answer()` returns 42), re-exported by the package, in a
    /// `cp39-abi3-manylinux_2_17_<machine>` wheel. Needs a C compiler: see [`crate::skip::needs_compiler`].
    pub fn extension(project: &str, version: &str) -> Self {
        let module = module_name(project);
        let platform = format!("manylinux_2_17_{}", std::env::consts::ARCH);
        let mut wheel = Self::new(project, version)
            .tag("cp39", "abi3", &platform)
            .file(
                &format!("{module}/__init__.py"),
                format!("VERSION = \"{version}\"\nfrom ._native import answer\n"),
            )
            .executable(&format!("{module}/_native.abi3.so"), extension::compile("_native"));
        wheel.pure = false;
        wheel
    }

    /// Sets the three compatibility tags (`py2.py3`, `none`, `any`; sets joined by dots).
    pub fn tag(mut self, python: &str, abi: &str, platform: &str) -> Self {
        self.tags = [python, abi, platform].map(String::from);
        self
    }

    /// Sets the build tag, as in `demo-1.0-2-py3-none-any.whl`.
    pub fn build_tag(mut self, tag: &str) -> Self {
        self.build_tag = Some(tag.into());
        self
    }

    /// Adds a file, mode 0644.
    pub fn file(mut self, path: &str, contents: impl Into<Vec<u8>>) -> Self {
        self.members.push(ZipMember::new(path, contents));
        self
    }

    /// Adds a file, mode 0755.
    pub fn executable(mut self, path: &str, contents: impl Into<Vec<u8>>) -> Self {
        self.members.push(ZipMember { mode: 0o100_755, ..ZipMember::new(path, contents) });
        self
    }

    /// Adds a file to `<dist>.data/<scheme>/`; schemes are purelib, platlib, scripts, headers, data.
    pub fn data(self, scheme: &str, path: &str, contents: impl Into<Vec<u8>>) -> Self {
        let path = format!("{}.data/{scheme}/{path}", self.stem());
        self.executable(&path, contents)
    }

    /// Adds a line to METADATA: `Requires-Dist: <requirement>`.
    pub fn requires(mut self, requirement: &str) -> Self {
        self.metadata.push(format!("Requires-Dist: {requirement}"));
        self
    }

    /// States `Requires-Python`.
    pub fn requires_python(mut self, specifier: &str) -> Self {
        self.requires_python = Some(specifier.into());
        self
    }

    /// Adds a console script; `target` is `module:function`.
    pub fn console_script(mut self, name: &str, target: &str) -> Self {
        self.scripts.push(("console_scripts", name.into(), target.into()));
        self
    }

    /// Adds a GUI script; `target` is `module:function`.
    pub fn gui_script(mut self, name: &str, target: &str) -> Self {
        self.scripts.push(("gui_scripts", name.into(), target.into()));
        self
    }

    /// Makes it wrong in one way more.
    pub fn defect(mut self, defect: Defect) -> Self {
        self.defects.push(defect);
        self
    }

    /// The file name.
    pub fn file_name(&self) -> String {
        let build = self.build_tag.as_ref().map_or(String::new(), |tag| format!("-{tag}"));
        format!("{}{build}-{}.whl", self.stem(), self.tags.join("-"))
    }

    /// The wheel.
    pub fn build(&self) -> BuiltWheel {
        let metadata = self.metadata_text();
        let mut members = self.members.clone();
        members.extend(self.dist_info(&metadata));
        if !self.has(&Defect::NoRecord) {
            let record = self.record(&members);
            members.push(ZipMember::new(&format!("{}/RECORD", self.info()), record));
        }
        let mut archive = ZipFile { members, ..ZipFile::default() };
        for defect in &self.defects {
            damage(&mut archive, defect);
        }
        let mut bytes = archive.bytes();
        if self.has(&Defect::Truncated) {
            bytes.truncate(bytes.len() / 4 * 3);
        }
        BuiltWheel {
            file_name: self.file_name(),
            sha256: hex(&Sha256::digest(&bytes)),
            bytes: bytes.into(),
            project: normalised(&self.project),
            version: self.version.clone(),
            metadata: metadata.into(),
            requires_python: self.requires_python.clone(),
        }
    }

    fn has(&self, defect: &Defect) -> bool {
        self.defects.contains(defect)
    }

    fn stem(&self) -> String {
        format!("{}-{}", module_name(&self.project), self.version)
    }

    fn info(&self) -> String {
        format!("{}.dist-info", self.stem())
    }

    fn metadata_text(&self) -> String {
        let mut text = format!("Metadata-Version: 2.1\nName: {}\nVersion: {}\n", self.project, self.version);
        if let Some(specifier) = &self.requires_python {
            writeln!(text, "Requires-Python: {specifier}").expect("writing to memory");
        }
        for line in &self.metadata {
            text.push_str(line);
            text.push('\n');
        }
        text
    }

    fn dist_info(&self, metadata: &str) -> Vec<ZipMember> {
        let info = self.info();
        let mut members = vec![ZipMember::new(&format!("{info}/METADATA"), metadata)];
        if !self.has(&Defect::NoWheelFile) {
            members.push(ZipMember::new(&format!("{info}/WHEEL"), self.wheel_text()));
        }
        if !self.scripts.is_empty() {
            members.push(ZipMember::new(&format!("{info}/entry_points.txt"), self.entry_points()));
        }
        members
    }

    fn wheel_text(&self) -> String {
        let stated = self.defects.iter().find_map(|defect| match defect {
            Defect::WheelVersion(version) => Some(*version),
            _ => None,
        });
        let mut text = format!(
            "Wheel-Version: {}\nGenerator: ol-tests\nRoot-Is-Purelib: {}\n",
            stated.unwrap_or("1.0"),
            self.pure
        );
        let [pythons, abis, platforms] = &self.tags;
        for python in pythons.split('.') {
            for abi in abis.split('.') {
                for platform in platforms.split('.') {
                    writeln!(text, "Tag: {python}-{abi}-{platform}").expect("writing to memory");
                }
            }
        }
        text
    }

    fn entry_points(&self) -> String {
        let mut text = String::new();
        for group in ["console_scripts", "gui_scripts"] {
            let mut scripts = self.scripts.iter().filter(|script| script.0 == group).peekable();
            if scripts.peek().is_some() {
                writeln!(text, "[{group}]").expect("writing to memory");
            }
            for (_, name, target) in scripts {
                writeln!(text, "{name} = {target}").expect("writing to memory");
            }
        }
        text
    }

    fn record(&self, members: &[ZipMember]) -> String {
        let mut text = String::new();
        for member in members {
            let path = String::from_utf8_lossy(&member.name).into_owned();
            if self.names(&path, Defect::MissingFromRecord) {
                continue;
            }
            let wrong = self.names(&path, Defect::WrongRecordHash);
            let hashed: &[u8] = if wrong { b"other bytes" } else { &member.contents };
            let hash = if self.names(&path, Defect::WeakRecordHash) {
                "md5=1B2M2Y8AsgTpgAmY7PhCfg".into()
            } else if self.names(&path, Defect::StrongRecordHash) {
                format!("sha512={}", base64(&sha2::Sha512::digest(hashed)))
            } else if self.names(&path, Defect::WrongStrongRecordHash) {
                format!("sha512={}", base64(&sha2::Sha512::digest(b"other bytes")))
            } else {
                format!("sha256={}", base64(&Sha256::digest(hashed)))
            };
            let size = member.contents.len() + usize::from(self.names(&path, Defect::WrongRecordSize));
            writeln!(text, "{},{hash},{size}", quoted(&path)).expect("writing to memory");
        }
        for defect in &self.defects {
            if let Defect::ExtraInRecord(path) = defect {
                writeln!(text, "{path},sha256={},0", base64(&Sha256::digest(b"")))
                    .expect("writing to memory");
            }
        }
        writeln!(text, "{}/RECORD,,", self.info()).expect("writing to memory");
        text
    }

    fn names(&self, path: &str, defect: fn(&'static str) -> Defect) -> bool {
        self.defects.iter().any(|found| match found {
            Defect::MissingFromRecord(named)
            | Defect::WrongRecordHash(named)
            | Defect::WeakRecordHash(named)
            | Defect::StrongRecordHash(named)
            | Defect::WrongStrongRecordHash(named)
            | Defect::WrongRecordSize(named) => *named == path && *found == defect(named),
            _ => false,
        })
    }
}

/// `A.b-c` → `a-b-c` (PEP 503).
pub(crate) fn normalised(project: &str) -> String {
    let mut name = String::new();
    for character in project.chars() {
        match character {
            '-' | '_' | '.' if name.ends_with('-') => {}
            '-' | '_' | '.' => name.push('-'),
            _ => name.extend(character.to_lowercase()),
        }
    }
    name
}

fn module_name(project: &str) -> String {
    normalised(project).replace('-', "_")
}

/// RECORD is CSV: names with a comma or a quote are quoted.
fn quoted(path: &str) -> String {
    if path.contains([',', '"']) { format!("\"{}\"", path.replace('"', "\"\"")) } else { path.into() }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to memory");
        text
    })
}

/// URL-safe base64 without padding, as RECORD wants it.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let mut word = [0; 3];
        word[..chunk.len()].copy_from_slice(chunk);
        let bits = u32::from(word[0]) << 16 | u32::from(word[1]) << 8 | u32::from(word[2]);
        for index in 0..=chunk.len() {
            text.push(char::from(ALPHABET[(bits >> (18 - 6 * index) & 63) as usize]));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_wheel_has_the_same_bytes() {
        let builder = WheelBuilder::pure("Demo.Pkg", "1.0").console_script("demo", "demo_pkg:hello");
        let (first, second) = (builder.build(), builder.build());
        assert_eq!(first.sha256, second.sha256);
        assert_eq!(first.file_name, "demo_pkg-1.0-py3-none-any.whl");
        assert_eq!(first.project, "demo-pkg");
    }

    #[test]
    fn names_are_normalised() {
        assert_eq!(normalised("A__b.-C"), "a-b-c");
    }

    #[test]
    fn base64_is_urlsafe_and_unpadded() {
        assert_eq!(base64(b"\xff\xfe\xfd\xfc"), "__79_A");
        assert_eq!(base64(b""), "");
    }

    #[test]
    fn defects_change_what_they_name() {
        let good = WheelBuilder::pure("demo", "1.0");
        for defect in [
            Defect::WrongRecordHash("demo/__init__.py"),
            Defect::DuplicateMember("demo/__init__.py"),
            Defect::ExtraMember("../escape.py"),
            Defect::TrailingData,
            Defect::BadCrc("demo/__init__.py"),
            Defect::LocalNameMismatch("demo/__init__.py"),
            Defect::NoRecord,
        ] {
            assert_ne!(good.clone().defect(defect.clone()).build().sha256, good.build().sha256, "{defect:?}");
        }
    }
}
