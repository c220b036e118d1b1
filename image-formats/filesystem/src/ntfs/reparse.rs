//! Reparse points: what a file is when it is not just a file.

use dormouse_block::{Error, ErrorKind, Result, le_u16, le_u32, slice_at};

use super::name::units;
use super::wof::Packing;
use crate::NodeKind;
use crate::wtf8::shown;

/// Bytes of a reparse point at most (`MAXIMUM_REPARSE_DATA_BUFFER_SIZE`).
pub(super) const MAX: u64 = 16 << 10;

const MOUNT_POINT: u32 = 0xA000_0003;
const SYMLINK: u32 = 0xA000_000C;
const LX_SYMLINK: u32 = 0xA000_001D;
const AF_UNIX: u32 = 0x8000_0023;
const LX_FIFO: u32 = 0x8000_0024;
const LX_CHR: u32 = 0x8000_0025;
const LX_BLK: u32 = 0x8000_0026;
const WOF: u32 = 0x8000_0017;
const DEDUP: u32 = 0x8000_0013;
/// An alias of a store application: no bytes of its own.
const APP_EXEC_LINK: u32 = 0x8000_001B;

/// What a reparse point makes of its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reparse {
    /// A symbolic link with its target.
    Link(Vec<u8>),
    /// A device, pipe or socket of WSL; a device's numbers are an extended attribute.
    Special(NodeKind),
    /// A file whose bytes are packed.
    Packed(Packing),
    /// What it was, as far as its bytes are concerned.
    Nothing,
    /// Its bytes are elsewhere (by deduplication, in the cloud, on tape), and why they are not read.
    Unread(String),
}

impl Reparse {
    /// Reads a reparse point.
    ///
    /// # Errors
    /// `Corrupt` for a broken one.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        let tag = le_u32(bytes, 0)?;
        let len = usize::from(le_u16(bytes, 4)?);
        let body = slice_at(bytes, 8, len)?;
        Ok(match tag {
            MOUNT_POINT => Self::Link(target(&path(body, 8)?, false)),
            SYMLINK => Self::Link(target(&path(body, 12)?, le_u32(body, 8)? & 1 != 0)),
            LX_SYMLINK => Self::Link(body.get(4..).unwrap_or_default().to_vec()),
            AF_UNIX => Self::Special(NodeKind::Socket),
            LX_FIFO => Self::Special(NodeKind::Fifo),
            LX_CHR => Self::Special(NodeKind::CharDevice),
            LX_BLK => Self::Special(NodeKind::BlockDevice),
            WOF => match Packing::parse(body) {
                Ok(packing) => Self::Packed(packing),
                Err(error) if error.kind() == ErrorKind::Unsupported => {
                    Self::Unread(error.to_string())
                }
                Err(error) => return Err(error),
            },
            APP_EXEC_LINK => Self::Nothing,
            DEDUP => Self::Unread(
                "the file's bytes were deduplicated by Windows Server, which is not read"
                    .to_owned(),
            ),
            _ => Self::Unread(format!(
                "the file has a reparse point of the unknown kind {tag:#010x}"
            )),
        })
    }
}

/// The name that Windows follows; the one it shows may be anything.
fn path(body: &[u8], buffer: usize) -> Result<Vec<u16>> {
    let at = buffer.saturating_add(usize::from(le_u16(body, 0)?));
    let path = units(slice_at(body, at, usize::from(le_u16(body, 2)?))?);
    if path.is_empty() || path.contains(&0) {
        return Err(Error::corrupt("a symbolic link without a target"));
    }
    Ok(path)
}

/// A target of Windows as a path of this tree: drive C is the root, other drives are folders that are hardly there.
fn target(path: &[u16], relative: bool) -> Vec<u8> {
    let mut path: Vec<u8> = shown(path);
    for byte in &mut path {
        if *byte == b'\\' {
            *byte = b'/';
        }
    }
    if relative {
        return path;
    }
    let rest = [&b"/??/"[..], b"//?/", b"//./"]
        .iter()
        .find_map(|prefix| path.strip_prefix(*prefix))
        .unwrap_or(&path);
    let rest = match rest {
        [b'C' | b'c', b':', rest @ ..] => rest,
        rest => rest,
    };
    let mut out = Vec::with_capacity(rest.len().saturating_add(1));
    if !rest.starts_with(b"/") {
        out.push(b'/');
    }
    out.extend_from_slice(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_of_windows_become_paths_of_the_tree() {
        for (from, relative, wanted) in [
            (r"..\a\b", true, "../a/b"),
            (r"\??\C:\Users", false, "/Users"),
            (r"c:\", false, "/"),
            (r"\??\C:", false, "/"),
            (r"D:\data", false, "/D:/data"),
            (r"\??\Volume{1}\x", false, "/Volume{1}/x"),
            (r"\Windows", true, "/Windows"),
        ] {
            let units: Vec<u16> = from.encode_utf16().collect();
            let found = String::from_utf8(target(&units, relative)).unwrap();
            assert_eq!(found, wanted, "{from}");
        }
    }
}
