use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tokio::sync::watch;

use super::WheelSet;
use crate::sandbox::ZygoteError;

/// One set of wheels in the cache. A task of its own makes its zygote; calls only watch.
pub(super) struct Node<Z> {
    pub(super) wheels: Arc<WheelSet>,
    /// Tells this node from a later one of the same set.
    pub(super) made: u64,
    last_used: AtomicU64,
    outcome: watch::Sender<Option<Outcome<Z>>>,
}

/// What came of a node's zygote.
#[derive(Clone)]
pub(super) enum Outcome<Z> {
    /// It was ready; it may have died since.
    Ready(Z),
    /// This set has no zygote that can be forked from: a result to remember for a while.
    Failed { since: Instant },
    /// Not the set's fault, and nothing to remember: the node is forgotten, and the next call tries again.
    Broken(Arc<ZygoteError>),
}

impl<Z: Clone> Node<Z> {
    pub(super) fn new(wheels: Arc<WheelSet>, made: u64) -> Node<Z> {
        Node { wheels, made, last_used: AtomicU64::new(made), outcome: watch::Sender::new(None) }
    }

    pub(super) fn touch(&self, now: u64) {
        self.last_used.store(now, Ordering::Relaxed);
    }

    pub(super) fn last_used(&self) -> u64 {
        self.last_used.load(Ordering::Relaxed)
    }

    pub(super) fn settle(&self, outcome: Outcome<Z>) {
        self.outcome.send_replace(Some(outcome));
    }

    pub(super) fn is_settled(&self) -> bool {
        self.outcome.borrow().is_some()
    }

    /// Waits until its maker is done. A wait that is cancelled changes nothing.
    pub(super) async fn outcome(&self) -> Outcome<Z> {
        let mut watched = self.outcome.subscribe();
        let settled = watched.wait_for(Option::is_some).await.ok().and_then(|outcome| outcome.clone());
        settled.unwrap_or_else(|| Outcome::Broken(Arc::new(ZygoteError::ParentGone)))
    }

    pub(super) fn zygote(&self) -> Option<Z> {
        match &*self.outcome.borrow() {
            Some(Outcome::Ready(zygote)) => Some(zygote.clone()),
            _ => None,
        }
    }
}

/// Settles a node whose maker ended without a word (a panic): nobody waits for ever.
pub(super) struct Maker<Z: Clone>(pub(super) Arc<Node<Z>>);

impl<Z: Clone> Drop for Maker<Z> {
    fn drop(&mut self) {
        if !self.0.is_settled() {
            self.0.settle(Outcome::Broken(Arc::new(ZygoteError::ParentGone)));
        }
    }
}
