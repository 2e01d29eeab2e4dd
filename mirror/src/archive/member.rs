use std::io::{self, Read, Write};
use std::ops::Range;

use flate2::Crc;
use flate2::bufread::DeflateDecoder;
use serde::{Deserialize, Serialize};

use super::ArchiveError;
use super::fields::{Fields, extras};

const LOCAL_SIGNATURE: u32 = 0x0403_4b50;
const DESCRIPTOR_SIGNATURE: u32 = 0x0807_4b50;
const ZIP64_TAG: u16 = 0x0001;
const COPY_BYTES: usize = 64 * 1024;

/// How a member's bytes are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// As they are.
    Stored,
    /// RFC 1951.
    Deflate,
}

impl Method {
    pub(super) fn from_code(code: u16) -> Option<Method> {
        match code {
            0 => Some(Method::Stored),
            8 => Some(Method::Deflate),
            _ => None,
        }
    }

    fn code(self) -> u16 {
        match self {
            Method::Stored => 0,
            Method::Deflate => 8,
        }
    }
}

/// One file or folder of an archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Relative, `/`-separated, normal, UTF-8; without the `/` that marks a folder.
    pub path: String,
    /// Whether it is a folder.
    pub folder: bool,
    /// Bytes, unpacked.
    pub size: u64,
    /// Bytes, packed.
    pub compressed_size: u64,
    /// CRC-32 of the unpacked bytes.
    pub crc32: u32,
    /// Where its local header starts.
    pub offset: u64,
    /// Local header, data and descriptor: all bytes up to the next member or the central directory.
    pub extent: Range<u64>,
    /// How it is packed.
    pub method: Method,
    /// Unix permission bits; 0 where the archive was not made on Unix.
    pub mode: u32,
    /// Whether sizes and checksum stand after the data.
    pub descriptor: bool,
}

impl Member {
    /// Whether any execute bit is set.
    pub fn executable(&self) -> bool {
        self.mode & 0o111 != 0
    }

    /// The member's bytes, from the bytes of its [`extent`](Member::extent).
    ///
    /// # Errors
    /// A local header that contradicts the central directory, damaged data, a wrong size or checksum, or bytes in
    /// the extent that belong to nothing.
    pub fn unpack(&self, extent: &[u8]) -> Result<Vec<u8>, ArchiveError> {
        let mut bytes = Vec::with_capacity(usize::try_from(self.size.min(16 << 20)).unwrap_or_default());
        self.unpack_to(extent, &mut bytes).map_err(|error| match error {
            UnpackError::Archive(error) => error,
            UnpackError::Sink(_) => self.damaged("no memory for it"),
        })?;
        Ok(bytes)
    }

    /// As [`unpack`](Member::unpack), into a writer; what was written before an error must be thrown away.
    ///
    /// # Errors
    /// As [`unpack`](Member::unpack), or the writer's own.
    pub fn unpack_to(&self, extent: &[u8], sink: &mut impl Write) -> Result<(), UnpackError> {
        let data = self.data(extent)?;
        let mut checked = Checked { sink, crc: Crc::new(), written: 0, limit: self.size };
        match self.method {
            Method::Stored => checked.write_all(data).map_err(|error| self.sink_error(error))?,
            Method::Deflate => {
                let mut decoder = DeflateDecoder::new(data);
                self.copy(&mut decoder, &mut checked)?;
                if decoder.total_in() != data.len() as u64 {
                    return Err(self.damaged("data follows the compressed data").into());
                }
            }
        }
        if checked.written != self.size {
            return Err(self.damaged("it is shorter than the archive says").into());
        }
        if checked.crc.sum() != self.crc32 {
            return Err(ArchiveError::WrongChecksum { path: self.path.clone() }.into());
        }
        Ok(())
    }

    /// Checks the local header and what follows the data; gives the packed data.
    fn data<'a>(&self, extent: &'a [u8]) -> Result<&'a [u8], ArchiveError> {
        if extent.len() as u64 != self.extent.end - self.extent.start {
            return Err(self.damaged("its bytes are cut short"));
        }
        let mut fields = Fields::new(extent);
        self.check_header(&mut fields)?;
        let packed = usize::try_from(self.compressed_size).unwrap_or(usize::MAX);
        let data =
            fields.take(packed).ok_or_else(|| self.mismatch("its data reaches into the next member"))?;
        self.check_descriptor(fields.rest())?;
        Ok(data)
    }

    fn check_header(&self, fields: &mut Fields<'_>) -> Result<(), ArchiveError> {
        let cut = || self.mismatch("cut short");
        if fields.u32() != Some(LOCAL_SIGNATURE) {
            return Err(self.mismatch("no local header stands there"));
        }
        fields.u16().ok_or_else(cut)?; // version needed
        let flags = fields.u16().ok_or_else(cut)?;
        let method = fields.u16().ok_or_else(cut)?;
        fields.u32().ok_or_else(cut)?; // time and date
        let crc32 = fields.u32().ok_or_else(cut)?;
        let compressed = fields.u32().ok_or_else(cut)?;
        let size = fields.u32().ok_or_else(cut)?;
        let name_bytes = fields.u16().ok_or_else(cut)?;
        let extra_bytes = fields.u16().ok_or_else(cut)?;
        let name = fields.take(name_bytes.into()).ok_or_else(cut)?;
        let extra =
            fields.take(extra_bytes.into()).and_then(extras).ok_or_else(|| self.mismatch("extra field"))?;
        if name.strip_suffix(b"/").unwrap_or(name) != self.path.as_bytes()
            || name.ends_with(b"/") != self.folder
        {
            return Err(self.mismatch("name"));
        }
        if method != self.method.code() || (flags & 1 << 3 != 0) != self.descriptor || flags & 1 != 0 {
            return Err(self.mismatch("method or flags"));
        }
        let zip64 = extra.iter().find(|(tag, _)| *tag == ZIP64_TAG).map(|(_, data)| *data);
        let mut wide = Fields::new(zip64.unwrap_or_default());
        let mut widened = |short: u32| if short == u32::MAX { wide.u64() } else { Some(u64::from(short)) };
        let found = (widened(size).ok_or_else(cut)?, widened(compressed).ok_or_else(cut)?, crc32);
        let expected = (self.size, self.compressed_size, self.crc32);
        let unknown_yet = self.descriptor && found == (0, 0, 0);
        if found != expected && !unknown_yet {
            return Err(self.mismatch("sizes or checksum"));
        }
        Ok(())
    }

    /// After the data stands nothing, or the data descriptor the flags promised (signature optional, 32 or 64 bit).
    fn check_descriptor(&self, rest: &[u8]) -> Result<(), ArchiveError> {
        if !self.descriptor {
            return if rest.is_empty() {
                Ok(())
            } else {
                Err(self.mismatch("bytes after the data belong to nothing"))
            };
        }
        let mut long = self.crc32.to_le_bytes().to_vec();
        let mut short = long.clone();
        for size in [self.compressed_size, self.size] {
            long.extend(size.to_le_bytes());
            short.extend(u32::try_from(size).unwrap_or(u32::MAX).to_le_bytes());
        }
        let bare = rest.strip_prefix(&DESCRIPTOR_SIGNATURE.to_le_bytes()).unwrap_or(rest);
        if [bare, rest].into_iter().any(|found| found == short || found == long) {
            Ok(())
        } else {
            Err(self.mismatch("data descriptor"))
        }
    }

    /// Copies until the end, telling errors of the packed data from those of the sink.
    fn copy(&self, from: &mut impl Read, to: &mut impl Write) -> Result<(), UnpackError> {
        let mut buffer = vec![0; COPY_BYTES];
        loop {
            match from.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => to.write_all(&buffer[..count]).map_err(|error| self.sink_error(error))?,
                Err(_) => return Err(self.damaged("its compressed data is broken").into()),
            }
        }
    }

    fn sink_error(&self, error: io::Error) -> UnpackError {
        if error.kind() == io::ErrorKind::FileTooLarge && error.raw_os_error().is_none() {
            return self.damaged("it is longer than the archive says").into();
        }
        UnpackError::Sink(error)
    }

    fn damaged(&self, what: &'static str) -> ArchiveError {
        ArchiveError::Damaged { path: self.path.clone(), what }
    }

    fn mismatch(&self, what: &'static str) -> ArchiveError {
        ArchiveError::LocalMismatch { path: self.path.clone(), what }
    }
}

/// Why a member could not be unpacked into a writer.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The archive is at fault.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The writer is at fault.
    #[error("unpacked data cannot be written")]
    Sink(#[source] io::Error),
}

/// Counts and sums what passes, and stops at the size that was announced.
struct Checked<'a, W> {
    sink: &'a mut W,
    crc: Crc,
    written: u64,
    limit: u64,
}

impl<W: Write> Write for Checked<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.written + bytes.len() as u64 > self.limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let count = self.sink.write(bytes)?;
        self.crc.update(&bytes[..count]);
        self.written += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}
