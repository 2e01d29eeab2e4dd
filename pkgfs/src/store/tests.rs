use std::convert::Infallible;
use std::os::unix::fs::FileExt;

use proptest::prelude::*;

use super::*;

type Outcome = Result<Arc<File>, StoreError<Infallible>>;

fn put(store: &Store, bytes: &[u8]) -> Outcome {
    put_as(store, &Sha256::of(bytes), bytes)
}

fn put_as(store: &Store, digest: &Sha256, bytes: &[u8]) -> Outcome {
    store.insert(digest, bytes.len() as u64, |sink| sink.write_all(bytes).map_err(FillError::Disk))
}

fn get(store: &Store, bytes: &[u8]) -> Option<Vec<u8>> {
    let file = store.get(&Sha256::of(bytes), bytes.len() as u64)?;
    let mut found = vec![0; bytes.len()];
    file.read_exact_at(&mut found, 0).unwrap();
    Some(found)
}

#[test]
fn what_was_put_is_found_again_also_by_the_next_run() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), 1_000, 4).unwrap();
    put(&store, b"hello").unwrap();
    assert_eq!(get(&store, b"hello").unwrap(), b"hello");
    fs::write(dir.path().join("tmp/left-over"), b"half").unwrap();
    drop(store);
    let store = Store::open(dir.path(), 1_000, 4).unwrap();
    assert_eq!(store.usage(), (5, 1, 1_000));
    assert_eq!(get(&store, b"hello").unwrap(), b"hello");
    assert_eq!(fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);
}

#[test]
fn a_wrong_digest_is_refused_and_nothing_stays() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), 1_000, 4).unwrap();
    let error = put_as(&store, &Sha256::of(b"good"), b"evil").unwrap_err();
    assert!(matches!(error, StoreError::WrongDigest { .. }));
    assert_eq!(store.usage().1, 0);
    assert_eq!(fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);
    assert!(get(&store, b"good").is_none());
}

#[test]
fn a_truncated_file_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), 1_000, 4).unwrap();
    put(&store, b"hello").unwrap();
    let path = store.path(&Sha256::of(b"hello"));
    drop(store);
    fs::remove_file(&path).unwrap();
    fs::write(&path, b"hel").unwrap();
    let store = Store::open(dir.path(), 1_000, 4).unwrap();
    assert!(get(&store, b"hello").is_none());
    put(&store, b"hello").unwrap();
    assert_eq!(get(&store, b"hello").unwrap(), b"hello");
}

#[test]
fn after_a_restart_of_the_machine_files_are_checked_before_they_are_served() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Store::open(dir.path(), 1_000, 4).unwrap();
    let store = open();
    put(&store, b"whole").unwrap();
    put(&store, b"harmed").unwrap();
    let harmed = store.path(&Sha256::of(b"harmed"));
    drop(store);
    assert!(get(&open(), b"whole").is_some(), "a killed process in the same boot does no harm");
    fs::write(dir.path().join("boot"), "another boot").unwrap();
    fs::remove_file(&harmed).unwrap();
    fs::write(&harmed, b"zeroes").unwrap();
    let store = open();
    assert!(get(&store, b"whole").is_none() && get(&store, b"harmed").is_none());
    drop(store);
    let store = open();
    assert!(get(&store, b"whole").is_none(), "suspect to the next run too");
    assert!(store.recheck(&Sha256::of(b"whole")) && !store.recheck(&Sha256::of(b"harmed")));
    assert!(get(&store, b"whole").is_some() && get(&store, b"harmed").is_none());
    drop(store);
    assert!(
        get(&open(), b"whole").is_some(),
        "the last suspect was checked: nothing is suspect to the next run"
    );
}

#[test]
fn open_files_outlive_eviction() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), 8, 4).unwrap();
    let first = put(&store, b"first").unwrap();
    put(&store, b"second").unwrap();
    assert!(get(&store, b"first").is_none());
    let mut found = [0; 5];
    first.read_exact_at(&mut found, 0).unwrap();
    assert_eq!(&found, b"first");
    assert!(matches!(put(&store, b"much too large"), Err(StoreError::TooLarge { .. })));
}

#[test]
fn a_full_disk_evicts_then_gives_up_without_harm() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), 1_000, 4).unwrap();
    put(&store, b"old").unwrap();
    let mut tries = 0;
    let digest = Sha256::of(b"new");
    let outcome: Outcome = store.insert(&digest, 3, |sink| {
        tries += 1;
        if tries == 1 {
            Err(FillError::Disk(io::ErrorKind::StorageFull.into()))
        } else {
            sink.write_all(b"new").map_err(FillError::Disk)
        }
    });
    outcome.unwrap();
    assert!(get(&store, b"old").is_none());
    let outcome: Outcome =
        store.insert(&Sha256::of(b"x"), 1, |_| Err(FillError::Disk(io::ErrorKind::StorageFull.into())));
    assert!(matches!(outcome, Err(StoreError::Full { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    /// Against a list of (bytes, size) kept in order of use.
    #[test]
    fn it_behaves_as_a_bounded_least_recently_used_list(
        steps in prop::collection::vec((any::<bool>(), 0u8..12), 1..60),
    ) {
        let dir = tempfile::tempdir().unwrap();
        // One open file: the cache of descriptors must not be mistaken for the store.
        let store = Store::open(dir.path(), 300, 1).unwrap();
        let mut model: Vec<u8> = Vec::new();
        let size = |key: u8| usize::from(key) * 10 + 1;
        for (insert, key) in steps {
            let bytes = vec![key; size(key)];
            if insert && !model.contains(&key) {
                put(&store, &bytes).unwrap();
                while model.iter().map(|key| size(*key)).sum::<usize>() + size(key) > 300 {
                    model.remove(0);
                }
                model.push(key);
            } else if store.has(&Sha256::of(&bytes)) {
                // Touch the list even where the descriptor was cached.
                lock(&store.open).clear();
                prop_assert_eq!(get(&store, &bytes), Some(bytes.clone()));
                model.retain(|known| *known != key);
                model.push(key);
            }
            prop_assert_eq!(store.has(&Sha256::of(&bytes)), model.contains(&key));
            prop_assert_eq!(store.usage().0, model.iter().map(|key| size(*key) as u64).sum::<u64>());
        }
    }
}
