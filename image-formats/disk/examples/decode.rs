//! Reads a whole disk image and throws the bytes away: what there is to gain over `qemu-img convert` to nowhere.
//!
//! `decode IMAGE [POINT]` prints nothing but what a benchmark needs.
#![allow(clippy::print_stdout, reason = "an example is a program")]

use std::path::Path;
use std::sync::Arc;

use dormouse_block::{Error, Result};
use dormouse_disk::{LibraryGate, OpenOptions, open};

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let path = args
        .next()
        .ok_or_else(|| Error::unsupported("which image?"))?;
    let point = args.next().unwrap_or_else(|| "active".to_owned());
    let path = Path::new(&path);
    let folder = path.parent().unwrap_or(Path::new("."));
    let image = open(
        path,
        &OpenOptions::new(Arc::new(LibraryGate::new([folder])?)),
    )?;
    let source = image.open_point(&image.point(&point)?.id)?;
    let mut buf = vec![0; 2 << 20];
    let (mut at, mut bytes) = (0_u64, 0_u64);
    while let Some(range) = source.next_data(at)? {
        let mut from = range.start;
        while from < range.end {
            let len = usize::try_from(range.end - from)
                .unwrap_or(usize::MAX)
                .min(buf.len());
            let part = buf.get_mut(..len).unwrap_or_default();
            source.read_exact_at(from, part)?;
            from += u64::try_from(len).unwrap_or(0);
        }
        bytes += range.end - range.start;
        at = range.end;
    }
    println!("{bytes} bytes of data in a disk of {}", source.len());
    Ok(())
}
