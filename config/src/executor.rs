use std::net::SocketAddr;

use serde::Deserialize;

/// Section `[executor]`: see `default/executor.toml` for what each key does.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "each key is described once, in default/executor.toml")]
pub struct ExecutorSettings {
    pub listen: SocketAddr,
    pub max_body_bytes: u64,
    pub max_reply_bytes: u64,
    pub max_upload_bytes: u64,
    pub max_unpacked_bytes: u64,
    pub max_upload_entries: usize,
    pub max_deployments: usize,
    pub request_timeout_ms: u64,
    pub max_connections: usize,
    pub shutdown_timeout_ms: u64,
    pub timeout_ms: u64,
    pub memory_bytes: u64,
    pub zygote_memory_bytes: u64,
    pub max_processes: u64,
    pub tmp_bytes: u64,
    pub max_open_files: u64,
    pub fork_timeout_ms: u64,
    pub zygote_timeout_ms: u64,
    pub max_instances: usize,
    pub max_instances_per_function: usize,
    pub queue_limit: usize,
    pub queue_timeout_ms: u64,
    pub idle_timeout_ms: u64,
    pub max_zygotes: usize,
    pub zygote_retry_ms: u64,
    pub log_bytes_per_invocation: u64,
    pub logs_kept_per_function: usize,
    pub first_uid: u32,
    pub uids_per_zygote: u32,
    pub cgroup_parent: String,
}
