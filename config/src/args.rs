use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use crate::load::{self, ConfigError};
use crate::{Settings, logging};

/// The flags that all three programs take, each also an environment variable and a setting.
#[derive(Args, Clone, Debug, Default)]
pub struct CommonArgs {
    /// Folder of everything that must survive a restart [default: /var/lib/ol]
    #[arg(long, env = "OL_STATE", value_name = "DIR", global = true, help_heading = "Common options")]
    pub state: Option<PathBuf>,
    /// Where the package file system is mounted [default: /ol/packages]
    #[arg(long, env = "OL_MOUNT", value_name = "DIR", global = true, help_heading = "Common options")]
    pub mount: Option<PathBuf>,
    /// TCP address to listen on [default: ol-exec 127.0.0.1:5000, ol-mirror 127.0.0.1:5001]
    #[arg(long, env = "OL_LISTEN", value_name = "ADDR", global = true, help_heading = "Common options")]
    pub listen: Option<SocketAddr>,
    /// Unix socket of this program [default: <state>/<program>.sock]
    #[arg(long, env = "OL_SOCKET", value_name = "PATH", global = true, help_heading = "Common options")]
    pub socket: Option<PathBuf>,
    /// Upstream package index [default: what your pip uses]
    #[arg(long, env = "OL_INDEX_URL", value_name = "URL", global = true, help_heading = "Common options")]
    pub index_url: Option<String>,
    /// Base Python interpreter [default: python3 on PATH]
    #[arg(long, env = "OL_PYTHON", value_name = "PATH", global = true, help_heading = "Common options")]
    pub python: Option<PathBuf>,
    /// Configuration file [default: /etc/ol/ol.toml where it exists]
    #[arg(long, env = "OL_CONFIG", value_name = "FILE", global = true, help_heading = "Common options")]
    pub config: Option<PathBuf>,
    /// What to log: error, warn, info, debug, trace, or a tracing filter
    #[arg(long, env = "OL_LOG", value_name = "FILTER", global = true, help_heading = "Common options")]
    pub log: Option<String>,
    /// How to log: text or json
    #[arg(
        long,
        env = "OL_LOG_FORMAT",
        value_name = "FORMAT",
        global = true,
        help_heading = "Common options"
    )]
    pub log_format: Option<logging::Format>,
}

impl CommonArgs {
    /// Merges defaults, file, environment and flags (clap has already folded the environment into the flags).
    ///
    /// # Errors
    /// A file that cannot be read, is not TOML, has an unknown key or a value of the wrong type.
    pub fn load(&self) -> Result<Settings, ConfigError> {
        let mut settings = load::settings(self.config.as_deref())?;
        if let Some(state) = &self.state {
            settings.state.clone_from(state);
        }
        if let Some(mount) = &self.mount {
            settings.mount.clone_from(mount);
        }
        settings.listen = self.listen.or(settings.listen);
        settings.socket = self.socket.clone().or(settings.socket);
        settings.index_url = self.index_url.clone().or(settings.index_url);
        settings.python = self.python.clone().or(settings.python);
        settings.state = Settings::absolute(&settings.state);
        settings.mount = Settings::absolute(&settings.mount);
        settings.socket = settings.socket.as_deref().map(Settings::absolute);
        Ok(settings)
    }

    /// Starts logging as the flags say; `default` is the filter where none is given.
    pub fn start_logging(&self, default: &str) {
        logging::start(self.log.as_deref().unwrap_or(default), self.log_format.unwrap_or_default());
    }
}
