//! pkgfs
mod control;
mod dist_info;
mod durable;
mod environment;
mod fetch;
mod fs;
mod layout;
mod mount;
mod namespace;
mod packages;
mod record;
mod remote;
mod store;
mod tree;
mod wheel;

pub use control::{ControlClient, ControlError, Status};
pub use environment::{EnvError, EnvWheel, Environment};
pub use mount::MountError;
pub use packages::Packages;
