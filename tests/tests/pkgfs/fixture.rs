//! An index, a folder and a running `ol-pkgfs`.
#![allow(dead_code, reason = "shared by several test programs, each of which uses some of it")]

use std::path::{Path, PathBuf};
use std::process::Command;

use tests::guard::{Daemon, Finished, TestDir, finish};
use tests::index::FakeIndex;
use tests::lockfile::pylock;
use tests::wheel::BuiltWheel;

pub struct Fixture {
    // Dropped in this order: the folder last, which checks that nothing is left.
    pub daemon: Daemon,
    pub index: FakeIndex,
    pub dir: TestDir,
}

impl Fixture {
    pub fn new(wheels: impl IntoIterator<Item = BuiltWheel>) -> Self {
        Self::with(FakeIndex::start(wheels), "")
    }

    /// With settings of its own.
    pub fn with(index: FakeIndex, config: &str) -> Self {
        let dir = TestDir::new();
        dir.set_index(&index.url()).set_config(config);
        let daemon = Daemon::start("ol-pkgfs", &dir);
        Self { daemon, index, dir }
    }

    /// Stops the daemon and starts another one in the same folder.
    pub fn restart(self) -> Self {
        let Self { daemon, index, dir } = self;
        daemon.stop();
        let daemon = Daemon::start("ol-pkgfs", &dir);
        Self { daemon, index, dir }
    }

    /// Kills the daemon and starts another one in the same folder.
    pub fn crash(self) -> Self {
        let Self { daemon, index, dir } = self;
        daemon.kill();
        let daemon = Daemon::start("ol-pkgfs", &dir);
        Self { daemon, index, dir }
    }

    /// A file with the lock of these wheels.
    pub fn lock(&self, wheels: &[&BuiltWheel]) -> PathBuf {
        self.dir.write("pylock.toml", pylock(&self.index, wheels))
    }

    /// `ol-pkgfs` with these arguments.
    pub fn cli(&self, arguments: &[&str]) -> Finished {
        self.dir.run("ol-pkgfs", arguments)
    }

    /// Makes the environment of these wheels; its folder.
    pub fn create(&self, wheels: &[&BuiltWheel]) -> PathBuf {
        let lock = self.lock(wheels);
        let made = self.cli(&["env", "create", lock.to_str().unwrap()]);
        assert_eq!(made.code, Some(0), "{}\n{}", made.stderr, self.daemon.log());
        PathBuf::from(made.stdout.trim())
    }

    /// What the environment's Python prints.
    pub fn python(&self, env: &Path, code: &str) -> String {
        let done = self.output(&env.join("bin/python"), &["-c", code]);
        assert_eq!(done.code, Some(0), "{}\n{}", done.stderr, self.daemon.log());
        done.stdout
    }

    /// Runs a program of the mount to its end.
    pub fn output(&self, program: &Path, arguments: &[&str]) -> Finished {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.dir.path());
        for name in ["PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"] {
            command.env_remove(name);
        }
        finish(command)
    }

    /// `python3.11`, whichever the base interpreter is.
    pub fn python_name(&self) -> String {
        let base = mirror::Interpreter::find(None).unwrap();
        base.python_name()
    }

    /// The names in a folder, sorted.
    pub fn names(&self, folder: &Path) -> Vec<String> {
        let entries =
            std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort_unstable();
        names
    }
}
