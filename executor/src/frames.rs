//! How a script's events travel over the unix socket: kind (one byte), length (four bytes, big-endian), payload.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::engine::{ScriptEnd, ScriptEvent};
use crate::sandbox::Stream;

/// Content type of a stream of frames.
pub(crate) const CONTENT_TYPE: &str = "application/vnd.ol.script-frames";

/// Longest payload that is accepted; writers send far less.
const MAX_BYTES: usize = 16 << 20;

const PROGRESS: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const END: u8 = 3;

/// The stream of frames is not one of ours.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A kind that this version does not know.
    #[error("a frame of unknown kind {0}; are client and daemon of the same version?")]
    Kind(u8),
    /// A length over the limit.
    #[error("a frame of {0} bytes")]
    TooLong(usize),
    /// The end is not JSON, or progress is not UTF-8.
    #[error("a frame that cannot be read")]
    Payload,
}

/// One event as a frame.
pub(crate) fn encode(event: &ScriptEvent) -> Bytes {
    let (kind, payload) = match event {
        ScriptEvent::Progress(text) => (PROGRESS, Bytes::copy_from_slice(text.as_bytes())),
        ScriptEvent::Output(Stream::Stdout, bytes) => (STDOUT, bytes.clone()),
        ScriptEvent::Output(Stream::Stderr, bytes) => (STDERR, bytes.clone()),
        ScriptEvent::End(end) => (END, serde_json::to_vec(end).unwrap_or_default().into()),
    };
    let mut frame = BytesMut::with_capacity(5 + payload.len());
    frame.put_u8(kind);
    frame.put_u32(payload.len() as u32);
    frame.put(payload);
    frame.freeze()
}

/// Takes the first frame off `buffer` if it is there whole.
pub(crate) fn decode(buffer: &mut BytesMut) -> Result<Option<ScriptEvent>, FrameError> {
    let Some((head, _)) = buffer.split_at_checked(5) else { return Ok(None) };
    let kind = head[0];
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    if length > MAX_BYTES {
        return Err(FrameError::TooLong(length));
    }
    if buffer.len() < 5 + length {
        return Ok(None);
    }
    buffer.advance(5);
    let payload = buffer.split_to(length).freeze();
    Ok(Some(match kind {
        PROGRESS => {
            ScriptEvent::Progress(String::from_utf8(payload.to_vec()).map_err(|_| FrameError::Payload)?)
        }
        STDOUT => ScriptEvent::Output(Stream::Stdout, payload),
        STDERR => ScriptEvent::Output(Stream::Stderr, payload),
        END => {
            ScriptEvent::End(serde_json::from_slice::<ScriptEnd>(&payload).map_err(|_| FrameError::Payload)?)
        }
        kind => return Err(FrameError::Kind(kind)),
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn events_survive_the_way_even_byte_by_byte() {
        let end = ScriptEnd { exit_code: 3, error: Some("x".to_owned()), start: None };
        let events = [
            ScriptEvent::Progress("resolving".to_owned()),
            ScriptEvent::Output(Stream::Stdout, Bytes::from_static(b"\x00\xff")),
            ScriptEvent::Output(Stream::Stderr, Bytes::new()),
            ScriptEvent::End(end),
        ];
        let sent: Vec<u8> = events.iter().flat_map(encode).collect();
        let mut buffer = BytesMut::new();
        let mut got = Vec::new();
        for byte in sent {
            buffer.put_u8(byte);
            got.extend(decode(&mut buffer).unwrap());
        }
        assert_eq!(format!("{got:?}"), format!("{events:?}"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut buffer = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = decode(&mut buffer) {}
        }
    }
}
