//! VMDK as a stream of compressed grains, after VMware's Virtual Disk Format 5.0: grains and their tables each behind a
//! marker, the directory and a footer at the end.

use std::fmt::Write;

use dormouse_block::{Error, Result, Source};

use super::pack::{Method, Pack, Spread};
use super::size_of;
use super::target::Target;
use super::walk::{Fingerprint, pieces};

const SECTOR: u64 = 512;
/// Bytes of a grain, VMware's only value for streams.
const GRAIN: u64 = 64 << 10;
/// Grains of one table.
const TABLE_GRAINS: usize = 512;
/// Bytes of the disk that one table covers: 32 MiB.
const TABLE_COVERS: u64 = GRAIN * 512;
/// Sectors of a table.
const TABLE_SECTORS: u64 = 4;
/// Sectors of the descriptor, behind the header.
const DESCRIPTOR_SECTORS: u64 = 20;
/// Where the first grain stands.
const OVERHEAD_SECTORS: u64 = 128;
/// Sectors of a file are counted in 32 bits.
const MAX_SIZE: u64 = 2 << 40;
/// Grains that are compressed at a time.
const BATCH: usize = 64;
/// "The directory is at the end."
const AT_END: u64 = u64::MAX;
/// Types of markers.
const END: u32 = 0;
const TABLE: u32 = 1;
const DIRECTORY: u32 = 2;
const FOOTER: u32 = 3;

pub(super) fn write(disk: &dyn Source, target: &mut Target, spread: &Spread<'_>) -> Result<()> {
    let size = size_of(disk, MAX_SIZE, "a VMDK stream")?;
    let tables = usize::try_from(size.div_ceil(TABLE_COVERS))
        .map_err(|_| Error::limit("the disk is too large"))?;
    let mut stream = Stream {
        target,
        next: OVERHEAD_SECTORS,
        directory: vec![0; tables],
        table: None,
    };
    let mut seen = Fingerprint::new("vmdk", size);
    let mut batch = Vec::new();
    pieces(disk, GRAIN, |offset, bytes| {
        seen.add(offset, bytes);
        let mut grain = bytes.to_vec();
        // The last grain is a whole one too.
        grain.resize(usize::try_from(GRAIN).unwrap_or(bytes.len()), 0);
        batch.push(Pack::new(Method::Zlib, offset, grain));
        if batch.len() >= BATCH {
            stream.grains(&mut batch, spread)?;
        }
        Ok(())
    })?;
    stream.grains(&mut batch, spread)?;
    stream.flush_table()?;
    let directory = stream.directory()?;
    stream.marker(1, FOOTER)?;
    stream.sectors(&header(size, directory))?;
    stream.marker(0, END)?;
    target.put(0, &header(size, AT_END))?;
    target.put(SECTOR, descriptor(size, seen.number("content")).as_bytes())
}

struct Stream<'a> {
    target: &'a mut Target,
    /// The next free sector.
    next: u64,
    directory: Vec<u32>,
    /// The table that is being filled, by its number.
    table: Option<(usize, Vec<u32>)>,
}

impl Stream<'_> {
    /// Appends whole sectors and gives the first.
    fn sectors(&mut self, bytes: &[u8]) -> Result<u64> {
        let at = self.next;
        self.target.put(at.saturating_mul(SECTOR), bytes)?;
        let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.next = at.saturating_add(len.div_ceil(SECTOR));
        self.target.grow(self.next.saturating_mul(SECTOR));
        Ok(at)
    }

    /// A marker without data: what follows it, and how many sectors of that.
    fn marker(&mut self, sectors: u64, kind: u32) -> Result<()> {
        let mut marker = sectors.to_le_bytes().to_vec();
        marker.extend([0; 4]);
        marker.extend(kind.to_le_bytes());
        marker.resize(512, 0);
        self.sectors(&marker).map(|_| ())
    }

    fn grains(&mut self, batch: &mut Vec<Pack>, spread: &Spread<'_>) -> Result<()> {
        spread(batch);
        for pack in batch.drain(..) {
            let packed = pack.packed()?;
            let number = usize::try_from(pack.at / TABLE_COVERS).unwrap_or(usize::MAX);
            if self.table.as_ref().is_some_and(|(of, _)| *of != number) {
                self.flush_table()?;
            }
            let len = u32::try_from(packed.len())
                .map_err(|_| Error::limit("a compressed grain is too large"))?;
            let mut grain = (pack.at / SECTOR).to_le_bytes().to_vec();
            grain.extend(len.to_le_bytes());
            grain.extend_from_slice(packed);
            let at = self.sectors(&grain)?;
            let at = u32::try_from(at)
                .map_err(|_| Error::limit("the file is larger than a VMDK stream can be"))?;
            let (_, table) = self
                .table
                .get_or_insert_with(|| (number, vec![0; TABLE_GRAINS]));
            let slot = usize::try_from(pack.at % TABLE_COVERS / GRAIN)
                .ok()
                .and_then(|index| table.get_mut(index))
                .ok_or_else(|| Error::corrupt("a grain has no place in its table"))?;
            *slot = at;
        }
        Ok(())
    }

    fn flush_table(&mut self) -> Result<()> {
        let Some((number, table)) = self.table.take() else {
            return Ok(());
        };
        self.marker(TABLE_SECTORS, TABLE)?;
        let at = self.sectors(&little_endian(&table))?;
        let slot = self
            .directory
            .get_mut(number)
            .ok_or_else(|| Error::corrupt("data lie beyond the end of the disk"))?;
        *slot = u32::try_from(at)
            .map_err(|_| Error::limit("the file is larger than a VMDK stream can be"))?;
        Ok(())
    }

    /// Appends the directory and gives its sector.
    fn directory(&mut self) -> Result<u64> {
        let mut bytes = little_endian(&self.directory);
        bytes.resize(bytes.len().max(1).next_multiple_of(512), 0);
        let sectors = u64::try_from(bytes.len()).unwrap_or(0) / SECTOR;
        self.marker(sectors, DIRECTORY)?;
        self.sectors(&bytes)
    }
}

fn little_endian(entries: &[u32]) -> Vec<u8> {
    entries
        .iter()
        .flat_map(|entry| entry.to_le_bytes())
        .collect()
}

/// The header, and with the directory's sector the footer.
fn header(size: u64, directory: u64) -> Vec<u8> {
    let mut out = b"KDMV".to_vec();
    out.extend(3_u32.to_le_bytes());
    // The bytes that a text transfer would change are there; grains are compressed; markers stand before everything.
    out.extend((1_u32 | 1 << 16 | 1 << 17).to_le_bytes());
    out.extend((size / SECTOR).to_le_bytes());
    out.extend((GRAIN / SECTOR).to_le_bytes());
    out.extend(1_u64.to_le_bytes());
    out.extend(DESCRIPTOR_SECTORS.to_le_bytes());
    out.extend(512_u32.to_le_bytes());
    // No second directory.
    out.extend(0_u64.to_le_bytes());
    out.extend(directory.to_le_bytes());
    out.extend(OVERHEAD_SECTORS.to_le_bytes());
    // Closed.
    out.push(0);
    out.extend(b"\n \r\n");
    // Deflate.
    out.extend(1_u16.to_le_bytes());
    out.resize(512, 0);
    out
}

fn descriptor(size: u64, content: u32) -> String {
    let sectors = size / SECTOR;
    // The geometry that VMware gives disks of SCSI controllers.
    let cylinders = (sectors / (255 * 63)).min(65_535);
    // All ones would say that there is no parent where a parent's id is meant.
    let content = content & 0x7fff_ffff;
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write!(
        out,
        "# Disk DescriptorFile\nversion=1\nCID={content:08x}\nparentCID=ffffffff\ncreateType=\"streamOptimized\"\n\n\
         # Extent description\nRW {sectors} SPARSE \"disk.vmdk\"\n\n\
         # The Disk Data Base\n#DDB\n\nddb.virtualHWVersion = \"8\"\nddb.geometry.cylinders = \"{cylinders}\"\n\
         ddb.geometry.heads = \"255\"\nddb.geometry.sectors = \"63\"\nddb.adapterType = \"lsilogic\"\n"
    );
    out
}
