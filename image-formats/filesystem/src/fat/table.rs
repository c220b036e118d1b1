//! Entries of the table: for each cluster the next one of its file.

use dormouse_block::{Error, Result, le_u16, le_u32, slice_at};

use super::boot::Kind;
use super::index;

/// What an entry says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The cluster is free.
    Free,
    /// The file goes on in this cluster, which may not exist.
    Cluster(u32),
    /// The cluster is the file's last.
    End,
    /// The cluster cannot be used.
    Bad,
}

/// Where the bytes of the entry of `cluster` begin, and how many they are.
#[must_use]
pub fn place(kind: Kind, cluster: u32) -> (u64, usize) {
    let cluster = u64::from(cluster);
    match kind {
        Kind::Fat12 => (cluster.saturating_add(cluster / 2), 2),
        Kind::Fat16 => (cluster.saturating_mul(2), 2),
        Kind::Fat32 => (cluster.saturating_mul(4), 4),
    }
}

/// Reads the entry of `cluster` from its bytes.
///
/// # Errors
/// `Corrupt` for too few bytes.
pub fn parse(kind: Kind, cluster: u32, bytes: &[u8]) -> Result<Next> {
    let (value, special) = match kind {
        Kind::Fat12 => {
            let pair = u32::from(le_u16(bytes, 0)?);
            let odd = cluster & 1 == 1;
            (if odd { pair >> 4 } else { pair & 0xFFF }, 0xFF7)
        }
        Kind::Fat16 => (u32::from(le_u16(bytes, 0)?), 0xFFF7),
        Kind::Fat32 => (le_u32(bytes, 0)? & 0x0FFF_FFFF, 0x0FFF_FFF7),
    };
    Ok(match value {
        0 => Next::Free,
        value if value == special => Next::Bad,
        value if value > special => Next::End,
        value => Next::Cluster(value),
    })
}

/// Changes the bytes of the entry of `cluster`; the bits of others are kept.
///
/// # Errors
/// `Corrupt` for too few bytes.
pub fn store(kind: Kind, cluster: u32, next: Next, bytes: &mut [u8]) -> Result<()> {
    let value = match (next, kind) {
        (Next::Free, _) => 0,
        (Next::Cluster(next), _) => next,
        (Next::End, Kind::Fat12) => 0xFFF,
        (Next::End, Kind::Fat16) => 0xFFFF,
        (Next::End, Kind::Fat32) => 0x0FFF_FFFF,
        (Next::Bad, _) => return Err(Error::corrupt("clusters are not marked as bad here")),
    };
    let fresh = match kind {
        Kind::Fat12 => {
            let pair = u32::from(le_u16(bytes, 0)?);
            if cluster & 1 == 1 {
                pair & 0xF | value << 4
            } else {
                pair & 0xF000 | value & 0xFFF
            }
        }
        Kind::Fat16 => value,
        Kind::Fat32 => le_u32(bytes, 0)? & 0xF000_0000 | value & 0x0FFF_FFFF,
    };
    let (_, len) = place(kind, cluster);
    let raw = fresh.to_le_bytes();
    let from = slice_at(&raw, 0, len)?;
    bytes
        .get_mut(..len)
        .ok_or_else(|| Error::corrupt("an entry lies outside the table"))?
        .copy_from_slice(from);
    Ok(())
}

/// An entry in a table that is in memory.
///
/// # Errors
/// `Corrupt` for a cluster beyond it.
pub fn get(kind: Kind, cluster: u32, table: &[u8]) -> Result<Next> {
    let (at, len) = place(kind, cluster);
    parse(kind, cluster, slice_at(table, index(at), len)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_stored_beside_each_other() {
        for kind in [Kind::Fat12, Kind::Fat16, Kind::Fat32] {
            let mut table = vec![0; 400];
            for cluster in 2..60 {
                let (at, _) = place(kind, cluster);
                let next = if cluster % 7 == 0 {
                    Next::End
                } else {
                    Next::Cluster(cluster + 900)
                };
                store(kind, cluster, next, &mut table[index(at)..]).unwrap();
            }
            let (at, _) = place(kind, 30);
            store(kind, 30, Next::Free, &mut table[index(at)..]).unwrap();
            for cluster in 2..60 {
                let wanted = match cluster {
                    30 => Next::Free,
                    n if n % 7 == 0 => Next::End,
                    n => Next::Cluster(n + 900),
                };
                assert_eq!(get(kind, cluster, &table).unwrap(), wanted);
            }
            assert!(get(kind, 900_000, &table).is_err());
        }
    }
}
