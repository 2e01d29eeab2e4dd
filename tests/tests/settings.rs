//! Every path and address is a setting, an environment variable and a flag, on all three programs alike.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tests::guard::{self, Daemon, TestDir};
use tests::index::FakeIndex;
use tests::skip;

const PROGRAMS: [&str; 3] = ["ol-exec", "ol-mirror", "ol-pkgfs"];
const COMMON: [(&str, &str); 7] = [
    ("--state", "OL_STATE"),
    ("--mount", "OL_MOUNT"),
    ("--listen", "OL_LISTEN"),
    ("--socket", "OL_SOCKET"),
    ("--index-url", "OL_INDEX_URL"),
    ("--python", "OL_PYTHON"),
    ("--config", "OL_CONFIG"),
];

#[test]
fn all_programs_offer_the_same_common_options() {
    let dir = TestDir::new();
    for program in PROGRAMS {
        let help = dir.run(program, ["--help"]);
        assert_eq!(help.code, Some(0), "{program}: {}", help.stderr);
        for (flag, variable) in COMMON {
            assert!(help.stdout.contains(flag), "{program} --help does not show {flag}");
            assert!(help.stdout.contains(variable), "{program} --help does not show {variable}");
        }
    }
}

#[test]
fn a_command_that_does_not_exist_is_a_usage_error() {
    let dir = TestDir::new();
    for program in PROGRAMS {
        let finished = dir.run(program, ["frobnicate"]);
        assert_eq!(finished.code, Some(2), "{program}: {}", finished.stderr);
        assert!(finished.stderr.contains("frobnicate"), "{program}: {}", finished.stderr);
    }
}

#[test]
fn a_wrong_configuration_file_is_named_with_its_key() {
    let dir = TestDir::new();
    dir.set_config("[executor]\nlisten_at = 5\n");
    for (program, command) in PROGRAMS.into_iter().zip(["serve", "serve", "mount"]) {
        let finished = dir.run(program, [command]);
        assert!(finished.code.is_some_and(|code| code != 0), "{program}: {}", finished.stderr);
        for part in ["ol.toml", "listen_at"] {
            assert!(finished.stderr.contains(part), "{program} does not name {part}: {}", finished.stderr);
        }
    }
}

#[test]
fn a_flag_beats_a_variable_beats_a_file() {
    if !skip::needs_fuse() {
        return;
    }
    let dir = TestDir::new();
    // An interpreter that is not there is named by the error: that tells which layer won.
    dir.set_config("python = \"/from/file\"\n").set_index("http://127.0.0.1:9/simple/");
    let script = dir.write("script.py", "print(1)\n");
    let error = |variable: Option<&str>, flag: Option<&str>| {
        let mut command = dir.command("ol-exec");
        command.envs(variable.map(|path| ("OL_PYTHON", path)));
        command.args(flag.iter().flat_map(|path| ["--python", path])).arg("run").arg(&script);
        guard::finish(command).stderr
    };
    let (file, variable, flag) = ("/from/file", "/from/variable", "/from/flag");
    let cases = [(None, None, file), (Some(variable), None, variable), (Some(variable), Some(flag), flag)];
    for (by_variable, by_flag, winner) in cases {
        let message = error(by_variable, by_flag);
        assert!(message.contains(winner), "{winner} should have won: {message}");
    }
}

#[test]
fn the_daemons_may_open_as_many_files_as_the_machine_lets_them() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(256), hard).unwrap();
    let index = FakeIndex::start([]);
    let dir = TestDir::new();
    dir.set_index(&index.url());
    let usable = skip::needs_fuse();
    for program in ["ol-mirror", "ol-pkgfs", "ol-exec"].iter().take(if usable { 3 } else { 1 }) {
        let daemon = Daemon::start(program, &dir);
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", daemon.pid())).unwrap();
        let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
        let values: Vec<&str> = line.split_whitespace().skip(3).take(2).collect();
        assert_eq!(values, [hard.to_string(), hard.to_string()], "{program}");
        daemon.stop();
    }
}
