//! One byte range of a file (RFC 9110, section 14).

use std::ops::Range;

/// What a `Range` header asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All of it: no range, several, or one we do not understand.
    Whole,
    /// This part.
    Part(Range<u64>),
    /// Nothing the file has.
    Unsatisfiable,
}

pub(super) fn wanted(header: Option<&str>, size: u64) -> Wanted {
    let Some(spec) = header.and_then(|text| text.trim().strip_prefix("bytes=")) else { return Wanted::Whole };
    let Some((first, last)) = spec.split_once('-').map(|(a, b)| (a.trim(), b.trim())) else {
        return Wanted::Whole;
    };
    let range = match (number(first), number(last)) {
        (None, Some(suffix)) if first.is_empty() => size.saturating_sub(suffix)..size,
        (Some(first), None) if last.is_empty() => first..size,
        (Some(first), Some(last)) if first <= last => first..last.saturating_add(1).min(size),
        _ => return Wanted::Whole,
    };
    if range.is_empty() { Wanted::Unsatisfiable } else { Wanted::Part(range) }
}

fn number(text: &str) -> Option<u64> {
    text.bytes().all(|c| c.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn single_ranges_are_understood() {
        assert_eq!(wanted(Some("bytes=0-99"), 1000), Wanted::Part(0..100));
        assert_eq!(wanted(Some("bytes=990-2000"), 1000), Wanted::Part(990..1000));
        assert_eq!(wanted(Some("bytes=5-"), 1000), Wanted::Part(5..1000));
        assert_eq!(wanted(Some("bytes=-5"), 1000), Wanted::Part(995..1000));
        assert_eq!(wanted(Some("bytes=-2000"), 1000), Wanted::Part(0..1000));
        for none in ["bytes=1000-", "bytes=1000-1001", "bytes=-0"] {
            assert_eq!(wanted(Some(none), 1000), Wanted::Unsatisfiable, "{none}");
        }
        for whole in
            ["bytes=0-1,3-4", "bytes=9-1", "items=0-1", "bytes=", "bytes=-", "bytes=a-b", "bytes=+1-2"]
        {
            assert_eq!(wanted(Some(whole), 1000), Wanted::Whole, "{whole}");
        }
    }

    proptest! {
        #[test]
        fn a_part_always_lies_in_the_file(header in "bytes=[0-9]{0,20}-[0-9]{0,20}", size in any::<u64>()) {
            if let Wanted::Part(range) = wanted(Some(&header), size) {
                prop_assert!(range.start < range.end && range.end <= size);
            }
        }
    }
}
