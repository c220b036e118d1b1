//! A disk as the map of its image says: stretches of data, compressed units, zeroes, and what a layer below holds.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use dormouse_block::{Error, Result, Source};

use crate::decoder::Decoder;
use crate::encryption::DataCipher;
use crate::units::FileUnits;

/// Look-ups of the map that one search for data takes: many TiB of empty tables. A table that maps itself over and over
/// could keep it busy for hours otherwise.
const MAX_LOOKUPS: usize = 1 << 17;

/// Stretches that are joined for one step, so that many small blocks are one read.
const MAX_JOINED: usize = 256;

/// A byte offset in the image file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct HostOffset(pub(crate) u64);

/// Where the bytes of a stretch of the disk are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mapping {
    /// Nowhere, and they read as zeroes whatever the layer below has.
    Zero,
    /// Not in this file: the layer below has them, or they are zeroes.
    Below,
    /// In the image file, from here on.
    Data(HostOffset),
    /// In a compressed unit.
    Packed(Packed),
}

/// A compressed unit, and where in it a stretch begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Packed {
    /// Where its compressed bytes begin in the file.
    pub(crate) at: HostOffset,
    /// At most so many of them there are.
    pub(crate) len: u64,
    /// Bytes that it unpacks to; the format's limit on clusters or grains bounds it.
    pub(crate) unit: usize,
    /// Bytes of it before the stretch.
    pub(crate) within: u64,
}

/// A stretch of the disk that is mapped alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) mapping: Mapping,
    /// Bytes, more than zero.
    pub(crate) len: u64,
}

impl Stretch {
    /// The same bytes, at most `limit` of them.
    pub(crate) fn at_most(self, limit: u64) -> Self {
        Self {
            len: self.len.min(limit).max(1),
            ..self
        }
    }

    /// What would continue this stretch.
    fn continued(self) -> Option<Mapping> {
        match self.mapping {
            Mapping::Data(HostOffset(at)) => {
                Some(Mapping::Data(HostOffset(at.checked_add(self.len)?)))
            }
            Mapping::Packed(_) => None,
            other => Some(other),
        }
    }
}

/// How the disk is mapped from an offset on: the longest stretch that is cheaply known, of at most so many bytes.
pub(crate) type Locate = Box<dyn Fn(u64, u64) -> Result<Stretch> + Send + Sync>;

/// The disk below a layer, which may be shorter: zeroes follow its end.
pub(crate) struct Below {
    source: Arc<dyn Source>,
    start: u64,
}

impl Below {
    /// A layer over the whole of `source`.
    pub(crate) fn whole(source: Arc<dyn Source>) -> Self {
        Self { source, start: 0 }
    }

    /// A layer whose first byte is the byte `start` of `source`.
    pub(crate) fn from(source: Arc<dyn Source>, start: u64) -> Self {
        Self { source, start }
    }

    fn read(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let at = self.start.saturating_add(offset);
        let there = self.source.len().saturating_sub(at);
        let there = usize::try_from(there).unwrap_or(usize::MAX).min(buf.len());
        let (data, beyond) = buf.split_at_mut(there);
        beyond.fill(0);
        if data.is_empty() {
            return Ok(());
        }
        self.source.read_exact_at(at, data)
    }

    fn next_data(&self, offset: u64) -> Result<Option<Range<u64>>> {
        let found = self.source.next_data(self.start.saturating_add(offset))?;
        Ok(found.map(|range| {
            range.start.saturating_sub(self.start)..range.end.saturating_sub(self.start)
        }))
    }
}

/// A disk, or the saved state behind it, as its image maps it.
pub(crate) struct Mapped {
    /// The name of the file, for errors.
    path: String,
    file: Arc<dyn Source>,
    len: u64,
    locate: Locate,
    below: Option<Below>,
    /// What decrypts data; compressed units are not encrypted.
    cipher: Option<DataCipher>,
    /// Its compressed units, if the format has any.
    units: Option<FileUnits>,
    /// Of each thread that decodes a unit at the same time as others.
    decoders: Mutex<Vec<Workplace>>,
}

/// What it takes to decode a unit.
struct Workplace {
    decoder: Decoder,
    packed: Vec<u8>,
}

impl Mapped {
    /// `len` bytes of which `locate` knows where they are in `file` (called `path` in errors) or `below`.
    pub(crate) fn new(
        path: String,
        file: Arc<dyn Source>,
        len: u64,
        locate: Locate,
        below: Option<Below>,
    ) -> Self {
        Self {
            path,
            file,
            len,
            locate,
            below,
            cipher: None,
            units: None,
            decoders: Mutex::default(),
        }
    }

    /// The same, with compressed units.
    pub(crate) fn packed(mut self, units: FileUnits) -> Self {
        self.units = Some(units);
        self
    }

    /// The same, with its data encrypted so.
    pub(crate) fn encrypted(mut self, cipher: Option<DataCipher>) -> Self {
        self.cipher = cipher;
        self
    }

    /// The stretch at `offset`, joined with those that continue it; `lookups` counts.
    fn stretch(&self, offset: u64, limit: u64, lookups: &mut usize) -> Result<Stretch> {
        *lookups = lookups.saturating_add(1);
        let mut stretch = (self.locate)(offset, limit)?.at_most(limit);
        for _ in 0..MAX_JOINED {
            let left = limit.saturating_sub(stretch.len);
            let Some(wanted) = stretch.continued().filter(|_| left > 0) else {
                break;
            };
            *lookups = lookups.saturating_add(1);
            // What is broken ends the stretch; it is reported when its own turn comes.
            match (self.locate)(offset.saturating_add(stretch.len), left) {
                Ok(next) if next.mapping == wanted => {
                    stretch.len = stretch.len.saturating_add(next.at_most(left).len);
                }
                _ => break,
            }
        }
        Ok(stretch)
    }

    /// Reads data straight into `buf`.
    fn read_data(&self, host: HostOffset, guest: u64, buf: &mut [u8]) -> Result<()> {
        let len = u64::try_from(buf.len()).unwrap_or(u64::MAX);
        let file = &self.file;
        if host.0.checked_add(len).is_none_or(|end| end > file.len()) {
            return Err(Error::corrupt(format!(
                "the data of guest byte {guest} lie beyond the end of the file, which has {} bytes",
                file.len()
            ))
            .at_offset(host.0));
        }
        match &self.cipher {
            Some(cipher) => cipher.read(&**file, host, guest, buf),
            None => file.read_exact_at(host.0, buf),
        }
    }

    /// Reads `buf` from a compressed unit.
    fn read_packed(&self, unit: Packed, buf: &mut [u8]) -> Result<()> {
        let units = self
            .units
            .as_ref()
            .ok_or_else(|| Error::corrupt("a compressed unit in a format without any"))?;
        let bytes = match units.get(unit.at, unit.unit) {
            Some(bytes) => bytes,
            // Who reads whole units reads each once.
            None if buf.len() == unit.unit => return self.decode(units, unit, buf),
            None => {
                let mut bytes: Arc<[u8]> = std::iter::repeat_n(0, unit.unit).collect();
                let out = Arc::get_mut(&mut bytes);
                let out = out.ok_or_else(|| Error::corrupt("a new unit is in use"))?;
                self.decode(units, unit, out)?;
                units.put(unit.at, bytes.clone());
                bytes
            }
        };
        let within = usize::try_from(unit.within).unwrap_or(usize::MAX);
        let part = within
            .checked_add(buf.len())
            .and_then(|end| bytes.get(within..end))
            .ok_or_else(|| Error::corrupt("a compressed cluster is too small"))?;
        buf.copy_from_slice(part);
        Ok(())
    }

    /// Decodes a whole unit.
    fn decode(&self, units: &FileUnits, unit: Packed, out: &mut [u8]) -> Result<()> {
        // The last compressed unit's last sector may be cut short by the end of the file.
        let len = unit.len.min(self.file.len().saturating_sub(unit.at.0));
        let len = usize::try_from(len).map_err(|_| Error::limit("the cluster is too large"))?;
        if len == 0 {
            return Err(Error::corrupt(format!(
                "a compressed cluster lies beyond the end of the file, which has {} bytes",
                self.file.len()
            ))
            .at_offset(unit.at.0));
        }
        let places = || self.decoders.lock().unwrap_or_else(PoisonError::into_inner);
        let free = places().pop();
        let mut place = free.unwrap_or_else(|| Workplace {
            decoder: Decoder::new(units.compression()),
            packed: Vec::new(),
        });
        place.packed.resize(len, 0);
        self.file.read_exact_at(unit.at.0, &mut place.packed)?;
        let decoded = place.decoder.decode(&place.packed, out);
        places().push(place);
        decoded.map_err(|error| error.at_offset(unit.at.0))
    }

    fn read(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let wanted = u64::try_from(buf.len()).unwrap_or(u64::MAX);
        if offset.checked_add(wanted).is_none_or(|end| end > self.len) {
            return Err(Error::corrupt(format!(
                "{wanted} bytes are wanted of a disk of {}",
                self.len
            ))
            .at_offset(offset));
        }
        let mut guest = offset;
        let mut buf = buf;
        while !buf.is_empty() {
            let left = u64::try_from(buf.len()).unwrap_or(u64::MAX);
            let stretch = self.stretch(guest, left, &mut 0)?;
            let len = usize::try_from(stretch.len)
                .unwrap_or(usize::MAX)
                .clamp(1, buf.len());
            let (part, rest) = std::mem::take(&mut buf).split_at_mut(len);
            match (stretch.mapping, &self.below) {
                (Mapping::Zero, _) | (Mapping::Below, None) => part.fill(0),
                (Mapping::Below, Some(below)) => below.read(guest, part)?,
                (Mapping::Data(host), _) => self.read_data(host, guest, part)?,
                (Mapping::Packed(unit), _) => self.read_packed(unit, part)?,
            }
            guest = guest.saturating_add(u64::try_from(len).unwrap_or(u64::MAX));
            buf = rest;
        }
        Ok(())
    }

    /// Where the first byte at or after `offset` that the file or the layer below may hold lies, within `stretch`.
    /// `lower` is what was found below last, so that many small holes in front of it ask for it once.
    fn data_within(
        &self,
        offset: u64,
        stretch: Stretch,
        lower: &mut Option<Range<u64>>,
    ) -> Result<Option<Range<u64>>> {
        let end = offset.saturating_add(stretch.len);
        match stretch.mapping {
            Mapping::Zero => Ok(None),
            Mapping::Packed(_) => Ok(Some(offset..end)),
            // Under a cipher zeroes are bytes like any others, and a hole is none.
            Mapping::Data(_) if self.cipher.is_some() => Ok(Some(offset..end)),
            Mapping::Data(HostOffset(host)) => {
                // Space may be allocated and yet a hole of the host's file, as preallocation leaves it.
                let beyond = host.saturating_add(stretch.len) > self.file.len();
                let Some(found) = self.file.next_data(host)? else {
                    // Beyond the end of the file is not zeroes: reading it says what is wrong.
                    return Ok(beyond.then_some(offset..end));
                };
                let from = found.start.saturating_sub(host);
                let to = found.end.saturating_sub(host).min(stretch.len);
                if from >= stretch.len {
                    return Ok(beyond.then_some(offset..end));
                }
                let to = if beyond { stretch.len } else { to };
                Ok(Some(offset.saturating_add(from)..offset.saturating_add(to)))
            }
            Mapping::Below => {
                let Some(below) = &self.below else {
                    return Ok(None);
                };
                // What was found last still holds as long as it lies ahead.
                if lower.as_ref().is_none_or(|range| range.end <= offset) {
                    let nothing = self.len..u64::MAX;
                    *lower = Some(below.next_data(offset)?.unwrap_or(nothing));
                }
                let found = lower.as_ref().filter(|range| range.start < end);
                Ok(found.map(|range| range.start.max(offset)..range.end.min(end)))
            }
        }
    }

    /// What this layer does not leave to the one below; `None` where that takes too many look-ups.
    pub(crate) fn own(&self) -> Result<Option<Vec<Range<u64>>>> {
        let mut own: Vec<Range<u64>> = Vec::new();
        let (mut at, mut lookups) = (0, 0);
        while at < self.len {
            if lookups >= MAX_LOOKUPS {
                return Ok(None);
            }
            let stretch = self
                .stretch(at, self.len.saturating_sub(at), &mut lookups)
                .map_err(|error| error.in_file(&self.path))?;
            let end = at.saturating_add(stretch.len.max(1));
            match own.last_mut() {
                _ if stretch.mapping == Mapping::Below => {}
                Some(last) if last.end == at => last.end = end,
                _ => own.push(at..end),
            }
            at = end;
        }
        Ok(Some(own))
    }

    fn search(&self, offset: u64) -> Result<Option<Range<u64>>> {
        let mut at = offset;
        let mut lower = None;
        let mut lookups = 0;
        while lookups < MAX_LOOKUPS {
            if at >= self.len {
                return Ok(None);
            }
            let stretch = self.stretch(at, self.len.saturating_sub(at), &mut lookups)?;
            if let Some(found) = self.data_within(at, stretch, &mut lower)? {
                return Ok(Some(found));
            }
            at = at.saturating_add(stretch.len.max(1));
        }
        // The whole rest is always a right answer.
        Ok((at < self.len).then_some(at..self.len))
    }
}

impl Source for Mapped {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.read(offset, buf)
            .map_err(|error| error.in_file(&self.path))
    }

    fn next_data(&self, offset: u64) -> Result<Option<Range<u64>>> {
        self.search(offset)
            .map_err(|error| error.in_file(&self.path))
    }
}

/// Sources one behind the other: a disk that is kept in several extents.
pub(crate) struct Concatenated {
    /// Each with the offset at which it begins.
    parts: Vec<(u64, Arc<dyn Source>)>,
    len: u64,
}

impl Concatenated {
    /// One disk of `parts`.
    pub(crate) fn new(sources: Vec<Arc<dyn Source>>) -> Result<Self> {
        let mut parts = Vec::new();
        let mut len = 0_u64;
        for source in sources {
            let next = len.checked_add(source.len());
            if source.is_empty() {
                continue;
            }
            parts.push((len, source));
            len = next.ok_or_else(|| Error::limit("the extents are larger than every disk"))?;
        }
        Ok(Self { parts, len })
    }

    /// The part that holds `offset`, and where in it.
    fn part(&self, offset: u64) -> Option<(u64, &Arc<dyn Source>)> {
        let index = self.parts.partition_point(|(start, _)| *start <= offset);
        let (start, source) = self.parts.get(index.checked_sub(1)?)?;
        Some((offset.checked_sub(*start)?, source))
    }
}

impl Source for Concatenated {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let beyond = || Error::corrupt(format!("bytes are wanted beyond a disk of {}", self.len));
        let (mut offset, mut buf) = (offset, buf);
        while !buf.is_empty() {
            let (within, source) = self.part(offset).ok_or_else(beyond)?;
            let room = source.len().saturating_sub(within);
            if room == 0 {
                return Err(beyond().at_offset(offset));
            }
            let len = usize::try_from(room).unwrap_or(usize::MAX).min(buf.len());
            let (part, rest) = std::mem::take(&mut buf).split_at_mut(len);
            source.read_exact_at(within, part)?;
            offset = offset.saturating_add(u64::try_from(len).unwrap_or(u64::MAX));
            buf = rest;
        }
        Ok(())
    }

    fn next_data(&self, offset: u64) -> Result<Option<Range<u64>>> {
        let mut at = offset;
        while at < self.len {
            let Some((within, source)) = self.part(at) else {
                break;
            };
            let start = at.saturating_sub(within);
            if let Some(found) = source.next_data(within)? {
                return Ok(Some(
                    start.saturating_add(found.start)..start.saturating_add(found.end),
                ));
            }
            at = start.saturating_add(source.len());
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dormouse_block::Bytes;

    fn mapped(len: u64, locate: Locate) -> Mapped {
        let file = Arc::new(Bytes::new((0..64).collect::<Vec<u8>>()));
        let below = Below::from(Arc::new(Bytes::new(vec![9; 6])), 2);
        let name = "test".to_owned();
        Mapped::new(name, file, len, locate, Some(below))
    }

    #[test]
    fn stretches_are_joined_and_the_shorter_layer_below_ends_in_zeroes() {
        // Two bytes of data, four of the layer below, in turns.
        let disk = mapped(
            12,
            Box::new(|offset, _| {
                Ok(match offset % 6 {
                    n @ 0..2 => Stretch {
                        mapping: Mapping::Data(HostOffset(10 + n)),
                        len: 1,
                    },
                    n => Stretch {
                        mapping: Mapping::Below,
                        len: 6 - n,
                    },
                })
            }),
        );
        let mut all = [1; 12];
        disk.read_exact_at(0, &mut all).unwrap();
        assert_eq!(all, [10, 11, 9, 9, 0, 0, 10, 11, 0, 0, 0, 0]);
        assert_eq!(disk.stretch(0, 12, &mut 0).unwrap().len, 2);
        assert_eq!(disk.own().unwrap().unwrap(), [0..2, 6..8]);
        assert!(disk.read_exact_at(11, &mut [0; 2]).is_err());
        assert_eq!(disk.next_data(2).unwrap(), Some(2..4));
        assert_eq!(disk.next_data(8).unwrap(), None);
    }

    #[test]
    fn extents_read_as_one_disk() {
        let part = |bytes: &[u8]| Arc::new(Bytes::new(bytes.to_vec())) as Arc<dyn Source>;
        let disk = Concatenated::new(vec![part(&[1, 2]), part(&[]), part(&[3, 4, 5])]).unwrap();
        let mut all = [0; 5];
        disk.read_exact_at(0, &mut all).unwrap();
        assert_eq!(all, [1, 2, 3, 4, 5]);
        assert!(disk.read_exact_at(4, &mut [0; 2]).is_err());
        assert_eq!(disk.next_data(1).unwrap(), Some(1..2));
        assert_eq!(disk.next_data(2).unwrap(), Some(2..5));
        assert_eq!(disk.next_data(5).unwrap(), None);
    }
}
