//! Sources one after another, as a logical volume of several segments is.

use std::ops::Range;
use std::sync::Arc;

use dormouse_block::{Error, Result, Source};

/// The bytes of several sources, in their order.
pub(crate) struct Joined {
    /// Where each begins, and it.
    parts: Vec<(u64, Arc<dyn Source>)>,
    len: u64,
}

/// `parts` as one source; one alone stays what it is.
///
/// # Errors
/// `Corrupt` when together they are longer than any source.
pub(crate) fn join(mut parts: Vec<Arc<dyn Source>>) -> Result<Arc<dyn Source>> {
    if parts.len() == 1
        && let Some(only) = parts.pop()
    {
        return Ok(only);
    }
    let mut len = 0_u64;
    let mut placed = Vec::with_capacity(parts.len());
    for part in parts {
        let size = part.len();
        if size == 0 {
            continue;
        }
        placed.push((len, part));
        len = len
            .checked_add(size)
            .ok_or_else(|| Error::corrupt("its parts are longer than any disk"))?;
    }
    Ok(Arc::new(Joined { parts: placed, len }))
}

impl Joined {
    /// The part in which `offset` lies: its number, where it begins, and it.
    fn part(&self, offset: u64) -> Option<(usize, u64, &Arc<dyn Source>)> {
        let number = self
            .parts
            .partition_point(|(start, _)| *start <= offset)
            .checked_sub(1)?;
        let (start, part) = self.parts.get(number)?;
        Some((number, *start, part))
    }
}

impl Source for Joined {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        check_range(offset, buf.len(), self.len)?;
        let mut at = offset;
        let mut rest = buf;
        while !rest.is_empty() {
            let (_, start, part) = self
                .part(at)
                .ok_or_else(|| Error::corrupt("nothing is there").at_offset(at))?;
            let inner = at.saturating_sub(start);
            let (now, later) = split_at(rest, part.len().saturating_sub(inner));
            part.read_exact_at(inner, now)?;
            at = at.saturating_add(length(now));
            rest = later;
        }
        Ok(())
    }

    fn next_data(&self, offset: u64) -> Result<Option<Range<u64>>> {
        if offset >= self.len {
            return Ok(None);
        }
        let Some((first, _, _)) = self.part(offset) else {
            return Ok(None);
        };
        for (start, part) in self.parts.iter().skip(first) {
            let inner = offset.saturating_sub(*start);
            if let Some(data) = part.next_data(inner)? {
                return Ok(Some(
                    start.saturating_add(data.start)..start.saturating_add(data.end),
                ));
            }
        }
        Ok(None)
    }
}

/// Holds a read against the length of what is read.
pub(crate) fn check_range(offset: u64, wanted: usize, len: u64) -> Result<()> {
    let end = u64::try_from(wanted)
        .ok()
        .and_then(|wanted| offset.checked_add(wanted));
    match end {
        Some(end) if end <= len => Ok(()),
        _ => Err(
            Error::corrupt(format!("{wanted} bytes are wanted of a volume of {len}"))
                .at_offset(offset),
        ),
    }
}

/// The first `most` bytes of `buf`, and the others.
pub(crate) fn split_at(buf: &mut [u8], most: u64) -> (&mut [u8], &mut [u8]) {
    let at = usize::try_from(most).unwrap_or(usize::MAX).min(buf.len());
    buf.split_at_mut(at)
}

/// The length of `buf`.
pub(crate) fn length(buf: &[u8]) -> u64 {
    u64::try_from(buf.len()).unwrap_or(u64::MAX)
}

/// Bytes that are all zero, such as a thin volume's unmapped blocks or a sparse snapshot's origin.
pub(crate) struct Zeroes(pub(crate) u64);

impl Source for Zeroes {
    fn len(&self) -> u64 {
        self.0
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        check_range(offset, buf.len(), self.0)?;
        buf.fill(0);
        Ok(())
    }

    fn next_data(&self, _: u64) -> Result<Option<Range<u64>>> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dormouse_block::{Bytes, read_vec_at};

    #[test]
    fn parts_follow_one_another_and_holes_stay_holes() {
        let joined = join(vec![
            Arc::new(Bytes::new(vec![1, 2, 3])),
            Arc::new(Zeroes(4)),
            Arc::new(Bytes::new(vec![4, 5])),
        ])
        .unwrap();
        assert_eq!(joined.len(), 9);
        assert_eq!(read_vec_at(&*joined, 1, 7).unwrap(), [2, 3, 0, 0, 0, 0, 4]);
        assert_eq!(joined.next_data(3).unwrap(), Some(7..9));
        assert!(read_vec_at(&*joined, 8, 2).is_err());
    }
}
