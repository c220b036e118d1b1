//! Layers of VHD and VDI, which QEMU neither writes nor reads: made by hand from what it wrote, and read as the
//! specifications say.
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

use by_hand::{Folder, LEN, MIB, be32, le32, put, refused, utf16le};
use dormouse_disk::{ACTIVE, Role};
use oracle::{Random, assert_same, image};

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
