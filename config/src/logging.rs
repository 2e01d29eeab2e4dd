//! Logging set-up: one line an event on standard error, as text or JSON.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// How events are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people: time, level, target, message, fields.
    #[default]
    Text,
    /// For machines: one JSON object a line.
    Json,
}

/// Sends events to standard error. A filter that does not parse falls back to `info` and says so.
/// A second call has no effect (tests start several programs' parts in one process).
pub fn start(filter: &str, format: Format) {
    let (env_filter, bad) = match EnvFilter::try_new(filter) {
        Ok(parsed) => (parsed, None),
        Err(error) => (EnvFilter::new("info"), Some(error)),
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(env_filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let started = match format {
        Format::Text => tracing::subscriber::set_global_default(builder.finish()),
        Format::Json => tracing::subscriber::set_global_default(builder.json().finish()),
    };
    if let (Ok(()), Some(error)) = (started, bad) {
        tracing::warn!(filter, %error, "log filter not understood, using `info`");
    }
}
