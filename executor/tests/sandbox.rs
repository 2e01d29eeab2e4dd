//! Sandboxes against a real kernel and a real Python: what a call comes to, what a sandbox cannot do, and what stays
//! when a daemon is killed.

#![expect(clippy::unwrap_used, reason = "a panic is the report of a test")]

mod sandbox {
    pub(crate) mod bench;
    mod confinement;
    mod crash;
    mod outcomes;
    mod scripts;
    mod steps;
    mod zygotes;
}
