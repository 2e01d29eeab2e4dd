use std::ops::Range;

/// Reads little-endian fields one after another; `None` once the bytes run out.
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Fields { rest: bytes }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }
}

/// `bytes[range]`, where the range fits.
pub(super) fn slice(bytes: &[u8], range: Range<u64>) -> Option<&[u8]> {
    bytes.get(usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?)
}

/// The records of an extra field as (tag, data); `None` where they do not fill it exactly.
pub(super) fn extras(bytes: &[u8]) -> Option<Vec<(u16, &[u8])>> {
    let mut fields = Fields::new(bytes);
    let mut found = Vec::new();
    while !fields.is_empty() {
        let tag = fields.u16()?;
        let length = fields.u16()?;
        found.push((tag, fields.take(usize::from(length))?));
    }
    Some(found)
}
