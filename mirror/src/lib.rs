//! mirror
pub mod archive;
