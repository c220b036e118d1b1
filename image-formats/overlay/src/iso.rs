//! New ISO 9660 images, as media that are attached to a machine: written in one pass, with POSIX names and modes.
//!
//! Sources: ECMA-119 (ISO 9660), the System Use Sharing Protocol 1.10 and the Rock Ridge Interchange Protocol 1.10.
//! Limits: 100,000 files of less than 4 GiB, in folders 7 deep, with names of 169 bytes.

mod record;
mod tree;

use std::collections::BTreeMap;
use std::io::{Read, Write};

use dormouse_block::{Error, Result};
use dormouse_filesystem::Time;

use record::{Stamp, both, extension, posix, primary, record, terminator};
use tree::Tree;

/// Bytes of a sector (ECMA-119, 6.1.2).
const SECTOR: u32 = 2048;
/// The first sector after the system area (6.2.1).
const DESCRIPTORS: u32 = 16;
/// Most files of an image. Ours: what a bundle may hold.
const MAX_FILES: usize = 100_000;
/// Longest name, in bytes: it must fit its directory record beside all else (a record has 255).
const MAX_NAME: usize = 169;
/// Most folders above a file (6.8.2.1: eight levels, the root among them).
const MAX_DEPTH: usize = 7;
/// Bytes copied in one step.
const STEP: usize = 256 << 10;

/// A file of a new image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IsoFile {
    /// Its path, without a leading slash; its folders come by themselves.
    pub path: String,
    /// Its bytes.
    pub len: u64,
}

/// Writes an image called `label` with `files`, all of one time, to `out`; `open` gives each file's bytes by its path, in
/// the order in which they are written. The same files give the same bytes. Gives the image's bytes.
///
/// # Errors
/// `Limit` for what the format cannot hold, `Corrupt` for a bad path or a file that is not as long as it was said to be,
/// `Io` when `out` cannot be written.
pub fn write_iso(
    label: &str,
    made: Time,
    files: &[IsoFile],
    out: &mut dyn Write,
    open: &mut dyn FnMut(&str) -> Result<Box<dyn Read>>,
) -> Result<u64> {
    let layout = Layout::of(files)?;
    let made = Stamp::of(made)?;
    let mut image = Image { out, sectors: 0 };
    image.put(&[0; (DESCRIPTORS * SECTOR) as usize])?;
    image.put(&primary(&layout, label, &made)?)?;
    image.put(&terminator())?;
    for big in [false, true] {
        image.put(&layout.path_table(big)?)?;
    }
    for folder in 0..layout.folders.len() {
        image.put(&layout.directory(folder, &made)?)?;
    }
    image.put(&extension())?;
    for file in &layout.files {
        image.copy(&file.path, file.len, open(&file.path)?)?;
    }
    Ok(u64::from(image.sectors).saturating_mul(u64::from(SECTOR)))
}

/// What is written so far.
struct Image<'a> {
    out: &'a mut dyn Write,
    sectors: u32,
}

impl Image<'_> {
    /// Writes bytes and fills their last sector.
    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(cannot_write)?;
        self.fill(length(bytes.len()))
    }

    fn fill(&mut self, len: u64) -> Result<()> {
        let sectors = sectors_of(len)?;
        let whole = u64::from(sectors).saturating_mul(u64::from(SECTOR));
        let rest = usize::try_from(whole.saturating_sub(len)).unwrap_or_default();
        self.out.write_all(&vec![0; rest]).map_err(cannot_write)?;
        self.sectors = add(self.sectors, sectors)?;
        Ok(())
    }

    fn copy(&mut self, path: &str, len: u64, mut from: Box<dyn Read>) -> Result<()> {
        let mut buf = vec![0; STEP];
        let mut copied = 0_u64;
        loop {
            let n = match from.read(&mut buf) {
                Ok(n) => n,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Error::io(format!("cannot read {path}"), error)),
            };
            let Some(part) = buf.get(..n).filter(|part| !part.is_empty()) else {
                break;
            };
            copied = copied.saturating_add(length(n));
            if copied > len {
                break;
            }
            self.out.write_all(part).map_err(cannot_write)?;
        }
        if copied != len {
            return Err(Error::corrupt(format!(
                "{path} has other than the {len} bytes that were announced"
            )));
        }
        self.fill(len)
    }
}

fn cannot_write(error: std::io::Error) -> Error {
    Error::io("cannot write an image", error)
}

/// A file and its place.
struct PlacedFile {
    path: String,
    len: u64,
    sector: u32,
}

/// A folder and its place.
#[derive(Default)]
struct Folder {
    /// The folder above; the root is its own.
    parent: usize,
    sector: u32,
    /// Bytes of its records, whole sectors.
    len: u32,
    children: BTreeMap<String, Child>,
}

#[derive(Clone, Copy)]
enum Child {
    Folder(usize),
    File(usize),
}

/// Where everything is.
struct Layout {
    /// In the order of the path table: by depth, then by the folder above, then by name.
    folders: Vec<Folder>,
    files: Vec<PlacedFile>,
    table_sectors: u32,
    table_len: u32,
    continuation: u32,
    sectors: u32,
}

impl Layout {
    fn of(files: &[IsoFile]) -> Result<Self> {
        if files.len() > MAX_FILES {
            return Err(Error::limit(format!(
                "an image of more than {MAX_FILES} files"
            )));
        }
        let mut tree = Tree::default();
        for (index, file) in files.iter().enumerate() {
            tree.add(&file.path, index)?;
        }
        let (mut folders, order) = tree.in_order();
        let placed = order.iter().filter_map(|&index| files.get(index));
        let mut files: Vec<PlacedFile> = placed
            .map(|file| PlacedFile {
                path: file.path.clone(),
                len: file.len,
                sector: 0,
            })
            .collect();
        // A root entry takes 10 bytes, any other 8 and its name of 8.
        let others = count(folders.len().saturating_sub(1))?;
        let table_len = others
            .checked_mul(16)
            .and_then(|len| len.checked_add(10))
            .ok_or_else(too_large)?;
        let table_sectors = table_len.div_ceil(SECTOR);
        // Two descriptors, then two path tables.
        let mut next = add(DESCRIPTORS + 2, add(table_sectors, table_sectors)?)?;
        for index in 0..folders.len() {
            let len = directory_len(&folders, index);
            if let Some(folder) = folders.get_mut(index) {
                folder.sector = next;
                folder.len = len;
            }
            next = add(next, len / SECTOR)?;
        }
        let continuation = next;
        next = add(next, 1)?;
        for file in &mut files {
            file.sector = next;
            if file.len > u64::from(u32::MAX) {
                return Err(Error::limit(format!("{} is of 4 GiB or more", file.path)));
            }
            next = add(next, sectors_of(file.len)?)?;
        }
        Ok(Self {
            folders,
            files,
            table_sectors,
            table_len,
            continuation,
            sectors: next,
        })
    }

    /// The path table (9.4), with numbers in one byte order.
    fn path_table(&self, big: bool) -> Result<Vec<u8>> {
        let mut table = Vec::new();
        let long = |n: u32| {
            if big {
                n.to_be_bytes()
            } else {
                n.to_le_bytes()
            }
        };
        for (index, folder) in self.folders.iter().enumerate() {
            let number = u16::try_from(folder.parent.saturating_add(1)).map_err(|_| too_large())?;
            let parent = if big {
                number.to_be_bytes()
            } else {
                number.to_le_bytes()
            };
            let name = if index == 0 {
                vec![0]
            } else {
                self.identifier_of(index)
            };
            table.push(u8::try_from(name.len()).map_err(|_| too_large())?);
            table.push(0);
            table.extend(long(folder.sector));
            table.extend(parent);
            table.extend(&name);
            if name.len() % 2 == 1 {
                table.push(0);
            }
        }
        Ok(table)
    }

    /// The identifier of a folder within the one above.
    fn identifier_of(&self, index: usize) -> Vec<u8> {
        let above = self
            .folders
            .get(index)
            .and_then(|folder| self.folders.get(folder.parent));
        let place = above.and_then(|above| {
            above
                .children
                .values()
                .position(|child| matches!(child, Child::Folder(folder) if *folder == index))
        });
        identifier(place.unwrap_or_default(), true)
    }

    fn directory(&self, index: usize, made: &Stamp) -> Result<Vec<u8>> {
        let missing = || Error::corrupt("a folder that is not there");
        let folder = self.folders.get(index).ok_or_else(missing)?;
        let above = self.folders.get(folder.parent).ok_or_else(missing)?;
        let mut records = Vec::new();
        let mut system = Vec::new();
        if index == 0 {
            // SP: the protocol is in use, and nothing stands before the fields (SUSP 5.3).
            system.extend([b'S', b'P', 7, 1, 0xbe, 0xef, 0]);
        }
        system.extend(posix(true));
        if index == 0 {
            // CE: the root's fields go on elsewhere (SUSP 5.1).
            system.extend([b'C', b'E', 28, 1]);
            system.extend(both(self.continuation));
            system.extend(both(0));
            system.extend(both(count(extension().len())?));
        }
        append(
            &mut records,
            &record(folder.sector, folder.len, true, &[0], &system, made)?,
        );
        append(
            &mut records,
            &record(above.sector, above.len, true, &[1], &posix(true), made)?,
        );
        for (place, (name, child)) in folder.children.iter().enumerate() {
            let (sector, len, is_folder) = match *child {
                Child::Folder(child) => {
                    let child = self.folders.get(child).ok_or_else(missing)?;
                    (child.sector, child.len, true)
                }
                Child::File(file) => {
                    let file = self.files.get(file).ok_or_else(missing)?;
                    let len = u32::try_from(file.len).map_err(|_| too_large())?;
                    (file.sector, len, false)
                }
            };
            let mut system = posix(is_folder);
            // NM: the name itself (RRIP 4.1.4).
            let name_len = u8::try_from(name.len().saturating_add(5)).map_err(|_| too_large())?;
            system.extend([b'N', b'M', name_len, 1, 0]);
            system.extend(name.as_bytes());
            let identifier = identifier(place, is_folder);
            append(
                &mut records,
                &record(sector, len, is_folder, &identifier, &system, made)?,
            );
        }
        Ok(records)
    }
}

/// The name that stands for a folder's child where nobody knows Rock Ridge: numbered in their order, which so is that of
/// the names too (9.3).
fn identifier(place: usize, folder: bool) -> Vec<u8> {
    let version = if folder { "" } else { ".;1" };
    format!("{:08}{version}", place.saturating_add(1)).into_bytes()
}

/// The bytes of a folder's records; none crosses a sector's end.
fn directory_len(folders: &[Folder], index: usize) -> u32 {
    let Some(folder) = folders.get(index) else {
        return SECTOR;
    };
    let first = if index == 0 {
        34 + 7 + 36 + 28 + 1
    } else {
        34 + 36
    };
    let mut sizes: Vec<u32> = vec![first, 34 + 36];
    for (name, child) in &folder.children {
        let name_len = u32::try_from(name.len()).unwrap_or(SECTOR);
        let identifier = if matches!(child, Child::Folder(_)) {
            8
        } else {
            11
        };
        let head = 33 + identifier + u32::from(identifier % 2 == 0);
        let size = head.saturating_add(36 + 5).saturating_add(name_len);
        sizes.push(size.saturating_add(size % 2));
    }
    let mut sectors = 1_u32;
    let mut used = 0_u32;
    for size in sizes {
        if used.saturating_add(size) > SECTOR {
            sectors = sectors.saturating_add(1);
            used = 0;
        }
        used = used.saturating_add(size);
    }
    sectors.saturating_mul(SECTOR)
}

/// Appends a record, in the next sector where it would cross this one's end (6.8.1.1).
fn append(records: &mut Vec<u8>, record: &[u8]) {
    let sector = SECTOR as usize;
    let used = records.len() % sector;
    if used.saturating_add(record.len()) > sector {
        records.resize(records.len().next_multiple_of(sector), 0);
    }
    records.extend(record);
}

fn too_large() -> Error {
    Error::limit("more than an ISO 9660 image can hold")
}

fn add(a: u32, b: u32) -> Result<u32> {
    a.checked_add(b).ok_or_else(too_large)
}

fn count(n: usize) -> Result<u32> {
    u32::try_from(n).map_err(|_| too_large())
}

fn length(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

fn sectors_of(len: u64) -> Result<u32> {
    u32::try_from(len.div_ceil(u64::from(SECTOR))).map_err(|_| too_large())
}
