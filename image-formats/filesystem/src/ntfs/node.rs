//! A file: its record, the records it goes on in, and the streams of bytes they describe.

use std::sync::Arc;

use dormouse_block::{Error, Result};

use super::attribute::{self, Attribute, Body};
use super::boot::Boot;
use super::extents::Extents;
use super::lists::{self, Listed, MAX_LIST};
use super::lznt1;
use super::record::{Record, Reference};
use super::table::Table;
use crate::fat::{index, wide};

/// Bytes that are compressed together at most.
const MAX_UNIT: u64 = 1 << 20;
/// Records of one file at most: as many as a list can name.
const MAX_RECORDS: usize = 10_000;

/// A file's base record, and its list of attributes if they take more than one.
pub(super) struct Node {
    pub(super) record: Record,
    list: Option<Vec<Listed>>,
}

/// The bytes of an attribute.
#[derive(Debug, Clone)]
pub(super) enum Stream {
    /// They stood in the record.
    Resident(Arc<[u8]>),
    /// They are in clusters.
    Clusters(Arc<InClusters>),
}

/// An attribute in clusters, all of its parts together.
#[derive(Debug)]
pub(super) struct InClusters {
    extents: Extents,
    size: u64,
    valid: u64,
    flags: u16,
    /// Bytes that are compressed together; 0 when they are not.
    unit: u64,
}

impl Node {
    /// Reads the file that `reference` names.
    ///
    /// # Errors
    /// `Corrupt` for a broken one, or one that is a part of another.
    pub(super) fn read(table: &Table, boot: &Boot, reference: Reference) -> Result<Self> {
        let record = table.record(reference)?;
        if record.base.number() != 0 {
            return Err(Error::corrupt(
                "no such node: a record that is a part of another",
            ));
        }
        let mut list = None;
        for attribute in record.attributes()? {
            if attribute.kind == attribute::LIST {
                let mut stream = Builder::default();
                stream.add(&attribute, boot)?;
                let stream = stream.done()?;
                if stream.size() > MAX_LIST {
                    return Err(Error::limit("an attribute list of more than 256 KiB"));
                }
                let listed = lists::parse(&stream.whole(table, boot, MAX_LIST)?)?;
                if listed.len() > MAX_RECORDS {
                    return Err(Error::limit("a file of more than 10,000 parts"));
                }
                list = Some(listed);
            }
        }
        Ok(Self { record, list })
    }

    /// Calls `each` with every attribute for which `wanted` says so of its kind and name, parts in their order.
    ///
    /// # Errors
    /// `Corrupt` for broken records or lists.
    fn each(
        &self,
        table: &Table,
        wanted: &dyn Fn(u32, &[u8]) -> bool,
        each: &mut dyn FnMut(&Attribute<'_>) -> Result<()>,
    ) -> Result<()> {
        let Some(list) = &self.list else {
            for attribute in self.record.attributes()? {
                if wanted(attribute.kind, attribute.name) {
                    each(&attribute)?;
                }
            }
            return Ok(());
        };
        let mut last: Option<Record> = None;
        for listed in list
            .iter()
            .filter(|listed| wanted(listed.kind, &listed.name))
        {
            let number = listed.record.number();
            let known = if number == self.record.reference.number() {
                &self.record
            } else {
                let held = last
                    .take()
                    .filter(|record| record.reference.number() == number);
                let record = match held {
                    Some(record) => record,
                    None => table.record(listed.record)?,
                };
                if record.base.number() != self.record.reference.number() {
                    return Err(Error::corrupt("an attribute list leads to another file"));
                }
                &*last.insert(record)
            };
            let attributes = known.attributes()?;
            let found = attributes
                .iter()
                .find(|attribute| {
                    attribute.id == listed.id && attribute.is(listed.kind, &listed.name)
                })
                .ok_or_else(|| Error::corrupt("an attribute list names what is not there"))?;
            each(found)?;
        }
        Ok(())
    }

    /// The stream of this kind and name.
    ///
    /// # Errors
    /// `Corrupt` for a broken one.
    pub(super) fn stream(
        &self,
        table: &Table,
        boot: &Boot,
        kind: u32,
        name: &[u8],
    ) -> Result<Option<Stream>> {
        let mut builder = Builder::default();
        self.each(
            table,
            &|of, called| of == kind && called == name,
            &mut |attribute| builder.add(attribute, boot),
        )?;
        if builder.parts == 0 {
            return Ok(None);
        }
        builder.done().map(Some)
    }

    /// The bytes of a small attribute without a name; `Limit` when there are more than `most`.
    ///
    /// # Errors
    /// As [`Node::stream`].
    pub(super) fn small(
        &self,
        table: &Table,
        boot: &Boot,
        kind: u32,
        most: u64,
    ) -> Result<Option<Vec<u8>>> {
        self.stream(table, boot, kind, b"")?
            .map(|stream| stream.whole(table, boot, most))
            .transpose()
    }

    /// All attributes in the records of this kind, such as names, that stand in a record whole.
    ///
    /// # Errors
    /// `Corrupt` for broken ones.
    pub(super) fn resident(&self, table: &Table, kind: u32) -> Result<Vec<Vec<u8>>> {
        let mut out = Vec::new();
        self.each(table, &|of, _| of == kind, &mut |attribute| {
            let Body::Resident(bytes) = attribute.body else {
                return Err(Error::corrupt(
                    "an attribute that must stand in its record does not",
                ));
            };
            out.push(bytes.to_vec());
            Ok(())
        })?;
        Ok(out)
    }

    /// The names of its alternate streams, UTF-16 bytes.
    ///
    /// # Errors
    /// `Corrupt` for broken records or lists.
    pub(super) fn streams(&self, table: &Table) -> Result<Vec<Vec<u8>>> {
        let mut out: Vec<Vec<u8>> = Vec::new();
        let named = |kind: u32, name: &[u8]| kind == attribute::DATA && !name.is_empty();
        self.each(table, &named, &mut |attribute| {
            if out.last().is_none_or(|last| last != attribute.name) {
                out.push(attribute.name.to_vec());
            }
            Ok(())
        })?;
        Ok(out)
    }
}

/// Puts the parts of an attribute together.
#[derive(Default)]
struct Builder {
    parts: usize,
    resident: Option<Arc<[u8]>>,
    extents: Extents,
    size: u64,
    valid: u64,
    flags: u16,
    unit: u8,
    cluster: u64,
}

impl Builder {
    fn add(&mut self, attribute: &Attribute<'_>, boot: &Boot) -> Result<()> {
        let first = self.parts == 0;
        self.parts = self.parts.saturating_add(1);
        match attribute.body {
            Body::Resident(bytes) if first => {
                self.resident = Some(bytes.into());
                self.flags = attribute.flags;
            }
            Body::Clusters(part) if self.resident.is_none() => {
                if first {
                    self.size = part.size;
                    self.valid = part.valid;
                    self.flags = attribute.flags;
                    self.unit = part.unit;
                    self.cluster = boot.cluster;
                }
                self.extents.add(&part, boot.clusters)?;
            }
            _ => return Err(Error::corrupt("two attributes of one kind and name")),
        }
        Ok(())
    }

    fn done(self) -> Result<Stream> {
        if let Some(bytes) = self.resident {
            return Ok(Stream::Resident(bytes));
        }
        let mut unit = 0;
        if self.flags & attribute::COMPRESSION != 0 {
            if self.flags & attribute::COMPRESSION != 1 {
                return Err(Error::unsupported("a compression of NTFS other than LZNT1"));
            }
            unit = self
                .cluster
                .checked_shl(u32::from(self.unit))
                .filter(|unit| *unit <= MAX_UNIT && self.unit > 0 && self.unit < 32)
                .ok_or_else(|| Error::corrupt("bad size of compressed units"))?;
        }
        let room = self.extents.end().saturating_mul(self.cluster);
        if self.size > room || self.valid > self.size {
            return Err(Error::corrupt("an attribute is larger than its clusters"));
        }
        Ok(Stream::Clusters(Arc::new(InClusters {
            extents: self.extents,
            size: self.size,
            valid: self.valid,
            flags: self.flags,
            unit,
        })))
    }
}

impl Stream {
    /// Bytes.
    pub(super) fn size(&self) -> u64 {
        match self {
            Self::Resident(bytes) => wide(bytes.len()),
            Self::Clusters(stream) => stream.size,
        }
    }

    /// Bytes of a unit that is compressed; 0 when none is.
    pub(super) fn unit(&self) -> u64 {
        match self {
            Self::Resident(_) => 0,
            Self::Clusters(stream) => stream.unit,
        }
    }

    /// Refuses what EFS encrypted.
    ///
    /// # Errors
    /// `Unsupported` when it is.
    pub(super) fn check_plain(&self) -> Result<()> {
        match self {
            Self::Clusters(stream) if stream.flags & attribute::ENCRYPTED != 0 => {
                Err(Error::unsupported("the file is encrypted by EFS"))
            }
            _ => Ok(()),
        }
    }

    /// All bytes, when there are at most `most`.
    ///
    /// # Errors
    /// `Limit` for more, and as [`Stream::read`].
    pub(super) fn whole(&self, table: &Table, boot: &Boot, most: u64) -> Result<Vec<u8>> {
        if self.size() > most {
            return Err(Error::limit(format!(
                "an attribute of {} bytes where {most} are the most",
                self.size()
            )));
        }
        let mut out = vec![0; index(self.size())];
        self.read(table, boot, 0, &mut out, &mut None)?;
        Ok(out)
    }

    /// Fills `buf` from `offset` on, which must lie within the size. `held` is the unit unpacked last, with its number.
    ///
    /// # Errors
    /// `Corrupt` for broken runs or compressed data, `Unsupported` for encrypted data.
    pub(super) fn read(
        &self,
        table: &Table,
        boot: &Boot,
        offset: u64,
        buf: &mut [u8],
        held: &mut Option<(u64, Arc<[u8]>)>,
    ) -> Result<()> {
        let outside = || Error::corrupt("reading beyond an attribute");
        let end = offset.checked_add(wide(buf.len())).ok_or_else(outside)?;
        if end > self.size() {
            return Err(outside());
        }
        self.check_plain()?;
        let stream = match self {
            Self::Resident(bytes) => {
                let from = bytes.get(index(offset)..index(end)).ok_or_else(outside)?;
                buf.copy_from_slice(from);
                return Ok(());
            }
            Self::Clusters(stream) => stream,
        };
        // What was never written is zeroes, whatever the clusters hold.
        let written = stream.valid.saturating_sub(offset).min(wide(buf.len()));
        let (buf, never) = buf
            .split_at_mut_checked(index(written))
            .ok_or_else(outside)?;
        never.fill(0);
        if stream.unit == 0 {
            return table.read(&stream.extents, offset, buf);
        }
        let mut at = offset;
        let mut rest = buf;
        while !rest.is_empty() {
            let nth = at.checked_div(stream.unit).unwrap_or(0);
            let within = index(at.checked_rem(stream.unit).unwrap_or(0));
            let unit = match held {
                Some((number, unit)) if *number == nth => unit.clone(),
                _ => {
                    let unit = stream.unpack(table, boot, nth)?;
                    *held = Some((nth, unit.clone()));
                    unit
                }
            };
            let from = unit.get(within..).ok_or_else(outside)?;
            let step = from.len().min(rest.len());
            let (to, after) = rest.split_at_mut_checked(step).ok_or_else(outside)?;
            to.copy_from_slice(from.get(..step).ok_or_else(outside)?);
            at = at.saturating_add(wide(step));
            rest = after;
        }
        Ok(())
    }
}

impl InClusters {
    /// The bytes of compressed unit `nth`: stored as they are when all its clusters are there, zeroes when none is, else
    /// packed into its first clusters.
    fn unpack(&self, table: &Table, boot: &Boot, nth: u64) -> Result<Arc<[u8]>> {
        let per = self.unit.checked_div(boot.cluster).unwrap_or(0);
        let first = nth.saturating_mul(per);
        let mut stored = 0_u64;
        let mut at = first;
        let end = first.saturating_add(per);
        while at < end {
            // The last unit may have fewer clusters; what is missing is a hole.
            let Some(run) = self.extents.from(at) else {
                break;
            };
            let len = run.len.min(end.saturating_sub(at));
            if run.place.is_some() {
                if stored != at.saturating_sub(first) {
                    return Err(Error::corrupt("a hole within a compressed unit"));
                }
                stored = stored.saturating_add(len);
            }
            at = at.saturating_add(len);
        }
        let mut packed = vec![0; index(stored.saturating_mul(boot.cluster))];
        table.read(
            &self.extents,
            first.saturating_mul(boot.cluster),
            &mut packed,
        )?;
        if stored == per {
            return Ok(packed.into());
        }
        let mut out = vec![0; index(self.unit)];
        lznt1::unpack(&packed, &mut out)?;
        Ok(out.into())
    }
}
