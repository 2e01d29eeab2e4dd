//! executor: placeholder

pub mod sandbox;
