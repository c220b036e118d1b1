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
