use mirror::{Hasher, Sha256};
use sha2::{Digest, Sha384, Sha512};

/// A digest that RECORD may give a file: "sha256 or better", of what every Python has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Hash {
    Sha256(Sha256),
    Sha384(Box<[u8; 48]>),
    Sha512(Box<[u8; 64]>),
}

impl Hash {
    /// Reads `algorithm=digest`, the digest in URL-safe base 64 without padding.
    pub(super) fn parse(text: &str) -> Result<Hash, &'static str> {
        let (algorithm, text) = text.split_once('=').ok_or("listed without a hash")?;
        let hash = match algorithm.to_ascii_lowercase().as_str() {
            "sha256" => decode(text).map(|bytes| Hash::Sha256(Sha256(bytes))),
            "sha384" => decode(text).map(|bytes| Hash::Sha384(Box::new(bytes))),
            "sha512" => decode(text).map(|bytes| Hash::Sha512(Box::new(bytes))),
            _ => return Err("listed with a hash other than sha256, sha384 and sha512"),
        };
        hash.ok_or("listed with a malformed hash")
    }
}

/// Takes a file's bytes; in the end tells whether they have a hash, and their SHA-256, by which the store names them.
pub(crate) struct Hashing {
    sha256: Hasher,
    other: Option<Other>,
    expected: Hash,
}

enum Other {
    Sha384(Sha384),
    Sha512(Sha512),
}

impl Hashing {
    pub(crate) fn new(expected: &Hash) -> Hashing {
        let other = match expected {
            Hash::Sha256(_) => None,
            Hash::Sha384(_) => Some(Other::Sha384(Sha384::default())),
            Hash::Sha512(_) => Some(Other::Sha512(Sha512::default())),
        };
        Hashing { sha256: Hasher::default(), other, expected: expected.clone() }
    }

    /// The SHA-256 of what was written, if it has the hash.
    pub(crate) fn finish(self) -> Option<Sha256> {
        let sha256 = self.sha256.finish();
        let has = match (&self.expected, self.other) {
            (Hash::Sha256(expected), _) => *expected == sha256,
            (Hash::Sha384(expected), Some(Other::Sha384(other))) => other.finalize()[..] == expected[..],
            (Hash::Sha512(expected), Some(Other::Sha512(other))) => other.finalize()[..] == expected[..],
            _ => false,
        };
        has.then_some(sha256)
    }
}

impl std::io::Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.sha256.update(bytes);
        match &mut self.other {
            Some(Other::Sha384(other)) => other.update(bytes),
            Some(Other::Sha512(other)) => other.update(bytes),
            None => {}
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Decodes unpadded URL-safe base 64 of exactly `N` bytes.
fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0u8; N];
    let (mut bits, mut held, mut at) = (0u32, 0u32, 0);
    for c in text.trim_end_matches('=').bytes() {
        bits = bits << 6 | u32::from(sextet(c)?);
        held += 6;
        if held >= 8 {
            held -= 8;
            *bytes.get_mut(at)? = (bits >> held) as u8;
            bits &= (1 << held) - 1;
            at += 1;
        }
    }
    (at == N && bits == 0 && held < 6).then_some(bytes)
}

fn sextet(c: u8) -> Option<u8> {
    match c {
        b'A'..=b'Z' => Some(c - b'A'),
        b'a'..=b'z' => Some(c - b'a' + 26),
        b'0'..=b'9' => Some(c - b'0' + 52),
        b'-' | b'+' => Some(62),
        b'_' | b'/' => Some(63),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn better_hashes_are_checked_and_the_name_is_the_sha256() {
        // Of the empty file (FIPS 180-4 examples).
        for text in [
            "sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU",
            "sha384=OLBgp1GsljhM2TJ-sbHjaiH9txEUvgdDTAzHv2P24donTt6_529l-9Ua0vFImLlb",
            "SHA512=z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg_SpIdNs6c5H0NE8XYXysP-DGNKHfuwvY7kxvUdBeoGlODJ6-SfaPg",
        ] {
            let hash = Hash::parse(text).unwrap();
            assert_eq!(Hashing::new(&hash).finish(), Some(Sha256::of(b"")), "{text}");
            let mut other = Hashing::new(&hash);
            other.write_all(b"x").unwrap();
            assert_eq!(other.finish(), None, "{text}");
        }
        assert!(Hash::parse("sha512=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU").is_err());
    }
}
