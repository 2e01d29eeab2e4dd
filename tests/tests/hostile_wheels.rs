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
        Defect::DuplicateMember(INIT),
        Defect::ExtraMember("../escape.py"),
        Defect::ExtraMember("/etc/escape"),
        Defect::ExtraMember("demo/../../escape.py"),
        Defect::ExtraMember("demo\\escape.py"),
        Defect::ExtraMember("demo/\0.py"),
        Defect::ExtraMember("demo//twice.py"),
        Defect::ExtraMember("demo/./here.py"),
        Defect::ExtraMember("demo/__init__.py/below_a_file.py"),
        Defect::ExtraMember("C:/escape.py"),
        Defect::ExtraMember(""),
        Defect::Symlink("demo/link", "/etc/passwd"),
        Defect::TrailingData,
        Defect::LeadingData,
        Defect::BadCrc(INIT),
        Defect::LocalNameMismatch(INIT),
        Defect::LocalSizeMismatch(INIT),
        Defect::UnderstatedSize("demo/data.txt"),
        Defect::Encrypted(INIT),
        Defect::UnknownMethod(INIT),
        Defect::Overlap(INIT, "demo/data.txt"),
        Defect::Truncated,
    ];
    let mut read_anyway = Vec::new();
    for defect in defects {
        let BuiltWheel { bytes, .. } = wheel().defect(defect.clone()).build();
        match read(&bytes) {
            Ok(_) => read_anyway.push(format!("{defect:?}")),
            Err(message) => assert!(!message.is_empty()),
        }
    }
    assert!(read_anyway.is_empty(), "{read_anyway:#?}");
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
