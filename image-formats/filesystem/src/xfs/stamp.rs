//! What metadata of version 5 says of itself: a checksum, where it lies, whose it is.

use dormouse_block::{Error, Result, array_at, be_u32, be_u64, le_u32};

use super::{XfsTree, checksum};

/// Whose a structure is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Owner {
    /// An allocation group, as 32 bits at this byte.
    Group(usize),
    /// An inode, as 64 bits at this byte.
    Inode(usize),
}

/// At which bytes of a structure these are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stamp {
    checksum: usize,
    uuid: usize,
    address: Option<usize>,
    owner: Option<Owner>,
}

/// The roots of an allocation group's inodes.
pub(super) const GROUP_INODES: Stamp = Stamp {
    checksum: 312,
    uuid: 296,
    address: None,
    owner: None,
};
/// A block of a btree that belongs to an allocation group.
pub(super) const SHORT_BTREE: Stamp = Stamp {
    checksum: 52,
    uuid: 32,
    address: Some(16),
    owner: Some(Owner::Group(48)),
};
/// A block of a btree that belongs to an inode.
pub(super) const LONG_BTREE: Stamp = Stamp {
    checksum: 64,
    uuid: 40,
    address: Some(24),
    owner: Some(Owner::Inode(56)),
};
/// A block of a directory's entries.
pub(super) const DIRECTORY_DATA: Stamp = Stamp {
    checksum: 4,
    uuid: 24,
    address: Some(8),
    owner: Some(Owner::Inode(40)),
};
/// A leaf or node of the index of a directory or of attributes.
pub(super) const INDEX: Stamp = Stamp {
    checksum: 12,
    uuid: 32,
    address: Some(16),
    owner: Some(Owner::Inode(48)),
};
/// A part of a symbolic link's target or of an attribute's value.
pub(super) const REMOTE: Stamp = Stamp {
    checksum: 12,
    uuid: 16,
    address: Some(40),
    owner: Some(Owner::Inode(32)),
};
/// An inode.
pub(super) const INODE: Stamp = Stamp {
    checksum: 100,
    uuid: 160,
    address: None,
    owner: Some(Owner::Inode(152)),
};

impl XfsTree {
    /// Holds what `bytes`, read at byte `offset`, say of themselves against where they were found. `changed` tells that
    /// the log changed some of them, whose checksum is then not made yet.
    ///
    /// # Errors
    /// `Corrupt` for a wrong checksum, UUID, place or owner of `what`.
    pub(super) fn check_stamp(
        &self,
        stamp: &Stamp,
        bytes: &[u8],
        offset: u64,
        owner: u64,
        changed: bool,
        what: &str,
    ) -> Result<()> {
        if !self.sb.features.v5() {
            return Ok(());
        }
        let bad = |which: &str| Err(Error::corrupt(format!("bad {which} of {what}")));
        if !changed && checksum(bytes, stamp.checksum)? != le_u32(bytes, stamp.checksum)? {
            return bad("checksum");
        }
        if array_at::<16>(bytes, stamp.uuid)? != self.sb.meta_uuid {
            return bad("UUID");
        }
        if let Some(at) = stamp.address
            && be_u64(bytes, at)? != offset >> 9
        {
            return bad("address");
        }
        let found = match stamp.owner {
            None => owner,
            Some(Owner::Group(at)) => u64::from(be_u32(bytes, at)?),
            Some(Owner::Inode(at)) => be_u64(bytes, at)?,
        };
        if found != owner {
            return bad("owner");
        }
        Ok(())
    }

    /// As [`XfsTree::check_stamp`] for bytes that lie together.
    pub(super) fn check_stamp_at(
        &self,
        stamp: &Stamp,
        bytes: &[u8],
        offset: u64,
        owner: u64,
        what: &str,
    ) -> Result<()> {
        let changed = self.volume.changed(offset, bytes.len());
        self.check_stamp(stamp, bytes, offset, owner, changed, what)
    }
}
