use std::sync::{Mutex, MutexGuard, PoisonError};

use url::Url;

use super::Wheel;
use crate::remote::RemoteFile;

/// Most places of one wheel.
const MAX_PLACES: usize = 4;
/// Most addresses of one wheel that are remembered as asked about.
const MAX_ASKED: usize = 64;

/// Where a wheel is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) file: RemoteFile,
    /// The index's own page says so.
    pub(crate) listed: bool,
}

/// The places of a wheel, to be tried in this order: what the index says comes before what locks say, and what was
/// named first before what was named later, so that no lock can take a wheel away from others.
#[derive(Debug)]
pub(super) struct Places(Mutex<(Vec<Place>, Vec<Url>)>);

impl Places {
    pub(super) fn new(first: Place) -> Places {
        Places(Mutex::new((vec![first], Vec::new())))
    }

    fn state(&self) -> MutexGuard<'_, (Vec<Place>, Vec<Url>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wheel {
    /// Where it is, as far as is known.
    pub(crate) fn places(&self) -> Vec<Place> {
        self.places.state().0.clone()
    }

    /// Whether nobody asked about this address before; the next time somebody did.
    pub(super) fn is_new(&self, url: &Url) -> bool {
        let (places, asked) = &mut *self.places.state();
        if asked.contains(url) || places.iter().any(|place| place.listed && place.file.url == *url) {
            return false;
        }
        if asked.len() == MAX_ASKED {
            asked.remove(0);
        }
        asked.push(url.clone());
        true
    }

    /// A lock says so. Each member is verified wherever it comes from.
    pub(super) fn may_be_at(&self, file: &RemoteFile) {
        let places = &mut self.places.state().0;
        if places.len() < MAX_PLACES && places.iter().all(|place| place.file.url != file.url) {
            places.push(Place { file: file.clone(), listed: false });
        }
    }

    /// The index says so.
    pub(super) fn is_at(&self, file: RemoteFile) {
        let places = &mut self.places.state().0;
        places.retain(|place| place.file.url != file.url);
        places.insert(0, Place { file, listed: true });
        places.truncate(MAX_PLACES);
    }
}
