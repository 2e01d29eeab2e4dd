use std::net::SocketAddr;

use serde::Deserialize;

/// Section `[mirror]`: see `default/mirror.toml` for what each key does.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "each key is described once, in default/mirror.toml")]
pub struct MirrorSettings {
    pub listen: SocketAddr,
    pub concurrent_downloads: usize,
    pub retries: u32,
    pub retry_delay_ms: u64,
    pub max_retry_delay_ms: u64,
    pub connect_timeout_ms: u64,
    pub read_timeout_ms: u64,
    pub max_page_bytes: u64,
    pub max_file_bytes: u64,
    pub page_ttl_ms: u64,
    pub pages_kept: usize,
    pub resolution_ttl_ms: u64,
    pub resolutions_max_bytes: u64,
    pub concurrent_resolutions: usize,
    pub resolve_timeout_ms: u64,
    pub stop_timeout_ms: u64,
    pub uv: UvSettings,
}

/// Section `[mirror.uv]`: which uv resolves requirements.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "each key is described once, in default/mirror.toml")]
pub struct UvSettings {
    pub known_good: String,
    pub pinned: String,
    pub wheels: Vec<UvWheel>,
}

/// One pinned wheel of uv.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "each key is described once, in default/mirror.toml")]
pub struct UvWheel {
    pub filename: String,
    pub sha256: String,
}
