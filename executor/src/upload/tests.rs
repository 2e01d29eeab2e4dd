use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use tar::{EntryType, Header};

use super::*;

const LIMITS: UploadLimits = UploadLimits { unpacked_bytes: 10_000, entries: 10 };

/// One entry, written below the `tar` crate's own checks so that hostile paths get through.
struct Raw<'a> {
    path: &'a str,
    kind: EntryType,
    content: &'a [u8],
}

fn file<'a>(path: &'a str, content: &'a [u8]) -> Raw<'a> {
    Raw { path, kind: EntryType::Regular, content }
}

fn tar_gz(entries: &[Raw<'_>]) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::new(), Compression::fast());
    for entry in entries {
        let mut header = Header::new_ustar();
        header.as_old_mut().name[..entry.path.len()].copy_from_slice(entry.path.as_bytes());
        header.set_size(entry.content.len() as u64);
        header.set_mode(0o644);
        header.set_entry_type(entry.kind);
        header.set_cksum();
        out.write_all(header.as_bytes()).unwrap();
        out.write_all(entry.content).unwrap();
        out.write_all(&vec![0; (512 - entry.content.len() % 512) % 512]).unwrap();
    }
    out.write_all(&[0; 1024]).unwrap();
    out.finish().unwrap()
}

fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = ::zip::ZipWriter::new(io::Cursor::new(Vec::new()));
    for (path, content) in entries {
        out.start_file(*path, ::zip::write::SimpleFileOptions::default()).unwrap();
        out.write_all(content).unwrap();
    }
    out.finish().unwrap().into_inner()
}

fn unpacked(body: &[u8]) -> Result<Vec<(String, Vec<u8>)>, UploadError> {
    let dir = tempfile::tempdir().unwrap();
    unpack(body, dir.path(), LIMITS)?;
    let mut files = Vec::new();
    let mut folders = vec![dir.path().to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(dir.path()).unwrap().display().to_string();
                files.push((name, std::fs::read(path).unwrap()));
            }
        }
    }
    files.sort();
    Ok(files)
}

#[test]
fn a_single_file_becomes_f_py() {
    assert_eq!(unpacked(b"def f(event): ...").unwrap(), [("f.py".into(), b"def f(event): ...".to_vec())]);
}

#[test]
fn archives_of_both_kinds_are_unpacked() {
    let want = [("f.py".to_owned(), b"1".to_vec()), ("lib/a.py".to_owned(), b"2".to_vec())];
    let folder = Raw { path: "lib/", kind: EntryType::Directory, content: b"" };
    let dot = Raw { path: "./", kind: EntryType::Directory, content: b"" };
    assert_eq!(
        unpacked(&tar_gz(&[dot, file("./f.py", b"1"), folder, file("./lib/a.py", b"2")])).unwrap(),
        want
    );
    assert_eq!(unpacked(&zip(&[("f.py", b"1"), ("lib/a.py", b"2")])).unwrap(), want);
}

#[test]
fn paths_that_lead_elsewhere_are_refused() {
    for path in ["../x", "/etc/passwd", "a/../../x", "a\\b", ".."] {
        assert!(matches!(unpacked(&tar_gz(&[file(path, b"")])), Err(UploadError::Path { .. })), "{path}");
    }
    for path in ["../x", "/etc/passwd", "a/../../x"] {
        assert!(unpacked(&zip(&[(path, b"")])).is_err(), "{path}");
    }
    let deep = "d/".repeat(20) + "f.py";
    assert!(matches!(unpacked(&tar_gz(&[file(&deep, b"")])), Err(UploadError::Path { .. })));
}

#[test]
fn links_and_devices_are_refused() {
    for kind in [EntryType::Symlink, EntryType::Link, EntryType::Char, EntryType::Block, EntryType::Fifo] {
        let entry = Raw { path: "f.py", kind, content: b"" };
        assert!(matches!(unpacked(&tar_gz(&[entry])), Err(UploadError::Special { .. })), "{kind:?}");
    }
}

#[test]
fn a_path_given_twice_is_refused() {
    let same = tar_gz(&[file("f.py", b"1"), file("./f.py", b"2")]);
    assert!(matches!(unpacked(&same), Err(UploadError::Duplicate { .. })));
    let below_a_file = tar_gz(&[file("a", b"1"), file("a/f.py", b"2")]);
    assert!(matches!(unpacked(&below_a_file), Err(UploadError::Duplicate { .. })));
}

#[test]
fn bombs_are_stopped_at_the_limit() {
    let zeros = vec![0_u8; 1_000_000];
    assert!(matches!(
        unpacked(&tar_gz(&[file("f.py", &zeros)])),
        Err(UploadError::TooLarge { limit: 10_000 })
    ));
    assert!(matches!(unpacked(&zip(&[("f.py", &zeros)])), Err(UploadError::TooLarge { limit: 10_000 })));
    let names: Vec<_> = (0..20).map(|number| format!("{number}.py")).collect();
    let many: Vec<_> = names.iter().map(|name| file(name, b"")).collect();
    assert!(matches!(unpacked(&tar_gz(&many)), Err(UploadError::TooManyEntries { limit: 10 })));
}

#[test]
fn zip_members_are_written_as_they_are_unpacked() {
    // Stored, with its checksum spoilt in both headers: told at the end, when all of it has been on its way to disk.
    let mut out = ::zip::ZipWriter::new(io::Cursor::new(Vec::new()));
    let stored =
        ::zip::write::SimpleFileOptions::default().compression_method(::zip::CompressionMethod::Stored);
    out.start_file("f.py", stored).unwrap();
    out.write_all(&[b'#'; 9_000]).unwrap();
    let mut body = out.finish().unwrap().into_inner();
    let central = body.windows(4).rposition(|bytes| bytes == b"PK\x01\x02").unwrap();
    for crc in [14, central + 16] {
        body[crc] ^= 1;
    }
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(unpack(&body, dir.path(), LIMITS), Err(UploadError::Broken { .. })));
    assert_eq!(std::fs::metadata(dir.path().join("f.py")).unwrap().len(), 9_000);
}

#[test]
fn what_is_no_upload_is_refused() {
    assert!(matches!(unpacked(b""), Err(UploadError::Empty)));
    assert!(matches!(unpacked(b"\x7fELF\0\0"), Err(UploadError::NotPython)));
    assert!(matches!(unpacked(b"\xff\xfe"), Err(UploadError::NotPython)));
    assert!(matches!(unpacked(b"PK\x03\x04 nonsense"), Err(UploadError::Broken { .. })));
    assert!(matches!(unpacked(b"\x1f\x8b nonsense"), Err(UploadError::Broken { .. })));
    let whole = tar_gz(&[file("f.py", &[7; 900])]);
    assert!(matches!(unpacked(&whole[..whole.len() / 2]), Err(UploadError::Broken { .. })));
}

proptest! {
    #[test]
    fn no_bytes_make_the_unpacker_panic_or_write_outside(mut body in prop::collection::vec(any::<u8>(), 0..600), kind in 0..3) {
        match kind {
            0 => body.splice(0..0, *b"PK\x03\x04").for_each(drop),
            1 => body.splice(0..0, [0x1f, 0x8b]).for_each(drop),
            _ => {}
        }
        let outer = tempfile::tempdir().unwrap();
        let dest = outer.path().join("dest");
        std::fs::create_dir(&dest).unwrap();
        let _ = unpack(&body, &dest, LIMITS);
        prop_assert_eq!(std::fs::read_dir(outer.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_accepted_path_stays_below(path in "[a./\\\\]{0,12}") {
        if let Some(plain) = plain_path(&path) {
            prop_assert!(plain.components().all(|part| matches!(part, Component::Normal(_))));
        }
    }
}
