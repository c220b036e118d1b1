//! Superblocks of version 0.90 (`mdp_super_t` in `include/uapi/linux/raid/md_p.h`): 1024 words in the byte order of the
//! machine that wrote them, in the last 64 KiB that begin at a multiple of that.

use dormouse_block::{Error, Result, Source, array_at, read_vec_at};

use super::superblock::{MAGIC, Role, Superblock, fold, uuid};
use crate::mbr::{Entry, boot_record};

/// `MD_RESERVED_BYTES`.
const RESERVED: u64 = 64 * 1024;
/// `MD_SB_BYTES`.
const SIZE: usize = 4096;
/// Descriptors of members.
const DISKS: usize = 27;
/// Word at which they begin, and words of each.
const FIRST_DISK: usize = 128;
const DISK_WORDS: usize = 32;
/// The member's own descriptor.
const THIS_DISK: usize = 992;
/// States of a member (`MD_DISK_*`).
const FAULTY: u32 = 1;
const ACTIVE: u32 = 1 << 1;
const SYNC: u32 = 1 << 2;
const JOURNAL: u32 = 1 << 18;
/// "MD_SB_CLEAN".
const CLEAN: u32 = 1;

/// Words in one byte order.
struct Words {
    bytes: Vec<u8>,
    big_endian: bool,
}

impl Words {
    fn at(&self, word: usize) -> Result<u32> {
        let bytes = array_at(&self.bytes, word.saturating_mul(4))?;
        Ok(if self.big_endian {
            u32::from_be_bytes(bytes)
        } else {
            u32::from_le_bytes(bytes)
        })
    }

    /// Two words, the lower of which comes first in little-endian order alone.
    fn pair(&self, word: usize) -> Result<u64> {
        let first = u64::from(self.at(word)?);
        let second = u64::from(self.at(word.saturating_add(1))?);
        Ok(if self.big_endian {
            first << 32 | second
        } else {
            second << 32 | first
        })
    }
}

/// The superblock at the end of `source`, if it has one.
///
/// # Errors
/// `Corrupt` for a superblock whose checksum or numbers are wrong.
pub(super) fn find(source: &dyn Source, whole_disk: bool) -> Result<Option<Superblock>> {
    let Some(at) = (source.len() & !(RESERVED.saturating_sub(1))).checked_sub(RESERVED) else {
        return Ok(None);
    };
    let Ok(bytes) = read_vec_at(source, at, SIZE) else {
        return Ok(None);
    };
    let magic: [u8; 4] = array_at(&bytes, 0)?;
    let big_endian = magic == MAGIC.to_be_bytes();
    let words = Words { bytes, big_endian };
    if words.at(0)? != MAGIC || words.at(1)? != 0 {
        return Ok(None);
    }
    // At the end of a disk whose last partition ends there too, it may be that partition's. Only one that speaks of as
    // many bytes as the whole disk has is the disk's.
    let size = u64::from(words.at(8)?).saturating_mul(1024);
    if whole_disk
        && size != at
        && boot_record(source)?.is_some_and(|entries| entries.iter().any(Entry::is_used))
    {
        return Ok(None);
    }
    parse(&words, at, size)
        .map(Some)
        .map_err(|error| error.at_offset(at))
}

fn parse(words: &Words, at: u64, size: u64) -> Result<Superblock> {
    // "sb->sb_csum = 0", then the sum of all words (`calc_sb_csum`).
    let mut sum = 0_u64;
    for word in 0..SIZE / 4 {
        if word != 38 {
            sum = sum.wrapping_add(u64::from(words.at(word)?));
        }
    }
    if fold(sum) != words.at(38)? {
        return Err(Error::corrupt(
            "the checksum of the RAID superblock is wrong",
        ));
    }
    let minor = words.at(2)?;
    let level = i32::from_ne_bytes(words.at(7)?.to_ne_bytes());
    let mut roles = Vec::with_capacity(DISKS);
    for disk in 0..DISKS {
        let start = FIRST_DISK.saturating_add(disk.saturating_mul(DISK_WORDS));
        let state = words.at(start.saturating_add(4))?;
        let number = words.at(start.saturating_add(3))?;
        roles.push(role(state, number, level));
    }
    let state = words.at(THIS_DISK.saturating_add(4))?;
    let mut set = [0; 16];
    for (word, field) in [5, 13, 14, 15].into_iter().zip(set.as_chunks_mut::<4>().0) {
        *field = words.at(word)?.to_be_bytes();
    }
    let reshaped = minor >= 91;
    Ok(Superblock {
        version: "0.90",
        set: uuid(&set),
        name: words.at(11)?.to_string(),
        level,
        layout: words.at(64)?,
        raid0_layout: false,
        chunk: u64::from(words.at(65)?),
        size,
        members: u64::from(words.at(10)?),
        data_offset: 0,
        data_size: at,
        events: words.pair(39)?,
        number: words.at(THIS_DISK)?,
        roles,
        in_sync: words.at(33)? & CLEAN != 0,
        recovering: state & (ACTIVE | SYNC) == ACTIVE,
        bad_blocks: false,
        refused: reshaped.then_some("the array is being reshaped"),
        partial_parity_log: false,
    })
}

fn role(state: u32, number: u32, level: i32) -> Role {
    // Linear and RAID 0 arrays do not keep members in step, and mark them so all the same.
    let in_step = state & SYNC != 0 || (level <= 0 && state & ACTIVE != 0);
    if state & JOURNAL != 0 {
        Role::Journal
    } else if state & FAULTY != 0 {
        Role::Faulty
    } else if in_step {
        Role::Active(u64::from(number))
    } else {
        Role::Spare
    }
}
