//! Typed settings, logging and limits of the process, shared by the three programs.
//!
//! Flow: compiled-in defaults (`default/*.toml`) ← configuration file ← environment (`OL_*`) ← flags → [`Settings`].
//! This crate never opens a socket, never creates a folder and never reads a file other than the configuration
//! file. Start reading at [`Settings`], then [`CommonArgs::load`].

mod args;
mod executor;
mod load;
pub mod logging;
mod mirror;
pub mod open_files;
mod pkgfs;
mod settings;

pub use args::CommonArgs;
pub use executor::ExecutorSettings;
pub use load::{ConfigError, SYSTEM_FILE};
pub use mirror::{MirrorSettings, UvSettings, UvWheel};
pub use pkgfs::PkgfsSettings;
pub use settings::{Program, Settings};

/// The seccomp policies as commented data, compiled in: one JSON document a policy.
pub mod seccomp {
    /// Filter of a zygote, inherited by its leaves (the large one).
    pub const ZYGOTE: &str = include_str!("../seccomp/zygote.toml");
    /// Filter a leaf adds on top of the zygote's (the small one).
    pub const LEAF: &str = include_str!("../seccomp/leaf.toml");
}
