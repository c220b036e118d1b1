//! SQLite databases that nobody trusts, read page by page: the rows of a table, without an engine.
//!
//! What it reads: table B-trees with overflow chains, and the write-ahead log beside the file, replayed in memory. It
//! needs neither indices nor the freelist. Each page is visited once at most, so work is bounded by the file's length.
//!
//! Source: sqlite.org/fileformat2.html, whose sections the comments name.

mod pager;
mod table;
mod wal;

pub(crate) use table::Database;

/// Pages of one database. At the usual 4096 bytes this is 16 GiB; what remembers them takes 512 KiB.
const MAX_PAGES: u32 = 1 << 22;
/// Largest row read, in bytes. The largest header of an rpm known has 8 MiB.
const MAX_ROW: u64 = 64 << 20;

/// A variable-length integer and how many bytes it took (section 1.6, "varint").
fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0_u64;
    for (at, &byte) in bytes.iter().take(9).enumerate() {
        if at == 8 {
            return Some((value << 8 | u64::from(byte), 9));
        }
        value = value << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some((value, at.saturating_add(1)));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::varint;

    #[test]
    fn integers_of_every_length_read() {
        assert_eq!(varint(&[0x7f]), Some((127, 1)));
        assert_eq!(varint(&[0x81, 0x00]), Some((128, 2)));
        assert_eq!(varint(&[0xff; 9]), Some((u64::MAX, 9)));
        assert_eq!(varint(&[0xff; 8]), None);
        assert_eq!(varint(&[]), None);
    }
}
