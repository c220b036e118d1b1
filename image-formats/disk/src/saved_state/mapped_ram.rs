//! Memory that QEMU keeps at fixed places of the file (`docs/devel/migration/mapped-ram.rst`): each block's pages lie in
//! their order, and a bitmap says which of them were written. libvirt calls such states sparse.

use std::sync::Arc;

use dormouse_block::{Error, Result, Source};

use super::STEP;
use super::pieces::Pieces;
use super::stream::Stream;

/// The only version.
const VERSION: u32 = 1;

/// Where a block's pages are.
pub(super) struct MappedBlock {
    number: usize,
    pages: u64,
    bitmap: u64,
    first: u64,
}

impl MappedBlock {
    /// Reads what stands behind the name and size of a block, and goes on behind its pages.
    pub(super) fn read(stream: &mut Stream, number: usize, len: u64, page: u64) -> Result<Self> {
        let version = stream.u32()?;
        if version != VERSION {
            return Err(Error::unsupported(format!(
                "version {version} of mapped memory"
            )));
        }
        let size = stream.u64()?;
        if size != page {
            return Err(Error::unsupported(format!(
                "mapped memory in pages of {size} bytes"
            )));
        }
        let bitmap = stream.u64()?;
        let first = stream.u64()?;
        let pages = len.checked_div(page).unwrap_or(0);
        let words = pages.div_ceil(64).saturating_mul(8);
        let before = stream.position();
        let sound = bitmap >= before
            && bitmap.checked_add(words).is_some_and(|end| end <= first)
            && first.checked_add(len).is_some();
        if !sound {
            return Err(Error::corrupt(
                "mapped memory whose bitmap and pages overlap, or lie before their own header",
            ));
        }
        stream.go_on_at(first.saturating_add(len))?;
        Ok(Self {
            number,
            pages,
            bitmap,
            first,
        })
    }
}

/// Hands over the pages that were written.
pub(super) fn read(
    source: &Arc<dyn Source>,
    blocks: &[MappedBlock],
    page: u64,
    pieces: &mut Pieces<'_, '_>,
) -> Result<()> {
    let mut bits = Vec::new();
    let mut buffer = Vec::new();
    for block in blocks {
        let bytes = block.pages.div_ceil(64).saturating_mul(8);
        let mut at = 0;
        // A run of written pages: its first page and how many.
        let mut run: Option<(u64, u64)> = None;
        let most = STEP.checked_div(page).unwrap_or(1).max(1);
        while at < bytes {
            let step = STEP.min(bytes.saturating_sub(at));
            bits.resize(usize::try_from(step).unwrap_or(0), 0);
            source.read_exact_at(block.bitmap.saturating_add(at), &mut bits)?;
            for (number, byte) in bits.iter().enumerate() {
                if *byte == 0 && run.is_none() {
                    continue;
                }
                let byte_at = at.saturating_add(u64::try_from(number).unwrap_or(u64::MAX));
                for bit in 0..8_u32 {
                    let this = byte_at.saturating_mul(8).saturating_add(u64::from(bit));
                    let is_set = byte.checked_shr(bit).unwrap_or(0) & 1 == 1 && this < block.pages;
                    run = match run {
                        Some((from, count)) if is_set && count < most => {
                            Some((from, count.saturating_add(1)))
                        }
                        other => {
                            if let Some((from, count)) = other {
                                hand(source, block, page, (from, count), &mut buffer, pieces)?;
                            }
                            is_set.then_some((this, 1))
                        }
                    };
                }
            }
            at = at.saturating_add(step);
        }
        if let Some(run) = run {
            hand(source, block, page, run, &mut buffer, pieces)?;
        }
    }
    Ok(())
}

fn hand(
    source: &Arc<dyn Source>,
    block: &MappedBlock,
    page: u64,
    (from, count): (u64, u64),
    buffer: &mut Vec<u8>,
    pieces: &mut Pieces<'_, '_>,
) -> Result<()> {
    let offset = from.saturating_mul(page);
    let len = usize::try_from(count.saturating_mul(page)).unwrap_or(0);
    buffer.resize(len, 0);
    source.read_exact_at(block.first.saturating_add(offset), buffer)?;
    pieces.bytes(block.number, offset, buffer)
}
