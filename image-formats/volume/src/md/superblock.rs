//! Superblocks of version 1 (`struct mdp_superblock_1` in `include/uapi/linux/raid/md_p.h`), little-endian wherever they
//! stand: 8 KiB before the end (1.0), at the beginning (1.1), or 4 KiB after it (1.2).

use dormouse_block::{
    Error, Result, Source, array_at, escape_terminal, le_u16, le_u32, le_u64, read_vec_at, slice_at,
};

use super::legacy;

/// `MD_SB_MAGIC`.
pub(super) const MAGIC: u32 = 0xa92b_4efc;
/// Bytes before the roles.
const FIXED: usize = 256;
/// Roles that fit into the 4 KiB of a superblock.
const MAX_ROLES: u32 = 1920;
/// Roles that are none: spare, faulty, journal.
const SPARE: u16 = 0xffff;
const FAULTY: u16 = 0xfffe;
const JOURNAL: u16 = 0xfffd;

/// Features (`MD_FEATURE_*`).
const RECOVERY_OFFSET: u32 = 2;
const RESHAPE_ACTIVE: u32 = 4;
const BAD_BLOCKS: u32 = 8;
const REPLACEMENT: u32 = 16;
const NEW_OFFSET: u32 = 64;
const HAS_JOURNAL: u32 = 512;
const PPL: u32 = 1024;
const MULTIPLE_PPLS: u32 = 2048;
const RAID0_LAYOUT: u32 = 4096;
/// All that are known, bitmaps and their kinds among them, which change nothing for a reader.
const KNOWN: u32 = 0x1fff;

/// A place among the members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The member of this number.
    Active(u64),
    Spare,
    Faulty,
    Journal,
}

/// What a superblock of any version says.
#[derive(Debug, Clone)]
pub(super) struct Superblock {
    /// `1.2`, ...
    pub(super) version: &'static str,
    /// The array's UUID, as mdadm writes it.
    pub(super) set: String,
    /// The array's name without its host's, or its number.
    pub(super) name: String,
    pub(super) level: i32,
    pub(super) layout: u32,
    /// Whether `layout` says how RAID 0 goes on where smaller members end.
    pub(super) raid0_layout: bool,
    /// Bytes.
    pub(super) chunk: u64,
    /// Bytes of each member that take part, for levels with redundancy.
    pub(super) size: u64,
    pub(super) members: u64,
    /// Bytes.
    pub(super) data_offset: u64,
    /// Bytes from there on.
    pub(super) data_size: u64,
    pub(super) events: u64,
    /// This member's own number, an index of `roles`.
    pub(super) number: u32,
    /// What each number is.
    pub(super) roles: Vec<Role>,
    /// All of it is in step, or was never meant to be.
    pub(super) in_sync: bool,
    /// It is being made equal to the others, or will take another's place.
    pub(super) recovering: bool,
    /// It has a list of bad blocks.
    pub(super) bad_blocks: bool,
    /// Why it cannot be read.
    pub(super) refused: Option<&'static str>,
    /// It logs partial parity.
    pub(super) partial_parity_log: bool,
}

impl Superblock {
    /// What this member is by its own account.
    pub(super) fn role_of(&self, number: u32) -> Role {
        usize::try_from(number)
            .ok()
            .and_then(|number| self.roles.get(number).copied())
            .unwrap_or(Role::Spare)
    }
}

/// The superblock of `source`, if it has one.
///
/// # Errors
/// `Corrupt` for a superblock whose checksum or numbers are wrong, `Unsupported` for features that are not known.
pub(super) fn find(source: &dyn Source, whole_disk: bool) -> Result<Option<Superblock>> {
    let last = (source.len() / 512)
        .checked_sub(16)
        .map(|sector| (sector & !7).saturating_mul(512));
    let places = [("1.1", Some(0)), ("1.2", Some(4096)), ("1.0", last)];
    for (version, place) in places {
        let Some(at) = place else { continue };
        let Ok(head) = read_vec_at(source, at, FIXED) else {
            continue;
        };
        let claims_this_place =
            le_u64(&head, 144)?.checked_mul(512) == Some(at) && le_u32(&head, 4)? == 1;
        if le_u32(&head, 0)? == MAGIC && claims_this_place {
            return parse(source, at, version, &head)
                .map(Some)
                .map_err(|error| error.at_offset(at));
        }
    }
    legacy::find(source, whole_disk)
}

fn parse(source: &dyn Source, at: u64, version: &'static str, head: &[u8]) -> Result<Superblock> {
    let count = le_u32(head, 220)?;
    if count > MAX_ROLES {
        return Err(Error::corrupt(format!("{count} roles are impossible")));
    }
    let roles_len = usize::try_from(count).unwrap_or(0).saturating_mul(2);
    let bytes = read_vec_at(source, at, FIXED.saturating_add(roles_len))?;
    if checksum(&bytes)? != le_u32(&bytes, 216)? {
        return Err(Error::corrupt(
            "the checksum of the RAID superblock is wrong",
        ));
    }
    let features = le_u32(head, 8)?;
    let level = i32::from_le_bytes(array_at(head, 72)?);
    let sectors = |at: usize| -> Result<u64> {
        le_u64(head, at)?
            .checked_mul(512)
            .ok_or_else(|| Error::corrupt("sectors beyond every disk"))
    };
    let roles = (0..roles_len)
        .step_by(2)
        .map(|role| {
            Ok(match le_u16(&bytes, FIXED.saturating_add(role))? {
                SPARE => Role::Spare,
                FAULTY => Role::Faulty,
                JOURNAL => Role::Journal,
                number => Role::Active(u64::from(number)),
            })
        })
        .collect::<Result<Vec<_>>>()?;
    let refused = if features & !KNOWN != 0 {
        Some("its RAID superblock has features that are not known")
    } else if features & (RESHAPE_ACTIVE | NEW_OFFSET) != 0 {
        Some("the array is being reshaped")
    } else if features & HAS_JOURNAL != 0 {
        Some("the array writes through a journal device, in which its newest data may be")
    } else {
        None
    };
    let name = slice_at(head, 32, 32)?;
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    let name = String::from_utf8_lossy(name);
    let name = name.split_once(':').map_or(&*name, |(_, name)| name);
    Ok(Superblock {
        version,
        set: uuid(&array_at(head, 16)?),
        name: escape_terminal(name).replace('/', "_"),
        level,
        layout: le_u32(head, 76)?,
        raid0_layout: features & RAID0_LAYOUT != 0,
        chunk: u64::from(le_u32(head, 88)?).saturating_mul(512),
        size: sectors(80)?,
        members: u64::from(le_u32(head, 92)?),
        data_offset: sectors(128)?,
        data_size: sectors(136)?,
        events: le_u64(head, 200)?,
        number: le_u32(head, 160)?,
        roles,
        in_sync: le_u64(head, 208)? == u64::MAX,
        recovering: features & (RECOVERY_OFFSET | REPLACEMENT) != 0,
        bad_blocks: features & BAD_BLOCKS != 0,
        refused,
        partial_parity_log: features & (PPL | MULTIPLE_PPLS) != 0,
    })
}

/// The sum of all words but its own, folded once (`calc_sb_1_csum`).
fn checksum(bytes: &[u8]) -> Result<u32> {
    let (words, rest) = bytes.as_chunks::<4>();
    let mut sum = words
        .iter()
        .map(|word| u64::from(u32::from_le_bytes(*word)))
        .fold(0, u64::wrapping_add)
        .wrapping_sub(u64::from(le_u32(bytes, 216)?));
    if let [low, high] = rest {
        sum = sum.wrapping_add(u64::from(u16::from_le_bytes([*low, *high])));
    }
    Ok(fold(sum))
}

/// The low and the high half of `sum`, added.
pub(super) fn fold(sum: u64) -> u32 {
    let folded = (sum & 0xffff_ffff).wrapping_add(sum >> 32) & 0xffff_ffff;
    u32::try_from(folded).unwrap_or(0)
}

/// Four words of eight digits, between colons.
pub(super) fn uuid(bytes: &[u8; 16]) -> String {
    let words: Vec<String> = bytes
        .as_chunks::<4>()
        .0
        .iter()
        .map(|word| format!("{:08x}", u32::from_be_bytes(*word)))
        .collect();
    words.join(":")
}
