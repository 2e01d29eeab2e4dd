use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use hyper::{Method, Request, Response, StatusCode, body::Incoming};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use crate::engine::{ScriptEvent, ScriptRequest};
use crate::frames;

/// One connection to a running daemon.
pub(super) struct Client {
    sender: SendRequest<Full<Bytes>>,
    socket: PathBuf,
}

/// An answer, whole.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

impl Client {
    pub(super) async fn connect(socket: &Path) -> anyhow::Result<Client> {
        let stream = UnixStream::connect(socket).await.with_context(|| {
            format!(
                "no ol-exec answers on {}; start one with `ol-exec serve`, or name its socket with --socket",
                socket.display()
            )
        })?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // Ends with the sender.
        tokio::spawn(connection);
        Ok(Client { sender, socket: socket.to_path_buf() })
    }

    async fn send(&mut self, method: Method, path: &str, body: Bytes) -> anyhow::Result<Response<Incoming>> {
        let request =
            Request::builder().method(method).uri(path).header("host", "ol-exec").body(Full::new(body))?;
        let answer = self.sender.send_request(request).await;
        answer.with_context(|| format!("ol-exec on {} did not answer", self.socket.display()))
    }

    pub(super) async fn request(&mut self, method: Method, path: &str, body: Bytes) -> anyhow::Result<Reply> {
        let response = self.send(method, path, body).await?;
        let status = response.status();
        let body = response.into_body().collect().await.context("the answer was cut short")?.to_bytes();
        Ok(Reply { status, body })
    }

    /// Runs a script in the daemon and hands on its events.
    pub(super) async fn script(
        mut self,
        request: &ScriptRequest,
        source: &str,
        events: mpsc::Sender<ScriptEvent>,
    ) -> anyhow::Result<()> {
        let mut upload = serde_json::to_vec(request)?;
        upload.push(b'\n');
        upload.extend_from_slice(source.as_bytes());
        let response = self.send(Method::POST, "/scripts", upload.into()).await?;
        if response.status() != StatusCode::OK {
            let status = response.status();
            let body = response.into_body().collect().await?.to_bytes();
            bail!("{}", Reply { status, body }.error());
        }
        let mut body = response.into_body();
        let mut buffer = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.context("the daemon's answer was cut short")?.into_data() else { continue };
            buffer.extend_from_slice(&data);
            while let Some(event) = frames::decode(&mut buffer)? {
                if events.send(event).await.is_err() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

impl Reply {
    /// The body, or the error it tells of.
    pub(super) fn success(self) -> anyhow::Result<Bytes> {
        if self.status.is_success() { Ok(self.body) } else { bail!("{}", self.error()) }
    }

    /// The error's message, with the stack trace of a handler below it.
    fn error(&self) -> String {
        let json: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let field =
            |name: &str| json.get(name).and_then(|value| value.as_str()).unwrap_or_default().to_owned();
        let trace: Vec<_> = json
            .get("stackTrace")
            .and_then(|trace| trace.as_array())
            .into_iter()
            .flatten()
            .filter_map(|line| line.as_str())
            .collect();
        let mut text =
            format!("{}: {} (HTTP {})", field("errorType"), field("errorMessage"), self.status.as_u16());
        for line in trace {
            text.push('\n');
            text.push_str(line.trim_end());
        }
        text
    }
}
