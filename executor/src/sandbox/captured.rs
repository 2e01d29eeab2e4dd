use std::io;

use tokio::net::unix::pipe::Receiver;

use crate::sys::message;

const CHUNK_BYTES: usize = 64 * 1024;

/// Output of one call, kept up to a limit; the rest is counted and thrown away.
pub(super) struct Captured {
    pub bytes: Vec<u8>,
    limit_bytes: usize,
    pub dropped_bytes: u64,
}

impl Captured {
    pub(super) fn new(limit_bytes: u64) -> Captured {
        let limit_bytes = usize::try_from(limit_bytes).unwrap_or(usize::MAX);
        Captured { bytes: Vec::new(), limit_bytes, dropped_bytes: 0 }
    }

    fn take(&mut self, chunk: &[u8]) {
        let room = self.limit_bytes.saturating_sub(self.bytes.len()).min(chunk.len());
        self.bytes.extend_from_slice(&chunk[..room]);
        self.dropped_bytes += (chunk.len() - room) as u64;
    }

    /// Reads for as long as it is polled. Never returns: whoever waits for something else polls it beside.
    pub(super) async fn drain(&mut self, pipe: &mut Receiver) {
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            if pipe.readable().await.is_err() {
                return std::future::pending().await;
            }
            match pipe.try_read(&mut chunk) {
                Ok(0) => return std::future::pending().await,
                Ok(size) => self.take(&chunk[..size]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return std::future::pending().await,
            }
        }
    }

    /// Reads what was written before now, and no more: a process that floods the pipe cannot keep us here.
    pub(super) fn finish(&mut self, pipe: &mut Receiver) {
        let mut waiting = message::bytes_waiting(&*pipe).unwrap_or(0);
        let mut chunk = vec![0; CHUNK_BYTES.min(waiting)];
        while waiting > 0 {
            let part = waiting.min(chunk.len());
            // Past tokio, which may not have heard yet that there is something to read.
            match nix::unistd::read(&*pipe, &mut chunk[..part]) {
                Ok(size) if size > 0 => {
                    self.take(&chunk[..size]);
                    waiting -= size;
                }
                _ => return,
            }
        }
    }
}
