//! The clusters of a file, one after the other.

use dormouse_block::{Error, Result};

use super::table::Next;

/// Follows the chain that begins at `first`, at most `limit` clusters of it: runs of clusters that follow each other, each
/// with its length. `clusters` is how many the volume has, of which the first is 2; `next` reads the table.
///
/// # Errors
/// `Corrupt` for a chain that leads outside, to a free cluster or in a circle.
pub fn follow(
    clusters: u32,
    first: u32,
    limit: u32,
    next: &mut dyn FnMut(u32) -> Result<Next>,
) -> Result<Vec<(u32, u32)>> {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    let mut at = first;
    let mut count = 0_u32;
    // Longer than all clusters together is a circle.
    let most = limit.min(clusters);
    while count < most {
        if at.checked_sub(2).is_none_or(|nth| nth >= clusters) {
            return Err(Error::corrupt(format!("there is no cluster {at}")));
        }
        match runs.last_mut() {
            Some((start, len)) if start.saturating_add(*len) == at => *len = len.saturating_add(1),
            _ => runs.push((at, 1)),
        }
        count = count.saturating_add(1);
        match next(at)? {
            Next::Cluster(then) => at = then,
            Next::End => return Ok(runs),
            Next::Free | Next::Bad => {
                return Err(Error::corrupt(format!(
                    "a file's chain leads to cluster {at}, which is free or bad"
                )));
            }
        }
    }
    if limit > clusters {
        return Err(Error::corrupt("a file's chain goes in a circle"));
    }
    Ok(runs)
}
