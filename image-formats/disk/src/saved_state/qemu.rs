//! QEMU's migration stream (`docs/devel/migration/main.rst`, `migration/savevm.c`, `migration/ram.c`): what `savevm` puts
//! into qcow2 files, `migrate file:` and Proxmox into files, and libvirt behind its own header.
//!
//! Big-endian. Behind the magic and the version comes the machine's configuration, then sections; the one called `ram`
//! comes in parts, each a row of records: a 64-bit word of a page's place and flags in the bits below a page, the name of
//! its block unless it is that of the record before, and the page or the one byte that it is full of. Nothing behind its
//! last part is read.

use dormouse_block::{Error, Result, be_u32};

use super::mapped_ram::{self, MappedBlock};
use super::pieces::Pieces;
use super::stream::Stream;
use super::{Looked, Reading, Signs, StateFormat, StateMeaning};

/// The magic: `QEVM`, and version 3, the only one since 2009.
pub(super) const MAGIC: &[u8; 8] = b"QEVM\0\0\0\x03";
/// Longest name of a machine in the configuration.
const MAX_MACHINE: u32 = 4096;
/// Most capabilities that a configuration lists.
const MAX_CAPABILITIES: u32 = 256;
/// Version of the section `ram` since 2009.
const RAM_VERSION: u32 = 4;
/// Bytes of a page, as a power of two, where the configuration does not say.
const PAGE_BITS: u32 = 12;
/// Sections and parts of sections: a machine that is saved while it runs sends its memory in many.
const MAX_SECTIONS: u64 = 1 << 32;

/// The format.
pub(super) const FORMAT: StateFormat = StateFormat {
    name: "QEMU migration stream",
    is_verified: true,
    beside: &[],
    recognise,
    read,
};

mod section {
    pub(super) const END_OF_FILE: u8 = 0;
    pub(super) const START: u8 = 1;
    pub(super) const PART: u8 = 2;
    pub(super) const END: u8 = 3;
    pub(super) const FULL: u8 = 4;
    pub(super) const SUBSECTION: u8 = 5;
    pub(super) const DESCRIPTION: u8 = 6;
    pub(super) const CONFIGURATION: u8 = 7;
    pub(super) const COMMAND: u8 = 8;
    pub(super) const FOOTER: u8 = 0x7e;
}

mod flag {
    pub(super) const FILLED: u64 = 0x02;
    pub(super) const SIZES: u64 = 0x04;
    pub(super) const PAGE: u64 = 0x08;
    pub(super) const END: u64 = 0x10;
    pub(super) const CONTINUE: u64 = 0x20;
    pub(super) const XBZRLE: u64 = 0x40;
    pub(super) const HOOK: u64 = 0x80;
    pub(super) const COMPRESSED: u64 = 0x100;
    pub(super) const MULTIFD_FLUSH: u64 = 0x200;
}

fn recognise(looked: &Looked<'_>) -> Result<Option<Signs>> {
    let signs = || Signs::new("QEVM, version 3", 0, StateMeaning::Suspended);
    Ok(looked.starts_with(MAGIC).then(signs))
}

fn read(reading: &Reading<'_>, pieces: &mut Pieces<'_, '_>) -> Result<()> {
    read_stream(&mut Stream::of(reading.source.clone(), 0), pieces)
}

/// Reads the memory of a stream that begins where `stream` stands.
pub(super) fn read_stream(stream: &mut Stream, pieces: &mut Pieces<'_, '_>) -> Result<()> {
    let magic = stream.take(MAGIC.len())?;
    if magic != MAGIC {
        let version = be_u32(magic, 4)?;
        return Err(if magic.starts_with(b"QEVM") {
            Error::unsupported(format!("version {version} of QEMU's migration stream"))
        } else {
            Error::corrupt("no migration stream of QEMU begins where one should")
        });
    }
    let mut ram = Ram {
        page_bits: PAGE_BITS,
        is_mapped: false,
        mapped: Vec::new(),
        section: None,
        block: None,
        has_blocks: false,
    };
    if stream.peek()? == Some(section::CONFIGURATION) {
        ram.configuration(stream)?;
    }
    for _ in 0..MAX_SECTIONS {
        match stream.byte()? {
            kind @ (section::START | section::FULL) => {
                let id = stream.u32()?;
                let name = stream.name()?;
                let _instance = stream.u32()?;
                let version = stream.u32()?;
                if name != "ram" || kind == section::FULL {
                    return Err(Error::unsupported(format!(
                        "the section {} of QEMU's stream before its memory",
                        dormouse_block::escape_terminal(&name)
                    )));
                }
                if version != RAM_VERSION {
                    return Err(Error::unsupported(format!(
                        "version {version} of memory in QEMU's stream"
                    )));
                }
                if ram.section.replace(id).is_some() {
                    return Err(Error::corrupt("its memory begins twice"));
                }
                ram.records(stream, pieces)?;
            }
            kind @ (section::PART | section::END) => {
                let id = stream.u32()?;
                if ram.section != Some(id) {
                    return Err(Error::corrupt(format!(
                        "a part of section {id}, which never began"
                    )));
                }
                ram.records(stream, pieces)?;
                if kind == section::END {
                    return ram.finish(stream, pieces);
                }
            }
            section::FOOTER => {
                if Some(stream.u32()?) != ram.section {
                    return Err(Error::corrupt("the end of a section that never began"));
                }
            }
            section::COMMAND => {
                let _command = stream.u16()?;
                let len = stream.u16()?;
                stream.skip(u64::from(len))?;
            }
            section::END_OF_FILE => {
                return Err(Error::corrupt("the stream ends before all of its memory"));
            }
            section::DESCRIPTION => {
                return Err(Error::corrupt("a description before the memory's end"));
            }
            other => {
                return Err(Error::corrupt(format!("a section of unknown type {other}"))
                    .at_offset(stream.position()));
            }
        }
    }
    Err(Error::limit("more sections than any machine sends"))
}

/// The section `ram` while it is read.
struct Ram {
    page_bits: u32,
    is_mapped: bool,
    mapped: Vec<MappedBlock>,
    section: Option<u32>,
    block: Option<usize>,
    has_blocks: bool,
}

impl Ram {
    fn configuration(&mut self, stream: &mut Stream) -> Result<()> {
        stream.byte()?;
        let len = stream.u32()?;
        if len > MAX_MACHINE {
            return Err(Error::limit(format!("a machine's name of {len} bytes")));
        }
        stream.skip(u64::from(len))?;
        while stream.peek()? == Some(section::SUBSECTION) {
            stream.byte()?;
            let name = stream.name()?;
            let _version = stream.u32()?;
            match name.as_str() {
                "configuration/target-page-bits" => {
                    self.page_bits = stream.u32()?;
                    if !(10..=16).contains(&self.page_bits) {
                        return Err(Error::unsupported(format!(
                            "pages of 2^{} bytes",
                            self.page_bits
                        )));
                    }
                }
                "configuration/capabilities" => {
                    let count = stream.u32()?;
                    if count > MAX_CAPABILITIES {
                        return Err(Error::limit(format!("{count} capabilities of a stream")));
                    }
                    for _ in 0..count {
                        match stream.name()?.as_str() {
                            "mapped-ram" => self.is_mapped = true,
                            "x-ignore-shared" => {
                                return Err(Error::unsupported(
                                    "memory that is shared with the host is not in the stream (x-ignore-shared)",
                                ));
                            }
                            _ => {}
                        }
                    }
                }
                "configuration/uuid" => stream.skip(16)?,
                other => {
                    return Err(Error::unsupported(format!(
                        "the part {} of a stream's configuration",
                        dormouse_block::escape_terminal(other)
                    )));
                }
            }
        }
        Ok(())
    }

    fn page(&self) -> u64 {
        1_u64.checked_shl(self.page_bits).unwrap_or(4096)
    }

    /// Records up to the end of this part.
    fn records(&mut self, stream: &mut Stream, pieces: &mut Pieces<'_, '_>) -> Result<()> {
        let page = self.page();
        let size = usize::try_from(page).unwrap_or(4096);
        let low = page.saturating_sub(1);
        loop {
            let word = stream.u64()?;
            let (offset, flags) = (word & !low, word & low);
            if flags & (flag::FILLED | flag::PAGE | flag::XBZRLE | flag::COMPRESSED) != 0 {
                self.choose(flags, stream, pieces)?;
            }
            match flags & !flag::CONTINUE {
                flag::PAGE => {
                    let block = self.chosen()?;
                    pieces.bytes(block, offset, stream.take(size)?)?;
                }
                flag::FILLED => {
                    let block = self.chosen()?;
                    let byte = stream.byte()?;
                    pieces.fill(block, offset, page, byte)?;
                }
                flag::SIZES => self.blocks(offset, stream, pieces)?,
                flag::END => return Ok(()),
                flag::MULTIFD_FLUSH if self.is_mapped => {}
                flag::MULTIFD_FLUSH => {
                    return Err(Error::unsupported(
                        "memory that QEMU sent through several channels (multifd)",
                    ));
                }
                flag::XBZRLE => {
                    return Err(Error::unsupported(
                        "pages kept as differences from earlier ones (XBZRLE)",
                    ));
                }
                flag::COMPRESSED => {
                    return Err(Error::unsupported(
                        "pages that QEMU compressed one by one (compress)",
                    ));
                }
                flag::HOOK => {
                    return Err(Error::unsupported("memory sent by RDMA"));
                }
                other => {
                    return Err(Error::corrupt(format!(
                        "a page with the unknown flags {other:#x}"
                    ))
                    .at_offset(stream.position()));
                }
            }
        }
    }

    /// The block that a record is of.
    fn choose(&mut self, flags: u64, stream: &mut Stream, pieces: &Pieces<'_, '_>) -> Result<()> {
        if flags & flag::CONTINUE == 0 {
            let name = stream.name()?;
            let number = pieces.number(&name).ok_or_else(|| {
                Error::corrupt(format!(
                    "a page of {}, a block that was not listed",
                    dormouse_block::escape_terminal(&name)
                ))
            })?;
            self.block = Some(number);
        }
        Ok(())
    }

    fn chosen(&self) -> Result<usize> {
        self.block
            .ok_or_else(|| Error::corrupt("a page of the same block as the one before the first"))
    }

    /// The list of blocks, of `total` bytes together.
    fn blocks(
        &mut self,
        total: u64,
        stream: &mut Stream,
        pieces: &mut Pieces<'_, '_>,
    ) -> Result<()> {
        if std::mem::replace(&mut self.has_blocks, true) {
            return Err(Error::corrupt("the memory's blocks are listed twice"));
        }
        let mut left = total;
        while left > 0 {
            let name = stream.name()?;
            let len = stream.u64()?;
            left = left.checked_sub(len).filter(|_| len > 0).ok_or_else(|| {
                Error::corrupt("its blocks of memory have other sizes than all of it")
            })?;
            let number = pieces.block(&name, len)?;
            if self.is_mapped {
                self.mapped
                    .push(MappedBlock::read(stream, number, len, self.page())?);
            }
        }
        Ok(())
    }

    fn finish(&self, stream: &Stream, pieces: &mut Pieces<'_, '_>) -> Result<()> {
        if !self.has_blocks {
            return Err(Error::corrupt("its memory lists no blocks"));
        }
        match stream.source() {
            _ if self.mapped.is_empty() => Ok(()),
            Some(source) => mapped_ram::read(source, &self.mapped, self.page(), pieces),
            None => Err(Error::unsupported("mapped memory in a packed stream")),
        }
    }
}
