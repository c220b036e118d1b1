//! VHDX as Hyper-V leaves it and QEMU does not write it: layers, large sectors, logs. The replay of a log is held against
//! QEMU's own.
#![allow(missing_docs, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "tests write files")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod by_hand;
mod oracle;

use by_hand::{Folder, LEN, MIB, le32, le64, put, refused, utf16le};
use oracle::{Random, image, run};

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
