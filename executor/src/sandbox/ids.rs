use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

/// Host user ids from `first` up, handed out singly or in blocks and given back when the owner is dropped.
#[derive(Clone)]
pub(super) struct Ids {
    shared: Arc<Mutex<Free>>,
    first: u32,
    count: u32,
    // Where this range came from; held so that it is given back after everything taken from it.
    lease: Option<Arc<Lease>>,
}

struct Free {
    // Start of each run that was given back, and everything from `fresh` up.
    returned: BTreeSet<(u32, u32)>,
    fresh: u32,
    end: u32,
}

/// A run of ids that is in use.
pub(super) struct Lease {
    shared: Arc<Mutex<Free>>,
    first: u32,
    count: u32,
    // The range it was taken from is in use as long as this run is.
    _parent: Option<Arc<Lease>>,
}

impl Ids {
    pub(super) fn new(first: u32, count: u32) -> Ids {
        Ids::of(first, count, None)
    }

    fn of(first: u32, count: u32, lease: Option<Arc<Lease>>) -> Ids {
        let end = first.saturating_add(count);
        let free = Free { returned: BTreeSet::new(), fresh: first, end };
        Ids { shared: Arc::new(Mutex::new(free)), first, count, lease }
    }

    /// The lowest id of the range.
    pub(super) fn first(&self) -> u32 {
        self.first
    }

    /// How many ids the range has.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// A run of `count` ids; `None` when all are in use.
    pub(super) fn take(&self, count: u32) -> Option<Lease> {
        let mut free = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let again = free.returned.iter().find(|&&(_, size)| size == count).copied();
        let first = match again {
            Some(run) => {
                free.returned.remove(&run);
                run.0
            }
            None if free.end - free.fresh >= count => {
                free.fresh += count;
                free.fresh - count
            }
            None => return None,
        };
        Some(Lease { shared: Arc::clone(&self.shared), first, count, _parent: self.lease.clone() })
    }

    /// A range of its own within this one, whose lowest id is taken by its owner.
    pub(super) fn block(&self, count: u32) -> Option<Ids> {
        let lease = self.take(count)?;
        let ids = Ids::of(lease.first, count, Some(Arc::new(lease)));
        ids.shared.lock().unwrap_or_else(PoisonError::into_inner).fresh += 1;
        Some(ids)
    }
}

impl Lease {
    /// The lowest id of the run.
    pub(super) fn id(&self) -> u32 {
        self.first
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut free = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        free.returned.insert((self.first, self.count));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_id_is_handed_out_twice_and_all_come_back() {
        let ids = Ids::new(1000, 10);
        let zygote = ids.block(4).unwrap();
        assert_eq!((zygote.first(), zygote.count()), (1000, 4));
        let leaves: Vec<_> = (0..3).map(|_| zygote.take(1).unwrap()).collect();
        assert_eq!(leaves.iter().map(Lease::id).collect::<Vec<_>>(), [1001, 1002, 1003]);
        assert!(zygote.take(1).is_none());
        drop(zygote);
        let other = ids.block(4).unwrap();
        assert_eq!(other.first(), 1004, "a range is in use as long as a lease of it is");
        drop(leaves);
        assert!(ids.block(4).is_none_or(|again| again.first() != 1004));
    }
}
