use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::function::Meta;

/// A sandbox that counts itself while it exists.
struct Fake {
    number: usize,
    alive: bool,
    ended: Arc<AtomicUsize>,
}

impl Sandbox for Fake {
    fn is_alive(&mut self) -> bool {
        self.alive
    }

    async fn end(self) {
        self.ended.fetch_add(1, Ordering::SeqCst);
    }
}

fn function(name: &str) -> Arc<Function> {
    let meta = Meta {
        name: name.parse().unwrap(),
        version: "v".to_owned(),
        entry: "f.py".to_owned(),
        deployed_at_ms: 0,
        environment: None,
        packages: Vec::new(),
        warnings: Vec::new(),
    };
    Function::new(meta, "/nonexistent".into())
}

const LIMITS: PoolLimits = PoolLimits {
    instances: 3,
    instances_per_function: 2,
    queue: 2,
    queue_timeout: Duration::from_secs(5),
    idle_timeout: Duration::from_secs(60),
};

struct World {
    pool: Pool<Fake>,
    made: usize,
    ended: Arc<AtomicUsize>,
}

impl World {
    fn new() -> World {
        World::with(LIMITS)
    }

    fn with(limits: PoolLimits) -> World {
        World { pool: Pool::new(limits), made: 0, ended: Arc::default() }
    }

    /// Acquires, starting a sandbox where none is warm; tells whether it was warm.
    async fn call(&mut self, function: &Arc<Function>) -> Result<(Place<Fake>, Fake, bool), PoolError> {
        let mut place = self.pool.acquire(function).await?;
        if let Some(fake) = place.take_warm() {
            return Ok((place, fake, true));
        }
        self.made += 1;
        Ok((place, Fake { number: self.made, alive: true, ended: self.ended.clone() }, false))
    }

    async fn settled(&self, live: usize) {
        while self.pool.counts().live != live {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn the_newest_idle_sandbox_is_used_first() {
    let mut world = World::new();
    let f = function("f");
    let (place_1, fake_1, _) = world.call(&f).await.unwrap();
    let (place_2, fake_2, _) = world.call(&f).await.unwrap();
    place_1.give_back(fake_1);
    place_2.give_back(fake_2);
    let (_place, fake, warm) = world.call(&f).await.unwrap();
    assert!(warm && fake.number == 2);
}

#[tokio::test]
async fn calls_over_the_limit_wait_and_then_are_turned_away() {
    let mut world = World::new();
    let f = function("f");
    let (place_1, fake_1, _) = world.call(&f).await.unwrap();
    let _busy = world.call(&f).await.unwrap();
    let waiting: Vec<_> = (0..2)
        .map(|_| {
            let (pool, f) = (world.pool.clone(), f.clone());
            tokio::spawn(async move {
                pool.acquire(&f).await.map(|mut place| place.take_warm().map(|fake| fake.number))
            })
        })
        .collect();
    while world.pool.counts().waiting < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.pool.acquire(&f).await.err(), Some(PoolError::QueueFull { waiting: 2 }));
    place_1.give_back(fake_1);
    let mut waiting = waiting.into_iter();
    assert_eq!(waiting.next().unwrap().await.unwrap(), Ok(Some(1)));
    // The first waiter dropped its place without a sandbox: the second starts its own.
    assert_eq!(waiting.next().unwrap().await.unwrap(), Ok(None));
}

#[tokio::test]
async fn no_call_waits_for_ever() {
    let waited = Duration::from_millis(20);
    let mut world = World::with(PoolLimits { queue_timeout: waited, ..LIMITS });
    let f = function("f");
    let _one = world.call(&f).await.unwrap();
    let _two = world.call(&f).await.unwrap();
    let error = world.pool.acquire(&f).await.err();
    assert_eq!(error, Some(PoolError::WaitedTooLong { waited }));
}

#[tokio::test]
async fn at_the_limit_of_all_the_longest_idle_makes_room() {
    let mut world = World::new();
    let (f, g, h) = (function("f"), function("g"), function("h"));
    let (place_f, fake_f, _) = world.call(&f).await.unwrap();
    let (place_g, fake_g, _) = world.call(&g).await.unwrap();
    place_f.give_back(fake_f);
    place_g.give_back(fake_g);
    let _h1 = world.call(&h).await.unwrap();
    let (_place, fake, _) = world.call(&h).await.unwrap();
    assert_eq!(fake.number, 4);
    world.settled(3).await;
    assert_eq!(world.ended.load(Ordering::SeqCst), 1);
    let (_, fake, warm) = world.call(&g).await.unwrap();
    assert!(warm && fake.number == 2, "g came later than f and is still there");
}

#[tokio::test]
async fn a_sandbox_that_died_idle_is_not_handed_out() {
    let mut world = World::new();
    let f = function("f");
    let (place, mut fake, _) = world.call(&f).await.unwrap();
    fake.alive = false;
    place.give_back(fake);
    let (_, fake, warm) = world.call(&f).await.unwrap();
    assert!(!warm && fake.number == 2);
    assert_eq!(world.pool.counts().live, 0, "dropped without a sandbox");
}

#[tokio::test]
async fn a_retired_version_keeps_no_sandbox() {
    let mut world = World::new();
    let f = function("f");
    let (idle_place, idle_fake, _) = world.call(&f).await.unwrap();
    let (busy_place, busy_fake, _) = world.call(&f).await.unwrap();
    idle_place.give_back(idle_fake);
    f.retire();
    world.pool.drain(&f);
    world.settled(1).await;
    busy_place.give_back(busy_fake);
    world.settled(0).await;
    assert_eq!(world.ended.load(Ordering::SeqCst), 2);
    assert_eq!(Arc::strong_count(&f), 1, "the pool holds the version no longer");
}

#[tokio::test]
async fn idle_sandboxes_expire() {
    let mut world = World::with(PoolLimits { idle_timeout: Duration::from_millis(20), ..LIMITS });
    let f = function("f");
    let (place, fake, _) = world.call(&f).await.unwrap();
    place.give_back(fake);
    world.settled(0).await;
    assert_eq!(world.ended.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_cancelled_wait_leaks_no_place() {
    let mut world = World::new();
    let f = function("f");
    let (place, fake, _) = world.call(&f).await.unwrap();
    let _busy = world.call(&f).await.unwrap();
    let (pool, g) = (world.pool.clone(), f.clone());
    let waiting = tokio::spawn(async move { pool.acquire(&g).await.map(drop) });
    while world.pool.counts().waiting == 0 {
        tokio::task::yield_now().await;
    }
    waiting.abort();
    waiting.await.unwrap_err();
    place.give_back(fake);
    assert_eq!(world.pool.counts(), PoolCounts { live: 2, idle: 1, waiting: 0 });
}

#[tokio::test]
async fn stopping_turns_the_waiting_away_and_waits_for_the_busy() {
    let mut world = World::new();
    let f = function("f");
    let (place, fake, _) = world.call(&f).await.unwrap();
    let pool = world.pool.clone();
    let stopping = tokio::spawn(async move { pool.stop().await });
    while world.pool.acquire(&f).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!stopping.is_finished());
    place.give_back(fake);
    stopping.await.unwrap();
    assert_eq!(world.ended.load(Ordering::SeqCst), 1);
}
