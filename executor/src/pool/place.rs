use std::sync::Arc;

use tokio::time::Instant;

use super::{Idle, Sandbox, Shared};
use crate::function::Function;

/// The right to have one sandbox, and perhaps a warm one. Dropped, it ends the sandbox and then frees the right.
pub struct Place<S: Sandbox> {
    warm: Option<S>,
    slot: Option<Slot<S>>,
}

impl<S: Sandbox> Place<S> {
    pub(super) fn new(slot: Slot<S>, warm: Option<S>) -> Self {
        Place { warm, slot: Some(slot) }
    }

    /// The warm sandbox, if the place came with one that is still alive.
    pub fn take_warm(&mut self) -> Option<S> {
        let mut sandbox = self.warm.take()?;
        if sandbox.is_alive() {
            return Some(sandbox);
        }
        if let Some(slot) = &self.slot {
            slot.shared.runtime.spawn(sandbox.end());
        }
        None
    }

    /// The call is over and the sandbox can take another: it becomes idle, or goes straight to who waits.
    pub fn give_back(mut self, sandbox: S) {
        if let Some(slot) = self.slot.take() {
            slot.keep(sandbox);
        }
    }

    /// The call is over and the sandbox is of no more use. The place is free when nothing of it is left.
    pub fn end(mut self, sandbox: S) {
        if let Some(slot) = self.slot.take() {
            slot.end(sandbox);
        }
    }
}

impl<S: Sandbox> Drop for Place<S> {
    fn drop(&mut self) {
        if let (Some(sandbox), Some(slot)) = (self.warm.take(), self.slot.take()) {
            slot.end(sandbox);
        }
    }
}

/// One counted sandbox of a function; dropped, it is counted no more.
pub(super) struct Slot<S: Sandbox> {
    shared: Arc<Shared<S>>,
    function: Arc<Function>,
    /// The sandbox went to the idle list, which holds the count from now on.
    kept: bool,
}

impl<S: Sandbox> Slot<S> {
    pub(super) fn new(shared: Arc<Shared<S>>, function: Arc<Function>) -> Self {
        Slot { shared, function, kept: false }
    }

    fn keep(mut self, sandbox: S) {
        let shared = self.shared.clone();
        let mut state = shared.lock();
        let usable = !state.stopping && !self.function.is_retired();
        match state.functions.get_mut(&self.function.id) {
            Some(line) if usable => {
                line.idle.push_back(Idle { sandbox, since: Instant::now() });
                self.kept = true;
                drop(state);
                shared.dispatch();
            }
            _ => {
                drop(state);
                self.end(sandbox);
            }
        }
    }

    fn end(self, sandbox: S) {
        let runtime = self.shared.runtime.clone();
        runtime.spawn(async move {
            sandbox.end().await;
            drop(self);
        });
    }
}

impl<S: Sandbox> Drop for Slot<S> {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        let mut state = self.shared.lock();
        state.live -= 1;
        if let Some(line) = state.functions.get_mut(&self.function.id) {
            line.live -= 1;
            if line.live == 0 && line.waiting.is_empty() {
                state.functions.remove(&self.function.id);
            }
        }
        drop(state);
        self.shared.freed.notify_waiters();
        self.shared.dispatch();
    }
}
