use serde::Deserialize;

/// Section `[pkgfs]`: see `default/pkgfs.toml` for what each key does.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "each key is described once, in default/pkgfs.toml")]
pub struct PkgfsSettings {
    pub store_max_bytes: u64,
    pub read_timeout_ms: u64,
    pub merge_gap_bytes: u64,
    pub max_member_bytes: u64,
    pub max_wheel_members: u64,
    pub fuse_threads: usize,
    pub concurrent_fetches: usize,
    pub fetch_memory_bytes: u64,
    pub read_ahead_bytes: u64,
    pub unlisted_wheels: bool,
    pub max_open_files: usize,
    pub negative_ttl_ms: u64,
    pub control_timeout_ms: u64,
    pub create_timeout_ms: u64,
    pub bytecode: bool,
}
