//! What QEMU cannot write, and for the most part not read: layers of VHD, VHDX and VDI, VHDX logs and large sectors, and
//! ESXi's extents. Each is made by hand from what QEMU wrote, and read as the specification says; where QEMU reads it,
//! QEMU is asked too.
#![allow(missing_docs, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "tests write files")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod oracle;

use std::path::{Path, PathBuf};

use dormouse_block::ErrorKind;
use dormouse_disk::{ACTIVE, Role};
use oracle::{Random, assert_same, image, open, run, scatter, seed_raw};

const SIZE: u64 = 7 << 20;
const LEN: usize = 7 << 20;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn name(&self, name: &str) -> String {
        self.at(name).to_str().unwrap().to_owned()
    }

    /// A disk with data in many places, and its bytes.
    fn disk(&self, name: &str, format: &str, options: &str, seed: u64) -> Vec<u8> {
        run(
            "qemu-img",
            &[
                "create",
                "-q",
                "-f",
                format,
                "-o",
                options,
                &self.name(name),
                &SIZE.to_string(),
            ],
        );
        scatter(&self.at(name), SIZE, 9, seed);
        self.raw_of(name, format)
    }

    fn raw_of(&self, name: &str, format: &str) -> Vec<u8> {
        let raw = self.name("qemu.raw");
        run(
            "qemu-img",
            &["convert", "-f", format, "-O", "raw", &self.name(name), &raw],
        );
        std::fs::read(raw).unwrap()
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.at(name)).unwrap()
    }

    fn assert_reads(&self, name: &str, expected: &[u8]) {
        let model = self.at("model.raw");
        std::fs::write(&model, expected).unwrap();
        let opened = image(&self.at(name));
        assert_same(&*opened.open_point(ACTIVE).unwrap(), &model, name);
    }
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

fn be32(bytes: &[u8], at: usize) -> usize {
    usize::try_from(u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())).unwrap()
}

fn le32(bytes: &[u8], at: usize) -> usize {
    usize::try_from(u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())).unwrap()
}

fn le64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn utf16le(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

fn refused(path: &Path, word: &str) {
    let error = open(path, None).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(error.to_string().contains(word), "{error} lacks {word:?}");
}

fn vhd_sum(bytes: &mut [u8], at: usize) {
    put(bytes, at, &[0; 4]);
    let sum: u32 = bytes.iter().map(|byte| u32::from(*byte)).sum();
    put(bytes, at, &(!sum).to_be_bytes());
}

/// Makes the dynamic VHD `child` a layer over `parent`, with random sectors of each block given to the parent.
fn vhd_layer(folder: &Folder, child: &str, parent: &str, named: &str, below: &[u8]) -> Vec<u8> {
    let mut expected = folder.raw_of(child, "vpc");
    let mut bytes = folder.bytes(child);
    let (table, block) = (be32(&bytes, 512 + 20), 2 << 20);
    let mut random = Random(99);
    for number in 0..LEN.div_ceil(block) {
        let sectors = number * block / 512..((number + 1) * block / 512).min(LEN / 512);
        let entry = be32(&bytes, table + number * 4);
        for sector in sectors {
            let own = entry != 0xffff_ffff && random.below(40) != 0 && sector % 64 != 5;
            if !own {
                let place = sector * 512..(sector + 1) * 512;
                expected[place.clone()].copy_from_slice(&below[place]);
            }
            if entry != 0xffff_ffff {
                let bit = sector - number * block / 512;
                let mask = 0x80 >> (bit % 8);
                let at = entry * 512 + bit / 8;
                bytes[at] = if own {
                    bytes[at] | mask
                } else {
                    bytes[at] & !mask
                };
            }
        }
    }
    let footer_at = bytes.len() - 512;
    let parent_id = folder.bytes(parent)[68..84].to_vec();
    let mut header = bytes[512..1536].to_vec();
    put(&mut header, 40, &parent_id);
    let name = utf16le(named);
    put(&mut header, 576, b"W2ru");
    put(&mut header, 580, &512_u32.to_be_bytes());
    put(
        &mut header,
        584,
        &u32::try_from(name.len()).unwrap().to_be_bytes(),
    );
    put(
        &mut header,
        592,
        &u64::try_from(footer_at).unwrap().to_be_bytes(),
    );
    vhd_sum(&mut header, 36);
    put(&mut bytes, 512, &header);
    let mut footer = bytes[footer_at..].to_vec();
    put(&mut footer, 60, &4_u32.to_be_bytes());
    vhd_sum(&mut footer, 64);
    put(&mut bytes, 0, &footer);
    bytes.truncate(footer_at);
    bytes.extend(name);
    bytes.resize(footer_at + 512, 0);
    bytes.extend(footer);
    std::fs::write(folder.at(child), bytes).unwrap();
    expected
}

#[test]
fn vhd_layers_read_sector_by_sector_over_the_parent_of_their_id() {
    let folder = Folder::new();
    let options = "subformat=dynamic,force_size=on";
    let base = folder.disk("base.vhd", "vpc", "subformat=dynamic,force_size=on", 1);
    folder.disk("middle.vhd", "vpc", options, 2);
    let middle = vhd_layer(&folder, "middle.vhd", "base.vhd", r".\base.vhd", &base);
    folder.assert_reads("middle.vhd", &middle);
    folder.disk("top.vhd", "vpc", options, 3);
    let top = vhd_layer(
        &folder,
        "top.vhd",
        "middle.vhd",
        r"C:\vms\middle.vhd",
        &middle,
    );
    folder.assert_reads("top.vhd", &top);
    let opened = image(&folder.at("top.vhd"));
    let roles: Vec<_> = opened.files().iter().map(|file| file.role).collect();
    assert_eq!(roles, [Role::Image, Role::Backing, Role::Backing]);
    assert_eq!(opened.chain().changed().unwrap(), None);
    // Another disk of the parent's name is no parent.
    folder.disk("middle.vhd", "vpc", options, 2);
    refused(&folder.at("top.vhd"), "its parent has the id");
    std::fs::remove_file(folder.at("middle.vhd")).unwrap();
    refused(&folder.at("top.vhd"), "cannot be found");
    // A layer over itself.
    folder.disk("self.vhd", "vpc", options, 2);
    let own = folder.bytes("self.vhd");
    vhd_layer(&folder, "self.vhd", "self.vhd", "self.vhd", &base);
    assert_eq!(own[68..84], folder.bytes("self.vhd")[68..84]);
    refused(&folder.at("self.vhd"), "leads back to itself");
}

#[test]
fn vhd_footers_are_believed_by_their_checksums_alone() {
    let folder = Folder::new();
    let raw = folder.disk("disk.vhd", "vpc", "subformat=dynamic,force_size=on", 4);
    let sound = folder.bytes("disk.vhd");
    // The end is lost: the copy in front serves.
    let mut bytes = sound.clone();
    let end = bytes.len();
    bytes[end - 1] ^= 1;
    std::fs::write(folder.at("disk.vhd"), &bytes).unwrap();
    folder.assert_reads("disk.vhd", &raw);
    assert!(image(&folder.at("disk.vhd")).state().dirty);
    bytes[100] ^= 1;
    std::fs::write(folder.at("disk.vhd"), &bytes).unwrap();
    refused(&folder.at("disk.vhd"), "checksum of the VHD footer");
    let mut bytes = sound.clone();
    bytes[1000] ^= 1;
    std::fs::write(folder.at("disk.vhd"), &bytes).unwrap();
    refused(&folder.at("disk.vhd"), "checksum of the dynamic header");
    // A machine was suspended on it.
    let mut footer = sound[end - 512..].to_vec();
    footer[84] = 1;
    vhd_sum(&mut footer, 64);
    let mut bytes = sound;
    put(&mut bytes, end - 512, &footer);
    std::fs::write(folder.at("disk.vhd"), &bytes).unwrap();
    assert!(image(&folder.at("disk.vhd")).state().suspended);
}

const MIB: usize = 1 << 20;

/// Offsets in a VHDX as QEMU writes it: table, metadata, and by id the items of the metadata.
struct Vhdx {
    bat: usize,
    metadata: usize,
}

impl Vhdx {
    fn of(bytes: &[u8]) -> Self {
        let table = 192 << 10;
        let mut found = Self {
            bat: 0,
            metadata: 0,
        };
        for entry in 0..2 {
            let at = table + 16 + entry * 32;
            let offset = usize::try_from(le64(bytes, at + 16)).unwrap();
            if bytes[at] == 0x66 {
                found.bat = offset;
            } else {
                found.metadata = offset;
            }
        }
        found
    }

    fn item(&self, bytes: &[u8], first: u8) -> usize {
        (0..8)
            .map(|entry| self.metadata + 32 + entry * 32)
            .find(|at| bytes[*at] == first)
            .map(|at| self.metadata + le32(bytes, at + 16))
            .unwrap()
    }

    /// The header that counts.
    fn header(bytes: &[u8]) -> usize {
        let sequence = |at: usize| le64(bytes, at + 8);
        if sequence(64 << 10) > sequence(128 << 10) {
            64 << 10
        } else {
            128 << 10
        }
    }

    /// Changes the header that counts, and its checksum.
    fn change_header(bytes: &mut [u8], at: usize, value: &[u8]) {
        let header = Self::header(bytes);
        put(bytes, header + at, value);
        Self::sum(&mut bytes[header..header + 4096]);
    }

    fn sum(bytes: &mut [u8]) {
        put(bytes, 4, &[0; 4]);
        let sum = crc32c::crc32c(bytes);
        put(bytes, 4, &sum.to_le_bytes());
    }
}

fn guid_text(bytes: &[u8]) -> String {
    let hex = |range: &[usize]| -> String {
        range
            .iter()
            .map(|at| format!("{:02X}", bytes[*at]))
            .collect()
    };
    format!(
        "{{{}-{}-{}-{}-{}}}",
        hex(&[3, 2, 1, 0]),
        hex(&[5, 4]),
        hex(&[7, 6]),
        hex(&[8, 9]),
        hex(&[10, 11, 12, 13, 14, 15])
    )
}

/// Makes the VHDX `child` a layer over `parent`, in which some blocks are present in part, in units of `sector`.
fn vhdx_layer(folder: &Folder, child: &str, parent: &str, sector: usize, below: &[u8]) -> Vec<u8> {
    let mut expected = folder.raw_of(child, "vhdx");
    let mut bytes = folder.bytes(child);
    let places = Vhdx::of(&bytes);
    let logical = places.item(&bytes, 0x1d);
    put(
        &mut bytes,
        logical,
        &u32::try_from(sector).unwrap().to_le_bytes(),
    );
    let parameters = places.item(&bytes, 0x37);
    bytes[parameters + 4] |= 2;
    // The locator: type, count, keys, then their text.
    let parent_bytes = folder.bytes(parent);
    let header = Vhdx::header(&parent_bytes);
    let linkage = guid_text(&parent_bytes[header + 32..header + 48]);
    let pairs = [
        ("absolute_win32_path", format!(r"C:\vms\{parent}")),
        ("parent_linkage", linkage),
        ("relative_path", format!(r".\{parent}")),
    ];
    let mut locator =
        b"\xb7\xef\x4a\xb0\x9e\xd1\x81\x4a\xb7\x89\x25\xb8\xe9\x44\x59\x13\0\0\x03\0".to_vec();
    let mut text = Vec::new();
    for (key, value) in &pairs {
        let (key, value) = (utf16le(key), utf16le(value));
        let at = 20 + pairs.len() * 12 + text.len();
        locator.extend(u32::try_from(at).unwrap().to_le_bytes());
        locator.extend(u32::try_from(at + key.len()).unwrap().to_le_bytes());
        locator.extend(u16::try_from(key.len()).unwrap().to_le_bytes());
        locator.extend(u16::try_from(value.len()).unwrap().to_le_bytes());
        text.extend(key);
        text.extend(value);
    }
    locator.extend(text);
    let count = places.metadata + 10;
    let entry = places.metadata + 32 + usize::from(bytes[count]) * 32;
    bytes[count] += 1;
    put(
        &mut bytes,
        entry,
        b"\x2d\x5f\xd3\xa8\x0b\xb3\x4d\x45\xab\xf7\xd3\xd8\x48\x34\xab\x0c",
    );
    let at = 512 << 10;
    put(
        &mut bytes,
        entry + 16,
        &u32::try_from(at).unwrap().to_le_bytes(),
    );
    put(
        &mut bytes,
        entry + 20,
        &u32::try_from(locator.len()).unwrap().to_le_bytes(),
    );
    put(&mut bytes, entry + 24, &4_u32.to_le_bytes());
    put(&mut bytes, places.metadata + at, &locator);
    // A sector bitmap behind everything.
    bytes.resize(bytes.len().next_multiple_of(MIB), 0);
    let bitmap = bytes.len();
    bytes.resize(bitmap + MIB, 0);
    let ratio = (1 << 23) * sector / MIB;
    let slot = places.bat + ratio * 8;
    put(
        &mut bytes,
        slot,
        &(u64::try_from(bitmap).unwrap() | 6).to_le_bytes(),
    );
    let mut random = Random(7);
    for number in 0..LEN / MIB {
        let slot = places.bat + number * 8;
        let entry = le64(&bytes, slot);
        let place = number * MIB..(number + 1) * MIB;
        match entry & 7 {
            0 => expected[place.clone()].copy_from_slice(&below[place]),
            6 if number % 3 != 2 => {
                put(&mut bytes, slot, &(entry | 7).to_le_bytes());
                for at in place.step_by(sector) {
                    let own = random.below(9) != 0;
                    let bit = at / sector;
                    bytes[bitmap + bit / 8] |= u8::from(own) << (bit % 8);
                    if !own {
                        expected[at..at + sector].copy_from_slice(&below[at..at + sector]);
                    }
                }
            }
            _ => {}
        }
    }
    std::fs::write(folder.at(child), bytes).unwrap();
    expected
}

#[test]
fn vhdx_layers_read_sector_by_sector_over_the_parent_of_their_content_id() {
    let folder = Folder::new();
    let base = folder.disk("base.vhdx", "vhdx", "block_size=1M", 11);
    for sector in [512, 4096] {
        folder.disk("top.vhdx", "vhdx", "block_size=1M", 12);
        let top = vhdx_layer(&folder, "top.vhdx", "base.vhdx", sector, &base);
        folder.assert_reads("top.vhdx", &top);
        folder.disk("over.vhdx", "vhdx", "block_size=1M", 13);
        let over = vhdx_layer(&folder, "over.vhdx", "top.vhdx", sector, &top);
        folder.assert_reads("over.vhdx", &over);
        assert_eq!(image(&folder.at("over.vhdx")).files().len(), 3);
    }
    // The parent was written since.
    let mut bytes = folder.bytes("base.vhdx");
    Vhdx::change_header(&mut bytes, 32, &[9; 16]);
    std::fs::write(folder.at("base.vhdx"), bytes).unwrap();
    refused(&folder.at("top.vhdx"), "content id");
}

#[test]
fn vhdx_with_sectors_of_4096_bytes_is_read() {
    let folder = Folder::new();
    let raw = folder.disk("disk.vhdx", "vhdx", "block_size=1M", 14);
    let mut bytes = folder.bytes("disk.vhdx");
    let logical = Vhdx::of(&bytes).item(&bytes, 0x1d);
    put(&mut bytes, logical, &4096_u32.to_le_bytes());
    std::fs::write(folder.at("disk.vhdx"), bytes).unwrap();
    folder.assert_reads("disk.vhdx", &raw);
}

/// A log entry at the beginning of the log: a descriptor and a data sector for each of `sectors`, then the zeroes.
fn log_entry(
    guid: &[u8],
    sequence: u64,
    file: u64,
    sectors: &[(usize, Vec<u8>)],
    zeroes: &[(u64, u64)],
) -> Vec<u8> {
    let len = 4096 * (1 + sectors.len());
    let mut entry = b"loge\0\0\0\0".to_vec();
    entry.extend(u32::try_from(len).unwrap().to_le_bytes());
    entry.extend(0_u32.to_le_bytes());
    entry.extend(sequence.to_le_bytes());
    entry.extend(
        u32::try_from(sectors.len() + zeroes.len())
            .unwrap()
            .to_le_bytes(),
    );
    entry.extend([0; 4]);
    entry.extend(guid);
    entry.extend(file.to_le_bytes());
    entry.extend(file.to_le_bytes());
    for (at, data) in sectors {
        entry.extend(b"desc");
        entry.extend(&data[4092..]);
        entry.extend(&data[..8]);
        entry.extend(u64::try_from(*at).unwrap().to_le_bytes());
        entry.extend(sequence.to_le_bytes());
    }
    for (at, len) in zeroes {
        entry.extend(b"zero\0\0\0\0");
        entry.extend(len.to_le_bytes());
        entry.extend(at.to_le_bytes());
        entry.extend(sequence.to_le_bytes());
    }
    entry.resize(4096, 0);
    for (_, data) in sectors {
        let (high, low) = (sequence >> 32, sequence & 0xffff_ffff);
        entry.extend(b"data");
        entry.extend(u32::try_from(high).unwrap().to_le_bytes());
        entry.extend(&data[8..4092]);
        entry.extend(u32::try_from(low).unwrap().to_le_bytes());
    }
    Vhdx::sum(&mut entry);
    entry
}

#[test]
fn a_vhdx_log_is_replayed_in_memory_as_qemu_replays_it() {
    let folder = Folder::new();
    folder.disk("disk.vhdx", "vhdx", "block_size=1M,log_size=1M", 15);
    let mut bytes = folder.bytes("disk.vhdx");
    let places = Vhdx::of(&bytes);
    let header = Vhdx::header(&bytes);
    let log = usize::try_from(le64(&bytes, header + 72)).unwrap();
    // The table as it was before the machine crashed, and a block that it had emptied.
    let table = bytes[places.bat..places.bat + 4096].to_vec();
    bytes[places.bat..places.bat + 4096].fill(0);
    let block = (0..7)
        .map(|number| le64(&table, number * 8))
        .find(|entry| entry & 7 == 6)
        .unwrap()
        & !0xf_ffff;
    let guid = [0x5a; 16];
    let file = u64::try_from(bytes.len()).unwrap();
    let entry = log_entry(
        &guid,
        1 << 33 | 77,
        file,
        &[
            (places.bat, table.clone()),
            (places.bat + 8192, vec![0; 4096]),
        ],
        &[(block + 8192, 65536)],
    );
    put(&mut bytes, log, &entry);
    Vhdx::change_header(&mut bytes, 48, &guid);
    std::fs::write(folder.at("disk.vhdx"), &bytes).unwrap();
    // QEMU replays into the file itself, so into a copy.
    std::fs::copy(folder.at("disk.vhdx"), folder.at("copy.vhdx")).unwrap();
    run(
        "qemu-img",
        &["check", "-r", "all", &folder.name("copy.vhdx")],
    );
    let replayed = folder.raw_of("copy.vhdx", "vhdx");
    assert!(replayed.iter().any(|byte| *byte != 0));
    folder.assert_reads("disk.vhdx", &replayed);
    assert!(image(&folder.at("disk.vhdx")).state().dirty);
    assert!(!image(&folder.at("copy.vhdx")).state().dirty);
    assert_eq!(folder.bytes("disk.vhdx"), bytes, "reading never writes");
    // A log of which nothing is whole: what was promised is lost, and nobody may guess.
    let mut torn = bytes.clone();
    torn[log + 5000] ^= 1;
    std::fs::write(folder.at("disk.vhdx"), &torn).unwrap();
    refused(&folder.at("disk.vhdx"), "log");
    // The file's end is lost.
    let mut short = bytes.clone();
    short.truncate(bytes.len() - MIB);
    std::fs::write(folder.at("disk.vhdx"), &short).unwrap();
    refused(&folder.at("disk.vhdx"), "its end is lost");
    // A header that does not count does not matter; two broken ones do.
    let other = if header == 64 << 10 {
        128 << 10
    } else {
        64 << 10
    };
    let mut bytes = folder.bytes("copy.vhdx");
    bytes[other + 9] ^= 1;
    std::fs::write(folder.at("copy.vhdx"), &bytes).unwrap();
    if Vhdx::header(&bytes) != other {
        folder.assert_reads("copy.vhdx", &replayed);
    }
    bytes[(64 << 10) + 100] ^= 1;
    bytes[(128 << 10) + 100] ^= 1;
    std::fs::write(folder.at("copy.vhdx"), &bytes).unwrap();
    refused(&folder.at("copy.vhdx"), "checksum of a VHDX header");
    let mut bytes = folder.bytes("disk.vhdx");
    bytes[(192 << 10) + 50] ^= 1;
    bytes[(256 << 10) + 50] ^= 1;
    put(&mut bytes, log, &entry);
    bytes.resize(usize::try_from(file).unwrap(), 0);
    std::fs::write(folder.at("disk.vhdx"), &bytes).unwrap();
    refused(&folder.at("disk.vhdx"), "checksum of the region table");
}

#[test]
fn vdi_layers_find_their_parent_by_its_ids() {
    let folder = Folder::new();
    std::fs::create_dir(folder.at("Snapshots")).unwrap();
    let base = folder.disk("base.vdi", "vdi", "static=off", 21);
    let mut expected = folder.disk("Snapshots/top.vdi", "vdi", "static=off", 22);
    let mut bytes = folder.bytes("Snapshots/top.vdi");
    let ids = folder.bytes("base.vdi")[0x188..0x1a8].to_vec();
    put(&mut bytes, 0x4c, &4_u32.to_le_bytes());
    put(&mut bytes, 0x1a8, &ids);
    let map = le32(&bytes, 0x154);
    for number in 0..LEN / MIB {
        let place = number * MIB..(number + 1) * MIB;
        match le32(&bytes, map + number * 4) {
            0xffff_ffff => expected[place.clone()].copy_from_slice(&base[place]),
            _ if number % 4 == 1 => {
                put(&mut bytes, map + number * 4, &0xffff_fffe_u32.to_le_bytes());
                expected[place].fill(0);
            }
            _ => {}
        }
    }
    std::fs::write(folder.at("Snapshots/top.vdi"), &bytes).unwrap();
    // The gate of the folder alone would not do: the parent lies above.
    let gate = dormouse_disk::LibraryGate::new([folder.0.path()]).unwrap();
    let options = dormouse_disk::OpenOptions::new(std::sync::Arc::new(gate));
    let opened = dormouse_disk::open(&folder.at("Snapshots/top.vdi"), &options).unwrap();
    std::fs::write(folder.at("model.raw"), &expected).unwrap();
    assert_same(
        &*opened.open_point(ACTIVE).unwrap(),
        &folder.at("model.raw"),
        "vdi",
    );
    assert_eq!(opened.files().len(), 2);
    refused(
        &folder.at("Snapshots/top.vdi"),
        "no image with its parent's ids",
    );
    // The parent was changed since.
    let mut parent = folder.bytes("base.vdi");
    parent[0x198] ^= 1;
    std::fs::write(folder.at("base.vdi"), parent).unwrap();
    let error = dormouse_disk::open(&folder.at("Snapshots/top.vdi"), &options)
        .err()
        .unwrap();
    assert!(error.to_string().contains("was changed since"), "{error}");
}

fn descriptor(kind: &str, file: &str, parent: &str) -> String {
    format!(
        "# Disk DescriptorFile\nversion=1\nCID=12345678\n{parent}createType=\"{}\"\n\nRW {} {kind} \"{file}\"\n",
        if kind == "SESPARSE" {
            "seSparse"
        } else {
            "vmfsSparse"
        },
        SIZE / 512
    )
}

/// ESXi's older form, with grains of `grain` sectors.
fn cowd(raw: &[u8], grain: usize) -> Vec<u8> {
    let tables = raw.len().div_ceil(4096 * grain * 512);
    let directory = 4;
    let mut out = b"COWD".to_vec();
    for field in [
        1,
        3,
        raw.len() / 512,
        grain,
        directory,
        tables.next_multiple_of(128),
    ] {
        out.extend(u32::try_from(field).unwrap().to_le_bytes());
    }
    let first_table = directory + tables.next_multiple_of(128) * 4 / 512;
    out.resize((first_table + tables * 32) * 512, 0);
    for number in 0..tables {
        let at = u32::try_from(first_table + number * 32).unwrap();
        put(&mut out, directory * 512 + number * 4, &at.to_le_bytes());
    }
    for (number, bytes) in raw.chunks(grain * 512).enumerate() {
        if bytes.iter().all(|byte| *byte == 0) {
            continue;
        }
        let at = u32::try_from(out.len() / 512).unwrap();
        put(&mut out, first_table * 512 + number * 4, &at.to_le_bytes());
        out.extend(bytes);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out
}

/// ESXi's newer form.
fn sesparse(raw: &[u8]) -> Vec<u8> {
    let tables = raw.len().div_ceil(16 << 20);
    let (directory, first_table) = (16, 32);
    let grains = first_table + tables * 64;
    let count = raw
        .chunks(4096)
        .filter(|grain| grain.iter().any(|byte| *byte != 0))
        .count();
    let mut out = vec![0; grains * 512];
    let fields = [
        0xcafe_babe,
        0x2_0000_0001,
        raw.len() / 512,
        8,
        64,
        0,
        0,
        0,
        0,
        0,
        1,
        1,
        2,
        2,
        4,
        4,
        directory,
        1,
        first_table,
        tables * 64,
        8,
        1,
        9,
        1,
        grains,
        count * 8,
    ];
    for (number, field) in fields.iter().enumerate() {
        put(
            &mut out,
            number * 8,
            &u64::try_from(*field).unwrap().to_le_bytes(),
        );
    }
    put(&mut out, 512, &0xcafe_cafe_u64.to_le_bytes());
    for number in 0..tables {
        let entry = 0x1000_0000_0000_0000 | u64::try_from(number).unwrap();
        put(&mut out, directory * 512 + number * 8, &entry.to_le_bytes());
    }
    let mut used = 0_u64;
    for (number, bytes) in raw.chunks(4096).enumerate() {
        let entry = if bytes.iter().any(|byte| *byte != 0) {
            let entry = 0x3000_0000_0000_0000 | (used & 0xfff) << 48 | used >> 12;
            used += 1;
            out.extend(bytes);
            entry
        } else if number % 3 == 0 {
            // Zeroes, written or unmapped, hide what a parent has.
            [0x2000_0000_0000_0000, 0x1000_0000_0000_0000][number % 2]
        } else {
            0
        };
        put(
            &mut out,
            first_table * 512 + number * 8,
            &entry.to_le_bytes(),
        );
    }
    out
}

#[test]
fn esxi_s_copy_on_write_extents_read_as_qemu_reads_them() {
    let folder = Folder::new();
    seed_raw(&folder.at("seed.raw"), SIZE, 41);
    seed_raw(&folder.at("base.raw"), SIZE, 42);
    let (seed, base) = (folder.bytes("seed.raw"), folder.bytes("base.raw"));
    std::fs::write(folder.at("base-flat.vmdk"), &base).unwrap();
    let flat =
        descriptor("VMFS", "base-flat.vmdk", "parentCID=ffffffff\n").replace("vmfsSparse", "vmfs");
    std::fs::write(folder.at("base.vmdk"), flat).unwrap();
    folder.assert_reads("base.vmdk", &base);
    let layer = "parentCID=12345678\nparentFileNameHint=\"base.vmdk\"\n";
    for (kind, bytes) in [
        ("VMFSSPARSE", cowd(&seed, 1)),
        ("VMFSSPARSE", cowd(&seed, 8)),
        ("SESPARSE", sesparse(&seed)),
    ] {
        std::fs::write(folder.at("delta.vmdk"), bytes).unwrap();
        for parent in ["parentCID=ffffffff\n", layer] {
            std::fs::write(
                folder.at("disk.vmdk"),
                descriptor(kind, "delta.vmdk", parent),
            )
            .unwrap();
            let qemu = folder.raw_of("disk.vmdk", "vmdk");
            assert_ne!(qemu, base);
            folder.assert_reads("disk.vmdk", &qemu);
        }
    }
    // A journal that was not replayed may hold anything.
    let mut bytes = sesparse(&seed);
    bytes[512 + 24] = 1;
    std::fs::write(folder.at("delta.vmdk"), bytes).unwrap();
    let error = open(&folder.at("disk.vmdk"), None).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("journal"), "{error}");
}
