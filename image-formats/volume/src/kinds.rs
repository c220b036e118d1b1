//! Well-known partition types (UEFI 2.10 section 5.3.3, the Discoverable Partitions Specification, the list of MBR
//! types that Linux tools share). Names are for people; nothing is read by them.

const GPT: &[(&str, &str)] = &[
    ("c12a7328-f81f-11d2-ba4b-00a0c93ec93b", "EFI System"),
    ("21686148-6449-6e6f-744e-656564454649", "BIOS boot"),
    ("0fc63daf-8483-4772-8e79-3d69d8477de4", "Linux filesystem"),
    (
        "4f68bce3-e8cd-4db1-96e7-fbcaf984b709",
        "Linux root (x86-64)",
    ),
    ("b921b045-1df0-41c3-af44-4c6f280d3fae", "Linux root (ARM64)"),
    ("0657fd6d-a4ab-43c4-84e5-0933c84b4f4f", "Linux swap"),
    ("e6d6d379-f507-44c2-a23c-238f2a3df928", "Linux LVM"),
    ("a19d880f-05fc-4d3b-a006-743f0f84911e", "Linux RAID"),
    ("933ac7e1-2eb4-4f13-b844-0e14e2aef915", "Linux home"),
    ("3b8f8425-20e0-4f3b-907f-1a25a76f98e8", "Linux server data"),
    (
        "4d21b016-b534-45c2-a9fb-5c16e091fd2d",
        "Linux variable data",
    ),
    (
        "bc13c2ff-59e6-4262-a352-b275fd6f7172",
        "Linux extended boot",
    ),
    ("ca7d7ccb-63ed-4c53-861c-1742536059cc", "Linux LUKS"),
    ("8da63339-0007-60c0-c436-083ac8230908", "Linux reserved"),
    (
        "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7",
        "Microsoft basic data",
    ),
    ("e3c9e316-0b5c-4db8-817d-f92df00215ae", "Microsoft reserved"),
    (
        "de94bba4-06d1-4d40-a16a-bfd50179d6ac",
        "Windows recovery environment",
    ),
    (
        "5808c8aa-7e8f-42e0-85d2-e1e90434cfb3",
        "Microsoft LDM metadata",
    ),
    ("af9b60a0-1431-4f62-bc68-3311714a69ad", "Microsoft LDM data"),
    ("9e1a2d38-c612-4316-aa26-8b49521e5a8b", "PowerPC PReP boot"),
    (
        "6a898cc3-1dd2-11b2-99a6-080020736631",
        "Solaris /usr or ZFS",
    ),
    ("516e7cb4-6ecf-11d6-8ff8-00022d09712b", "FreeBSD data"),
    ("7c3457ef-0000-11aa-aa11-00306543ecac", "Apple APFS"),
    ("48465300-0000-11aa-aa11-00306543ecac", "Apple HFS+"),
];

const MBR: &[(&str, &str)] = &[
    ("0x01", "FAT12"),
    ("0x04", "FAT16 <32M"),
    ("0x05", "Extended"),
    ("0x06", "FAT16"),
    ("0x07", "HPFS/NTFS/exFAT"),
    ("0x0b", "W95 FAT32"),
    ("0x0c", "W95 FAT32 (LBA)"),
    ("0x0e", "W95 FAT16 (LBA)"),
    ("0x0f", "W95 Extended (LBA)"),
    ("0x27", "Hidden NTFS WinRE"),
    ("0x41", "PPC PReP boot"),
    ("0x42", "Windows dynamic disk"),
    ("0x82", "Linux swap"),
    ("0x83", "Linux"),
    ("0x85", "Linux extended"),
    ("0x8e", "Linux LVM"),
    ("0xa5", "FreeBSD"),
    ("0xa6", "OpenBSD"),
    ("0xa9", "NetBSD"),
    ("0xaf", "HFS / HFS+"),
    ("0xbf", "Solaris"),
    ("0xee", "GPT"),
    ("0xef", "EFI (FAT-12/16/32)"),
    ("0xfb", "VMware VMFS"),
    ("0xfd", "Linux raid autodetect"),
];

/// Types whose partitions are read by firmware or boot loaders as plain bytes, or reserved.
const NO_FILES: &[&str] = &[
    "21686148-6449-6e6f-744e-656564454649",
    "e3c9e316-0b5c-4db8-817d-f92df00215ae",
    "9e1a2d38-c612-4316-aa26-8b49521e5a8b",
    "5808c8aa-7e8f-42e0-85d2-e1e90434cfb3",
    "0x41",
];

/// What people call the type `kind`.
pub(crate) fn name(kind: &str) -> Option<String> {
    GPT.iter()
        .chain(MBR)
        .find(|(known, _)| *known == kind)
        .map(|(_, name)| (*name).to_owned())
}

/// Whether partitions of this type hold no filesystem.
pub(crate) fn holds_no_files(kind: &str) -> bool {
    NO_FILES.contains(&kind)
}
