//! Runs of clusters: where the bytes of an attribute are.

use dormouse_block::{Error, Result};

use super::attribute::Clusters;
use crate::fat::wide;

/// Runs of one attribute at most; each takes 24 bytes of memory.
const MAX_RUNS: usize = 1 << 20;

/// Consecutive clusters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    /// The first one within the attribute.
    pub(super) first: u64,
    /// How many.
    pub(super) len: u64,
    /// The first one on the volume; `None` for a hole.
    pub(super) place: Option<u64>,
}

/// The runs of an attribute, in order and without gaps.
#[derive(Debug, Clone, Default)]
pub(super) struct Extents(Vec<Run>);

impl Extents {
    /// Adds the runs of the next part; `clusters` is how many there are on the volume.
    ///
    /// # Errors
    /// `Corrupt` for broken ones, `Limit` for too many.
    pub(super) fn add(&mut self, part: &Clusters<'_>, clusters: u64) -> Result<()> {
        let bad = |what: &'static str| Error::corrupt(what);
        if part.first != self.end() {
            return Err(bad("the parts of an attribute do not follow each other"));
        }
        let mut rest = part.runs;
        let mut place = 0_i64;
        while let Some((&head, after)) = rest.split_first() {
            if head == 0 {
                break;
            }
            let (len_size, place_size) = (usize::from(head & 0xF), usize::from(head >> 4));
            let (len, after) = after
                .split_at_checked(len_size)
                .ok_or_else(|| bad("runs end in the middle"))?;
            let (delta, after) = after
                .split_at_checked(place_size)
                .ok_or_else(|| bad("runs end in the middle"))?;
            rest = after;
            let len = u64::try_from(signed(len)?).unwrap_or(0);
            if len == 0 {
                return Err(bad("a run without clusters"));
            }
            let first = self.end();
            first
                .checked_add(len)
                .filter(|end| *end <= 1 << 52)
                .ok_or_else(|| bad("a run is too long"))?;
            let place = if delta.is_empty() {
                None
            } else {
                place = place
                    .checked_add(signed(delta)?)
                    .ok_or_else(|| bad("a run lies outside the volume"))?;
                let start = u64::try_from(place).ok();
                start
                    .filter(|start| start.checked_add(len).is_some_and(|end| end <= clusters))
                    .ok_or_else(|| bad("a run lies outside the volume"))?
                    .into()
            };
            if self.0.len() >= MAX_RUNS {
                return Err(Error::limit("an attribute of more than 2^20 runs"));
            }
            self.0.push(Run { first, len, place });
        }
        // An attribute without clusters ends before it begins.
        if self.end() != part.last.wrapping_add(1) {
            return Err(bad("the runs of an attribute end elsewhere than it says"));
        }
        Ok(())
    }

    /// How many clusters there are.
    pub(super) fn end(&self) -> u64 {
        self.0
            .last()
            .map_or(0, |run| run.first.saturating_add(run.len))
    }

    /// What is left of the run that cluster `at` of the attribute is in.
    pub(super) fn from(&self, at: u64) -> Option<Run> {
        let nth = self
            .0
            .partition_point(|run| run.first <= at)
            .checked_sub(1)?;
        let run = self.0.get(nth)?;
        let within = at.saturating_sub(run.first);
        let len = run.len.checked_sub(within).filter(|len| *len > 0)?;
        Some(Run {
            first: at,
            len,
            place: run.place.map(|place| place.saturating_add(within)),
        })
    }
}

/// A little-endian number of up to eight bytes, with a sign.
fn signed(bytes: &[u8]) -> Result<i64> {
    let mut out = match bytes.last() {
        Some(last) if last & 0x80 != 0 => [0xFF; 8],
        _ => [0; 8],
    };
    if wide(bytes.len()) > 8 {
        return Err(Error::corrupt("a number of more than eight bytes in a run"));
    }
    for (to, from) in out.iter_mut().zip(bytes) {
        *to = *from;
    }
    Ok(i64::from_le_bytes(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(runs: &[u8], last: u64) -> Clusters<'_> {
        Clusters {
            first: 0,
            last,
            unit: 0,
            size: 0,
            valid: 0,
            runs,
        }
    }

    #[test]
    fn runs_go_forth_and_back_and_leave_holes() {
        let mut extents = Extents::default();
        // 8 clusters at 100, a hole of 4, 2 at 90.
        extents
            .add(&part(&[0x11, 8, 100, 0x01, 4, 0x11, 2, 0xF6, 0], 13), 1000)
            .unwrap();
        assert_eq!(extents.from(3).unwrap().place, Some(103));
        assert_eq!(extents.from(8).unwrap().place, None);
        assert_eq!(
            (
                extents.from(13).unwrap().place,
                extents.from(13).unwrap().len
            ),
            (Some(91), 1)
        );
        assert!(extents.from(14).is_none());
    }

    #[test]
    fn runs_that_overflow_are_corrupt() {
        for (runs, last) in [
            (&[0x11, 8, 100, 0][..], 8),
            (&[0x11, 0, 100, 0], 0),
            (
                &[0x18, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F, 1],
                u64::MAX >> 1,
            ),
            (&[0x11, 8, 0x80, 0], 7),
            (&[0x81, 8, 0, 0, 0, 0, 0, 0, 0, 0x7F, 0], 7),
            (&[0xF1, 8, 0], 7),
            (&[0x2F], 0),
        ] {
            assert!(
                Extents::default().add(&part(runs, last), 1000).is_err(),
                "{runs:?}"
            );
        }
    }
}
