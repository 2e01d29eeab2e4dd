use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use mirror::Sha256;

/// Digest and size of byte code; `None` where a source has none.
type Known = Option<(Sha256, u64)>;

/// Which byte code belongs to which source: a file of lines `key digest size`, read once and then appended to.
/// A line that a crash tore is ignored: its byte code is made again.
#[derive(Debug)]
pub(super) struct Journal {
    state: Mutex<(HashMap<Sha256, Known>, File)>,
}

impl Journal {
    pub(super) fn open(folder: &Path) -> io::Result<Journal> {
        fs::create_dir_all(folder)?;
        let path = folder.join("journal");
        let text = fs::read(&path).unwrap_or_default();
        let known = String::from_utf8_lossy(&text).lines().filter_map(parse).collect();
        let mut file = File::options().create(true).append(true).open(path)?;
        if text.last().is_some_and(|last| *last != b'\n') {
            file.write_all(b"\n")?;
        }
        Ok(Journal { state: Mutex::new((known, file)) })
    }

    /// What is known of a source: nothing, that it has no byte code, or which.
    pub(super) fn get(&self, key: &Sha256) -> Option<Known> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).0.get(key).copied()
    }

    /// Failures are remembered by this run only.
    pub(super) fn put(&self, key: &Sha256, known: Known) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.0.insert(*key, known);
        if let Some((digest, size)) = known
            && let Err(error) = state.1.write_all(format!("{key} {digest} {size}\n").as_bytes())
        {
            tracing::info!(%error, "byte code will be made again after a restart");
        }
    }
}

fn parse(line: &str) -> Option<(Sha256, Known)> {
    let mut fields = line.split(' ');
    let key = fields.next()?.parse().ok()?;
    let known = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    fields.next().is_none().then_some((key, Some(known)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_is_known_to_the_next_run_and_torn_lines_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two, three) = (Sha256::of(b"1"), Sha256::of(b"2"), Sha256::of(b"3"));
        let journal = Journal::open(dir.path()).unwrap();
        journal.put(&one, Some((two, 7)));
        journal.put(&two, None);
        assert_eq!(journal.get(&two), Some(None));
        drop(journal);
        let path = dir.path().join("journal");
        let mut text = fs::read(&path).unwrap();
        text.extend_from_slice(&text.clone()[..80]);
        fs::write(&path, text).unwrap();
        let journal = Journal::open(dir.path()).unwrap();
        journal.put(&three, Some((one, 1)));
        drop(journal);
        let journal = Journal::open(dir.path()).unwrap();
        assert_eq!(journal.get(&one), Some(Some((two, 7))));
        assert_eq!(journal.get(&two), None);
        assert_eq!(journal.get(&three), Some(Some((one, 1))));
    }
}
