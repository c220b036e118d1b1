//! Keys: what every item of every tree is found by (kernel: `include/uapi/linux/btrfs_tree.h`).

use dormouse_block::{Result, array_at, le_u64};

/// Bytes of a key on disk.
pub(super) const SIZE: usize = 17;

/// The tree of all trees.
pub(super) const ROOT_TREE: u64 = 1;
/// The tree that maps logical addresses to devices.
pub(super) const CHUNK_TREE: u64 = 3;
/// The top-level subvolume.
pub(super) const FS_TREE: u64 = 5;
/// The tree of checksums of data.
pub(super) const CSUM_TREE: u64 = 7;
/// First number of a subvolume, and of an inode: the root directory of each subvolume.
pub(super) const FIRST_FREE: u64 = 256;
/// Last number of a subvolume or inode (kernel: `BTRFS_LAST_FREE_OBJECTID`).
pub(super) const LAST_FREE: u64 = 0_u64.wrapping_sub(256);
/// Log trees, and the tree of them.
pub(super) const TREE_LOG: u64 = 0_u64.wrapping_sub(6);
/// Checksums of data.
pub(super) const EXTENT_CSUM: u64 = 0_u64.wrapping_sub(10);
/// Chunks within the chunk tree.
pub(super) const FIRST_CHUNK_TREE: u64 = 256;

pub(super) const INODE_ITEM: u8 = 1;
pub(super) const INODE_REF: u8 = 12;
pub(super) const INODE_EXTREF: u8 = 13;
pub(super) const XATTR_ITEM: u8 = 24;
pub(super) const DIR_LOG_INDEX: u8 = 72;
pub(super) const DIR_ITEM: u8 = 84;
pub(super) const DIR_INDEX: u8 = 96;
pub(super) const EXTENT_DATA: u8 = 108;
pub(super) const EXTENT_CSUM_ITEM: u8 = 128;
pub(super) const ROOT_ITEM: u8 = 132;
pub(super) const ROOT_BACKREF: u8 = 144;
pub(super) const ROOT_REF: u8 = 156;
pub(super) const CHUNK_ITEM: u8 = 228;

/// A key; trees are sorted by its fields in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    /// Whose item it is: an inode, a subvolume, ...
    pub(super) objectid: u64,
    /// What the item is.
    pub(super) kind: u8,
    /// A third part, whose meaning depends on the kind.
    pub(super) offset: u64,
}

impl Key {
    pub(super) const MIN: Self = Self::new(0, 0, 0);

    pub(super) const fn new(objectid: u64, kind: u8, offset: u64) -> Self {
        Self {
            objectid,
            kind,
            offset,
        }
    }

    /// The key stored at `at`.
    pub(super) fn parse(bytes: &[u8], at: usize) -> Result<Self> {
        let [kind] = array_at(bytes, at.saturating_add(8))?;
        Ok(Self {
            objectid: le_u64(bytes, at)?,
            kind,
            offset: le_u64(bytes, at.saturating_add(9))?,
        })
    }

    /// As it is stored.
    pub(super) fn to_bytes(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(SIZE);
        out.extend_from_slice(&self.objectid.to_le_bytes());
        out.push(self.kind);
        out.extend_from_slice(&self.offset.to_le_bytes());
        out
    }

    /// The smallest key above this one; `None` after the last.
    pub(super) fn successor(self) -> Option<Self> {
        if let Some(offset) = self.offset.checked_add(1) {
            return Some(Self { offset, ..self });
        }
        if let Some(kind) = self.kind.checked_add(1) {
            return Some(Self::new(self.objectid, kind, 0));
        }
        Some(Self::new(self.objectid.checked_add(1)?, 0, 0))
    }

    /// The largest key below this one; `None` before the first.
    pub(super) fn predecessor(self) -> Option<Self> {
        if let Some(offset) = self.offset.checked_sub(1) {
            return Some(Self { offset, ..self });
        }
        if let Some(kind) = self.kind.checked_sub(1) {
            return Some(Self::new(self.objectid, kind, u64::MAX));
        }
        Some(Self::new(self.objectid.checked_sub(1)?, 255, u64::MAX))
    }

    /// Whether it belongs to the same object and kind as `other`.
    pub(super) fn alike(self, other: Self) -> bool {
        self.objectid == other.objectid && self.kind == other.kind
    }
}

/// Whether tree `id` is a subvolume (kernel: `is_fstree`).
pub(super) fn is_subvolume(id: u64) -> bool {
    // Ids with a level in their upper 16 bits are quota groups; the negative ones belong to the filesystem.
    id == FS_TREE || (FIRST_FREE..1 << 48).contains(&id)
}

/// The hash that a name's directory item or attribute is found by.
pub(super) fn name_hash(name: &[u8]) -> u64 {
    u64::from(!crc32c::crc32c_append(1, name))
}

/// The hash that a name's extended reference is found by.
pub(super) fn extref_hash(parent: u64, name: &[u8]) -> u64 {
    // The kernel's seed is the parent's number cut to 32 bits.
    let [a, b, c, d, ..] = parent.to_le_bytes();
    let seed = u32::from_le_bytes([a, b, c, d]);
    u64::from(!crc32c::crc32c_append(!seed, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn successors_carry_over_and_end() {
        let key = Key::new(7, 3, u64::MAX);
        assert_eq!(key.successor(), Some(Key::new(7, 4, 0)));
        assert_eq!(
            Key::new(7, 255, u64::MAX).successor(),
            Some(Key::new(8, 0, 0))
        );
        assert_eq!(Key::new(u64::MAX, 255, u64::MAX).successor(), None);
        assert_eq!(Key::new(7, 4, 0).predecessor(), Some(key));
        assert_eq!(Key::MIN.predecessor(), None);
        assert_eq!(Key::parse(&key.to_bytes(), 0).unwrap(), key);
    }

    /// `btrfs inspect-internal dump-tree` shows the default subvolume's item at this hash in every filesystem.
    #[test]
    fn the_hash_of_default_is_the_one_in_every_root_tree() {
        assert_eq!(name_hash(b"default"), 2_378_154_706);
    }
}
