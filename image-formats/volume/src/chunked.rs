//! Data spread over members chunk by chunk: RAID 0, 4, 5, 6 and 10 as Linux lays them out (`drivers/md/raid0.c`,
//! `raid5.c`, `raid10.c`), which the device mapper's `striped` and `raid` targets share.

use std::sync::Arc;

use dormouse_block::{Error, Result, Source};

use crate::joined::{check_range, length, split_at};

/// Members of one array: Linux's own bound is 4096 roles of a superblock.
pub(crate) const MAX_MEMBERS: usize = 4096;

/// How chunks are spread over members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// One after another over all members.
    Striped,
    /// With one or two chunks of parity in each row.
    Parity(Parity),
    /// Each chunk in several copies.
    Copies(Copies),
}

/// Where parity stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Parity {
    /// Members of a row that hold parity: 1 or 2.
    pub(crate) redundancy: u64,
    /// The number that `raid5.h` gives the arrangement (`ALGORITHM_*`).
    pub(crate) algorithm: u32,
}

/// RAID 10's copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Copies {
    /// Copies in the same row.
    pub(crate) near: u64,
    /// Copies further on.
    pub(crate) far: u64,
    /// Far copies stand in the next row rather than in the next section.
    pub(crate) offset: bool,
    /// Members among which far copies rotate.
    pub(crate) set: u64,
    /// Chunks from one section to the next on each member.
    pub(crate) stride: u64,
}

impl Copies {
    /// From the layout word of a superblock, for `members` whose data takes `chunks` each.
    ///
    /// # Errors
    /// `Corrupt` for impossible numbers, `Unsupported` for arrangements that are not known.
    pub(crate) fn new(layout: u32, members: u64, chunks: u64) -> Result<Self> {
        let near = u64::from(layout & 0xff);
        let far = u64::from(layout >> 8 & 0xff);
        let offset = layout & 1 << 16 != 0;
        let copies = near.saturating_mul(far);
        if near == 0 || far == 0 || copies > members || members == 0 {
            return Err(Error::corrupt(format!(
                "{near} near and {far} far copies on {members} members are impossible"
            )));
        }
        let set = match layout >> 17 {
            0 => members,
            1 => members.checked_div(far).unwrap_or(members),
            2 => copies,
            other => {
                return Err(Error::unsupported(format!(
                    "RAID 10 with arrangement {other} of far copies"
                )));
            }
        };
        let stride = if offset {
            1
        } else {
            // "calculate 'used chunks per device'", rounded up, in far sections (raid10.c, calc_sectors).
            Self::data_chunks(near, far, members, chunks)
                .saturating_mul(copies)
                .div_ceil(members)
                .checked_div(far)
                .unwrap_or(0)
        };
        Ok(Self {
            near,
            far,
            offset,
            set: set.max(1),
            stride,
        })
    }

    fn data_chunks(near: u64, far: u64, members: u64, chunks: u64) -> u64 {
        chunks
            .checked_div(far)
            .and_then(|chunks| chunks.saturating_mul(members).checked_div(near))
            .unwrap_or(0)
    }

    /// Chunks of data on `members` of `chunks` each.
    fn capacity(self, members: u64, chunks: u64) -> u64 {
        Self::data_chunks(self.near, self.far, members, chunks)
    }

    /// Every place of a chunk of data: the member, and the chunk there.
    fn places(self, chunk: u64, members: u64) -> Vec<(u64, u64)> {
        let first = chunk.saturating_mul(self.near);
        let row = first.checked_div(members).unwrap_or(0);
        let mut member = first.checked_rem(members).unwrap_or(0);
        let mut at = if self.offset {
            row.saturating_mul(self.far)
        } else {
            row
        };
        // The last set takes what a division leaves over.
        let odd = members.checked_rem(self.set).is_some_and(|rest| rest != 0);
        let last_start = members
            .checked_div(self.set)
            .unwrap_or(0)
            .saturating_sub(1)
            .saturating_mul(self.set);
        let last_size = members.saturating_sub(last_start);
        let mut places = Vec::new();
        for _ in 0..self.near {
            places.push((member, at));
            let mut further = member;
            for copy in 1..self.far {
                let set = further.checked_div(self.set).unwrap_or(0);
                further = further.saturating_add(self.near);
                let (start, size) = if odd && further > last_start {
                    (last_start, last_size)
                } else {
                    (self.set.saturating_mul(set), self.set)
                };
                further = further
                    .saturating_sub(start)
                    .checked_rem(size)
                    .unwrap_or(0)
                    .saturating_add(start);
                places.push((further, at.saturating_add(copy.saturating_mul(self.stride))));
            }
            member = member.saturating_add(1);
            if member >= members {
                member = 0;
                at = at.saturating_add(1);
            }
        }
        places
    }
}

impl Parity {
    /// Where chunk `number` of row `row` stands, the member of P, and of Q (`raid5_compute_sector`).
    fn place(self, row: u64, number: u64, members: u64) -> Option<(u64, u64, Option<u64>)> {
        let data = members.checked_sub(self.redundancy)?;
        let turn = row.checked_rem(members)?;
        // Left: parity moves from the last member to the first; symmetric: data goes on after it.
        let after = |p: u64, skip: u64| {
            p.checked_add(skip)?
                .checked_add(number)?
                .checked_rem(members)
        };
        let around = |p: u64| {
            if number >= p {
                number.checked_add(1)
            } else {
                Some(number)
            }
        };
        if self.redundancy == 1 {
            let left = data.checked_sub(turn)?;
            return Some(match self.algorithm {
                0 => (around(left)?, left, None),
                1 => (around(turn)?, turn, None),
                2 => (after(left, 1)?, left, None),
                3 => (after(turn, 1)?, turn, None),
                4 => (number.checked_add(1)?, 0, None),
                5 => (number, data, None),
                _ => return None,
            });
        }
        let last = members.checked_sub(1)?;
        let two = |p: u64| -> Option<(u64, u64, Option<u64>)> {
            if p == last {
                return Some((number.checked_add(1)?, p, Some(0)));
            }
            let q = p.checked_add(1)?;
            let at = if number >= p {
                number.checked_add(2)?
            } else {
                number
            };
            Some((at, p, Some(q)))
        };
        // The "_6" kinds: RAID 5 on all members but the last, which has Q.
        let turn_6 = row.checked_rem(last)?;
        let after_6 = |p: u64| p.checked_add(1)?.checked_add(number)?.checked_rem(last);
        Some(match self.algorithm {
            0 => two(last.checked_sub(turn)?)?,
            1 | 8 => two(turn)?,
            2 => {
                let p = last.checked_sub(turn)?;
                (after(p, 2)?, p, p.checked_add(1)?.checked_rem(members))
            }
            3 => (
                after(turn, 2)?,
                turn,
                turn.checked_add(1)?.checked_rem(members),
            ),
            4 => (number.checked_add(2)?, 0, Some(1)),
            5 => (number, data, data.checked_add(1)),
            9 => {
                let turn = row.checked_add(1)?.checked_rem(members)?;
                two(last.checked_sub(turn)?)?
            }
            10 => {
                let p = last.checked_sub(turn)?;
                let q = p.checked_add(last)?.checked_rem(members);
                (after(p, 1)?, p, q)
            }
            16 => {
                let p = data.checked_sub(turn_6)?;
                (around(p)?, p, Some(last))
            }
            17 => (around(turn_6)?, turn_6, Some(last)),
            18 => {
                let p = data.checked_sub(turn_6)?;
                (after_6(p)?, p, Some(last))
            }
            19 => (after_6(turn_6)?, turn_6, Some(last)),
            20 => (number.checked_add(1)?, 0, Some(last)),
            _ => return None,
        })
    }
}

/// Data spread over members. A member that is not there is `None`.
pub(crate) struct Chunked {
    layout: Layout,
    chunk: u64,
    members: Vec<Option<Arc<dyn Source>>>,
    len: u64,
}

impl Chunked {
    /// `members` with chunks of `chunk` bytes, of each of which the first `size` bytes take part.
    ///
    /// # Errors
    /// `Corrupt` for impossible geometries; `Unsupported` for arrangements that are not known, and when members are
    /// missing whose data cannot be had from the others.
    pub(crate) fn new(
        layout: Layout,
        chunk: u64,
        size: u64,
        members: Vec<Option<Arc<dyn Source>>>,
    ) -> Result<Self> {
        let count = u64::try_from(members.len()).unwrap_or(u64::MAX);
        if members.is_empty() || members.len() > MAX_MEMBERS {
            return Err(Error::corrupt(format!("{count} members are impossible")));
        }
        if chunk == 0 || !chunk.is_multiple_of(512) {
            return Err(Error::corrupt(format!(
                "chunks of {chunk} bytes are impossible"
            )));
        }
        if members.iter().flatten().any(|member| member.len() < size) {
            return Err(Error::corrupt(format!(
                "a member is shorter than the {size} bytes that it should have"
            )));
        }
        let rows = size.checked_div(chunk).unwrap_or(0);
        let chunks = match layout {
            Layout::Striped => rows.checked_mul(count),
            Layout::Parity(parity) => {
                if parity.place(0, 0, count).is_none() || count <= parity.redundancy {
                    return Err(Error::unsupported(format!(
                        "parity arrangement {} on {count} members",
                        parity.algorithm
                    )));
                }
                rows.checked_mul(count.saturating_sub(parity.redundancy))
            }
            Layout::Copies(copies) => Some(copies.capacity(count, rows)),
        };
        let len = chunks
            .and_then(|chunks| chunks.checked_mul(chunk))
            .ok_or_else(|| Error::corrupt("the array is larger than any disk"))?;
        let chunked = Self {
            layout,
            chunk,
            members,
            len,
        };
        if !chunked.has_all_data() {
            return Err(Error::unsupported(
                "more members are missing than the others make up for",
            ));
        }
        Ok(chunked)
    }

    fn count(&self) -> u64 {
        u64::try_from(self.members.len()).unwrap_or(u64::MAX)
    }

    fn member(&self, number: u64) -> Option<&Arc<dyn Source>> {
        self.members.get(usize::try_from(number).ok()?)?.as_ref()
    }

    /// Whether every chunk can be read, or made up from parity.
    fn has_all_data(&self) -> bool {
        let missing = self
            .members
            .iter()
            .filter(|member| member.is_none())
            .count();
        match self.layout {
            _ if missing == 0 => true,
            Layout::Striped => false,
            // Q alone, which makes up for a second one, is not reckoned with.
            Layout::Parity(_) => missing == 1,
            // Arrangements repeat after as many chunks as there are members.
            Layout::Copies(copies) => (0..self.count()).all(|chunk| {
                let places = copies.places(chunk, self.count());
                places
                    .iter()
                    .any(|(member, _)| self.member(*member).is_some())
            }),
        }
    }

    /// Reads within one chunk of data.
    fn read_chunk(&self, chunk: u64, within: u64, buf: &mut [u8]) -> Result<()> {
        let at = |row: u64| row.saturating_mul(self.chunk).saturating_add(within);
        let lost = || Error::unsupported("a missing member has this");
        match self.layout {
            Layout::Striped => {
                let member = chunk.checked_rem(self.count()).unwrap_or(0);
                let row = chunk.checked_div(self.count()).unwrap_or(0);
                self.member(member)
                    .ok_or_else(lost)?
                    .read_exact_at(at(row), buf)
            }
            Layout::Copies(copies) => {
                let places = copies.places(chunk, self.count());
                let (member, row) = places
                    .iter()
                    .find_map(|(member, row)| Some((self.member(*member)?, *row)))
                    .ok_or_else(lost)?;
                member.read_exact_at(at(row), buf)
            }
            Layout::Parity(parity) => {
                let data = self.count().saturating_sub(parity.redundancy);
                let row = chunk.checked_div(data).unwrap_or(0);
                let number = chunk.checked_rem(data).unwrap_or(0);
                let (holder, p, q) = parity.place(row, number, self.count()).ok_or_else(lost)?;
                if let Some(member) = self.member(holder) {
                    return member.read_exact_at(at(row), buf);
                }
                // P is the exclusive or of a row's data, so the missing chunk is that of all others and P.
                buf.fill(0);
                let mut other = vec![0; buf.len()];
                for number in 0..self.count() {
                    if number == holder || Some(number) == q {
                        continue;
                    }
                    let member = self.member(number).ok_or_else(lost)?;
                    member.read_exact_at(at(row), &mut other)?;
                    for (sum, byte) in buf.iter_mut().zip(&other) {
                        *sum ^= byte;
                    }
                }
                debug_assert_ne!(holder, p);
                Ok(())
            }
        }
    }
}

impl Source for Chunked {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        check_range(offset, buf.len(), self.len)?;
        let mut at = offset;
        let mut rest = buf;
        while !rest.is_empty() {
            let chunk = at.checked_div(self.chunk).unwrap_or(0);
            let within = at.checked_rem(self.chunk).unwrap_or(0);
            let (now, later) = split_at(rest, self.chunk.saturating_sub(within));
            self.read_chunk(chunk, within, now)?;
            at = at.saturating_add(length(now));
            rest = later;
        }
        Ok(())
    }
}
