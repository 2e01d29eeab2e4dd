//! Locks written by hand, so that a test needs no resolver.

use std::fmt::Write as _;

use crate::index::FakeIndex;
use crate::wheel::BuiltWheel;

/// A `pylock.toml` (PEP 751) of these wheels, served by this index.
pub fn pylock(index: &FakeIndex, wheels: &[&BuiltWheel]) -> String {
    let mut text = "lock-version = \"1.0\"\ncreated-by = \"tests\"\n".to_owned();
    for wheel in wheels {
        let BuiltWheel { project, version, file_name, sha256, bytes, .. } = wheel;
        let (url, size) = (index.file_url(file_name), bytes.len());
        let _ = write!(
            text,
            "\n[[packages]]\nname = \"{project}\"\nversion = \"{version}\"\nwheels = [{{ name = \"{file_name}\", \
             url = \"{url}\", size = {size}, hashes = {{ sha256 = \"{sha256}\" }} }}]\n"
        );
    }
    text
}
