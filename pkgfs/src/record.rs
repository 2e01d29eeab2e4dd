//! A wheel's RECORD (the binary distribution format's list of files): which digest and size each member must have.

mod hash;

use std::collections::HashMap;

use mirror::Sha256;

pub(crate) use hash::{Hash, Hashing};

/// What RECORD says of one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Row {
    /// A digest that can be checked.
    Listed { hash: Hash, size: Option<u64> },
    /// Listed in a way that cannot be checked.
    Unusable(&'static str),
}

/// All rows by path.
#[derive(Debug)]
pub(crate) struct Record {
    rows: HashMap<String, Row>,
}

/// RECORD is not CSV with three fields a line.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of RECORD is not `path,hash,size`")]
pub(crate) struct RecordError {
    line: usize,
}

impl Record {
    pub(crate) fn parse(text: &str) -> Result<Record, RecordError> {
        let mut rows: HashMap<String, Row> = HashMap::new();
        let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut line = 0;
        while !rest.is_empty() {
            line += 1;
            let (fields, after) = split_row(rest).ok_or(RecordError { line })?;
            rest = after;
            match <[String; 3]>::try_from(fields) {
                Ok([path, hash, size]) => insert(&mut rows, path, row(&hash, &size)),
                Err(fields) if fields.iter().all(String::is_empty) => {}
                Err(_) => return Err(RecordError { line }),
            }
        }
        Ok(Record { rows })
    }

    pub(crate) fn row(&self, path: &str) -> Option<&Row> {
        self.rows.get(path)
    }

    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        self.rows.keys().map(String::as_str)
    }
}

fn insert(rows: &mut HashMap<String, Row>, path: String, row: Row) {
    let twice = rows.get(&path).is_some_and(|known| *known != row);
    rows.insert(path, if twice { Row::Unusable("listed twice with different hashes") } else { row });
}

fn row(hash: &str, size: &str) -> Row {
    let hash = match Hash::parse(hash) {
        Ok(hash) => hash,
        Err(why) => return Row::Unusable(why),
    };
    match size {
        "" => Row::Listed { hash, size: None },
        digits => match digits.parse() {
            Ok(size) => Row::Listed { hash, size: Some(size) },
            Err(_) => Row::Unusable("listed with a malformed size"),
        },
    }
}

/// Splits the first CSV row off; `None` where a quoted field does not end.
fn split_row(text: &str) -> Option<(Vec<String>, &str)> {
    let mut fields = Vec::new();
    let mut field = String::new();
    let mut chars = text.char_indices().peekable();
    let mut quoted = false;
    while let Some((at, c)) = chars.next() {
        match c {
            '"' if quoted && chars.peek().is_some_and(|(_, next)| *next == '"') => {
                field.push('"');
                chars.next();
            }
            '"' if quoted => quoted = false,
            '"' if field.is_empty() => quoted = true,
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            '\n' if !quoted => {
                fields.push(field.strip_suffix('\r').map_or_else(|| field.clone(), str::to_owned));
                return Some((fields, &text[at + 1..]));
            }
            other => field.push(other),
        }
    }
    fields.push(field);
    (!quoted).then_some((fields, ""))
}

/// One RECORD row as an installer writes it.
pub(crate) fn write_row(path: &str, sha256: Option<(&Sha256, u64)>) -> String {
    let path = if path.contains(['"', ',', '\n']) {
        format!("\"{}\"", path.replace('"', "\"\""))
    } else {
        path.to_owned()
    };
    match sha256 {
        Some((digest, size)) => format!("{path},sha256={},{size}\n", encode(digest)),
        None => format!("{path},,\n"),
    }
}

fn encode(digest: &Sha256) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::with_capacity(43);
    for group in digest.0.chunks(3) {
        let value =
            group.iter().fold(0u32, |sum, byte| sum << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for place in 0..=group.len() {
            text.push(ALPHABET[(value >> (18 - 6 * place) & 63) as usize] as char);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rows_are_read_with_quotes_and_windows_line_ends() {
        let digest = Sha256::of(b"x");
        let text = format!(
            "a.py,sha256={0},1\r\n\"b, \"\"c\"\".py\",sha256={0},\r\nd/RECORD,,\r\n",
            encode(&digest)
        );
        let record = Record::parse(&text).unwrap();
        assert_eq!(record.row("a.py"), Some(&Row::Listed { hash: Hash::Sha256(digest), size: Some(1) }));
        assert_eq!(record.row("b, \"c\".py"), Some(&Row::Listed { hash: Hash::Sha256(digest), size: None }));
        assert_eq!(record.row("d/RECORD"), Some(&Row::Unusable("listed without a hash")));
        assert_eq!(record.row("e"), None);
    }

    #[test]
    fn weak_and_malformed_hashes_cannot_be_used() {
        let text = "a,md5=abc,1\nb,sha256=abc,1\nc,sha256=,1\n";
        let record = Record::parse(text).unwrap();
        assert_eq!(
            record.row("a"),
            Some(&Row::Unusable("listed with a hash other than sha256, sha384 and sha512"))
        );
        assert_eq!(record.row("b"), Some(&Row::Unusable("listed with a malformed hash")));
        assert_eq!(record.row("c"), Some(&Row::Unusable("listed with a malformed hash")));
    }

    #[test]
    fn contradicting_rows_cannot_be_used() {
        let (one, two) = (encode(&Sha256::of(b"1")), encode(&Sha256::of(b"2")));
        let record = Record::parse(&format!("a,sha256={one},1\na,sha256={two},1\n")).unwrap();
        assert_eq!(record.row("a"), Some(&Row::Unusable("listed twice with different hashes")));
    }

    #[test]
    fn what_is_no_record_is_refused_with_its_line() {
        assert_eq!(Record::parse("a,,\nb\n").unwrap_err(), RecordError { line: 2 });
        assert_eq!(Record::parse("\"a,,\n").unwrap_err(), RecordError { line: 1 });
    }

    proptest! {
        #[test]
        fn written_rows_are_read_back(path in "[ -~]{1,30}", bytes in any::<[u8; 32]>(), size in any::<u64>()) {
            let digest = Sha256(bytes);
            // A quote that does not open the field is kept as it is by both sides only when quoted.
            let text = write_row(&path, Some((&digest, size)));
            let record = Record::parse(&text).unwrap();
            prop_assert_eq!(record.row(&path), Some(&Row::Listed { hash: Hash::Sha256(digest), size: Some(size) }));
        }

        #[test]
        fn no_text_makes_it_panic(text in any::<String>()) {
            let _ = Record::parse(&text);
        }
    }
}
