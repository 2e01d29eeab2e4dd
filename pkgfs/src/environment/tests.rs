use ::tests::wheel::WheelBuilder;
use mirror::archive::Limits;

use super::*;
use crate::remote::fake::{FakeRemote, described};
use crate::tree::Node;
use crate::wheel::ShelfLimits;

async fn merged(wheel: WheelBuilder) -> Result<Arc<Built>, EnvError> {
    let (dir, built) = (tempfile::tempdir().unwrap(), wheel.build());
    let remote = Arc::new(FakeRemote::new(std::slice::from_ref(&built)));
    let timeout = std::time::Duration::from_secs(60);
    let limits = ShelfLimits { archive: Limits::default(), timeout, unlisted: true };
    let shelf = Shelf::new(dir.path().to_owned(), remote, limits).unwrap();
    let (name, file) = described(&built);
    let wheel = shelf.open(&name, &file).await.unwrap();
    merge("id".into(), &[wheel], &Interpreter::find(None).unwrap(), &Inodes::default())
}

#[tokio::test]
async fn a_wheel_that_leaves_no_room_for_the_environments_own_files_makes_none() {
    for (path, own) in
        [("bin/python/x", "bin/python"), ("bin", "bin/python"), ("pyvenv.cfg/x", "pyvenv.cfg"), ("lib64", "")]
    {
        let wheel = WheelBuilder::new("demo", "1").file(&format!("demo-1.data/data/{path}"), "x");
        match merged(wheel).await {
            Err(EnvError::InTheWay(found)) => assert_eq!(found, own, "{path}"),
            // A file in the place of one of ours gives way, and that is told.
            Ok(built) => assert!(own.is_empty() && built.conflicts.len() == 1, "{path}"),
            Err(error) => panic!("{path}: {error}"),
        }
    }
}

#[tokio::test]
async fn what_a_wheel_has_in_lib64_is_found_in_lib() {
    let built = merged(WheelBuilder::new("demo", "1").file("demo-1.data/data/lib64/libx.so", "x")).await;
    let built = built.unwrap();
    assert!(built.conflicts.is_empty(), "{:?}", built.conflicts);
    let (Some(Node::Folder(lib)), Some(Node::Link(_))) = (built.root.get("lib"), built.root.get("lib64"))
    else {
        panic!()
    };
    assert!(lib.get("libx.so").is_some());
}
