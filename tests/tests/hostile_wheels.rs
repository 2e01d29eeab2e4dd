//! Every way in which the kit can make an archive wrong is noticed by the strict ZIP reader, and nothing that is right
//! is refused.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use mirror::archive::{Limits, open};
use tests::wheel::{BuiltWheel, Defect, WheelBuilder};
use tests::zip_file::{ZipFile, ZipMember};

const INIT: &str = "demo/__init__.py";

fn wheel() -> WheelBuilder {
    WheelBuilder::pure("demo", "1.0")
        .file("demo/data.txt", "some data that is longer than sixteen bytes\n".repeat(9))
}

/// Opens the archive and unpacks every member; the first error's text.
fn read(bytes: &[u8]) -> Result<Vec<(String, Vec<u8>)>, String> {
    let directory = open(bytes, &Limits::default()).map_err(|error| error.to_string())?;
    let unpacked = directory.members().iter().map(|member| {
        let range =
            usize::try_from(member.extent.start).unwrap()..usize::try_from(member.extent.end).unwrap();
        let contents = member.unpack(&bytes[range]).map_err(|error| format!("{}: {error}", member.path))?;
        Ok((member.path.clone(), contents))
    });
    unpacked.collect()
}

#[test]
fn what_is_right_is_read() {
    for built in [
        wheel().build(),
        wheel().console_script("demo", "demo:hello").data("scripts", "tool", "#!python\n").build(),
        wheel().file("demo/é.txt", "name in UTF-8").build(),
        wheel().file("demo/empty.txt", "").build(),
    ] {
        let members = read(&built.bytes).unwrap();
        assert!(members.iter().any(|(path, contents)| path == INIT && contents.starts_with(b"VERSION")));
        assert!(members.iter().any(|(path, _)| path == "demo-1.0.dist-info/RECORD"));
    }
    let members =
        vec![ZipMember::new("a", "one"), ZipMember { stored: true, ..ZipMember::new("b/c", "two") }];
    for zip64 in [false, true] {
        let archive = ZipFile { members: members.clone(), zip64, ..ZipFile::default() };
        assert_eq!(read(&archive.bytes()).unwrap().len(), 2, "zip64: {zip64}");
    }
}

#[test]
fn what_is_wrong_is_refused() {
    let defects = [
        (Defect::DuplicateMember(INIT), "is listed twice"),
        (Defect::ExtraMember("../escape.py"), "member name \"../escape.py\" is refused"),
        (Defect::ExtraMember("/etc/escape"), "member name \"/etc/escape\" is refused"),
        (Defect::ExtraMember("demo/../../escape.py"), "member name \"demo/../../escape.py\" is refused"),
        (Defect::ExtraMember("demo\\escape.py"), "is refused"),
        (Defect::ExtraMember("demo/\0.py"), "is refused"),
        (Defect::ExtraMember("demo//twice.py"), "member name \"demo//twice.py\" is refused"),
        (Defect::ExtraMember("demo/./here.py"), "member name \"demo/./here.py\" is refused"),
        (Defect::ExtraMember("demo/__init__.py/below_a_file.py"), "is both a file and a folder"),
        (Defect::ExtraMember("C:/escape.py"), "member name \"C:/escape.py\" is refused"),
        (Defect::ExtraMember(""), "member name \"\" is refused"),
        (Defect::Symlink("demo/link", "/etc/passwd"), "is a symbolic link"),
        (Defect::TrailingData, "followed by other data"),
        (Defect::LeadingData, "belongs to no member"),
        (Defect::BadCrc(INIT), "has a wrong checksum"),
        (Defect::LocalNameMismatch(INIT), "contradicts the central directory"),
        (Defect::LocalSizeMismatch(INIT), "contradicts the central directory"),
        (Defect::UnderstatedSize("demo/data.txt"), "does not unpack"),
        (Defect::Encrypted(INIT), "is encrypted"),
        (Defect::UnknownMethod(INIT), "which no wheel needs"),
        (Defect::Overlap(INIT, "demo/data.txt"), "overlaps its neighbour"),
        (Defect::Truncated, "no ZIP end record"),
    ];
    let mut wrong = Vec::new();
    for (defect, reason) in defects {
        let BuiltWheel { bytes, .. } = wheel().defect(defect.clone()).build();
        match read(&bytes) {
            Ok(_) => wrong.push(format!("{defect:?} is read")),
            Err(message) if message.contains(reason) => {}
            Err(message) => wrong.push(format!("{defect:?}: {message}")),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn real_wheels_are_read() {
    let Some(folder) = tests::skip::real_wheels(&["numpy", "pandas", "requests"]) else { return };
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".whl") {
            let members = read(&std::fs::read(entry.path()).unwrap());
            assert!(members.as_ref().is_ok_and(|members| members.len() > 3), "{name}: {:?}", members.err());
        }
    }
}
