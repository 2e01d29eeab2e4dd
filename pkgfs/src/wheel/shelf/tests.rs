use std::sync::atomic::Ordering;

use ::tests::wheel::{BuiltWheel, Defect, WheelBuilder};

use super::*;
use crate::remote::fake::{FakeRemote, described};
use crate::wheel::Trust;

const LONG: Duration = Duration::from_secs(60);
const ELSEWHERE: &str = "http://elsewhere.invalid/x.whl";

struct Rig {
    remote: Arc<FakeRemote>,
    shelf: Arc<Shelf>,
    dir: tempfile::TempDir,
}

impl Rig {
    fn new(remote: FakeRemote, timeout: Duration, unlisted: bool) -> Rig {
        let (dir, remote) = (tempfile::tempdir().unwrap(), Arc::new(remote));
        let limits = ShelfLimits { archive: Limits::default(), timeout, unlisted };
        let shelf = Shelf::new(dir.path().to_owned(), remote.clone(), limits).unwrap();
        Rig { remote, shelf, dir }
    }

    fn kept(&self) -> usize {
        fs::read_dir(self.dir.path()).unwrap().count()
    }
}

fn genuine() -> BuiltWheel {
    WheelBuilder::new("demo", "1").file("demo/a.py", "A = 1\n").build()
}

/// As good a wheel as any, with a RECORD that fits it: only the digest tells that it is another one.
fn evil() -> BuiltWheel {
    WheelBuilder::new("demo", "1").file("demo/a.py", "EVIL = 1\n").build()
}

/// What a lock says that names `built` at another address.
fn elsewhere(built: &BuiltWheel) -> (WheelName, RemoteFile) {
    let (name, file) = described(built);
    (name, RemoteFile { url: ELSEWHERE.parse().unwrap(), size: None, ..file })
}

#[tokio::test]
async fn a_lock_cannot_make_another_file_pass_for_a_wheel_of_the_index() {
    let built = genuine();
    let mut remote = FakeRemote::new(std::slice::from_ref(&built));
    remote.serve(ELSEWHERE, &evil().bytes);
    let rig = Rig::new(remote, LONG, true);
    let (name, file) = elsewhere(&built);
    let wheel = rig.shelf.open(&name, &file).await.unwrap();
    let a = wheel.index.entries.iter().find(|entry| entry.member.path == "demo/a.py").unwrap();
    assert_eq!(a.trust, Trust::Sha256(Sha256::of(b"A = 1\n")));
    assert!(rig.remote.asked().iter().all(|url| url != ELSEWHERE), "the index's own address was asked");
    assert!(wheel.places()[0].listed);
}

#[tokio::test]
async fn a_wheel_that_the_index_does_not_list_is_verified_whole_before_anything_is_learned() {
    let (built, mut remote) = (genuine(), FakeRemote::new(&[]));
    remote.serve(ELSEWHERE, &evil().bytes);
    remote.serve("http://other.invalid/y.whl", &built.bytes);
    let rig = Rig::new(remote, LONG, true);
    let (name, file) = elsewhere(&built);
    let error = rig.shelf.open(&name, &file).await.unwrap_err();
    assert!(error.to_string().contains("sha256"), "{error}");
    assert_eq!((rig.shelf.len(), rig.kept()), (0, 0));
    let file = RemoteFile { url: "http://other.invalid/y.whl".parse().unwrap(), ..file };
    let wheel = rig.shelf.open(&name, &file).await.unwrap();
    assert_eq!(rig.remote.requests(), 2, "one whole file each");
    assert_eq!(
        wheel.places(),
        [Place { file: RemoteFile { size: Some(built.bytes.len() as u64), ..file }, listed: false }]
    );
}

#[tokio::test]
async fn where_unlisted_wheels_are_not_wanted_nothing_is_asked_of_their_servers() {
    let built = genuine();
    let mut remote = FakeRemote::new(&[]);
    remote.serve(ELSEWHERE, &built.bytes);
    let rig = Rig::new(remote, LONG, false);
    let (name, file) = elsewhere(&built);
    let error = rig.shelf.open(&name, &file).await.unwrap_err();
    assert!(error.to_string().contains("pkgfs.unlisted_wheels"), "{error}");
    assert_eq!(rig.remote.requests(), 0);
}

#[tokio::test]
async fn the_digest_does_not_cover_the_name_so_another_name_is_another_wheel() {
    let built = genuine();
    let rig = Rig::new(FakeRemote::new(std::slice::from_ref(&built)), LONG, true);
    let (name, file) = described(&built);
    let other: WheelName = "demo-0-py3-none-any.whl".parse().unwrap();
    rig.shelf.open(&other, &file).await.unwrap();
    assert_eq!(rig.shelf.open(&name, &file).await.unwrap().index.name, name);
}

#[tokio::test]
async fn who_waits_too_long_gives_up_and_the_wheel_is_opened_all_the_same() {
    let built = genuine();
    let rig = Rig::new(FakeRemote::new(std::slice::from_ref(&built)), Duration::from_millis(20), true);
    rig.remote.gate.forget_permits(usize::MAX);
    let (name, file) = described(&built);
    for _ in 0..2 {
        let error = rig.shelf.open(&name, &file).await.unwrap_err();
        assert!(error.upstream_down(), "{error}");
    }
    assert_eq!(rig.remote.requests(), 1, "still the first one");
    rig.remote.gate.add_permits(1);
    while rig.shelf.len() == 0 {
        tokio::task::yield_now().await;
    }
    rig.shelf.open(&name, &file).await.unwrap();
    assert_eq!(rig.remote.ranges.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_directory_over_the_limit_is_not_fetched() {
    // The end record promises 100 MB of directory in a file that has as much.
    let mut bytes = vec![0; 100_000_000 - 22];
    let directory = (bytes.len() as u32).to_le_bytes();
    bytes.extend(b"PK\x05\x06\0\0\0\0\x01\0\x01\0".iter().chain(&directory).chain(&[0; 6]));
    let bytes = bytes::Bytes::from(bytes);
    let built = BuiltWheel { sha256: Sha256::of(&bytes).to_string(), bytes, ..genuine() };
    let rig = Rig::new(FakeRemote::new(std::slice::from_ref(&built)), LONG, true);
    let (name, file) = described(&built);
    let error = rig.shelf.open(&name, &file).await.unwrap_err();
    assert!(error.to_string().contains("the central directory takes"), "{error}");
    assert_eq!(rig.remote.requests(), 1, "the tail alone");
}

#[tokio::test]
async fn scripts_that_unpack_to_more_than_a_wheel_needs_are_not_unpacked() {
    let script = format!("#!python\n{}", " ".repeat(1_000_000));
    let mut wheel = WheelBuilder::new("demo", "1");
    for number in 0..17 {
        wheel = wheel.file(&format!("demo-1.data/scripts/s{number}"), script.as_str());
    }
    let built = wheel.build();
    let rig = Rig::new(FakeRemote::new(std::slice::from_ref(&built)), LONG, true);
    let (name, file) = described(&built);
    let error = rig.shelf.open(&name, &file).await.unwrap_err();
    assert!(error.to_string().contains("its scripts take more than"), "{error}");
}

#[tokio::test]
async fn members_with_a_longer_hash_are_verified_by_it_and_named_by_sha256() {
    let built = WheelBuilder::new("demo", "1")
        .file("demo/good.py", "A = 1\n")
        .file("demo/bad.py", "B = 1\n")
        .defect(Defect::StrongRecordHash("demo/good.py"))
        .defect(Defect::WrongStrongRecordHash("demo/bad.py"))
        .build();
    let rig = Rig::new(FakeRemote::new(std::slice::from_ref(&built)), LONG, true);
    let (name, file) = described(&built);
    let wheel = rig.shelf.open(&name, &file).await.unwrap();
    let trust = |path: &str| {
        let entry = wheel.index.entries.iter().find(|entry| entry.member.path == path);
        entry.unwrap().trust.clone()
    };
    assert_eq!(trust("demo/good.py"), Trust::Sha256(Sha256::of(b"A = 1\n")));
    assert_eq!(trust("demo/bad.py"), Trust::Refused("its hash is not the one RECORD lists".into()));
}
