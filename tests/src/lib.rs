//! The test kit: what whole-system tests and benchmarks are made of.
//!
//! Flow: [`wheel::WheelBuilder`] makes wheels, good and bad → [`index::FakeIndex`] serves them on loopback →
//! [`guard::Daemon`] runs our programs against it in a [`guard::TestDir`] → [`leaks::Snapshot`] shows that nothing
//! of ours was left behind. [`skip`] says what a test needs of the machine.
//!
//! The kit knows our programs by their command lines and sockets only; it never links their crates, so that their
//! own tests may use it too. It never touches a process, mount or cgroup that no test of ours made.

mod extension;
pub mod guard;
pub mod http;
pub mod index;
pub mod leaks;
pub mod lockfile;
pub mod skip;
mod sys;
pub mod wheel;
pub mod zip_file;
