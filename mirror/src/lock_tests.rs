use proptest::prelude::*;

use super::*;

const HASH: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn lock_of(packages: &str) -> Result<Lock, LockError> {
    Lock::parse(&format!("lock-version = \"1.0\"\ncreated-by = \"test\"\n{packages}"))
}

fn wheel(file: &str) -> String {
    format!("{{ url = \"http://127.0.0.1/{file}\", hashes = {{ sha256 = \"{HASH}\" }} }}")
}

fn package(name: &str, extra: &str, wheels: &[&str]) -> String {
    let wheels: Vec<String> = wheels.iter().map(|file| wheel(file)).collect();
    format!("[[packages]]\nname = \"{name}\"\nversion = \"1\"\n{extra}\nwheels = [{}]\n", wheels.join(", "))
}

fn refusal(packages: &str) -> String {
    lock_of(packages).unwrap_err().to_string()
}

#[test]
fn the_best_tag_wins_then_the_higher_build() {
    let python = Interpreter::find(None).unwrap();
    let own = format!("cp3{0}-cp3{0}-linux_{1}", python.version.1, std::env::consts::ARCH);
    let native = format!("a-1-{own}.whl");
    let lock = lock_of(&package("a", "", &["a-1-py3-none-any.whl", &native])).unwrap();
    assert_eq!(lock.wheels(&python).unwrap()[0].name.file_name(), native);
    let lock = lock_of(&package("a", "", &["a-1-2-py3-none-any.whl", "a-1-10-py3-none-any.whl"])).unwrap();
    assert_eq!(lock.wheels(&python).unwrap()[0].name.build, Some((10, String::new())));
}

#[test]
fn markers_decide_and_two_that_hold_are_an_error() {
    let python = Interpreter::find(None).unwrap();
    let never = package("b", "marker = \"sys_platform == 'win32'\"", &["b-1-py3-none-any.whl"]);
    let always = package("a", "marker = \"sys_platform == 'linux'\"", &["a-1-py3-none-any.whl"]);
    let lock = lock_of(&format!("{never}{always}")).unwrap();
    let names: Vec<_> = lock.wheels(&python).unwrap().into_iter().map(|w| w.name.project).collect();
    assert_eq!(names, ["a".parse().unwrap()]);
    let error = lock_of(&format!("{always}{always}")).unwrap().wheels(&python).unwrap_err();
    assert_eq!(error.to_string(), "package a 1 of the lock is there twice for this environment");
}

#[test]
fn extras_are_not_asked_for_and_default_groups_are() {
    let python = Interpreter::find(None).unwrap();
    let of = |name: &str, marker: &str| {
        package(name, &format!("marker = \"{marker}\""), &[&format!("{name}-1-py3-none-any.whl")])
    };
    let packages = [
        of("a", "'cli' not in extras and sys_platform == 'linux'"),
        of("b", "'cli' in extras"),
        of("c", "'main' in dependency_groups or 'cli' in extras"),
        of("d", "'docs' in dependency_groups"),
    ];
    let head = "extras = [\"cli\"]\ndependency-groups = [\"main\", \"docs\"]\ndefault-groups = [\"Main\"]\n";
    let lock = lock_of(&format!("{head}{}", packages.concat())).unwrap();
    let names: Vec<String> =
        lock.wheels(&python).unwrap().iter().map(|wheel| wheel.name.project.to_string()).collect();
    assert_eq!(names, ["a", "c"]);
}

#[test]
fn refusals_say_what_is_wrong() {
    let python = Interpreter::find(None).unwrap();
    assert_eq!(
        refusal("[[packages]]\nname = \"a\"\nwheels = [{ url = \"http://127.0.0.1/a-1-py3-none-any.whl\" }]"),
        "package a of the lock has a wheel without a sha256 digest (a-1-py3-none-any.whl); \
         it could not be verified, lock it with one"
    );
    assert_eq!(
        refusal(&package("a", "", &["b-1-py3-none-any.whl"])),
        "package a of the lock lists a wheel of another project: b-1-py3-none-any.whl"
    );
    assert_eq!(
        refusal("[[packages]]\nname = \"a\"\nwheels = [{ path = \"a-1-py3-none-any.whl\" }]"),
        "package a of the lock has a wheel without a URL (path `a-1-py3-none-any.whl`); \
         only wheels with `url` can be fetched"
    );
    assert_eq!(
        refusal("[[packages]]\nname = \"a\"\nwheels = [{ url = \"ftp://u:p@h/a-1-py3-none-any.whl\" }]"),
        "package a of the lock has a wheel URL that is neither http nor https: ftp://h/a-1-py3-none-any.whl"
    );
    let sources = lock_of("[[packages]]\nname = \"a\"\nversion = \"2\"\n").unwrap();
    assert_eq!(
        sources.wheels(&python).unwrap_err().to_string(),
        "package a 2 of the lock has no wheel, only sources, which are never built here"
    );
    let foreign = lock_of(&package("a", "", &["a-1-py3-none-win32.whl"])).unwrap();
    assert!(foreign.wheels(&python).unwrap_err().to_string().contains("has no wheel for python3"));
    let old = lock_of(&format!("requires-python = \"<3\"\n{}", package("a", "", &["a-1-py3-none-any.whl"])))
        .unwrap();
    assert!(matches!(old.wheels(&python), Err(LockError::RequiresPython { .. })));
    assert!(matches!(Lock::parse("lock-version = \"2.0\"\npackages = []"), Err(LockError::Newer(_))));
    assert!(refusal("packages = 3").starts_with("the lock is not a pylock.toml: TOML parse error at line 3"));
}

proptest! {
    #[test]
    fn any_text_is_parsed_or_refused(text in ".{0,200}") {
        let _ = Lock::parse(&text);
    }

    #[test]
    fn any_marker_is_parsed_or_refused(text in "[a-z_'\"<>=!() .0-9]{0,60}") {
        let _ = marker(&selection::decided(&text, &BTreeSet::new()));
    }
}
