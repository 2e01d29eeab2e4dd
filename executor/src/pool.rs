//! Warm instances and the limits on sandboxes. Pure policy: it starts nothing, it hands out places.
//!
//! A call asks for a [`Place`]. It holds a warm sandbox, or the right to start one. The newest idle sandbox is used
//! first (its pages are the likeliest to be in the cache, and the oldest get to expire). Where a limit is
//! reached the call waits in its function's queue; freed places go to whoever has waited longest among those that
//! can use it. Every place comes back by being dropped, so a call that is cancelled anywhere leaks nothing.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::function::Function;

mod place;

pub use place::Place;
use place::Slot;

/// What the pool keeps: a sandbox between two calls.
pub trait Sandbox: Send + 'static {
    /// Whether it could still take a call. A sandbox may die while idle (a thread of its own, a signal).
    fn is_alive(&mut self) -> bool;
    /// Kills it and waits until nothing of it is left.
    fn end(self) -> impl Future<Output = ()> + Send;
}

/// The pool's limits; see `config/default/executor.toml`.
#[derive(Clone, Copy, Debug)]
pub struct PoolLimits {
    /// Sandboxes in all.
    pub instances: usize,
    /// Sandboxes of one version of a function.
    pub instances_per_function: usize,
    /// Calls of one function that wait.
    pub queue: usize,
    /// Longest wait.
    pub queue_timeout: Duration,
    /// How long a sandbox may be idle.
    pub idle_timeout: Duration,
}

/// Why a call got no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// As many calls wait for this function as may.
    #[error("all sandboxes of this function are busy and {waiting} calls wait already; try again later")]
    QueueFull {
        /// How many.
        waiting: usize,
    },
    /// No place came free in time.
    #[error("no sandbox came free within {} ms; try again later", waited.as_millis())]
    WaitedTooLong {
        /// The limit that was reached.
        waited: Duration,
    },
    /// The daemon is stopping.
    #[error("ol-exec is stopping; try again when it has been started anew")]
    Stopping,
}

/// The pool. Clones are the same pool.
pub struct Pool<S: Sandbox> {
    shared: Arc<Shared<S>>,
}

impl<S: Sandbox> Clone for Pool<S> {
    fn clone(&self) -> Self {
        Pool { shared: self.shared.clone() }
    }
}

/// How many sandboxes there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolCounts {
    /// Busy, starting and idle.
    pub live: usize,
    /// Idle.
    pub idle: usize,
    /// Calls that wait.
    pub waiting: usize,
}

struct Shared<S: Sandbox> {
    limits: PoolLimits,
    state: Mutex<State<S>>,
    /// Told whenever a place came free.
    freed: Notify,
    runtime: tokio::runtime::Handle,
}

struct State<S: Sandbox> {
    live: usize,
    next_ticket: u64,
    stopping: bool,
    /// By [`Function::id`]; an entry goes when nothing lives and nobody waits.
    functions: HashMap<u64, Line<S>>,
}

/// One version's sandboxes and waiting calls.
struct Line<S: Sandbox> {
    function: Arc<Function>,
    live: usize,
    /// Longest idle first.
    idle: VecDeque<Idle<S>>,
    waiting: VecDeque<Waiter<S>>,
}

struct Idle<S> {
    sandbox: S,
    since: Instant,
}

struct Waiter<S: Sandbox> {
    ticket: u64,
    sender: oneshot::Sender<Place<S>>,
}

impl<S: Sandbox> Pool<S> {
    /// A pool on the current runtime, with its task that ends idle sandboxes.
    pub fn new(limits: PoolLimits) -> Pool<S> {
        let state = State { live: 0, next_ticket: 0, stopping: false, functions: HashMap::new() };
        let shared = Arc::new(Shared {
            limits,
            state: Mutex::new(state),
            freed: Notify::new(),
            runtime: tokio::runtime::Handle::current(),
        });
        tokio::spawn(expire(Arc::downgrade(&shared), limits.idle_timeout));
        Pool { shared }
    }

    /// A place for one call of `function`, at once or after a bounded wait.
    ///
    /// # Errors
    /// See [`PoolError`].
    pub async fn acquire(&self, function: &Arc<Function>) -> Result<Place<S>, PoolError> {
        let mut receiver = self.enqueue(function)?;
        self.shared.dispatch();
        let waited = self.shared.limits.queue_timeout;
        match tokio::time::timeout(waited, &mut receiver).await {
            Ok(granted) => granted.map_err(|_| PoolError::Stopping),
            // Granted in the same instant: taken rather than thrown away.
            Err(_) => receiver.try_recv().map_err(|_| PoolError::WaitedTooLong { waited }),
        }
    }

    fn enqueue(&self, function: &Arc<Function>) -> Result<oneshot::Receiver<Place<S>>, PoolError> {
        let mut state = self.shared.lock();
        if state.stopping {
            return Err(PoolError::Stopping);
        }
        let ticket = state.next_ticket;
        let line = state.functions.entry(function.id).or_insert_with(|| Line::new(function.clone()));
        line.waiting.retain(|waiter| !waiter.sender.is_closed());
        let at_once = !line.idle.is_empty() || line.live < self.shared.limits.instances_per_function;
        let waiting = line.waiting.len();
        if waiting >= self.shared.limits.queue && !(at_once && waiting == 0) {
            return Err(PoolError::QueueFull { waiting });
        }
        let (sender, receiver) = oneshot::channel();
        line.waiting.push_back(Waiter { ticket, sender });
        state.next_ticket += 1;
        Ok(receiver)
    }

    /// Ends the idle sandboxes of a version that was replaced or removed.
    pub fn drain(&self, function: &Function) {
        let idle = {
            let mut state = self.shared.lock();
            let Some(line) = state.functions.get_mut(&function.id) else { return };
            line.take_idle(&self.shared, |_| true)
        };
        drop(idle);
    }

    /// Takes no more calls, turns the waiting away, ends what is idle, and waits for the busy. The caller bounds
    /// the wait.
    pub async fn stop(&self) {
        let functions: Vec<_> = {
            let mut state = self.shared.lock();
            state.stopping = true;
            state.functions.values_mut().for_each(|line| line.waiting.clear());
            state.functions.values().map(|line| line.function.clone()).collect()
        };
        functions.iter().for_each(|function| self.drain(function));
        loop {
            let freed = self.shared.freed.notified();
            if self.counts().live == 0 {
                return;
            }
            freed.await;
        }
    }

    /// How many sandboxes there are now.
    pub fn counts(&self) -> PoolCounts {
        let state = self.shared.lock();
        PoolCounts {
            live: state.live,
            idle: state.functions.values().map(|line| line.idle.len()).sum(),
            waiting: state.functions.values().map(|line| line.waiting.len()).sum(),
        }
    }
}

impl<S: Sandbox> Line<S> {
    fn new(function: Arc<Function>) -> Self {
        Line { function, live: 0, idle: VecDeque::new(), waiting: VecDeque::new() }
    }

    fn take_longest_idle(&mut self, shared: &Arc<Shared<S>>) -> Option<Place<S>> {
        let idle = self.idle.pop_front()?;
        Some(Place::new(Slot::new(shared.clone(), self.function.clone()), Some(idle.sandbox)))
    }

    /// Takes idle sandboxes off the list, longest idle first, while `which` says so of when they became idle. To
    /// be dropped outside the lock: that ends them.
    fn take_idle(&mut self, shared: &Arc<Shared<S>>, which: impl Fn(Instant) -> bool) -> Vec<Place<S>> {
        let mut taken = Vec::new();
        while self.idle.front().is_some_and(|idle| which(idle.since)) {
            taken.extend(self.take_longest_idle(shared));
        }
        taken
    }
}

impl<S: Sandbox> Shared<S> {
    fn lock(&self) -> MutexGuard<'_, State<S>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives free places to waiting calls until no more fit.
    fn dispatch(self: &Arc<Self>) {
        while let Some((sender, place, evicted)) = self.grant() {
            // A receiver that is gone gives the place back; it is dropped here, outside the lock.
            drop(sender.send(place));
            drop(evicted);
        }
    }

    /// The next waiting call with its place, and the idle sandbox that had to make room for it. Where one had to,
    /// the two overlap for as long as the old one takes to end.
    fn grant(self: &Arc<Self>) -> Option<Grant<S>> {
        let mut guard = self.lock();
        let state = &mut *guard;
        let id = state.next(&self.limits)?;
        let line = state.functions.get_mut(&id)?;
        let warm = line.idle.pop_back();
        let waiter = line.waiting.pop_front()?;
        let function = line.function.clone();
        let mut evicted = None;
        if warm.is_none() {
            line.live += 1;
            if state.live >= self.limits.instances {
                evicted = state.take_longest_idle(self);
            }
            state.live += 1;
        }
        let place = Place::new(Slot::new(self.clone(), function), warm.map(|idle| idle.sandbox));
        Some((waiter.sender, place, evicted))
    }
}

type Grant<S> = (oneshot::Sender<Place<S>>, Place<S>, Option<Place<S>>);

impl<S: Sandbox> State<S> {
    /// The version whose first waiting call can be served and has waited longest.
    fn next(&mut self, limits: &PoolLimits) -> Option<u64> {
        let room = self.live < limits.instances || self.functions.values().any(|line| !line.idle.is_empty());
        let mut best: Option<(u64, u64)> = None;
        for (id, line) in &mut self.functions {
            while line.waiting.front().is_some_and(|waiter| waiter.sender.is_closed()) {
                line.waiting.pop_front();
            }
            let Some(first) = line.waiting.front() else { continue };
            let fits = !line.idle.is_empty() || (room && line.live < limits.instances_per_function);
            if fits && best.is_none_or(|(_, ticket)| first.ticket < ticket) {
                best = Some((*id, first.ticket));
            }
        }
        // Of versions that nobody runs and nobody waits for (any more), nothing is held.
        self.functions.retain(|_, line| line.live > 0 || !line.waiting.is_empty());
        best.map(|(id, _)| id)
    }

    fn take_longest_idle(&mut self, shared: &Arc<Shared<S>>) -> Option<Place<S>> {
        let since = |line: &Line<S>| line.idle.front().map(|idle| idle.since);
        let oldest = self
            .functions
            .values_mut()
            .filter(|line| !line.idle.is_empty())
            .min_by_key(|line| since(line))?;
        oldest.take_longest_idle(shared)
    }
}

/// Ends what was idle too long, for as long as the pool exists. It looks four times per time-out.
async fn expire<S: Sandbox>(pool: std::sync::Weak<Shared<S>>, idle_timeout: Duration) {
    let mut ticks = tokio::time::interval((idle_timeout / 4).max(Duration::from_millis(10)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(shared) = pool.upgrade() else { return };
        let mut expired = Vec::new();
        for line in shared.lock().functions.values_mut() {
            expired.extend(line.take_idle(&shared, |since| since.elapsed() >= idle_timeout));
        }
        drop(expired);
    }
}

#[cfg(test)]
mod tests;
