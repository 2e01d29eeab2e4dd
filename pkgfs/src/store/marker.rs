//! Which boot the store was open in, and whether it was closed: `<store>/boot`.

use std::fs::{self, File};
use std::io;
use std::path::Path;

const NAME: &str = "boot";
const CLOSED: &str = "closed";

/// Whether the machine may have crashed with files of this store unwritten: it was not closed, and this is another
/// boot. A killed process does no harm as long as the kernel lives.
pub(super) fn was_interrupted(root: &Path) -> bool {
    match fs::read_to_string(root.join(NAME)) {
        Ok(text) => text != CLOSED && text != boot(),
        // Never opened before, or by nobody who can be trusted.
        Err(_) => true,
    }
}

/// From now on files may be unwritten.
pub(super) fn opened(root: &Path) -> io::Result<()> {
    crate::durable::write(&root.join(NAME), boot().as_bytes())
}

/// All files are written.
pub(super) fn closed(root: &Path) -> io::Result<()> {
    nix::unistd::syncfs(&File::open(root)?)?;
    crate::durable::write(&root.join(NAME), CLOSED.as_bytes())
}

/// Changes with each start of the kernel (random(4)).
fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}
