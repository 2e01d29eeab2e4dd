use std::sync::atomic::AtomicBool;

use super::*;

/// Zygotes that are only their history: what was imported, generation by generation.
struct Script {
    roots: AtomicU64,
    children: AtomicU64,
    unusable: AtomicBool,
    broken: AtomicBool,
    /// Closed to children while a test holds it.
    gate: Arc<Semaphore>,
}

/// As many children as may be made at once.
const OPEN: u32 = 100;

impl Default for Script {
    fn default() -> Script {
        Script {
            roots: AtomicU64::default(),
            children: AtomicU64::default(),
            unusable: AtomicBool::default(),
            broken: AtomicBool::default(),
            gate: Arc::new(Semaphore::new(OPEN as usize)),
        }
    }
}

#[derive(Clone)]
struct Fake {
    imported: Vec<String>,
    dead: Arc<AtomicBool>,
}

impl Nursery for Script {
    type Zygote = Fake;

    async fn root(&self) -> Result<Fake, ZygoteError> {
        self.roots.fetch_add(1, Ordering::SeqCst);
        tokio::task::yield_now().await;
        if self.broken.load(Ordering::SeqCst) {
            let source = std::io::ErrorKind::OutOfMemory.into();
            return Err(ZygoteError::Host { step: "make it".to_owned(), source });
        }
        Ok(Fake { imported: Vec::new(), dead: Arc::default() })
    }

    async fn child(&self, parent: &Fake, spec: ZygoteSpec) -> Result<Fake, ZygoteError> {
        self.children.fetch_add(1, Ordering::SeqCst);
        let _gate = self.gate.acquire().await;
        tokio::task::yield_now().await;
        if self.unusable.load(Ordering::SeqCst) {
            return Err(ZygoteError::Unusable { reason: "a thread is left".to_owned() });
        }
        if parent.dead.load(Ordering::SeqCst) {
            return Err(ZygoteError::ParentGone);
        }
        let imported = [parent.imported.clone(), spec.imports].concat();
        Ok(Fake { imported, dead: Arc::default() })
    }

    fn is_alive(zygote: &Fake) -> bool {
        !zygote.dead.load(Ordering::SeqCst)
    }
}

fn set(names: &[&str]) -> PackageSet {
    let wheel = |name: &str| Sha256::of(name.as_bytes());
    PackageSet {
        env_path: Some("/nonexistent".into()),
        wheels: Arc::new(names.iter().map(|name| wheel(name)).collect()),
        modules: names
            .iter()
            .map(|name| (wheel(name), vec![(*name).to_owned(), format!("_{name}")]))
            .collect(),
    }
}

fn cache(limit: usize) -> Zygotes<Script> {
    Zygotes::new(Script::default(), limit, Duration::from_secs(3600))
}

#[tokio::test]
async fn a_child_imports_only_what_its_parent_lacks() {
    let zygotes = cache(9);
    let numpy = zygotes.parent_for(&set(&["numpy"])).await.unwrap();
    assert!(!numpy.was_ready);
    assert_eq!(numpy.zygote.imported, ["numpy"]);
    let pandas = zygotes.parent_for(&set(&["numpy", "pandas", "dateutil"])).await.unwrap();
    assert_eq!(pandas.zygote.imported, ["numpy", "dateutil", "pandas"]);
    let unrelated = zygotes.parent_for(&set(&["requests"])).await.unwrap();
    assert_eq!(unrelated.zygote.imported, ["requests"]);
    assert!(zygotes.parent_for(&set(&["numpy"])).await.unwrap().was_ready);
    assert_eq!(zygotes.shared.nursery.roots.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn no_packages_means_the_root() {
    let zygotes = cache(9);
    assert!(!zygotes.parent_for(&PackageSet::default()).await.unwrap().was_ready);
    assert!(zygotes.parent_for(&PackageSet::default()).await.unwrap().was_ready);
    assert_eq!(zygotes.count(), 1);
}

#[tokio::test]
async fn many_that_ask_at_once_get_one_zygote() {
    let zygotes = Arc::new(cache(9));
    let asking: Vec<_> = (0..20)
        .map(|_| {
            let zygotes = zygotes.clone();
            tokio::spawn(async move { zygotes.parent_for(&set(&["numpy"])).await.unwrap().made })
        })
        .collect();
    for task in asking {
        task.await.unwrap();
    }
    let nursery = &zygotes.shared.nursery;
    assert_eq!((nursery.roots.load(Ordering::SeqCst), nursery.children.load(Ordering::SeqCst)), (1, 1));
}

#[tokio::test]
async fn calls_that_hang_up_neither_stop_nor_repeat_a_zygote() {
    let zygotes = Arc::new(cache(9));
    let gate = zygotes.shared.nursery.gate.clone();
    let closed = gate.acquire_many(OPEN).await.unwrap();
    for _ in 0..5 {
        let other = zygotes.clone();
        let call = tokio::spawn(async move { other.parent_for(&set(&["numpy"])).await.map(drop) });
        while zygotes.shared.nursery.children.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        call.abort();
        assert!(call.await.unwrap_err().is_cancelled());
    }
    drop(closed);
    assert_eq!(zygotes.parent_for(&set(&["numpy"])).await.unwrap().zygote.imported, ["numpy"]);
    assert_eq!(zygotes.shared.nursery.children.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_error_nobody_waited_for_is_not_told_to_the_next_call() {
    let zygotes = Arc::new(cache(9));
    zygotes.shared.nursery.broken.store(true, Ordering::SeqCst);
    let other = zygotes.clone();
    let call = tokio::spawn(async move { other.parent_for(&PackageSet::default()).await.map(drop) });
    while zygotes.shared.nursery.roots.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    call.abort();
    while !zygotes.shared.lock().is_empty() {
        tokio::task::yield_now().await;
    }
    zygotes.shared.nursery.broken.store(false, Ordering::SeqCst);
    zygotes.parent_for(&PackageSet::default()).await.unwrap();
}

#[tokio::test]
async fn a_zygote_that_cannot_be_forked_is_remembered_as_none() {
    let zygotes = cache(9);
    let bad = set(&["numpy", "hooks"]);
    zygotes.parent_for(&set(&["numpy"])).await.unwrap();
    let parent = zygotes.parent_for(&bad).await.unwrap();
    zygotes.cannot_fork(&parent);
    for _ in 0..2 {
        assert_eq!(zygotes.parent_for(&bad).await.unwrap().zygote.imported, ["numpy"]);
    }
    let root = zygotes.parent_for(&PackageSet::default()).await.unwrap();
    assert!(root.is_root() && !parent.is_root());
    zygotes.cannot_fork(&root);
    assert_eq!(
        zygotes.parent_for(&PackageSet::default()).await.unwrap().made,
        root.made,
        "there is no other"
    );
}

#[tokio::test]
async fn an_unusable_set_falls_back_and_is_remembered() {
    let zygotes = cache(9);
    zygotes.parent_for(&set(&["numpy"])).await.unwrap();
    zygotes.shared.nursery.unusable.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        let parent = zygotes.parent_for(&set(&["numpy", "grpc"])).await.unwrap();
        assert_eq!(parent.zygote.imported, ["numpy"]);
        assert!(!parent.was_ready);
    }
    assert_eq!(zygotes.shared.nursery.children.load(Ordering::SeqCst), 2, "tried once, not thrice");
}

#[tokio::test]
async fn a_remembered_failure_is_tried_again_in_time() {
    let zygotes = Zygotes::new(Script::default(), 9, Duration::ZERO);
    zygotes.shared.nursery.unusable.store(true, Ordering::SeqCst);
    assert!(zygotes.parent_for(&set(&["grpc"])).await.unwrap().zygote.imported.is_empty());
    zygotes.shared.nursery.unusable.store(false, Ordering::SeqCst);
    assert_eq!(zygotes.parent_for(&set(&["grpc"])).await.unwrap().zygote.imported, ["grpc"]);
}

#[tokio::test]
async fn the_dead_are_replaced_without_failing_a_call() {
    let zygotes = cache(9);
    let numpy = zygotes.parent_for(&set(&["numpy"])).await.unwrap();
    numpy.zygote.dead.store(true, Ordering::SeqCst);
    zygotes.parent_for(&PackageSet::default()).await.unwrap().zygote.dead.store(true, Ordering::SeqCst);
    let again = zygotes.parent_for(&set(&["numpy"])).await.unwrap();
    assert_ne!(again.made, numpy.made);
    assert_eq!(zygotes.shared.nursery.roots.load(Ordering::SeqCst), 2);

    zygotes.gone(&numpy);
    assert_eq!(
        zygotes.parent_for(&set(&["numpy"])).await.unwrap().made,
        again.made,
        "an old report changes nothing"
    );
    zygotes.gone(&again);
    assert_ne!(zygotes.parent_for(&set(&["numpy"])).await.unwrap().made, again.made);
}

#[tokio::test]
async fn the_least_recently_used_goes_and_the_root_stays() {
    let zygotes = cache(3);
    let a = zygotes.parent_for(&set(&["a"])).await.unwrap().made;
    let b = zygotes.parent_for(&set(&["b"])).await.unwrap().made;
    assert_eq!(zygotes.parent_for(&set(&["a"])).await.unwrap().made, a);
    zygotes.parent_for(&set(&["c"])).await.unwrap();
    assert_eq!(zygotes.count(), 3);
    assert_eq!(zygotes.parent_for(&set(&["a"])).await.unwrap().made, a);
    assert_ne!(zygotes.parent_for(&set(&["b"])).await.unwrap().made, b);
    assert_eq!(zygotes.shared.nursery.roots.load(Ordering::SeqCst), 1);
}
