//! A disk in units of a fixed size, of which those that hold anything but zeroes are met, in order.

use dormouse_block::{Digest, Result, Source};

/// Bytes that are read at a time: many small units, or a part of a large one.
const STEP: u64 = 1 << 20;

/// Whether there are only zeroes; compared in large pieces, as memory is compared fastest.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    const ZEROES: [u8; 4096] = [0; 4096];
    bytes
        .chunks(ZEROES.len())
        .all(|chunk| ZEROES.get(..chunk.len()) == Some(chunk))
}

/// Gives `take` every piece of `disk` that holds anything, with its offset: pieces lie on the grid of `unit`, a power of
/// two of at most 1 MiB, and are that long unless the disk ends.
pub(super) fn pieces(
    disk: &dyn Source,
    unit: u64,
    mut take: impl FnMut(u64, &[u8]) -> Result<()>,
) -> Result<()> {
    let unit = unit.clamp(1, STEP);
    let len = usize::try_from(STEP).unwrap_or(usize::MAX);
    let mut buf = vec![0; len];
    let piece = usize::try_from(unit).unwrap_or(len);
    let mut at = 0;
    while let Some(range) = disk.next_data(at)? {
        let mut from = range
            .start
            .saturating_sub(range.start.checked_rem(unit).unwrap_or(0))
            .max(at);
        while from < range.end.min(disk.len()) {
            let wanted = range.end.saturating_sub(from);
            let wanted = wanted.checked_next_multiple_of(unit).unwrap_or(wanted);
            let step = wanted.min(STEP).min(disk.len().saturating_sub(from));
            let part = usize::try_from(step)
                .ok()
                .and_then(|step| buf.get_mut(..step))
                .unwrap_or_default();
            disk.read_exact_at(from, part)?;
            let mut offset = from;
            for bytes in part.chunks(piece) {
                if !is_zero(bytes) {
                    take(offset, bytes)?;
                }
                offset = offset.saturating_add(unit);
            }
            from = from.saturating_add(step.max(1));
        }
        at = from;
    }
    Ok(())
}

/// What identifiers are made of: a digest of the disk's size and of all that it holds.
pub(super) struct Fingerprint(Digest);

impl Fingerprint {
    pub(super) fn new(format: &str, size: u64) -> Self {
        Self(Digest::of(
            [format.as_bytes(), &size.to_le_bytes()].concat(),
        ))
    }

    /// Takes a piece in.
    pub(super) fn add(&mut self, offset: u64, bytes: &[u8]) {
        let own = Digest::of(bytes);
        self.0 = Digest::of(
            [
                &self.0.as_bytes()[..],
                &offset.to_le_bytes()[..],
                &own.as_bytes()[..],
            ]
            .concat(),
        );
    }

    /// Sixteen bytes for the use called `what`, with the marks of a random UUID where Microsoft's layout has them.
    pub(super) fn guid(&self, what: &str) -> [u8; 16] {
        let mut id = [0; 16];
        let digest = Digest::of([&self.0.as_bytes()[..], what.as_bytes()].concat());
        for (to, from) in id.iter_mut().zip(digest.as_bytes()) {
            *to = *from;
        }
        if let Some(version) = id.get_mut(7) {
            *version = (*version & 0x0f) | 0x40;
        }
        if let Some(variant) = id.get_mut(8) {
            *variant = (*variant & 0x3f) | 0x80;
        }
        id
    }

    /// A number for the use called `what`.
    pub(super) fn number(&self, what: &str) -> u32 {
        let [a, b, c, d, ..] = self.guid(what);
        u32::from_le_bytes([a, b, c, d])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dormouse_block::Bytes;

    #[test]
    fn only_pieces_with_data_are_met() {
        let mut bytes = vec![0; 10_000];
        bytes[5000] = 1;
        bytes[9999] = 2;
        let mut seen = Vec::new();
        pieces(&Bytes::new(bytes), 4096, |offset, piece| {
            seen.push((offset, piece.len()));
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, [(4096, 4096), (8192, 1808)]);
    }
}
