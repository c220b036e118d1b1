//! Feature bits of the superblock, by name.

use dormouse_block::{Error, Result};

/// Incompatible features: bit, name as `btrfs inspect-internal dump-super` spells it, whether it is read.
const INCOMPAT: &[(u64, &str, bool)] = &[
    (1, "mixed_backref", true),
    (1 << 1, "default_subvol", true),
    (MIXED_GROUPS, "mixed_groups", true),
    (1 << 3, "compress_lzo", true),
    (1 << 4, "compress_zstd", true),
    (1 << 5, "big_metadata", true),
    (1 << 6, "extended_iref", true),
    (1 << 7, "raid56", true),
    (1 << 8, "skinny_metadata", true),
    (NO_HOLES, "no_holes", true),
    (METADATA_UUID, "metadata_uuid", true),
    (1 << 11, "raid1c34", true),
    // Its superblock lies in a log of two zones.
    (1 << 12, "zoned", false),
    (1 << 13, "extent_tree_v2", false),
    (1 << 14, "raid_stripe_tree", false),
    (1 << 16, "simple_quota", true),
    (1 << 17, "remap_tree", false),
];

/// Features that only writers must know.
const COMPAT_RO: &[(u64, &str)] = &[
    (1, "free_space_tree"),
    (1 << 1, "free_space_tree_valid"),
    (1 << 2, "verity"),
    (1 << 3, "block_group_tree"),
];

/// Data and metadata share block groups.
pub(super) const MIXED_GROUPS: u64 = 1 << 2;
/// Holes need no extent items.
pub(super) const NO_HOLES: u64 = 1 << 9;
/// Tree nodes carry another UUID than users see.
pub(super) const METADATA_UUID: u64 = 1 << 10;

/// Superblock flags of changes of the whole filesystem that were begun and not ended.
const CHANGING: &[(u64, &str)] = &[
    (1 << 35, "an unfinished change of its fsid"),
    (1 << 36, "an unfinished change of its fsid"),
    (
        1 << 38,
        "an unfinished move of its block groups to a tree of their own",
    ),
    (1 << 39, "an unfinished change of checksums"),
    (1 << 40, "an unfinished change of checksums"),
];
/// The filesystem is a seed: other filesystems stand on it.
pub(super) const SEEDING: u64 = 1 << 32;
/// Its data was left out by `btrfs-image`; its chunks may be those of other devices.
const METADUMP: u64 = 1 << 33;
const METADUMP_V2: u64 = 1 << 34;

/// Refuses incompatible features that are not read, by name.
pub(super) fn check_incompat(bits: u64) -> Result<()> {
    let known = INCOMPAT.iter().fold(0, |all, (bit, _, _)| all | bit);
    if bits & !known != 0 {
        return Err(Error::unsupported(format!(
            "unknown incompatible features of btrfs: {:#x}",
            bits & !known
        )));
    }
    let blocking: Vec<&str> = INCOMPAT
        .iter()
        .filter(|(bit, _, read)| bits & bit != 0 && !read)
        .map(|(_, name, _)| *name)
        .collect();
    if blocking.is_empty() {
        Ok(())
    } else {
        Err(Error::unsupported(format!(
            "btrfs with {}",
            blocking.join(", ")
        )))
    }
}

/// Refuses a filesystem in the middle of a change, by name.
pub(super) fn check_flags(flags: u64) -> Result<()> {
    match CHANGING.iter().find(|(bit, _)| flags & bit != 0) {
        Some((_, what)) => Err(Error::unsupported(format!("btrfs with {what}"))),
        None => Ok(()),
    }
}

/// Names of the features in use.
pub(super) fn names(incompat: u64, compat_ro: u64, flags: u64) -> Vec<String> {
    let incompat = INCOMPAT
        .iter()
        .filter(|(bit, _, _)| incompat & bit != 0)
        .map(|(_, name, _)| *name);
    let compat_ro = COMPAT_RO
        .iter()
        .filter(|(bit, _)| compat_ro & bit != 0)
        .map(|(_, name)| *name);
    let marks = [
        (SEEDING, "seeding"),
        (METADUMP, "metadump"),
        (METADUMP_V2, "metadump_v2"),
    ];
    let marks = marks
        .into_iter()
        .filter(|(bit, _)| flags & bit != 0)
        .map(|(_, name)| name);
    incompat
        .chain(compat_ro)
        .chain(marks)
        .map(str::to_owned)
        .collect()
}
