//! A stream read ahead of who consumes it, so that unpacking and parsing share the time between two processors.

use std::io::Read;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

use dormouse_block::{Error, Result};

/// Bytes handed over at a time.
const STEP: usize = 512 << 10;
/// Parts that may wait for the consumer.
const WAITING: usize = 8;

type Part = std::io::Result<Vec<u8>>;

/// Reads `source` in a thread of its own while `consume` takes what was read.
///
/// # Errors
/// What `consume` returns; it hears of the source's errors as of any reader's.
pub(crate) fn read_ahead(
    source: &mut (dyn Read + Send),
    consume: &mut dyn FnMut(&mut dyn Read) -> Result<()>,
) -> Result<()> {
    let (full, parts) = sync_channel(WAITING);
    let (emptied, empty) = channel();
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("ahead".to_owned())
            .spawn_scoped(scope, move || fill(source, &full, &empty))
            .map_err(|error| Error::io("cannot start a thread", error))?;
        // Dropped with this closure: that ends the thread when the consumer has had enough.
        let mut reader = Ahead {
            parts,
            emptied,
            part: Vec::new(),
            at: 0,
        };
        consume(&mut reader)
    })
}

/// Reads until the source is at its end, fails, or nobody listens any more.
fn fill(source: &mut (dyn Read + Send), full: &SyncSender<Part>, empty: &Receiver<Vec<u8>>) {
    loop {
        let mut part = empty.try_recv().unwrap_or_default();
        part.clear();
        let wanted = u64::try_from(STEP).unwrap_or(u64::MAX);
        let read = Read::take(&mut *source, wanted).read_to_end(&mut part);
        let more = matches!(read, Ok(n) if n > 0);
        let sent = full.send(read.map(|_| part));
        if !more || sent.is_err() {
            return;
        }
    }
}

/// What was read ahead. An empty part is the end.
struct Ahead {
    parts: Receiver<Part>,
    emptied: Sender<Vec<u8>>,
    part: Vec<u8>,
    at: usize,
}

impl Read for Ahead {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        if self.at >= self.part.len() {
            // After an end or a failure nothing more comes.
            let Ok(next) = self.parts.recv() else {
                return Ok(0);
            };
            let done = std::mem::replace(&mut self.part, next?);
            self.at = 0;
            // The thread may have ended; then nobody wants it back.
            drop(self.emptied.send(done));
        }
        let rest = self.part.get(self.at..).unwrap_or_default();
        let n = rest.len().min(buf.len());
        if let (Some(to), Some(from)) = (buf.get_mut(..n), rest.get(..n)) {
            to.copy_from_slice(from);
        }
        self.at = self.at.saturating_add(n);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_it_comes_in_order_and_a_failure_at_its_place() {
        let text: Vec<u8> = (0..3_000_000_u32)
            .map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1])
            .collect();
        let mut out = Vec::new();
        read_ahead(&mut text.as_slice(), &mut |reader| {
            reader
                .read_to_end(&mut out)
                .map(drop)
                .map_err(|error| Error::io("read", error))
        })
        .unwrap();
        assert!(out == text);

        struct Fails(usize);
        impl Read for Fails {
            fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
                let n = self.0.min(buf.len());
                self.0 -= n;
                if n == 0 {
                    Err(std::io::Error::other("no more"))
                } else {
                    Ok(n)
                }
            }
        }
        let mut out = Vec::new();
        let failed = read_ahead(&mut Fails(2_000_000), &mut |reader| {
            reader
                .read_to_end(&mut out)
                .map(drop)
                .map_err(|error| Error::io("read", error))
        });
        assert!(failed.unwrap_err().with_causes().contains("no more"));
    }

    #[test]
    fn a_consumer_may_stop_early() {
        let mut endless = std::io::repeat(7);
        let stopped = read_ahead(&mut endless, &mut |reader| {
            let mut buf = [0; 10];
            reader.read_exact(&mut buf).unwrap();
            Err(Error::limit("enough"))
        });
        assert!(stopped.is_err());
    }
}
