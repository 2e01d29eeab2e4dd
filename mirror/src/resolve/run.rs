//! One run of `uv pip compile`.

use std::io::Write;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use config::Settings;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::{ResolveError, UvError, report};
use crate::{Index, Interpreter, Requirements};

/// What of our environment uv gets: programs, home, proxies and certificates, nothing that changes its answer.
const KEPT_VARIABLES: [&str; 16] = [
    "PATH",
    "HOME",
    "TMPDIR",
    "LANG",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NETRC",
    "LD_LIBRARY_PATH",
];

/// The lock of `lines`, or of the file that `requirements` names, as uv writes it.
pub(super) async fn compile(
    settings: &Settings,
    index: &Index,
    interpreter: &Interpreter,
    uv: &Path,
    requirements: &Requirements,
    lines: &[String],
) -> Result<String, ResolveError> {
    let failed = |source| ResolveError::Uv(UvError::Write { path: settings.state.clone(), source });
    std::fs::create_dir_all(settings.state_dir("tmp")).map_err(failed)?;
    let configuration = configuration(settings, index).map_err(failed)?;
    let mut command = Command::new(uv);
    command
        .args([
            "pip",
            "compile",
            "--quiet",
            "--format",
            "pylock.toml",
            "--only-binary",
            ":all:",
            "--no-header",
        ])
        .args(["--no-sources", "--no-python-downloads", "--config-file"])
        .arg(configuration.path())
        .arg("--python")
        .arg(&interpreter.path)
        .arg("--cache-dir")
        .arg(settings.state_dir("uv-cache"))
        .arg(match requirements {
            Requirements::RequirementsTxt(path) if lines.is_empty() => {
                std::path::absolute(path).map_err(failed)?
            }
            _ => "-".into(),
        });
    environment(&mut command, settings, index);
    let output = feed(command, uv, lines.join("\n"), settings.mirror.resolve_timeout_ms).await?;
    if output.status.success() {
        let text = String::from_utf8(output.stdout);
        let text = text.map_err(|error| ResolveError::Other { reason: error.to_string() })?;
        return Ok(without_userinfo(&text));
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(report::classify(&without_secrets(&said, index), output.status.code(), index))
}

/// uv's configuration: the index, which may have a password, in a file that only we can read; command lines can be
/// read by all. Most indexes send no cache headers: pages are then held ten minutes, files for good.
fn configuration(settings: &Settings, index: &Index) -> std::io::Result<tempfile::NamedTempFile> {
    let mut file =
        tempfile::Builder::new().prefix(".uv-").suffix(".toml").tempfile_in(settings.state_dir("tmp"))?;
    let page_seconds = settings.mirror.page_ttl_ms / 1000;
    // A URL's text never has a quote or a backslash.
    writeln!(file, "[[index]]\nurl = \"{}\"\ndefault = true", index.url)?;
    writeln!(
        file,
        "cache-control = {{ api = \"max-age={page_seconds}\", files = \"max-age=31536000, immutable\" }}"
    )?;
    Ok(file)
}

fn environment(command: &mut Command, settings: &Settings, index: &Index) {
    command.env_clear();
    command.envs(KEPT_VARIABLES.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    if let Some(file) = &index.certificates {
        command.env("SSL_CERT_FILE", file);
    }
    let timeout_s = settings.mirror.read_timeout_ms.div_ceil(1000);
    command
        .env("UV_HTTP_TIMEOUT", timeout_s.to_string())
        .env("UV_HTTP_RETRIES", settings.mirror.retries.to_string())
        // The system's certificates, under the older and the newer name.
        .env("UV_NATIVE_TLS", "1")
        .env("UV_SYSTEM_CERTS", "1")
        .env("NO_COLOR", "1")
        // Its messages are wrapped to the terminal; ours are one line.
        .env("COLUMNS", "10000")
        .current_dir(&settings.state);
}

async fn feed(
    mut command: Command,
    uv: &Path,
    input: String,
    timeout_ms: u64,
) -> Result<Output, ResolveError> {
    let failed = |source| ResolveError::Uv(UvError::Run { path: uv.to_path_buf(), source });
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(failed)?;
    let stdin = child.stdin.take();
    let write = async {
        if let Some(mut stdin) = stdin {
            // uv that ends early says why on its standard error; the broken pipe would hide it.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
    };
    let both = async { tokio::join!(write, child.wait_with_output()).1 };
    match tokio::time::timeout(Duration::from_millis(timeout_ms), both).await {
        Ok(output) => output.map_err(failed),
        Err(_) => Err(ResolveError::TimedOut { timeout_ms }),
    }
}

/// A message without the index's user and password, wherever they stand in it.
fn without_secrets(text: &str, index: &Index) -> String {
    let text = without_userinfo(text);
    match index.url.password().filter(|password| !password.is_empty()) {
        Some(password) => text.replace(password, "****"),
        None => text,
    }
}

/// `text` without the users and passwords of the URLs in it; nothing else of it changes. Locks go to other people, and
/// a password may well be a word that stands in their URLs.
fn without_userinfo(text: &str) -> String {
    let mut parts = text.split("://");
    let mut kept = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let ends = |c: char| c.is_whitespace() || matches!(c, '/' | '?' | '#' | '"' | '\'' | '`' | '<' | '>');
        let authority = &part[..part.find(ends).unwrap_or(part.len())];
        kept.push_str("://");
        kept.push_str(&part[authority.rfind('@').map_or(0, |at| at + 1)..]);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_that_is_a_word_of_the_url_harms_no_lock() {
        let lock =
            "url = \"https://ci:simple@host/simple/a-1.whl\", note = \"a@b, simple\"\nurl=\"http://h/x@y\"";
        let clean = "url = \"https://host/simple/a-1.whl\", note = \"a@b, simple\"\nurl=\"http://h/x@y\"";
        assert_eq!(without_userinfo(lock), clean);
        assert_eq!(without_userinfo("https://token@host"), "https://host");
    }

    #[test]
    fn a_message_has_no_password_in_any_form() {
        let url = "https://ci:s3cret@host/simple/".parse().unwrap();
        let index = Index { url, certificates: None };
        let said = "error: https://ci:s3cret@host/simple/a/ (credentials ci, s3cret) failed";
        let clean = "error: https://host/simple/a/ (credentials ci, ****) failed";
        assert_eq!(without_secrets(said, &index), clean);
        let url = "https://ci:@host/simple/".parse().unwrap();
        assert_eq!(without_secrets("as it is", &Index { url, certificates: None }), "as it is");
    }
}
