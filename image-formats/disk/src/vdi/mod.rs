//! VDI, VirtualBox's own format, after its `VDICore.h` and QEMU's `block/vdi.c`.
//!
//! Read: dynamic, fixed and differencing disks. A differencing disk knows its parent by UUIDs alone, for the machine's
//! description names the files: the parent is looked for beside it and in the folder above, where VirtualBox keeps them.

use std::sync::Arc;

use dormouse_block::{Error, Result, Source, array_at, le_u32, le_u64, read_vec_at};

use crate::mapped::{Below, HostOffset, Mapped, Mapping, Stretch};
use crate::pages::Pages;
use crate::plain::Plain;
use crate::{ACTIVE, Format, FormatName, Image, OpenFile, Opener, Probe, Role};

/// At byte 64, behind a line of text.
const MAGIC: u32 = 0xbeda_107f;
/// Bytes of the header that are read.
const HEADER: usize = 512;
/// The version that VirtualBox has written since 2007.
const VERSION: u32 = 0x0001_0001;
/// Bytes of a block: VirtualBox writes 1 MiB.
const MAX_BLOCK: u32 = 256 << 20;
/// Entry of a block that was never written.
const FREE: u32 = u32::MAX;
/// Entry of a block of zeroes, whatever the parent has.
const ZERO: u32 = u32::MAX - 1;

/// The format.
pub(crate) struct Vdi;

impl Format for Vdi {
    fn name(&self) -> FormatName {
        FormatName::VDI
    }

    fn probe(&self, probe: &Probe<'_>) -> bool {
        probe.starts_with_at(64, &MAGIC.to_le_bytes())
    }

    fn open(&self, file: OpenFile, opener: &mut Opener<'_>) -> Result<Box<dyn Image>> {
        let header = Header::read(&*file.source)?;
        let mut chain = file.chain(FormatName::VDI);
        let below = match &header.parent {
            Some(wanted) => {
                let parent = parent(&file, wanted, opener)?;
                chain.extend(parent.chain());
                Some(Below::whole(parent.open_point(ACTIVE)?))
            }
            None => None,
        };
        let identifier = header.own.to_string();
        let len = header.size;
        let blocks = Blocks {
            pages: Pages::new(file.source.clone()),
            header,
        };
        let disk = Mapped::new(
            file.path().display().to_string(),
            file.source.clone(),
            len,
            Box::new(move |offset, limit| blocks.locate(offset, limit)),
            below,
        );
        let image = Plain::new(FormatName::VDI, chain, Arc::new(disk));
        Ok(Box::new(image.identifier(identifier)))
    }
}

/// The UUIDs of an image and of its last change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ids {
    image: [u8; 16],
    change: [u8; 16],
}

impl Ids {
    fn at(head: &[u8], image: usize, change: usize) -> Result<Self> {
        Ok(Self {
            image: array_at(head, image)?,
            change: array_at(head, change)?,
        })
    }
}

impl std::fmt::Display for Ids {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for byte in self.image {
            write!(f, "{byte:02x}")?;
        }
        f.write_str("/")?;
        for byte in self.change {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// A validated header.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Header {
    /// Where the block map lies, and the first block.
    map: u64,
    data: u64,
    /// Bytes of the disk.
    size: u64,
    /// Bytes of a block, a power of two.
    block: u64,
    own: Ids,
    parent: Option<Ids>,
}

impl Header {
    fn read(file: &dyn Source) -> Result<Self> {
        let head = read_vec_at(file, 0, HEADER)
            .map_err(|_| Error::corrupt("the file ends within the VDI header"))?;
        if le_u32(&head, 0x40)? != MAGIC {
            return Err(Error::corrupt("not a VDI header"));
        }
        let version = le_u32(&head, 0x44)?;
        if version != VERSION {
            return Err(Error::unsupported(format!(
                "a VDI of version {}.{}",
                version >> 16,
                version & 0xffff
            )));
        }
        let differencing = match le_u32(&head, 0x4c)? {
            1 | 2 => false,
            4 => true,
            kind => return Err(Error::unsupported(format!("a VDI of unknown type {kind}"))),
        };
        let block = le_u32(&head, 0x178)?;
        if block > MAX_BLOCK {
            return Err(Error::limit(format!(
                "blocks of {block} bytes are larger than the {MAX_BLOCK} allowed"
            )));
        }
        if block < 512 || !block.is_power_of_two() {
            return Err(Error::corrupt(format!(
                "blocks of {block} bytes are impossible"
            )));
        }
        let extra = le_u32(&head, 0x17c)?;
        if extra != 0 {
            return Err(Error::unsupported(format!(
                "a VDI with {extra} bytes of its own before each block"
            )));
        }
        let sector = le_u32(&head, 0x168)?;
        if sector != 512 {
            return Err(Error::unsupported(format!(
                "a VDI with sectors of {sector} bytes"
            )));
        }
        let header = Self {
            map: u64::from(le_u32(&head, 0x154)?),
            data: u64::from(le_u32(&head, 0x158)?),
            size: le_u64(&head, 0x170)?,
            block: u64::from(block),
            own: Ids::at(&head, 0x188, 0x198)?,
            parent: differencing
                .then(|| Ids::at(&head, 0x1a8, 0x1b8))
                .transpose()?,
        };
        if i64::try_from(header.size).is_err() {
            return Err(Error::limit(format!(
                "a disk of {} bytes is larger than any host's files",
                header.size
            )));
        }
        let blocks = u64::from(le_u32(&head, 0x180)?);
        if blocks < header.size.div_ceil(header.block) {
            return Err(Error::corrupt(format!(
                "a map of {blocks} blocks is too small for its {} bytes",
                header.size
            )));
        }
        if header.map.saturating_add(blocks.saturating_mul(4)) > file.len() {
            return Err(
                Error::corrupt("the block map lies beyond the end of the file")
                    .at_offset(header.map),
            );
        }
        Ok(header)
    }
}

/// The image beside `file`, or in the folder above, that has the ids `wanted`.
fn parent(file: &OpenFile, wanted: &Ids, opener: &mut Opener<'_>) -> Result<Box<dyn Image>> {
    let mut changed = None;
    for name in opener.neighbours(file, "vdi")? {
        let Ok(part) = opener.open_part(file, &name, Role::Backing) else {
            continue;
        };
        let Ok(header) = Header::read(&*part.source) else {
            continue;
        };
        if header.own.image != wanted.image {
            continue;
        }
        // VirtualBox leaves the second id empty in old images.
        if header.own.change == wanted.change || wanted.change == [0; 16] {
            return opener.open_reference(file, &name, Role::Backing, Some(FormatName::VDI));
        }
        changed = Some(part.path().display().to_string());
    }
    Err(Error::corrupt(match changed {
        Some(path) => format!("its parent {path} was changed since this layer was made"),
        None => {
            format!("no image with its parent's ids ({wanted}) is beside it or in the folder above")
        }
    }))
}

struct Blocks {
    pages: Pages,
    header: Header,
}

impl Blocks {
    fn locate(&self, offset: u64, limit: u64) -> Result<Stretch> {
        let Header {
            map, data, block, ..
        } = self.header;
        let number = offset.checked_div(block).unwrap_or(0);
        let within = offset.checked_rem(block).unwrap_or(0);
        let most = within.saturating_add(limit).div_ceil(block);
        let (entry, mut same) = self.pages.repeated(map, number, most)?;
        let mapping = match u32::from_le_bytes(entry) {
            FREE => Mapping::Below,
            ZERO => Mapping::Zero,
            entry => {
                same = 1;
                let at = u64::from(entry)
                    .saturating_mul(block)
                    .saturating_add(data)
                    .saturating_add(within);
                Mapping::Data(HostOffset(at))
            }
        };
        Ok(Stretch {
            mapping,
            len: same.saturating_mul(block).saturating_sub(within).min(limit),
        })
    }
}
