//! A small blocking HTTP client over TCP and unix sockets: one request a connection, nothing hidden.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest silence: a test that waits for a server that never answers must fail, not hang.
const SILENCE: Duration = Duration::from_secs(120);

/// A request to be sent.
#[derive(Clone, Debug)]
pub struct Call {
    method: String,
    peer: Peer,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

#[derive(Clone, Debug)]
enum Peer {
    Tcp(String),
    Unix(PathBuf),
}

/// What came back, whole.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, without its chunking.
    pub body: Vec<u8>,
}

/// `GET` of an `http://host:port/path`.
///
/// # Errors
/// No connection, a reply that is not HTTP, or one that ends early.
pub fn get(url: &str) -> io::Result<Reply> {
    Call::get(url).send()
}

impl Call {
    /// A call of an `http://host:port/path`.
    pub fn new(method: &str, url: &str) -> Self {
        let rest = url.strip_prefix("http://").unwrap_or(url);
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let path = if path.is_empty() { "/" } else { path };
        Self::with(method, Peer::Tcp(host.into()), path)
    }

    /// A `GET`.
    pub fn get(url: &str) -> Self {
        Self::new("GET", url)
    }

    /// A call through a unix socket.
    pub fn unix(method: &str, socket: &Path, path: &str) -> Self {
        Self::with(method, Peer::Unix(socket.into()), path)
    }

    fn with(method: &str, peer: Peer, path: &str) -> Self {
        Self { method: method.into(), peer, path: path.into(), headers: Vec::new(), body: Vec::new() }
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Sends it and reads the whole reply.
    ///
    /// # Errors
    /// No connection, a reply that is not HTTP, or one that ends early.
    pub fn send(&self) -> io::Result<Reply> {
        match &self.peer {
            Peer::Tcp(host) => {
                let stream = TcpStream::connect(host)?;
                stream.set_read_timeout(Some(SILENCE))?;
                self.exchange(stream)
            }
            Peer::Unix(socket) => {
                let stream = UnixStream::connect(socket)?;
                stream.set_read_timeout(Some(SILENCE))?;
                self.exchange(stream)
            }
        }
    }

    fn exchange(&self, mut stream: impl Read + Write) -> io::Result<Reply> {
        let host = match &self.peer {
            Peer::Tcp(host) => host.as_str(),
            Peer::Unix(_) => "localhost",
        };
        let mut head =
            format!("{} {} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n", self.method, self.path);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("Content-Length: {}\r\n\r\n", self.body.len()));
        stream.write_all(head.as_bytes())?;
        // A server may refuse a body before it has read it: its reply still counts.
        let sent = stream.write_all(&self.body);
        let mut bytes = Vec::new();
        let received = stream.read_to_end(&mut bytes);
        match parse(&bytes, self.method == "HEAD") {
            Ok(reply) => Ok(reply),
            Err(error) => sent.and(received.map(|_| ())).and(Err(error)),
        }
    }
}

impl Reply {
    /// A header by its lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|header| header.0 == name).map(|header| header.1.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// Where it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {:?}", self.text()))
    }
}

fn parse(bytes: &[u8], head_only: bool) -> io::Result<Reply> {
    let bad =
        |what: &str| io::Error::new(io::ErrorKind::UnexpectedEof, format!("{what} of the reply is cut off"));
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").ok_or_else(|| bad("the head"))?;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1)?.parse().ok())
        .ok_or_else(|| bad("the status"))?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mut reply = Reply { status, headers, body: Vec::new() };
    let body = &bytes[end + 4..];
    if head_only || status == 304 {
        return Ok(reply);
    }
    reply.body = match (reply.header("transfer-encoding"), reply.header("content-length")) {
        (Some("chunked"), _) => unchunked(body).ok_or_else(|| bad("the body"))?,
        (_, Some(length)) => {
            let length: usize = length.parse().map_err(|_| bad("the length"))?;
            body.get(..length).ok_or_else(|| bad("the body"))?.to_vec()
        }
        _ => body.to_vec(),
    };
    Ok(reply)
}

fn unchunked(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = bytes.windows(2).position(|window| window == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..line]).ok()?.trim(), 16).ok()?;
        bytes = &bytes[line + 2..];
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(bytes.get(..size)?);
        bytes = bytes.get(size + 2..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_joined_and_cut_ones_noticed() {
        let reply = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
        assert_eq!(parse(reply, false).unwrap().body, b"abcde");
        assert!(parse(&reply[..reply.len() - 10], false).is_err());
    }

    #[test]
    fn a_short_body_is_noticed() {
        assert!(parse(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", false).is_err());
    }
}
