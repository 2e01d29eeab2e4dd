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
use tokio::sync::Semaphore;

use crate::chain::chain;
use crate::sandbox::{Sandboxes, Zygote, ZygoteError, ZygoteSpec};

mod node;
mod subset;

use node::{Maker, Node, Outcome};
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

impl<Z> Parent<Z> {
    /// Whether it has imported nothing: there is no other to fall back on.
    pub fn is_root(&self) -> bool {
        self.node.is_empty()
    }
}

/// The cache.
pub struct Zygotes<N: Nursery> {
    shared: Arc<Shared<N>>,
}

/// What calls and the tasks that make zygotes share.
struct Shared<N: Nursery> {
    nursery: N,
    limit: usize,
    retry_after: Duration,
    nodes: Mutex<Nodes<N::Zygote>>,
    /// As many zygotes import at once as may be kept.
    making: Semaphore,
    clock: AtomicU64,
}

type Nodes<Z> = HashMap<Arc<WheelSet>, Arc<Node<Z>>>;

/// Why there is no zygote: shared by all calls that waited for it.
pub type NoZygote = Arc<ZygoteError>;

/// Tries before a call gives up on zygotes that vanish while it asks for them.
const ATTEMPTS: usize = 4;

impl<N: Nursery> Zygotes<N> {
    /// An empty cache of at most `limit` zygotes, the root among them. A set whose zygote could not be made is
    /// tried again after `retry_after`.
    pub fn new(nursery: N, limit: usize, retry_after: Duration) -> Zygotes<N> {
        let limit = limit.max(2);
        let (nodes, clock, making) = (Mutex::default(), AtomicU64::new(0), Semaphore::new(limit));
        Zygotes { shared: Arc::new(Shared { nursery, limit, retry_after, nodes, making, clock }) }
    }

    /// The zygote that holds `set`; made where there is none; the next best where it cannot be made.
    ///
    /// # Errors
    /// Not even the root zygote can be made, or zygotes die as fast as they are made.
    pub async fn parent_for(&self, set: &PackageSet) -> Result<Parent<N::Zygote>, NoZygote> {
        self.shared.parent_for(set).await
    }

    /// A fork found the zygote gone: the next call makes a new one.
    pub fn gone(&self, parent: &Parent<N::Zygote>) {
        self.shared.forget(&parent.node, parent.made);
    }

    /// The zygote was made but nothing can be forked from it: for a while its set has none.
    pub fn cannot_fork(&self, parent: &Parent<N::Zygote>) {
        let wheels = &parent.node;
        // Its set may have a newer one by now; that one comes of the same imports.
        if let Some(node) =
            self.shared.lock().get(wheels).filter(|node| !wheels.is_empty() && node.is_settled())
        {
            node.settle(Outcome::Failed { since: Instant::now() });
        }
    }

    /// How many zygotes are ready.
    pub fn count(&self) -> usize {
        self.shared.lock().values().filter(|node| node.zygote().is_some()).count()
    }

    /// Lets go of all zygotes; they end when no fork under way holds them.
    pub fn clear(&self) {
        let nodes = std::mem::take(&mut *self.shared.lock());
        drop(nodes);
    }
}

impl<N: Nursery> Shared<N> {
    async fn parent_for(self: &Arc<Self>, set: &PackageSet) -> Result<Parent<N::Zygote>, NoZygote> {
        for _ in 0..ATTEMPTS {
            let node = self.node(set);
            let was_ready = node.is_settled();
            match node.outcome().await {
                Outcome::Ready(zygote) if N::is_alive(&zygote) => {
                    self.evict(&node.wheels);
                    return Ok(Parent { zygote, was_ready, node: node.wheels.clone(), made: node.made });
                }
                Outcome::Ready(_) => self.forget(&node.wheels, node.made),
                Outcome::Failed { since } => {
                    if since.elapsed() >= self.retry_after {
                        self.forget(&node.wheels, node.made);
                    }
                    return self.ancestor(set).await;
                }
                Outcome::Broken(error) => {
                    // Only a maker that panicked has not forgotten it.
                    self.forget(&node.wheels, node.made);
                    // The parent died meanwhile and is forgotten: the next round finds or makes another.
                    if !matches!(*error, ZygoteError::ParentGone) {
                        return Err(error);
                    }
                }
            }
        }
        Err(Arc::new(ZygoteError::ParentGone))
    }

    /// The node of `set`. A new one gets a task that makes its zygote and that no call owns: a client that hangs up
    /// must not make the next call import once more.
    fn node(self: &Arc<Self>, set: &PackageSet) -> Arc<Node<N::Zygote>> {
        let now = self.clock.fetch_add(1, Ordering::Relaxed);
        let mut nodes = self.lock();
        if let Some(node) = nodes.get(&set.wheels) {
            node.touch(now);
            return node.clone();
        }
        let node = Arc::new(Node::new(set.wheels.clone(), now));
        nodes.insert(set.wheels.clone(), node.clone());
        self.start_making(node.clone(), set.clone());
        node
    }

    fn start_making(self: &Arc<Self>, node: Arc<Node<N::Zygote>>, set: PackageSet) {
        let shared = self.clone();
        tokio::spawn(async move {
            let maker = Maker(node);
            let outcome = shared.make(&set).await.unwrap_or_else(|error| {
                // Forgotten even where nobody waits any more: the next call must try, not be told an old error.
                shared.forget(&maker.0.wheels, maker.0.made);
                Outcome::Broken(error)
            });
            maker.0.settle(outcome);
        });
    }

    /// Makes the zygote of `set`. That it cannot be made is a result to remember, unless it is the root.
    async fn make(self: &Arc<Self>, set: &PackageSet) -> Result<Outcome<N::Zygote>, NoZygote> {
        let Some(env_path) = set.env_path.clone().filter(|_| !set.wheels.is_empty()) else {
            return Ok(Outcome::Ready(self.nursery.root().await?));
        };
        let _permit = self.making.acquire().await;
        let parent = self.ancestor(set).await?;
        let imports = set.imports(&parent.node);
        match self.nursery.child(&parent.zygote, ZygoteSpec { env_path, imports }).await {
            Ok(zygote) => Ok(Outcome::Ready(zygote)),
            Err(ZygoteError::ParentGone) => {
                self.forget(&parent.node, parent.made);
                Err(Arc::new(ZygoteError::ParentGone))
            }
            Err(error) => {
                let (wheels, reason) = (set.wheels.len(), chain(&error));
                tracing::info!(
                    wheels,
                    reason,
                    "no zygote for this package set; its sandboxes import by themselves"
                );
                Ok(Outcome::Failed { since: Instant::now() })
            }
        }
    }

    /// The best ready zygote for `set` other than its own; in the end the root.
    async fn ancestor(self: &Arc<Self>, set: &PackageSet) -> Result<Parent<N::Zygote>, NoZygote> {
        let ready: Vec<_> = {
            let nodes = self.lock();
            let others = nodes.values().filter(|node| node.wheels != set.wheels);
            others.filter_map(|node| Some((node.zygote().filter(N::is_alive)?, node.clone()))).collect()
        };
        if let Some((zygote, node)) =
            best_parent(ready.iter().map(|ready| (ready, &*ready.1.wheels)), &set.wheels).cloned()
        {
            return Ok(Parent { zygote, was_ready: false, node: node.wheels.clone(), made: node.made });
        }
        let root = self.node(&PackageSet::default());
        match root.outcome().await {
            Outcome::Ready(zygote) if N::is_alive(&zygote) => {
                Ok(Parent { zygote, was_ready: false, node: root.wheels.clone(), made: root.made })
            }
            outcome => {
                self.forget(&root.wheels, root.made);
                Err(match outcome {
                    Outcome::Broken(error) => error,
                    _ => Arc::new(ZygoteError::ParentGone),
                })
            }
        }
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
            let spare =
                |node: &&Arc<Node<_>>| node.wheels.is_empty() || node.wheels == *used || !node.is_settled();
            let oldest = nodes.values().filter(|node| !spare(node)).min_by_key(|node| node.last_used());
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
