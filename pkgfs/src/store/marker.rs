//! In which boot of the machine the files of the store were written: `<store>/boot`.

use std::fs;
use std::io;
use std::path::Path;

const NAME: &str = "boot";

/// Whether files may be damaged: they were written before the machine was last started, and perhaps not to the end.
/// A killed process does no harm as long as the kernel lives.
pub(super) fn is_of_another_boot(root: &Path) -> bool {
    let boot = boot();
    boot.is_empty() || fs::read_to_string(root.join(NAME)).ok() != Some(boot)
}

/// From now on files are of this boot.
pub(super) fn write(root: &Path) -> io::Result<()> {
    crate::durable::write(&root.join(NAME), boot().as_bytes())
}

/// Changes with each start of the kernel (random(4)).
fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}
