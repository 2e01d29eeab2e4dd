//! A ZIP writer that can also write what a good one refuses to.

use std::io::Write as _;

use flate2::{Compression, Crc, write::DeflateEncoder};

const STORED: u16 = 0;
const DEFLATED: u16 = 8;
/// 1980-01-01 00:00, the earliest a ZIP can say: the bytes of a wheel then depend on its contents alone.
const DOS_DATE: u16 = 0x21;
const UTF8_NAME: u16 = 1 << 11;
const ZIP64_FLAG: u32 = u32::MAX;

/// An archive to be written: members in order, and bytes around them.
#[derive(Clone, Debug, Default)]
pub struct ZipFile {
    /// Written in this order, in the data as in the central directory.
    pub members: Vec<ZipMember>,
    /// Bytes before the first local header (offsets count from the file's start and stay right).
    pub leading: Vec<u8>,
    /// Bytes after the end record, not announced by it.
    pub trailing: Vec<u8>,
    /// The end record's comment.
    pub comment: Vec<u8>,
    /// Whether sizes, offsets and the end record are written in their ZIP64 forms.
    pub zip64: bool,
}

/// One member, with the lies told about it.
#[derive(Clone, Debug)]
pub struct ZipMember {
    /// Name in the central directory, and in the local header unless `local_name` says otherwise.
    pub name: Vec<u8>,
    /// What is unpacked from it.
    pub contents: Vec<u8>,
    /// Unix mode with file type, for the upper half of the external attributes.
    pub mode: u32,
    /// Stored as it is instead of deflated.
    pub stored: bool,
    /// General purpose flags; bit 0 claims encryption, bit 3 a data descriptor (which is then written).
    pub flags: u16,
    /// Compression method to claim; the data stays what it is.
    pub claimed_method: Option<u16>,
    /// CRC to claim.
    pub claimed_crc: Option<u32>,
    /// Unpacked size to claim, in both headers.
    pub claimed_size: Option<u32>,
    /// Name in the local header only.
    pub local_name: Option<Vec<u8>>,
    /// Unpacked size in the local header only.
    pub local_size: Option<u32>,
    /// Index of an earlier member whose data this one points at instead of bringing its own.
    pub overlaps: Option<usize>,
}

impl ZipMember {
    /// A plain deflated file, mode 0644.
    pub fn new(name: &str, contents: impl Into<Vec<u8>>) -> Self {
        Self {
            name: name.into(),
            contents: contents.into(),
            mode: 0o100_644,
            stored: false,
            flags: if name.is_ascii() { 0 } else { UTF8_NAME },
            claimed_method: None,
            claimed_crc: None,
            claimed_size: None,
            local_name: None,
            local_size: None,
            overlaps: None,
        }
    }
}

/// What both headers of a member repeat.
#[derive(Clone, Copy)]
struct Fields {
    flags: u16,
    method: u16,
    crc: u32,
    packed: u32,
    size: u32,
    offset: u32,
}

impl ZipFile {
    /// The archive's bytes; the same input always gives the same bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = self.leading.clone();
        let mut all: Vec<Fields> = Vec::new();
        for member in &self.members {
            let fields = match member.overlaps {
                Some(index) => all[index],
                None => self.write_local(&mut out, member),
            };
            all.push(fields);
        }
        let start = out.len();
        for (member, fields) in self.members.iter().zip(&all) {
            self.write_central(&mut out, member, *fields);
        }
        self.write_end(&mut out, start);
        out.extend_from_slice(&self.trailing);
        out
    }

    fn write_local(&self, out: &mut Vec<u8>, member: &ZipMember) -> Fields {
        let packed = if member.stored { member.contents.clone() } else { deflate(&member.contents) };
        let method = if member.stored { STORED } else { DEFLATED };
        let fields = Fields {
            flags: member.flags,
            method: member.claimed_method.unwrap_or(method),
            crc: member.claimed_crc.unwrap_or_else(|| crc(&member.contents)),
            packed: size32(packed.len()),
            size: member.claimed_size.unwrap_or_else(|| size32(member.contents.len())),
            offset: size32(out.len()),
        };
        let described = member.flags & 8 != 0;
        let name = member.local_name.as_ref().unwrap_or(&member.name);
        let local = Fields { size: member.local_size.unwrap_or(fields.size), ..fields };
        let shown = if described { Fields { crc: 0, packed: 0, size: 0, ..local } } else { local };
        let extra = if self.zip64 { zip64_extra(&[local.size, local.packed]) } else { Vec::new() };
        out.extend_from_slice(b"PK\x03\x04");
        put16(out, &[if self.zip64 { 45 } else { 20 }]);
        self.put_common(out, shown);
        put16(out, &[size16(name.len()), size16(extra.len())]);
        out.extend_from_slice(name);
        out.extend_from_slice(&extra);
        out.extend_from_slice(&packed);
        if described {
            out.extend_from_slice(b"PK\x07\x08");
            put32(out, &[local.crc, local.packed, local.size]);
        }
        fields
    }

    fn write_central(&self, out: &mut Vec<u8>, member: &ZipMember, fields: Fields) {
        let extra =
            if self.zip64 { zip64_extra(&[fields.size, fields.packed, fields.offset]) } else { Vec::new() };
        out.extend_from_slice(b"PK\x01\x02");
        put16(out, &[3 << 8 | 20, if self.zip64 { 45 } else { 20 }]);
        self.put_common(out, fields);
        put16(out, &[size16(member.name.len()), size16(extra.len()), 0, 0, 0]);
        put32(out, &[member.mode << 16, if self.zip64 { ZIP64_FLAG } else { fields.offset }]);
        out.extend_from_slice(&member.name);
        out.extend_from_slice(&extra);
    }

    fn put_common(&self, out: &mut Vec<u8>, fields: Fields) {
        put16(out, &[fields.flags, fields.method, 0, DOS_DATE]);
        put32(out, &[fields.crc]);
        let sizes = [fields.packed, fields.size];
        put32(out, &if self.zip64 { [ZIP64_FLAG; 2] } else { sizes });
    }

    fn write_end(&self, out: &mut Vec<u8>, start: usize) {
        let (count, length) = (self.members.len(), out.len() - start);
        if self.zip64 {
            let record = out.len();
            out.extend_from_slice(b"PK\x06\x06");
            put64(out, &[44]);
            put16(out, &[3 << 8 | 45, 45]);
            put32(out, &[0, 0]);
            put64(out, &[count as u64, count as u64, length as u64, start as u64]);
            out.extend_from_slice(b"PK\x06\x07");
            put32(out, &[0]);
            put64(out, &[record as u64]);
            put32(out, &[1]);
        }
        out.extend_from_slice(b"PK\x05\x06");
        put16(out, &[0, 0]);
        if self.zip64 {
            put16(out, &[u16::MAX; 2]);
            put32(out, &[ZIP64_FLAG; 2]);
        } else {
            put16(out, &[size16(count); 2]);
            put32(out, &[size32(length), size32(start)]);
        }
        put16(out, &[size16(self.comment.len())]);
        out.extend_from_slice(&self.comment);
    }
}

fn deflate(contents: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(contents).expect("writing to memory");
    encoder.finish().expect("writing to memory")
}

fn crc(contents: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(contents);
    crc.sum()
}

fn zip64_extra(values: &[u32]) -> Vec<u8> {
    let mut out = Vec::new();
    put16(&mut out, &[1, size16(values.len() * 8)]);
    for value in values {
        put64(&mut out, &[u64::from(*value)]);
    }
    out
}

fn size16(size: usize) -> u16 {
    u16::try_from(size).expect("a test archive's names and counts fit in 16 bits")
}

fn size32(size: usize) -> u32 {
    u32::try_from(size).expect("a test archive is smaller than 4 GiB")
}

fn put16(out: &mut Vec<u8>, values: &[u16]) {
    values.iter().for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
}

fn put32(out: &mut Vec<u8>, values: &[u32]) {
    values.iter().for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
}

fn put64(out: &mut Vec<u8>, values: &[u64]) {
    values.iter().for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Read as _};

    use super::*;

    fn read(bytes: Vec<u8>, name: &str) -> String {
        let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).unwrap();
        let mut text = String::new();
        archive.by_name(name).unwrap().read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn another_reader_reads_every_good_form() {
        let long = "a line that compresses\n".repeat(100);
        for zip64 in [false, true] {
            for flags in [0, 8] {
                let mut member = ZipMember::new("a/b.txt", long.as_str());
                member.flags = flags;
                let mut stored = ZipMember::new("c", "plain");
                stored.stored = true;
                if zip64 && flags == 8 {
                    continue;
                }
                let file = ZipFile { members: vec![member, stored], zip64, ..ZipFile::default() };
                assert_eq!(read(file.bytes(), "a/b.txt"), long);
                assert_eq!(read(file.bytes(), "c"), "plain");
            }
        }
    }

    #[test]
    fn a_claimed_crc_is_noticed_by_another_reader() {
        let mut member = ZipMember::new("a", "contents");
        member.claimed_crc = Some(1);
        let bytes = ZipFile { members: vec![member], ..ZipFile::default() }.bytes();
        let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).unwrap();
        assert!(archive.by_index(0).unwrap().read_to_end(&mut Vec::new()).is_err());
    }
}
