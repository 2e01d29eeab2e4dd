//! The cache of zygotes: one for each set of wheels that functions ask for, made on first use.
//!
//! The rule that makes forking safe stands in [`best_parent`]: a process may be forked only from one whose wheels
//! are all among its own, compared by hash. A new zygote is forked from the best one that there is, so it imports
//! only what that one lacks. A set whose zygote cannot be made is remembered for a while, and its sandboxes are
//! forked from the next best: slower, never wrong. At the limit the least recently used goes; sandboxes
//! outlive the zygote they came from.

use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mirror::Sha256;
use tokio::sync::OnceCell;

use crate::chain::chain;
use crate::sandbox::{Sandboxes, Zygote, ZygoteError, ZygoteSpec};

mod subset;

pub use subset::best_parent;

/// The wheels that a process has imported from, or may.
pub type WheelSet = BTreeSet<Sha256>;

/// An environment as the cache sees it.
#[derive(Clone, Debug, Default)]
pub struct PackageSet {
    /// The environment's folder; `None` where there are no packages.
    pub env_path: Option<PathBuf>,
    /// Its wheels; equal sets share a zygote.
    pub wheels: Arc<WheelSet>,
    /// The modules each wheel offers.
    pub modules: HashMap<Sha256, Vec<String>>,
}

impl PackageSet {
    /// What a zygote of this set imports when its parent has imported `have` already.
    fn imports(&self, have: &WheelSet) -> Vec<String> {
        let mut names: Vec<_> = self
            .wheels
            .difference(have)
            .filter_map(|wheel| self.modules.get(wheel))
            .flatten()
            .filter(|name| is_worth_importing(name))
            .cloned()
            .collect();
        names.sort();
        names.dedup();
        names
    }
}

/// Private modules are imported by their packages; stray test folders at the top of a wheel by nobody.
fn is_worth_importing(name: &str) -> bool {
    !name.starts_with('_') && !matches!(name, "test" | "tests" | "docs" | "examples")
}

/// What makes zygotes: [`Sandboxes`], or a script of one in tests.
pub trait Nursery: Send + Sync + 'static {
    /// A handle; the process ends with its last clone.
    type Zygote: Clone + Send + Sync + 'static;
    /// Starts one that has imported nothing.
    fn root(&self) -> impl Future<Output = Result<Self::Zygote, ZygoteError>> + Send;
    /// Forks one from `parent` and lets it import.
    fn child(
        &self,
        parent: &Self::Zygote,
        spec: ZygoteSpec,
    ) -> impl Future<Output = Result<Self::Zygote, ZygoteError>> + Send;
    /// Whether the process lives.
    fn is_alive(zygote: &Self::Zygote) -> bool;
}

impl Nursery for Sandboxes {
    type Zygote = Zygote;

    async fn root(&self) -> Result<Zygote, ZygoteError> {
        self.root_zygote().await
    }

    async fn child(&self, parent: &Zygote, spec: ZygoteSpec) -> Result<Zygote, ZygoteError> {
        let zygote = self.child_zygote(parent, spec).await?;
        for (module, reason) in zygote.failed_imports() {
            tracing::debug!(module, reason, "a module was not imported ahead");
        }
        Ok(zygote)
    }

    fn is_alive(zygote: &Zygote) -> bool {
        zygote.is_alive()
    }
}

/// The zygote to fork a sandbox from.
#[derive(Clone, Debug)]
pub struct Parent<Z> {
    /// The process.
    pub zygote: Z,
    /// It holds all packages, and did so before this call asked.
    pub was_ready: bool,
    node: Arc<WheelSet>,
    made: u64,
}

/// The cache.
pub struct Zygotes<N: Nursery> {
    nursery: N,
    limit: usize,
    retry_after: Duration,
    nodes: Mutex<Nodes<N::Zygote>>,
    clock: AtomicU64,
}

type Nodes<Z> = HashMap<Arc<WheelSet>, Arc<Node<Z>>>;

struct Node<Z> {
    wheels: Arc<WheelSet>,
    /// Tells this node from a later one of the same set.
    made: u64,
    last_used: AtomicU64,
    /// One maker, however many wait; a maker that is cancelled hands over to the next.
    state: OnceCell<State<Z>>,
}

enum State<Z> {
    Ready(Z),
    Failed { since: Instant },
}

impl<Z: Clone> Node<Z> {
    fn zygote(&self) -> Option<Z> {
        match self.state.get() {
            Some(State::Ready(zygote)) => Some(zygote.clone()),
            _ => None,
        }
    }

    fn parent(&self, was_ready: bool) -> Option<Parent<Z>> {
        Some(Parent { zygote: self.zygote()?, was_ready, node: self.wheels.clone(), made: self.made })
    }
}

/// Tries before a call gives up on zygotes that vanish while it asks for them.
const ATTEMPTS: usize = 4;

impl<N: Nursery> Zygotes<N> {
    /// An empty cache of at most `limit` zygotes, the root among them. A set whose zygote could not be made is
    /// tried again after `retry_after`.
    pub fn new(nursery: N, limit: usize, retry_after: Duration) -> Zygotes<N> {
        let limit = limit.max(2);
        Zygotes { nursery, limit, retry_after, nodes: Mutex::default(), clock: AtomicU64::new(0) }
    }

    /// What makes the zygotes.
    pub fn nursery(&self) -> &N {
        &self.nursery
    }

    /// The zygote that holds `set`; made where there is none; the next best where it cannot be made.
    ///
    /// # Errors
    /// Not even the root zygote can be made, or zygotes die as fast as they are made.
    pub async fn parent_for(&self, set: &PackageSet) -> Result<Parent<N::Zygote>, ZygoteError> {
        for _ in 0..ATTEMPTS {
            let node = self.node(&set.wheels);
            let was_ready = node.state.initialized();
            match node.state.get_or_try_init(|| self.make(set)).await {
                Ok(State::Ready(zygote)) if N::is_alive(zygote) => {
                    self.evict(&node.wheels);
                    return node.parent(was_ready).ok_or(ZygoteError::ParentGone);
                }
                Ok(State::Ready(_)) => self.forget(&node.wheels, node.made),
                Ok(State::Failed { since }) => {
                    if since.elapsed() >= self.retry_after {
                        self.forget(&node.wheels, node.made);
                    }
                    return self.ancestor(set).await;
                }
                // The parent died meanwhile and is forgotten: the next round finds or makes another.
                Err(ZygoteError::ParentGone) => {}
                Err(error) => return Err(error),
            }
        }
        Err(ZygoteError::ParentGone)
    }

    /// A fork found the zygote gone: the next call makes a new one.
    pub fn gone(&self, parent: &Parent<N::Zygote>) {
        self.forget(&parent.node, parent.made);
    }

    /// How many zygotes are ready.
    pub fn count(&self) -> usize {
        self.lock().values().filter(|node| node.zygote().is_some()).count()
    }

    /// Lets go of all zygotes; they end when no fork under way holds them.
    pub fn clear(&self) {
        let nodes = std::mem::take(&mut *self.lock());
        drop(nodes);
    }

    /// Makes the zygote of `set`. That it cannot be made is a result to remember, unless it is the root.
    async fn make(&self, set: &PackageSet) -> Result<State<N::Zygote>, ZygoteError> {
        let Some(env_path) = set.env_path.clone().filter(|_| !set.wheels.is_empty()) else {
            return self.nursery.root().await.map(State::Ready);
        };
        let parent = self.ancestor(set).await?;
        let imports = set.imports(&parent.node);
        match self.nursery.child(&parent.zygote, ZygoteSpec { env_path, imports }).await {
            Ok(zygote) => Ok(State::Ready(zygote)),
            Err(ZygoteError::ParentGone) => {
                self.gone(&parent);
                Err(ZygoteError::ParentGone)
            }
            Err(error) => {
                let (wheels, reason) = (set.wheels.len(), chain(&error));
                tracing::info!(
                    wheels,
                    reason,
                    "no zygote for this package set; its sandboxes import by themselves"
                );
                Ok(State::Failed { since: Instant::now() })
            }
        }
    }

    /// The best ready zygote for `set` other than its own; in the end the root.
    async fn ancestor(&self, set: &PackageSet) -> Result<Parent<N::Zygote>, ZygoteError> {
        let ready: Vec<_> = {
            let nodes = self.lock();
            let alive = |node: &&Arc<Node<_>>| node.zygote().is_some_and(|zygote| N::is_alive(&zygote));
            nodes.values().filter(|node| node.wheels != set.wheels).filter(alive).cloned().collect()
        };
        let best = best_parent(ready.iter().map(|node| (node, &*node.wheels)), &set.wheels);
        if let Some(parent) = best.and_then(|node| node.parent(false)) {
            return Ok(parent);
        }
        let root = self.node(&Arc::default());
        let state =
            root.state.get_or_try_init(|| async { self.nursery.root().await.map(State::Ready) }).await?;
        if matches!(state, State::Ready(zygote) if !N::is_alive(zygote)) {
            self.forget(&root.wheels, root.made);
            return Err(ZygoteError::ParentGone);
        }
        root.parent(false).ok_or(ZygoteError::ParentGone)
    }

    fn node(&self, wheels: &Arc<WheelSet>) -> Arc<Node<N::Zygote>> {
        let now = self.clock.fetch_add(1, Ordering::Relaxed);
        let mut nodes = self.lock();
        let node = nodes.entry(wheels.clone()).or_insert_with(|| {
            let last_used = AtomicU64::new(now);
            Arc::new(Node { wheels: wheels.clone(), made: now, last_used, state: OnceCell::new() })
        });
        node.last_used.store(now, Ordering::Relaxed);
        node.clone()
    }

    fn forget(&self, wheels: &Arc<WheelSet>, made: u64) {
        let mut nodes = self.lock();
        if nodes.get(wheels).is_some_and(|node| node.made == made) {
            nodes.remove(wheels);
        }
    }

    /// Brings the cache below its limit; spares the root (every other zygote comes from it) and the one just used.
    fn evict(&self, used: &Arc<WheelSet>) {
        let mut nodes = self.lock();
        while nodes.len() > self.limit {
            let spare = |node: &&Arc<Node<_>>| {
                node.wheels.is_empty() || node.wheels == *used || !node.state.initialized()
            };
            let oldest = nodes
                .values()
                .filter(|node| !spare(node))
                .min_by_key(|node| node.last_used.load(Ordering::Relaxed));
            let Some(oldest) = oldest.map(|node| node.wheels.clone()) else { return };
            nodes.remove(&oldest);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Nodes<N::Zygote>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
