//! Memory kept as it was, page after page.

use std::sync::Arc;

use dormouse_block::{Result, Source};

use super::STEP;
use super::pieces::Pieces;

/// Hands over `len` bytes of `source` from `from` on as the block called `name`. Holes of the file are zeroes.
pub(super) fn hand_over(
    source: &Arc<dyn Source>,
    (from, len): (u64, u64),
    name: &str,
    pieces: &mut Pieces<'_, '_>,
) -> Result<()> {
    let block = pieces.block(name, len)?;
    let end = from.saturating_add(len);
    let mut buffer = Vec::new();
    let mut at = from;
    while at < end {
        let data = source.next_data(at)?;
        let data = data.map_or(end..end, |data| {
            data.start.clamp(at, end)..data.end.min(end)
        });
        if data.start > at {
            let hole = data.start.saturating_sub(at);
            pieces.fill(block, at.saturating_sub(from), hole, 0)?;
        }
        at = data.start;
        while at < data.end {
            let step = STEP.min(data.end.saturating_sub(at));
            buffer.resize(usize::try_from(step).unwrap_or(0), 0);
            source.read_exact_at(at, &mut buffer)?;
            pieces.bytes(block, at.saturating_sub(from), &buffer)?;
            at = at.saturating_add(step);
        }
    }
    Ok(())
}
