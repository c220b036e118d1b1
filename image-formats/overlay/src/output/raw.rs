//! Raw disks.

use dormouse_block::{Result, Source};

use super::size_of;
use super::target::Target;
use super::walk::pieces;

/// Smaller holes cost more on most hosts than they save.
const UNIT: u64 = 4096;

pub(super) fn write(disk: &dyn Source, target: &mut Target) -> Result<()> {
    let size = size_of(disk, i64::MAX.unsigned_abs() & !511, "a file")?;
    target.grow(size);
    plain(disk, target, |_, _| {})
}

/// Writes what the disk holds where it stands on it.
pub(super) fn plain(
    disk: &dyn Source,
    target: &mut Target,
    mut seen: impl FnMut(u64, &[u8]),
) -> Result<()> {
    // Neighbouring pieces go out in one write.
    let mut run: (u64, Vec<u8>) = (0, Vec::new());
    pieces(disk, UNIT, |offset, bytes| {
        seen(offset, bytes);
        let end = run
            .0
            .saturating_add(u64::try_from(run.1.len()).unwrap_or(u64::MAX));
        if end != offset || run.1.len() >= 1 << 20 {
            target.put(run.0, &run.1)?;
            run.0 = offset;
            run.1.clear();
        }
        run.1.extend_from_slice(bytes);
        Ok(())
    })?;
    target.put(run.0, &run.1)
}
