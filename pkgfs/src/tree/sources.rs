use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mirror::Sha256;

use super::Source;

/// All wheels that have one member, by what their RECORDs say. One of them may say so falsely, so none is relied on:
/// what cannot be had of the first is had of the next.
#[derive(Debug)]
pub(crate) struct Sources {
    pub(crate) digest: Sha256,
    pub(crate) size: u64,
    /// Never empty.
    from: Mutex<Vec<Source>>,
}

impl Sources {
    pub(crate) fn new(source: Source) -> Arc<Sources> {
        let (digest, size) = (source.digest, source.size);
        Arc::new(Sources { digest, size, from: Mutex::new(vec![source]) })
    }

    /// In the order in which they are to be tried.
    pub(crate) fn all(&self) -> Vec<Source> {
        self.lock().clone()
    }

    /// Another tree has the same member.
    pub(super) fn add(&self, other: &Sources) {
        if std::ptr::eq(self, other) {
            return;
        }
        let new = other.all();
        let mut from = self.lock();
        for source in new {
            // From the end: the files of one wheel come one after another.
            if !from.iter().rev().any(|known| known.is(&source)) {
                from.push(source);
            }
        }
    }

    /// It failed, and is tried after all others from now on.
    pub(crate) fn put_last(&self, failed: &Source) {
        let mut from = self.lock();
        if let Some(place) = from.iter().position(|known| known.is(failed)) {
            from[place..].rotate_left(1);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Source>> {
        self.from.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source {
    /// Members of one wheel that are equal by RECORD may yet differ.
    fn is(&self, other: &Source) -> bool {
        self.member == other.member && Arc::ptr_eq(&self.wheel, &other.wheel)
    }
}
