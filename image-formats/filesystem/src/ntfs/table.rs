//! The file table (`$MFT`), read through its own runs.

use std::sync::Arc;

use dormouse_block::{Error, Result, Source, read_vec_at};

use super::attribute::{self, Body};
use super::boot::Boot;
use super::extents::Extents;
use super::lists::{self, MAX_LIST};
use super::record::{Record, Reference};
use crate::fat::{index, wide};
use crate::pieces::Pieces;

/// Bytes of the table that are read at once, and the most that is kept of it.
const STEP: u64 = 32 << 10;
const MAX_PIECES: usize = 128;

/// The file table.
pub(super) struct Table {
    source: Arc<dyn Source>,
    boot: Boot,
    extents: Extents,
    size: u64,
    pieces: Pieces,
}

impl Table {
    /// Finds the table by its first record, or by the copy of it when that is broken.
    ///
    /// # Errors
    /// `Corrupt` when both are broken, or what they say.
    pub(super) fn open(source: Arc<dyn Source>, boot: &Boot) -> Result<Self> {
        let mut record = Err(Error::corrupt("there is no file table"));
        for at in boot.tables.iter().filter(|at| **at < boot.clusters) {
            let at = at.saturating_mul(boot.cluster);
            record = read_vec_at(source.as_ref(), at, boot.record)
                .and_then(|bytes| Record::parse(bytes, 0))
                .map_err(|error| error.at_offset(at));
            if record.is_ok() {
                break;
            }
        }
        let record = record?;
        let mut this = Self {
            source,
            boot: boot.clone(),
            extents: Extents::default(),
            size: 0,
            pieces: Pieces::new(MAX_PIECES),
        };
        let mut list = None;
        for attribute in record.attributes()? {
            match attribute.body {
                Body::Clusters(part) if attribute.is(attribute::DATA, b"") => {
                    this.extents.add(&part, boot.clusters)?;
                    this.size = part.size;
                }
                Body::Resident(bytes) if attribute.kind == attribute::LIST => {
                    list = Some(lists::parse(bytes)?);
                }
                Body::Clusters(part) if attribute.kind == attribute::LIST => {
                    let mut extents = Extents::default();
                    extents.add(&part, boot.clusters)?;
                    if part.size > MAX_LIST {
                        return Err(Error::limit("an attribute list of more than 256 KiB"));
                    }
                    let mut bytes = vec![0; index(part.size)];
                    this.read(&extents, 0, &mut bytes)?;
                    list = Some(lists::parse(&bytes)?);
                }
                _ => {}
            }
        }
        // The rest of the runs lies in records that the runs so far lead to.
        for listed in list.unwrap_or_default() {
            if listed.kind != attribute::DATA || !listed.name.is_empty() || listed.first == 0 {
                continue;
            }
            let record = this.record(listed.record)?;
            let attributes = record.attributes()?;
            let found = attributes
                .iter()
                .find(|attribute| attribute.is(attribute::DATA, b"") && attribute.id == listed.id);
            let Some(Body::Clusters(part)) = found.map(|attribute| attribute.body) else {
                return Err(Error::corrupt(
                    "a part of the file table is not where it should be",
                ));
            };
            this.extents.add(&part, boot.clusters)?;
        }
        // The last piece so far may have ended with the runs so far.
        this.pieces = Pieces::new(MAX_PIECES);
        if this.extents.end().saturating_mul(boot.cluster) < this.size {
            return Err(Error::corrupt("the file table's runs end before its size"));
        }
        Ok(this)
    }

    /// Reads from `offset` on what `extents` map; holes are zeroes.
    ///
    /// # Errors
    /// `Corrupt` when the runs end before.
    pub(super) fn read(&self, extents: &Extents, offset: u64, buf: &mut [u8]) -> Result<()> {
        let cluster = self.boot.cluster;
        let mut at = offset;
        let mut rest = buf;
        while !rest.is_empty() {
            let first = at.checked_div(cluster).unwrap_or(0);
            let within = at.checked_rem(cluster).unwrap_or(0);
            let run = extents
                .from(first)
                .ok_or_else(|| Error::corrupt("an attribute's runs end before its size"))?;
            let room = run.len.saturating_mul(cluster).saturating_sub(within);
            let step = index(room).min(rest.len());
            let (part, after) = rest
                .split_at_mut_checked(step)
                .ok_or_else(super::overflow)?;
            match run.place {
                Some(place) => {
                    let from = place.saturating_mul(cluster).saturating_add(within);
                    self.source.read_exact_at(from, part)?;
                }
                None => part.fill(0),
            }
            at = at.saturating_add(wide(step));
            rest = after;
        }
        Ok(())
    }

    fn piece(&self, nth: u64) -> Result<Arc<[u8]>> {
        self.pieces.get(nth, || {
            let start = nth.saturating_mul(STEP);
            let end = self.extents.end().saturating_mul(self.boot.cluster);
            let mut bytes = vec![0; index(end.saturating_sub(start).min(STEP))];
            self.read(&self.extents, start, &mut bytes)?;
            Ok(bytes)
        })
    }

    /// The record that `reference` names.
    ///
    /// # Errors
    /// `Corrupt` for one that is broken, not in use, or another one by now.
    pub(super) fn record(&self, reference: Reference) -> Result<Record> {
        let number = reference.number();
        let at = number.saturating_mul(self.boot.record_bytes());
        let end = at.saturating_add(self.boot.record_bytes());
        let read = || -> Result<Record> {
            if self.size != 0 && end > self.size {
                return Err(Error::corrupt("there is no such file record"));
            }
            let mut bytes = Vec::with_capacity(self.boot.record);
            while bytes.len() < self.boot.record {
                let at = at.saturating_add(wide(bytes.len()));
                let piece = self.piece(at / STEP)?;
                let within = index(at % STEP);
                let until = within
                    .saturating_add(self.boot.record.saturating_sub(bytes.len()))
                    .min(piece.len());
                let part = piece
                    .get(within..until)
                    .filter(|part| !part.is_empty())
                    .ok_or_else(|| Error::corrupt("there is no such file record"))?;
                bytes.extend_from_slice(part);
            }
            let record = Record::parse(bytes, number)?;
            let wanted = reference.sequence();
            if wanted != 0 && wanted != record.reference.sequence() {
                return Err(Error::corrupt("a name leads to a file that is gone"));
            }
            Ok(record)
        };
        read().map_err(|error| Error::new(error.kind(), format!("file record {number}: {error}")))
    }
}
