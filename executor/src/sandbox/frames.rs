//! Frames on a leaf's control socket: 4 bytes of length (big-endian, of the payload), 1 of kind, the payload. The
//! other end is not trusted.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// What a frame means; `python/leaf.py` has the same list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Go,
    Call,
    Ready,
    StepFailed,
    Reply,
    Raised,
    TooLarge,
}

const KINDS: [(Kind, u8); 7] = [
    (Kind::Go, b'G'),
    (Kind::Call, b'C'),
    (Kind::Ready, b'A'),
    (Kind::StepFailed, b'F'),
    (Kind::Reply, b'R'),
    (Kind::Raised, b'E'),
    (Kind::TooLarge, b'X'),
];

/// Why no frame could be read.
#[derive(Debug)]
pub(super) enum FrameError {
    /// The other end is closed: the process has ended, or has closed its socket.
    Closed,
    /// As `Closed`, and it has left bytes of ours unread, so it has not seen the whole of our last frame.
    Unread,
    /// The announced length is over the limit.
    TooLong(Kind),
    /// Not a frame.
    Garbage,
}

pub(super) async fn write(stream: &mut UnixStream, kind: Kind, parts: &[&[u8]]) -> io::Result<()> {
    let size: usize = parts.iter().map(|part| part.len()).sum();
    let size = u32::try_from(size).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let letter = KINDS.iter().find(|(each, _)| *each == kind).map_or(0, |(_, letter)| *letter);
    let mut frame = Vec::with_capacity(size as usize + 5);
    frame.extend_from_slice(&size.to_be_bytes());
    frame.push(letter);
    parts.iter().for_each(|part| frame.extend_from_slice(part));
    stream.write_all(&frame).await
}

pub(super) async fn read(stream: &mut UnixStream, limit_bytes: u64) -> Result<(Kind, Vec<u8>), FrameError> {
    let mut header = [0; 5];
    // unix(7): an end that closes with unread data resets the connection.
    stream.read_exact(&mut header).await.map_err(|error| match error.kind() {
        io::ErrorKind::ConnectionReset => FrameError::Unread,
        _ => FrameError::Closed,
    })?;
    let [a, b, c, d, letter] = header;
    let size = u32::from_be_bytes([a, b, c, d]);
    let kind = KINDS.iter().find(|(_, each)| *each == letter).ok_or(FrameError::Garbage)?.0;
    if u64::from(size) > limit_bytes {
        return Err(FrameError::TooLong(kind));
    }
    let mut payload = vec![0; size as usize];
    stream.read_exact(&mut payload).await.map_err(|_| FrameError::Closed)?;
    Ok((kind, payload))
}
