use super::*;

fn meta(name: &str, version: &str) -> Meta {
    Meta {
        name: name.parse().unwrap(),
        version: version.repeat(64),
        entry: "f.py".to_owned(),
        deployed_at_ms: 1_000,
        environment: None,
        packages: Vec::new(),
        warnings: Vec::new(),
    }
}

fn deploy(functions: &Functions, name: &str, version: &str) -> Committed {
    let staged = functions.stage().unwrap();
    std::fs::write(staged.path().join("code/f.py"), version).unwrap();
    functions.commit(staged, meta(name, version)).unwrap()
}

fn code(function: &Function) -> String {
    std::fs::read_to_string(function.code_dir().join("f.py")).unwrap()
}

#[test]
fn a_deployment_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("functions");
    let functions = Functions::open(root.clone()).unwrap();
    assert!(deploy(&functions, "one", "a").created);
    drop(functions);

    let again = Functions::open(root).unwrap();
    let one = again.get(&"one".parse().unwrap()).unwrap();
    assert_eq!((code(&one).as_str(), one.meta.clone()), ("a", meta("one", "a")));
    assert_eq!(again.list().len(), 1);
}

#[test]
fn the_same_version_again_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let functions = Functions::open(dir.path().to_path_buf()).unwrap();
    let first = deploy(&functions, "one", "a").function;
    let second = deploy(&functions, "one", "a");
    assert_eq!(second.function.id, first.id);
    assert!(second.replaced.is_none() && !second.created && !first.is_retired());
}

#[test]
fn old_code_stays_until_its_last_user_lets_go() {
    let dir = tempfile::tempdir().unwrap();
    let functions = Functions::open(dir.path().to_path_buf()).unwrap();
    let running = deploy(&functions, "one", "a").function;
    let committed = deploy(&functions, "one", "b");
    drop(committed.replaced);
    assert!(running.is_retired());
    assert_eq!(code(&running), "a");
    assert_eq!(code(&committed.function), "b");

    // Back to the first content while its old folder is still in use: a folder of its own.
    let back = deploy(&functions, "one", "a");
    assert_ne!(back.function.folder(), running.folder());
    let old_folder = running.folder().to_path_buf();
    drop(running);
    assert!(!old_folder.exists());
    assert_eq!(code(&back.function), "a");
}

#[test]
fn what_a_killed_run_left_is_removed_and_the_rest_kept() {
    let dir = tempfile::tempdir().unwrap();
    let functions = Functions::open(dir.path().to_path_buf()).unwrap();
    deploy(&functions, "one", "a");
    drop(functions);
    std::fs::create_dir_all(dir.path().join(".new-killed/code")).unwrap();
    std::fs::create_dir_all(dir.path().join("one/old-version/code")).unwrap();
    std::fs::create_dir_all(dir.path().join("never-committed/x/code")).unwrap();

    let again = Functions::open(dir.path().to_path_buf()).unwrap();
    assert_eq!(again.list().len(), 1);
    assert!(!dir.path().join(".new-killed").exists());
    assert!(!dir.path().join("one/old-version").exists());
    assert!(!dir.path().join("never-committed").exists());
}

#[test]
fn a_removed_function_is_gone_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let functions = Functions::open(dir.path().to_path_buf()).unwrap();
    deploy(&functions, "one", "a");
    let name = "one".parse().unwrap();
    assert!(functions.remove(&name, || {}).unwrap().is_some());
    assert!(functions.remove(&name, || {}).unwrap().is_none());
    drop(functions);
    assert!(Functions::open(dir.path().to_path_buf()).unwrap().list().is_empty());
}

#[test]
fn a_call_that_outlives_its_function_leaves_nothing_to_the_next_of_that_name() {
    let dir = tempfile::tempdir().unwrap();
    let functions = Functions::open(dir.path().to_path_buf()).unwrap();
    let writes = |function: &Function| {
        let mut done = false;
        function.life().unless_ended(|| done = true);
        done
    };
    let old = deploy(&functions, "one", "a").function;
    let current = deploy(&functions, "one", "b").function;
    assert!(writes(&old) && writes(&current), "a replaced version still belongs to the function");
    functions.remove(&"one".parse().unwrap(), || assert!(!writes(&old))).unwrap();
    let next = deploy(&functions, "one", "a").function;
    assert!(!writes(&old) && !writes(&current) && writes(&next));
}
