//! Inodes: eight kinds, each in a short and a long form.

use dormouse_block::{Error, Result, le_u16, le_u32, le_u64};

use crate::NodeKind;
use crate::fat::index;

/// No fragment, or no attributes.
pub(super) const NONE: u32 = u32::MAX;
/// Bytes of the longest link.
const MAX_LINK: u32 = 64 << 10;
/// Blocks of one file at most: 2^23 of 128 KiB are a terabyte.
const MAX_BLOCKS: u64 = 1 << 23;

/// An inode.
#[derive(Debug, Clone)]
pub(super) struct Inode {
    pub(super) kind: NodeKind,
    pub(super) mode: u16,
    /// Numbers in the table of owners.
    pub(super) owner: (u16, u16),
    pub(super) mtime: u32,
    pub(super) links: u32,
    pub(super) size: u64,
    /// Number in the table of attributes, or `NONE`.
    pub(super) xattr: u32,
    pub(super) body: Body,
}

/// What each kind has of its own.
#[derive(Debug, Clone)]
pub(super) enum Body {
    Directory {
        /// The block of its names, counted from the table's beginning, and the place in it.
        block: u32,
        offset: u16,
    },
    File {
        /// The byte at which its blocks begin.
        start: u64,
        /// The packed size of each.
        sizes: std::sync::Arc<[u32]>,
        /// The fragment with its tail and the place in it.
        fragment: Option<(u32, u32)>,
    },
    Link(Vec<u8>),
    Device(u32),
    Nothing,
}

/// Reads an inode; `take` gives the next bytes.
///
/// # Errors
/// `Corrupt` for a broken one, `Limit` for a file of too many blocks.
pub(super) fn read(take: &mut dyn FnMut(usize) -> Result<Vec<u8>>, block: u32) -> Result<Inode> {
    let head = take(16)?;
    let form = le_u16(&head, 0)?;
    let mut out = Inode {
        kind: NodeKind::File,
        mode: le_u16(&head, 2)? & 0o7777,
        owner: (le_u16(&head, 4)?, le_u16(&head, 6)?),
        mtime: le_u32(&head, 8)?,
        links: 1,
        size: 0,
        xattr: NONE,
        body: Body::Nothing,
    };
    let long = form > 7;
    match form {
        1 => {
            let rest = take(16)?;
            out.kind = NodeKind::Directory;
            out.links = le_u32(&rest, 4)?;
            out.size = u64::from(le_u16(&rest, 8)?);
            out.body = Body::Directory {
                block: le_u32(&rest, 0)?,
                offset: le_u16(&rest, 10)?,
            };
        }
        8 => {
            let rest = take(24)?;
            out.kind = NodeKind::Directory;
            out.links = le_u32(&rest, 0)?;
            out.size = u64::from(le_u32(&rest, 4)?);
            out.xattr = le_u32(&rest, 20)?;
            out.body = Body::Directory {
                block: le_u32(&rest, 8)?,
                offset: le_u16(&rest, 18)?,
            };
        }
        2 | 9 => {
            let (start, fragment, offset);
            if long {
                let rest = take(40)?;
                start = le_u64(&rest, 0)?;
                out.size = le_u64(&rest, 8)?;
                out.links = le_u32(&rest, 24)?;
                fragment = le_u32(&rest, 28)?;
                offset = le_u32(&rest, 32)?;
                out.xattr = le_u32(&rest, 36)?;
            } else {
                let rest = take(16)?;
                start = u64::from(le_u32(&rest, 0)?);
                fragment = le_u32(&rest, 4)?;
                offset = le_u32(&rest, 8)?;
                out.size = u64::from(le_u32(&rest, 12)?);
            }
            let block = u64::from(block);
            let whole = out.size.checked_div(block).unwrap_or(0);
            let tail = out.size.checked_rem(block).unwrap_or(0) > 0;
            let fragment = (fragment != NONE).then_some((fragment, offset));
            let count = if tail && fragment.is_none() {
                whole.saturating_add(1)
            } else {
                whole
            };
            if count > MAX_BLOCKS {
                return Err(Error::limit("a file of more than 2^23 blocks"));
            }
            let mut sizes = Vec::new();
            while sizes.len() < index(count) {
                // Piece by piece: what is not there is not made room for.
                let left = index(count).saturating_sub(sizes.len()).min(1024);
                for word in take(left.saturating_mul(4))?.chunks_exact(4) {
                    sizes.push(le_u32(word, 0)?);
                }
            }
            out.body = Body::File {
                start,
                sizes: sizes.into(),
                fragment,
            };
        }
        3 | 10 => {
            let rest = take(8)?;
            let len = le_u32(&rest, 4)?;
            if len == 0 || len > MAX_LINK {
                return Err(Error::corrupt("bad length of a symbolic link"));
            }
            out.kind = NodeKind::Symlink;
            out.links = le_u32(&rest, 0)?;
            out.size = u64::from(len);
            out.body = Body::Link(take(index(len))?);
        }
        4 | 5 | 11 | 12 => {
            let rest = take(8)?;
            out.kind = if matches!(form, 4 | 11) {
                NodeKind::BlockDevice
            } else {
                NodeKind::CharDevice
            };
            out.links = le_u32(&rest, 0)?;
            out.body = Body::Device(le_u32(&rest, 4)?);
        }
        6 | 7 | 13 | 14 => {
            out.kind = if matches!(form, 6 | 13) {
                NodeKind::Fifo
            } else {
                NodeKind::Socket
            };
            out.links = le_u32(&take(4)?, 0)?;
        }
        _ => {
            return Err(Error::corrupt(format!(
                "an inode of the unknown kind {form}"
            )));
        }
    }
    if matches!(form, 10..=14) {
        out.xattr = le_u32(&take(4)?, 0)?;
    }
    Ok(out)
}

/// What a directory says of the kind of a name.
pub(super) fn kind(form: u16) -> Result<NodeKind> {
    Ok(match form {
        1 => NodeKind::Directory,
        2 => NodeKind::File,
        3 => NodeKind::Symlink,
        4 => NodeKind::BlockDevice,
        5 => NodeKind::CharDevice,
        6 => NodeKind::Fifo,
        7 => NodeKind::Socket,
        _ => return Err(Error::corrupt("a name of an unknown kind")),
    })
}
