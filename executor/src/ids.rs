use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

/// Unique names of invocations: a random start per process, then a count.
pub(crate) struct RequestIds {
    process: u64,
    next: AtomicU64,
}

impl RequestIds {
    pub(crate) fn new() -> Self {
        // Each RandomState is seeded by the system's random source.
        RequestIds { process: RandomState::new().hash_one(std::process::id()), next: AtomicU64::new(1) }
    }

    pub(crate) fn next(&self) -> String {
        format!("{:016x}-{:08x}", self.process, self.next.fetch_add(1, Ordering::Relaxed))
    }
}
