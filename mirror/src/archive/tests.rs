use std::io::{Cursor, Read, Write};

use proptest::prelude::*;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::*;

fn build(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (index, (name, bytes)) in files.iter().enumerate() {
        let method = if index % 2 == 0 { CompressionMethod::Deflated } else { CompressionMethod::Stored };
        let options = SimpleFileOptions::default().compression_method(method).unix_permissions(0o755);
        writer.start_file(*name, options).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn member_bytes(archive: &[u8], member: &Member) -> Result<Vec<u8>, ArchiveError> {
    member.unpack(fields::slice(archive, member.extent.clone()).unwrap())
}

fn refused(archive: &[u8]) -> ArchiveError {
    open(archive, &Limits::default()).unwrap_err()
}

/// Every position at which `needle` stands in `bytes`.
fn positions(bytes: &[u8], needle: &[u8]) -> Vec<usize> {
    (0..bytes.len()).filter(|at| bytes[*at..].starts_with(needle)).collect()
}

#[test]
fn what_was_packed_comes_out() {
    let archive = build(&[("a/b.py", b"print()\n"), ("a/c.so", &[7; 100_000]), ("empty", b"")]);
    let directory = open(&archive, &Limits::default()).unwrap();
    let found: Vec<_> = directory
        .members()
        .iter()
        .map(|member| (member.path.as_str(), member_bytes(&archive, member).unwrap()))
        .collect();
    assert_eq!(found, [("a/b.py", b"print()\n".to_vec()), ("a/c.so", vec![7; 100_000]), ("empty", vec![])]);
    assert!(directory.find("a/c.so").unwrap().executable());
}

#[test]
fn the_directory_is_found_from_the_tail_alone() {
    let archive = build(&[("a", &[1; 5_000]), ("b", b"2")]);
    let whole = End::locate(&archive, archive.len() as u64).unwrap();
    let tail = &archive[archive.len() - 200..];
    assert_eq!(End::locate(tail, archive.len() as u64).unwrap(), whole);
}

#[test]
fn a_comment_is_fine_but_trailing_data_is_not() {
    let mut archive = build(&[("a", b"1")]);
    let end = archive.len();
    archive.extend(b"hello");
    assert_eq!(refused(&archive), ArchiveError::NoEnd);
    archive[end - 2] = 5;
    assert!(open(&archive, &Limits::default()).is_ok());
}

#[test]
fn two_end_records_are_ambiguous() {
    let mut archive = build(&[("a", b"1")]);
    let start = archive.len() - 22;
    let copy = archive[start..].to_vec();
    archive[start + 20] = 22;
    archive.extend(copy);
    assert_eq!(refused(&archive), ArchiveError::AmbiguousEnd);
}

#[test]
fn leading_data_is_refused() {
    let mut archive = b"#!/bin/sh\n".to_vec();
    archive.extend(build(&[("a", b"1")]));
    assert_eq!(refused(&archive), ArchiveError::BadDirectoryBounds);
}

#[test]
fn a_member_reaches_no_further_than_it_can_need() {
    let archive = build(&[("a", b"1"), ("b", b"2")]);
    let end = End::locate(&archive, archive.len() as u64).unwrap();
    let entry = end.directory.start as usize;
    let gap = 70_000u32;
    // The second member and the directory move back, and its entry says so.
    let second = open(&archive, &Limits::default()).unwrap().find("b").unwrap().offset as usize;
    let mut moved = archive[..second].to_vec();
    moved.extend(vec![0; gap as usize]);
    moved.extend(&archive[second..]);
    let at = entry + gap as usize;
    let second_entry = at + 4 + positions(&moved[at + 4..], b"PK\x01\x02")[0];
    moved[second_entry + 42..second_entry + 46].copy_from_slice(&(second as u32 + gap).to_le_bytes());
    let record = positions(&moved, b"PK\x05\x06")[0];
    moved[record + 16..record + 20].copy_from_slice(&(at as u32).to_le_bytes());
    assert_eq!(refused(&moved), ArchiveError::Stray("a".into()));
}

#[test]
fn names_that_leave_the_archive_are_refused() {
    for name in ["../x", "/etc/x", "a/../x", "a//x", "a\\x", "./a", "a/./b", "c:x", "a\u{1}b"] {
        let archive = build(&[("zzzzzz", b"1")]);
        let padded = format!("{name:z<6}");
        let mut bytes = archive.clone();
        if padded.len() == 6 {
            for at in positions(&archive, b"zzzzzz") {
                bytes[at..at + 6].copy_from_slice(padded.as_bytes());
            }
            let outcome = open(&bytes, &Limits::default());
            assert!(matches!(outcome, Err(ArchiveError::BadName { .. })), "{name:?}: {outcome:?}");
        }
    }
}

#[test]
fn duplicates_and_file_folder_clashes_are_refused() {
    let mut archive = build(&[("aa", b"1"), ("ab", b"2")]);
    for at in positions(&archive.clone(), b"ab") {
        archive[at + 1] = b'a';
    }
    assert_eq!(refused(&archive), ArchiveError::Duplicate("aa".into()));
    assert_eq!(refused(&build(&[("a", b"1"), ("a/b", b"2")])), ArchiveError::Duplicate("a".into()));
}

#[test]
fn links_and_encryption_are_refused() {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    writer.add_symlink("link", "/etc/passwd", SimpleFileOptions::default()).unwrap();
    let archive = writer.finish().unwrap().into_inner();
    assert!(matches!(refused(&archive), ArchiveError::Unsupported { what: "a symbolic link", .. }));

    let mut archive = build(&[("a", b"1")]);
    let entry = positions(&archive, b"PK\x01\x02")[0];
    archive[entry + 8] |= 1;
    assert!(matches!(refused(&archive), ArchiveError::Unsupported { .. }));
}

#[test]
fn a_local_header_that_contradicts_is_refused() {
    let archive = build(&[("name", b"12345678"), ("next", b"1")]);
    for (at, what) in
        [(30, "name"), (14, "sizes or checksum"), (18, "sizes or checksum"), (8, "method or flags")]
    {
        let mut bytes = archive.clone();
        bytes[at] ^= 1;
        let directory = open(&bytes, &Limits::default()).unwrap();
        let error = member_bytes(&bytes, &directory.members()[0]).unwrap_err();
        assert!(
            matches!(&error, ArchiveError::LocalMismatch { what: found, .. } if *found == what),
            "{error}"
        );
    }
}

#[test]
fn a_flipped_data_bit_is_noticed() {
    let archive = build(&[("a", b"x"), ("stored", b"some text that is stored")]);
    let mut bytes = archive.clone();
    let at = positions(&archive, b"some text")[0];
    bytes[at] ^= 4;
    let directory = open(&bytes, &Limits::default()).unwrap();
    let error = member_bytes(&bytes, directory.find("stored").unwrap()).unwrap_err();
    assert_eq!(error, ArchiveError::WrongChecksum { path: "stored".into() });
}

#[test]
fn bombs_are_refused_before_and_while_unpacking() {
    let archive = build(&[("bomb", &[0; 1 << 20])]);
    let small = Limits { max_member_bytes: 1 << 19, ..Limits::default() };
    assert!(matches!(open(&archive, &small), Err(ArchiveError::MemberTooLarge { .. })));
    let few = Limits { max_members: 0, ..Limits::default() };
    assert!(matches!(open(&archive, &few), Err(ArchiveError::TooManyMembers { .. })));

    // Both headers lie about the size: unpacking stops where the lie ends.
    let mut bytes = archive.clone();
    for at in [22, positions(&archive, b"PK\x01\x02")[0] + 24] {
        bytes[at..at + 4].copy_from_slice(&10u32.to_le_bytes());
    }
    let directory = open(&bytes, &Limits::default()).unwrap();
    let error = member_bytes(&bytes, &directory.members()[0]).unwrap_err();
    assert!(
        matches!(error, ArchiveError::Damaged { what: "it is longer than the archive says", .. }),
        "{error}"
    );

    let mut bytes = archive.clone();
    let at = positions(&archive, b"PK\x01\x02")[0] + 24;
    bytes[at..at + 4].copy_from_slice(&(1u32 << 31).to_le_bytes());
    assert!(matches!(refused(&bytes), ArchiveError::ImpossibleRatio { .. }));
}

#[test]
fn members_may_not_share_bytes() {
    let archive = build(&[("aa", b"1"), ("bb", b"2")]);
    let second = positions(&archive, b"PK\x01\x02")[1];
    let mut bytes = archive.clone();
    bytes[second + 42] -= 1;
    assert_eq!(refused(&bytes), ArchiveError::Overlap("aa".into()));
}

#[test]
fn zip64_and_data_descriptors_are_read() {
    let mut writer = ZipWriter::new_stream(Vec::new());
    writer.start_file("streamed", SimpleFileOptions::default().large_file(true)).unwrap();
    writer.write_all(b"streamed data").unwrap();
    let archive = writer.finish().unwrap().into_inner();
    let directory = open(&archive, &Limits::default()).unwrap();
    let member = directory.find("streamed").unwrap();
    assert!(member.descriptor);
    assert_eq!(member_bytes(&archive, member).unwrap(), b"streamed data");
}

fn files() -> impl Strategy<Value = Vec<(String, Vec<u8>)>> {
    let file = ("[a-c]{1,2}(/[a-c]{1,2}){0,2}", prop::collection::vec(0u8..4, 0..300));
    prop::collection::vec(file, 1..6).prop_map(|mut files| {
        files.sort();
        files.dedup_by(|later, earlier| {
            later.0 == earlier.0 || later.0.starts_with(&format!("{}/", earlier.0))
        });
        files
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// What we accept, the reference reader reads the same way: honest archives and damaged ones.
    #[test]
    fn accepted_archives_mean_the_same_to_another_reader(
        files in files(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        cut in prop::option::weighted(0.1, any::<prop::sample::Index>()),
    ) {
        let borrowed: Vec<(&str, &[u8])> =
            files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
        let mut archive = build(&borrowed);
        for (index, byte) in &flips {
            let at = index.index(archive.len());
            archive[at] = *byte;
        }
        if let Some(cut) = cut {
            archive.truncate(cut.index(archive.len()));
        }
        let Ok(directory) = open(&archive, &Limits::default()) else {
            prop_assert!(!flips.is_empty() || cut.is_some() || clashes(&borrowed));
            return Ok(());
        };
        let mut oracle = zip::ZipArchive::new(Cursor::new(&archive[..])).unwrap();
        prop_assert_eq!(oracle.len(), directory.members().len());
        for member in directory.members() {
            let Ok(ours) = member_bytes(&archive, member) else { continue };
            let name = if member.folder { format!("{}/", member.path) } else { member.path.clone() };
            let mut theirs = Vec::new();
            oracle.by_name(&name).unwrap().read_to_end(&mut theirs).unwrap();
            prop_assert_eq!(ours, theirs);
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = open(&bytes, &Limits::default());
    }
}

/// Whether one name is a folder of another (the generator's dedup only sees neighbours).
fn clashes(files: &[(&str, &[u8])]) -> bool {
    files.iter().any(|(a, _)| files.iter().any(|(b, _)| b.starts_with(&format!("{a}/"))))
}
