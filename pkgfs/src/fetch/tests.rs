use std::sync::atomic::Ordering;

use ::tests::wheel::{BuiltWheel, Defect, WheelBuilder};
use futures_util::future::join_all;
use mirror::archive::Limits;

use super::*;
use crate::remote::fake::{FakeRemote, described};
use crate::tree::{Content, Draft, Inodes, Node, TreeBuilder};
use crate::wheel::{Shelf, ShelfLimits};

struct Rig {
    remote: Arc<FakeRemote>,
    fetcher: Arc<Fetcher>,
    wheel: Arc<Wheel>,
    dir: tempfile::TempDir,
    timeout: Duration,
}

impl Rig {
    async fn new(built: &BuiltWheel, timeout: Duration) -> Rig {
        Rig::with(FakeRemote::new(std::slice::from_ref(built)), built, timeout).await
    }

    async fn with(remote: FakeRemote, built: &BuiltWheel, timeout: Duration) -> Rig {
        let dir = tempfile::tempdir().unwrap();
        let remote = Arc::new(remote);
        let wheel = shelf(&dir, &remote).open_built(built).await;
        let store = Arc::new(Store::open(&dir.path().join("store"), 1 << 30, 8).unwrap());
        let limits = FetchLimits {
            concurrent: 2,
            memory_bytes: 100_000,
            timeout,
            merge_gap_bytes: 1_000,
            read_ahead_bytes: 10_000,
        };
        let fetcher = Fetcher::new(remote.clone(), store, limits);
        remote.ranges.store(0, Ordering::SeqCst);
        Rig { remote, fetcher, wheel, dir, timeout }
    }

    fn at_hand(&self, path: &str) -> Option<Arc<File>> {
        let source = self.source(path);
        self.fetcher.at_hand(&source.digest, source.size)
    }

    fn source(&self, path: &str) -> Source {
        source(&self.wheel, path)
    }
}

fn shelf(dir: &tempfile::TempDir, remote: &Arc<FakeRemote>) -> Arc<Shelf> {
    let limits = ShelfLimits { archive: Limits::default(), timeout: LONG, unlisted: true };
    Shelf::new(dir.path().join("wheels"), remote.clone(), limits).unwrap()
}

impl Shelf {
    async fn open_built(self: &Arc<Self>, built: &BuiltWheel) -> Arc<Wheel> {
        let (name, file) = described(built);
        self.open(&name, &file).await.unwrap()
    }
}

fn source(wheel: &Arc<Wheel>, path: &str) -> Source {
    let entries = &wheel.index.entries;
    let member = entries.iter().position(|entry| entry.member.path == path).unwrap();
    let digest = digest(&entries[member]).unwrap();
    Source { wheel: wheel.clone(), member, digest, size: entries[member].member.size }
}

fn demo() -> WheelBuilder {
    WheelBuilder::new("demo", "1")
        .file("demo/a.py", "A = 1\n")
        .file("demo/b.py", "B = 2\n")
        .file(
            "demo/big.bin",
            (0..40_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect::<Vec<_>>(),
        )
        .file("demo/c.py", "C = 3\n")
        .file("other/d.py", "D = 4\n")
}

const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn however_many_wait_it_is_fetched_once_and_its_neighbours_with_it() {
    let rig = Rig::new(&demo().build(), LONG).await;
    let source = rig.source("demo/a.py");
    let files = join_all((0..20).map(|_| rig.fetcher.file(&source, rig.timeout))).await;
    assert!(files.iter().all(Result::is_ok));
    assert_eq!(rig.remote.requests(), 1);
    assert!(rig.at_hand("demo/b.py").is_some());
    // Beyond a large member, and in another folder: not fetched.
    assert!(rig.at_hand("demo/c.py").is_none());
    assert!(rig.at_hand("other/d.py").is_none());
    rig.fetcher.file(&rig.source("demo/big.bin"), rig.timeout).await.unwrap();
    assert_eq!(rig.remote.requests(), 2);
}

#[tokio::test]
async fn an_index_that_is_down_fails_the_reader_and_is_asked_again() {
    let rig = Rig::new(&demo().build(), LONG).await;
    let source = rig.source("demo/a.py");
    rig.remote.down.store(true, Ordering::SeqCst);
    let error = rig.fetcher.file(&source, rig.timeout).await.unwrap_err();
    assert_eq!(error.to_string(), "demo/a.py of demo-1-py3-none-any.whl cannot be read: the index is down");
    rig.remote.down.store(false, Ordering::SeqCst);
    rig.fetcher.file(&source, rig.timeout).await.unwrap();
}

#[tokio::test]
async fn a_reader_gives_up_in_time_and_what_it_gave_up_on_still_arrives() {
    let rig = Rig::new(&demo().build(), Duration::from_millis(50)).await;
    let source = rig.source("demo/a.py");
    rig.remote.gate.forget_permits(usize::MAX);
    let error = rig.fetcher.file(&source, rig.timeout).await.unwrap_err();
    assert!(matches!(error.reason, FetchReason::TimedOut(50)));
    rig.remote.gate.add_permits(1);
    while rig.fetcher.at_hand(&source.digest, source.size).is_none() {
        tokio::task::yield_now().await;
    }
    assert_eq!(rig.remote.requests(), 1);
}

#[tokio::test]
async fn a_wrong_member_fails_alone() {
    let built = demo().defect(Defect::WrongRecordHash("demo/b.py")).build();
    let rig = Rig::new(&built, LONG).await;
    rig.fetcher.file(&rig.source("demo/a.py"), rig.timeout).await.unwrap();
    let error = rig.fetcher.file(&rig.source("demo/b.py"), rig.timeout).await.unwrap_err();
    assert!(matches!(error.reason, FetchReason::Store(StoreError::WrongDigest { .. })), "{error}");
}

#[tokio::test]
async fn a_wheel_known_from_an_earlier_run_is_opened_without_a_request() {
    let built = demo().build();
    let rig = Rig::new(&built, LONG).await;
    let again = shelf(&rig.dir, &rig.remote).open_built(&built).await;
    assert_eq!(rig.remote.requests(), 0);
    assert_eq!(again.index, rig.wheel.index);
    // A damaged one is read anew.
    let path = rig.dir.path().join("wheels").join(format!("{}.json", built.sha256));
    std::fs::write(path, "{").unwrap();
    assert_eq!(shelf(&rig.dir, &rig.remote).open_built(&built).await.index, rig.wheel.index);
    assert!(rig.remote.requests() > 0);
}

#[tokio::test]
async fn a_later_lock_does_not_take_a_wheel_away_and_is_a_second_place_only() {
    let built = demo().build();
    let mut remote = FakeRemote::new(std::slice::from_ref(&built));
    remote.serve(
        "http://evil.invalid/x",
        &WheelBuilder::new("demo", "1").file("demo/a.py", "EVIL = 1\n").build().bytes,
    );
    remote.serve("http://copy.invalid/x", &built.bytes);
    let rig = Rig::with(remote, &built, LONG).await;
    let shelf = shelf(&rig.dir, &rig.remote);
    let (name, file) = described(&built);
    shelf.open(&name, &file).await.unwrap();
    for url in ["http://evil.invalid/x", "http://copy.invalid/x"] {
        shelf.open(&name, &RemoteFile { url: url.parse().unwrap(), ..file.clone() }).await.unwrap();
    }
    let wheel = shelf.open(&name, &file).await.unwrap();
    let urls: Vec<String> = wheel.places().iter().map(|place| place.file.url.to_string()).collect();
    assert_eq!(urls, [file.url.as_str(), "http://evil.invalid/x", "http://copy.invalid/x"]);
    let source = Source { wheel, ..rig.source("demo/a.py") };
    rig.remote.asked.lock().unwrap().clear();
    rig.remote.gone.lock().unwrap().push(file.url.to_string());
    rig.fetcher.file(&source, rig.timeout).await.unwrap();
    // The first is gone, what the second sent was no good, the third had it.
    assert_eq!(rig.remote.asked(), urls);
}

/// A wheel whose RECORD promises `other bytes` at `liar/o.txt`, where it has something else.
fn liar() -> BuiltWheel {
    let path = "liar/o.txt";
    WheelBuilder::new("liar", "1").file(path, "wrong bytes").defect(Defect::WrongRecordHash(path)).build()
}

#[tokio::test]
async fn a_false_record_in_one_wheel_does_not_take_the_file_from_another() {
    let (built, liar) = (demo().file("demo/o.txt", "other bytes").build(), liar());
    let rig = Rig::with(FakeRemote::new(&[built.clone(), liar.clone()]), &built, LONG).await;
    let false_wheel = shelf(&rig.dir, &rig.remote).open_built(&liar).await;
    let (false_source, source) = (source(&false_wheel, "liar/o.txt"), rig.source("demo/o.txt"));
    assert_eq!((false_source.digest, false_source.size), (source.digest, source.size));
    let inodes = Inodes::default();
    let tree = |name: &[u8], source: Source| {
        let mut tree = TreeBuilder::default();
        let content = Content::Member(Sources::new(source));
        tree.insert("o.txt", Draft::File { content, size: 11, executable: false });
        tree.build(&inodes, &Sha256::of(name), 1)
    };
    let (first, second) = (tree(b"false", false_source.clone()), tree(b"true", source.clone()));
    let (Some(Node::File(first)), Some(Node::File(second))) = (first.get("o.txt"), second.get("o.txt"))
    else {
        panic!()
    };
    assert_eq!(first.ino, second.ino);
    let Content::Member(sources) = &first.content else { panic!() };
    // Both at once: who asks the honest wheel does not share the fate of who asks the other.
    let (alone, honest, any) = futures_util::join!(
        rig.fetcher.file(&false_source, LONG),
        rig.fetcher.file(&source, LONG),
        rig.fetcher.any(sources),
    );
    assert!(alone.is_err());
    honest.unwrap();
    any.unwrap();
    assert!(Arc::ptr_eq(&sources.all()[0].wheel, &rig.wheel), "the honest one is asked first from now on");
}
