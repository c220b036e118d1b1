//! Chunks: which bytes of which devices a range of logical addresses stands for.

use std::collections::BTreeMap;

use dormouse_block::{Error, Result, array_at, le_u16, le_u64};

use super::overflow;

/// Bytes of one stripe; the kernel knows no other (`BTRFS_STRIPE_LEN`).
pub(super) const STRIPE: u64 = 64 << 10;
/// Chunks of one filesystem: more than a petabyte of the usual size.
const MAX_CHUNKS: usize = 1 << 20;
/// Bytes of a chunk item before its stripes, and of each of them.
pub(super) const HEAD: usize = 48;
pub(super) const STRIPE_ITEM: usize = 32;

/// How a chunk's bytes are spread (kernel: `btrfs_raid_array`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Profile {
    Single,
    /// Every stripe holds everything: dup, raid1, raid1c3, raid1c4.
    Mirrored,
    Raid0,
    Raid10,
    /// Raid 5 and 6, with the number of parity stripes.
    Parity(u64),
}

/// A stretch of one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stripe {
    pub(super) device: u64,
    pub(super) uuid: [u8; 16],
    /// Bytes from the device's start.
    pub(super) offset: u64,
}

/// Where one copy of some bytes lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// On a device, at this byte.
    At(Stripe),
    /// Nowhere itself: it is the exclusive or of these.
    Xor(Vec<Stripe>),
}

/// A chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chunk {
    pub(super) length: u64,
    profile: Profile,
    sub_stripes: u64,
    stripes: Vec<Stripe>,
}

impl Chunk {
    /// The chunk item in `bytes`, and how many of them it takes.
    pub(super) fn parse(bytes: &[u8]) -> Result<(Self, usize)> {
        let bad = |what: &str| Error::corrupt(format!("bad {what} of a chunk"));
        let length = le_u64(bytes, 0)?;
        let kind = le_u64(bytes, 24)?;
        let count = le_u16(bytes, 44)?;
        let sub_stripes = u64::from(le_u16(bytes, 46)?);
        if length == 0 {
            return Err(bad("length"));
        }
        if le_u64(bytes, 16)? != STRIPE {
            return Err(bad("stripe length"));
        }
        let (profile, fits) = match kind >> 3 {
            0 => (Profile::Single, count == 1),
            0x1 => (Profile::Raid0, count >= 1),
            0x2 | 0x4 => (Profile::Mirrored, count == 2),
            0x8 => (
                Profile::Raid10,
                sub_stripes == 2 && count >= 2 && count.is_multiple_of(2),
            ),
            0x10 => (Profile::Parity(1), count >= 2),
            0x20 => (Profile::Parity(2), count >= 3),
            0x40 => (Profile::Mirrored, count == 3),
            0x80 => (Profile::Mirrored, count == 4),
            other => {
                return Err(Error::unsupported(format!(
                    "block groups of profile {other:#x}"
                )));
            }
        };
        if !fits {
            return Err(bad("number of stripes"));
        }
        let mut stripes = Vec::with_capacity(usize::from(count));
        for nth in 0..usize::from(count) {
            let at = HEAD.saturating_add(nth.saturating_mul(STRIPE_ITEM));
            stripes.push(Stripe {
                device: le_u64(bytes, at)?,
                offset: le_u64(bytes, at.saturating_add(8))?,
                uuid: array_at(bytes, at.saturating_add(16))?,
            });
        }
        let taken = HEAD.saturating_add(usize::from(count).saturating_mul(STRIPE_ITEM));
        let chunk = Self {
            length,
            profile,
            sub_stripes,
            stripes,
        };
        Ok((chunk, taken))
    }

    /// Ways to read its bytes.
    pub(super) fn copies(&self) -> usize {
        match self.profile {
            Profile::Single | Profile::Raid0 => 1,
            Profile::Mirrored => self.stripes.len(),
            Profile::Raid10 | Profile::Parity(_) => 2,
        }
    }

    fn stripe(&self, nth: u64, offset: u64) -> Result<Stripe> {
        let stripe = usize::try_from(nth)
            .ok()
            .and_then(|nth| self.stripes.get(nth))
            .ok_or_else(overflow)?;
        Ok(Stripe {
            offset: stripe.offset.checked_add(offset).ok_or_else(overflow)?,
            ..*stripe
        })
    }

    /// Where copy `copy` of the byte at `within` lies, and how many bytes follow it there.
    pub(super) fn place(&self, within: u64, copy: usize) -> Result<(Place, u64)> {
        let copy = u64::try_from(copy).unwrap_or(u64::MAX);
        let rest = self.length.checked_sub(within).ok_or_else(overflow)?;
        let count = u64::try_from(self.stripes.len()).unwrap_or(u64::MAX);
        let nth = within / STRIPE;
        let inner = within % STRIPE;
        let run = STRIPE.saturating_sub(inner).min(rest);
        // The byte at `inner` of row `row` of every stripe.
        let at = |row: u64| {
            row.checked_mul(STRIPE)
                .and_then(|at| at.checked_add(inner))
                .ok_or_else(overflow)
        };
        match self.profile {
            Profile::Single => Ok((Place::At(self.stripe(0, within)?), rest)),
            Profile::Mirrored => Ok((Place::At(self.stripe(copy, within)?), rest)),
            Profile::Raid0 => {
                let row = nth.checked_div(count).ok_or_else(overflow)?;
                let column = nth.checked_rem(count).ok_or_else(overflow)?;
                Ok((Place::At(self.stripe(column, at(row)?)?), run))
            }
            Profile::Raid10 => {
                let columns = count.checked_div(self.sub_stripes).ok_or_else(overflow)?;
                let row = nth.checked_div(columns).ok_or_else(overflow)?;
                let column = nth.checked_rem(columns).ok_or_else(overflow)?;
                let stripe = column.saturating_mul(self.sub_stripes).saturating_add(copy);
                Ok((Place::At(self.stripe(stripe, at(row)?)?), run))
            }
            Profile::Parity(parity) => {
                let data = count.checked_sub(parity).ok_or_else(overflow)?;
                let row = nth.checked_div(data).ok_or_else(overflow)?;
                let column = nth.checked_rem(data).ok_or_else(overflow)?;
                // Columns turn by one with every row; the parity columns follow the data.
                let turned = |column: u64| {
                    let turned = row.saturating_add(column).checked_rem(count);
                    self.stripe(turned.ok_or_else(overflow)?, at(row)?)
                };
                if copy == 0 {
                    return Ok((Place::At(turned(column)?), run));
                }
                let others = (0..=data)
                    .filter(|other| *other != column)
                    .map(turned)
                    .collect::<Result<Vec<_>>>()?;
                Ok((Place::Xor(others), run))
            }
        }
    }
}

/// All chunks, by their first logical address.
#[derive(Debug, Default)]
pub(super) struct ChunkMap(BTreeMap<u64, Chunk>);

impl ChunkMap {
    /// Adds a chunk; one that is known already must be the same.
    pub(super) fn insert(&mut self, start: u64, chunk: Chunk) -> Result<()> {
        let end = start.checked_add(chunk.length).ok_or_else(overflow)?;
        if let Some((at, known)) = self.0.range(..end).next_back() {
            if *at == start && known.length == chunk.length {
                self.0.insert(start, chunk);
                return Ok(());
            }
            if at.saturating_add(known.length) > start {
                return Err(Error::corrupt(format!(
                    "the chunks at {at} and {start} overlap"
                )));
            }
        }
        if self.0.len() >= MAX_CHUNKS {
            return Err(Error::limit("a filesystem of more than 1048576 chunks"));
        }
        self.0.insert(start, chunk);
        Ok(())
    }

    /// The chunk that holds `logical`, and where in it.
    pub(super) fn find(&self, logical: u64) -> Result<(&Chunk, u64)> {
        self.0
            .range(..=logical)
            .next_back()
            .map(|(start, chunk)| (chunk, logical.saturating_sub(*start)))
            .filter(|(chunk, within)| *within < chunk.length)
            .ok_or_else(|| Error::corrupt(format!("no chunk holds the logical address {logical}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(kind: u64, count: u16) -> Chunk {
        let mut bytes = vec![0; HEAD];
        bytes[..8].copy_from_slice(&(1_u64 << 20).to_le_bytes());
        bytes[16..24].copy_from_slice(&STRIPE.to_le_bytes());
        bytes[24..32].copy_from_slice(&kind.to_le_bytes());
        bytes[44..46].copy_from_slice(&count.to_le_bytes());
        bytes[46] = 2;
        for n in 1..=u64::from(count) {
            bytes.extend_from_slice(&n.to_le_bytes());
            bytes.extend_from_slice(&[0; 24]);
        }
        Chunk::parse(&bytes).unwrap().0
    }

    fn device(chunk: &Chunk, within: u64, copy: usize) -> (u64, u64) {
        match chunk.place(within, copy).unwrap().0 {
            Place::At(stripe) => (stripe.device, stripe.offset),
            Place::Xor(_) => panic!("a copy of its own"),
        }
    }

    #[test]
    fn stripes_go_round_the_devices() {
        let raid0 = chunk(1 | 8, 3);
        assert_eq!(device(&raid0, 4 * STRIPE + 5, 0), (2, STRIPE + 5));
        let raid10 = chunk(1 | 64, 4);
        assert_eq!(device(&raid10, 3 * STRIPE, 0), (3, STRIPE));
        assert_eq!(device(&raid10, 3 * STRIPE, 1), (4, STRIPE));
        let raid5 = chunk(1 | 128, 3);
        assert_eq!(device(&raid5, 2 * STRIPE, 0), (2, STRIPE));
        assert_eq!(device(&raid5, 3 * STRIPE, 0), (3, STRIPE));
        let (Place::Xor(others), STRIPE) = raid5.place(3 * STRIPE, 1).unwrap() else {
            panic!("parity is an exclusive or");
        };
        assert_eq!(
            others.iter().map(|one| one.device).collect::<Vec<_>>(),
            [2, 1]
        );
    }

    #[test]
    fn overlapping_chunks_are_refused() {
        let mut map = ChunkMap::default();
        map.insert(1 << 20, chunk(1, 1)).unwrap();
        map.insert(1 << 20, chunk(1, 1)).unwrap();
        assert!(map.insert((1 << 20) + 4096, chunk(1, 1)).is_err());
        assert!(map.insert(4096, chunk(1, 1)).is_err());
        map.insert(0, chunk(1, 1)).unwrap();
        assert!(map.find((2 << 20) - 1).is_ok());
        assert!(map.find(2 << 20).is_err());
        assert!(map.insert(u64::MAX - 5, chunk(1, 1)).is_err());
    }
}
