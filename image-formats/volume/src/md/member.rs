//! A volume that is a member of an array.

use dormouse_block::Result;

use super::superblock::{self, Superblock};
use crate::Volume;

/// A member, with its superblock.
pub(super) struct Member<'a> {
    /// Its position among the candidates.
    pub(super) position: usize,
    pub(super) volume: &'a Volume,
    pub(super) superblock: Superblock,
}

/// `volume` as a member, if it is one.
///
/// # Errors
/// As [`superblock::find`].
pub(super) fn look(position: usize, volume: &Volume) -> Result<Option<Member<'_>>> {
    let found = superblock::find(&*volume.source, volume.info.system == "disk")?;
    Ok(found.map(|superblock| Member {
        position,
        volume,
        superblock,
    }))
}
