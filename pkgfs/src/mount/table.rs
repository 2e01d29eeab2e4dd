use std::path::Path;

/// One line of /proc/self/mountinfo (see proc(5)), as far as it matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// `major:minor`
    pub(super) device: String,
    point: String,
    pub(super) kind: String,
    pub(super) source: String,
}

/// The mount that is seen at exactly this path.
pub(super) fn top_at(point: &Path) -> Option<Entry> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let point = point.to_string_lossy();
    // Later lines lie on top.
    table.lines().rev().filter_map(parse).find(|entry| entry.point == point)
}

/// Its device; empty where nothing is mounted there.
pub(super) fn device_at(point: &Path) -> String {
    top_at(point).map(|entry| entry.device).unwrap_or_default()
}

fn parse(line: &str) -> Option<Entry> {
    let (head, tail) = line.split_once(" - ")?;
    let mut head = head.split(' ');
    let device = head.nth(2)?.to_owned();
    let point = unescape(head.nth(1)?);
    let mut tail = tail.split(' ');
    Some(Entry { device, point, kind: tail.next()?.to_owned(), source: unescape(tail.next()?) })
}

/// Space, tab, newline and backslash are written as three octal digits.
fn unescape(text: &str) -> String {
    let mut plain = Vec::with_capacity(text.len());
    let mut bytes = text.as_bytes();
    while let Some((first, rest)) = bytes.split_first() {
        let code = (*first == b'\\')
            .then(|| rest.get(..3))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                plain.push(byte);
                bytes = &rest[3..];
            }
            None => {
                plain.push(*first);
                bytes = rest;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_with_and_without_optional_fields() {
        let line =
            r"36 35 98:0 / /mnt/a\040b rw,noatime shared:1 master:2 - fuse.ol-pkgfs ol-pkgfs rw,user_id=0";
        let entry = parse(line).unwrap();
        assert_eq!((entry.device.as_str(), entry.point.as_str()), ("98:0", "/mnt/a b"));
        assert_eq!((entry.kind.as_str(), entry.source.as_str()), ("fuse.ol-pkgfs", "ol-pkgfs"));
        let bare = parse("1 2 0:3 / / rw - tmpfs none rw").unwrap();
        assert_eq!((bare.point.as_str(), bare.kind.as_str()), ("/", "tmpfs"));
        assert_eq!(parse("garbage"), None);
    }
}
