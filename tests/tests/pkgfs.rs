//! The package file system as its users see it: through the mount, with wheels from an index on loopback.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

#[path = "pkgfs/fixture.rs"]
mod fixture;

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use fixture::Fixture;
use tests::index::{FakeIndex, Mode, Quirk};
use tests::skip;
use tests::wheel::{BuiltWheel, WheelBuilder};

fn demo() -> BuiltWheel {
    WheelBuilder::pure("demo", "1.0")
        .file("demo/sub/mod.py", "VALUE = 7\n")
        .file("demo/other.py", "import demo\n")
        .console_script("demo-hello", "demo.cli:main")
        .file(
            "demo/cli.py",
            "import sys, demo\ndef main():\n    print(demo.hello(), sys.argv[1:])\n    return 3\n",
        )
        .data("scripts", "demo-tool", "#!python\nimport sys, demo\nprint(sys.prefix, demo.VERSION)\n")
        .data("data", "share/demo/text.txt", "shared\n")
        .data("headers", "demo.h", "#define DEMO 1\n")
        .data("purelib", "demo_extra.py", "EXTRA = True\n")
        .build()
}

#[test]
fn an_environment_works_as_a_virtual_environment() {
    if !skip::needs_fuse() {
        return;
    }
    let fixture = Fixture::new([demo()]);
    let env = fixture.create(&[&demo()]);
    let code = "import sys, demo, demo.sub.mod, demo_extra; \
                print(demo.hello(), sys.prefix, sys.prefix != sys.base_prefix, demo.__file__)";
    let shown = fixture.python(&env, code);
    let path = env.display();
    assert_eq!(
        shown.trim(),
        format!(
            "hello from demo 1.0 {path} True {path}/lib/{}/site-packages/demo/__init__.py",
            fixture.python_name()
        )
    );
    let metadata = "from importlib.metadata import distribution as d; x = d('demo'); \
                    print(x.version, x.read_text('INSTALLER').strip(), all(f.locate().exists() for f in x.files))";
    assert_eq!(fixture.python(&env, metadata).trim(), "1.0 ol True");
    assert_eq!(std::fs::read_to_string(env.join("share/demo/text.txt")).unwrap(), "shared\n");
    let headers = env.join(format!("include/site/{}/demo/demo.h", fixture.python_name()));
    assert_eq!(std::fs::read_to_string(headers).unwrap(), "#define DEMO 1\n");
}

#[test]
fn scripts_run_the_environments_python_wherever_it_is_mounted() {
    if !skip::needs_fuse() {
        return;
    }
    let fixture = Fixture::new([demo()]);
    let env = fixture.create(&[&demo()]);
    let hello = fixture.output(&env.join("bin/demo-hello"), &["a b"]);
    assert_eq!((hello.code, hello.stdout.as_str()), (Some(3), "hello from demo 1.0 ['a b']\n"));
    let tool = fixture.output(&env.join("bin/demo-tool"), &[]);
    assert_eq!(tool.stdout, format!("{} 1.0\n", env.display()), "{}", tool.stderr);
    // Through a link, as people put scripts on their PATH.
    let link = fixture.dir.path().join("linked");
    std::os::unix::fs::symlink(env.join("bin/demo-tool"), &link).unwrap();
    assert_eq!(fixture.output(&link, &[]).stdout, format!("{} 1.0\n", env.display()));
}

#[test]
fn compiled_extensions_load() {
    if !skip::needs_fuse() || !skip::needs_compiler() {
        return;
    }
    let wheel = WheelBuilder::extension("native-demo", "2.0").build();
    let fixture = Fixture::new([wheel.clone()]);
    let env = fixture.create(&[&wheel]);
    assert_eq!(fixture.python(&env, "import native_demo; print(native_demo.answer())").trim(), "42");
}

#[test]
fn namespace_packages_merge_and_other_clashes_are_reported() {
    if !skip::needs_fuse() {
        return;
    }
    let one = WheelBuilder::new("ns-one", "1")
        .file("ns/one.py", "N = 1\n")
        .file("both.py", "FROM = 'one'\n")
        .build();
    let two = WheelBuilder::new("ns-two", "1")
        .file("ns/two.py", "N = 2\n")
        .file("both.py", "FROM = 'two'\n")
        .build();
    let mut fixture = Fixture::new([one.clone(), two.clone()]);
    fixture.daemon.expect_in_log("both.py");
    let lock = fixture.lock(&[&two, &one]);
    let shown = fixture.cli(&["env", "create", "--json", lock.to_str().unwrap()]);
    let env: serde_json::Value = serde_json::from_str(&shown.stdout).unwrap();
    let code = "import ns.one, ns.two, both; print(ns.one.N + ns.two.N, both.FROM)";
    assert_eq!(fixture.python(Path::new(env["path"].as_str().unwrap()), code).trim(), "3 two");
    let conflict = env["conflicts"][0].as_str().unwrap();
    assert!(conflict.ends_with("both.py: taken from ns-two, another wheel has it too"), "{conflict}");
    assert_eq!(env["wheels"][0]["top_level"], serde_json::json!(["both", "ns"]));
}

#[test]
fn nothing_can_be_written() {
    if !skip::needs_fuse() {
        return;
    }
    let fixture = Fixture::new([demo()]);
    let env = fixture.create(&[&demo()]);
    let file = env.join("pyvenv.cfg");
    let read_only = |outcome: std::io::Result<()>| {
        assert_eq!(outcome.unwrap_err().raw_os_error(), Some(libc::EROFS));
    };
    read_only(std::fs::write(&file, "x"));
    read_only(std::fs::write(env.join("new"), "x"));
    read_only(std::fs::create_dir(env.join("new")));
    read_only(std::fs::remove_file(&file));
    read_only(std::fs::rename(&file, env.join("new")));
    read_only(std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o777)));
    read_only(std::os::unix::fs::symlink("x", env.join("new")));
    let metadata = std::fs::metadata(env.join("bin/demo-hello")).unwrap();
    assert_eq!((metadata.mode() & 0o7777, metadata.uid(), metadata.gid()), (0o555, 0, 0));
    assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o7777, 0o444);
}

#[test]
fn the_same_member_is_one_inode_in_all_environments() {
    if !skip::needs_fuse() {
        return;
    }
    let more = WheelBuilder::pure("more", "1").build();
    let fixture = Fixture::new([demo(), more.clone()]);
    let (one, two) = (fixture.create(&[&demo()]), fixture.create(&[&demo(), &more]));
    assert_ne!(one, two);
    let inode = |env: &Path| {
        let site = format!("lib/{}/site-packages/demo/sub/mod.py", fixture.python_name());
        std::fs::metadata(env.join(site)).unwrap().ino()
    };
    assert_eq!(inode(&one), inode(&two));
}

#[test]
fn wheels_are_shown_unpacked_and_a_name_need_not_be_listed_first() {
    if !skip::needs_fuse() {
        return;
    }
    let old = WheelBuilder::pure("demo", "0.9").build();
    let fixture = Fixture::new([demo(), old]);
    let mount = fixture.dir.mount();
    assert_eq!(fixture.names(&mount), [".env"]);
    let wheel = mount.join("demo/1.0/py3-none-any");
    assert_eq!(
        fixture.names(&wheel),
        ["bin", "demo", "demo-1.0.dist-info", "demo_extra.py", "include", "share"]
    );
    assert_eq!(std::fs::read_to_string(wheel.join("demo/sub/mod.py")).unwrap(), "VALUE = 7\n");
    // The listing that the kernel kept is dropped once there is more to see.
    assert_eq!(fixture.names(&mount), [".env", "demo"]);
    assert_eq!(fixture.names(&mount.join("demo")), ["0.9", "1.0"]);
    assert_eq!(fixture.names(&mount.join("demo/0.9")), ["py3-none-any"]);
    let names = fixture.names(&mount.join("demo/0.9/py3-none-any"));
    assert_eq!(names, ["demo", "demo-0.9.dist-info"]);
    for missing in
        ["nosuchproject", "Demo", "demo/3.0", "demo/1.0/cp27-none-any", "demo/1.0/py3-none-any/x", ".env/x"]
    {
        let error = std::fs::metadata(mount.join(missing)).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{missing}");
    }
}

#[test]
fn only_what_is_read_is_fetched_and_only_once() {
    if !skip::needs_fuse() {
        return;
    }
    let large = "x = 1\n".repeat(400_000);
    let big = WheelBuilder::pure("big", "1").file("big/data/blob.txt", large.clone()).build();
    let fixture = Fixture::new([big.clone()]);
    let env = fixture.create(&[&big]);
    let site = env.join(format!("lib/{}/site-packages/big", fixture.python_name()));
    fixture.index.clear_log();
    // Names and attributes cost no request.
    assert_eq!(std::fs::metadata(site.join("data/blob.txt")).unwrap().len(), large.len() as u64);
    assert_eq!(fixture.index.requests(), []);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(std::fs::read_to_string(site.join("data/blob.txt")).unwrap(), large));
        }
    });
    assert_eq!(fixture.index.gets(&big.file_name), 1);
}

#[test]
fn indexes_without_ranges_and_without_json_serve_too() {
    if !skip::needs_fuse() {
        return;
    }
    for (mode, quirk) in [
        (Mode::Html, None),
        (Mode::Json, Some(Quirk::NoRanges)),
        (Mode::Json14, Some(Quirk::RangesNotImplemented)),
    ] {
        let fixture = Fixture::with(FakeIndex::start([demo()]), "");
        fixture.index.set_mode(mode);
        if let Some(quirk) = quirk.clone() {
            fixture.index.quirk(&demo().file_name, quirk);
        }
        let mount = fixture.dir.mount();
        let text = std::fs::read_to_string(mount.join("demo/1.0/py3-none-any/demo/sub/mod.py"));
        assert_eq!(text.unwrap(), "VALUE = 7\n", "{mode:?} {quirk:?}");
        let env = fixture.create(&[&demo()]);
        assert_eq!(fixture.python(&env, "import demo; print(demo.VERSION)").trim(), "1.0");
    }
}

#[test]
fn after_a_restart_everything_is_there_without_the_index() {
    if !skip::needs_fuse() {
        return;
    }
    let mut fixture = Fixture::new([demo()]);
    let env = fixture.create(&[&demo()]);
    let code = "import demo.sub.mod as m; print(m.VALUE)";
    assert_eq!(fixture.python(&env, code).trim(), "7");
    fixture.index.stop();
    let fixture = fixture.restart();
    assert_eq!(fixture.python(&env, code).trim(), "7");
    let listed = fixture.cli(&["env", "list"]);
    assert_eq!(listed.stdout.trim(), env.file_name().unwrap().to_str().unwrap());
    assert_eq!(fixture.create(&[&demo()]), env);
}

#[test]
fn imports_find_byte_code_and_survive_without() {
    if !skip::needs_fuse() {
        return;
    }
    let broken = WheelBuilder::pure("broken", "1").file("broken/bad.py", "def f(:\n").build();
    let fixture = Fixture::new([demo(), broken.clone()]);
    let env = fixture.create(&[&demo(), &broken]);
    let code = "import demo.sub.mod as m, pathlib, sys; cached = pathlib.Path(m.__cached__); \
                head = cached.read_bytes()[4:8]; print(head, list(cached.parent.iterdir()), m.VALUE)\n\
                try: import broken.bad\n\
                except SyntaxError as error: print(error.filename.endswith('broken/bad.py'))";
    let shown = fixture.python(&env, code);
    assert_eq!(shown, "b'\\x01\\x00\\x00\\x00' [] 7\nTrue\n");
    let fixture = fixture.restart();
    assert_eq!(fixture.python(&env, code), shown);
    let error = "import demo.cli as c; print(c.main.__code__.co_filename)";
    let site = format!("lib/{}/site-packages/demo/cli.py", fixture.python_name());
    assert_eq!(fixture.python(&env, error).trim(), env.join(site).to_str().unwrap());
}
