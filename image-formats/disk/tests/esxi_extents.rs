//! ESXi's flat and copy-on-write extents, made by hand, against QEMU, which reads them.
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

use by_hand::{Folder, SIZE, put};
use dormouse_block::ErrorKind;
use oracle::{open, seed_raw};

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
