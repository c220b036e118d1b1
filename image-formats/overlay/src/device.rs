//! What an editor writes to.

use std::ops::Range;
use std::sync::Arc;

use dormouse_block::{Error, Result, Source};

/// A source that can be written: an overlay, or a part of one.
pub trait Device: Source {
    /// Writes `bytes` from `offset` on; a later read sees them.
    ///
    /// # Errors
    /// `Corrupt` when the range does not lie within [`Source::len`], `Io` when the host cannot write.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()>;
}

impl<D: Device + ?Sized> Device for Arc<D> {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        (**self).write_at(offset, bytes)
    }
}

impl<D: Device + ?Sized> Device for Box<D> {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        (**self).write_at(offset, bytes)
    }
}

/// A part of a device, such as a partition of an overlay.
pub struct DeviceWindow<D> {
    device: D,
    start: u64,
    len: u64,
}

impl<D: Device> DeviceWindow<D> {
    /// The `len` bytes of `device` from `start` on.
    ///
    /// # Errors
    /// `Corrupt` when that range does not lie within the device.
    pub fn new(device: D, start: u64, len: u64) -> Result<Self> {
        match start.checked_add(len) {
            Some(end) if end <= device.len() => Ok(Self { device, start, len }),
            _ => Err(Error::corrupt(format!(
                "{len} bytes are wanted of a device of {}",
                device.len()
            ))
            .at_offset(start)),
        }
    }

    /// Where `offset` lies in the device, if `wanted` bytes from there on lie in the window.
    fn place(&self, offset: u64, wanted: usize) -> Result<u64> {
        u64::try_from(wanted)
            .ok()
            .and_then(|wanted| offset.checked_add(wanted))
            .filter(|end| *end <= self.len)
            .and_then(|_| self.start.checked_add(offset))
            .ok_or_else(|| {
                Error::corrupt(format!(
                    "{wanted} bytes are wanted of a device of {}",
                    self.len
                ))
                .at_offset(offset)
            })
    }
}

impl<D: Device> Source for DeviceWindow<D> {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let at = self.place(offset, buf.len())?;
        self.device.read_exact_at(at, buf)
    }

    fn next_data(&self, offset: u64) -> Result<Option<Range<u64>>> {
        if offset >= self.len {
            return Ok(None);
        }
        let end = self.start.saturating_add(self.len);
        let found = self.device.next_data(self.start.saturating_add(offset))?;
        Ok(found.filter(|range| range.start < end).map(|range| {
            range.start.saturating_sub(self.start)..range.end.min(end).saturating_sub(self.start)
        }))
    }
}

impl<D: Device> Device for DeviceWindow<D> {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let at = self.place(offset, bytes.len())?;
        self.device.write_at(at, bytes)
    }
}

/// Ranges of a device one after another, such as those of a logical volume.
pub struct DeviceRanges<D> {
    /// Where each begins in the volume, and its part of the device.
    parts: Vec<(u64, DeviceWindow<D>)>,
    len: u64,
}

impl<D: Device + Clone> DeviceRanges<D> {
    /// The `ranges` of `device`, each its first byte and its length.
    ///
    /// # Errors
    /// `Corrupt` when one does not lie within the device, or two overlap.
    pub fn new(device: &D, ranges: &[(u64, u64)]) -> Result<Self> {
        let mut sorted = ranges.to_vec();
        sorted.sort_unstable();
        let mut reach = 0_u64;
        for (start, len) in sorted {
            if start < reach {
                return Err(Error::corrupt("two ranges of a volume overlap").at_offset(start));
            }
            reach = start.saturating_add(len);
        }
        let mut parts = Vec::with_capacity(ranges.len());
        let mut at = 0_u64;
        for (start, len) in ranges {
            parts.push((at, DeviceWindow::new(device.clone(), *start, *len)?));
            at = at
                .checked_add(*len)
                .ok_or_else(|| Error::corrupt("the ranges are longer than any device"))?;
        }
        Ok(Self { parts, len: at })
    }

    /// Calls `step` with each part of the `wanted` bytes from `offset` on: the part, the offset in it, and the bytes
    /// before it and up to its end.
    fn each(
        &self,
        offset: u64,
        wanted: usize,
        mut step: impl FnMut(&DeviceWindow<D>, u64, Range<usize>) -> Result<()>,
    ) -> Result<()> {
        let end = u64::try_from(wanted)
            .ok()
            .and_then(|wanted| offset.checked_add(wanted))
            .filter(|end| *end <= self.len)
            .ok_or_else(|| {
                Error::corrupt(format!(
                    "{wanted} bytes are wanted of a volume of {}",
                    self.len
                ))
                .at_offset(offset)
            })?;
        let place = |at: u64| usize::try_from(at.saturating_sub(offset)).unwrap_or(usize::MAX);
        let first = self.parts.partition_point(|(start, _)| *start <= offset);
        for (start, part) in self.parts.iter().skip(first.saturating_sub(1)) {
            let from = offset.max(*start);
            let to = end.min(start.saturating_add(part.len));
            if from >= to {
                if *start >= end {
                    break;
                }
                continue;
            }
            step(part, from.saturating_sub(*start), place(from)..place(to))?;
        }
        Ok(())
    }
}

impl<D: Device + Clone> Source for DeviceRanges<D> {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.each(offset, buf.len(), |part, at, range| {
            let buf = buf
                .get_mut(range)
                .ok_or_else(|| Error::corrupt("a range beyond the buffer"))?;
            part.read_exact_at(at, buf)
        })
    }

    fn next_data(&self, offset: u64) -> Result<Option<Range<u64>>> {
        for (start, part) in &self.parts {
            let end = start.saturating_add(part.len);
            if end <= offset {
                continue;
            }
            if let Some(data) = part.next_data(offset.saturating_sub(*start))? {
                return Ok(Some(
                    start.saturating_add(data.start)..start.saturating_add(data.end),
                ));
            }
        }
        Ok(None)
    }
}

impl<D: Device + Clone> Device for DeviceRanges<D> {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.each(offset, bytes.len(), |part, at, range| {
            let bytes = bytes
                .get(range)
                .ok_or_else(|| Error::corrupt("a range beyond the bytes"))?;
            part.write_at(at, bytes)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use dormouse_block::read_vec_at;

    use super::*;

    struct Memory(Mutex<Vec<u8>>);

    impl Source for Memory {
        fn len(&self) -> u64 {
            100
        }
        fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
            let at = usize::try_from(offset).unwrap();
            buf.copy_from_slice(&self.0.lock().unwrap()[at..at + buf.len()]);
            Ok(())
        }
    }

    impl Device for Memory {
        fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
            let at = usize::try_from(offset).unwrap();
            self.0.lock().unwrap()[at..at + bytes.len()].copy_from_slice(bytes);
            Ok(())
        }
    }

    #[test]
    fn a_write_across_ranges_lands_in_each_and_nowhere_else() {
        let memory = Arc::new(Memory(Mutex::new(vec![0; 100])));
        let ranges = DeviceRanges::new(&memory, &[(50, 10), (10, 5), (70, 20)]).unwrap();
        assert_eq!(ranges.len(), 35);
        ranges
            .write_at(8, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
            .unwrap();
        let bytes = memory.0.lock().unwrap().clone();
        assert_eq!(bytes[58..60], [1, 2]);
        assert_eq!(bytes[10..15], [3, 4, 5, 6, 7]);
        assert_eq!(bytes[70..73], [8, 9, 10]);
        assert_eq!(bytes.iter().filter(|byte| **byte != 0).count(), 10);
        assert_eq!(
            read_vec_at(&ranges, 9, 8).unwrap(),
            [2, 3, 4, 5, 6, 7, 8, 9]
        );
        assert!(ranges.write_at(30, &[0; 6]).is_err());
        assert!(DeviceRanges::new(&memory, &[(0, 10), (9, 5)]).is_err());
        assert!(DeviceRanges::new(&memory, &[(95, 10)]).is_err());
    }
}
